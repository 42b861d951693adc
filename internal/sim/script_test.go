package sim_test

import (
	"testing"
	"testing/synctest"
	"time"

	"flannel/protocol"
)

// script runs what is written out in place of random operations, with the same clients, checker and end. The network is
// well but for what the script does to it, and the nodes have their default bounds.
func script(t *testing.T, do func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1, true)
		w.plain = true
		w.begin()
		w.people = w.people[:0]
		do(w)
		w.settle()
		w.end()
		for _, what := range w.broken {
			t.Error(what)
		}
		if t.Failed() {
			for _, line := range w.stories {
				t.Log(line)
			}
		}
	})
}

// joins adds a thin client of a user and connects it.
func (w *world) joins(user protocol.UserID, n *edgeNode) *client {
	c := newClient(w, "c"+number(len(w.people)), user, true, n)
	w.people = append(w.people, c)
	c.connect()
	pass(time.Second)
	return c
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// keep holds the events of a topic back on all streams.
func (b *backend) keep(t protocol.Topic) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.late = t
}

// TestScript_WhoIsThrownOutBeforeTheNodeHearsOfIt: the boot of somebody who comes to a new node can be ahead of that
// node's stream. It lacks a channel that they were thrown out of, whose last messages are still on their way. They were
// not in the channel's audience then, and nobody told them of these.
func TestScript_WhoIsThrownOutBeforeTheNodeHearsOfIt(t *testing.T) {
	script(t, func(w *world) {
		w.joins(bob, w.nodes[1]) // so that the channel is followed there
		c := w.joins(ann, w.nodes[0])
		c.drop(w.rnd)
		pass(100 * time.Millisecond)
		w.back.keep(protocol.Topic(secretID))
		w.back.post(bob, secretID, "the last that ann may read")
		w.back.kick(bob, secretID, ann)
		w.back.post(bob, secretID, "what she may not")
		c.move(w.nodes[1], false)
		w.spawn(c.connect)
		pass(time.Second)
		w.back.keep("")
		w.back.profile(bob, "here") // wakes the stream
		pass(5 * time.Second)
		if got := w.counts["resume "+protocol.ResumeReplayed]; got != 1 {
			w.fail("%d sessions were told what they missed, want 1: %v", got, w.counts)
		}
	})
}

// TestScript_WhatTheHubTellsToo: bob is invited and thrown out while he is away. When he comes back his own topic has not
// told of it yet, the channel's has: it is in the replay, as the channel's past, and his own topic makes the hub deliver
// it once more.
func TestScript_WhatTheHubTellsToo(t *testing.T) {
	script(t, func(w *world) {
		w.joins(ann, w.nodes[0])
		c := w.joins(bob, w.nodes[0])
		c.send(fields{"type": "ping", "id": 1})
		pass(time.Second)
		c.drop(w.rnd)
		pass(time.Second)
		w.back.leave(bob, secretID) // It has a past with bob in it, so that his replay looks at it.
		pass(time.Second)
		w.back.keep(protocol.Topic(bob))
		w.back.invite(ann, secretID, bob)
		w.back.kick(ann, secretID, bob)
		c.connect()
		pass(time.Second / 2)
		w.back.keep("")
		w.back.profile(bob, "here") // wakes the stream
		pass(5 * time.Second)
	})
}

// TestScript_WaitsForTheChannel: as before, but it is the channel's topic that is behind: of the coming it has told when
// bob is back, of the going not. He is not in the channel, so nobody told him of the going, nor of anything before it.
func TestScript_WaitsForTheChannel(t *testing.T) {
	script(t, func(w *world) {
		w.joins(ann, w.nodes[0])
		c := w.joins(bob, w.nodes[0])
		c.drop(w.rnd)
		pass(time.Second)
		w.back.leave(bob, secretID)
		pass(time.Second)
		w.back.invite(ann, secretID, bob)
		pass(time.Second)
		w.back.keep(protocol.Topic(secretID))
		w.back.post(ann, secretID, "while bob is in")
		w.back.kick(ann, secretID, bob)
		pass(time.Second)
		w.spawn(c.connect)
		pass(time.Second / 2)
		w.back.keep("")
		w.back.profile(bob, "here") // wakes the stream
		pass(5 * time.Second)
	})
}

// TestScript_TheLastOneLeaves: nobody else on the node is in the channel. It was given back when bob's own topic told of his
// going, and what had been said before in the channel, whose topic was behind, was lost.
func TestScript_TheLastOneLeaves(t *testing.T) {
	script(t, func(w *world) {
		w.joins(bob, w.nodes[0])
		w.back.keep(protocol.Topic(secretID))
		w.back.post(ann, secretID, "while bob is in")
		w.back.kick(ann, secretID, bob)
		pass(time.Second)
		w.back.keep("")
		w.back.profile(bob, "here") // wakes the stream
		pass(5 * time.Second)
	})
}
