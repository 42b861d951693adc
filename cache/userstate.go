package cache

import (
	"slices"

	"flannel/protocol"
)

// join puts a user into a channel as of p and brings them up to the channel's events since. It reports whether they
// were not in it. It wants mu.
func (c *Cache) join(u *User, place *protocol.Membership, p protocol.Position) bool {
	ch, joined := c.enter(u, place, p)
	if ch == nil {
		return false
	}
	gone, ok := c.replay(u, ch)
	if !ok || !c.replayObject(ch, p) {
		u.void.Store(true)
	}
	return joined && !gone // In and out before anybody could see it is neither.
}

// replayObject brings what a channel that somebody has joined at p says of its object up to the events since: those of
// its owner's topic and of its own. It is not ok if the log does not reach back.
func (c *Cache) replayObject(ch *channel, p protocol.Position) (ok bool) {
	for _, name := range []protocol.Topic{protocol.Topic(ch.state.Load().owner), protocol.Topic(ch.id)} {
		t := c.topic(name)
		if t == nil {
			continue
		}
		if !t.reaches(p) {
			return false
		}
		for _, r := range t.since(p) {
			for i := range r.effects {
				if e := &r.effects[i]; e.Op == protocol.OpUpsert && e.Object != nil && protocol.ChannelID(e.Object.ID) == ch.id {
					ch.setObject(e.Object.Version, isArchived(e.Object.Body))
				}
			}
		}
	}
	return true
}

// enter gives a user a place in a channel as of p, unless something later is known: then it returns nil. It reports
// whether they had none. It wants mu.
func (c *Cache) enter(u *User, place *protocol.Membership, p protocol.Position) (entered *channel, joined bool) {
	if p <= u.at || p <= u.left[place.Channel] {
		return nil, false // In the load, or removed later: the removal came first, on another topic.
	}
	i, again := u.find(place.Channel)
	if again {
		ch := u.channelOf(&u.members[i])
		if p <= u.apartOf(ch).at {
			return nil, false
		}
		u.unwait(ch) // A removal in between is still to come, on the channel's topic, and will be ignored.
	}
	return c.addMember(u, place, p), !again
}

// leave takes a user out of a channel as of p, and reports whether they were in it. It wants mu.
func (c *Cache) leave(u *User, ch protocol.ChannelID, p protocol.Position) bool {
	if p <= u.at {
		return false
	}
	i, in := u.find(ch)
	if in && p <= u.apartOf(u.channelOf(&u.members[i])).at {
		return false // Added again since.
	}
	c.bury(u, ch, p)
	if !in {
		return false
	}
	c.unlink(u, u.members[i].channel)
	return true
}

// maxLeft is how many removals a user's state remembers before those are forgotten that no late event can contradict.
const maxLeft = 16

// bury remembers that u left ch at p.
func (c *Cache) bury(u *User, ch protocol.ChannelID, p protocol.Position) {
	if len(u.left) >= maxLeft {
		// Everything up to the watermark has come on the topics that tell of addings.
		applied := c.Applied()
		for id, at := range u.left {
			if at <= applied {
				delete(u.left, id)
			}
		}
	}
	if u.left == nil {
		u.left = make(map[protocol.ChannelID]protocol.Position)
	}
	u.left[ch] = max(u.left[ch], p)
}

// addMember gives u a place in a channel as of p, without looking at events since. It wants mu.
func (c *Cache) addMember(u *User, place *protocol.Membership, p protocol.Position) *channel {
	ch := c.channels[place.Channel]
	if ch == nil {
		ch = newChannel(u.id, place)
		ch.topic, ch.number = c.topic(protocol.Topic(ch.id)), c.table.add(ch)
		c.channels[place.Channel] = ch
	}
	// If the log does not reach back, the new member's state is void, but those of the others are not.
	if p >= ch.base && (ch.in.Empty() || ch.topic == nil || ch.topic.reaches(p)) {
		ch.base = p
		ch.setLatest(place.Latest)
		if ch.topic != nil {
			for _, r := range ch.topic.since(p) {
				ch.follow(r)
			}
		}
	}
	ch.setLoaded(place)
	ch.in.Add(u.number)
	u.place(ch, place)
	u.setApart(apart{channel: ch, at: p, readAt: p})
	return ch
}

