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
	// stamp is another one whenever the user is in other channels: no two sets of channels of a user have the same.
	stamp atomic.Uint64
	// waiting is since when there is a channel whose topic is not followed yet (Unix nanoseconds), 0 if there is none.
	waiting atomic.Int64

	// Guarded by Cache.mu. left has the channels that the user was removed from, with the position: a later event of
	// another topic may tell of an earlier adding. aparts is of those places that are not as of at.
	number  uint32 // in Cache.held
	left    map[protocol.ChannelID]protocol.Position
	aparts  []apart
	pending int  // places that wait for their channel's topic
	counts  bool // what the channels have told since the load is in

	// mu guards what readers see; writers hold Cache.mu too. members is in id order.
	mu      sync.RWMutex
	version protocol.Version // of the user's own object
	covered bool             // that one by the topic of the user's workspace
	role    protocol.Role
	prefs   json.RawMessage
	groups  []protocol.ObjectID
	table   *channelTable // of members
	members []member
	odd     map[*channel]oddPlace
}

// ID returns the user's id.
func (u *User) ID() protocol.UserID { return u.id }

// Workspace returns the user's own workspace.
func (u *User) Workspace() protocol.WorkspaceID { return u.workspace }

// Version returns the version of the user's own object, which is an object like others.
func (u *User) Version() protocol.Version {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.version
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
		var p protocol.Membership
		m := &u.members[i]
		u.snapshot(&p, m, string(appendTS(nil, m.word()&markerMask)))
		return p, true
	}
	return protocol.Membership{}, false
}

// Memberships returns the user's channels in id order.
func (u *User) Memberships() []protocol.Membership {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.appendMemberships(nil)
}

// appendMemberships wants mu.
func (u *User) appendMemberships(list []protocol.Membership) []protocol.Membership {
	list = slices.Grow(list, len(u.members))
	var room [17 * 128]byte // Few are in more channels; then it is an allocation more.
	text := room[:0]
	for i := range u.members {
		text = appendTS(text, u.members[i].word()&markerMask)
	}
	markers := string(text) // One allocation for all.
	for i := range u.members {
		m, n := &u.members[i], 0
		if m.word()&markerMask != 0 {
			n = 17
		}
		list = append(list, protocol.Membership{})
		u.snapshot(&list[len(list)-1], m, markers[:n])
		markers = markers[n:]
	}
	return list
}

// Channels returns the ids of the user's channels in order.
func (u *User) Channels() []protocol.ChannelID {
	u.mu.RLock()
	defer u.mu.RUnlock()
	list := make([]protocol.ChannelID, len(u.members))
	for i := range u.members {
		list[i] = u.channelOf(&u.members[i]).id
	}
	return list
}

// Stamp stands for what Channels returns: while it is the same, so are those. It is never 0.
func (u *User) Stamp() uint64 { return u.stamp.Load() }

// stamps has been given to this many sets of channels.
var stamps atomic.Uint64

// Topics returns the topics of the user and of their channels.
func (u *User) Topics() []protocol.Topic {
	u.mu.RLock()
	defer u.mu.RUnlock()
	list := make([]protocol.Topic, 0, len(u.members)+1)
	list = append(list, protocol.Topic(u.id))
	for i := range u.members {
		list = append(list, protocol.Topic(u.channelOf(&u.members[i]).id))
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
	for _, a := range u.aparts {
		if a.waits && (!ok || a.at <= p) {
			p, ok = max(a.at, 1)-1, true
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
	return slices.BinarySearchFunc(u.members, ch, func(m member, ch protocol.ChannelID) int {
		return strings.Compare(string(u.channelOf(&m).id), string(ch))
	})
}

// in returns where a channel stands in members, and whether it does. It wants mu or Cache.mu.
func (u *User) in(ch *channel) (int, bool) {
	i, ok := u.find(ch.id)
	return i, ok && u.channelOf(&u.members[i]) == ch
}
