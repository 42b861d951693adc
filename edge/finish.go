package edge

import (
	"errors"
	"io"
	"runtime"
	"time"
)

// finish ends what the session began, when nobody reads any more. ended is why; nil if it never began.
func (s *Session) finish(ended error) {
	e := s.edge
	s.booted()
	s.following.Lock()
	s.detached = true
	s.following.Unlock()
	e.leave(s.detach)
	e.pulse.remove(s)
	s.mu.Lock()
	s.cancelLocked()
	s.gone, s.ending = true, true
	code, server := s.code, s.server
	s.mu.Unlock()
	s.work.Wait()
	if !errors.Is(ended, errSaidClose) {
		s.linger()
	}
	e.leave(func() { s.raw.Close() }) //nolint:errcheck // Whatever it says, the socket is over.
	if !s.registered {
		return
	}
	e.metrics.connections.Dec()
	if s.window > 0 {
		e.metrics.compressing.Dec()
	}
	initiator := "client"
	if server {
		initiator = "server"
	}
	e.metrics.closed.WithLabelValues(code.String(), initiator).Inc()
	e.metrics.duration.Observe(e.now().Sub(e.timeOf(s.opened)).Seconds())
	e.sessions.remove(s) // at last: who waits for it finds everything done
}

// leave runs what takes a session away and does not wait for anything, when it is its turn.
func (e *Edge) leave(fn func()) {
	e.leaving <- struct{}{}
	defer func() { <-e.leaving }()
	fn()
	// The next one is handed the rest of this one's time on the processor, and so on: a long queue would keep it from
	// those who deliver.
	runtime.Gosched()
}

// detach is the one call of finish that may have a fault: the rest must be done all the same.
func (s *Session) detach() {
	defer s.guard()
	if s.attached {
		s.edge.doors.Hub.Detach(s)
	}
}

// linger reads what the client still sends, for a moment: closing a socket with unread bytes resets it, and the client
// would never see our close frame.
func (s *Session) linger() {
	const most = 256 << 10                                        // a few frames that were too large
	s.raw.SetReadDeadline(time.Now().Add(300 * time.Millisecond)) //nolint:errcheck // The read says it.
	io.CopyN(io.Discard, s.raw, most)                             //nolint:errcheck // Any end will do.
}
