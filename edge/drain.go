package edge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"flannel/protocol"
)

// callGrace is how long calls under way may take once the sessions are gone, and silent connections are waited for.
const callGrace = 5 * time.Second

// Stop says goodbye to everybody and ends Run. The order: not ready, the delay that balancers need, no new sockets,
// goodbye to the sessions in random order at an even pace, then the listener, then the calls under way. When ctx ends,
// what is left is cut off. Only the first call does anything.
func (e *Edge) Stop(ctx context.Context) error {
	if !e.draining.CompareAndSwap(false, true) {
		return nil
	}
	e.metrics.draining.Set(1)
	if at, ok := ctx.Deadline(); ok {
		e.metrics.deadline.Set(float64(at.Unix()))
	}
	sleep(ctx, e.cfg.DrainDelay)
	e.refusing.Store(true)
	if err := e.goodbye(ctx); err != nil {
		e.log.Warn("drain ended early", "sessions", e.Sessions(), "err", err)
	}
	for _, s := range e.sessions.all() {
		s.cut()
	}
	calls, cancel := context.WithTimeout(ctx, callGrace)
	defer cancel()
	err := e.server.ShutdownWithContext(calls)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // What was under way is cut off; nothing is lost by it.
	}
	e.listener.Close() //nolint:errcheck // Closed already, unless Run was never called.
	e.mu.Lock()
	e.stopped = true
	e.mu.Unlock()
	e.end()
	done := make(chan struct{})
	go func() { // Ends with the last session: they have all been closed.
		e.work.Wait()
		e.mu.Lock()
		r := e.reactor
		e.mu.Unlock()
		if r != nil {
			if err := r.close(); err != nil {
				e.log.Warn("the poller did not end well", "err", err)
			}
		}
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		// A session that has been cut off needs a moment to see it.
		select {
		case <-done:
		case <-time.After(time.Second):
			err = errors.Join(err, fmt.Errorf("stop sessions: %d are left: %w", e.Sessions(), ctx.Err()))
		}
	}
	return err
}

// goodbye tells all sessions to go and waits until they are gone. New ones are refused by then.
func (e *Edge) goodbye(ctx context.Context) error {
	all := e.sessions.all()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	pace := time.Duration(0)
	if len(all) > 0 {
		pace = e.cfg.DrainTime / time.Duration(len(all))
	}
	began := e.now()
	for i, s := range all {
		s.Goodbye(protocol.CloseDraining, rand.N(max(e.cfg.ReconnectMin, time.Millisecond)))
		e.metrics.remaining.Set(float64(len(all) - i - 1))
		// By the clock, not by the step: a sleep is never shorter than it says.
		if ahead := pace*time.Duration(i+1) - e.now().Sub(began); ahead > time.Millisecond {
			sleep(ctx, ahead)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	for e.Sessions() > 0 {
		sleep(ctx, 10*time.Millisecond)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
