package edge

import (
	"sync/atomic"

	"flannel/protocol"
)

// Resumed is what a session that attaches is told of its past.
type Resumed struct {
	// Mode is protocol.ResumeReplayed, ResumeLossless or ResumeResync; "" if the session did not ask.
	Mode string
	// Events to be said right after hello, in this order, before any live one.
	Events []*protocol.Event
	// Told has the last of Events of each channel whose events up to there may come live as well: they are not said again.
	Told map[protocol.Topic]protocol.Seq
	// Refetch names the topics of what has to be fetched again, or protocol.RefetchAll.
	Refetch []string
	// Token is the one for hello.
	Token string
}

// resumeFrom returns the token that the client continues from, nil if it sent none. One that cannot be read is nobody's:
// the hub then answers that everything has to be fetched again.
func (o *opening) resumeFrom() *protocol.ResumeToken {
	raw, ok := o.params["resume"]
	if !ok || raw == "" {
		return nil
	}
	token, err := protocol.ParseResumeToken(raw)
	if err != nil {
		return &protocol.ResumeToken{}
	}
	return &token
}

// past returns the frames that tell what a session missed, the way it would have been told live, and how many of them are
// events: what is excluded is not, and of a channel out of view comes a badge. Its bounds are the hub's, so it does not
// count against the outbox.
func (s *Session) past(events []*protocol.Event) (frames []item, count int) {
	// What live events bring along meanwhile stands behind all of this, so it counts as given only afterwards.
	var before given
	for _, ev := range events {
		if s.exclude[ev.Type] {
			continue
		}
		objects, frame := s.frame(ev, &wires{about: aboutEvent(ev), alone: true}, &before)
		if objects != nil {
			frames = append(frames, item{frame: objects, class: protocol.ClassMessage})
		}
		if frame != nil {
			frames = append(frames, item{frame: frame, class: ev.Class})
			count++
		}
	}
	s.given.join(&before)
	return frames, count
}

// served reports whether an event's place is one up to which the session was served before it came back: what a topic
// that catches up tells again.
func (s *Session) served(ev *protocol.Event) bool {
	return s.continued > 0 && ev.Seq > 0 && ev.Position <= s.continued
}

// told reports whether a live event was among what the session missed.
func (s *Session) told(ev *protocol.Event) bool {
	past := s.replayed.Load()
	return past != nil && ev.Seq > 0 && ev.Seq <= (*past)[ev.Topic]
}

// withID returns an event's payload for thin sessions: with its id as the last field.
func withID(ev *protocol.Event) []byte {
	id := protocol.EventID(ev)
	if id == "" {
		return ev.Payload
	}
	return protocol.AppendFields(nil, ev.Payload, []byte(`{"event_id":"`+id+`"}`))
}

// lazy is a frame that is made when the first session needs it, as it is and compressed.
type lazy struct{ frame, packed atomic.Pointer[[]byte] }

// get returns the frame for a session.
func (l *lazy) get(s *Session, w *wires, build func() []byte) []byte {
	p := s.edge.press
	if w.alone {
		return p.shrink(wireText(build()), 0, s.window)
	}
	plain := l.frame.Load()
	if plain == nil {
		f := wireText(build())
		plain = &f
		l.frame.Store(plain) // Who comes second stores the same.
	}
	// Longer than what a client can look back: few can so little, and few events are so long.
	if n := len(payloadOf(*plain)); s.window == 0 || n < p.threshold || n > 1<<s.window {
		return *plain
	}
	if f := l.packed.Load(); f != nil {
		return *f
	}
	return *l.pack(p, w, plain)
}

// pack compresses a frame, once.
func (l *lazy) pack(p *press, w *wires, plain *[]byte) *[]byte {
	w.press.Lock()
	defer w.press.Unlock()
	if f := l.packed.Load(); f != nil {
		return f
	}
	frame := plain
	if packed, ok := p.pack(nil, payloadOf(*plain), maxWindow); ok {
		frame = &packed
	}
	l.packed.Store(frame)
	return frame
}
