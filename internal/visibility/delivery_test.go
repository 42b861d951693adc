package visibility

import (
	"bytes"
	"slices"

	"flannel/protocol"
)

// hearing is what the judge remembers of a session.
type hearing struct {
	// got has the events that came, by their place; what came before a resume is in it too.
	got map[string]bool
	// seqs has the last seq of each topic that came on this very socket.
	seqs map[protocol.Topic]protocol.Seq
	// whole is the position up to which it was checked that everything came.
	whole protocol.Position
}

// begin is called when hello is judged. A session that continues another one inherits what that one heard.
func (s *session) begin() {
	s.heard = &hearing{got: make(map[string]bool), seqs: make(map[protocol.Topic]protocol.Seq), whole: s.first.to}
	if b := s.before; b != nil && b.heard != nil && (s.hi.Resume == protocol.ResumeReplayed || s.hi.Resume == protocol.ResumeLossless) {
		s.heard.got, s.heard.whole = b.heard.got, b.heard.whole
	}
}

// event finds the event in the log that a frame is, and returns its payload as the log has it; nil if it is none.
func (o one) event() (*protocol.Event, []byte) {
	if o.session == nil {
		return nil, nil
	}
	body := o.body
	id := ""
	if i := bytes.LastIndex(body, []byte(`,"event_id":"`)); i > 0 {
		id = string(bytes.TrimSuffix(body[i+len(`,"event_id":"`):], []byte(`"}`)))
		body = append(bytes.Clone(body[:i]), '}')
	}
	found := o.l.said[string(body)]
	if o.what == protocol.FrameUserInvalidated { // In place of the event that it names.
		topic, seq, _ := protocol.ParseEventID(id)
		i := slices.IndexFunc(o.l.events, func(ev *protocol.Event) bool { return ev.Topic == topic && ev.Seq == seq })
		if i < 0 {
			return nil, nil
		}
		return o.l.events[i], o.l.events[i].Payload
	}
	if len(found) == 0 {
		return nil, nil
	}
	// The same words may be said on several topics: by its id, or the one that is this session's.
	for _, ev := range found {
		if id == protocol.EventID(ev) || id == "" && (len(found) == 1 || o.mayHear(ev)) {
			return ev, body
		}
	}
	return found[0], body
}

// mayHear reports whether an event may be delivered to the viewer.
func (o one) mayHear(ev *protocol.Event) bool {
	switch protocol.KindOf(protocol.ObjectID(ev.Topic)) {
	case protocol.KindUser:
		return ev.Topic == protocol.Topic(o.who.id)
	case protocol.KindChannel:
		return o.l.hears(o.who.id, ev) && ev.Except != o.who.id
	case protocol.KindWorkspace:
		return within(o.from, o.to, func(p protocol.Position) bool {
			return o.l.belongs(o.who.id, p, protocol.WorkspaceID(ev.Topic)) || o.l.seesAll(o.who.id, ev, p)
		})
	default:
		return false
	}
}

// seesAll reports whether everything that an event of a workspace tells of is visible to somebody.
func (l *ledger) seesAll(who protocol.UserID, ev *protocol.Event, p protocol.Position) bool {
	found := false
	for _, s := range append(secrets.FindAll(ev.Payload, -1), names.FindAll(ev.Payload, -1)...) {
		if !l.sees(who, l.thingOf(string(s)), p) {
			return false
		}
		found = true
	}
	for _, m := range channelIDs.FindAllSubmatch(ev.Payload, -1) {
		ch := protocol.ChannelID(m[1])
		if l.channels[ch] == nil {
			continue
		}
		if !l.seesChannel(who, ch, p) {
			return false
		}
		found = true
	}
	return found
}

// about is what an event tells of, for the table.
func about(ev *protocol.Event) thing {
	if protocol.KindOf(protocol.ObjectID(ev.Topic)) == protocol.KindChannel {
		return thing{"ch", string(ev.Topic)}
	}
	return thing{}
}

// delivered judges an event that came.
func (o one) delivered(ev *protocol.Event, _ []byte) {
	s := o.session
	row := rowDelivery
	if s.before != nil && s.first != nil && ev.Position <= s.first.to {
		row = rowReplay
	}
	o.t.check(row, o.column(about(ev)), o.mayHear(ev), "%s of %s (seq %d, at %d) to %s at %d to %d: %s", ev.Type, ev.Topic, ev.Seq, ev.Position, s, o.from, o.to, o.excerpt())
	if s.heard == nil {
		o.t.fault("ORDER an event before hello to %s", s)
		return
	}
	if last := s.heard.seqs[ev.Topic]; ev.Seq <= last {
		o.t.fault("ORDER %s gets %s:%d after %d", s, ev.Topic, ev.Seq, last)
	}
	s.heard.seqs[ev.Topic] = ev.Seq
	s.heard.got[protocol.EventID(ev)] = true
}

// complete checks that open sessions have heard everything since hello, or since the last time.
func (j *judge) complete(sessions []*session, since protocol.Position) {
	for _, s := range sessions {
		if s.heard == nil || s.mode == viewing {
			continue
		}
		for _, ev := range j.l.events {
			if ev.Position <= s.heard.whole || len(ev.Payload) == 0 || !j.mustHear(s, ev, since) {
				continue
			}
			j.t.expect(rowDelivery, j.l.viewer(s.a.id, s.token, about(ev), j.l.head), s.heard.got[protocol.EventID(ev)],
				"%s of %s (seq %d, at %d) did not come to %s (hello %s at %d): %s", ev.Type, ev.Topic, ev.Seq, ev.Position, s, s.hi.Resume, s.first.to, ev.Payload)
		}
		s.heard.whole = j.l.head
	}
}

// mustHear reports whether an event must come to a session. Where two topics decide together, only what was so all the
// time around the event counts, for topics have no order among each other.
func (j *judge) mustHear(s *session, ev *protocol.Event, since protocol.Position) bool {
	who := s.a.id
	switch protocol.KindOf(protocol.ObjectID(ev.Topic)) {
	case protocol.KindUser:
		return ev.Topic == protocol.Topic(who)
	case protocol.KindChannel:
		return j.l.hears(who, ev) && ev.Except != who
	case protocol.KindWorkspace:
		team := protocol.WorkspaceID(ev.Topic)
		for p := max(since, j.l.start); p <= j.l.head; p++ {
			if !j.l.belongs(who, p, team) && (team != s.a.team || !j.l.seesAll(who, ev, p)) {
				return false
			}
		}
		return true
	default:
		return false
	}
}
