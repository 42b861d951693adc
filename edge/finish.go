package edge

import (
	"errors"
	"io"
	"strings"
	"time"

	"github.com/fasthttp/websocket"

	"flannel/protocol"
)

// finish ends what the session began. ended is why reading did; nil if it never began.
func (s *Session) finish(ended error) {
	e := s.edge
	s.booted()
	s.following.Lock()
	s.detached = true
	s.following.Unlock()
	s.detach()
	e.pulse.remove(s)
	s.sort(ended)
	s.cancel()
	s.mu.Lock()
	s.gone, s.ending = true, true
	code, server := s.code, s.server
	s.mu.Unlock()
	s.work.Wait()
	if _, answered := errors.AsType[*websocket.CloseError](ended); !answered {
		s.linger()
	}
	s.conn.Close() //nolint:errcheck // Whatever it says, the socket is over.
	if !s.registered {
		return
	}
	e.metrics.connections.Dec()
	initiator := "client"
	if server {
		initiator = "server"
	}
	e.metrics.closed.WithLabelValues(code.String(), initiator).Inc()
	e.metrics.duration.Observe(e.now().Sub(s.opened).Seconds())
	e.mu.Lock()
	delete(e.sessions, s) // at last: who waits for it finds everything done
	e.mu.Unlock()
}

// detach is the one call of finish that may have a fault: the rest must be done all the same.
func (s *Session) detach() {
	defer s.guard()
	if s.attached {
		s.edge.doors.Hub.Detach(s)
	}
}

// sort gives a session its code that the library has closed by itself, for a frame that the protocol does not allow.
// Nothing of ours may follow its close frame.
func (s *Session) sort(ended error) {
	var code protocol.CloseCode
	_, closed := errors.AsType[*websocket.CloseError](ended)
	switch {
	case ended == nil, closed:
		return
	case errors.Is(ended, websocket.ErrReadLimit):
		code = protocol.CloseTooBig
	case strings.HasPrefix(ended.Error(), "websocket: "): // its own errors have no type
		code = protocol.CloseProtocol
	default:
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ending {
		s.ending, s.code, s.server = true, code, true
		s.out, s.early = outbox{}, outbox{}
	}
}

// linger reads what the client still sends, for a moment: closing a socket with unread bytes resets it, and the client
// would never see our close frame.
func (s *Session) linger() {
	const most = 256 << 10                                        // a few frames that were too large
	s.raw.SetReadDeadline(time.Now().Add(300 * time.Millisecond)) //nolint:errcheck // The read says it.
	io.CopyN(io.Discard, s.raw, most)                             //nolint:errcheck // Any end will do.
}