// place makes what is loaded the user's place in a channel. It wants Cache.mu, but in construction.
func (u *User) place(ch *channel, loaded *protocol.Membership) {
	u.mu.Lock()
	defer u.mu.Unlock()
	i, again := len(u.members), false
	if i > 0 && u.channelOf(&u.members[i-1]).id >= ch.id { // Loads come in order.
		i, again = u.find(ch.id)
	}
	if again {
		delete(u.odd, u.channelOf(&u.members[i]))
		u.members[i] = member{channel: ch.number}
	} else {
		u.members = slices.Insert(u.members, i, member{channel: ch.number})
		u.stamp.Store(stamps.Add(1))
	}
	m := &u.members[i]
	m.setOpen(loaded.Open)
	u.setPlace(m, oddPlace{loaded.LastRead, loaded.MentionCount, loaded.Peer})
}

// unlink takes a place away, in the channel with a number. It wants mu.
func (c *Cache) unlink(u *User, number uint32) {
	ch := c.table.at(number)
	u.mu.Lock()
	if i, ok := u.in(ch); ok {
		delete(u.odd, ch)
		u.members = slices.Delete(u.members, i, i+1)
		u.stamp.Store(stamps.Add(1))
	}
	u.mu.Unlock()
	u.unwait(ch)
	u.setApart(apart{channel: ch, at: u.at, readAt: u.at})
	c.unchannel(u, ch)
}

// wait and unwait count the places whose channel's topic is not followed yet. They want Cache.mu.
func (u *User) wait(ch *channel, now int64) {
	a := u.apartOf(ch)
	a.waits = true
	u.setApart(a)
	u.pending++
	u.waiting.CompareAndSwap(0, now)
}

func (u *User) unwait(ch *channel) {
	a := u.apartOf(ch)
	if !a.waits {
		return
	}
	a.waits = false
	u.setApart(a)
	if u.pending--; u.pending == 0 {
		u.waiting.Store(0)
	}
}

// unchannel takes a user, whose members do not have it any more, out of what the channel's members share.
func (c *Cache) unchannel(u *User, ch *channel) {
	ch.in.Remove(u.number)
	if ch.in.Empty() && c.channels[ch.id] == ch {
		c.unnoteAll(ch)
		delete(c.channels, ch.id)
		c.table.remove(ch.number)
	}
}

// replay brings a new place up to the events of the channel's topic that have come since its position. gone: one of them
// was the removal. It is not ok if the log does not reach back; if the topic is not followed yet the place waits for
// channelFollowed. It wants mu.
func (c *Cache) replay(u *User, ch *channel) (gone, ok bool) {
	t := ch.topic
	if t == nil {
		u.wait(ch, c.now().UnixNano())
		return false, true
	}
	at := u.apartOf(ch).at
	if !t.reaches(at) {
		return false, false
	}
	for _, r := range t.since(at) {
		for i := range r.effects {
			switch e := &r.effects[i]; e.Op {
			case protocol.OpMessageAdded, protocol.OpMessageRemoved:
				u.message(ch, e, r.position)
			case protocol.OpMemberRemoved:
				if e.User == u.id {
					c.bury(u, ch.id, r.position)
					c.unlink(u, ch.number)
					return true, true
				}
			}
		}
	}
	return false, true
}

// channelFollowed lets the members of a channel go on that waited for its topic.
func (c *Cache) channelFollowed(t *topic) {
	ch := c.channels[protocol.ChannelID(t.name)]
	if ch == nil {
		return
	}
	ch.topic = t
	_, from := t.tie()
	for x := range ch.in.All() {
		u := c.held.At(x)
		a := u.apartOf(ch)
		if !a.waits {
			continue // It hangs on an earlier life of the topic: the state is void.
		}
		u.unwait(ch)
		if a.at < from {
			u.void.Store(true)
		}
	}
}

