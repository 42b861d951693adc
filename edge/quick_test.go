package edge

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"flannel/protocol"
)

// sized answers each query at once, with as many bytes as its one id says; every seventh it leaves to Query.
func sized(w *world) {
	w.queries.ready = func(_ *protocol.Identity, _, args, dst []byte) ([]byte, bool) {
		n, ok := 0, false
		protocol.QuickVersions(args, func(_ []byte, v protocol.Version) bool {
			n, ok = int(v), v%7 != 0
			return ok
		})
		if !ok {
			return dst, false
		}
		return append(append(append(dst, `{"results":["`...), bytes.Repeat([]byte("x"), n)...), `"],"ok":true}`...), true
	}
}

// TestQuick_EveryQueryHasOneAnswer: whatever the sizes of the answers, those that are at hand and those that are not.
func TestQuick_EveryQueryHasOneAnswer(t *testing.T) {
	everyWay(t, func(t *testing.T, way option) {
		w := newWorld(t, way, func(c *Config, w *world) {
			c.FrameBurst = 10_000
			sized(w)
		})
		p := w.hello(w.thinURL("xoxp-ana", ""))
		const n = 1000
		want := make(map[string]bool, n)
		go func() {
			for i := range n {
				p.send(fmt.Sprintf(`{"id":%d,"type":"query","method":"users/info","args":{"updated_ids":{"U1":%d}}}`, i, sizeOf(i)))
			}
		}()
		for i := range n {
			body := fmt.Sprintf(`"results":[%q],"ok":true}`, strings.Repeat("x", sizeOf(i)))
			if sizeOf(i)%7 == 0 {
				body = fmt.Sprintf(`"args":{"updated_ids":{"U1":%d}},"ok":true,"results":[]}`, sizeOf(i))
			}
			want[fmt.Sprintf(`{"reply_to":%d,%s`, i, body)] = true
		}
		for range n {
			f := p.next()
			if !want[f] {
				t.Fatalf("%.200s is no answer, or a second one", f)
			}
			delete(want, f)
		}
		if f := w.metric("flannel_client_frames_total", "query"); f != n {
			t.Errorf("%v queries are counted", f)
		}
	})
}

func sizeOf(i int) int { return []int{0, 1, 80, 126, 700, 3000, 65_500, 70_001}[i%8] + i%5 }

// TestQuick_AChangeAfterTheLookIsNotLost: a user changes after each look that answers a query. The client is told the change
// itself, or that the user is invalid, but that never before the answer, which would undo it.
func TestQuick_AChangeAfterTheLookIsNotLost(t *testing.T) {
	everyWay(t, func(t *testing.T, way option) {
		asked := 0
		var w *world
		w = newWorld(t, way, func(c *Config, world *world) {
			c.FrameBurst = 10_000
			world.queries.ready = func(_ *protocol.Identity, _, _, dst []byte) ([]byte, bool) {
				asked++
				body := fmt.Appendf(dst, `{"n":%d,"ok":true}`, asked)
				w.hub.publish(&protocol.Event{
					Topic: "T1", Seq: protocol.Seq(asked), Position: protocol.Position(asked), Type: "user_change", Class: protocol.ClassControl,
					Effects: []protocol.Effect{{Op: protocol.OpUpsert, Object: &protocol.Object{ID: "U2", Kind: protocol.KindUser}}},
					Payload: fmt.Appendf(nil, `{"type":"user_change","user":{"id":"U2","updated":%d}}`, asked),
				})
				return body, true
			}
		})
		conn := w.rawSocket(w.thinURL("xoxp-ana", ""))
		readFrame(t, conn) // hello
		var frames []byte
		const n = 50
		for i := range n {
			frames = append(frames, masked(0x80|opText, [4]byte{1, 2, 3, 4}, fmt.Appendf(nil, `{"id":%d,"type":"query","method":"users/info","args":{}}`, i))...)
		}
		if _, err := conn.Write(frames); err != nil {
			t.Fatal(err)
		}
		answers, changes := 0, 0
		for answers < n || changes < n {
			switch _, body := readFrame(t, conn); {
			case bytes.Contains(body, []byte(`"reply_to"`)):
				answers++
			case bytes.Contains(body, []byte(protocol.FrameUserInvalidated)):
				if changes++; changes > answers {
					t.Fatalf("invalidation %d comes before the answer that it is about", changes)
				}
			case bytes.Contains(body, []byte("user_change")):
				changes++
			}
		}
	})
}

// TestQuick_AReaderThatStopsIsNotReadOn: answers that nobody reads do not pile up.
func TestQuick_AReaderThatStopsIsNotReadOn(t *testing.T) {
	w := newWorld(t, func(c *Config, w *world) {
		c.FrameBurst = 1 << 20
		sized(w)
	})
	conn := w.rawSocket(w.thinURL("xoxp-ana", ""))
	readFrame(t, conn)
	const size, n = 60_001, 1000 // 60 MB: more than the kernel takes for one reader
	question := masked(0x80|opText, [4]byte{}, fmt.Appendf(nil, `{"id":1,"type":"query","method":"users/info","args":{"updated_ids":{"U1":%d}}}`, size))
	go conn.Write(bytes.Repeat(question, n))
	s := w.edge.sessions.all()[0]
	stalled := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.stalled
	}
	eventually(t, "reading stops", stalled)
	s.reading.Lock()
	waits := len(s.rest())
	s.reading.Unlock()
	s.mu.Lock()
	if !s.out.empty() {
		for _, it := range s.out.items {
			waits += len(it.frame)
		}
	}
	s.mu.Unlock()
	if most := (w.edge.cfg.SessionQueries+3)*(size+100) + 64<<10; waits > most {
		t.Errorf("%d bytes wait, more than %d", waits, most)
	}
	for range n {
		if _, body := readFrame(t, conn); !bytes.HasPrefix(body, []byte(`{"reply_to":`)) {
			t.Fatalf("got %.100s", body)
		}
	}
}
