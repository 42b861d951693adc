package bench

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fasthttp/websocket"

	"flannel/bench/load"
)

// Backoff of a client that was not told when to come back: the dialect's, with full jitter.
const (
	backoffMin = 500 * time.Millisecond
	backoffMax = 30 * time.Second
)

// door opens a socket for somebody and reads it until they are back. If it fails, wait is when to come back, 0 if
// nobody said.
type door func(ctx context.Context, p Person) (conn *websocket.Conn, wait time.Duration, err error)

// crowd is people with a socket each. Its methods are for one goroutine.
type crowd struct {
	people []Person
	opt    ReconnectOptions
	rng    *rand.Rand

	cutting atomic.Bool
	wg      sync.WaitGroup // a goroutine per person, which reads their socket
	leave   context.CancelFunc

	mu    sync.Mutex
	conns map[*websocket.Conn]struct{} // open ones
	lost  int                          // sockets that ended while nobody cut them
	last  error                        // why somebody is not back
}

func newCrowd(people []Person, opt ReconnectOptions) *crowd {
	return &crowd{
		people: people, opt: opt, conns: make(map[*websocket.Conn]struct{}),
		rng: rand.New(rand.NewPCG(opt.Seed, uint64(len(people)))), //nolint:gosec // A load, not a secret.
	}
}

// arrival is how one person fared.
type arrival struct {
	took    time.Duration // from their first attempt
	at      time.Time     // when they were back; zero if they are not
	retries int
}

// arrive lets everybody come through a door, each at a random moment of the spread, and returns when all are back or out
// of patience.
func (c *crowd) arrive(ctx context.Context, phase string, open door) Figures {
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	c.leave = cancel
	trying, giveUp := context.WithDeadline(ctx, began.Add(c.opt.Spread+c.opt.Patience))
	defer giveUp()
	arrivals := make(chan arrival, len(c.people)) // One each: nobody waits for the counting.
	for _, p := range c.people {
		delay := time.Duration(c.rng.Int64N(int64(c.opt.Spread) + 1))
		c.wg.Go(func() { c.come(trying, p, began.Add(delay), open, arrivals) })
	}

	f := Figures{Users: len(c.people), times: load.NewTimes()}
	var last time.Time
	took := make([]time.Duration, 0, len(c.people))
	for i := range c.people {
		a := <-arrivals
		f.Retries += a.retries
		if a.at.IsZero() {
			f.Errors++
		} else {
			took = append(took, a.took)
			f.times.Record(int64(a.took))
			if a.at.After(last) {
				last = a.at
			}
		}
		if c.opt.Progress != nil {
			c.opt.Progress(phase, i+1, len(c.people))
		}
	}
	c.mu.Lock()
	f.Errors += c.lost
	c.mu.Unlock()
	if len(took) > 0 {
		slices.Sort(took)
		f.SecondsToLast = last.Sub(began).Seconds()
		f.P50MS, f.P99MS = percentile(took, 50), percentile(took, 99)
	}
	return f
}

// come is one person: they wait for their moment, try until they are back, and then read until they are cut off.
func (c *crowd) come(ctx context.Context, p Person, at time.Time, open door, arrivals chan<- arrival) {
	var a arrival
	backoff := backoffMin
	sleep(ctx, time.Until(at))
	began := time.Now()
	for ctx.Err() == nil {
		conn, wait, err := open(ctx, p)
		if err == nil {
			a.at = time.Now()
			a.took = a.at.Sub(began)
			c.enter(conn)
			arrivals <- a
			c.stay(conn)
			return
		}
		c.mu.Lock()
		c.last = err
		c.mu.Unlock()
		a.retries++
		if wait == 0 {
			wait, backoff = rand.N(backoff), min(2*backoff, backoffMax)
		}
		sleep(ctx, wait)
	}
	arrivals <- a
}

// enter puts a socket on the list.
func (c *crowd) enter(conn *websocket.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns[conn] = struct{}{}
}

// stay reads, which answers pings, until the socket ends.
func (c *crowd) stay(conn *websocket.Conn) {
	for {
		if _, _, err := conn.NextReader(); err != nil {
			break
		}
	}
	conn.Close() //nolint:errcheck // It has ended.
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, conn)
	if !c.cutting.Load() {
		c.lost++
	}
}

// cut ends all connections at once, without a goodbye, and waits until nobody reads any more.
func (c *crowd) cut() {
	c.cutting.Store(true)
	if c.leave != nil {
		c.leave()
	}
	c.mu.Lock()
	for conn := range c.conns {
		conn.NetConn().Close() //nolint:errcheck // That is the point.
	}
	c.mu.Unlock()
	c.wg.Wait()
	c.mu.Lock()
	c.lost, c.last = 0, nil
	c.mu.Unlock()
	c.cutting.Store(false)
}

// failure is why somebody is not back.
func (c *crowd) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		return errors.New("their sockets were closed again")
	}
	return c.last
}

// percentile of sorted times, in milliseconds.
func percentile(sorted []time.Duration, p int) float64 {
	return float64(sorted[min(len(sorted)*p/100, len(sorted)-1)].Microseconds()) / 1000
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
