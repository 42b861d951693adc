package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"flannel/protocol"
)

// settle lets the bubble come to rest, a little later.
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
				<-time.After(time.Millisecond)
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

// Thousands who come back in a second are a few frames, not a frame each.
func TestReport_IsGathered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u := f.open(nil)
		run(t, u, newChecker(t, f))
		settle(time.Second)
		for i := range 1000 {
			u.Report([]protocol.UserID{protocol.UserID(fmt.Sprintf("U%d", i))}, nil)
			time.Sleep(time.Millisecond)
		}
		settle(time.Second)

		frames, told := f.frames(protocol.StreamReport), 0
		for _, frame := range frames {
			told += len(frame.Present)
		}
		if most := int(time.Second/gatherFor) + 1; told != 1000 || len(frames) > most {
			t.Errorf("%d users in %d frames, want 1000 in at most %d", told, len(frames), most)
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
