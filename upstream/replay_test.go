package upstream

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"flannel/protocol"
)

// since is a topic above a position.
func since(t protocol.Topic, p protocol.Position) protocol.TopicState {
	return protocol.TopicState{Topic: t, Position: &p}
}

// ids names events for comparison.
func ids(events []*protocol.Event) []string {
	names := []string{}
	for _, ev := range events {
		names = append(names, protocol.EventID(ev))
	}
	return names
}

func TestReplay_CallersGetWhatTheyAskedForOutOfOneLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		f.publish("T1", "U1", "C1") // 1
		f.publish("C2")             // 2
		f.publish("C1")             // 3
		f.publish("C1", "C2")       // 4
		f.forgotten["C9"] = 1
		u := f.open(nil)
		tests := []struct {
			topics []protocol.TopicState
			want   []string
			gone   []protocol.Topic
		}{
			{[]protocol.TopicState{since("T1", 0), since("U1", 0), since("C1", 0)}, []string{"T1:1", "U1:1", "C1:1", "C1:2", "C1:3"}, nil},
			{[]protocol.TopicState{since("C2", 2), since("C1", 1)}, []string{"C1:2", "C2:2", "C1:3"}, nil},
			{[]protocol.TopicState{since("C1", 4), since("C2", 4)}, []string{}, nil},
			{[]protocol.TopicState{since("C9", 0), since("C2", 0)}, []string{"C2:1", "C2:2"}, []protocol.Topic{"C9"}},
			{[]protocol.TopicState{since("C1", 3), since("C1", 1)}, []string{"C1:2", "C1:3"}, nil}, // The lower one counts.
			{nil, []string{}, nil},
		}
		var wg sync.WaitGroup
		for _, tt := range tests {
			wg.Go(func() {
				a, err := u.Replay(t.Context(), tt.topics, 3)
				if err != nil {
					t.Error(err)
					return
				}
				got, want := ids(a.Events), tt.want
				if len(tt.topics) > 0 && a.Position != 4 {
					t.Errorf("position %d", a.Position)
				}
				for i := 1; i < len(a.Events); i++ {
					if a.Events[i].Position < a.Events[i-1].Position {
						t.Errorf("out of order: %v", got)
					}
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) || !slices.Equal(a.Gone, tt.gone) {
					t.Errorf("%v, gone %v, want %v, gone %v", got, a.Gone, want, tt.gone)
				}
			})
		}
		wg.Wait()
		if n := f.count(protocol.CallReplay); n != 1 {
			t.Errorf("%d loads, want 1", n)
		}
	})
}

// A session that was away for too long asks from further back than the log reaches. Those who ask with it are served.
func TestReplay_NobodyLosesATopicBecauseOfOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		for range 1000 {
			f.publish("C1")
		}
		f.forgotten["C1"] = 800
		u := f.open(nil)
		var wg sync.WaitGroup
		for p := range protocol.Position(1000) {
			wg.Go(func() {
				a, err := u.Replay(t.Context(), []protocol.TopicState{since("C1", p)}, 0)
				switch {
				case err != nil:
					t.Error(err)
				case p < 800 && len(a.Gone) != 1:
					t.Errorf("from %d: not gone", p)
				case p >= 900 && (len(a.Gone) != 0 || len(a.Events) != 1000-int(p)):
					t.Errorf("from %d: %v, gone %v", p, ids(a.Events), a.Gone)
				}
			})
		}
		wg.Wait()
		if n := f.count(protocol.CallReplay); n > 1+2*12 {
			t.Errorf("%d loads", n)
		}
	})
}

func TestReplay_TopicsThatTheLimitLeftOutAreAskedForAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		for i := range 4 {
			for range protocol.MaxReplayEvents * 2 / 5 {
				f.publish(protocol.Topic(fmt.Sprintf("C%d", i+1)))
			}
		}
		for range protocol.MaxReplayEvents + 1 {
			f.publish("C9") // Too many for any answer.
		}
		u := f.open(nil)
		var wg sync.WaitGroup
		for _, topic := range []protocol.Topic{"C1", "C2", "C3", "C4", "C9"} {
			wg.Go(func() {
				a, err := u.Replay(t.Context(), []protocol.TopicState{since(topic, 0)}, 0)
				if err != nil || len(a.Gone) > 0 != (topic == "C9") || len(a.Events) > protocol.MaxReplayEvents {
					t.Errorf("%s: gone %v, %v", topic, a.Gone, err)
				}
			})
		}
		wg.Wait()

		a, err := u.Replay(t.Context(), []protocol.TopicState{since("C1", 0), since("C2", 0), since("C3", 0)}, 0)
		if err != nil || len(a.Gone) != 1 || len(a.Events) != protocol.MaxReplayEvents*4/5 {
			t.Errorf("%d events for one caller, gone %v, %v", len(a.Events), a.Gone, err)
		}
	})
}

func TestReplay_ManyTopicsAreSplitAndCutAtTheLowestPosition(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var topics []protocol.TopicState
		for i := range protocol.MaxReplayTopics + 500 {
			topic := protocol.Topic(fmt.Sprintf("C%d", i))
			f.publish(topic)
			topics = append(topics, since(topic, 0))
		}
		loads := 0
		f.load = func(name string, body []byte) (int, any) {
			status, a := f.answer(name, body)
			f.publish("C1", "C1400") // The loads stand at different positions.
			f.set(func(*fake) { loads++ })
			return status, a
		}
		u := f.open(nil)
		a, err := u.Replay(t.Context(), topics, 0)
		if err != nil || loads != 2 || len(a.Gone) != 0 {
			t.Fatalf("%d loads, gone %v, %v", loads, a.Gone, err)
		}
		if a.Position != 1500 || len(a.Events) != 1500 {
			t.Errorf("%d events up to %d, want 1500 up to 1500", len(a.Events), a.Position)
		}
	})
}

