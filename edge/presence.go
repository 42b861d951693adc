package edge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"flannel/protocol"
)

// askedFor is how long a presence_query's users are followed for its answer.
const askedFor = 5 * time.Second

// presence is what a session knows of those whom it follows. Session.mu guards it.
type presence struct {
	watch   []protocol.UserID // presence_sub's list, sorted
	known   map[protocol.UserID]protocol.Presence
	asked   map[protocol.UserID]time.Time         // presence_query's, and until when
	changed map[protocol.UserID]protocol.Presence // waits for the pulse
	pulsing bool                                  // is on the pulse's list
}

func (s *Session) presenceLocked() *presence {
	if s.presence == nil {
		s.presence = new(presence)
	}
	return s.presence
}

// presenceSub replaces the list of users whose presence the session hears of.
func (s *Session) presenceSub(f protocol.ClientFrame) {
	ids, ok := s.presenceIDs(f)
	if !ok {
		return
	}
	s.mu.Lock()
	s.presenceLocked().watch = ids
	s.mu.Unlock()
	s.follow()
}

// presenceQuery answers the presence of users once. What the session does not follow is followed for a moment.
func (s *Session) presenceQuery(f protocol.ClientFrame) {
	ids, ok := s.presenceIDs(f)
	if !ok {
		return
	}
	until := s.edge.now().Add(askedFor)
	unknown := false
	known := make(map[protocol.UserID]protocol.Presence)
	s.mu.Lock()
	pr := s.presenceLocked()
	for _, id := range ids {
		if p, ok := pr.known[id]; ok {
			known[id] = p
			continue
		}
		if len(pr.watch)+len(pr.asked) >= protocol.MaxPresenceIDs {
			break
		}
		if pr.asked == nil {
			pr.asked = make(map[protocol.UserID]time.Time)
		}
		pr.asked[id] = until
		unknown = true
	}
	s.mu.Unlock()
	s.lookAfter(askedFor)
	if s.doubt(known, until) {
		unknown = true
	}
	for _, id := range ids {
		p, ok := known[id]
		switch {
		case !ok:
		case s.batch:
			s.say(protocol.PresenceChange{Type: protocol.FramePresenceChange, Presence: p, Users: []protocol.UserID{id}})
		default:
			s.say(protocol.PresenceChange{Type: protocol.FramePresenceChange, Presence: p, User: id})
		}
	}
	if unknown {
		s.follow()
	}
}

// doubt takes those out of known of whom the client may not hear any more, as far as the node knows, and has the hub
// forget that they are followed: they are asked for like others whose presence is not known. It reports whether there are any.
func (s *Session) doubt(known map[protocol.UserID]protocol.Presence, until time.Time) bool {
	var doubted []protocol.UserID
	for id := range known {
		if may, _ := s.edge.doors.Queries.Hears(*s.id, id); !may {
			doubted = append(doubted, id)
			delete(known, id)
		}
	}
	if len(doubted) == 0 {
		return false
	}
	s.mu.Lock()
	pr := s.presenceLocked()
	for _, id := range doubted {
		delete(pr.known, id)
		if pr.asked == nil {
			pr.asked = make(map[protocol.UserID]time.Time)
		}
		pr.asked[id] = until // They are within the limit: they were followed.
	}
	s.mu.Unlock()
	s.lookAfter(askedFor)
	s.follow(doubted...)
	return true
}

func (s *Session) presenceIDs(f protocol.ClientFrame) ([]protocol.UserID, bool) {
	var p protocol.PresenceFrame
	if err := json.Unmarshal(f.Raw, &p); err != nil {
		s.fault(f, protocol.SocketErrBadFrame, "\"ids\" is not a list of strings")
		return nil, false
	}
	if len(p.IDs) > protocol.MaxPresenceIDs {
		s.fault(f, protocol.SocketErrBadFrame, fmt.Sprintf("%d ids; the limit is %d", len(p.IDs), protocol.MaxPresenceIDs))
		return nil, false
	}
	ids := p.IDs[:0]
	for _, id := range p.IDs {
		if protocol.KindOf(protocol.ObjectID(id)) == protocol.KindUser {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), true
}

// Rewatch tells the hub anew whom the session follows, beside the caller: which of them it may hear of has to be looked
// at again. It does not block.
func (s *Session) Rewatch() {
	if s.rewatching.CompareAndSwap(false, true) {
		s.aside(func() {
			s.rewatching.Store(false) // Before the look: whoever asks from now on gets another one.
			s.follow()
		})
	}
}

// follow tells the hub whom the session follows now: its list, and those who were asked for, without some.
func (s *Session) follow(without ...protocol.UserID) {
	s.following.Lock()
	defer s.following.Unlock()
	if s.detached {
		return
	}
	s.mu.Lock()
	pr := s.presenceLocked()
	ids := slices.Clone(pr.watch)
	for id := range pr.asked {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	ids = slices.DeleteFunc(ids, func(id protocol.UserID) bool { return slices.Contains(without, id) })
	if len(ids) > protocol.MaxPresenceIDs {
		ids = ids[:protocol.MaxPresenceIDs]
	}
	if s.edge.mute.Load() {
		ids = nil
	}
	unfollowed := func(id protocol.UserID, _ protocol.Presence) bool {
		_, found := slices.BinarySearch(ids, id)
		return !found
	}
	maps.DeleteFunc(pr.known, unfollowed)
	maps.DeleteFunc(pr.changed, unfollowed) // A storm may have held it back for long.
	s.mu.Unlock()
	s.edge.doors.Hub.WatchPresence(s, ids)
}

// learn remembers what a presence event said, so that a query need not ask. It reports whether the client is to be told:
// the first one about somebody only answers a subscription, which quiet clients do not want.
func (s *Session) learn(ev *protocol.Event, user protocol.UserID) bool {
	s.mu.Lock()
	pr := s.presenceLocked()
	defer s.mu.Unlock()
	_, there := pr.known[user]
	_, asked := pr.asked[user]
	if there || len(pr.known) < protocol.MaxPresenceIDs {
		if pr.known == nil {
			pr.known = make(map[protocol.UserID]protocol.Presence)
		}
		pr.known[user] = presenceIn(ev.Payload)
	}
	return there || asked || !s.quiet
}

// presenceIn reads the presence in the payload of a presence event.
func presenceIn(payload []byte) protocol.Presence {
	if bytes.Contains(payload, []byte(`"active"`)) {
		return protocol.Active
	}
	return protocol.Away
}

// forgetAsked stops following those whose query is over.
func (s *Session) forgetAsked(now time.Time) {
	s.mu.Lock()
	pr := s.presence
	if pr == nil {
		s.mu.Unlock()
		return
	}
	changed := false
	for id, until := range pr.asked {
		if now.After(until) {
			delete(pr.asked, id)
			changed = true
		}
	}
	s.mu.Unlock()
	if changed {
		s.aside(func() { s.follow() }) // The hub may take its time, and the keeper has others to look after.
	}
}
