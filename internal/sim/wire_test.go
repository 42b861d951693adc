package sim_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// faults says how bad the network and the backend are. It may change while a seed runs.
type faults struct {
	mu sync.Mutex

	delay   time.Duration // of a write to a connection, at most
	thought time.Duration // of a step of the backend's answer, at most
	refusal int           // per cent of the backend's answers that are 503
	repeats int           // per cent of the stream's frames after which something is said again
	shuffle bool          // topics overtake each other on the stream
}

// calm ends all faults.
func (f *faults) calm() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay, f.thought, f.refusal, f.repeats, f.shuffle = 0, 0, 0, 0, false
}

func (f *faults) lag(rnd *rand.Rand) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return upTo(rnd, f.delay)
}

func (f *faults) think(rnd *rand.Rand) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return upTo(rnd, f.thought)
}

func (f *faults) flaky(rnd *rand.Rand) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return rnd.IntN(100) < f.refusal
}

func (f *faults) stream() (repeats int, shuffle bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.repeats, f.shuffle
}

// upTo is mostly short, and now and then as long as it may be.
func upTo(rnd *rand.Rand, most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	if rnd.IntN(8) > 0 {
		most /= 8
	}
	return time.Duration(rnd.Int64N(int64(most) + 1))
}

// listener is a net.Listener of the simulated network.
type listener struct {
	name   string
	faults *faults
	conns  chan net.Conn
	done   chan struct{}
	once   sync.Once

	mu      sync.Mutex
	dialed  uint64
	refused bool
	open    map[*pipe]struct{}
}

func newListener(name string, f *faults) *listener {
	return &listener{name: name, faults: f, conns: make(chan net.Conn), done: make(chan struct{}), open: make(map[*pipe]struct{})}
}

// dial connects from somebody by name.
func (l *listener) dial(ctx context.Context, from string) (net.Conn, error) {
	l.mu.Lock()
	refused := l.refused
	l.dialed++
	n := l.dialed
	l.mu.Unlock()
	fail := &net.OpError{Op: "dial", Net: "sim", Err: syscall.ECONNREFUSED}
	if refused {
		return nil, fail
	}
	p := newPipe(l, from, n)
	l.mu.Lock()
	l.open[p] = struct{}{}
	l.mu.Unlock()
	select {
	case l.conns <- p.server:
		return p.client, nil
	case <-l.done:
	case <-ctx.Done():
	}
	p.cut()
	return nil, fail
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return address(l.name) }

type address string

// Network implements net.Addr.
func (address) Network() string  { return "sim" }
func (a address) String() string { return string(a) + ":0" }

func (l *listener) refuse(yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = yes
}

// pipes are the connections from somebody that are open, "" for everybody.
func (l *listener) pipes(from string) []*pipe {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []*pipe
	for p := range l.open {
		if from == "" || p.from == from {
			list = append(list, p)
		}
	}
	return list
}

func (l *listener) cut() {
	for _, p := range l.pipes("") {
		p.cut()
	}
}

// pipe is one connection. What is written arrives in order, each write after a delay of its own; other connections are
// overtaken.
type pipe struct {
	l              *listener
	from           string
	n              uint64
	client, server *end
}

func newPipe(l *listener, from string, n uint64) *pipe {
	p := &pipe{l: l, from: from, n: n}
	up, down := newHalf(l, n*2), newHalf(l, n*2+1)
	p.client = &end{pipe: p, in: down, out: up}
	p.server = &end{pipe: p, in: up, out: down}
	return p
}

// cut ends the connection as a dead network does: what is on its way is lost.
func (p *pipe) cut() {
	p.forget()
	for _, h := range []*half{p.client.in, p.client.out} {
		h.change(func() { h.broken = true; h.cutAt = time.Now() })
	}
}

// stall holds back what is written from now on, in both directions.
func (p *pipe) stall(d time.Duration) {
	until := time.Now().Add(d)
	for _, h := range []*half{p.client.in, p.client.out} {
		h.change(func() { h.last = laterOf(h.last, until) })
	}
}

