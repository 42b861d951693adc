package channels

import (
	"context"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"flannel/protocol"
)

func replay(t testing.TB, h *Hub, limits Limits, topics ...protocol.TopicState) Replayed {
	t.Helper()
	r, err := h.Replay(context.Background(), topics, limits)
	if err != nil {
		t.Fatalf("Replay: %v", err)
	}
	return r
}

// told lists the events of a replay as topic:seq.
func told(r Replayed) []string {
	out := []string{}
	for _, e := range r.Events {
		out = append(out, protocol.EventID(e.Event))
	}
	return out
}

// Whatever happened and wherever memory begins, a replay is what the log says: a model of the contract's words.
func TestReplay_IsTheLog(t *testing.T) {
	topics := []protocol.Topic{"C1", "C2", "C3", "U1", "T1", "C9"} // nothing ever happens on C9
	rapid.Check(t, func(rt *rapid.T) {
		st := newFakeStore()
		commit := func(label string) {
			for range rapid.IntRange(0, 30).Draw(rt, label) {
				st.emit(rapid.SliceOfNDistinct(rapid.SampledFrom(topics[:5]), 1, 3, rapid.ID).Draw(rt, "commit")...)
			}
		}
		commit("before the process")
		h := newTestHub(t, st, func(o *Options) { o.Config.Events = rapid.IntRange(1, 60).Draw(rt, "in memory") })
		commit("since")
		st.prune(protocol.Position(rapid.Uint64Range(0, uint64(st.position)).Draw(rt, "pruned")))
		commit("after pruning")

		places := make(map[protocol.Topic]protocol.Position)
		var want []protocol.TopicState
		for _, topic := range rapid.SliceOfNDistinct(rapid.SampledFrom(topics), 1, len(topics), rapid.ID).Draw(rt, "topics") {
			p := protocol.Position(rapid.Uint64Range(0, uint64(st.position)+2).Draw(rt, "from"))
			places[topic] = p
			want = append(want, atPosition(topic, p))
		}
		limit := rapid.SampledFrom([]int{1, 3, 10, 1000}).Draw(rt, "limit")

		r := replay(t, h, Limits{Items: limit, Bytes: 1 << 30}, want...)

		if r.Position != st.position || len(r.Events) > limit || !slices.IsSortedFunc(r.Events, byPosition) {
			rt.Fatalf("as of %d, %d events: %v", r.Position, len(r.Events), told(r))
		}
		room := limit - len(r.Events)
		for topic, p := range places {
			var got, should []string
			for _, e := range r.Events {
				if e.Topic == topic {
					got = append(got, protocol.EventID(e.Event))
				}
			}
			lost := false
			for _, ev := range st.history {
				if ev.Topic == topic && ev.Position > p {
					should = append(should, protocol.EventID(ev))
					lost = lost || !slices.Contains(st.events, ev) && !inMemory(h, ev)
				}
			}
			gone := slices.Contains(r.Gone, topic)
			switch {
			case gone && len(got) > 0:
				rt.Fatalf("%s is gone, but %v of it came", topic, got)
			case !gone && p > st.position:
				rt.Fatalf("%s from %d, which the log does not have, is not gone", topic, p)
			case !gone && !slices.Equal(got, should):
				rt.Fatalf("%s above %d: %v, want %v", topic, p, got, should)
			case gone && !lost && p <= st.position && len(should) <= room:
				// Nothing of it was lost and it would have fit. Positions that were pruned may be refused, if the
				// oldest event that is left does not prove that it is the first.
				if p >= st.replayFrom {
					rt.Fatalf("%s above %d is gone for no reason: %v", topic, p, should)
				}
			}
		}
	})
}

func inMemory(h *Hub, ev *protocol.Event) bool {
	return slices.ContainsFunc(h.memory.entries, func(e *Entry) bool { return e.Event == ev })
}

