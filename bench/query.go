package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flannel/bench/load"
)

// QueryOptions says what is looked up, and how.
type QueryOptions struct {
	Sessions int
	Depths   []int // questions of a session in the air, one object each; a case for each
	Batch    int   // objects in a question, in a case of its own; 0: none
	Air      int   // questions in the air in that case
	Rate     float64
	Warm     time.Duration // before each case counts
	Each     time.Duration // how long each case counts
	Seed     uint64
}

// DefaultQuery is what the target names.
func DefaultQuery() QueryOptions {
	return QueryOptions{Sessions: 50, Depths: []int{1, 16, 64}, Batch: 16, Air: 4, Warm: time.Second, Each: 5 * time.Second, Seed: 1}
}

// restWithin is how long what is in the air at the end of a case may take.
const restWithin = 10 * time.Second

// Query looks objects up that the server knows: single ones at several depths, and batches.
func Query(ctx context.Context, b *Bench, opt QueryOptions) (cases []Case, err error) {
	t := b.Target
	if len(t.IDs) == 0 || len(t.IDs) < opt.Batch {
		return nil, errors.New("there are not enough objects to look up")
	}
	opened, err := b.connect(ctx, t.Name+": connect", opt.Sessions, 0)
	if err != nil {
		return nil, err
	}
	if t.ObjectBytes > 0 {
		if err := b.fill(ctx); err != nil {
			return nil, err
		}
	}
	for _, depth := range opt.Depths {
		c, err := b.ask(ctx, fmt.Sprintf("depth %d", depth), opened, opt, load.Ask{IDs: t.IDs, Batch: 1, Depth: depth, Rate: opt.Rate, Seed: opt.Seed})
		if err != nil {
			return nil, err
		}
		cases = append(cases, c)
	}
	if opt.Batch > 0 {
		c, err := b.ask(ctx, fmt.Sprintf("batches of %d", opt.Batch), opened, opt, load.Ask{IDs: t.IDs, Batch: opt.Batch, Depth: opt.Air, Rate: opt.Rate, Seed: opt.Seed})
		if err != nil {
			return nil, err
		}
		cases = append(cases, c)
	}
	return cases, nil
}

// ask runs one case.
func (b *Bench) ask(ctx context.Context, name string, opened load.Totals, opt QueryOptions, ask load.Ask) (c Case, err error) {
	ask.Rate /= float64(b.Crew.Size())
	if err := b.Crew.All(ctx, load.Command{Do: load.DoAsk, Ask: &ask}); err != nil {
		return c, err
	}
	sleep(ctx, opt.Warm)
	if _, err := b.Crew.Mark(ctx); err != nil {
		return c, err
	}
	m, err := b.measure()
	if err != nil {
		return c, err
	}
	b.wait(ctx, b.Target.Name+": look up, "+name, opt.Each)
	used, err := m.read()
	if err != nil {
		return c, err
	}
	totals, err := b.Crew.Mark(ctx)
	if err != nil {
		return c, err
	}
	if err := b.Crew.All(ctx, load.Command{Do: load.DoRest, PatienceMS: int(restWithin / time.Millisecond)}); err != nil {
		return c, err
	}
	last, err := b.Crew.Mark(ctx)
	if err != nil {
		return c, err
	}
	c = newCase(name, b, opened, totals, load.Totals{Counts: load.Counts{Wrong: last.Counts.Wrong, Dropped: last.Counts.Dropped}, Error: last.Error})
	queries, objects := float64(totals.Counts.Queries), float64(totals.Counts.Objects)
	c.set("sessions", float64(opened.Counts.Opened))
	c.set("queries_per_s", queries/used.took.Seconds())
	c.set("objects_per_s", objects/used.took.Seconds())
	if b.Target.Process != nil && queries > 0 {
		c.set("cpu_us_per_query", float64(used.server.Microseconds())/queries)
		c.set("cpu_us_per_object", float64(used.server.Microseconds())/objects)
	}
	c.times(totals.Times)
	c.generator(used)
	if totals.Counts.Dropped >= opened.Counts.Opened {
		return c, fmt.Errorf("%s, %s: no session is left: %s", b.Target.Name, name, c.Fault)
	}
	return c, ctx.Err()
}

// fill stores the objects at a server that has none.
func (b *Bench) fill(ctx context.Context) error {
	ask := load.Ask{IDs: b.Target.IDs, Batch: 1, Depth: 16, Bytes: b.Target.ObjectBytes}
	if err := b.Crew.All(ctx, load.Command{Do: load.DoFill, Ask: &ask}); err != nil {
		return err
	}
	filled, err := b.Crew.Mark(ctx)
	if err == nil && filled.Counts.Errors() > 0 {
		err = fmt.Errorf("store objects at %s: %s", b.Target.Name, filled.Error)
	}
	return err
}

// wait lets time pass, and shows it.
func (b *Bench) wait(ctx context.Context, phase string, d time.Duration) {
	const step = 100 * time.Millisecond
	total := max(int(d/step), 1)
	for i := range total {
		sleep(ctx, d/time.Duration(total))
		if b.Progress != nil {
			b.Progress(phase, i+1, total)
		}
	}
}