func TestReplay_AFlightIsJoinedOnlyIfItReachesBackFarEnough(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		for range 5 {
			f.publish("C1")
		}
		release := make(chan struct{})
		f.load = func(name string, body []byte) (int, any) {
			<-release
			return f.answer(name, body)
		}
		u := f.open(nil)
		var wg sync.WaitGroup
		ask := func(from protocol.Position) {
			wg.Go(func() {
				a, err := u.Replay(t.Context(), []protocol.TopicState{since("C1", from)}, 0)
				if err != nil || len(a.Events) != 5-int(from) {
					t.Errorf("from %d: %v, %v", from, a, err)
				}
			})
			time.Sleep(time.Second)
		}
		ask(3)
		ask(4) // In the air, and far enough.
		if n := f.count(protocol.CallReplay); n != 1 {
			t.Fatalf("%d loads, want 1", n)
		}
		ask(2)
		if n := f.count(protocol.CallReplay); n != 2 {
			t.Fatalf("%d loads, want 2", n)
		}
		close(release)
		wg.Wait()
	})
}

func TestReplay_AnswersThatBreakTheContract(t *testing.T) {
	ev := func(topic protocol.Topic, seq protocol.Seq, p protocol.Position) *protocol.Event {
		return &protocol.Event{Topic: topic, Seq: seq, Position: p}
	}
	tests := map[string]protocol.ReplayAnswer{
		"a topic that was not asked for":      {Position: 9, Events: []*protocol.Event{ev("C3", 1, 6)}},
		"an event at the position asked from": {Position: 9, Events: []*protocol.Event{ev("C1", 1, 5)}},
		"an event above the answer":           {Position: 9, Events: []*protocol.Event{ev("C1", 1, 10)}},
		"out of order":                        {Position: 9, Events: []*protocol.Event{ev("C1", 1, 8), ev("C2", 1, 7)}},
		"a hole":                              {Position: 9, Events: []*protocol.Event{ev("C1", 1, 6), ev("C1", 3, 7)}},
		"no seq":                              {Position: 9, Events: []*protocol.Event{ev("C1", 0, 6)}},
		"null":                                {Position: 9, Events: []*protocol.Event{nil}},
		"gone with events":                    {Position: 9, Events: []*protocol.Event{ev("C1", 1, 6)}, Gone: []protocol.Topic{"C1"}},
		"gone and not asked for":              {Position: 9, Gone: []protocol.Topic{"C3"}},
		"too many":                            {Position: 9, Events: slices.Repeat([]*protocol.Event{nil}, protocol.MaxReplayEvents+1)},
	}
	for name, answer := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t)
				f.load = func(string, []byte) (int, any) { return 200, answer }
				u := f.open(nil)
				_, err := u.Replay(t.Context(), []protocol.TopicState{since("C1", 5), since("C2", 5)}, 7)
				var fail *failure
				if !errors.As(err, &fail) || fail.code != codeBadAnswer {
					t.Errorf("%v", err)
				}
			})
		})
	}
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u := f.open(nil)
		for _, bad := range []protocol.TopicState{{Topic: "C1"}, since("presence:U1", 0), since("", 0)} {
			if _, err := u.Replay(t.Context(), []protocol.TopicState{bad}, 0); protocol.AsError(err).Code != protocol.CodeInvalidArgs {
				t.Errorf("%+v: %v", bad, err)
			}
		}
		if n := f.count(protocol.CallReplay); n != 0 {
			t.Errorf("%d loads", n)
		}
	})
}

// Whatever is asked together, each caller's answer is what a load of their own would have said.
func TestReplay_Property(t *testing.T) {
	for seed := range uint64(40) {
		bubble(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			f := newFake(t)
			for range 200 {
				f.publish(protocol.Topic(fmt.Sprintf("C%d", rng.IntN(8))))
			}
			// horizon is where the last forgotten event of each topic stands.
			horizon := make(map[protocol.Topic]protocol.Position)
			for topic, events := range f.log {
				n := rng.IntN(4)
				f.forgotten[topic] = n
				if n > 0 {
					horizon[topic] = events[n-1].Position
				}
			}
			u := f.open(nil)
			var wg sync.WaitGroup
			for range 30 {
				var topics []protocol.TopicState
				for i := range 8 {
					if rng.IntN(2) == 0 {
						topics = append(topics, since(protocol.Topic(fmt.Sprintf("C%d", i)), protocol.Position(rng.IntN(200))))
					}
				}
				later := time.Duration(rng.IntN(5)) * time.Millisecond
				wg.Go(func() {
					time.Sleep(later)
					a, err := u.Replay(t.Context(), topics, 0)
					if err != nil {
						t.Error(err)
						return
					}
					served := slices.DeleteFunc(slices.Clone(topics), func(ts protocol.TopicState) bool { return slices.Contains(a.Gone, ts.Topic) })
					want := f.replay(protocol.ReplayRequest{Topics: served, Limit: protocol.MaxReplayEvents})
					if !slices.Equal(ids(a.Events), ids(want.Events)) || len(want.Gone) > 0 {
						t.Errorf("seed %d: %v, want %v", seed, ids(a.Events), ids(want.Events))
					}
					for _, ts := range topics {
						if ago, reach := 200-*ts.Position, 200-horizon[ts.Topic]; slices.Contains(a.Gone, ts.Topic) && ago <= reach/2 {
							t.Errorf("seed %d: %s is gone from %d ago, it reaches back %d", seed, ts.Topic, ago, reach)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
