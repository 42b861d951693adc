package protocol

import (
	"bytes"
	"testing"
)

// TestAppendString_EveryByteAtEveryPlace: strings are looked at eight bytes at a time.
func TestAppendString_EveryByteAtEveryPlace(t *testing.T) {
	for c := range 256 {
		for at := range 17 {
			for _, rest := range []byte{'x', ' ', '!', '#', '[', ']', 0x7f} {
				b := bytes.Repeat([]byte{rest}, 17)
				b[at] = byte(c)
				if got, want := AppendString(nil, string(b)), MustMarshal(string(b)); !bytes.Equal(got, want) {
					t.Fatalf("%q: %s, want %s", b, got, want)
				}
			}
		}
	}
}
