package sim_test

import (
	"encoding/json"
	"net/url"
	"slices"
	"testing/synctest"
	"time"

	"flannel/protocol"
)

// settle ends all faults, lets everything come to rest, and compares: every session has heard everything, and every
// read of every user through every node says what the backend says.
func (w *world) settle() {
	w.faults.calm()
	w.gate.listener.refuse(false)
	time.Sleep(10 * time.Second)
	for range 3 {
		for _, c := range w.people {
			w.spawn(c.connect)
		}
		time.Sleep(5 * time.Second)
	}
	synctest.Wait()
	if w.failed() {
		return
	}
	w.mu.Lock()
	w.step++
	w.mu.Unlock()
	for _, c := range w.people {
		c.view.complete()
		if _, token, _ := c.where(); w.back.alive(token) != c.connected() {
			w.fail("%s (%s) is connected: %v; its token %s is alive: %v", c.name, c.user, c.connected(), token, w.back.alive(token))
		}
	}
	for _, n := range w.nodes {
		for _, user := range w.back.people {
			w.spawn(func() { w.compare(n, user) })
		}
	}
	w.work.Go(func() {}) // never empty
	time.Sleep(20 * time.Second)
	synctest.Wait()
}

func (b *backend) alive(token string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.identityLocked(token).Error == ""
}

// compare reads everything that a user can read through a node. Reads are checked like all others; now the floor is the
// present, so there is only one right answer, and it must be there.
func (w *world) compare(n *edgeNode, user protocol.UserID) {
	c := newClient(w, "reader of "+n.name, user, true, n)
	_, token, _ := c.where()
	if !w.back.alive(token) {
		return
	}
	if at := n.heard(); at != w.back.now() {
		w.fail("%s has heard up to %d of %d", n.name, at, w.back.now())
		return
	}
	c.query("users/info", fields{"updated_ids": c.versions(w.users(), false)}, func(r *reading, a *answer) { r.whole(a, protocol.KindUser, w.users()) })
	c.query("channels/info", fields{"updated_ids": c.versions(w.rooms(), false)}, func(r *reading, a *answer) { r.whole(a, protocol.KindChannel, w.rooms()) })
	for _, id := range w.rooms() {
		c.members(protocol.ChannelID(id))
	}
	c.api("client.counts", nil, func(r *reading, a *answer) {
		r.certain(a)
		r.own(ownIn(a))
		r.counts(a)
	})
	c.boot()
}

// certain fails if an answer is missing or marked as stale.
func (r *reading) certain(a *answer) bool {
	if !a.OK || r.stale || len(a.Pending) > 0 {
		r.fail("all is quiet, and the answer is ok %v, error %q, stale %v, pending %v", a.OK, a.Error, r.stale, a.Pending)
		return false
	}
	return true
}

// whole checks that exactly what can be seen was shown.
func (r *reading) whole(a *answer, _ protocol.Kind, ids []protocol.ObjectID) {
	if !r.certain(a) {
		return
	}
	list := shownIn(a.Results)
	r.objects(list)
	r.hidden(a.Failed)
	if len(list)+len(a.Failed) != len(ids) {
		r.fail("%d ids were asked for, %d shown and %d refused", len(ids), len(list), len(a.Failed))
	}
}

// members compares a channel's members.
func (c *client) members(ch protocol.ChannelID) {
	c.api("conversations.members", url.Values{"channel": {string(ch)}, "limit": {"100"}}, func(r *reading, a *answer) {
		b := c.w.back
		b.mu.Lock()
		sees := b.seesLocked(c.user, protocol.ObjectID(ch), b.position)
		should := b.rooms[ch].sorted()
		b.mu.Unlock()
		switch {
		case !sees && a.OK:
			r.fail("LEAK: told the members of %s, which cannot be seen", ch)
		case !sees && a.Error != protocol.CodeChannelNotFound:
			r.certain(a)
		case sees && r.certain(a) && !slices.Equal(a.users(), should):
			r.fail("the members of %s are told to be %v and are %v", ch, a.users(), should)
		}
	})
}

// counts compares markers, latest messages and mentions.
func (r *reading) counts(a *answer) {
	b, v := r.v.w.back, r.v
	b.mu.Lock()
	defer b.mu.Unlock()
	told := make(map[protocol.ChannelID]protocol.ChannelCounts)
	for _, raw := range []json.RawMessage{a.Channels, a.MPIMs, a.IMs} {
		var list []protocol.ChannelCounts
		if raw != nil && json.Unmarshal(raw, &list) != nil {
			r.fail("counts %s", raw)
		}
		for _, c := range list {
			told[c.ID] = c
		}
	}
	for _, m := range b.membershipsLocked(v.user) {
		if m.Archived {
			continue
		}
		if is := protocol.CountsOf(&m); told[m.Channel] != is {
			r.fail("COUNTS: %s are told as %+v and are %+v", m.Channel, told[m.Channel], is)
		}
	}
}
