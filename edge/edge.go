package edge

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/url"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"flannel/protocol"
)

// Options of New. All are required.
type Options struct {
	Doors      Doors
	Log        *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
	// HostID names the node to clients.
	HostID string
	// Listener replaces the one that Config.Listen names, in tests; nil otherwise.
	Listener net.Listener
}

// Edge is the front door. It is safe for concurrent use.
type Edge struct {
	// Static after construction.
	cfg      Config
	doors    Doors
	log      *slog.Logger
	now      func() time.Time
	born     time.Time // the wheel's ticks are counted from here
	hostID   string
	metrics  *metrics
	listener net.Listener
	server   *fasthttp.Server
	upgrader websocket.FastHTTPUpgrader
	tickets  *tickets
	rates    *rates
	waiters  waiters
	press    *press
	life     context.Context // ends in Stop: sessions and calls end with it
	end      context.CancelFunc

	admission *admission
	// leaving has a place for each session that is detached or closed at the moment, which does not wait for anything: when
	// thousands end at once, those who stay must not wait for a processor behind all of them. Never closed.
	leaving  chan struct{}
	openers  openers
	pressure atomic.Int32 // a Pressure
	draining atomic.Bool
	refusing atomic.Bool // new sockets are turned away
	mute     atomic.Bool // presence is switched off
	pulse    pulse
	storm    storm

	opened atomic.Uint32  // sessions, ever
	work   sync.WaitGroup // sessions, and the goroutines of the keeper

	sessions wheel // at most Limits.Sessions; they are added while mu is held

	// mu guards what follows. It is taken before the wheel's.
	mu      sync.Mutex
	stopped bool     // no goroutine is added to work any more
	reactor *reactor // nil until it is needed; sessions whose sockets are parked know that it is there
	apart   bool     // no socket is parked: each has its goroutine
}

// New binds the listener, so that Addr is true before Run.
func New(cfg Config, o Options) (*Edge, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	ln := o.Listener
	if ln == nil {
		var err error
		if ln, err = listen(cfg.Listen); err != nil {
			return nil, fmt.Errorf("listen for clients on %q: %w", cfg.Listen, err)
		}
	}
	e := &Edge{
		cfg: cfg, doors: o.Doors, log: o.Log, now: o.Now, born: o.Now(), hostID: o.HostID, metrics: newMetrics(o.Registerer), listener: ln,
		tickets: newTickets(cfg.TicketLife, cfg.MaxTickets, o.Doors.Region, o.Now), rates: newRates(o.Now),
		admission: newAdmission(cfg.Limits()), leaving: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
	}
	e.press = newPress(&e.cfg, e.metrics)
	e.storm.limit = cfg.StormOpens
	e.mute.Store(!cfg.Presence)
	e.metrics.limit.Set(float64(cfg.MaxSessions))
	e.life, e.end = context.WithCancel(context.Background())
	e.server = &fasthttp.Server{
		Name: "flannel", Handler: e.serve, KeepHijackedConns: true, NoDefaultContentType: true, NoDefaultDate: true,
		// Tokens have up to 4 KB, and cookies come on top.
		ReadBufferSize: 8 << 10, WriteBufferSize: 4 << 10, MaxRequestBodySize: protocol.MaxBody, IdleTimeout: cfg.IdleTimeout, ReadTimeout: 30 * time.Second, WriteTimeout: writeWait,
		DisablePreParseMultipartForm: true, // calls are passed on as they came
		// A connection that waits for a request has no buffers, and a hijacked one leaves the reader to others: else it would be
		// garbage of 8 KB for each socket that opens.
		ReduceMemoryUsage: true,
		CloseOnShutdown:   true, Concurrency: 256 << 10, Logger: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug), ErrorHandler: e.badRequest,
	}
	e.upgrader = websocket.FastHTTPUpgrader{ReadBufferSize: 512, WriteBufferSize: 512, WriteBufferPool: new(sync.Pool), CheckOrigin: e.originAllowed}
	return e, nil
}

// Addr returns the address that clients reach.
func (e *Edge) Addr() string { return e.listener.Addr().String() }

// Sessions returns the number of open sockets.
func (e *Edge) Sessions() int {
	return e.sessions.len()
}

// Draining reports whether the node is on its way out.
func (e *Edge) Draining() bool { return e.draining.Load() }

// Advanced tells the edge that the cache has seen all events up to p. It does not block.
func (e *Edge) Advanced(p protocol.Position) { e.waiters.advanced(p) }

// Run serves until Stop.
func (e *Edge) Run() error {
	e.begin(e.keep)
	e.begin(e.beat)
	if err := e.server.Serve(&door{Listener: e.listener, edge: e}); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serve clients: %w", err)
	}
	return nil
}

// begin starts a goroutine that Stop waits for. It reports whether it did: not after Stop.
func (e *Edge) begin(fn func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped {
		return false
	}
	e.work.Go(fn)
	return true
}

// CloseUser closes the sessions of a user, or only those of one token (by its id). It does not block.
func (e *Edge) CloseUser(user protocol.UserID, token string, code protocol.CloseCode) {
	for _, s := range e.sessions.all() {
		if s.id.User == user && (token == "" || s.credential().name == token) {
			s.Close(code, 0)
		}
	}
}

// thinURL is the address that client.getWebSocketURL gives: the token stands in it, and is looked at when the socket opens.
func thinURL(base, token string) string {
	return "ws" + trimScheme(base) + "/?token=" + url.QueryEscape(token) + "&flannel=" + protocol.ThinVersion + "&lazy_channels=1&batch_presence_aware=1&no_query_on_subscribe=1"
}

// socketURL is the address that a ticket is used at.
func socketURL(base, ticket string) string { return "ws" + trimScheme(base) + "/websocket/" + ticket }

// Crowd goes through the sessions of this moment: workspace and user.
func (e *Edge) Crowd() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, s := range e.sessions.all() {
			if !yield(string(s.id.Workspace), string(s.id.User)) {
				return
			}
		}
	}
}
