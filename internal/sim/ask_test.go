package sim_test

import (
	"encoding/json"
	"net/url"
	"slices"

	"flannel/protocol"
)

// What clients read. Each kind of read checks its answer; ok tells that one came that says something.

// query asks the edge query API over HTTP, or on the socket.
func (c *client) query(what string, args fields, check func(r *reading, a *answer)) {
	n, token, v := c.where()
	r := v.reading(n, token, what)
	_, stale, _, raw, err := c.post(n, "/cache/"+string(c.w.home(c.user))+"/"+what, "text/plain", protocol.MustMarshal(args), token)
	if err != nil {
		c.w.count("query lost")
		return
	}
	r.stale = stale
	c.judge(r, raw, check)
}

func (c *client) queryOnSocket(what string, args fields, check func(r *reading, a *answer)) {
	n, token, v := c.where()
	r := v.reading(n, token, what+" on the socket")
	r.silent = true
	c.mu.Lock()
	c.asked++
	id := c.asked
	c.waiting[id] = func(raw []byte) { c.judge(r, raw, check) }
	c.mu.Unlock()
	c.send(fields{"type": "query", "id": id, "method": what, "args": args})
}

// api reads by a method of the Web API.
func (c *client) api(what string, args url.Values, check func(r *reading, a *answer)) {
	n, token, v := c.where()
	r := v.reading(n, token, what)
	stale, _, raw, ok := c.call(n, token, what, args)
	if !ok {
		return
	}
	r.stale = stale
	c.judge(r, raw, check)
}

func (c *client) judge(r *reading, raw []byte, check func(r *reading, a *answer)) {
	c.w.answered(raw)
	c.w.trace(c.name+" "+r.what, raw)
	var a answer
	if err := json.Unmarshal(raw, &a); err != nil {
		r.fail("answer %s: %v", raw, err)
		return
	}
	if a.OK {
		r.alive()
	}
	check(r, &a)
}

// versions are what the client holds of all objects of a kind: some it claims to have, some not.
func (c *client) versions(ids []protocol.ObjectID, conditional bool) map[protocol.ObjectID]protocol.Version {
	b := c.w.back
	b.mu.Lock()
	defer b.mu.Unlock()
	c.mu.Lock()
	v := c.view
	c.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	have := make(map[protocol.ObjectID]protocol.Version)
	for _, id := range ids {
		have[id] = 0
		if at := v.held[id]; conditional && at > 0 {
			have[id] = b.objects[id].at(at).Version
		}
	}
	return have
}

// users and rooms are all ids that there are.
func (w *world) users() (ids []protocol.ObjectID) {
	w.back.mu.Lock()
	defer w.back.mu.Unlock()
	for _, u := range w.back.people {
		ids = append(ids, protocol.ObjectID(u))
	}
	return ids
}

func (w *world) rooms() (ids []protocol.ObjectID) {
	w.back.mu.Lock()
	defer w.back.mu.Unlock()
	for _, ch := range w.back.list {
		ids = append(ids, protocol.ObjectID(ch))
	}
	return ids
}

// info is a conditional read of users or channels.
func (c *client) info(kind string, ids []protocol.ObjectID, conditional, socket bool) {
	have := c.versions(ids, conditional)
	ask := c.query
	if socket && c.thin {
		ask = c.queryOnSocket
	}
	ask(kind+"/info", fields{"updated_ids": have, "check_membership": true}, func(r *reading, a *answer) {
		if !a.OK {
			return
		}
		list := shownIn(a.Results)
		r.objects(list)
		r.hidden(a.Failed)
		r.unchanged(have, list, a)
		if kind == "channels" {
			r.mine(a.Mine)
		}
	})
}

