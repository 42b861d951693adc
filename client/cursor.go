package client

import (
	"maps"
	"slices"

	"flannel/protocol"
)

// cursor is a place in the stream of events: everything up to Token, and of each topic what is up to Seen. A server
// replays from the token; what was had after it is known by its place in its topic. It is not safe for concurrent use.
type cursor struct {
	Token string                          `json:"token,omitempty"`
	Seen  map[protocol.Topic]protocol.Seq `json:"seen,omitempty"`
}

// step is one thing that moves a cursor, in the order in which the server said it.
type step struct {
	// event, at topic and seq if it has a place.
	event *Event
	// must: the event is taken even if there is no room.
	must bool
	// token, if there is no event: everything at or below it came before this step.
	token string
	// fresh: nothing that was had before counts any more.
	fresh bool
	// keep: a resumed session begins at token; what was had after it stays known, but for the topics in lost, which begin
	// anew.
	keep bool
	lost []string
}

// had reports whether the event was had before.
func (c *cursor) had(ev *Event) bool { return ev.Seq != 0 && ev.Seq <= c.Seen[ev.Topic] }

// admit moves the cursor.
func (c *cursor) admit(s *step) {
	switch {
	case s.event != nil:
		if s.event.Seq == 0 {
			return
		}
		if c.Seen == nil {
			c.Seen = make(map[protocol.Topic]protocol.Seq)
		}
		c.Seen[s.event.Topic] = s.event.Seq
	case s.keep:
		for _, topic := range s.lost {
			delete(c.Seen, protocol.Topic(topic))
		}
		c.Token = s.token
	case s.fresh:
		c.Token = s.token
		clear(c.Seen)
	default:
		// What was had stays known: a token may stand below it, for the server learns a moment later than it delivers that
		// nothing older is on its way. It is one number for each topic that the user was ever in.
		c.Token = s.token
	}
}

func (c *cursor) clone() cursor { return cursor{Token: c.Token, Seen: maps.Clone(c.Seen)} }

// greet returns the step that a hello makes. asked: the client wanted to resume. told is false if everything goes on as
// if nothing had happened; else refetch names what the application has to fetch again.
func greet(h *protocol.Hello, asked bool) (s step, refetch []string) {
	if !asked {
		return step{token: h.ResumeToken, fresh: true}, nil
	}
	switch h.Resume {
	case protocol.ResumeReplayed, protocol.ResumeLossless:
		return step{token: h.ResumeToken, keep: true}, nil
	case protocol.ResumeResync:
		if len(h.Refetch) > 0 && !slices.Contains(h.Refetch, protocol.RefetchAll) {
			return step{token: h.ResumeToken, keep: true, lost: h.Refetch}, h.Refetch
		}
	}
	// All is lost, or the server does not know how to resume.
	return step{token: h.ResumeToken, fresh: true}, []string{protocol.RefetchAll}
}
