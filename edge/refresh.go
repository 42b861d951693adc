package edge

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"flannel/protocol"
)

// credential is what a session proves itself with.
type credential struct {
	token   string
	name    string // of the token in revocations
	expires int64  // in Unix seconds; 0 for never
	since   time.Time
}

// credential returns what the session proves itself with now.
func (s *Session) credential() credential {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.credentialLocked()
}

func (s *Session) credentialLocked() credential {
	if s.renewed != nil {
		return *s.renewed
	}
	return credential{token: s.token, name: s.id.Token, expires: s.id.Expires, since: s.edge.timeOf(s.opened)}
}

// left returns how long the token is still good, if it ends. By the wall clock: that is what its end is written by.
func (c *credential) left(at time.Time) (left time.Duration, ends bool) {
	return time.Unix(c.expires, 0).Sub(at), c.expires > 0
}

// askAhead is how long before the end of its token a session is asked for a new one: tokens that were issued together end
// together, and new ones have to be got from somewhere. Of a token that is short of life, half of what it had: whoever has
// none but such is not to be asked again as soon as they have answered.
func (s *Session) askAhead(c *credential) time.Duration {
	ahead := s.edge.cfg.RefreshAhead
	return min(ahead-ahead/4+s.part(ahead/2), time.Unix(c.expires, 0).Sub(c.since)/2)
}

// askLeftLocked returns how long it is until something is to be done about the token, if it ends.
func (s *Session) askLeftLocked(at time.Time) (left time.Duration, ends bool) {
	c := s.credentialLocked()
	left, ends = c.left(at)
	if ends && s.thin && !s.asked {
		left -= s.askAhead(&c)
	}
	return left, ends
}

// lookAtToken ends a session with its token, and asks for a new one before.
func (s *Session) lookAtToken(at time.Time) {
	s.mu.Lock()
	c := s.credentialLocked()
	left, ends := c.left(at)
	ask := ends && left > 0 && left <= s.askAhead(&c) && s.thin && !s.asked
	if ask {
		s.asked = true // Of this token: whoever puts another one in its place says so under the same lock.
	}
	s.mu.Unlock()
	switch {
	case ends && left <= 0:
		s.Close(protocol.CloseTokenExpired, 0)
	case ask:
		s.edge.metrics.refreshAsked.Inc()
		// Behind hello, if that is not out yet.
		s.deliver(wireText(protocol.MustMarshal(protocol.RefreshAsk{Type: protocol.FrameRefresh, Expires: c.expires})), protocol.ClassControl, nil)
	}
}

// What became of a new token: the label of flannel_token_refresh_total.
const (
	refreshOK          = "ok"
	refreshChanged     = "changed"     // it is taken, but shows other things: the client has to begin anew
	refreshRefused     = "refused"     // it is dead or unknown
	refreshMismatch    = "mismatch"    // it is somebody else's
	refreshLimited     = "ratelimited" // too many, or one is being looked at
	refreshUnavailable = "unavailable" // nobody can tell now
	refreshBad         = "bad"         // it is no token at all
)

var refreshOutcomes = []string{refreshOK, refreshChanged, refreshRefused, refreshMismatch, refreshLimited, refreshUnavailable, refreshBad}

// refresh takes a client's new token, beside the reader.
func (s *Session) refresh(f protocol.ClientFrame) {
	if !s.thin {
		s.fault(f, protocol.SocketErrUnknownType, "refresh is for thin mode: flannel="+protocol.ThinVersion)
		return
	}
	var r protocol.RefreshFrame
	if err := json.Unmarshal(f.Raw, &r); err != nil || r.Token == "" {
		s.edge.metrics.refreshes.WithLabelValues(refreshBad).Inc()
		s.nack(f, protocol.SocketError{Code: protocol.SocketErrBadFrame, Msg: "\"token\" is missing, or no string"})
		return
	}
	wait := s.edge.rates.takeOf(s.id.User, protocol.FrameRefresh, s.edge.cfg.RefreshRate)
	if wait == 0 && !s.refreshOnce() {
		wait = time.Second
	}
	if wait > 0 {
		s.refused(f, refreshLimited, &protocol.Error{Code: protocol.CodeRateLimited, Retry: wait})
		return
	}
	if !s.aside(func() { s.renew(f, r.Token) }) {
		s.refreshDone()
	}
}

