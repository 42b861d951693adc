package sim_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"flannel/node"
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

// restarts starts a node anew with other bounds.
func (w *world) restarts(n *edgeNode, change func(c *node.Config)) {
	n.stop(false)
	change(&n.cfg)
	n.start()
	pass(time.Second)
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// keep holds the events of a topic back on all streams.
func (b *backend) keep(t protocol.Topic) { b.vex(func(v *trouble) { v.late, v.lateAt = t, 0 }) }

// keepAbove holds only those above a position back.
func (b *backend) keepAbove(t protocol.Topic, p protocol.Position) {
	b.vex(func(v *trouble) { v.late, v.lateAt = t, p })
}

// vex changes the backend's trouble. Subscriptions that waited and need not any more are answered.
func (b *backend) vex(change func(v *trouble)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.trouble)
	for s := range b.streams {
		s.aside = slices.DeleteFunc(s.aside, func(ts protocol.TopicState) bool {
			if ts.Topic == b.trouble.aside {
				return false
			}
			s.subscribe(ts)
			return true
		})
		s.nudge()
	}
}

func (b *backend) replayTime() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.trouble.replays
}

// fall lets the backend answer nothing but 503, or ends that.
func (g *gateway) fall(down bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.down = down
}

// delay says how long the answers of a call are on their way.
func (g *gateway) delay(name string, d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.slow = map[string]time.Duration{name: d}
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

// TestScript_WhatTheHubTellsToo: bob is invited and thrown out while he comes back. The channel tells him of it live, and
// then his own topic, which is behind, makes the hub look at it once more.
func TestScript_WhatTheHubTellsToo(t *testing.T) { toldTwice(t, 0) }

// TestScript_WhatTheReplayHasTold: as before, but the channel has told of it when he comes back: it is in the replay, as the
// channel's past, and his own topic makes the hub deliver it once more.
func TestScript_WhatTheReplayHasTold(t *testing.T) { toldTwice(t, time.Second) }

// toldTwice lets bob come back so long after the channel has told that he was in it.
func toldTwice(t *testing.T, after time.Duration) {
	t.Helper()
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
		if after > 0 {
			pass(after)
		}
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

// TestScript_ARevokedTokenAtAReplica: tokens are identified without at_least, so the answer may come from a replica that is
// behind. Who comes with a token that the node knows to be revoked is turned away, whatever the replica says.
func TestScript_ARevokedTokenAtAReplica(t *testing.T) {
	script(t, func(w *world) {
		c := w.joins(bob, w.nodes[0])
		_, token, _ := c.where()
		at := w.back.now()
		w.back.vex(func(v *trouble) { v.replica = &at })
		w.back.revoke(token)
		pass(2 * time.Second)
		c.connect()
		pass(5 * time.Second)
		w.back.vex(func(v *trouble) { v.replica = nil })
	})
}

// TestScript_TheStateIsAheadOfTheUsersTopic: ann is away for so long that the node has given up her state, but follows her
// topics still. It loads a state that lacks a channel which she was thrown out of meanwhile, and her own topic, whose past
// the node remembers, has not told of that yet: nobody would tell her what was said there before.
func TestScript_TheStateIsAheadOfTheUsersTopic(t *testing.T) {
	script(t, func(w *world) {
		w.restarts(w.nodes[0], func(c *node.Config) { c.Cache.Grace, c.Upstream.Linger = time.Second, time.Minute })
		w.joins(bob, w.nodes[0]) // so that the channel is followed
		c := w.joins(ann, w.nodes[0])
		c.drop(w.rnd)
		pass(20 * time.Second)
		w.back.keep(protocol.Topic(ann))
		w.back.post(bob, secretID, "the last that ann may read")
		w.back.kick(bob, secretID, ann)
		pass(time.Second)
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

// TestScript_ATicketAndADeadToken: the token is revoked between the ticket and the socket, when the node remembers others
// in its place, and the backend cannot be asked about it. The ticket alone lets nobody in.
func TestScript_ATicketAndADeadToken(t *testing.T) {
	script(t, func(w *world) {
		w.restarts(w.nodes[0], func(c *node.Config) { c.Cache.Identities = 1 })
		w.joins(bob, w.nodes[0]) // so that his state is known
		c := newClient(w, "compatible", bob, false, w.nodes[0])
		w.people = append(w.people, c)
		_, token, _ := c.where()
		c.ticketed = func() {
			newClient(w, "another", ann, true, w.nodes[0]).counts()
			w.gate.fall(true)
			w.back.revoke(token)
			pass(time.Second)
		}
		c.connect()
		pass(time.Minute) // The node asks again for a while, three times.
		w.gate.fall(false)
	})
}

// TestScript_ThrownOutWhileTheStreamIsDown: the node does not hear that ann is thrown out. It knows that it may not know,
// and does not show her the channel.
func TestScript_ThrownOutWhileTheStreamIsDown(t *testing.T) {
	script(t, func(w *world) {
		c := w.joins(ann, w.nodes[0])
		c.conversationInfo(secretID) // so that it is in the cache
		w.gate.listener.refuse(true)
		w.gate.listener.cut()
		w.back.kick(bob, secretID, ann)
		pass(2 * recovery)
		c.conversationInfo(secretID)
		c.info("channels", []protocol.ObjectID{protocol.ObjectID(secretID)}, false, true)
		c.membership(secretID)
		pass(time.Second)
		w.gate.listener.refuse(false)
		pass(5 * time.Second)
	})
}

// TestScript_TheTokenAndAChannelThatIsDue: bob comes into a channel that nobody on the node is in. The node follows it from
// below where it stands. Until it has told of his coming nothing but his own topic's event says that it is his: the token
// that he is given then was above what he had not heard of it.
func TestScript_TheTokenAndAChannelThatIsDue(t *testing.T) { tokenWhileReplayed(t, time.Second) }

// TestScript_TheTokenAndATopicThatCatchesUp: as before, but the channel has told of his coming and not what was said since.
func TestScript_TheTokenAndATopicThatCatchesUp(t *testing.T) { tokenWhileReplayed(t, 3*time.Second) }

// tokenWhileReplayed gives bob a token so long after he came: each event of the channel takes two seconds.
func tokenWhileReplayed(t *testing.T, after time.Duration) {
	t.Helper()
	script(t, func(w *world) {
		c := w.joins(bob, w.nodes[0])
		w.back.vex(func(v *trouble) { v.replays = 2 * time.Second })
		w.back.invite(ann, openID, bob)
		w.back.post(ann, openID, "welcome")
		pass(after)
		c.send(fields{"type": "ping", "id": 1})
		pass(100 * time.Millisecond)
		c.drop(w.rnd)
		w.back.vex(func(v *trouble) { v.replays = 0 })
		c.move(w.nodes[1], false)
		pass(100 * time.Millisecond)
		c.connect()
		pass(5 * time.Second)
	})
}

// TestScript_TheTokenAndATopicThatIsRecovered: after a break one of the topics is answered later than the others. Watermarks
// do not cover it, and neither does the token that bob is given meanwhile.
func TestScript_TheTokenAndATopicThatIsRecovered(t *testing.T) {
	script(t, func(w *world) {
		c := w.joins(bob, w.nodes[0])
		w.back.vex(func(v *trouble) { v.aside = protocol.Topic(generalID) })
		for _, p := range w.gate.listener.pipes(w.nodes[0].name) {
			p.cut()
		}
		w.back.post(ann, generalID, "while the stream is down")
		pass(3 * time.Second)
		c.send(fields{"type": "ping", "id": 1})
		pass(100 * time.Millisecond)
		c.drop(w.rnd)
		c.move(w.nodes[1], false)
		w.back.vex(func(v *trouble) { v.aside = "" })
		pass(100 * time.Millisecond)
		c.connect()
		pass(5 * time.Second)
	})
}

// TestScript_AnAnswerOfTwoLoads: of two users the first is on its way already, the second is loaded later and is as of
// later. Were it taken for as old as the first, the event before the last would put an older one in its place.
func TestScript_AnAnswerOfTwoLoads(t *testing.T) {
	script(t, func(w *world) {
		c := w.joins(bob, w.nodes[0])
		first, second := protocol.ObjectID(admin), protocol.ObjectID(cyd)
		w.back.keep(protocol.Topic(ours))
		w.gate.delay(protocol.CallObjects, 400*time.Millisecond)
		w.spawn(func() { c.info("users", []protocol.ObjectID{first}, false, false) })
		pass(100 * time.Millisecond)
		w.gate.delay(protocol.CallObjects, 0)
		before, _ := w.back.profile(cyd, "one")
		w.back.profile(cyd, "two")
		c.info("users", []protocol.ObjectID{first, second}, false, false)
		w.back.keepAbove(protocol.Topic(ours), before)
		pass(time.Second)
		c.info("users", []protocol.ObjectID{second}, false, false)
		w.back.keep("")
		pass(5 * time.Second)
	})
}

// TestScript_ALoadUnderWay: a user of a workspace that the node does not follow changes while they are loaded. Who asks after
// the node has heard that far is not given what was loaded before.
func TestScript_ALoadUnderWay(t *testing.T) {
	script(t, func(w *world) {
		c := w.joins(ann, w.nodes[0])
		who := []protocol.ObjectID{protocol.ObjectID(stranger)}
		w.gate.delay(protocol.CallObjects, 400*time.Millisecond)
		w.spawn(func() { c.info("users", who, false, false) })
		pass(100 * time.Millisecond)
		w.gate.delay(protocol.CallObjects, 0)
		w.back.profile(stranger, "new")
		pass(100 * time.Millisecond)
		c.info("users", who, false, false)
		pass(5 * time.Second)
	})
}

// TestScript_AChannelIsReset: bob is mentioned in a channel while the stream is down, and the backend cannot say so any more.
// The node does not go on with what it knew of him. There is no auditor to put it right.
func TestScript_AChannelIsReset(t *testing.T) {
	script(t, func(w *world) {
		w.restarts(w.nodes[0], func(c *node.Config) { c.Query.AuditSample = 0 })
		w.joins(bob, w.nodes[0])
		w.gate.listener.refuse(true)
		w.gate.listener.cut()
		w.back.post(ann, generalID, "<@"+string(bob)+">")
		w.back.forget()
		pass(time.Second)
		w.gate.listener.refuse(false)
		pass(5 * time.Second)
	})
}

// forget lets the backend forget all that it could replay.
func (b *backend) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replayFrom = b.position
}
