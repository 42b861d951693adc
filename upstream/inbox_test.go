package upstream

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"flannel/protocol"
)

// TestStream_WhatWaitsComesInOneGo: messages of a channel that come while the sink is busy are handed over together, in order;
// anything else between them is not overtaken.
func TestStream_WhatWaitsComesInOneGo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u, c := f.open(nil), newChecker(t, f)
		var order []string
		c.onEvent = func(ev *protocol.Event) {
			if len(order) == 0 {
				time.Sleep(time.Second) // busy with the first
			}
			order = append(order, fmt.Sprintf("%s/%d", ev.Topic, ev.Seq))
		}
		run(t, u, c)
		follow(t, u, at("C1", 0), at("C2", 0), at("U1", 0))

		f.publish("C1")
		synctest.Wait()
		for _, topic := range []protocol.Topic{"C1", "C1", "C1", "C2", "C1", "U1", "U1", "C1"} {
			f.publish(topic)
			f.watermark()
		}
		settle(5 * time.Second)

		want := []string{"C1/1", "C1/2", "C1/3", "C1/4", "C2/1", "C1/5", "U1/1", "U1/2", "C1/6"}
		if fmt.Sprint(order) != fmt.Sprint(want) || c.longest != 3 {
			t.Errorf("in runs of up to %d: %v\nwant up to 3: %v", c.longest, order, want)
		}
		if c.watermark() != 9 {
			t.Errorf("watermark %d", c.watermark())
		}
	})
}

func TestTogether_OnlyMessagesOfOneChannel(t *testing.T) {
	message := func(change func(ev *protocol.Event)) *protocol.Event {
		ev := &protocol.Event{Topic: "C1", Seq: 2, Class: protocol.ClassMessage, Effects: []protocol.Effect{{Op: protocol.OpMessageAdded}}}
		change(ev)
		return ev
	}
	plain := message(func(*protocol.Event) {})
	for name, c := range map[string]struct {
		ev   *protocol.Event
		want bool
	}{
		"a message":           {plain, true},
		"without effects":     {message(func(ev *protocol.Event) { ev.Effects = nil }), true},
		"of another channel":  {message(func(ev *protocol.Event) { ev.Topic = "C2" }), false},
		"ephemeral":           {message(func(ev *protocol.Event) { ev.Class, ev.Seq = protocol.ClassEphemeral, 0 }), false},
		"control":             {message(func(ev *protocol.Event) { ev.Class = protocol.ClassControl }), false},
		"kept from somebody":  {message(func(ev *protocol.Event) { ev.Except = "U1" }), false},
		"that moves somebody": {message(func(ev *protocol.Event) { ev.Effects[0].Op = protocol.OpMemberRemoved }), false},
		"that changes it":     {message(func(ev *protocol.Event) { ev.Effects[0].Op = protocol.OpUpsert }), false},
	} {
		if got := together(plain, c.ev); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		if got := together(c.ev, plain); got != c.want {
			t.Errorf("%s, first: %v", name, got)
		}
	}
	user := message(func(ev *protocol.Event) { ev.Topic = "U1" })
	if together(user, user) {
		t.Error("events of a user come together")
	}
}

func TestInbox_IsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, ended := newInbox(), make(chan struct{})
		in.put(&protocol.StreamFrame{ID: 1}, 10*maxArrivedBytes, ended) // The first one may be of any size.
		waiting := true
		go func() {
			in.put(&protocol.StreamFrame{ID: 2}, 1, ended)
			waiting = false
		}()
		synctest.Wait()
		if !waiting || len(in.frames) != 1 {
			t.Errorf("%d frames beside one that takes all the room", len(in.frames))
		}
		if got := in.take(nil); len(got) != 1 || got[0].ID != 1 {
			t.Errorf("took %v", got)
		}
		synctest.Wait()
		if waiting {
			t.Error("it still waits")
		}
		for range maxArrived - 1 {
			in.put(&protocol.StreamFrame{}, 1, ended)
		}
		done := make(chan bool)
		go func() { done <- in.put(&protocol.StreamFrame{}, 1, ended) }()
		synctest.Wait()
		if len(in.frames) != maxArrived {
			t.Errorf("%d frames", len(in.frames))
		}
		close(ended)
		if <-done {
			t.Error("a frame was taken after the end")
		}
	})
}
