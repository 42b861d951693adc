package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flannel/bench/load"
)

// OverloadOptions says what comes.
type OverloadOptions struct {
	// Steady sessions hear Pace messages a second, for Each before anything else happens, and then all the time.
	Steady int
	Pace   float64
	Each   time.Duration
	// Storm sessions lose their connection at once, and come back at an even rate within Spread.
	Storm  int
	Spread time.Duration
	// Factors are multiples of the capacity, at each of which people come for Each whether they are let in or not.
	Factors []float64
}

// DefaultOverload is what the target names.
func DefaultOverload() OverloadOptions {
	return OverloadOptions{Steady: 2000, Pace: 5, Each: 10 * time.Second, Storm: 15_000, Spread: 15 * time.Second, Factors: []float64{1, 2, 4}}
}

// Sessions is the most that there are at once.
func (o *OverloadOptions) Sessions() int { return o.Steady + o.Storm }

// Overload measures what steady sessions notice of a storm of reconnects, and what a server still does when more come than it
// can take. crowd are generators for those who come, beside those of b for the steady sessions.
func Overload(ctx context.Context, b *Bench, crowd *load.Crew, opt OverloadOptions) (cases []Case, err error) {
	if b.Target.Publish == nil {
		return nil, errors.New("nobody can say anything at this server")
	}
	o := &overload{OverloadOptions: opt, steady: *b, comers: *b}
	steady, comers := *b.Target, *b.Target
	if all := b.Target.Paths; len(all) > opt.Steady { // Else everybody is somebody else's second session.
		steady.Paths, comers.Paths = all[:opt.Steady], all[opt.Steady:]
	}
	o.steady.Target, o.comers.Target, o.comers.Crew = &steady, &comers, crowd

	// Everybody is there first: a storm is of those who were.
	if _, err := o.comers.connect(ctx, b.Target.Name+": connect", opt.Storm, 0); err != nil {
		return nil, err
	}
	if o.talk, err = o.steady.audience(ctx, opt.Steady); err != nil {
		return nil, err
	}
	quiet, err := o.talk.run(ctx, "steady", opt.Each, func(ctx context.Context, end time.Time) error { return o.talk.paced(ctx, opt.Pace, end) })
	if err != nil {
		return nil, err
	}
	storm, err := o.storm(ctx, &quiet)
	if err != nil {
		return nil, err
	}
	cases = append(cases, quiet, storm)
	if len(opt.Factors) == 0 {
		return cases, nil
	}
	// From here on those who come go again, so that there is room.
	if err := crowd.All(ctx, load.Command{Do: load.DoClose}); err != nil {
		return nil, err
	}
	peak, err := o.peak(ctx)
	if err != nil {
		return nil, err
	}
	offered := []Case{peak}
	for _, factor := range opt.Factors {
		c, err := o.offer(ctx, factor, peak.Figures["goodput_per_s"])
		if err != nil {
			return nil, err
		}
		offered = append(offered, c)
	}
	best := 0.0
	for _, c := range offered {
		best = max(best, c.Figures["goodput_per_s"])
	}
	for _, c := range offered[1:] {
		c.set("goodput_share", c.Figures["goodput_per_s"]/best)
		c.set("p99_times", c.Figures["p99_ms"]/max(quiet.Figures["p99_ms"], 0.001))
	}
	return append(cases, offered...), nil
}

// overload is one run.
type overload struct {
	OverloadOptions
	steady, comers Bench
	talk           *talk
}

// beside says messages to the steady sessions while something happens, and returns the case of what they heard.
func (o *overload) beside(ctx context.Context, name string, during func(ctx context.Context) error) (Case, error) {
	c, err := o.talk.run(ctx, name, o.Spread, func(ctx context.Context, _ time.Time) error {
		failed := make(chan error, 1)
		speaking, cancel := context.WithCancel(ctx)
		go func() {
			err := during(ctx)
			cancel()
			failed <- err
		}()
		err := o.talk.paced(speaking, o.Pace, time.Now().Add(time.Hour))
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		return errors.Join(err, <-failed)
	})
	return c, err
}

