package upstream

import (
	"context"
	"encoding/json"
	"errors"
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

		follow(t, u, at("C1", 2), protocol.TopicState{Topic: "C2"}, protocol.TopicState{Topic: "C3", Seq: seqOf(0)})
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
		settle(time.Second)

		if u.Live() {
			t.Error("live before a watermark has come after the break")
		}
		f.watermark()
		settle(time.Second)
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
		f.watermark() // Says that 2 was sent: it must not count.
		settle(time.Second)
		if c.watermark() >= 3 {
			t.Errorf("watermark %d while an event was missing", c.watermark())
		}
		f.watermark()
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

func TestStream_RefcountsAndLinger(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u, c := f.open(nil), newChecker(t, f)
		run(t, u, c)
		follow(t, u, at("C1", 0))
		follow(t, u, at("C1", 0))

		u.Unfollow("C1")
		settle(2 * u.cfg.Linger)
		if _, ok := c.look("C1"); !ok {
			t.Fatal("given up with a reference left")
		}
		u.Unfollow("C1", "C7")
		u.Unfollow("C1") // One too many: no harm.
		settle(u.cfg.Linger - 2*time.Second)
		if _, ok := c.look("C1"); !ok {
			t.Fatal("given up before the linger")
		}
		follow(t, u, at("C1", 0)) // Taken back within the linger.
		settle(2 * u.cfg.Linger)
		if _, ok := c.look("C1"); !ok {
			t.Fatal("given up although it was taken back")
		}
		if n := len(f.frames(protocol.StreamSubscribe)); n != 1 {
			t.Errorf("%d subscriptions, want 1", n)
		}

		u.Unfollow("C1")
		settle(u.cfg.Linger + 2*time.Second)
		if _, ok := c.look("C1"); ok {
			t.Error("not given up after the linger")
		}
		if n := len(f.frames(protocol.StreamUnsubscribe)); n != 1 {
			t.Errorf("%d unsubscribe frames, want 1", n)
		}
		f.publish("C1")
		follow(t, u, at("C1", 0)) // As new.
		settle(time.Second)
		if s, _ := c.look("C1"); fmt.Sprint(s.got) != "[1]" {
			t.Errorf("C1: %+v", s)
		}
	})
}

func TestStream_TopicsAreGivenUpWhileDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u, c := f.open(nil), newChecker(t, f)
		run(t, u, c)
		follow(t, u, at("C1", 0))
		f.net.Refuse(true)
		f.cut()
		u.Unfollow("C1")
		settle(2 * u.cfg.Linger)
		if _, ok := c.look("C1"); ok {
			t.Error("still followed")
		}
		if got := testutil.ToFloat64(u.metrics.reconnects[endDial]); got < 5 || got > 60 {
			t.Errorf("%v attempts in a minute", got)
		}
		if lag := u.lag.seconds(time.Now()); lag < 50 {
			t.Errorf("lag %v s after a minute without a stream", lag)
		}
	})
}

func TestStream_SubscriptionsAreBatched(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u, c := f.open(nil), newChecker(t, f)
		run(t, u, c)
		var topics []protocol.TopicState
		for i := range 2500 {
			topics = append(topics, at(protocol.Topic(fmt.Sprintf("C%d", i)), 0))
		}
		u.FollowAsync(append(topics, protocol.TopicState{Topic: "no topic"}))
		settle(time.Second)
		f.cut()
		settle(10 * time.Second)
		frames := f.frames(protocol.StreamSubscribe)
		total := 0
		for _, frame := range frames {
			total += len(frame.Topics)
			if len(frame.Topics) > protocol.MaxStreamTopics {
				t.Errorf("%d topics in one frame", len(frame.Topics))
			}
		}
		if total != 5000 || len(frames) > 8 {
			t.Errorf("%d topics in %d frames", total, len(frames))
		}
		if got := u.table.count[followed]; got != 2500 {
			t.Errorf("%d followed", got)
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

func TestFollow_EndsWithItsContextAndHoldsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		f.net.Refuse(true)
		u := f.open(nil)
		run(t, u, newChecker(t, f))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := u.Follow(ctx, []protocol.TopicState{at("C1", 0)})
		if !errors.Is(err, context.DeadlineExceeded) || protocol.AsError(err).Code != protocol.CodeUnavailable {
			t.Error(err)
		}
		settle(2 * u.cfg.Linger)
		if n := len(u.table.topics); n != 0 {
			t.Errorf("%d topics are left", n)
		}
	})
}

func TestFollow_RefusesWhatIsNoTopicAndTooMany(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u := f.open(func(c *Config) { c.MaxTopics = 2 })
		run(t, u, newChecker(t, f))
		for _, topic := range []protocol.Topic{"", "c1", "presence:", "T1/emoji/x"} {
			if err := u.Follow(t.Context(), []protocol.TopicState{{Topic: topic}}); protocol.AsError(err).Code != protocol.CodeInvalidArgs {
				t.Errorf("%q: %v", topic, err)
			}
		}
		follow(t, u, at("C1", 0), at("C2", 0))
		follow(t, u, at("C2", 0), at("C1", 0)) // Not more topics than before.
		if err := u.Follow(t.Context(), []protocol.TopicState{at("C3", 0)}); protocol.AsError(err).Code != protocol.CodeUnavailable {
			t.Error(err)
		}
		u.FollowAsync([]protocol.TopicState{at("C3", 0)})
		if got := testutil.ToFloat64(u.metrics.topicsRefused); got != 2 {
			t.Errorf("%v refused", got)
		}
	})
}

