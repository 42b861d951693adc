package bench

import (
	"context"
	"errors"
	"time"
)

// IdleOptions says what is held.
type IdleOptions struct {
	Sessions int
	Settle   time.Duration // how long memory may take to come to rest
	Hold     time.Duration // how long everybody just stays
}

// DefaultIdle is what the target names.
func DefaultIdle() IdleOptions {
	return IdleOptions{Sessions: 15_000, Settle: 30 * time.Second, Hold: 10 * time.Second}
}

// Idle holds sessions that do nothing and measures what they cost: resident memory above the empty process, and processor
// time for staying.
func Idle(ctx context.Context, b *Bench, opt IdleOptions) ([]Case, error) {
	if b.Target.Process == nil {
		return nil, errors.New("idle measures a process: name it with --pid")
	}
	empty, err := b.settle(ctx, min(opt.Settle, 5*time.Second))
	if err != nil {
		return nil, err
	}
	totals, err := b.connect(ctx, b.Target.Name+": connect", opt.Sessions, 0)
	if err != nil {
		return nil, err
	}
	full, err := b.settle(ctx, opt.Settle)
	if err != nil {
		return nil, err
	}
	m, err := b.measure()
	if err != nil {
		return nil, err
	}
	sleep(ctx, opt.Hold)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	used, err := m.read()
	if err != nil {
		return nil, err
	}
	held, err := b.Crew.Mark(ctx)
	if err != nil {
		return nil, err
	}
	sessions := float64(totals.Counts.Opened)
	c := newCase("idle", b, totals, held)
	c.set("sessions", sessions)
	c.set("rss_kib_empty", float64(empty.Resident)/1024)
	c.set("rss_kib_per_session", float64(full.Resident-empty.Resident)/1024/sessions)
	c.set("rss_kib_per_session_peak", float64(full.Peak-empty.Resident)/1024/sessions)
	if used.took > 0 {
		c.set("cpu_percent_idle", 100*float64(used.server)/float64(used.took))
	}
	return []Case{c}, nil
}
