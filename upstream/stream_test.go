package upstream

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"flannel/protocol"
)

// settle lets the bubble come to rest, a little later.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func follow(t *testing.T, u *Upstream, topics ...protocol.TopicState) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := u.Follow(ctx, topics); err != nil {
		t.Fatalf("follow %v: %v", topics, err)
	}
}

func at(topic protocol.Topic, p protocol.Position) protocol.TopicState {
	return protocol.TopicState{Topic: topic, Position: &p}
}

func TestStream_FollowsFromAPositionAndFromNow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u, c := f.open(nil), newChecker(t, f)
		for range 5 {
			f.publish("C1", "C2")
		}
		run(t, u, c)

		follow(t, u, at("C1", 2), protocol.TopicState{Topic: "C2"}, protocol.TopicState{Topic: "C3", Seq: new(protocol.Seq(0))})
		if s, ok := c.look("C1"); !ok || s.position != 5 && s.start != 2 {
			t.Errorf("follow returned before the sink was told: %+v", s)
		}
		f.publish("C1", "C2", "C3")
		f.watermark()
		settle(time.Second)

		for topic, want := range map[protocol.Topic]string{"C1": "[3 4 5 6]", "C2": "[6]", "C3": "[1]"} {
			if s, _ := c.look(topic); fmt.Sprint(s.got) != want {
				t.Errorf("%s: got %v, want %s", topic, s.got, want)
			}
		}
		if c.watermark() != 6 || !c.isLive() || !u.Live() {
			t.Errorf("watermark %d, live %v", c.watermark(), c.isLive())
		}
		for _, s := range []struct {
			name string
			got  float64
		}{{"delivered", testutil.ToFloat64(u.metrics.events[eventDelivered])}, {"up", testutil.ToFloat64(u.metrics.up)}, {"frames in", testutil.ToFloat64(u.metrics.framesIn[protocol.StreamEvents])}, {"frames out", testutil.ToFloat64(u.metrics.framesOut[protocol.StreamSubscribe])}} {
			if s.got == 0 {
				t.Errorf("%s was not counted", s.name)
			}
		}
	})
}

func TestStream_ABreakLosesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u, c := f.open(nil), newChecker(t, f)
		run(t, u, c)
		follow(t, u, at("C1", 0), at("C2", 0))
		f.publish("C1")
		settle(time.Second)

		f.cut()
		synctest.Wait()
		if u.Live() {
			t.Error("live without a stream")
		}
		f.publish("C1", "C2")
		f.publish("C1")
		// A topic that the sink knows does not wait for the stream.
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if err := u.Follow(ctx, []protocol.TopicState{at("C1", 0)}); err != nil {
			t.Errorf("follow of a known topic while down: %v", err)
		}
		cancel()
		settle(time.Second) // No watermark comes: nothing happens at the backend any more.

		if s, _ := c.look("C1"); fmt.Sprint(s.got) != "[1 2 3]" || s.follows != 2 {
			t.Errorf("C1: %+v", s)
		}
		if s, _ := c.look("C2"); fmt.Sprint(s.got) != "[1]" {
			t.Errorf("C2: %+v", s)
		}
		if fmt.Sprint(c.lives) != "[true false true]" || c.resets != 0 {
			t.Errorf("lives %v, resets %d", c.lives, c.resets)
		}
		if got := testutil.ToFloat64(u.metrics.reconnects[endClosed]); got != 1 {
			t.Errorf("%v ends counted", got)
		}
		for _, frame := range f.frames(protocol.StreamSubscribe)[1:] {
			for _, ts := range frame.Topics {
				if ts.Seq == nil {
					t.Errorf("%s was resumed without its seq", ts.Topic)
				}
			}
		}
	})
}

