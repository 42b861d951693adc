package edge

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"flannel/protocol"
)

// view is what is on a thin client's screen: the hashes of channels, sorted. See hashID and given for why.
type view []uint32

func (v *view) has(hash uint32) bool {
	_, found := slices.BinarySearch(*v, hash)
	return found
}

// newView returns the view of a list of channels; what is not a channel's id is left out.
func newView(channels []protocol.ChannelID) *view {
	v := make(view, 0, len(channels))
	for _, ch := range channels {
		if protocol.KindOf(protocol.ObjectID(ch)) == protocol.KindChannel {
			v = append(v, hashID(ch))
		}
	}
	slices.Sort(v)
	v = slices.Compact(v)
	return &v
}

// openView returns the view that an address names (view=C1,C2), nil if it names none: everything.
func (o *opening) openView() *view {
	raw, ok := o.params["view"]
	if !ok {
		return nil
	}
	var channels []protocol.ChannelID
	for id := range strings.SplitSeq(raw, ",") {
		if len(channels) < protocol.MaxView {
			channels = append(channels, protocol.ChannelID(id))
		}
	}
	return newView(channels)
}

// setView replaces what is on the client's screen. There is no answer.
func (s *Session) setView(f protocol.ClientFrame) {
	if !s.thin {
		s.fault(f, protocol.SocketErrUnknownType, "views are for thin mode: flannel="+protocol.ThinVersion)
		return
	}
	var v protocol.ViewFrame
	if err := json.Unmarshal(f.Raw, &v); err != nil {
		s.fault(f, protocol.SocketErrBadFrame, "\"channels\" is not a list of strings")
		return
	}
	if len(v.Channels) > protocol.MaxView {
		s.fault(f, protocol.SocketErrBadFrame, fmt.Sprintf("%d channels; the limit is %d", len(v.Channels), protocol.MaxView))
		return
	}
	s.view.Store(newView(v.Channels))
}

// maxBadges bounds the channels whose badges wait. It is above what people are in; should somebody be in more, the badges
// go out early.
const maxBadges = 1000

// fewBadges is up to how many badges a session keeps the memory of the last ones for the next.
const fewBadges = 8

// badges are what a session is to be told of channels out of view.
type badges struct {
	// Session.mu guards these.
	moved map[protocol.ChannelID]struct{} // channels that have moved; at most maxBadges
	due   tick                            // when they are told; 0 while none waits
	told  tick                            // when they were last

	// safe is the resume token of when no badge waited; Session.telling guards it.
	safe string
}

// badgeLater notes that a channel out of view has moved. The keeper tells its badge within a second or so.
func (s *Session) badgeLater(ch protocol.ChannelID) {
	if s.badgeNoted(ch, math.MaxInt) >= maxBadges {
		s.sendBadges()
	}
}

// badgeNoted notes that a channel has moved, and returns how many have; it notes no more than most. Each session has its
// turn in a second, so that what comes to many in one moment does not go out in one, and a second lies between two badges of
// a channel.
func (s *Session) badgeNoted(ch protocol.ChannelID, most int) (moved int) {
	s.mu.Lock()
	if s.badges == nil {
		s.badges = new(badges)
	}
	b := s.badges
	if b.moved == nil {
		b.moved = make(map[protocol.ChannelID]struct{})
	}
	if len(b.moved) < most {
		b.moved[ch] = struct{}{}
	}
	moved = len(b.moved)
	first := b.due == 0
	if first {
		b.due = max(s.round(s.edge.tickAt(s.edge.now()), second), b.told+second)
	}
	at := b.due
	s.mu.Unlock()
	if first {
		s.edge.sessions.need(s, at)
	}
	return moved
}

// tellBadges tells the badges whose time has come. It is the keeper's.
func (s *Session) tellBadges(now tick) {
	if !s.badgesDue(now) {
		return
	}
	s.telling.Lock()
	defer s.telling.Unlock()
	if !s.badgesWait() {
		return
	}
	// Read before they are told: then all that came up to there has been.
	if token := s.edge.doors.Hub.Served(s); s.sendBadgesLocked() {
		s.badges.safe = token
	}
}

// badgesDue reports whether it is time to tell badges, which is over then: whatever moves from now on waits for the next.
func (s *Session) badgesDue(now tick) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.badges
	if b == nil || b.due == 0 || b.due > now {
		return false
	}
	b.due, b.told = 0, now
	return true
}

// sendBadges tells the badges before their second is over.
func (s *Session) sendBadges() {
	s.telling.Lock()
	defer s.telling.Unlock()
	s.sendBadgesLocked()
}

// resumeToken returns the token of a place up to which the client was told everything, its badges included: while some
// wait, that of when none did. It is "" if there is none yet.
func (s *Session) resumeToken() string {
	token := s.edge.doors.Hub.Served(s)
	s.telling.Lock()
	defer s.telling.Unlock()
	if s.badgesWait() {
		return s.badges.safe
	}
	return token
}

func (s *Session) badgesWait() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.badges != nil && len(s.badges.moved) > 0
}

// sendBadgesLocked tells the last state of the channels out of view that have moved. telling must be held: then, when it
// returns, none is on its way either. It reports whether all have been told: not while the node does not know the user's
// state.
func (s *Session) sendBadgesLocked() (all bool) {
	var few [fewBadges]protocol.ChannelID
	moved := few[:0]
	s.mu.Lock()
	if b := s.badges; b != nil {
		for ch := range b.moved {
			moved = append(moved, ch)
		}
		if len(moved) > fewBadges {
			b.moved = nil
		} else {
			clear(b.moved)
		}
	}
	s.mu.Unlock()
	all = true
	for _, ch := range moved {
		m, known := s.edge.doors.Queries.Badge(*s.id, ch)
		switch {
		case !known: // Then the next time; if there is no room for it, what told of the rest was no news either.
			all = false
			s.badgeNoted(ch, maxBadges-1)
			continue
		case m.Channel == "":
			continue // Not theirs any more: the event that says so has told.
		}
		s.edge.metrics.badges.Inc()
		s.deliver(wireText(protocol.MustMarshal(protocol.BadgeFrame{
			Type: protocol.FrameBadge, Channel: ch, Latest: m.Latest.OrZero(), LastRead: m.LastRead.OrZero(),
			MentionCount: m.MentionCount, HasUnreads: m.Latest > m.LastRead,
		})), protocol.ClassMessage, nil)
	}
	return all
}
