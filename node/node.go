package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"flannel/affinity"
	"flannel/cache"
	"flannel/edge"
	"flannel/fanout"
	"flannel/query"
	"flannel/upstream"
)

// Config is a node's: the rooms' own, composed.
type Config struct {
	// StopTimeout bounds Stop: sessions that are still there when it is over are cut off.
	StopTimeout time.Duration `koanf:"stop_timeout"`
	// LimitsRaise is how long raising a limit of the running node takes, in even steps of a second: flannel admin limits, SIGHUP.
	LimitsRaise time.Duration `koanf:"limits_raise"`
	// MemoryLimit is how many bytes of memory the node may use. At 80 % of it the garbage collector works harder, at 85 % typing
	// and presence wait, at 90 % new sockets are turned away, at 95 % the sessions for which most waits are closed. 0: the
	// limit of the container, if there is one; -1: none.
	MemoryLimit int `koanf:"memory_limit"`
	// The front door: listeners, sessions, admission, drain.
	Edge edge.Config `koanf:"edge"`
	// The backend that the node stands in front of, and how it is treated.
	Upstream upstream.Config `koanf:"upstream"`
	// What the node remembers, and for how long.
	Cache cache.Config `koanf:"cache"`
	// How reads are answered.
	Query query.Config `koanf:"query"`
	// What the node remembers of events for sessions that come back.
	Fanout fanout.Config `koanf:"fanout"`
	// Other nodes of the region: who they are, and which of them clients are sent to. docs/cluster.md tells how.
	Cluster affinity.Config `koanf:"cluster"`
	// Metrics, health and pprof.
	Admin AdminConfig `koanf:"admin"`
}

// Default returns the defaults.
func Default() Config {
	c := Config{
		StopTimeout: 30 * time.Second, LimitsRaise: time.Minute, Edge: edge.Default(), Upstream: upstream.Default(), Cache: cache.Default(), Query: query.Default(), Fanout: fanout.Default(), Cluster: affinity.Default(), Admin: DefaultAdmin(),
	}
	c.Upstream.URL = "http://127.0.0.1:8090" // where flannel backend listens for edges
	return c
}

// Validate tells every mistake at once.
func (c *Config) Validate() error {
	var errs []error
	if c.StopTimeout <= 0 {
		errs = append(errs, errors.New("stop_timeout: must be above 0"))
	}
	if c.LimitsRaise < 0 {
		errs = append(errs, errors.New("limits_raise: must not be below 0"))
	}
	if c.MemoryLimit < -1 || c.MemoryLimit > 0 && c.MemoryLimit < leastMemory {
		errs = append(errs, fmt.Errorf("memory_limit: must be 0, -1, or at least %d bytes", leastMemory))
	}
	for _, room := range []struct {
		name string
		err  error
	}{{"edge", c.Edge.Validate()}, {"upstream", c.Upstream.Validate()}, {"cache", c.Cache.Validate()}, {"query", c.Query.Validate()}, {"fanout", c.Fanout.Validate()}, {"cluster", c.checkCluster()}, {"admin", c.Admin.Validate()}} {
		if room.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", room.name, room.err))
		}
	}
	return errors.Join(errs...)
}

// Options of New. All are required but Version, Listener and Dial.
type Options struct {
	Config Config
	Log    *slog.Logger
	// Version of the program, shown to people.
	Version string
	// Registry gets the node's metrics and is served on the admin listener.
	Registry *prometheus.Registry
	// Listener and Dial replace the sockets of Config.Edge.Listen and Config.Upstream.URL, in tests; nil otherwise.
	Listener net.Listener
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
}

// Node is one edge node. Run it once; Stop may be called from any goroutine, before Run too.
type Node struct {
	// Static after New.
	cfg      Config
	log      *slog.Logger
	upstream *upstream.Upstream
	cache    *cache.Cache
	query    *query.Service
	hub      *fanout.Hub
	edge     *edge.Edge
	cluster  *affinity.Cluster // nil if the node stands alone
	self     edge.Place        // this node as clients are sent to it; empty if it stands alone
	admin    *Admin            // nil if there is none
	applied  watermark
	top      *workspaces // nil if it is switched off
	limits   *limits
	memory   *memory

	live     chan struct{} // closed when the stream is up for the first time
	liveOnce sync.Once
	drained  chan struct{} // closed by Stop when the edge has drained
	stopOnce sync.Once
	stopErr  error
	running  atomic.Bool
}