// unchanged checks the ids that the answer does not name: the client has their present state.
func (r *reading) unchanged(have map[protocol.ObjectID]protocol.Version, list []shown, a *answer) {
	b := r.v.w.back
	b.mu.Lock()
	defer b.mu.Unlock()
	if !r.sure() {
		return
	}
	for id, version := range have {
		if slices.ContainsFunc(list, func(s shown) bool { return s.ID == id }) || slices.Contains(a.Failed, id) || slices.Contains(a.Pending, id) {
			continue
		}
		_, at := b.stateLocked(id, version)
		if at == 0 {
			r.fail("nothing was said of %s", id)
		} else if next := b.objects[id].after(at); next != 0 && next <= r.floor {
			r.fail("STALE: %s was said to be as of %d still, but %d was known at %d", id, at, next, r.floor)
		}
	}
}

// mine checks member_channels.
func (r *reading) mine(told []protocol.ChannelID) {
	b, v := r.v.w.back, r.v
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ch := range told {
		if !ever(r.since(), b.position, func(p protocol.Position) bool { return b.memberLocked(v.user, ch, p) }) {
			r.fail("LEAK: member_channels has %s, which was not so from %d to %d", ch, r.since(), b.position)
		}
	}
}

// membership asks who of all users is in a channel.
func (c *client) membership(ch protocol.ChannelID) {
	var asked []protocol.UserID
	for _, id := range c.w.users() {
		asked = append(asked, protocol.UserID(id))
	}
	c.query("channels/membership", fields{"channel": ch, "users": asked}, func(r *reading, a *answer) {
		if a.OK {
			r.members(ch, asked, a.users())
		} else if a.Error == protocol.CodeChannelNotFound {
			r.hidden([]protocol.ObjectID{protocol.ObjectID(ch)})
		}
	})
}

func (c *client) conversationMembers(ch protocol.ChannelID) {
	c.api("conversations.members", url.Values{"channel": {string(ch)}, "limit": {"100"}}, func(r *reading, a *answer) {
		if a.OK {
			var all []protocol.UserID
			for _, id := range c.w.users() {
				all = append(all, protocol.UserID(id))
			}
			r.members(ch, all, a.users())
		}
	})
}

func (c *client) conversationInfo(ch protocol.ChannelID) {
	c.api("conversations.info", url.Values{"channel": {string(ch)}}, func(r *reading, a *answer) {
		switch {
		case a.OK:
			r.objects(shownIn(append(append(json.RawMessage("["), a.Channel...), ']')))
		case a.Error == protocol.CodeChannelNotFound:
			r.hidden([]protocol.ObjectID{protocol.ObjectID(ch)})
		}
	})
}

// counts and boot tell where the client is.
func (c *client) counts() {
	c.api("client.counts", nil, func(r *reading, a *answer) {
		if a.OK {
			r.own(ownIn(a))
		}
	})
}

func (c *client) boot() {
	c.api("client.userBoot", nil, func(r *reading, a *answer) {
		if !a.OK {
			return
		}
		r.own(ownIn(a))
		r.objects(shownIn(append(append(json.RawMessage("["), a.Self...), ']')))
		r.objects(shownIn(a.Channels))
	})
}

func ownIn(a *answer) (told []protocol.ChannelID) {
	for _, list := range []json.RawMessage{a.Channels, a.MPIMs, a.IMs} {
		for _, id := range idsIn(list) {
			told = append(told, protocol.ChannelID(id))
		}
	}
	return told
}

// usersList lists the workspace's people, channelsList its channels.
func (c *client) usersList() {
	c.api("users.list", nil, func(r *reading, a *answer) {
		if a.OK {
			r.objects(shownIn(a.Members))
		}
	})
}

func (c *client) channelsList() {
	c.api("conversations.list", url.Values{"types": {"public_channel,private_channel,im,mpim"}, "limit": {"100"}}, func(r *reading, a *answer) {
		if a.OK {
			r.objects(shownIn(a.Channels))
		}
	})
}

// search looks for people, listed asks for those of a channel.
func (c *client) search() {
	c.query("users/search", fields{"query": "user", "count": 30}, func(r *reading, a *answer) {
		if a.OK {
			r.objects(shownIn(a.Results))
		}
	})
}

func (c *client) listed(ch protocol.ChannelID) {
	c.query("users/list", fields{"channels": []protocol.ChannelID{ch}, "count": 30}, func(r *reading, a *answer) {
		if a.OK {
			r.objects(shownIn(a.Results))
		}
	})
}
