// Package memnet is a network within the process, for tests: a listener whose connections are pipes. It works in
// testing/synctest bubbles, where sockets do not. Whoever creates a Listener closes it; it starts no goroutines.
package memnet

import (
	"context"
	"net"
	"sync"
	"syscall"
)

// Listener is a net.Listener that is dialed with its own Dial.
type Listener struct {
	conns chan net.Conn // to Accept; unbuffered; never closed
	done  chan struct{}
	once  sync.Once

	mu      sync.Mutex
	refused bool
	open    map[*conn]struct{} // the server's ends
}

// Listen returns an open listener.
func Listen() *Listener {
	return &Listener{conns: make(chan net.Conn), done: make(chan struct{}), open: make(map[*conn]struct{})}
}

// Dial connects to the listener; network and address do not matter. It fails with ECONNREFUSED while the listener is
// closed or refuses.
func (l *Listener) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	refuse := &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	l.mu.Lock()
	refused := l.refused
	l.mu.Unlock()
	if refused {
		return nil, refuse
	}
	client, server := net.Pipe()
	select {
	case l.conns <- l.track(server):
		return client, nil
	case <-l.done:
		return nil, refuse
	case <-ctx.Done():
		return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
	}
}

// Refuse makes Dial fail at once, or lets it work again.
func (l *Listener) Refuse(yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = yes
}

// Cut closes every open connection, as a crash of the server does.
func (l *Listener) Cut() {
	l.mu.Lock()
	open := make([]*conn, 0, len(l.open))
	for c := range l.open {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
}

// Open is the number of connections that the server has not closed.
func (l *Listener) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

func (l *Listener) track(c net.Conn) *conn {
	t := &conn{Conn: c, l: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[t] = struct{}{}
	return t
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Connections stay open.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "mem" }
func (addr) String() string  { return "mem:0" }

type conn struct {
	net.Conn
	l *Listener
}

func (c *conn) Close() error {
	c.l.mu.Lock()
	delete(c.l.open, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}
