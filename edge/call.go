package edge

import "context"

// call is the context of what a session has under way: it ends with the session, and there is none while nothing is. A
// context that ends by itself when another does costs an idle session more than its socket. Session.mu guards it.
type call struct {
	ctx  context.Context
	stop context.CancelFunc
	uses int
}

// cancelLocked ends what is under way, and every context from now on. mu must be held.
func (s *Session) cancelLocked() {
	s.canceled = true
	if s.call != nil {
		s.call.stop()
	}
}

// context returns a context that ends with the session. leave is to be called when it is not used any more.
func (s *Session) context() (ctx context.Context, leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.call == nil {
		s.call = new(call)
		s.call.ctx, s.call.stop = context.WithCancel(s.edge.life)
		if s.canceled {
			s.call.stop()
		}
	}
	s.call.uses++
	return s.call.ctx, s.leave
}

func (s *Session) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.call.uses--; s.call.uses == 0 {
		s.call.stop()
		s.call = nil
	}
}
