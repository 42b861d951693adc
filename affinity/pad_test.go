package affinity

import (
	"bytes"
	"testing"

	"github.com/hashicorp/memberlist"
)

// alive is a message about a node, as memberlist queues them.
type alive struct {
	node string
	msg  []byte
}

func (a alive) Invalidates(memberlist.Broadcast) bool { return false }
func (a alive) Name() string                          { return a.node }
func (a alive) Message() []byte                       { return a.msg }
func (a alive) Finished()                             {}

// TestPad_OutlivesTheQueue: a node says something twice, and then two others do. memberlist's queue, empty for a moment while
// the second message replaces the first, begins to count again, so that the third node's message gets the number of the first
// node's. Of two with one number and one length only one is kept. Three nodes that started in step did not see each other
// serve for half a minute.
func TestPad_OutlivesTheQueue(t *testing.T) {
	told := func(a, b, c []byte) int {
		q := memberlist.TransmitLimitedQueue{RetransmitMult: 4, NumNodes: func() int { return 3 }}
		for _, m := range []alive{{"node-1", a}, {"node-1", a}, {"node-2", b}, {"node-3", c}} {
			q.QueueBroadcast(m)
		}
		return len(q.GetBroadcasts(2, 1<<20))
	}
	meta := func() []byte {
		b, err := Announcement{URL: "http://127.0.0.1:80", Region: "test", State: Active}.encode()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if n := told(meta(), meta(), meta()); n != 2 {
		t.Errorf("%d of 3 messages are told: if memberlist loses none any more, pad can go", n)
	}
	lengths := make(map[int]bool)
	for range 1000 {
		a, c := pad(meta()), pad(meta())
		if n := told(a, pad(meta()), c); n != 3 && len(a) != len(c) {
			t.Fatalf("%d of 3 messages are told, of %d and %d bytes", n, len(a), len(c))
		}
		if got, err := decode(a); err != nil || got.State != Active {
			t.Fatalf("%q: %+v, %v", a, got, err)
		}
		lengths[len(a)] = true
	}
	if len(lengths) < maxPad/2 {
		t.Errorf("only %d lengths", len(lengths))
	}
	if b := pad(bytes.Repeat([]byte{'x'}, maxMeta)); len(b) != maxMeta {
		t.Errorf("%d bytes, %d are allowed", len(b), maxMeta)
	}
}