// leastMemory is what a node needs when it has just started, several times over.
const leastMemory = 128 << 20

// janitorEvery is how often user states whose grace is over are dropped: the grace is minutes long.
const janitorEvery = 5 * time.Second

// New builds the node and binds its listeners.
func New(o Options) (*Node, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	n := &Node{cfg: o.Config, log: o.Log, live: make(chan struct{}), drained: make(chan struct{}), top: newWorkspaces(o.Config.Admin.TopWorkspaces)}
	if err := n.build(o); err != nil {
		return nil, errors.Join(err, n.tearDown())
	}
	return n, nil
}

// build makes the rooms from the backend to the door.
func (n *Node) build(o Options) (err error) {
	component := func(name string) *slog.Logger { return o.Log.With("component", name) }
	if n.upstream, err = upstream.New(n.cfg.Upstream, upstream.Options{Log: component("upstream"), Registerer: o.Registry, Dial: o.Dial}); err != nil {
		return fmt.Errorf("build upstream: %w", err)
	}
	if n.cache, err = cache.New(cache.Options{Config: n.cfg.Cache, Log: component("cache"), Registerer: o.Registry, Now: time.Now}); err != nil {
		return fmt.Errorf("build cache: %w", err)
	}
	if n.query, err = query.New(query.Options{
		Config: n.cfg.Query, Cache: n.cache, Loader: n.upstream, Sockets: doors{n}, Active: n.active, Actives: n.actives, Log: component("query"), Registerer: o.Registry, Now: time.Now,
	}); err != nil {
		return fmt.Errorf("build query: %w", err)
	}
	n.hub = fanout.New(fanout.Options{
		Config: n.cfg.Fanout, Allow: n.query.Allow, Presence: presence{n.upstream}, Hears: n.hears, Unsure: lookAgain, Lost: tellLost, Log: component("fanout"), Registerer: o.Registry, Now: time.Now,
	})
	joined := edge.Doors{Queries: doors{n}, Writer: n.upstream, Hub: doors{n}}
	if n.cfg.Cluster.On() {
		joined.Region = region{n}
	}
	if n.edge, err = edge.New(n.cfg.Edge, edge.Options{
		Doors: joined, Log: component("edge"), Registerer: o.Registry, Now: time.Now,
		HostID: "flannel-" + strings.ToLower(rand.Text()[:8]), Listener: o.Listener,
	}); err != nil {
		return fmt.Errorf("build edge: %w", err)
	}
	n.limits = newLimits(n)
	n.memory = newMemory(n.cfg.MemoryLimit, n.edge.SetPressure, o.Registry, component("memory"))
	if n.cfg.Cluster.On() {
		if err := n.joinRegion(o); err != nil {
			return err
		}
	}
	if n.admin, err = NewAdmin(n.cfg.Admin, o.Registry, n.ready, component("admin")); err != nil {
		return fmt.Errorf("build admin: %w", err)
	}
	if n.admin != nil {
		n.admin.mux.Handle("GET /debug/workspaces", n.top)
		n.admin.Handle("POST /debug/workspaces/reset", n.top.reset)
		n.admin.Handle("POST /presence/on", func() { n.edge.SetPresence(true) })
		n.admin.Handle("POST /presence/off", func() { n.edge.SetPresence(false) })
		n.admin.mux.Handle("GET /limits", n.limits)
		n.admin.mux.Handle("POST /limits", n.limits)
		n.admin.HandleJSON("GET /cluster", n.showCluster)
		if n.cluster != nil {
			n.admin.Handle("POST /drain", n.cluster.Drain)
			n.admin.Handle("POST /drain/cancel", n.cluster.Resume)
		}
	}
	return nil
}

