package edge

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"flannel/protocol"
)

func TestOutbox_WireFrames(t *testing.T) {
	for n, head := range map[int][]byte{0: {0x81, 0}, 125: {0x81, 125}, 126: {0x81, 126, 0, 126}, 65535: {0x81, 126, 255, 255}, 65536: {0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0}} {
		if got := wireText(make([]byte, n)); !bytes.HasPrefix(got, head) || len(got) != len(head)+n {
			t.Errorf("%d bytes become % x… of %d", n, got[:len(head)], len(got))
		}
	}
	if got := wireClose(4400, bytes.Repeat([]byte("x"), 200)); !bytes.Equal(got, []byte{0x88, 2, 0x11, 0x30}) {
		t.Errorf("a reason that is too long becomes % x", got)
	}
}

// TestOutbox_Properties holds the outbox to its promises against a plain list.
func TestOutbox_Properties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const maxItems, maxBytes = 8, 200
		var o outbox
		n := 0          // no two frames are equal
		var want []item // what must still come, ephemeral ones perhaps not
		classes := []protocol.Class{protocol.ClassControl, protocol.ClassMessage, protocol.ClassEphemeral}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				n++
				it := item{frame: fmt.Appendf(nil, "%d%s;", n, strings.Repeat("x", rapid.IntRange(0, 60).Draw(t, "size"))), class: rapid.SampledFrom(classes).Draw(t, "class")}
				switch v, _ := o.put(it, maxItems, maxBytes); {
				case v == taken:
					want = append(want, it)
				case v == dropped && it.class != protocol.ClassEphemeral, v == full && it.class == protocol.ClassEphemeral:
					t.Fatalf("verdict %d on %s", v, it.class)
				case v == full && (o.empty() || o.ephemeral > 0):
					t.Fatal("full although ephemeral frames could go")
				}
			},
			"take": func(t *rapid.T) {
				var got []byte
				if !o.empty() {
					got, _ = o.take(nil)
				}
				for len(got) > 0 || len(want) > 0 {
					if len(want) == 0 {
						t.Fatalf("%q comes from nowhere", got)
					}
					if rest, ok := bytes.CutPrefix(got, want[0].frame); ok {
						got = rest
					} else if want[0].class != protocol.ClassEphemeral {
						t.Fatalf("%s frame %q is lost or out of order", want[0].class, want[0].frame)
					}
					want = want[1:]
				}
			},
			"": func(t *rapid.T) {
				if o.empty() {
					return
				}
				bytes, ephemeral := 0, 0
				for _, it := range o.items {
					bytes += len(it.frame)
					if it.class == protocol.ClassEphemeral {
						ephemeral++
					}
				}
				if bytes != o.bytes || ephemeral != o.ephemeral || len(o.items) > maxItems || bytes > maxBytes {
					t.Fatalf("%d items, %d bytes (says %d), %d ephemeral (says %d)", len(o.items), bytes, o.bytes, ephemeral, o.ephemeral)
				}
			},
		})
	})
}
