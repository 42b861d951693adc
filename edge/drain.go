package edge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"flannel/protocol"
)

// Stop says goodbye to everybody and ends Run. The order: not ready, the delay that balancers need, no new sockets,
// goodbye to the sessions in random order at an even pace, then the listener. When ctx ends, what is left is cut off.
func (e *Edge) Stop(ctx context.Context) error {
	if !e.draining.CompareAndSwap(false, true) {
		return nil
	}
	e.metrics.draining.Set(1)
	sleep(ctx, e.cfg.DrainDelay)
	e.refusing.Store(true)
	if err := e.goodbye(ctx); err != nil {
		e.log.Warn("drain ended early", "sessions", e.Sessions(), "err", err)
	}
	e.mu.Lock()
	e.stopped = true
	left := len(e.sessions)
	e.mu.Unlock()
	e.end()
	for _, s := range e.snapshot() {
		s.raw.Close() //nolint:errcheck // Its reader ends by it.
	}
	err := e.server.ShutdownWithContext(ctx)
	e.listener.Close() //nolint:errcheck // Closed already, unless Run was never called.
	done := make(chan struct{})
	go func() { // Ends with the last session: they have all been closed.
		e.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		err = errors.Join(err, fmt.Errorf("%d sessions did not end in time", left))
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // Connections that were still busy were closed; nothing is lost by it.
	}
	return err
}

// goodbye tells all sessions to go and waits until they are gone.
func (e *Edge) goodbye(ctx context.Context) error {
	all := e.snapshot()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	pace := time.Duration(0)
	if len(all) > 0 {
		pace = e.cfg.DrainTime / time.Duration(len(all))
	}
	began := e.now()
	for i, s := range all {
		e.metrics.remaining.Set(float64(len(all) - i))
		s.Goodbye(protocol.CloseDraining, rand.N(max(e.cfg.ReconnectMin, time.Millisecond)))
		// By the clock, not by the step: a sleep is never shorter than it says.
		if ahead := pace*time.Duration(i+1) - e.now().Sub(began); ahead > time.Millisecond {
			sleep(ctx, ahead)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	e.metrics.remaining.Set(0)
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
