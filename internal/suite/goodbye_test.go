package suite_test

import (
	"sync"
	"testing"

	"flannel/protocol"
)

// TestGoodbye is line 8 of what real clients insist on: after goodbye the server closes the socket itself.
func TestGoodbye(t *testing.T) {
	w := newWorld(t, 12)
	for _, at := range []struct {
		name, base string
		stop       func()
	}{{"edge", w.edgeURL(), w.stopEdge}, {"backend", w.backendURL(), w.stopBack}} {
		t.Run(at.name, func(t *testing.T) {
			s := dial(t, rtmURL(t, at.base, w.member(0), nil), nil)
			s.until("hello", ofType(protocol.FrameHello))
			var stopping sync.WaitGroup
			stopping.Go(at.stop)
			defer stopping.Wait()
			s.until("goodbye", ofType(protocol.FrameGoodbye))
			if code := s.closed(); code != int(protocol.CloseDraining) {
				t.Errorf("closed with %d", code)
			}
		})
	}
}
