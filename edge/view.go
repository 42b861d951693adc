package edge

import (
	"encoding/json"
	"fmt"
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

// badgeLater notes that a channel out of view has moved. The keeper tells its badge within a second.
func (s *Session) badgeLater(ch protocol.ChannelID) {
	s.mu.Lock()
	if s.badges == nil {
		s.badges = make(map[protocol.ChannelID]struct{})
	}
	s.badges[ch] = struct{}{}
	full := len(s.badges) >= maxBadges
	s.mu.Unlock()
	if full {
		s.sendBadges()
	}
}

// tellBadges is the keeper's, once a second: that is how often a channel's badge is told.
func (s *Session) tellBadges() {
	s.telling.Lock()
	defer s.telling.Unlock()
	if !s.badgesWait() {
		return
	}
	// Read before they are told: then all that came up to there has been.
	if token := s.edge.doors.Hub.Served(s); s.sendBadgesLocked() {
		s.safe = token
	}
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
		return s.safe
	}
	return token
}

func (s *Session) badgesWait() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.badges) > 0
}

// sendBadgesLocked tells the last state of the channels out of view that have moved. telling must be held: then, when it
// returns, none is on its way either. It reports whether all have been told: not while the node does not know the user's
// state.
func (s *Session) sendBadgesLocked() (all bool) {
	var few [fewBadges]protocol.ChannelID
	moved := few[:0]
	s.mu.Lock()
	for ch := range s.badges {
		moved = append(moved, ch)
	}
	if len(moved) > fewBadges {
		s.badges = nil
	} else {
		clear(s.badges)
	}
	s.mu.Unlock()
	all = true
	for _, ch := range moved {
		m, known := s.edge.doors.Queries.Badge(s.id, ch)
		switch {
		case !known: // Then the next time; if there is no room for it, what told of the rest was no news either.
			all = false
			s.mu.Lock()
			if s.badges == nil {
				s.badges = make(map[protocol.ChannelID]struct{})
			}
			if len(s.badges) < maxBadges-1 {
				s.badges[ch] = struct{}{}
			}
			s.mu.Unlock()
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
