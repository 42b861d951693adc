package edge

import "context"

// call is the context of what a session has under way: it ends with the session, and there is none while nothing is. A
// context that ends by itself when another does costs an idle session more than its socket. Session.mu guards it.
type call struct {
	ctx  context.Context
	stop context.CancelFunc
	uses int
	over bool // the session has ended: so has every context from now on
}

// cancel ends what is under way.
func (c *call) cancel() {
	c.over = true
	if c.stop != nil {
		c.stop()
	}
}

// context returns a context that ends with the session. leave is to be called when it is not used any more.
func (s *Session) context() (ctx context.Context, leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.call
	if c.uses == 0 {
		c.ctx, c.stop = context.WithCancel(s.edge.life)
		if c.over {
			c.stop()
		}
	}
	c.uses++
	return c.ctx, s.leave
}

func (s *Session) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.call
	if c.uses--; c.uses == 0 {
		c.stop()
		c.ctx, c.stop = nil, nil
	}
}