func TestFollow_TheEarlierOfTwoPositionsWinsBeforeTheAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		for range 9 {
			f.publish("C1")
		}
		u, c := f.open(nil), newChecker(t, f)
		hold := true
		f.mangle = func(frame protocol.StreamFrame) []protocol.StreamFrame {
			for hold && frame.Type == protocol.StreamSubscribed {
				f.mu.Unlock()
				time.Sleep(time.Millisecond)
				f.mu.Lock()
			}
			return []protocol.StreamFrame{frame}
		}
		run(t, u, c)
		settle(100 * time.Millisecond)
		u.FollowAsync([]protocol.TopicState{at("C1", 7)})
		settle(100 * time.Millisecond) // Asked for, not answered.
		u.FollowAsync([]protocol.TopicState{at("C1", 4)})
		u.FollowAsync([]protocol.TopicState{at("C1", 6)})
		f.set(func(*fake) { hold = false })
		settle(time.Second)
		if s, _ := c.look("C1"); fmt.Sprint(s.got) != "[5 6 7 8 9]" || s.follows != 1 {
			t.Errorf("C1: %+v", s)
		}
	})
}

func TestFollow_FromTheSink(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u, c := f.open(nil), newChecker(t, f)
		c.onEvent = func(ev *protocol.Event) {
			if ev.Topic == "U1" {
				u.FollowAsync([]protocol.TopicState{at("C1", ev.Position)})
				u.Report([]protocol.UserID{"U1"}, nil)
				u.Publish(&protocol.Event{Topic: "C1", Class: protocol.ClassEphemeral})
			}
		}
		run(t, u, c)
		follow(t, u, at("U1", 0))
		f.publish("U1")
		f.publish("C1")
		settle(time.Second)
		if s, _ := c.look("C1"); fmt.Sprint(s.got) != "[1]" {
			t.Errorf("C1: %+v", s)
		}
	})
}

func TestStream_EphemeralEventsAndPresence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u, c := f.open(nil), newChecker(t, f)
		run(t, u, c)
		presence := protocol.PresenceTopic("U1")
		follow(t, u, at("C1", 0), at(presence, 5))
		if ts := f.frames(protocol.StreamSubscribe)[0].Topics; len(ts) == 2 && (ts[1].Position != nil || ts[1].Seq != nil) {
			t.Errorf("presence was asked for from the past: %+v", ts[1])
		}
		for _, topic := range []protocol.Topic{"C1", presence, "C9"} {
			f.sendAll(protocol.StreamFrame{Type: protocol.StreamEvents, Events: []*protocol.Event{{Topic: topic, Type: "user_typing", Class: protocol.ClassEphemeral, Payload: json.RawMessage(`{"type":"user_typing"}`)}}})
		}
		settle(time.Second)
		if len(c.others) != 2 {
			t.Errorf("%d ephemeral events", len(c.others))
		}
	})
}

func TestPublish_ReachesTheBackendOrIsDropped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u := f.open(func(c *Config) { c.PublishQueue = 300 })
		typing := &protocol.Event{Topic: "C1", Type: "user_typing", Class: protocol.ClassEphemeral, Except: "U1", Payload: json.RawMessage(`{"type":"user_typing"}`)}
		u.Publish(typing)
		if got := testutil.ToFloat64(u.metrics.dropped[dropDown]); got != 1 {
			t.Errorf("%v dropped while down", got)
		}
		run(t, u, newChecker(t, f))
		settle(time.Second)
		u.Publish(&protocol.Event{Topic: "C1", Payload: json.RawMessage(`{`)})
		if got := testutil.ToFloat64(u.metrics.dropped[dropInvalid]); got != 1 {
			t.Errorf("%v dropped as invalid", got)
		}
		u.mu.Lock() // Nobody takes.
		for range 310 {
			u.outbox.put(typing)
		}
		u.mu.Unlock()
		u.nudge()
		settle(time.Second)
		if got := testutil.ToFloat64(u.metrics.dropped[dropFull]); got != 10 {
			t.Errorf("%v dropped because full", got)
		}
		n := 0
		for _, frame := range f.frames(protocol.StreamPublish) {
			n += len(frame.Events)
		}
		if n != 300 || u.outbox.bytes != 0 {
			t.Errorf("%d events published, %d bytes left", n, u.outbox.bytes)
		}
	})
}

func TestReport_IsCoalescedAndToldAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u := f.open(nil)
		u.Report([]protocol.UserID{"U1", "U2", "U3"}, []protocol.UserID{"U3", "U4"})
		run(t, u, newChecker(t, f))
		settle(time.Second)
		u.Report([]protocol.UserID{"U1"}, nil) // No news.
		u.Report([]protocol.UserID{"U5"}, []protocol.UserID{"U2"})
		settle(time.Second)
		present := make(map[protocol.UserID]bool)
		see := func(frames []protocol.StreamFrame) (n int) {
			for _, frame := range frames {
				for _, user := range frame.Present {
					present[user] = true
					n++
				}
				for _, user := range frame.Absent {
					delete(present, user)
					n++
				}
			}
			return n
		}
		if n := see(f.frames(protocol.StreamReport)); n != 4 || fmt.Sprint(present) != "map[U1:true U5:true]" {
			t.Errorf("%d changes told, present %v", n, present)
		}
		told := len(f.frames(protocol.StreamReport))
		f.cut()
		settle(10 * time.Second)
		clear(present)
		if see(f.frames(protocol.StreamReport)[told:]); fmt.Sprint(present) != "map[U1:true U5:true]" {
			t.Errorf("after a break: %v", present)
		}
	})
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