// voidUsersOf makes the states void that depend on a topic. It wants mu.
func (c *Cache) voidUsersOf(t protocol.Topic) {
	switch protocol.KindOf(protocol.ObjectID(t)) {
	case protocol.KindChannel:
		if ch := c.channels[protocol.ChannelID(t)]; ch != nil {
			ch.base, ch.topic = 0, c.topic(t)
			c.voidMembersOf(ch)
		}
	case protocol.KindUser:
		if u, ok := c.users.get(protocol.UserID(t)); ok {
			u.void.Store(true)
		}
	case protocol.KindWorkspace: // Self, role, usergroups, names and archiving of channels.
		c.users.each(func(_ protocol.UserID, u *User) {
			if protocol.Topic(u.workspace) == t {
				u.void.Store(true)
			}
		})
		for _, ch := range c.channels {
			if protocol.Topic(ch.state.Load().owner) == t {
				c.voidMembersOf(ch)
			}
		}
	}
}

func (c *Cache) voidMembersOf(ch *channel) {
	for x := range ch.in.All() {
		c.held.At(x).void.Store(true)
	}
}

// message brings the channel's latest and its members' markers and mentions up to an event. It wants mu.
func (c *Cache) message(e *protocol.Effect, p protocol.Position) {
	ch := c.channels[e.Channel]
	if ch == nil {
		return
	}
	if p > ch.base {
		ch.setLatest(e.Latest)
	}
	if e.Everyone {
		for x := range ch.in.All() {
			c.held.At(x).message(ch, e, p)
		}
		return
	}
	if u, ok := c.users.get(e.User); ok {
		u.message(ch, e, p)
	}
	for _, user := range e.Mentions {
		if u, ok := c.users.get(user); ok && user != e.User {
			u.message(ch, e, p)
		}
	}
}

// message counts a message for one member, if the user is one: the author has read it, whom it mentions has one mention
// more (or less), unless their marker stands at or after it. What is in the load or before the last mark is in the count
// already.
func (u *User) message(ch *channel, e *protocol.Effect, p protocol.Position) {
	i, in := u.in(ch)
	if a := u.apartOf(ch); !in || p <= a.at || p <= a.readAt {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	m := &u.members[i]
	switch {
	case u.id == e.User:
		if e.Op == protocol.OpMessageAdded && u.compareRead(m, e.TS) <= 0 {
			u.setMark(m, e.TS, 0)
		}
	case u.compareRead(m, e.TS) >= 0 || !e.Everyone && !slices.Contains(e.Mentions, u.id):
	case e.Op == protocol.OpMessageAdded:
		u.setMentions(m, u.mentions(m)+1)
	default:
		u.setMentions(m, max(0, u.mentions(m)-1))
	}
}

// applyPrivate does an effect of the user topic that is about one user. It is not ok if the state has become unknown.
func (c *Cache) applyPrivate(u *User, e *protocol.Effect, p protocol.Position) (ok bool) {
	if p <= u.at {
		return true
	}
	switch e.Op {
	case protocol.OpRead:
		if i, ok := u.find(e.Channel); ok {
			return u.read(&u.members[i], e, p)
		}
	case protocol.OpOpen:
		if i, ok := u.find(e.Channel); ok && p > u.apartOf(u.channelOf(&u.members[i])).at {
			u.mu.Lock()
			u.members[i].setOpen(e.Open)
			u.mu.Unlock()
		}
	case protocol.OpPref:
		u.mu.Lock()
		u.prefs = setField(u.prefs, e.Name, e.Value)
		u.mu.Unlock()
	}
	return true
}

// read moves the marker. The count is as of p; the channel's topic may be behind p (then its messages up to p will be
// ignored), or ahead: then its messages above p, which were counted before, are counted again on top. A place that waits
// for its topic has not counted any yet, nor has one that is still to be replayed.
func (u *User) read(m *member, e *protocol.Effect, p protocol.Position) (ok bool) {
	ch := u.channelOf(m)
	a := u.apartOf(ch)
	if p <= a.at || p < a.readAt {
		return true
	}
	u.mu.Lock()
	u.setMark(m, e.TS, e.MentionCount)
	u.mu.Unlock()
	a.readAt = p
	u.setApart(a)
	if !u.counts {
		return true
	}
	t := ch.topic
	if t == nil || t.last <= p {
		return true
	}
	if !t.reaches(p) {
		return false
	}
	for _, r := range t.since(p) {
		for i := range r.effects {
			if e := &r.effects[i]; e.Op == protocol.OpMessageAdded || e.Op == protocol.OpMessageRemoved {
				u.message(ch, e, r.position)
			}
		}
	}
	return true
}
