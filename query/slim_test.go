package query

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"flannel/protocol"
)

// TestSlims: what is kept is what would be found, of the body that is asked about, and it is bounded.
func TestSlims(t *testing.T) {
	var s slims
	bodies := make([]json.RawMessage, 100)
	for i := range bodies {
		bodies[i] = json.RawMessage(fmt.Sprintf(`{"id":"C%d","name":"n%d","updated":%d,"topic":{"value":"t"},"x":1}`, i, i, i))
	}
	for range 2 {
		for _, body := range bodies {
			for _, lazy := range []bool{false, true} {
				if got, want := s.get(body, lazy), protocol.AppendSlim(nil, body, lazy); !bytes.Equal(got, want) {
					t.Fatalf("%s, lazy %v: %s, want %s", body, lazy, got, want)
				}
			}
		}
	}
	if len(s.of[0]) != len(bodies) || len(s.of[1]) != len(bodies) {
		t.Errorf("%d and %d are kept", len(s.of[0]), len(s.of[1]))
	}
	large := json.RawMessage(`{"name":"` + string(bytes.Repeat([]byte("x"), maxSlims/8)) + `"}`)
	for range 20 {
		s.get(bytes.Clone(large), false)
	}
	if s.bytes > maxSlims {
		t.Errorf("%d bytes are kept", s.bytes)
	}
}
