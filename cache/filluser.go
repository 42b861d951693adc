package cache

import (
	"errors"
	"slices"
	"time"

	"flannel/protocol"
)

// ErrOutrun says that a load is older than what is known of the events since: load again, as of Applied or later.
var ErrOutrun = errors.New("events outran the load")

// followGrace is how long the topic of a channel that was just joined may take until it is followed. Meanwhile the
// state counts as fresh: the membership itself is told by the user's topic.
const followGrace = 5 * time.Second

// User returns the state of a user: Fresh, Stale (the stream is down, or it has to be loaded again) or Missing (nil).
// There is no stale permission: what is private may be shown only on a Fresh state. It counts as use of the state.
func (c *Cache) User(id protocol.UserID) (*User, Freshness) {
	u, ok := c.users.get(id)
	if !ok {
		c.metrics.looked(userState, resultMiss)
		return nil, Missing
	}
	now := c.now().UnixNano()
	u.seat.used.Store(now)
	if c.down.Load() != 0 || !u.usable(now) {
		c.metrics.looked(userState, resultStale)
		return u, Stale
	}
	c.metrics.looked(userState, resultHit)
	return u, Fresh
}

// usable reports whether the state is what its topics' events say, as far as they have come.
func (u *User) usable(now int64) bool {
	if u.Void() {
		return false
	}
	since := u.waiting.Load()
	return since == 0 || now-since <= int64(followGrace)
}

// FillUser takes a boot as of a position and brings it up to the events that have come since, from the recent log. It
// returns ErrOutrun if the log does not reach back that far: load again.
//
// The topics of the user and of the channels in the boot have to be followed before, from at or earlier. If the user's
// topic is not, the state is returned and not kept. A channel whose topic is not followed has a few seconds to become
// so; Followed will then find out whether something was missed. If a state is held that is as good, that one is
// returned. The boot's slices are not kept, its bodies are.
func (c *Cache) FillUser(b *protocol.UserBoot, at protocol.Position) (*User, error) {
	if b.Error != "" {
		return nil, &protocol.Error{Code: b.Error}
	}
	now := c.now().UnixNano()
	c.mu.Lock()
	defer c.mu.Unlock()
	own := c.topic(protocol.Topic(b.User))
	if own == nil {
		c.metrics.discarded.Inc()
		return c.detached(b, at, now), nil
	}
	old, held := c.users.get(b.User)
	switch {
	case held && old.usable(now) && at <= max(c.Applied(), old.at):
		old.seat.used.Store(now)
		return old, nil
	case held && at < old.at: // What was shown of old may be newer.
		c.metrics.discarded.Inc()
		c.metrics.outrun.Inc()
		return nil, ErrOutrun
	}
	above := c.topicsAbove(b)
	if !c.reach(b, own, above, at) {
		c.metrics.discarded.Inc()
		c.metrics.outrun.Inc()
		return nil, ErrOutrun
	}
	if !held && c.users.len() >= c.config.Users {
		if _, victim, ok := c.users.oldest(func(u *User) bool { return u.seat.holds.Load() > 0 }); ok {
			c.dropUser(victim)
			c.forced = append(c.forced, victim)
			c.metrics.evictions[evictBound].Inc()
		}
	}
	u := newUser(b, at, c.seats.get(b.User, now))
	u.id = protocol.UserID(own.name) // The text that the stream has anyway.
	if t := c.topic(protocol.Topic(b.Workspace)); t != nil {
		u.workspace = protocol.WorkspaceID(t.name)
	}
	u.link, _ = own.tie()
	u.table = &c.table
	if held {
		old.detach() // Now: a channel may lose its last member, and another get its number, before the new state is done.
		u.number = old.number
		c.held.Set(u.number, u)
	} else {
		u.number = c.held.Add(u)
	}
	for i := range b.Memberships {
		c.addMember(u, &b.Memberships[i], at)
	}
	c.replayUser(u, own, above)
	if held {
		// A removal stays known even if the channel's topic, which told of it, is not followed any more.
		for ch, p := range old.left {
			c.leave(u, ch, p)
		}
		old.void.Store(true)
		for i := range old.members {
			ch := old.channelOf(&old.members[i])
			if _, still := u.in(ch); !still {
				c.unchannel(u, ch)
			}
		}
	}
	c.users.put(u.id, u)
	return u, nil
}

