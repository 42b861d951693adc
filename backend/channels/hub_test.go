package channels

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"flannel/protocol"
)

func TestSubscribe_PlacesFromMemoryAndStore(t *testing.T) {
	const topic = protocol.Topic("C1")
	for _, tt := range []struct {
		name      string
		want      protocol.TopicState
		seqs      []protocol.Seq
		reset     bool
		base      protocol.Seq
		basePlace protocol.Position
	}{
		{"from now", protocol.TopicState{Topic: topic}, nil, false, 6, 12},
		{"position at the end", atPosition(topic, 12), nil, false, 6, 12},
		{"position in the middle", atPosition(topic, 8), []protocol.Seq{5, 6}, false, 4, 8},
		{"position before memory", atPosition(topic, 2), []protocol.Seq{2, 3, 4, 5, 6}, false, 1, 2},
		{"position of nothing", atPosition(topic, 0), []protocol.Seq{1, 2, 3, 4, 5, 6}, false, 0, 0},
		{"position from another log", atPosition(topic, 99), nil, true, 6, 12},
		{"seq at the end", atSeq(topic, 6), nil, false, 6, 11},
		{"seq in the middle", atSeq(topic, 4), []protocol.Seq{5, 6}, false, 4, 8},
		{"seq before memory", atSeq(topic, 1), []protocol.Seq{2, 3, 4, 5, 6}, false, 1, 2},
		{"seq 0", atSeq(topic, 0), []protocol.Seq{1, 2, 3, 4, 5, 6}, false, 0, 0},
		{"seq from another log", atSeq(topic, 7), nil, true, 6, 12},
		{"unknown topic, seq 0", atSeq("C9", 0), nil, false, 0, 0},
		{"unknown topic, position", atPosition("C9", 5), nil, false, 0, 5},
	} {
		for _, inMemory := range []int{12, 4, 0} {
			// C1 has its events at the odd positions, C2 at the even ones; memory holds the last few of all.
			st := newFakeStore()
			var h *Hub
			for i := range 12 {
				if i == 12-inMemory {
					h = newTestHub(t, st, nil)
				}
				st.emit([]protocol.Topic{"C1", "C2"}[i%2])
			}
			if h == nil {
				h = newTestHub(t, st, nil)
			}
			s := h.Attach(testLimits, false, nil)

			if err := s.Subscribe(context.Background(), []protocol.TopicState{tt.want}); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}

			d := drain(t, s)
			states := d.subscribed
			if tt.reset {
				states = d.resets
			}
			if len(d.subscribed)+len(d.resets) != 1 || len(states) != 1 {
				t.Fatalf("%s, %d in memory: subscribed %v, reset %v", tt.name, inMemory, d.subscribed, d.resets)
			}
			if *states[0].Seq != tt.base || *states[0].Position != tt.basePlace {
				t.Errorf("%s, %d in memory: starts at seq %d, position %d; want %d, %d", tt.name, inMemory, *states[0].Seq, *states[0].Position, tt.base, tt.basePlace)
			}
			if !slices.Equal(seqs(d.events), tt.seqs) {
				t.Errorf("%s, %d in memory: events %v, want %v", tt.name, inMemory, seqs(d.events), tt.seqs)
			}
			if d.watermark != 12 {
				t.Errorf("%s: watermark %d, want 12", tt.name, d.watermark)
			}
			s.Close()
		}
	}
}

func TestSubscribe_PrunedReplayIsReset(t *testing.T) {
	st := newFakeStore()
	for range 10 {
		st.emit("C1")
	}
	st.emit("C2")
	st.prune(5)
	h := newTestHub(t, st, nil)
	s := h.Attach(testLimits, false, nil)
	defer s.Close()

	err := s.Subscribe(context.Background(), []protocol.TopicState{
		atPosition("C1", 4), atPosition("C1", 5), atSeq("C1", 4), atSeq("C1", 5), atPosition("C2", 2), atPosition("C3", 2),
	})
	if err != nil {
		t.Fatal(err)
	}

	d := drain(t, s)
	if len(d.resets) != 2 || *d.resets[0].Seq != 10 || *d.resets[0].Position != 11 {
		t.Errorf("resets = %v, want C1 twice, going on at seq 10, position 11", d.resets)
	}
	if n := testutil.ToFloat64(h.metrics.resets); n != 2 {
		t.Errorf("flannel_backend_hub_resets_total is %v", n)
	}
	// Only the last of the four subscriptions of C1 stands; C2's first event ever is still there, so it
	// is whole although position 2 is pruned.
	if len(d.subscribed) != 4 || len(d.events) == 0 {
		t.Errorf("subscribed = %v, events = %d", d.subscribed, len(d.events))
	}
}

