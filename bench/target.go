package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"flannel/bench/load"
	"flannel/bench/proc"
)

// Target is a server under load.
type Target struct {
	Name    string
	Address string // host:port
	// Language is load.Websocket, or that of a server that is only looked up in.
	Language string
	// Paths are what sessions connect to, one each; fewer are used again. Until is how the frame begins that says: you are in.
	Paths []string
	Until string
	// Process is what is measured; nil if the server runs elsewhere.
	Process *proc.Process
	// Profile is the base URL of the server's pprof pages, over which a garbage collection is asked for; "" if it has none.
	Profile string
	// Compression is offered to the server.
	Compression bool
	// BackendCalls is how many calls the server has sent to what is behind it; nil if there is nothing.
	BackendCalls func() int64
	// Publish says something to all sessions; nil if the server cannot be asked to.
	Publish func(ctx context.Context, text string) error
	// IDs are of objects that can be looked up. A server that has none yet is filled with objects of ObjectBytes.
	IDs         []string
	ObjectBytes int
}

// Bench is what scenarios of load run on: one target and the generators.
type Bench struct {
	Target *Target
	Crew   *load.Crew
	// Loopback lets generators come from loopback addresses of their own.
	Loopback bool
	// Progress is told of each step.
	Progress func(phase string, done, total int)
	// Live is told of each report while Record runs; nil if nobody watches.
	Live *Live
}

// patience is how long one connection may take to be let in: a cold user waits for a batched load.
const patience = 45 * time.Second

// connect opens sessions: rate a second, or parallel at a time, and then whoever is turned away comes again.
func (b *Bench) connect(ctx context.Context, phase string, sessions int, rate float64) (load.Totals, error) {
	t := b.Target
	if _, err := b.Crew.Mark(ctx); err != nil {
		return load.Totals{}, err
	}
	stop := b.watch(phase, sessions, func(c load.Counts) int64 { return c.Opened + c.Refused })
	order := load.Connect{Address: t.Address, Language: t.Language, Paths: t.Paths, Until: t.Until, PatienceMS: int(patience / time.Millisecond), Parallel: 1 + 256/b.Crew.Size(), Again: rate == 0, Compression: t.Compression}
	err := b.Crew.Connect(ctx, order, sessions, rate, b.Loopback)
	stop()
	if err != nil {
		return load.Totals{}, err
	}
	totals, err := b.Crew.Mark(ctx)
	if err == nil && totals.Counts.Opened == 0 {
		err = fmt.Errorf("no session could be opened: %s", totals.Error)
	}
	return totals, err
}

// watch shows how far a phase is until stop is called.
func (b *Bench) watch(phase string, total int, done func(load.Counts) int64) (stop func()) {
	if b.Progress == nil {
		return func() {}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				b.Progress(phase, int(min(done(b.Crew.SoFar()), int64(total-1))), total)
			case <-end:
				b.Progress(phase, total, total)
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}

// settle waits until the server holds no more than it keeps: what the last handshakes have left behind is collected and
// given back, within the time. The least that was seen counts.
func (b *Bench) settle(ctx context.Context, within time.Duration) (proc.Memory, error) {
	t := b.Target
	best, err := t.Process.Memory()
	if err != nil {
		return best, err
	}
	const calm = 3 // seconds without a fall of more than a 200th: collected memory goes back in steps
	end := time.Now().Add(within)
	for still := 0; still < calm; {
		if t.Profile != "" {
			if err := collect(ctx, t.Profile); err != nil {
				return best, err
			}
		}
		if time.Now().After(end) {
			break
		}
		sleep(ctx, time.Second)
		if err := ctx.Err(); err != nil {
			return best, err
		}
		m, err := t.Process.Memory()
		if err != nil {
			return best, err
		}
		still++
		if m.Resident < best.Resident-best.Resident/200 {
			still = 0
		}
		best.Resident = min(best.Resident, m.Resident)
	}
	m, err := t.Process.Memory()
	m.Resident = min(m.Resident, best.Resident)
	return m, err
}

// collect asks a Go server for a garbage collection, which its heap profile offers.
func collect(ctx context.Context, profile string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, profile+"/debug/pprof/heap?gc=1", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask for a garbage collection: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // Read to the end.
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// quiet waits until the server has nothing to do, or for the time.
func (b *Bench) quiet(ctx context.Context, within time.Duration) error {
	const look, idle = 200 * time.Millisecond, 10 * time.Millisecond // a twentieth of a core
	end := time.Now().Add(within)
	before, err := b.Target.Process.CPU()
	if err != nil {
		return err
	}
	for time.Now().Before(end) {
		sleep(ctx, look)
		if err := ctx.Err(); err != nil {
			return err
		}
		cpu, err := b.Target.Process.CPU()
		if err != nil || cpu-before <= idle {
			return err
		}
		before = cpu
	}
	return nil
}

// busy measures processor time over a part of a run: the server's, and the generators'.
type busy struct {
	b      *Bench
	began  time.Time
	server time.Duration
	crew   []time.Duration
}

func (b *Bench) measure() (*busy, error) {
	m := &busy{b: b, began: time.Now()}
	var err error
	if b.Target.Process != nil {
		if m.server, err = b.Target.Process.CPU(); err != nil {
			return nil, err
		}
	}
	for _, pid := range b.Crew.PIDs() {
		cpu, err := proc.Process{PID: pid}.CPU()
		if err != nil {
			return nil, err
		}
		m.crew = append(m.crew, cpu)
	}
	return m, nil
}

// used is what was used since.
type used struct {
	took      time.Duration
	server    time.Duration
	generator float64 // percent of a core, of the busiest one: at 100 it is what was measured
}

func (m *busy) read() (u used, err error) {
	u.took = time.Since(m.began)
	if p := m.b.Target.Process; p != nil {
		cpu, err := p.CPU()
		if err != nil {
			return u, err
		}
		u.server = cpu - m.server
	}
	for i, pid := range m.b.Crew.PIDs() {
		cpu, err := proc.Process{PID: pid}.CPU()
		if err != nil {
			return u, err
		}
		u.generator = max(u.generator, 100*float64(cpu-m.crew[i])/float64(u.took))
	}
	return u, nil
}
