package fanout

import (
	"bytes"
	"slices"

	"flannel/protocol"
)

// watch is one user whose presence somebody wants, or has wanted not long ago. last is the present state, nil if it is
// not known; every watcher was told it.
type watch struct {
	watchers map[Receiver]struct{}
	last     *Frame
}

// maxIdle bounds the users whose presence nobody watches any more and whose topic has not been given up yet: it goes on
// for a while after Unfollow, and whoever comes back meanwhile is told the last state, because no event will tell it.
const maxIdle = 10_000

// WatchPresence makes users the whole list of those whose presence r hears of; what is above protocol.MaxPresenceIDs is
// left out. The present state of those who are new on the list, or whose last change was held back, is delivered: at once
// if it is known, else when it comes. A receiver that is not attached watches nobody.
func (h *Hub) WatchPresence(r Receiver, users []protocol.UserID) {
	h.doors.Lock()
	defer h.doors.Unlock()
	follow, unfollow := h.rewatch(r, users)
	for _, user := range follow {
		h.presence.Follow(user)
	}
	for _, user := range unfollow {
		h.presence.Unfollow(user)
	}
}

// rewatch returns whom somebody watches now and nobody did before, and the other way round.
func (h *Hub) rewatch(r Receiver, users []protocol.UserID) (follow, unfollow []protocol.UserID) {
	// No newer state may be delivered between the look at the last one and its delivery.
	h.publishing.Lock()
	defer h.publishing.Unlock()
	var present []*Frame
	h.mu.Lock()
	s := h.sessions[r]
	if s == nil {
		h.mu.Unlock()
		return nil, nil
	}
	wanted := make(map[protocol.UserID]struct{}, min(len(users), protocol.MaxPresenceIDs))
	for _, user := range users {
		if len(wanted) == protocol.MaxPresenceIDs {
			break
		}
		if _, twice := wanted[user]; twice {
			continue
		}
		wanted[user] = struct{}{}
		w := h.watched[user]
		_, before := s.watching[user]
		_, owed := s.owed[user]
		switch {
		case before && !owed:
			continue
		case before:
		case w == nil:
			w = &watch{watchers: make(map[Receiver]struct{})}
			h.watched[user] = w
			follow = append(follow, user)
		case len(w.watchers) == 0:
			h.idle--
			follow = append(follow, user)
		}
		w.watchers[r] = struct{}{}
		if w.last != nil {
			present = append(present, w.last)
		}
	}
	for user := range s.watching {
		if _, still := wanted[user]; !still && h.unwatchLocked(r, user) {
			unfollow = append(unfollow, user)
		}
	}
	s.watching, s.owed = wanted, nil
	h.mu.Unlock()
	for _, f := range present {
		r.Deliver(f)
	}
	return follow, unfollow
}

// unwatchLocked reports whether nobody watches user any more.
func (h *Hub) unwatchLocked(r Receiver, user protocol.UserID) bool {
	w := h.watched[user]
	delete(w.watchers, r)
	if len(w.watchers) > 0 {
		return false
	}
	if w.last == nil || h.idle >= maxIdle {
		delete(h.watched, user)
		delete(h.active, user)
	} else {
		h.idle++
	}
	return true
}

// Active reports whether a user is known to be active: somebody follows their presence, and it has come.
func (h *Hub) Active(user protocol.UserID) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	_, active := h.active[user]
	return active
}

// Actives returns all users who are known to be active, in no order. It looks at each of them: ask once for many answers.
func (h *Hub) Actives() []protocol.UserID {
	h.mu.RLock()
	defer h.mu.RUnlock()
	users := make([]protocol.UserID, 0, len(h.active))
	for user := range h.active {
		users = append(users, user)
	}
	return users
}

// forgetPresenceLocked forgets the state of a user whose topic has ended or begun anew.
func (h *Hub) forgetPresenceLocked(user protocol.UserID) {
	w := h.watched[user]
	if w == nil {
		return
	}
	w.last = nil
	delete(h.active, user)
	if len(w.watchers) == 0 {
		delete(h.watched, user)
		h.idle--
	}
}

// publishPresence delivers a change to those who watch. It wants publishing.
func (h *Hub) publishPresence(ev *protocol.Event, user protocol.UserID) {
	f := &Frame{Event: ev}
	h.watchers = h.watchers[:0]
	h.mu.Lock()
	w := h.watched[user]
	if w == nil {
		h.mu.Unlock()
		return
	}
	if w.last != nil && bytes.Equal(w.last.Event.Payload, ev.Payload) {
		// The answer to a subscription that was made anew, or a change there and back.
		h.mu.Unlock()
		h.metrics.coalesced.Inc()
		return
	}
	w.last = f
	state := presenceIn(ev.Payload)
	if state == protocol.Active {
		h.active[user] = struct{}{}
	} else {
		delete(h.active, user)
	}
	for r := range w.watchers {
		if ev.Except == "" || r.User() != ev.Except {
			h.watchers = append(h.watchers, r)
		}
	}
	h.mu.Unlock()
	h.metrics.changed(state)
	all := h.watchers
	unsure := h.stillHear(user)
	h.to = append(h.to[:0], h.watchers)
	if len(ev.Payload) > 0 {
		h.deliver(f)
	}
	clear(h.to)
	clear(all)
	for _, r := range unsure {
		h.unsure(r)
	}
}

// stillHear leaves in watchers those who may hear of a user now, which may have changed since they began to watch: who
// is put out of the last channel that the two shared hears nothing more. It returns those of whom that is not known, who
// are owed the state. It wants publishing.
func (h *Hub) stillHear(user protocol.UserID) (unsure []Receiver) {
	h.watchers = slices.DeleteFunc(h.watchers, func(r Receiver) bool {
		may, known := h.hears(r, user)
		if !may {
			h.metrics.refused.Inc()
		}
		if !known {
			unsure = append(unsure, r)
		}
		return !may
	})
	if len(unsure) == 0 {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(unsure, func(r Receiver) bool {
		s := h.sessions[r]
		if s == nil {
			return true
		}
		if s.owed == nil {
			s.owed = make(map[protocol.UserID]struct{})
		}
		s.owed[user] = struct{}{}
		return false
	})
}

func presenceIn(payload []byte) protocol.Presence {
	if string(protocol.Field(payload, "presence")) == `"active"` {
		return protocol.Active
	}
	return protocol.Away
}

// watches counts the pairs of receiver and watched user.
func (h *Hub) watches() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	n := 0
	for _, w := range h.watched {
		n += len(w.watchers)
	}
	return n
}
