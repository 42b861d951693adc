package cache

import (
	"slices"

	"flannel/protocol"
)

// join puts a user into a channel as of p and brings them up to the channel's events since. It reports whether they
// were not in it. It wants mu.
func (c *Cache) join(u *User, place *protocol.Membership, p protocol.Position) bool {
	m, joined := c.enter(u, place, p)
	if m == nil {
		return false
	}
	gone, ok := c.replay(m)
	if !ok || !c.replayObject(m) {
		u.void.Store(true)
	}
	return joined && !gone // In and out before anybody could see it is neither.
}

// replayObject brings what a new member's channel says of its object up to the events since: those of its owner's
// topic and of its own. It is not ok if the log does not reach back.
func (c *Cache) replayObject(m *member) (ok bool) {
	for _, name := range []protocol.Topic{protocol.Topic(m.place.Owner), protocol.Topic(m.place.Channel)} {
		t := c.topic(name)
		if t == nil {
			continue
		}
		if !t.reaches(m.at) {
			return false
		}
		for _, r := range t.since(m.at) {
			for i := range r.effects {
				if e := &r.effects[i]; e.Op == protocol.OpUpsert && e.Object != nil && protocol.ChannelID(e.Object.ID) == m.place.Channel {
					m.channel.setObject(e.Object.Version, isArchived(e.Object.Body))
				}
			}
		}
	}
	return true
}

// enter gives a user a place in a channel as of p, unless something later is known: then it returns nil. It reports
// whether they had none. It wants mu.
func (c *Cache) enter(u *User, place *protocol.Membership, p protocol.Position) (entered *member, joined bool) {
	if p <= u.at || p <= u.left[place.Channel] {
		return nil, false // In the load, or removed later: the removal came first, on another topic.
	}
	old := u.member(place.Channel)
	if old != nil {
		if p <= old.at {
			return nil, false
		}
		old.unwait() // A removal in between is still to come, on the channel's topic, and will be ignored.
	}
	return c.addMember(u, place, p), old == nil
}

// leave takes a user out of a channel as of p, and reports whether they were in it. It wants mu.
func (c *Cache) leave(u *User, ch protocol.ChannelID, p protocol.Position) bool {
	if p <= u.at {
		return false
	}
	m := u.member(ch)
	if m != nil && p <= m.at {
		return false // Added again since.
	}
	c.bury(u, ch, p)
	if m == nil {
		return false
	}
	c.unlink(m)
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
	u.left[ch] = max(u.left[ch], p)
}

// addMember gives u a place in a channel as of p, without looking at events since. It wants mu.
func (c *Cache) addMember(u *User, place *protocol.Membership, p protocol.Position) *member {
	ch := c.channels[place.Channel]
	if ch == nil {
		ch = &channel{id: place.Channel, members: make(map[protocol.UserID]*member)}
		ch.state.Store(&channelState{})
		c.channels[place.Channel] = ch
	}
	t := c.topic(protocol.Topic(ch.id))
	// If the log does not reach back, the new member's state is void, but those of the others are not.
	if p >= ch.base && (len(ch.members) == 0 || t == nil || t.reaches(p)) {
		ch.base = p
		ch.setLatest(place.Latest)
		if t != nil {
			for _, r := range t.since(p) {
				ch.follow(r)
			}
		}
	}
	ch.setObject(place.Updated, place.Archived)
	m := &member{user: u, channel: ch, place: *place, at: p, readAt: p}
	ch.members[u.id] = m
	u.mu.Lock()
	if i, ok := u.find(place.Channel); ok {
		u.members[i] = m
	} else {
		u.members = slices.Insert(u.members, i, m)
	}
	u.mu.Unlock()
	return m
}

// follow brings latest up to an event of the channel.
func (ch *channel) follow(r *record) {
	for i := range r.effects {
		if e := &r.effects[i]; e.Op == protocol.OpMessageAdded || e.Op == protocol.OpMessageRemoved {
			ch.setLatest(e.Latest)
		}
	}
}

// unlink takes a place away. It wants mu.
func (c *Cache) unlink(m *member) {
	u := m.user
	u.mu.Lock()
	if i, ok := u.find(m.place.Channel); ok && u.members[i] == m {
		u.members = slices.Delete(u.members, i, i+1)
	}
	u.mu.Unlock()
	m.unwait()
	c.unchannel(m)
}

// wait and unwait count the members whose channel's topic is not followed yet. They want Cache.mu.
func (m *member) wait(now int64) {
	m.waits = true
	m.user.pending++
	m.user.waiting.CompareAndSwap(0, now)
}

func (m *member) unwait() {
	if !m.waits {
		return
	}
	m.waits = false
	if m.user.pending--; m.user.pending == 0 {
		m.user.waiting.Store(0)
	}
}

// unchannel takes a member out of what the channel's members share.
func (c *Cache) unchannel(m *member) {
	if m.channel.members[m.user.id] == m {
		delete(m.channel.members, m.user.id)
	}
	if len(m.channel.members) == 0 && c.channels[m.channel.id] == m.channel {
		delete(c.channels, m.channel.id)
	}
}