// A backend that answers subscriptions one by one, and is then silent, leaves the node neither stale nor credulous.
func TestStream_IsLiveOnlyWhenTheLastReplayHasCome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u, c := f.open(nil), newChecker(t, f)
		run(t, u, c)
		follow(t, u, at("C1", 0), at("C2", 0))
		f.cut()
		f.publish("C1", "C2")
		var held []protocol.StreamFrame
		f.set(func(f *fake) {
			f.mangle = func(frame protocol.StreamFrame) []protocol.StreamFrame {
				if frame.Type == protocol.StreamSubscribed && frame.Topics[0].Topic == "C2" || len(held) > 0 && frame.Type != protocol.StreamPong {
					held = append(held, frame)
					return nil
				}
				return []protocol.StreamFrame{frame}
			}
		})
		settle(time.Second)
		f.watermark()
		settle(time.Second)
		if u.Live() || len(held) == 0 {
			t.Errorf("live without C2, held %d", len(held))
		}

		f.set(func(f *fake) {
			f.mangle = nil
			for _, frame := range held {
				if frame.Type != protocol.StreamWatermark {
					f.toAll(frame)
				}
			}
		})
		settle(100 * time.Millisecond)
		if !u.Live() || c.watermark() != 1 {
			t.Errorf("live %v, watermark %d", u.Live(), c.watermark())
		}
		// A topic that is new on a quiet stream gets its watermark too, also if the backend leaves a ping unanswered.
		lost := false
		f.set(func(f *fake) {
			f.mangle = func(frame protocol.StreamFrame) []protocol.StreamFrame {
				if frame.Type == protocol.StreamPong && frame.ID > firstBarrier && !lost {
					lost = true
					return nil
				}
				return []protocol.StreamFrame{frame}
			}
		})
		marks := c.marks
		follow(t, u, at("C3", 0))
		settle(5 * time.Second)
		if c.marks != marks+1 || !lost {
			t.Errorf("%d watermarks for a new topic, a pong was lost: %v", c.marks-marks, lost)
		}
	})
}

func TestStream_DuplicatesAreDroppedAndHolesAskedForAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u, c := f.open(nil), newChecker(t, f)
		run(t, u, c)
		follow(t, u, at("C1", 0))
		drop := false
		f.set(func(f *fake) {
			f.mangle = func(frame protocol.StreamFrame) []protocol.StreamFrame {
				if frame.Type == protocol.StreamEvents && drop {
					return nil
				}
				return []protocol.StreamFrame{frame, frame}
			}
		})

		f.publish("C1")
		f.set(func(*fake) { drop = true })
		f.publish("C1")
		f.set(func(*fake) { drop = false })
		f.publish("C1")
		f.watermark() // Says that 2 was sent: it must not count before it was; the checker looks.
		settle(time.Second)

		if s, _ := c.look("C1"); fmt.Sprint(s.got) != "[1 2 3]" || len(s.resets) != 0 {
			t.Errorf("C1: %+v", s)
		}
		if c.watermark() != 3 {
			t.Errorf("watermark %d", c.watermark())
		}
		for _, outcome := range []string{eventDuplicate, eventHole, eventUnwanted} {
			if testutil.ToFloat64(u.metrics.events[outcome]) == 0 && outcome != eventUnwanted {
				t.Errorf("%s was not counted", outcome)
			}
		}
	})
}

func TestStream_AHoleThatPersistsIsAReset(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u, c := f.open(nil), newChecker(t, f)
		run(t, u, c)
		follow(t, u, at("C1", 0))
		f.set(func(f *fake) {
			f.mangle = func(frame protocol.StreamFrame) []protocol.StreamFrame {
				if frame.Type == protocol.StreamEvents {
					kept := frame.Events[:0:0]
					for _, ev := range frame.Events {
						if ev.Seq != 2 {
							kept = append(kept, ev)
						}
					}
					frame.Events = kept
				}
				return []protocol.StreamFrame{frame}
			}
		})
		for range 4 {
			f.publish("C1")
		}
		settle(time.Second)
		if s, _ := c.look("C1"); fmt.Sprint(s.got) != "[1 3 4]" || fmt.Sprint(s.resets) != "[3]" {
			t.Errorf("C1: %+v", s)
		}
		if got := testutil.ToFloat64(u.metrics.resets[resetHole]); got != 1 {
			t.Errorf("%v resets counted", got)
		}
	})
}

