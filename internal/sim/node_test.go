package sim_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/node"
	"flannel/protocol"
)

// edgeNode is a real edge node on the simulated network, which can be stopped, killed and started again.
type edgeNode struct {
	w    *world
	name string
	cfg  node.Config

	mu       sync.Mutex
	listener *listener
	n        *node.Node
	ended    chan struct{}
	first    *end // the connection of the stream that was the first in this life
	marks    []mark
}

func newEdgeNode(w *world, name string, rnd *rand.Rand) *edgeNode {
	e := &edgeNode{w: w, name: name, cfg: baseConfig()}
	if !w.plain {
		tighten(&e.cfg, rnd)
	}
	w.gate.marks[name] = func(m mark) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.first == nil {
			e.first = m.wire
		}
		e.marks = append(e.marks, m)
		if w.detailed {
			w.note("%s will have heard %d at %v", name, m.position, m.due.Sub(w.back.born))
		}
	}
	return e
}

// recovery is how long it takes at most until all topics are followed again after a break.
const recovery = 4 * time.Second

// baseConfig is the defaults, but for what a simulated network makes necessary.
func baseConfig() node.Config {
	c := node.Default()
	c.StopTimeout = 2 * time.Second
	c.Edge.Listen, c.Admin.Listen = "sim:0", ""
	c.Edge.RateLimits, c.Edge.DrainTime = false, 100*time.Millisecond
	c.Upstream.URL, c.Upstream.Key = "http://backend", serviceKey
	c.Upstream.ReconnectMax = time.Second
	c.Upstream.Linger = 0
	return c
}

// tighten makes bounds small, so that what is rare in life happens within seconds.
func tighten(c *node.Config, rnd *rand.Rand) {
	// Longer than any outage here, as it is in life: a topic that was given up and is followed again, from where the stream
	// is, tells again what it has told.
	c.Upstream.Linger = time.Duration(25+rnd.IntN(20)) * time.Second
	// With small caches everything is loaded again and again, which must not take as long as it may in a storm.
	c.Upstream.BatchEvery = []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond}[rnd.IntN(3)]
	c.Upstream.BreakerDelay = 200 * time.Millisecond
	c.Cache.Bytes = 16 << 20
	if rnd.IntN(2) == 0 {
		c.Cache.Bytes = int64(1<<10 + rnd.IntN(8<<10)) // bodies are evicted all the time
	}
	c.Cache.Grace = time.Duration(rnd.IntN(4)*rnd.IntN(4)) * time.Second
	if rnd.IntN(3) == 0 {
		c.Cache.RecentEvents = 5 + rnd.IntN(50) // loads are outrun
	}
	if rnd.IntN(4) == 0 {
		c.Cache.Sets = 1 + rnd.IntN(4)
	}
	if rnd.IntN(4) == 0 {
		c.Cache.Identities = 2 + rnd.IntN(6)
	}
	if rnd.IntN(3) == 0 {
		c.Fanout.ReplayEvents = rnd.IntN(40) // what came before is asked of the backend
	}
}

// start builds the node and runs it.
func (e *edgeNode) start() {
	c := &e.cfg.Cache
	e.w.note("%s starts: linger %v, cache %d B, grace %v, recent %d, users %d, sets %d, identities %d, replay %d", e.name, e.cfg.Upstream.Linger, c.Bytes, c.Grace, c.RecentEvents, c.Users, c.Sets, c.Identities, e.cfg.Fanout.ReplayEvents)
	ln := newListener(e.name, e.w.faults)
	n, err := node.New(node.Options{
		Config: e.cfg, Log: slog.New(e.w.logs), Registry: prometheus.NewRegistry(), Listener: ln,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return e.w.gate.listener.dial(ctx, e.name) },
	})
	if err != nil {
		e.w.fail("node %s: %v", e.name, err)
		return
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := n.Run(context.Background()); err != nil {
			e.w.fail("node %s ended: %v", e.name, err)
		}
	}()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listener, e.n, e.ended = ln, n, ended
	e.first, e.marks = nil, nil
}

// stop ends the node: politely, or as kill -9 looks to the others.
func (e *edgeNode) stop(kill bool) {
	e.mu.Lock()
	n, ln, ended := e.n, e.listener, e.ended
	e.n = nil
	e.mu.Unlock()
	if n == nil {
		return
	}
	limit := 3 * time.Second
	if kill {
		limit = 0
		ln.refuse(true)
		ln.cut()
		for _, p := range e.w.gate.listener.pipes(e.name) {
			p.cut()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_ = n.Stop(ctx) // Sessions that are cut off are an error for it, not for us.
	<-ended
	_ = ln.Close()
	ln.cut()
}

// dial connects a client.
func (e *edgeNode) dial(ctx context.Context, from string) (net.Conn, error) {
	e.mu.Lock()
	ln := e.listener
	e.mu.Unlock()
	return ln.dial(ctx, from)
}

// down reports whether the node's stream is down: it has broken, and nothing has come on another one yet.
func (e *edgeNode) down() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(e.marks)
	return n == 0 || e.marks[n-1].wire.cutBefore(time.Now())
}

// heard is the position up to which the node has surely been told everything, 0 if nobody can tell.
func (e *edgeNode) heard() protocol.Position {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	for _, m := range slices.Backward(e.marks) {
		// After a break a watermark counts only when all topics are followed again, which we do not see.
		if m.wire != e.first && m.due.Sub(m.opened) < recovery {
			continue
		}
		if m.due.Before(now) && !m.wire.cutBefore(m.due) {
			return m.position
		}
	}
	return 0
}
