package upstream

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errGateWait says that no place came free in time.
var errGateWait = errors.New("no place under the limit in time")

// gate is a counting semaphore whose size can be changed while it is in use. Waiters come in first in, first out.
type gate struct {
	mu sync.Mutex
	// limit and used: used may be above limit after it was lowered; then nobody comes in until it is below.
	limit, used int
	// peak is the highest that used has been.
	peak int
	// waiting are closed when their owner is let in. Bounded by those who wait, whom the batches bound.
	waiting []chan struct{}
}

func newGate(limit int) *gate { return &gate{limit: limit} }

func (g *gate) size() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limit
}

// set changes the size; what is below 1 counts as 1.
func (g *gate) set(limit int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = max(limit, 1)
	g.admitLocked()
}

// acquire takes a place, waiting up to wait for one.
func (g *gate) acquire(ctx context.Context, wait time.Duration) error {
	g.mu.Lock()
	if g.used < g.limit && len(g.waiting) == 0 {
		g.takeLocked()
		g.mu.Unlock()
		return nil
	}
	in := make(chan struct{})
	g.waiting = append(g.waiting, in)
	g.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	err := errGateWait
	select {
	case <-in:
		return nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-timer.C:
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	for i, w := range g.waiting {
		if w == in {
			g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
			return err
		}
	}
	return nil // It was let in at the same moment: the place is taken.
}

func (g *gate) takeLocked() {
	g.used++
	g.peak = max(g.peak, g.used)
}

// highest is the most places that were taken at once.
func (g *gate) highest() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.peak
}

// queued is how many wait for a place.
func (g *gate) queued() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting)
}

func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.used--
	g.admitLocked()
}

func (g *gate) admitLocked() {
	for g.used < g.limit && len(g.waiting) > 0 {
		g.takeLocked()
		close(g.waiting[0])
		g.waiting = g.waiting[1:]
	}
}