func TestStream_ResetOfTheBackend(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u, c := f.open(nil), newChecker(t, f)
		run(t, u, c)
		follow(t, u, at("C1", 0))
		f.publish("C1")
		settle(time.Second)

		// While down the replay is forgotten.
		f.cut()
		for range 3 {
			f.publish("C1", "C2")
		}
		f.set(func(f *fake) { f.forgotten["C1"], f.forgotten["C2"] = 3, 3 })
		settle(10 * time.Second)
		if s, _ := c.look("C1"); len(s.resets) != 1 || s.resets[0] != f.position {
			t.Errorf("C1: %+v", s)
		}
		// A topic that is asked for from too far back.
		follow(t, u, at("C2", 1))
		if s, _ := c.look("C2"); len(s.resets) != 1 || s.start != 3 {
			t.Errorf("C2: %+v", s)
		}
		// At any time.
		seq, position := protocol.Seq(9), protocol.Position(20)
		f.sendAll(protocol.StreamFrame{Type: protocol.StreamReset, Topics: []protocol.TopicState{{Topic: "C1", Seq: &seq, Position: &position}, {Topic: "C9"}}})
		f.sendAll(protocol.StreamFrame{Type: protocol.StreamEvents, Events: []*protocol.Event{nil, {Topic: "C1", Seq: 10, Position: 21}}})
		settle(time.Second)
		if s, _ := c.look("C1"); len(s.resets) != 2 || s.seq != 10 {
			t.Errorf("C1: %+v", s)
		}
		if got := testutil.ToFloat64(u.metrics.resets[resetBackend]); got != 3 {
			t.Errorf("%v resets counted", got)
		}
	})
}

func TestStream_ABackendThatCountsFromBelowIsAReset(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u, c := f.open(nil), newChecker(t, nil)
		run(t, u, c)
		follow(t, u, at("C1", 0))
		for range 3 {
			f.publish("C1")
		}
		settle(time.Second)
		f.set(func(f *fake) { f.log["C1"], f.position = f.log["C1"][:1], 1 }) // Restored from a backup.
		f.cut()
		settle(10 * time.Second)
		f.publish("C1")
		settle(time.Second)
		if s, _ := c.look("C1"); len(s.resets) != 1 || fmt.Sprint(s.got) != "[1 2 3 2]" {
			t.Errorf("C1: %+v", s)
		}
		if got := testutil.ToFloat64(u.metrics.resets[resetRewound]); got != 1 {
			t.Errorf("%v resets counted", got)
		}
	})
}

func TestStream_HalfOpenIsNoticedAfterThreeHeartbeats(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u, c := f.open(nil), newChecker(t, f)
		run(t, u, c)
		follow(t, u, at("C1", 0))
		settle(20 * time.Second)
		if f.count(protocol.CallStream) != 1 {
			t.Fatal("heartbeats do not keep the stream up")
		}
		f.set(func(f *fake) { f.mute = true })
		settle(2500 * time.Millisecond)
		if lag := u.lag.seconds(time.Now()); lag < 1 {
			t.Errorf("lag %v s while nothing comes back", lag)
		}
		settle(2 * time.Second)
		if u.Live() {
			t.Error("live on a silent stream")
		}
		if got := testutil.ToFloat64(u.metrics.reconnects[endSilent]); got != 1 {
			t.Errorf("%v silent ends", got)
		}
		f.set(func(f *fake) { f.mute = false })
		f.publish("C1")
		settle(10 * time.Second)
		if s, _ := c.look("C1"); fmt.Sprint(s.got) != "[1]" {
			t.Errorf("C1: %+v", s)
		}
	})
}

func TestStream_PingsOfTheBackendAreAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u := f.open(nil)
		run(t, u, newChecker(t, f))
		settle(100 * time.Millisecond)
		f.sendAll(protocol.StreamFrame{Type: protocol.StreamPing, ID: 42})
		f.sendAll(protocol.StreamFrame{Type: "from a later version"})
		settle(100 * time.Millisecond)
		if pongs := f.frames(protocol.StreamPong); len(pongs) != 1 || pongs[0].ID != 42 {
			t.Errorf("%+v", pongs)
		}
		if testutil.ToFloat64(u.metrics.framesIn[frameOther]) != 1 {
			t.Error("the unknown frame was not counted")
		}
	})
}

func TestStream_UnansweredSubscriptionsReopenIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		f.deaf = true
		u, c := f.open(nil), newChecker(t, f)
		run(t, u, c)
		u.FollowAsync([]protocol.TopicState{at("C1", 0)})
		settle(u.cfg.SubscribeTimeout + 2*time.Second)
		if got := testutil.ToFloat64(u.metrics.reconnects[endSubscribe]); got != 1 {
			t.Errorf("%v ends", got)
		}
		f.set(func(f *fake) { f.deaf = false })
		follow(t, u, at("C1", 0))
	})
}

