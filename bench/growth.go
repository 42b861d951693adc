package bench

import (
	"context"
	"errors"
	"time"

	"flannel/bench/load"
)

// GrowthScenario is the name of a sheet whose cases are points of sweeps, "what number" each.
const GrowthScenario = "growth"

// PointOptions says how one point of a sweep is measured.
type PointOptions struct {
	Sessions int
	Rate     float64       // at which they come back, a second
	Settle   time.Duration // how long memory may take to come to rest, each time
}

// DefaultPoint returns options for so many sessions: a point takes some ten seconds.
func DefaultPoint(sessions int) PointOptions {
	return PointOptions{Sessions: sessions, Rate: min(float64(sessions)/2, 800), Settle: 4 * time.Second}
}

// Point measures what a node costs at one size: what it holds, what each session adds, and what coming back costs. A session
// is what the second half of them adds: the first brings what all share, the workspace and its channels.
func Point(ctx context.Context, b *Bench, name string, opt PointOptions) ([]Case, error) {
	if b.Target.Process == nil {
		return nil, errors.New("memory is of a process")
	}
	empty, err := b.settle(ctx, opt.Settle/2)
	if err != nil {
		return nil, err
	}
	half := max(opt.Sessions/2, 1)
	one, err := b.connect(ctx, b.Target.Name+": "+name+": first half", half, 0)
	if err != nil {
		return nil, err
	}
	if err := b.quiet(ctx, 10*time.Second); err != nil {
		return nil, err
	}
	with, err := b.settle(ctx, opt.Settle)
	if err != nil {
		return nil, err
	}
	// Others than those before.
	paths := b.Target.Paths
	if len(paths) > half {
		b.Target.Paths = paths[half:]
	}
	all, err := b.connect(ctx, b.Target.Name+": "+name+": second half", max(opt.Sessions-half, 1), 0)
	b.Target.Paths = paths
	if err != nil {
		return nil, err
	}
	full, err := b.settle(ctx, opt.Settle)
	if err != nil {
		return nil, err
	}
	if err := b.Crew.All(ctx, load.Command{Do: load.DoClose}); err != nil {
		return nil, err
	}
	if err := b.quiet(ctx, 10*time.Second); err != nil {
		return nil, err
	}
	calls := b.Target.calls()
	m, err := b.measure()
	if err != nil {
		return nil, err
	}
	again, err := b.connect(ctx, b.Target.Name+": "+name+": again", opt.Sessions, opt.Rate)
	if err != nil {
		return nil, err
	}
	used, err := m.read()
	if err != nil {
		return nil, err
	}
	c := newCase(name, b, one, all, again)
	c.set("sessions", float64(one.Counts.Opened+all.Counts.Opened))
	c.set("rss_mib", float64(full.Resident-empty.Resident)/(1<<20))
	c.set("rss_kib_per_session", float64(full.Resident-with.Resident)/1024/float64(all.Counts.Opened))
	c.set("cpu_us_per_connect", float64(used.server.Microseconds())/float64(max(again.Counts.Opened, 1)))
	c.set("bytes_per_connect", float64(again.Counts.Bytes)/float64(max(again.Counts.Opened, 1)))
	c.set("backend_calls", float64(b.Target.calls()-calls))
	c.times(again.Times)
	c.generator(used)
	return []Case{c}, nil
}