func TestReplay_LeavesOutWhatDoesNotFit(t *testing.T) {
	for _, inMemory := range []bool{false, true} {
		st := newFakeStore()
		var h *Hub
		if inMemory {
			h = newTestHub(t, st, nil)
		}
		for range 5 {
			st.emit("C1", "C2")
		}
		for range 20 {
			st.emit("C3")
		}
		st.emit("C4")
		if h == nil {
			h = newTestHub(t, st, nil)
		}
		size := newEntry(st.events[0], h.now()).size
		all := []protocol.TopicState{atPosition("C1", 0), atPosition("C3", 0), atPosition("C2", 2), atPosition("C4", 0)}
		for name, c := range map[string]struct {
			limits Limits
			gone   []protocol.Topic
			events int
		}{
			"all":            {Limits{Items: 29, Bytes: 29 * size}, nil, 29},
			"one too many":   {Limits{Items: 28, Bytes: 1 << 30}, []protocol.Topic{"C4"}, 28},
			"a large one":    {Limits{Items: 19, Bytes: 1 << 30}, []protocol.Topic{"C3"}, 9},
			"large in bytes": {Limits{Items: 1000, Bytes: 19 * size}, []protocol.Topic{"C3"}, 9},
			"very little":    {Limits{Items: 1, Bytes: 1 << 30}, []protocol.Topic{"C1", "C3", "C2"}, 1},
			"nothing":        {Limits{}, []protocol.Topic{"C1", "C3", "C2", "C4"}, 0},
		} {
			r := replay(t, h, c.limits, all...)
			if !slices.Equal(r.Gone, c.gone) || len(r.Events) != c.events || r.Position != 26 {
				t.Errorf("%s, in memory %v: %d events, gone %v; want %d, %v", name, inMemory, len(r.Events), r.Gone, c.events, c.gone)
			}
		}
		if r := replay(t, h, testLimits, all...); told(r)[0] != "C1:1" || told(r)[1] != "C1:2" || told(r)[3] != "C1:3" && told(r)[3] != "C2:3" {
			t.Errorf("order %v", told(r))
		}
	}
}

// One snapshot: while others write, an answer has everything up to its position and nothing above.
func TestReplay_WhileOthersWrite(t *testing.T) {
	topics := []protocol.Topic{"C1", "C2", "C3"}
	st := newFakeStore()
	for range 20 {
		st.emit("C1", "C2")
	}
	h := newTestHub(t, st, func(o *Options) { o.Config.Events = 30 }) // so little that the store is asked too
	var writing sync.WaitGroup
	for w := range 2 {
		writing.Go(func() {
			for i := range 400 {
				st.emit(topics[i%3], topics[(i+w+1)%3])
			}
		})
	}
	for n := range 200 {
		near := h.Position() - protocol.Position(n%40)
		r := replay(t, h, testLimits, atPosition("C1", 0), atPosition("C2", near), atPosition("C3", near))
		if len(r.Gone) > 0 {
			t.Fatalf("gone: %v", r.Gone)
		}
		var want []string
		st.mu.Lock()
		history := slices.Clip(st.history)
		st.mu.Unlock()
		for _, topic := range topics {
			for _, ev := range history {
				if ev.Topic == topic && ev.Position <= r.Position && (topic == "C1" || ev.Position > near) {
					want = append(want, protocol.EventID(ev))
				}
			}
		}
		got := told(r)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("as of %d: %d events, want %d", r.Position, len(got), len(want))
		}
	}
	writing.Wait()
	if st.views < 10 {
		t.Errorf("the store was asked %d times; the test is to exercise it", st.views)
	}
}

// The first event above a position is found without reading the topic.
func TestFirstAbove_AsksLittle(t *testing.T) {
	st := newFakeStore()
	for i := range 20_000 {
		st.emit([]protocol.Topic{"C1", "C2"}[i%2])
	}
	st.prune(5000)
	h := newTestHub(t, st, nil)
	for _, p := range []protocol.Position{5000, 5001, 10_000, 19_990, 19_998, 19_999} {
		r := replay(t, h, Limits{Items: 20_000, Bytes: 1 << 30}, atPosition("C2", p))
		if n := (20_000 - int(p) + 1) / 2; len(r.Events) != n && len(r.Events) != n-1 || r.Events[0].Position <= p || r.Events[0].Position > p+2 {
			t.Errorf("above %d: %d events from %d", p, len(r.Events), r.Events[0].Position)
		}
	}
	counted := &countingReader{fakeSnapshot: &fakeSnapshot{events: st.events, position: st.position, heads: st.heads, replayFrom: 5000}}
	if seq, err := firstAbove(counted, "C2", 10_000, 15_000); err != nil || seq != 7500 || counted.asked > 15 {
		t.Errorf("firstAbove = %d, %v after %d questions", seq, err, counted.asked)
	}
}

type countingReader struct {
	*fakeSnapshot
	asked int
}

func (c *countingReader) TopicEvents(t protocol.Topic, after protocol.Seq, limit int) ([]*protocol.Event, error) {
	c.asked++
	return c.fakeSnapshot.TopicEvents(t, after, limit)
}
