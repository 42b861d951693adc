package cache

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"flannel/protocol"
)

// User is what is private to one user, kept up to date by events for as long as it is held by the cache. Its methods
// may be called from any goroutine; what they return are copies, but for bodies and JSON, which nobody may change.
type User struct {
	// Static after construction.
	id        protocol.UserID
	workspace protocol.WorkspaceID
	at        protocol.Position // events of the user topic up to here are in the load
	link      link
	seat      *seat

	// void: events were lost, the state has to be loaded again.
	void atomic.Bool
	// waiting is since when there is a channel whose topic is not followed yet (Unix nanoseconds), 0 if there is none.
	waiting atomic.Int64

	// Guarded by Cache.mu. left has the channels that the user was removed from, with the position: a later event of
	// another topic may tell of an earlier adding.
	left    map[protocol.ChannelID]protocol.Position
	pending int // members without a link

	// mu guards what readers see; writers hold Cache.mu too. members is in id order.
	mu      sync.RWMutex
	self    protocol.Object
	role    protocol.Role
	prefs   json.RawMessage
	groups  []protocol.ObjectID
	members []*member
}

// member is a user's place in a channel. Its fields change under User.mu, but for those that readers do not see, which
// Cache.mu guards.
type member struct {
	user    *User
	channel *channel
	place   protocol.Membership // Latest, Updated and Archived are the channel's

	// Guarded by Cache.mu. Events up to at are in place; marker and mention count are as of readAt, and of the channel's
	// messages above it that have come.
	at, readAt protocol.Position
	link       link // invalid until the channel's topic is followed
	waits      bool // for that
}

// ID returns the user's id.
func (u *User) ID() protocol.UserID { return u.id }

// Workspace returns the user's own workspace.
func (u *User) Workspace() protocol.WorkspaceID { return u.workspace }

// Self returns the user's own object.
func (u *User) Self() protocol.Object {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.self
}

// Role returns the user's role in Workspace.
func (u *User) Role() protocol.Role {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.role
}

// Prefs returns the preferences as one JSON object.
func (u *User) Prefs() json.RawMessage {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.prefs
}

// Usergroups returns the usergroups that the user is in, in id order.
func (u *User) Usergroups() []protocol.ObjectID {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return slices.Clone(u.groups)
}

// Membership returns the user's place in a channel.
func (u *User) Membership(ch protocol.ChannelID) (protocol.Membership, bool) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	if i, ok := u.find(ch); ok {
		return u.members[i].snapshot(), true
	}
	return protocol.Membership{}, false
}

// Memberships returns the user's channels in id order.
func (u *User) Memberships() []protocol.Membership {
	u.mu.RLock()
	defer u.mu.RUnlock()
	list := make([]protocol.Membership, len(u.members))
	for i, m := range u.members {
		list[i] = m.snapshot()
	}
	return list
}

// Channels returns the ids of the user's channels in order.
func (u *User) Channels() []protocol.ChannelID {
	u.mu.RLock()
	defer u.mu.RUnlock()
	list := make([]protocol.ChannelID, len(u.members))
	for i, m := range u.members {
		list[i] = m.place.Channel
	}
	return list
}

// Topics returns the topics of the user and of their channels.
func (u *User) Topics() []protocol.Topic {
	u.mu.RLock()
	defer u.mu.RUnlock()
	list := make([]protocol.Topic, 0, len(u.members)+1)
	list = append(list, protocol.Topic(u.id))
	for _, m := range u.members {
		list = append(list, protocol.Topic(m.place.Channel))
	}
	return list
}

// RaiseFloor makes Floor at least p: the user has written something that shows at p, or has seen something as of p.
func (u *User) RaiseFloor(p protocol.Position) {
	raise(&u.seat.floor, p)
}

// Floor returns the position below which nothing may be served to the user. It survives a reload of the state.
func (u *User) Floor() protocol.Position { return protocol.Position(u.seat.floor.Load()) }

// Settled returns a position up to which the topics of all channels that a held user's state names have been followed,
// without a gap; ok is false if that is so up to Applied. It is below Applied for the moment between the event that adds
// the user to a channel and the Followed of that channel.
func (c *Cache) Settled(user protocol.UserID) (p protocol.Position, ok bool) {
	u, held := c.users.get(user)
	if !held || u.waiting.Load() == 0 {
		return 0, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range u.members {
		if m.waits && (!ok || m.at <= p) {
			p, ok = max(m.at, 1)-1, true
		}
	}
	return p, ok
}

// LeftSince returns the channels that a held user's state knows them to have been removed from above p. What their own
// topic tells of is not complete in it.
func (c *Cache) LeftSince(user protocol.UserID, p protocol.Position) []protocol.ChannelID {
	u, held := c.users.get(user)
	if !held {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []protocol.ChannelID
	for ch, at := range u.left {
		if at > p {
			list = append(list, ch)
		}
	}
	return list
}

// AsOf returns the position as of which the state was loaded. Events have brought it further since.
func (u *User) AsOf() protocol.Position { return u.at }

// Void reports whether events were lost that would have changed the state. A state that is Stale only because the stream
// is down is not void: what it misses is still to come.
func (u *User) Void() bool { return u.void.Load() || !u.link.valid() }

func (u *User) lastUse() int64 { return u.seat.used.Load() }

// find returns where a channel stands in members, or would stand. It wants mu or Cache.mu.
func (u *User) find(ch protocol.ChannelID) (int, bool) {
	return slices.BinarySearchFunc(u.members, ch, func(m *member, ch protocol.ChannelID) int {
		return strings.Compare(string(m.place.Channel), string(ch))
	})
}

// member returns the user's place in a channel, or nil. It wants mu or Cache.mu.
func (u *User) member(ch protocol.ChannelID) *member {
	if i, ok := u.find(ch); ok {
		return u.members[i]
	}
	return nil
}

// snapshot wants User.mu.
func (m *member) snapshot() protocol.Membership {
	p := m.place
	s := m.channel.state.Load()
	p.Latest = s.latest
	if s.updated >= p.Updated {
		p.Updated, p.Archived = s.updated, s.archived
	}
	return p
}

// channel is what the held members of one channel share, so that a message costs no more in a large channel than in a
// small one. It exists while it has members.
type channel struct {
	id    protocol.ChannelID
	state atomic.Pointer[channelState]

	// Guarded by Cache.mu. Messages up to base are in the latest that was loaded.
	base    protocol.Position
	members map[protocol.UserID]*member
}

// channelState does not change; a channel gets a new one.
type channelState struct {
	latest   protocol.TS
	updated  protocol.Version
	archived bool
}

func (ch *channel) setLatest(latest protocol.TS) {
	s := *ch.state.Load()
	s.latest = latest
	ch.state.Store(&s)
}

// setObject notes the channel object's version.
func (ch *channel) setObject(version protocol.Version, archived bool) {
	if s := *ch.state.Load(); version > s.updated {
		s.updated, s.archived = version, archived
		ch.state.Store(&s)
	}
}
