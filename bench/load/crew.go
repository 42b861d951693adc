package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"
)

// Pipe is a worker that somebody has started.
type Pipe struct {
	In  io.WriteCloser // commands; closing it ends the worker
	Out io.Reader      // reports
	// Wait returns when the worker has ended. It is called once, after In was closed and Out has ended.
	Wait func() error
	// PID is the worker's process, 0 if it is in this one.
	PID int
}

// Spawn starts worker number i.
type Spawn func(i int) (*Pipe, error)

// Totals is what all workers of a crew have counted in a phase.
type Totals struct {
	Counts Counts
	Times  *Times
	// Error is the first thing that went wrong; "" if nothing did.
	Error string
}

// Crew is several workers. Do, Mark and Close are for one goroutine.
type Crew struct {
	members []*member
	readers sync.WaitGroup
	heard   chan int64 // numbers of messages that everybody has; never closed
	endOnce sync.Once

	mu      sync.Mutex
	phase   int
	totals  Totals
	waiting map[int64]int // by message: how many workers do not have it yet
	onTick  func(at time.Time, c Counts, t *Times)
}

// member is one worker.
type member struct {
	pipe *Pipe
	enc  *json.Encoder
	done chan Report // with Done; capacity 16, as many as commands can wait; closed when the worker ends
	err  error       // why its reports ended; set before done is closed
}

// heardRoom is more messages than are ever in the air at once.
const heardRoom = 1 << 16

// Start starts n workers.
func Start(n int, spawn Spawn) (*Crew, error) {
	c := &Crew{heard: make(chan int64, heardRoom), totals: Totals{Times: NewTimes()}, waiting: make(map[int64]int)}
	for i := range n {
		p, err := spawn(i)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("start generator %d: %w", i, err), c.Close())
		}
		m := &member{pipe: p, enc: json.NewEncoder(p.In), done: make(chan Report, 16)}
		c.members = append(c.members, m)
		c.readers.Go(func() { c.read(m) })
	}
	return c, nil
}

// Size is how many workers there are.
func (c *Crew) Size() int { return len(c.members) }

// PIDs are the workers' processes.
func (c *Crew) PIDs() (pids []int) {
	for _, m := range c.members {
		if m.pipe.PID != 0 {
			pids = append(pids, m.pipe.PID)
		}
	}
	return pids
}

// Heard tells the numbers of messages that all connections of all workers have.
func (c *Crew) Heard() <-chan int64 { return c.heard }

// OnTick lets fn be called with each report, from any goroutine, one at a time.
func (c *Crew) OnTick(fn func(at time.Time, c Counts, t *Times)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onTick = fn
}

// read takes a worker's reports until it ends.
func (c *Crew) read(m *member) {
	defer close(m.done)
	dec := json.NewDecoder(m.pipe.Out)
	for {
		var r Report
		if err := dec.Decode(&r); err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("it has ended")
			}
			m.err = err
			return
		}
		if err := c.add(&r); err != nil {
			m.err = err
			return
		}
		if r.Done != "" {
			m.done <- r
		}
	}
}

func (c *Crew) add(r *Report) error {
	times := NewTimes()
	if err := times.mergeText(r.Times); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Phase == c.phase {
		c.totals.Counts.Add(r.Counts)
		c.totals.Times.Merge(times)
		if c.totals.Error == "" {
			c.totals.Error = r.Error
		}
	}
	if c.onTick != nil {
		c.onTick(time.Now(), r.Counts, times)
	}
	for _, n := range r.Heard {
		left, known := c.waiting[n]
		if !known {
			left = len(c.members)
		}
		if left--; left > 0 {
			c.waiting[n] = left
			continue
		}
		delete(c.waiting, n)
		select {
		case c.heard <- n:
		default: // Nobody listens.
		}
	}
	return nil
}

// Do tells every worker the command that fn makes for it, and waits until all are through.
func (c *Crew) Do(ctx context.Context, fn func(i int) Command) error {
	for i, m := range c.members {
		cmd := fn(i)
		if err := m.enc.Encode(&cmd); err != nil {
			return fmt.Errorf("tell generator %d: %w", i, errors.Join(err, m.ended()))
		}
	}
	for i, m := range c.members {
		select {
		case _, ok := <-m.done:
			if !ok {
				return fmt.Errorf("generator %d: %w", i, m.err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// ended is why a worker has ended, nil if it has not.
func (m *member) ended() error {
	select {
	case _, ok := <-m.done:
		if !ok {
			return m.err
		}
	default:
	}
	return nil
}

// All tells every worker the same command.
func (c *Crew) All(ctx context.Context, cmd Command) error {
	return c.Do(ctx, func(int) Command { return cmd })
}

// Mark begins a new phase and returns what was counted in the one before.
func (c *Crew) Mark(ctx context.Context) (Totals, error) {
	if err := c.All(ctx, Command{Do: DoMark}); err != nil {
		return Totals{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase++
	t := c.totals
	c.totals = Totals{Times: NewTimes()}
	return t, nil
}

// SoFar returns what was counted in this phase.
func (c *Crew) SoFar() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.totals.Counts
}

// Connect opens count connections, spread over the workers. rate is of all together. With loopback, workers come from
// addresses of their own.
func (c *Crew) Connect(ctx context.Context, order Connect, count int, rate float64, loopback bool) error {
	n := len(c.members)
	return c.Do(ctx, func(i int) Command {
		o := order
		first := count * i / n
		o.Count = count*(i+1)/n - first
		o.Rate = rate * float64(o.Count) / float64(max(count, 1))
		if len(order.Paths) >= count {
			o.Paths = order.Paths[first : first+o.Count]
		}
		if loopback {
			o.Local = "127.0.0." + strconv.Itoa(2+i%250)
		}
		return Command{Do: DoConnect, Connect: &o}
	})
}

// Close ends the workers and waits for them.
func (c *Crew) Close() (err error) {
	c.endOnce.Do(func() {
		for _, m := range c.members {
			m.pipe.In.Close() //nolint:errcheck // It has ended, then.
		}
		c.readers.Wait()
		for i, m := range c.members {
			if e := m.pipe.Wait(); e != nil {
				err = errors.Join(err, fmt.Errorf("generator %d: %w", i, e))
			}
		}
	})
	return err
}