func TestHandover_RacesLoseNothingAndRepeatNothing(t *testing.T) {
	const writers, perWriter, subscribers = 4, 300, 12
	topics := []protocol.Topic{"C1", "C2", "C3", "U1", "T1"}
	st := newFakeStore()
	for range 50 { // events from before the process
		st.emit("C1", "T1")
	}
	// Memory is so small that subscribers fall back to the store all the time.
	h := newTestHub(t, st, func(o *Options) { o.Config.Events = 40 })
	// Every subscriber hears of everything by heart: the events that it must see of each topic are a run from its base.
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(w)))
			for range perWriter {
				a, b := rnd.IntN(len(topics)), rnd.IntN(len(topics))
				if a == b {
					st.emit(topics[a])
				} else {
					st.emit(topics[a], topics[b])
				}
			}
		})
	}
	var reading sync.WaitGroup
	finished := make(chan struct{})
	for n := range subscribers {
		reading.Go(func() {
			rnd := rand.New(rand.NewPCG(2, uint64(n)))
			known := make(map[protocol.Topic]protocol.Seq)
			var last protocol.Position
			for round := 0; ; round++ {
				// Each round is one connection: it resumes by what it knows, at times by position, and breaks off.
				s := h.Attach(testLimits, false, nil)
				var states []protocol.TopicState
				base := make(map[protocol.Topic]protocol.Seq)
				for _, topic := range topics {
					if seq, ok := known[topic]; ok {
						states = append(states, atSeq(topic, seq))
						base[topic] = seq
					} else {
						states = append(states, atPosition(topic, last))
					}
				}
				over := false
				select {
				case <-finished:
					over = true
				default:
				}
				if err := s.Subscribe(context.Background(), states); err != nil {
					t.Errorf("subscriber %d: %v", n, err)
					return
				}
				for range 1 + rnd.IntN(5) {
					select {
					case <-s.Wake():
					case <-finished:
					}
					items, _, err := s.Drain(nil)
					if err != nil {
						t.Errorf("subscriber %d: %v", n, err)
						return
					}
					for i := range items {
						switch it := &items[i]; it.Kind {
						case ItemReset:
							t.Errorf("subscriber %d: reset of %v", n, it.Topics)
						case ItemSubscribed:
							for _, ts := range it.Topics {
								if was, ok := known[ts.Topic]; ok && was != *ts.Seq {
									t.Errorf("subscriber %d: %s starts at %d, asked for %d", n, ts.Topic, *ts.Seq, was)
								}
								known[ts.Topic] = *ts.Seq
							}
						case ItemEvent:
							ev := it.Entry.Event
							if ev.Seq != known[ev.Topic]+1 {
								t.Errorf("subscriber %d: %s has seq %d after %d", n, ev.Topic, ev.Seq, known[ev.Topic])
								return
							}
							known[ev.Topic] = ev.Seq
						}
					}
				}
				s.Close()
				if over && round > 0 {
					// One more connection after the writers ended has seen all.
					for _, topic := range topics {
						if known[topic] != st.heads[topic].seq {
							over = false
						}
					}
					if over {
						return
					}
				}
			}
		})
	}
	writing.Wait()
	close(finished)
	reading.Wait()
	if h.memory.floor == 0 || st.views < subscribers {
		t.Errorf("the store was asked %d times; the test is to exercise the fallback", st.views)
	}
}

