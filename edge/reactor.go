package edge

import (
	"fmt"
	"net"
	"runtime"
	"sync"
	"syscall"

	"flannel/edge/poll"
)

// reactor does the reading and writing of the sockets that need no goroutine of their own: it has a few for all of them.
// It starts with the first such socket.
type reactor struct {
	poller  *poll.Poller
	writers []writer
	done    sync.WaitGroup
}

// writer writes what waits for some of the sessions, one after the other, without ever waiting for a socket.
type writer struct {
	mu     sync.Mutex
	ready  sync.Cond  // tells of dirty or closed
	dirty  []*Session // each once, and counted in its work
	closed bool
}

func newReactor() (*reactor, error) {
	n := runtime.GOMAXPROCS(0)
	p, err := poll.New(n)
	if err != nil {
		return nil, err
	}
	// One processor is left to whoever delivers: what it puts into outboxes while the writers are busy makes their next
	// writes larger, and a write costs the same whatever it carries.
	r := &reactor{poller: p, writers: make([]writer, max(1, n-1))}
	for i := range r.writers {
		w := &r.writers[i]
		w.ready.L = &w.mu
		r.done.Go(w.run)
	}
	return r, nil
}

// close waits for the goroutines. No session may be left.
func (r *reactor) close() error {
	for i := range r.writers {
		w := &r.writers[i]
		w.mu.Lock()
		w.closed = true
		w.mu.Unlock()
		w.ready.Signal()
	}
	r.done.Wait()
	return r.poller.Close()
}

// add puts a session into the queue, which is as long as there are sessions.
func (w *writer) add(s *Session) {
	w.mu.Lock()
	w.dirty = append(w.dirty, s)
	first := len(w.dirty) == 1
	w.mu.Unlock()
	if first {
		w.ready.Signal()
	}
}

func (w *writer) run() {
	var try poll.Attempt
	var batch []*Session
	buf := make([]byte, 0, coalesce)
	for {
		w.mu.Lock()
		for len(w.dirty) == 0 && !w.closed {
			w.ready.Wait()
		}
		if len(w.dirty) == 0 {
			w.mu.Unlock()
			return
		}
		batch, w.dirty = w.dirty, batch[:0]
		w.mu.Unlock()
		for i, s := range batch {
			batch[i] = nil
			buf = s.writeSafely(&try, buf, false)
		}
	}
}

// reactor returns the reactor, nil if there is none on this system. It wants mu.
func (e *Edge) reactorLocked() *reactor {
	if e.reactor == nil && !e.apart && !e.stopped && poll.Supported {
		r, err := newReactor()
		if err != nil {
			e.apart = true
			e.log.Warn("sockets cannot be parked: each gets a goroutine", "err", err)
			return nil
		}
		e.reactor = r
	}
	return e.reactor
}

// direct returns what it takes to write to a connection without waiting, and to park it: then there is a reactor. It returns nil
// for those that are more than a socket, TLS for instance, and if sockets are not parked.
func (e *Edge) direct(conn net.Conn) syscall.RawConn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	e.mu.Lock()
	r := e.reactorLocked()
	e.mu.Unlock()
	if r == nil {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil { // It is closed: the reader says it.
		e.log.Debug("socket has gone", "err", fmt.Sprint(err))
		return nil
	}
	return raw
}
