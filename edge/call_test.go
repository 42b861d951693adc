package edge

import (
	"context"
	"testing"
)

// TestContext_OfASession: it ends with the session or the node, is one for all that is under way, and is gone with the last of it.
func TestContext_OfASession(t *testing.T) {
	life, end := context.WithCancel(t.Context())
	s := &Session{edge: &Edge{life: life}}
	a, leaveA := s.context()
	b, leaveB := s.context()
	if a != b || a.Err() != nil {
		t.Error("two contexts, or one that is over")
	}
	leaveA()
	if b.Err() != nil {
		t.Error("the first to leave ended the other's")
	}
	leaveB()
	if b.Err() == nil || s.call != nil {
		t.Error("it is kept although nobody uses it")
	}

	c, leaveC := s.context()
	if c.Err() != nil {
		t.Error("the next one is over")
	}
	s.mu.Lock()
	s.cancelLocked()
	s.mu.Unlock()
	d, leaveD := s.context()
	leaveC()
	leaveD()
	if e, leaveE := s.context(); c.Err() == nil || d.Err() == nil || e.Err() == nil {
		t.Error("the session is over, and a context is not")
	} else {
		leaveE()
	}

	other := &Session{edge: &Edge{life: life}}
	f, leaveF := other.context()
	defer leaveF()
	if end(); f.Err() == nil {
		t.Error("the node has ended, and a context has not")
	}
}