// storm lets all comers lose their connections and come back.
func (o *overload) storm(ctx context.Context, quiet *Case) (Case, error) {
	if _, err := o.comers.Crew.Mark(ctx); err != nil {
		return Case{}, err
	}
	var took time.Duration
	var back load.Totals
	c, err := o.beside(ctx, "storm", func(ctx context.Context) (err error) {
		if err := o.comers.Crew.All(ctx, load.Command{Do: load.DoClose}); err != nil {
			return err
		}
		began := time.Now()
		err = o.come(ctx, o.Storm, float64(o.Storm)/o.Spread.Seconds(), load.Connect{Again: true, PatienceMS: int(2 * time.Minute / time.Millisecond)})
		took = time.Since(began)
		if err != nil {
			return err
		}
		back, err = o.comers.Crew.Mark(ctx)
		return err
	})
	if err != nil {
		return c, err
	}
	c.blame(back)
	c.set("back", float64(back.Counts.Opened))
	c.set("turned_away", float64(back.Counts.Turned))
	c.set("seconds_to_last", took.Seconds())
	c.set("back_p99_ms", back.Times.Percentile(99))
	c.set("p99_times", c.Figures["p99_ms"]/max(quiet.Figures["p99_ms"], 0.001))
	return c, nil
}

// peak is the capacity: 64 at a time try to come in, and go when they are in or were turned away.
func (o *overload) peak(ctx context.Context) (Case, error) {
	// Beyond what servers let in at once before a limit shows.
	const first = 10_000
	tries, _, _, err := o.rush(ctx, first)
	if err != nil {
		return Case{}, err
	}
	_, goodput, totals, err := o.rush(ctx, tries*o.Each.Seconds())
	if err != nil {
		return Case{}, err
	}
	c := newCase("peak", &o.steady)
	c.set("turned_away", float64(totals.Counts.Refused))
	c.set("goodput_per_s", goodput)
	c.set("back_p99_ms", totals.Times.Percentile(99))
	return c, nil
}

// rush lets count try, as fast as it goes, and tells how many tries and how many that came in there were a second.
func (o *overload) rush(ctx context.Context, count float64) (tries, goodput float64, t load.Totals, err error) {
	began := time.Now()
	if err := o.come(ctx, int(count), 0, load.Connect{Leave: true, Parallel: 1 + 64/o.comers.Crew.Size(), PatienceMS: int(patience / time.Millisecond)}); err != nil {
		return 0, 0, t, err
	}
	took := time.Since(began).Seconds()
	t, err = o.comers.Crew.Mark(ctx)
	return count / took, float64(t.Counts.Opened) / took, t, err
}

// soon is how long somebody waits to be let in who is not counted as served otherwise.
const soon = 5 * time.Second

// offer lets factor times the capacity come, each at their time, while messages go on to those who are in.
func (o *overload) offer(ctx context.Context, factor, peak float64) (Case, error) {
	offered := factor * peak
	var in load.Totals
	c, err := o.beside(ctx, fmt.Sprintf("offered ×%g", factor), func(ctx context.Context) (err error) {
		err = o.come(ctx, int(offered*o.Each.Seconds()), offered, load.Connect{Leave: true, PatienceMS: int(soon / time.Millisecond)})
		if err != nil {
			return err
		}
		in, err = o.comers.Crew.Mark(ctx)
		return err
	})
	if err != nil {
		return c, err
	}
	// Being turned away is no error here: it is what is asked for.
	c.set("offered_per_s", offered)
	c.set("goodput_per_s", float64(in.Counts.Opened)/o.Each.Seconds())
	c.set("turned_away", float64(in.Counts.Refused))
	c.set("back_p99_ms", in.Times.Percentile(99))
	return c, nil
}

// come lets comers come, and returns when all are in or have given up.
func (o *overload) come(ctx context.Context, count int, rate float64, order load.Connect) error {
	t := o.comers.Target
	order.Address, order.Language, order.Paths, order.Until = t.Address, t.Language, t.Paths, t.Until
	if count < len(order.Paths) {
		order.Paths = order.Paths[:count]
	}
	return o.comers.Crew.Connect(ctx, order, count, rate, o.comers.Loopback)
}

// blame adds what went wrong elsewhere in a case.
func (c *Case) blame(t load.Totals) {
	c.Figures["errors"] += float64(t.Counts.Errors())
	if c.Fault == "" {
		c.Fault = t.Error
	}
}
