package client

import (
	"context"
	"iter"
	"sync"
	"time"
)

// Phase is what a client is doing.
type Phase string

// The phases.
const (
	// Connecting: the first connection is on its way.
	Connecting Phase = "connecting"
	// Connected: events come, and questions are answered.
	Connected Phase = "connected"
	// Reconnecting: the connection is lost and comes again by itself; questions wait.
	Reconnecting Phase = "reconnecting"
	// Closed: for ever.
	Closed Phase = "closed"
)

// State is what a user interface may want to show.
type State struct {
	Phase Phase
	// Since is when the phase began.
	Since time.Time
	// Reason is why the client is not connected: a *CloseError, a *HandshakeError or an error of the network. Nil while it
	// is, and before it has ever been lost.
	Reason error
	// Attempt counts the connections tried since it was lost, from 1 on, and NextAt is when the next one begins, while the
	// client waits for it.
	Attempt int
	NextAt  time.Time
}

// states holds the latest state and tells of changes.
type states struct {
	mu      sync.Mutex
	now     State
	changed chan struct{} // closed, and replaced, with every change
}

func newStates() *states {
	return &states{now: State{Phase: Connecting, Since: time.Now()}, changed: make(chan struct{})}
}

// get returns the state, and what is closed when it is another.
func (s *states) get() (State, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.changed
}

// set changes the state; Since stays while the phase does.
func (s *states) set(next State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next.Since = time.Now(); next.Phase == s.now.Phase {
		next.Since = s.now.Since
	}
	s.now = next
	close(s.changed)
	s.changed = make(chan struct{})
}

// State returns what the client is doing.
func (c *Client) State() State {
	now, _ := c.states.get()
	return now
}

// States gives the state, and every later one until ctx or the client ends. A slow reader misses those in between.
func (c *Client) States(ctx context.Context) iter.Seq[State] {
	return func(yield func(State) bool) {
		for {
			now, changed := c.states.get()
			if !yield(now) || now.Phase == Closed {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}
