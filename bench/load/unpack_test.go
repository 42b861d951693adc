package load

import (
	"bytes"
	"compress/flate"
	"fmt"
	"strings"
	"testing"
)

func packedBody(body string) []byte {
	var out bytes.Buffer
	w, _ := flate.NewWriter(&out, 6)
	w.Write([]byte(body))
	w.Flush()
	return bytes.TrimSuffix(out.Bytes(), []byte("\x00\x00\xff\xff"))
}

// Beginnings are right, whatever was remembered of others, and no more is remembered than there may be.
func TestUnpack_TheBeginningOfEach(t *testing.T) {
	var u unpacker
	for round := range 2 {
		for i := range 3 * maxUnpacked / 2 {
			body := fmt.Sprint(i, " ", strings.Repeat("x", i))
			if got := string(u.unpack(packedBody(body))); got != body[:min(len(body), unpackMost)] {
				t.Fatalf("round %d: message %d begins with %.30q", round, i, got)
			}
		}
	}
	if len(u.known) != maxUnpacked || len(u.oldest) != maxUnpacked {
		t.Errorf("%d and %d are remembered", len(u.known), len(u.oldest))
	}
	if got := u.unpack([]byte("\xff\xff\xff")); got != nil {
		t.Errorf("what is not compressed is %q", got)
	}
}