func newUser(b *protocol.UserBoot, at protocol.Position, s *seat) *User {
	u := &User{
		id: b.User, workspace: b.Workspace, at: at, seat: s,
		role: sameRole(b.Role), prefs: b.Prefs, groups: slices.Sorted(slices.Values(b.Usergroups)),
		members: make([]member, 0, len(b.Memberships)),
	}
	if b.Self != nil {
		u.version, u.covered = b.Self.Version, b.Self.Topic == protocol.Topic(u.workspace)
	}
	if len(u.prefs) == 0 {
		u.prefs = []byte("{}")
	}
	u.stamp.Store(stamps.Add(1))
	return u
}

// detached returns a state that hangs on nothing.
func (c *Cache) detached(b *protocol.UserBoot, at protocol.Position, now int64) *User {
	s := c.seats.peek(b.User)
	if s == nil {
		s = newSeat(now)
	}
	u := newUser(b, at, s)
	u.void.Store(true)
	u.table = new(channelTable)
	for i := range b.Memberships {
		ch := newChannel(u.id, &b.Memberships[i])
		ch.setLatest(b.Memberships[i].Latest)
		ch.setLoaded(&b.Memberships[i])
		ch.number = u.table.add(ch)
		u.place(ch, &b.Memberships[i])
	}
	return u
}

// topicsAbove returns the followed topics whose events change what a boot says of objects: the user's workspace and the
// owners of their channels.
func (c *Cache) topicsAbove(b *protocol.UserBoot) []*topic {
	var above []*topic
	add := func(name protocol.Topic) {
		if t := c.topic(name); t != nil && !slices.Contains(above, t) {
			above = append(above, t)
		}
	}
	add(protocol.Topic(b.Workspace))
	if b.Self != nil {
		add(b.Self.Topic)
	}
	last := b.Workspace
	for i := range b.Memberships {
		if owner := b.Memberships[i].Owner; owner != last { // Most are one workspace's.
			add(protocol.Topic(owner))
			last = owner
		}
	}
	return above
}

// reach reports whether every event since at that concerns the boot is in the log. It wants mu.
func (c *Cache) reach(b *protocol.UserBoot, own *topic, above []*topic, at protocol.Position) bool {
	if !own.reaches(at) {
		return false
	}
	for _, t := range above {
		if !t.reaches(at) {
			return false
		}
	}
	for i := range b.Memberships {
		if t := c.topic(protocol.Topic(b.Memberships[i].Channel)); t != nil && !t.reaches(at) {
			return false
		}
	}
	for _, r := range own.since(at) { // Channels joined since.
		for i := range r.effects {
			e := &r.effects[i]
			if e.Op != protocol.OpMemberAdded {
				continue
			}
			if t := c.topic(protocol.Topic(e.Channel)); t != nil && !t.reaches(r.position) {
				return false
			}
		}
	}
	return true
}

// replayUser brings a new state up to date: first what the user's own topic says, so that it is known which channels
// there are and where the markers stand, then the channels, then objects. reach has found the log long enough.
func (c *Cache) replayUser(u *User, own *topic, above []*topic) {
	for _, r := range own.since(u.at) {
		for i := range r.effects {
			switch e := &r.effects[i]; e.Op {
			case protocol.OpMemberAdded:
				if e.Membership != nil && userOf(own, e) == u.id {
					c.enter(u, e.Membership, r.position)
				}
			case protocol.OpMemberRemoved:
				if userOf(own, e) == u.id {
					c.leave(u, e.Channel, r.position)
				}
			default:
				c.applyPrivate(u, e, r.position)
			}
		}
	}
	u.counts = true
	for i := 0; i < len(u.members); {
		if gone, _ := c.replay(u, u.channelOf(&u.members[i])); !gone {
			i++
		}
	}
	for _, t := range above {
		c.replayObjects(u, t)
	}
	for i := range u.members {
		if t := u.channelOf(&u.members[i]).topic; t != nil {
			c.replayObjects(u, t)
		}
	}
}

func (c *Cache) replayObjects(u *User, t *topic) {
	for _, r := range t.since(u.at) {
		for i := range r.effects {
			if e := &r.effects[i]; e.Op == protocol.OpUpsert && e.Object != nil {
				c.upsertState(u, e.Object)
			}
		}
	}
}

// dropUser gives a state up. It wants mu.
func (c *Cache) dropUser(u *User) {
	u.void.Store(true)
	u.detach()
	for i := range u.members {
		c.unchannel(u, u.channelOf(&u.members[i]))
	}
	c.users.remove(u.id)
	c.held.Free(u.number)
}
