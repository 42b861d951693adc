package edge

import (
	"context"
	"sync"

	"flannel/protocol"
)

// waiters are answers to writes that are held back until the node has seen the writes' effects.
type waiters struct {
	mu  sync.Mutex
	all map[*waiter]struct{} // guarded by mu; bounded by the calls under way
}

type waiter struct {
	want protocol.Position
	done chan struct{} // closed by advanced when want is reached
}

// wait returns true when the node has reached p, or false when ctx ends before.
func (w *waiters) wait(ctx context.Context, p protocol.Position, applied func() protocol.Position) bool {
	if applied() >= p {
		return true
	}
	me := &waiter{want: p, done: make(chan struct{})}
	w.mu.Lock()
	if w.all == nil {
		w.all = make(map[*waiter]struct{})
	}
	w.all[me] = struct{}{}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.all, me)
		w.mu.Unlock()
	}()
	if applied() >= p { // It may have advanced before me was in the list.
		return true
	}
	select {
	case <-me.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// advanced wakes those who waited for p or less.
func (w *waiters) advanced(p protocol.Position) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for other := range w.all {
		if other.want <= p {
			delete(w.all, other)
			close(other.done)
		}
	}
}