func (p *pipe) forget() {
	p.l.mu.Lock()
	defer p.l.mu.Unlock()
	delete(p.l.open, p)
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// half is one direction.
type half struct {
	faults *faults

	mu      sync.Mutex
	rnd     *rand.Rand
	waiting []segment
	size    int
	last    time.Time // nothing arrives before what was written before
	closed  bool      // by the writer: the reader gets what is there, then EOF
	gone    bool      // the reader is
	broken  bool
	cutAt   time.Time
	changed chan struct{} // closed and replaced with each change
	rdead   time.Time
	wdead   time.Time
}

type segment struct {
	at   time.Time
	data []byte
}

// room bounds what is on its way: a writer to somebody who does not read has to wait.
const pipeRoom = 64 << 10

func newHalf(l *listener, n uint64) *half {
	seed := uint64(0)
	for _, c := range l.name {
		seed = seed*31 + uint64(c)
	}
	return &half{faults: l.faults, rnd: rand.New(rand.NewPCG(seed, n)), changed: make(chan struct{})}
}

func (h *half) change(fn func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fn()
	close(h.changed)
	h.changed = make(chan struct{})
}

// wait unlocks, waits for a change or until a time (if it is not zero), and locks.
func (h *half) wait(until time.Time) {
	ch := h.changed
	h.mu.Unlock()
	defer h.mu.Lock()
	if until.IsZero() {
		<-ch
		return
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-ch:
	case <-timer.C:
	}
}

func earlier(a, b time.Time) time.Time {
	if b.IsZero() || !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		now := time.Now()
		switch {
		case h.broken:
			return 0, &net.OpError{Op: "read", Net: "sim", Err: syscall.ECONNRESET}
		case h.gone:
			return 0, net.ErrClosed
		case !h.rdead.IsZero() && !now.Before(h.rdead):
			return 0, os.ErrDeadlineExceeded
		case len(h.waiting) > 0 && !h.waiting[0].at.After(now):
			n := copy(p, h.waiting[0].data)
			h.size -= n
			if h.waiting[0].data = h.waiting[0].data[n:]; len(h.waiting[0].data) == 0 {
				h.waiting = h.waiting[1:]
			}
			if h.size+n >= pipeRoom { // The writer may wait for it.
				close(h.changed)
				h.changed = make(chan struct{})
			}
			return n, nil
		case len(h.waiting) == 0 && h.closed:
			return 0, io.EOF
		}
		until := h.rdead
		if len(h.waiting) > 0 {
			until = earlier(h.waiting[0].at, until)
		}
		h.wait(until)
	}
}

func (h *half) write(p []byte) (int, error) {
	lag := h.lag()
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		now := time.Now()
		switch {
		case h.broken, h.gone:
			return 0, &net.OpError{Op: "write", Net: "sim", Err: syscall.ECONNRESET}
		case h.closed:
			return 0, net.ErrClosed
		case !h.wdead.IsZero() && !now.Before(h.wdead):
			return 0, os.ErrDeadlineExceeded
		case h.size < pipeRoom:
			h.last = laterOf(h.last, now.Add(lag))
			h.waiting = append(h.waiting, segment{h.last, append([]byte(nil), p...)})
			h.size += len(p)
			close(h.changed)
			h.changed = make(chan struct{})
			return len(p), nil
		}
		h.wait(h.wdead)
	}
}

func (h *half) lag() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.faults.lag(h.rnd)
}

// end is one side of a pipe. It implements net.Conn.
type end struct {
	pipe    *pipe
	in, out *half
}

func (e *end) Read(p []byte) (int, error)  { return e.in.read(p) }
func (e *end) Write(p []byte) (int, error) { return e.out.write(p) }
func (e *end) LocalAddr() net.Addr         { return address(e.pipe.l.name) }
func (e *end) RemoteAddr() net.Addr        { return address(e.pipe.from) }

func (e *end) Close() error {
	e.out.change(func() { e.out.closed = true })
	e.in.change(func() { e.in.gone = true })
	e.pipe.forget()
	return nil
}

func (e *end) SetDeadline(t time.Time) error {
	_ = e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

func (e *end) SetReadDeadline(t time.Time) error {
	e.in.change(func() { e.in.rdead = t })
	return nil
}

func (e *end) SetWriteDeadline(t time.Time) error {
	e.out.change(func() { e.out.wdead = t })
	return nil
}

// due is when the last that was written arrives.
func (e *end) due() time.Time {
	e.out.mu.Lock()
	defer e.out.mu.Unlock()
	return e.out.last
}

// cutBefore reports whether the connection was cut before t.
func (e *end) cutBefore(t time.Time) bool {
	e.out.mu.Lock()
	defer e.out.mu.Unlock()
	return e.out.broken && e.out.cutAt.Before(t)
}
