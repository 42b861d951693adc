package cache

import (
	"sync/atomic"

	"flannel/internal/numset"
	"flannel/protocol"
)

// channel is what the held members of one channel share, so that a message costs no more in a large channel than in a
// small one, and a member is only what is their own. It exists while it has members; states that are given up may be
// read longer than that.
type channel struct {
	// Static after construction.
	id     protocol.ChannelID
	peers  *[2]protocol.UserID // of a direct message: each is the other's peer
	number uint32              // in its table, until it has no members

	state atomic.Pointer[channelState]
	notes [NoteKinds]atomic.Pointer[note] // written under Cache.mu

	// Guarded by Cache.mu. topic is the followed one of that name, or nil. Messages up to base are in the latest that was
	// loaded. in has the numbers of the members, as in Cache.held.
	topic *topic
	base  protocol.Position
	in    numset.Set
}

// channelState does not change; a channel gets a new one. All but latest is what the object says as of a version.
type channelState struct {
	latest   protocol.TS
	updated  protocol.Version
	owner    protocol.WorkspaceID
	typ      protocol.ChannelType
	archived bool
}

// newChannel returns a channel of which the first member's place is known.
func newChannel(user protocol.UserID, place *protocol.Membership) *channel {
	ch := &channel{id: place.Channel}
	if place.Peer != "" {
		ch.peers = &[2]protocol.UserID{user, place.Peer}
	}
	ch.state.Store(&channelState{owner: place.Owner, typ: typeOf(place.Type)})
	return ch
}

// typeOf returns t in a text that all share.
func typeOf(t protocol.ChannelType) protocol.ChannelType {
	for _, known := range protocol.ChannelTypes {
		if t == known {
			return known
		}
	}
	return t
}

// peerOf returns the other one of a direct message, "" if user is not in it or it is none.
func (ch *channel) peerOf(user protocol.UserID) protocol.UserID {
	switch {
	case ch.peers == nil:
		return ""
	case ch.peers[0] == user:
		return ch.peers[1]
	case ch.peers[1] == user:
		return ch.peers[0]
	}
	return ""
}

func (ch *channel) setLatest(latest protocol.TS) {
	if old := ch.state.Load(); old.latest != latest { // Most loads know what is known.
		s := *old
		s.latest = latest
		ch.state.Store(&s)
	}
}

// setObject notes the channel object's version.
func (ch *channel) setObject(version protocol.Version, archived bool) {
	if old := ch.state.Load(); version > old.updated {
		s := *old
		s.updated, s.archived = version, archived
		ch.state.Store(&s)
	}
}

// setLoaded is setObject for what a load says of the channel. An event tells the version before that says whose the
// channel is and of what type, so that those of the same version count too.
func (ch *channel) setLoaded(place *protocol.Membership) {
	ch.setObject(place.Updated, place.Archived)
	if old := ch.state.Load(); place.Updated >= old.updated && (old.owner != place.Owner || old.typ != place.Type) {
		s := *old
		s.owner, s.typ = place.Owner, typeOf(place.Type)
		ch.state.Store(&s)
	}
}

// follow brings latest up to an event of the channel.
func (ch *channel) follow(r *record) {
	for i := range r.effects {
		if e := &r.effects[i]; e.Op == protocol.OpMessageAdded || e.Op == protocol.OpMessageRemoved {
			ch.setLatest(e.Latest)
		}
	}
}