// refreshOnce reports whether the session may look at a new token: it looks at one at a time, so that the last one wins.
func (s *Session) refreshOnce() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.renews {
		return false
	}
	s.renews = true
	return true
}

func (s *Session) refreshDone() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renews = false
}

// refused tells why a token is not taken. The session stays as it was.
func (s *Session) refused(f protocol.ClientFrame, outcome string, e *protocol.Error) {
	s.edge.metrics.refreshes.WithLabelValues(outcome).Inc()
	s.nack(f, protocol.SocketError{Code: protocol.SocketErrMessage, Msg: string(e.Code), RetryAfter: seconds(e.Retry)})
}

// renew looks at a new token and goes on with it.
func (s *Session) renew(f protocol.ClientFrame, token string) {
	defer s.refreshDone()
	ctx, leave := s.context()
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, s.edge.cfg.CallTimeout)
	defer cancel()
	identify := s.edge.doors.Queries.Identify
	id, err := identify(ctx, token)
	switch pe := protocol.AsError(err); {
	case err == nil && (id.User != s.id.User || id.Workspace != s.id.Workspace):
		s.refused(f, refreshMismatch, &protocol.Error{Code: protocol.CodeTokenMismatch})
		return
	case err == nil:
	case pe.Code == protocol.CodeUnavailable, pe.Code == protocol.CodeRateLimited, pe.Code == protocol.CodeInternal:
		pe.Retry = max(pe.Retry, time.Second)
		s.refused(f, refreshUnavailable, pe)
		return
	default:
		s.refused(f, refreshRefused, &protocol.Error{Code: pe.Code}) // Coming again with it does not help.
		return
	}
	s.mu.Lock()
	s.renewed, s.asked = &credential{token: token, name: id.Token, expires: id.Expires, since: s.edge.now()}, false
	s.mu.Unlock()
	// Again, now that a revocation finds the session by its new name: one that came in between did not.
	if id, err = identify(ctx, token); err != nil && dead(err) {
		s.edge.metrics.refreshes.WithLabelValues(refreshRefused).Inc()
		s.Close(protocol.CloseTokenRevoked, 0)
		return
	}
	at := s.edge.now()
	now := s.edge.tickAt(at)
	s.edge.sessions.need(s, s.dueAfter(now, at))
	s.say(protocol.Refreshed{OK: true, ReplyTo: f.ID, Expires: s.credential().expires})
	if err == nil && !s.sees(id) {
		s.edge.metrics.refreshes.WithLabelValues(refreshChanged).Inc()
		s.Goodbye(protocol.CloseResync, 0)
		return
	}
	s.edge.metrics.refreshes.WithLabelValues(refreshOK).Inc()
}

// dead reports whether an error says that a token is of no use any more, rather than that nobody can tell.
func dead(err error) bool {
	switch protocol.AsError(err).Code {
	case protocol.CodeInvalidAuth, protocol.CodeTokenRevoked, protocol.CodeTokenExpired, protocol.CodeAccountInactive, protocol.CodeNotAuthed:
		return true
	}
	return false
}

// sees reports whether an identity shows what the session's shows. Which channels somebody is in is not told by tokens.
func (s *Session) sees(id *protocol.Identity) bool {
	have := s.id
	return id.Role.Full() == have.Role.Full() && id.Enterprise == have.Enterprise && id.Bot == have.Bot && slices.Equal(slices.Sorted(slices.Values(id.Workspaces)), slices.Sorted(slices.Values(have.Workspaces)))
}
