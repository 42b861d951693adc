package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// withTLS returns a dial that speaks TLS over what dial opens.
func withTLS(dial dialFunc, config *tls.Config) dialFunc {
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		mine := config
		if mine.ServerName == "" {
			mine = mine.Clone()
			if mine.ServerName, _, err = net.SplitHostPort(address); err != nil {
				_ = c.Close()
				return nil, err
			}
		}
		t := tls.Client(c, mine)
		if err := t.HandshakeContext(ctx); err != nil {
			_ = c.Close()
			return nil, err
		}
		return t, nil
	}
}

// connSet knows the open connections, because the HTTP client cannot be told to give up on one.
type connSet struct {
	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

// add takes a connection in. With idleRead above 0, each read may take that long, instead of a deadline for all of
// them, which would cut a long answer off in the middle; the HTTP client must set none then.
func (s *connSet) add(c net.Conn, idleRead time.Duration) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	s.open[c] = struct{}{}
	return &trackedConn{Conn: c, set: s, idleRead: idleRead}, nil
}

func (s *connSet) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.open {
		_ = c.Close()
	}
	clear(s.open)
}

type trackedConn struct {
	net.Conn
	set      *connSet
	idleRead time.Duration
	// ended: the peer has closed it.
	ended atomic.Bool
}

// Handshake tells fasthttp that TLS, where it is wanted, is there already.
func (c *trackedConn) Handshake() error { return nil }

func (c *trackedConn) Read(p []byte) (int, error) {
	if c.idleRead > 0 {
		if err := c.Conn.SetReadDeadline(time.Now().Add(c.idleRead)); err != nil {
			return 0, err
		}
	}
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		c.ended.Store(true)
	}
	return n, err
}

func (c *trackedConn) Close() error {
	c.set.mu.Lock()
	delete(c.set.open, c.Conn)
	c.set.mu.Unlock()
	return c.Conn.Close()
}

// LocalAddr leads back to the connection: it is all that a response tells of where it came from.
func (c *trackedConn) LocalAddr() net.Addr { return connAddr{c.Conn.LocalAddr(), c} }

type connAddr struct {
	net.Addr
	conn *trackedConn
}

// connOf returns the connection that resp came over, nil if it is not known.
func connOf(resp *fasthttp.Response) *trackedConn {
	if a, ok := resp.LocalAddr().(connAddr); ok {
		return a.conn
	}
	return nil
}
