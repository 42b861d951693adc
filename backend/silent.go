package backend

import (
	"net"
	"sync"

	"github.com/valyala/fasthttp"
)

// silentConns are the connections that have not made a request yet: clients open some that they never use. The server
// takes them for busy, and would wait for their first word when it stops.
type silentConns struct {
	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	stopped bool
}

// state is told of every change of a connection.
func (s *silentConns) state(c net.Conn, state fasthttp.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case fasthttp.StateNew:
		if s.stopped {
			c.Close() //nolint:errcheck // Nobody has said anything.
			return
		}
		if s.conns == nil {
			s.conns = make(map[net.Conn]struct{})
		}
		s.conns[c] = struct{}{}
	case fasthttp.StateClosed, fasthttp.StateHijacked:
		delete(s.conns, c)
	}
}

// listen returns the handler that takes connections from the silent ones with their first request.
func (s *silentConns) listen(handler fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if ctx.ConnRequestNum() == 1 {
			s.mu.Lock()
			delete(s.conns, ctx.Conn())
			s.mu.Unlock()
		}
		handler(ctx)
	}
}

// stop closes those that there are and that come from now on.
func (s *silentConns) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for c := range s.conns {
		c.Close() //nolint:errcheck // Nobody has said anything.
	}
}