func TestSubscriber_UnsubscribedEventsInTheQueueAreDead(t *testing.T) {
	st := newFakeStore()
	h := newTestHub(t, st, nil)
	s := h.Attach(testLimits, true, nil)
	defer s.Close()
	if err := s.Subscribe(context.Background(), []protocol.TopicState{{Topic: "C1"}, {Topic: "C2"}}); err != nil {
		t.Fatal(err)
	}
	st.emit("C1")
	st.emit("C2")
	s.Unsubscribe("C1")
	st.emit("C1")

	if d := drain(t, s); len(d.events) != 1 || d.events[0].Topic != "C2" {
		t.Errorf("events = %v, want that of C2 alone", d.events)
	}

	// Renewed from before: the old subscription's event is dead, the replay brings both.
	st.emit("C2")
	if err := s.Subscribe(context.Background(), []protocol.TopicState{atPosition("C1", 0), atPosition("C2", 3)}); err != nil {
		t.Fatal(err)
	}
	d := drain(t, s)
	if got := seqs(d.events); !slices.Equal(got, []protocol.Seq{1, 2, 2}) {
		t.Errorf("seqs = %v, want C1's two and C2's second once", got)
	}
}

func TestSubscriber_SlowIsCutOffAndNobodyWaits(t *testing.T) {
	st := newFakeStore()
	h := newTestHub(t, st, nil)
	lost := 0
	slow := h.Attach(Limits{Items: 10, Bytes: 1 << 20, Topics: 10}, true, func() { lost++ })
	fast := h.Attach(testLimits, true, nil)
	defer slow.Close()
	defer fast.Close()
	for _, s := range []*Subscriber{slow, fast} {
		if err := s.Subscribe(context.Background(), []protocol.TopicState{{Topic: "C1"}}); err != nil {
			t.Fatal(err)
		}
	}

	for range 20 {
		st.emit("C1")
	}

	if _, _, err := slow.Drain(nil); !errors.Is(err, ErrSlow) {
		t.Errorf("Drain = %v, want ErrSlow", err)
	}
	if lost != 1 {
		t.Errorf("lost was called %d times, want once", lost)
	}
	if d := drain(t, fast); len(d.events) != 20 {
		t.Errorf("the fast one got %d events, want 20", len(d.events))
	}
	if got := testutil.ToFloat64(h.metrics.slow); got != 1 {
		t.Errorf("slow metric = %v", got)
	}
}

func TestSubscriber_EphemeralIsDroppedBeforeAnythingElse(t *testing.T) {
	st := newFakeStore()
	h := newTestHub(t, st, nil)
	s := h.Attach(Limits{Items: 10, Bytes: 1 << 20, Topics: 10}, true, nil)
	defer s.Close()
	if err := s.Subscribe(context.Background(), []protocol.TopicState{{Topic: "C1"}}); err != nil {
		t.Fatal(err)
	}

	for range 20 {
		h.Publish(&protocol.Event{Topic: "C1", Type: "user_typing", Class: protocol.ClassEphemeral, Payload: []byte(`{}`)})
	}
	for range 5 {
		st.emit("C1")
	}

	if d := drain(t, s); len(d.events) != 10 {
		t.Errorf("events = %d, want 5 ephemeral and 5 messages", len(d.events))
	}
	if got := testutil.ToFloat64(h.metrics.dropped); got != 15 {
		t.Errorf("dropped metric = %v, want 15", got)
	}
}

func TestSubscribe_LargeReplayComesInRoundsOrIsReset(t *testing.T) {
	st := newFakeStore()
	var topics []protocol.TopicState
	for _, id := range []protocol.Topic{"C1", "C2", "C3", "C4"} {
		for range 30 {
			st.emit(id)
		}
		topics = append(topics, atSeq(id, 0))
	}
	for range 60 {
		st.emit("C5")
	}
	topics = append(topics, atSeq("C5", 0), atSeq("C5", 30))
	h := newTestHub(t, st, nil)
	s := h.Attach(Limits{Items: 100, Bytes: 1 << 20, Topics: 10}, false, nil)
	defer s.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	done := make(chan error, 1)
	go func() { done <- s.Subscribe(ctx, topics) }()
	events, resets := 0, 0
	for err := error(errStop); errors.Is(err, errStop); {
		select {
		case <-s.Wake():
		case err = <-done:
			if err != nil {
				t.Fatal(err)
			}
		}
		d := drain(t, s)
		events += len(d.events)
		resets += len(d.resets)
	}

	// C5's sixty are more than half the queue; its last thirty are not.
	if events != 4*30+30 || resets != 1 {
		t.Errorf("%d events, %d resets; want 150 and 1", events, resets)
	}
}