// replay ties a new member to the channel's topic and brings it up to the events that have come since its position.
// gone: one of them was the removal. It is not ok if the log does not reach back; if the topic is not followed yet the
// member waits for channelFollowed. It wants mu.
func (c *Cache) replay(m *member) (gone, ok bool) {
	t := c.topic(protocol.Topic(m.place.Channel))
	if t == nil {
		m.wait(c.now().UnixNano())
		return false, true
	}
	m.link, _ = t.tie()
	if !t.reaches(m.at) {
		return false, false
	}
	for _, r := range t.since(m.at) {
		for i := range r.effects {
			switch e := &r.effects[i]; e.Op {
			case protocol.OpMessageAdded, protocol.OpMessageRemoved:
				m.message(e, r.position)
			case protocol.OpMemberRemoved:
				if e.User == m.user.id {
					c.bury(m.user, m.place.Channel, r.position)
					c.unlink(m)
					return true, true
				}
			}
		}
	}
	return false, true
}

// channelFollowed ties the members of a channel that waited for its topic.
func (c *Cache) channelFollowed(t *topic) {
	ch := c.channels[protocol.ChannelID(t.name)]
	if ch == nil {
		return
	}
	tie, from := t.tie()
	for _, m := range ch.members {
		if !m.waits {
			continue // It hangs on an earlier life of the topic: the state is void.
		}
		m.link = tie
		m.unwait()
		if m.at < from {
			m.user.void.Store(true)
		}
	}
}

// voidUsersOf makes the states void that depend on a topic. It wants mu.
func (c *Cache) voidUsersOf(t protocol.Topic) {
	switch protocol.KindOf(protocol.ObjectID(t)) {
	case protocol.KindChannel:
		if ch := c.channels[protocol.ChannelID(t)]; ch != nil {
			ch.base = 0
			for _, m := range ch.members {
				m.user.void.Store(true)
			}
		}
	case protocol.KindUser:
		if u, ok := c.users.get(protocol.UserID(t)); ok {
			u.void.Store(true)
		}
	case protocol.KindWorkspace: // Self, role, usergroups, names and archiving of channels.
		c.users.each(func(_ protocol.UserID, u *User) {
			owned := func(m *member) bool { return protocol.Topic(m.place.Owner) == t }
			if protocol.Topic(u.workspace) == t || slices.ContainsFunc(u.members, owned) {
				u.void.Store(true)
			}
		})
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
		for _, m := range ch.members {
			m.message(e, p)
		}
		return
	}
	if m := ch.members[e.User]; m != nil {
		m.message(e, p)
	}
	for _, user := range e.Mentions {
		if m := ch.members[user]; m != nil && user != e.User {
			m.message(e, p)
		}
	}
}

// message counts a message for one member: the author has read it, whom it mentions has one mention more (or less),
// unless their marker stands at or after it. What is in the load or before the last mark is in the count already.
func (m *member) message(e *protocol.Effect, p protocol.Position) {
	if p <= m.at || p <= m.readAt {
		return
	}
	u := m.user
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.id == e.User:
		if e.Op == protocol.OpMessageAdded && m.place.LastRead <= e.TS {
			m.place.LastRead, m.place.MentionCount = e.TS, 0
		}
	case m.place.LastRead >= e.TS || !e.Everyone && !slices.Contains(e.Mentions, u.id):
	case e.Op == protocol.OpMessageAdded:
		m.place.MentionCount++
	default:
		m.place.MentionCount = max(0, m.place.MentionCount-1)
	}
}

// applyPrivate does an effect of the user topic that is about one user. It is not ok if the state has become unknown.
func (c *Cache) applyPrivate(u *User, e *protocol.Effect, p protocol.Position) (ok bool) {
	if p <= u.at {
		return true
	}
	switch e.Op {
	case protocol.OpRead:
		if m := u.member(e.Channel); m != nil && p > m.at && p >= m.readAt {
			return m.read(e, p)
		}
	case protocol.OpOpen:
		if m := u.member(e.Channel); m != nil && p > m.at {
			u.mu.Lock()
			m.place.Open = e.Open
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
// ignored), or ahead: then its messages above p, which were counted before, are counted again on top. A member without
// a link has not counted any yet.
func (m *member) read(e *protocol.Effect, p protocol.Position) (ok bool) {
	u := m.user
	u.mu.Lock()
	m.place.LastRead, m.place.MentionCount = e.TS, e.MentionCount
	u.mu.Unlock()
	m.readAt = p
	t := m.link.topic
	if t == nil || t.last <= p {
		return true
	}
	if !t.reaches(p) {
		return false
	}
	for _, r := range t.since(p) {
		for i := range r.effects {
			if e := &r.effects[i]; e.Op == protocol.OpMessageAdded || e.Op == protocol.OpMessageRemoved {
				m.message(e, r.position)
			}
		}
	}
	return true
}
