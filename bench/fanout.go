package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flannel/bench/load"
)

// FanoutOptions says who hears what.
type FanoutOptions struct {
	// PacedTo sessions hear Pace messages a second, each at its time, for PacedFor; 0: none do.
	PacedTo  int
	Pace     float64
	PacedFor time.Duration
	// Subscribers hear as many messages as come through, so many of them in the air: a case for each of InFlight; 0: none do.
	Subscribers int
	InFlight    []int
	Each        time.Duration // how long each case is
	// Text is how many characters the text of a message has; 0: as many as make it 200 bytes.
	Text int
}

// DefaultFanout is what the target names.
func DefaultFanout() FanoutOptions {
	return FanoutOptions{PacedTo: 1000, Pace: 20, PacedFor: 20 * time.Second, Subscribers: 9000, InFlight: []int{1, 8, 64}, Each: 5 * time.Second}
}

// Sessions is the most that there are at once.
func (o *FanoutOptions) Sessions() int { return max(o.PacedTo, o.Subscribers) }

// warmMessages are not counted: before them sessions are given the author and the channel, and code and caches are cold.
const warmMessages = 20

// heardWithin is how long a message may be on its way to the last of all sessions.
const heardWithin = 20 * time.Second

// Fanout says messages in one channel that all sessions have on the screen, and measures their deliveries: at an even pace,
// then as many as come through.
func Fanout(ctx context.Context, b *Bench, opt FanoutOptions) (cases []Case, err error) {
	if b.Target.Publish == nil {
		return nil, errors.New("nobody can say anything at this server")
	}
	if opt.PacedTo > 0 {
		talk, err := b.audience(ctx, opt.PacedTo)
		if err != nil {
			return nil, err
		}
		talk.text = opt.Text
		c, err := talk.run(ctx, "paced", opt.PacedFor, func(ctx context.Context, end time.Time) error { return talk.paced(ctx, opt.Pace, end) })
		if err != nil {
			return nil, err
		}
		cases = append(cases, c)
		if err := b.Crew.All(ctx, load.Command{Do: load.DoClose}); err != nil {
			return nil, err
		}
	}
	if opt.Subscribers == 0 {
		return cases, nil
	}
	talk, err := b.audience(ctx, opt.Subscribers)
	if err != nil {
		return nil, err
	}
	talk.text = opt.Text
	for _, air := range opt.InFlight {
		c, err := talk.run(ctx, fmt.Sprintf("in flight %d", air), opt.Each, func(ctx context.Context, end time.Time) error { return talk.full(ctx, air, end) })
		if err != nil {
			return nil, err
		}
		cases = append(cases, c)
	}
	return cases, nil
}

// talk is what is said to one set of sessions.
type talk struct {
	b      *Bench
	text   int // characters of a message's text, at least
	opened load.Totals
	last   int64          // number of the last message
	air    map[int64]bool // those that not everybody has
}