func TestStream_BrokenFramesReopenIt(t *testing.T) {
	for name, send := range map[string]func(f *fake){
		"no JSON":   func(f *fake) { f.raw(websocket.TextMessage, []byte("{")) },
		"binary":    func(f *fake) { f.raw(websocket.BinaryMessage, []byte("{}")) },
		"too large": func(f *fake) { f.raw(websocket.TextMessage, make([]byte, 5000)) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t)
				u := f.open(func(c *Config) { c.MaxFrameBytes = 4000 })
				run(t, u, newChecker(t, f))
				settle(500 * time.Millisecond)
				send(f)
				settle(10 * time.Second)
				if got := testutil.ToFloat64(u.metrics.reconnects[endFrame]); got != 1 {
					t.Errorf("%v ends", got)
				}
				if !u.Live() {
					t.Error("not up again")
				}
			})
		})
	}
}

func TestStream_WhatIsNoHello(t *testing.T) {
	for name, change := range map[string]func(f *protocol.StreamFrame){
		"another frame":   func(f *protocol.StreamFrame) { f.Type = protocol.StreamEvents },
		"another version": func(f *protocol.StreamFrame) { f.Version = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t)
				f.hello = change
				u := f.open(nil)
				run(t, u, newChecker(t, f))
				settle(time.Minute)
				if testutil.ToFloat64(u.metrics.reconnects[endHello]) == 0 || u.Live() {
					t.Error("the stream was taken")
				}
			})
		})
	}
	t.Run("nothing", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			f := newFake(t)
			f.mute = true
			u := f.open(nil)
			run(t, u, newChecker(t, f))
			settle(u.cfg.HelloTimeout + time.Second)
			if testutil.ToFloat64(u.metrics.reconnects[endHello]) != 1 {
				t.Error("waited for ever")
			}
		})
	})
	t.Run("unauthorized", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			f := newFake(t)
			f.refuse = 401
			u := f.open(nil)
			run(t, u, newChecker(t, f))
			settle(time.Second)
			f.set(func(f *fake) { f.refuse = 0 })
			settle(time.Minute)
			if !u.Live() || testutil.ToFloat64(u.metrics.reconnects[endDial]) == 0 {
				t.Error("not up")
			}
		})
	})
}

func TestStream_AStuckPeerEndsTheWriter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		f.heartbeat = time.Hour // Only writing can notice.
		u := f.open(func(c *Config) { c.HeartbeatMax = time.Hour })
		f.stuck = make(chan struct{}) // The pipe has no buffer.
		run(t, u, newChecker(t, f))
		settle(time.Second)
		for i := range 3 {
			u.Report([]protocol.UserID{protocol.UserID(fmt.Sprintf("U%d", i))}, nil)
			time.Sleep(time.Second)
		}
		settle(u.cfg.WriteTimeout)
		close(f.stuck)
		f.set(func(f *fake) { f.stuck = nil })
		settle(10 * time.Second)
		if got := testutil.ToFloat64(u.metrics.reconnects[endWrite]); got != 1 {
			t.Errorf("%v ends", got)
		}
	})
}

func TestStream_StopsWhenAsked(t *testing.T) {
	for name, prepare := range map[string]func(f *fake){
		"while up":   func(*fake) {},
		"while down": func(f *fake) { f.net.Refuse(true) },
		"at hello":   func(f *fake) { f.mute = true },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t)
				prepare(f)
				u, c := f.open(nil), newChecker(t, f)
				stop := run(t, u, c)
				u.FollowAsync([]protocol.TopicState{at("C1", 0)})
				settle(2 * time.Second)
				begin := time.Now()
				stop()
				if time.Since(begin) > 500*time.Millisecond {
					t.Errorf("stopping took %v", time.Since(begin))
				}
				if u.Live() || c.isLive() {
					t.Error("live after the end")
				}
				if testutil.ToFloat64(u.metrics.reconnects[endStopped]) != 1 {
					t.Error("not counted")
				}
				if err := u.Follow(t.Context(), []protocol.TopicState{at("C2", 0)}); protocol.AsError(err).Code != protocol.CodeUnavailable {
					t.Errorf("follow after the end: %v", err)
				}
			})
		})
	}
}

func TestFullJitter_StaysInBounds(t *testing.T) {
	for failures := range 100 {
		bound := min(100*time.Millisecond<<min(failures, 10), 5*time.Second)
		for range 50 {
			if d := fullJitter(100*time.Millisecond, 5*time.Second, failures); d < 0 || d > bound {
				t.Fatalf("after %d failures: %v", failures, d)
			}
		}
	}
}
