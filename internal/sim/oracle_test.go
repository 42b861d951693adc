package sim_test

import (
	"slices"
	"time"

	"flannel/protocol"
)

// Who may see what, by the backend's history alone: the words of architecture.md section 7, and none of the product's
// code. All want backend.mu.

// memberLocked reports whether user was in ch as of p.
func (b *backend) memberLocked(user protocol.UserID, ch protocol.ChannelID, p protocol.Position) bool {
	r := b.rooms[ch]
	return r != nil && r.members[user].at(p)
}

// shareLocked reports whether a user, as of p, was in a channel with another as of q.
func (b *backend) shareLocked(x, y protocol.UserID, p, q protocol.Position) bool {
	for _, id := range b.list {
		if b.memberLocked(x, id, p) && b.memberLocked(y, id, q) {
			return true
		}
	}
	return false
}

// seesLocked reports whether user could see an object as of p.
func (b *backend) seesLocked(user protocol.UserID, id protocol.ObjectID, p protocol.Position) bool {
	return b.seesAtLocked(user, p, id, p)
}

// everSeesLocked reports whether user could see an object at some time from one position to another. A node shows the
// present, which it loads, by the rights that it knows, which are its stream's and may be from a moment before: so these
// and all else may be as of two positions.
func (b *backend) everSeesLocked(user protocol.UserID, id protocol.ObjectID, first, last protocol.Position) bool {
	return ever(first, last, func(p protocol.Position) bool { return b.seesLocked(user, id, p) }) ||
		ever(first, last, func(p protocol.Position) bool {
			return ever(p, last, func(q protocol.Position) bool { return b.seesAtLocked(user, p, id, q) })
		})
}

// alwaysSeesLocked reports whether user could see an object all the time, however old the rights that a node goes by.
func (b *backend) alwaysSeesLocked(user protocol.UserID, id protocol.ObjectID, first, last protocol.Position) bool {
	return always(first, last, func(p protocol.Position) bool { return b.seesLocked(user, id, p) }) &&
		always(first, last, func(p protocol.Position) bool {
			return always(p, last, func(q protocol.Position) bool { return b.seesAtLocked(user, p, id, q) })
		})
}

// seesAtLocked reports whether user, with the role and the channels of p, sees an object as it was at q.
func (b *backend) seesAtLocked(user protocol.UserID, p protocol.Position, id protocol.ObjectID, q protocol.Position) bool {
	o := b.objects[id].at(q)
	if o == nil {
		return false
	}
	a := b.accounts[user]
	if a.roles.at(p).Full() && slices.Contains(o.Visibility.Workspaces, a.shape.TeamID) {
		return true
	}
	switch o.Kind {
	case protocol.KindChannel:
		return b.memberLocked(user, protocol.ChannelID(id), p)
	case protocol.KindUser:
		return protocol.UserID(id) == user || b.shareLocked(user, protocol.UserID(id), p, q)
	case protocol.KindBot:
		return b.shareLocked(user, robot, p, q)
	case protocol.KindWorkspace:
		if protocol.WorkspaceID(id) == a.shape.TeamID {
			return true
		}
		for _, ch := range b.list {
			if b.memberLocked(user, ch, p) && b.rooms[ch].shape.ContextTeamID == protocol.WorkspaceID(id) {
				return true
			}
		}
	}
	return false
}

// ever reports whether claim holds at any position from the first to the last; always, whether at all of them.
func ever(first, last protocol.Position, claim func(p protocol.Position) bool) bool {
	for p := last; ; p-- {
		if claim(p) {
			return true
		}
		if p <= first {
			return false
		}
	}
}

func always(first, last protocol.Position, claim func(p protocol.Position) bool) bool {
	return !ever(first, last, func(p protocol.Position) bool { return !claim(p) })
}

// hearsLocked reports whether an event must reach a user's sessions, and whether it may at all as of now.
func (b *backend) hearsLocked(user protocol.UserID, ev *protocol.Event) (must, may bool) {
	before := max(ev.Position, 1) - 1
	switch protocol.KindOf(protocol.ObjectID(ev.Topic)) {
	case protocol.KindUser:
		must = protocol.Topic(user) == ev.Topic
		return must, must
	case protocol.KindChannel:
		ch := protocol.ChannelID(ev.Topic)
		member := func(p protocol.Position) bool { return b.memberLocked(user, ch, p) }
		must = member(ev.Position) || member(before) && movesUser(ev, user)
		// Somebody who has come since might read it up: an edge that knows them as a member already may tell them.
		return must, must || ever(before, b.position, member)
	case protocol.KindWorkspace:
		a := b.accounts[user]
		if protocol.Topic(a.shape.TeamID) == ev.Topic {
			full := func(p protocol.Position) bool { return a.roles.at(p).Full() }
			// Who has become a guest since need not hear in a replay what only members may see.
			if always(before, b.position, full) {
				return true, true
			}
			if ever(before, b.position, full) {
				return false, true
			}
		}
		for i := range ev.Effects {
			e := &ev.Effects[i]
			if e.Op != protocol.OpUpsert || !ever(before, b.position, func(p protocol.Position) bool { return b.seesLocked(user, e.Object.ID, p) }) {
				return false, false
			}
		}
		return false, len(ev.Effects) > 0
	}
	return false, false
}

// unheardLocked reports whether somebody who is no full member could see what a workspace's event tells of, as far as a
// node knew that sent it onTheWay ago or later: the topic may be ahead of those of the channels that they shared.
func (b *backend) unheardLocked(user protocol.UserID, ev *protocol.Event) bool {
	if protocol.KindOf(protocol.ObjectID(ev.Topic)) != protocol.KindWorkspace {
		return false
	}
	from := b.positionAtLocked(time.Now().Add(-onTheWay))
	return len(ev.Effects) > 0 && !slices.ContainsFunc(ev.Effects, func(e protocol.Effect) bool {
		return e.Op != protocol.OpUpsert || !ever(from, b.position, func(p protocol.Position) bool { return b.seesLocked(user, e.Object.ID, p) })
	})
}

// movesUser reports whether the event takes user out of its channel or puts them in.
func movesUser(ev *protocol.Event, user protocol.UserID) bool {
	return slices.ContainsFunc(ev.Effects, func(e protocol.Effect) bool {
		return (e.Op == protocol.OpMemberAdded || e.Op == protocol.OpMemberRemoved) && e.User == user
	})
}

// eventLocked finds an event by its name.
func (b *backend) eventLocked(name string) *protocol.Event {
	topic, seq, ok := protocol.ParseEventID(name)
	if !ok || seq == 0 || int(seq) > len(b.topics[topic]) {
		return nil
	}
	return b.topics[topic][seq-1]
}

// stateLocked finds the state of an object by its version, and the position at which it came to be.
func (b *backend) stateLocked(id protocol.ObjectID, v protocol.Version) (*protocol.Object, protocol.Position) {
	tl := b.objects[id]
	if tl == nil {
		return nil, 0
	}
	for _, s := range tl.stamps {
		if s.v.Version == v {
			return s.v, s.at
		}
	}
	return nil, 0
}

// positionAt is where the backend stood at a time.
func (b *backend) positionAt(t time.Time) protocol.Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.positionAtLocked(t)
}

func (b *backend) positionAtLocked(t time.Time) protocol.Position {
	p := b.position
	for p > 0 && b.when[p-1].After(t) {
		p--
	}
	return p
}