// audience opens sessions, and says something until all are known to hear.
func (b *Bench) audience(ctx context.Context, sessions int) (*talk, error) {
	opened, err := b.connect(ctx, fmt.Sprintf("%s: connect %d", b.Target.Name, sessions), sessions, 0)
	if err != nil {
		return nil, err
	}
	t := &talk{b: b, opened: opened, air: make(map[int64]bool)}
	if err := b.Crew.All(ctx, load.Command{Do: load.DoListen}); err != nil {
		return nil, err
	}
	if b.Target.Until == "" {
		if err := t.knock(ctx); err != nil {
			return nil, err
		}
	}
	for range warmMessages {
		if err := t.say(ctx, time.Now()); err != nil {
			return nil, err
		}
		if err := t.hear(ctx, 0, heardWithin); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// knock says something until everybody hears it: a server without a hello (nchan) upgrades a connection before it has
// subscribed it. Others have no such excuse.
func (t *talk) knock(ctx context.Context) error {
	const each, tries = 2 * time.Second, 10
	for try := 1; ; try++ {
		if err := t.say(ctx, time.Now()); err != nil {
			return err
		}
		err := t.hear(ctx, 0, each)
		if err == nil || !errors.Is(err, errUnheard) || try == tries {
			return err
		}
		clear(t.air)
	}
}

func (t *talk) say(ctx context.Context, at time.Time) error {
	t.last++
	t.air[t.last] = true
	if err := t.b.Target.Publish(ctx, prose(load.Stamp(t.last, at), t.last, t.text)); err != nil {
		return fmt.Errorf("say something: %w", err)
	}
	return nil
}

// errUnheard ends a case: what is in the air stays there.
var errUnheard = errors.New("a message has not come to everybody")

// hear waits until at most air messages are on their way.
func (t *talk) hear(ctx context.Context, air int, within time.Duration) error {
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	for len(t.air) > air {
		select {
		case n := <-t.b.Crew.Heard():
			delete(t.air, n)
		case <-timeout.C:
			return fmt.Errorf("%w within %v, of %d: %d sessions were lost", errUnheard, within, t.last, t.b.Crew.SoFar().Dropped)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// run measures one case.
func (t *talk) run(ctx context.Context, name string, each time.Duration, speak func(ctx context.Context, end time.Time) error) (c Case, err error) {
	b, first := t.b, t.last
	if _, err := b.Crew.Mark(ctx); err != nil {
		return c, err
	}
	m, err := b.measure()
	if err != nil {
		return c, err
	}
	stop := b.clock(b.Target.Name+": "+name, each)
	err = speak(ctx, time.Now().Add(each))
	if err == nil {
		err = t.hear(ctx, 0, heardWithin)
	}
	used, readErr := m.read()
	stop()
	if err != nil && !errors.Is(err, errUnheard) || readErr != nil {
		return c, errors.Join(err, readErr)
	}
	// What has not come by now is lost.
	if err := b.Crew.All(ctx, load.Command{Do: load.DoRest, Last: t.last, PatienceMS: 1}); err != nil {
		return c, err
	}
	totals, markErr := b.Crew.Mark(ctx)
	if markErr != nil {
		return c, markErr
	}
	clear(t.air)
	if err := b.Crew.All(ctx, load.Command{Do: load.DoListen}); err != nil {
		return c, err
	}
	c = newCase(name, b, t.opened, totals)
	if err != nil {
		c.Fault = err.Error()
	}
	delivered := float64(totals.Counts.Delivered)
	c.set("sessions", float64(t.opened.Counts.Opened))
	c.set("messages_per_s", float64(t.last-first)/used.took.Seconds())
	c.set("deliveries_per_s", delivered/used.took.Seconds())
	if b.Target.Process != nil && delivered > 0 {
		c.set("cpu_us_per_delivery", float64(used.server.Microseconds())/delivered)
	}
	if delivered > 0 {
		c.set("bytes_per_delivery", float64(totals.Counts.Bytes)/delivered)
	}
	c.times(totals.Times)
	c.generator(used)
	return c, nil
}

// paced says messages at an even pace, whatever becomes of them.
func (t *talk) paced(ctx context.Context, pace float64, end time.Time) error {
	began := time.Now()
	for n := 0; ; n++ {
		at := began.Add(time.Duration(float64(n) / pace * float64(time.Second)))
		if !at.Before(end) {
			return nil
		}
		sleep(ctx, time.Until(at))
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.say(ctx, at); err != nil {
			return err
		}
		for more := true; more; {
			select {
			case n := <-t.b.Crew.Heard():
				delete(t.air, n)
			default:
				more = false
			}
		}
	}
}

// full keeps so many messages in the air.
func (t *talk) full(ctx context.Context, air int, end time.Time) error {
	for time.Now().Before(end) {
		for len(t.air) < air {
			if err := t.say(ctx, time.Now()); err != nil {
				return err
			}
		}
		if err := t.hear(ctx, air-1, heardWithin); err != nil {
			return err
		}
	}
	return nil
}

// clock shows how much of a case is over until stop is called.
func (b *Bench) clock(phase string, each time.Duration) (stop func()) {
	const step = 100 * time.Millisecond
	began, total := time.Now(), max(int(each/step), 1)
	return b.watch(phase, total, func(load.Counts) int64 { return int64(time.Since(began) / step) })
}