// ready says why this node should not get traffic. Whether the backend is up is not asked: to serve without it is what
// the cache is for.
func (n *Node) ready() error {
	if n.edge.Draining() || n.cluster != nil && n.cluster.Draining() {
		return errors.New("draining")
	}
	if !n.running.Load() {
		return errors.New("starting")
	}
	return nil
}

// Addr returns the address for clients.
func (n *Node) Addr() string { return n.edge.Addr() }

// AdminAddr returns the address of the admin listener, "" if there is none.
func (n *Node) AdminAddr() string {
	if n.admin == nil {
		return ""
	}
	return n.admin.Addr()
}

// ClusterAddr returns the address of the gossip with other nodes, "" if the node stands alone.
func (n *Node) ClusterAddr() string {
	if n.cluster == nil {
		return ""
	}
	return n.cluster.Addr()
}

// Name returns the node's name among the others, "" if it stands alone.
func (n *Node) Name() string { return n.self.Node }

// WaitReady waits until the stream to the backend is up for the first time.
func (n *Node) WaitReady(ctx context.Context) error {
	select {
	case <-n.live:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the backend's stream: %w", ctx.Err())
	}
}

// Run serves until Stop, or until a part fails.
func (n *Node) Run(ctx context.Context) error {
	n.running.Store(true)
	group, gctx := errgroup.WithContext(ctx)
	life, end := context.WithCancel(gctx) // the upstream's: it outlives the sessions
	defer end()
	group.Go(func() error { return n.upstream.Run(life, sink{n}) })
	group.Go(func() error { return n.janitor(life) })
	group.Go(func() error { return n.query.Audit(life) })
	group.Go(func() error { return n.limits.run(life) })
	group.Go(func() error { return n.memory.run(life) })
	group.Go(n.edge.Run)
	if n.cluster != nil {
		group.Go(func() error { return n.cluster.Run(life) })
		group.Go(func() error {
			if n.WaitReady(life) == nil {
				n.cluster.Serving()
			}
			return nil
		})
	}
	if n.admin != nil {
		group.Go(func() error { return n.admin.Run(life) })
	}
	group.Go(func() error {
		select {
		case <-n.drained:
		case <-gctx.Done(): // a part failed, or the caller did not ask politely
			n.edge.Stop(gctx) //nolint:errcheck // The failure that led here tells more.
		}
		end()
		if n.admin == nil {
			return nil
		}
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return n.admin.Stop(stop)
	})
	err := group.Wait()
	if n.cluster != nil {
		err = errors.Join(err, n.cluster.Close()) // Stop has left with a word; a part that failed had no time for it.
	}
	n.query.Close()
	n.cache.Close()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return err
}

// Stop lets the other nodes send nobody here, drains the clients, leaves, and lets Run end. It is idempotent.
func (n *Node) Stop(ctx context.Context) error {
	n.stopOnce.Do(func() {
		if n.cluster != nil {
			n.cluster.Drain()
		}
		n.stopErr = n.edge.Stop(ctx)
		if n.cluster != nil {
			n.stopErr = errors.Join(n.stopErr, n.cluster.Leave(ctx))
		}
		close(n.drained)
		if !n.running.Load() {
			n.stopErr = errors.Join(n.stopErr, n.tearDown())
		}
	})
	return n.stopErr
}

// tearDown closes what New has built, if Run does not.
func (n *Node) tearDown() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var errs []error
	if n.admin != nil {
		errs = append(errs, n.admin.Stop(ctx), n.admin.listener.Close())
	}
	if n.cluster != nil {
		errs = append(errs, n.cluster.Close())
	}
	if n.edge != nil {
		errs = append(errs, n.edge.Stop(ctx))
	}
	if n.query != nil {
		n.query.Close()
	}
	if n.cache != nil {
		n.cache.Close()
	}
	if n.upstream != nil {
		n.upstream.Close()
	}
	return errors.Join(errs...)
}

// janitor drops user states that nobody needs any more.
func (n *Node) janitor(ctx context.Context) error {
	tick := time.NewTicker(janitorEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			for _, u := range n.cache.Expire(now) {
				n.query.Drop(u)
			}
		case <-ctx.Done():
			return nil
		}
	}
}
