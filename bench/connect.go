package bench

import (
	"context"
	"time"

	"flannel/bench/load"
)

// ConnectOptions says how many come, and how fast.
type ConnectOptions struct {
	Sessions int
	Rate     float64 // a second
}

// DefaultConnect is a rate that leaves a core of a server with headroom, for a few seconds.
func DefaultConnect() ConnectOptions { return ConnectOptions{Sessions: 6000, Rate: 1000} }

// Connect measures what coming in costs: everybody comes once, so that the server knows them, leaves, and comes again at an
// even rate, each at their time whatever became of the others. The second time counts.
func Connect(ctx context.Context, b *Bench, opt ConnectOptions) ([]Case, error) {
	first, err := b.connect(ctx, b.Target.Name+": warm up", opt.Sessions, 0)
	if err != nil {
		return nil, err
	}
	if err := b.Crew.All(ctx, load.Command{Do: load.DoClose}); err != nil {
		return nil, err
	}
	if b.Target.Process != nil {
		if err := b.quiet(ctx, 10*time.Second); err != nil {
			return nil, err
		}
	}
	calls := b.Target.calls()
	m, err := b.measure()
	if err != nil {
		return nil, err
	}
	totals, err := b.connect(ctx, b.Target.Name+": connect", opt.Sessions, opt.Rate)
	if err != nil {
		return nil, err
	}
	used, err := m.read()
	if err != nil {
		return nil, err
	}
	sessions := float64(totals.Counts.Opened)
	c := newCase("connect", b, first, totals)
	c.set("sessions", sessions)
	c.set("connects_per_s", sessions/used.took.Seconds())
	if b.Target.Process != nil {
		c.set("cpu_us_per_connect", float64(used.server.Microseconds())/sessions)
	}
	c.set("bytes_per_connect", float64(totals.Counts.Bytes)/sessions)
	c.times(totals.Times)
	c.generator(used)
	if b.Target.BackendCalls != nil {
		c.set("backend_calls", float64(b.Target.calls()-calls))
	}
	return []Case{c}, nil
}

// calls is how many calls have reached what is behind the server.
func (t *Target) calls() int64 {
	if t.BackendCalls == nil {
		return 0
	}
	return t.BackendCalls()
}