func TestHub_StateTopicsAnswerWithTheirState(t *testing.T) {
	h := newTestHub(t, newFakeStore(), nil)
	active := &protocol.Event{Topic: "presence:U1", Class: protocol.ClassEphemeral, Payload: []byte(`"active U1"`)}
	h.SetState(active, true)
	s := h.Attach(testLimits, false, nil)
	defer s.Close()

	if err := s.Subscribe(context.Background(), []protocol.TopicState{{Topic: "presence:U1"}, {Topic: "presence:U2"}}); err != nil {
		t.Fatal(err)
	}

	d := drain(t, s)
	if len(d.subscribed) != 2 || len(d.events) != 2 || string(d.events[0].Payload) != `"active U1"` || string(d.events[1].Payload) != `"away U2"` {
		t.Fatalf("got %+v", d)
	}
	away := &protocol.Event{Topic: "presence:U1", Class: protocol.ClassEphemeral, Payload: []byte(`"away U1"`)}
	h.SetState(away, false)
	if d := drain(t, s); len(d.events) != 1 || d.events[0] != away {
		t.Errorf("change: %+v", d.events)
	}
	if len(h.states) != 0 {
		t.Errorf("%d states kept, want none", len(h.states))
	}
}

func TestHub_EvictsByTimeItemsAndBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newFakeStore()
		h := newTestHub(t, st, func(o *Options) { o.Config = Config{Replay: time.Minute, Events: 100, Bytes: 1 << 30} })
		for range 150 {
			st.emit("C1", "C2")
		}
		if got := len(h.memory.entries); got != 100 {
			t.Errorf("%d events in memory, want 100", got)
		}
		time.Sleep(30 * time.Second)
		st.emit("C2")
		time.Sleep(31 * time.Second)
		h.Evict()
		if got := len(h.memory.entries); got != 1 || len(h.topics) != 1 || h.memory.floor != 150 {
			t.Errorf("%d events of %d topics in memory above %d, want 1 of 1 above 150", got, len(h.topics), h.memory.floor)
		}
		time.Sleep(time.Minute)
		h.Evict()
		if h.memory.bytes != 0 || len(h.topics) != 0 {
			t.Errorf("%d bytes, %d topics left", h.memory.bytes, len(h.topics))
		}
	})
}

func TestHub_WaitsForPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newFakeStore()
		h := newTestHub(t, st, nil)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- h.Wait(ctx, 2) }()
		st.emit("C1")
		synctest.Wait()
		st.emit("C1")
		if err := <-done; err != nil {
			t.Errorf("Wait(2) = %v", err)
		}
		if err := h.Wait(ctx, 3); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait(3) = %v, want a deadline", err)
		}
	})
}

func TestSubscriber_TopicsAreLimited(t *testing.T) {
	h := newTestHub(t, newFakeStore(), nil)
	s := h.Attach(Limits{Items: 10, Bytes: 1 << 20, Topics: 2}, true, nil)
	defer s.Close()
	err := s.Subscribe(context.Background(), []protocol.TopicState{{Topic: "C1"}, {Topic: "C2"}, {Topic: "C1"}, {Topic: "C3"}})
	if !errors.Is(err, ErrTooMany) {
		t.Errorf("Subscribe = %v, want ErrTooMany", err)
	}
}

func BenchmarkCommit_Fanout(b *testing.B) {
	st := newFakeStore()
	h := newTestHub(b, st, func(o *Options) { o.Config.Events = 1000 })
	for range 1000 {
		s := h.Attach(Limits{Items: 1 << 30, Bytes: 1 << 40, Topics: 10}, true, nil)
		if err := s.Subscribe(context.Background(), []protocol.TopicState{{Topic: "C1"}}); err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		h.mu.Lock()
		f := s.follows["C1"]
		f.after = 1 << 62 // look, but do not queue: the queues would grow with b.N
		h.mu.Unlock()
	}
	b.ReportAllocs()
	var position protocol.Position
	for b.Loop() {
		position++
		h.commit(position, []*protocol.Event{{Topic: "C1", Position: position, Class: protocol.ClassMessage}})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/subscriber")
}
