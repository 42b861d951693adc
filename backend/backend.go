// Package backend is the reference chat backend as a value: one process with a store, the Web API and the sockets on one
// listener, and the upstream contract for edges on another. It knows nothing of the edge; the two meet at the contract.
package backend

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"

	"flannel/backend/channels"
	"flannel/backend/gateway"
	"flannel/backend/presence"
	"flannel/backend/rtm"
	"flannel/backend/store"
	"flannel/backend/token"
	"flannel/backend/webapi"
	"flannel/protocol"
)

// Options are what a backend is made of. All are needed.
type Options struct {
	Config     Config
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Backend is a backend that has bound its listeners. Run serves; Stop ends it, whether it ran or not.
type Backend struct {
	config   Config
	log      *slog.Logger
	key      string
	store    store.Store
	unlock   func()
	tokens   *token.Signer
	hub      *channels.Hub
	presence *presence.Presence
	sockets  *rtm.Server
	gateway  *gateway.Gateway

	web, upstream                 *fasthttp.Server
	silent                        silentConns // of both
	webListener, upstreamListener net.Listener

	// stopping is closed when Stop begins, stopped when it is over; stopErr may be read then.
	stopping, stopped chan struct{}
	stopOnce          sync.Once
	stopErr           error
	// running is held by Run.
	running sync.Mutex
}

// New opens the data folder and binds the listeners. What it opened before it failed is closed again.
//
//	clients ──▶ web listener ─┬─ /api/…        ──▶ webapi ──▶ chat ──▶ store ─commit─▶ hub
//	                          └─ /websocket/…  ──▶ rtm ─────▲                          │ events
//	edges   ──▶ upstream listener ──▶ gateway ──────────────┴── loads ──▶ store        ▼
//	                                     ▲                                     rtm and gateway streams
//	                                     └─ reports ──▶ presence ──▶ hub
func New(o Options) (b *Backend, err error) {
	b = &Backend{config: o.Config, log: o.Log, stopping: make(chan struct{}), stopped: make(chan struct{})}
	if err := b.config.Validate(); err != nil {
		return nil, fmt.Errorf("configure backend: %w", err)
	}
	ctx := context.Background()
	if b.store, b.unlock, err = OpenStore(ctx, o.Config.Data); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.closeListeners()
			err = errors.Join(err, b.store.Close())
			b.unlock()
			b = nil
		}
	}()
	if b.tokens, err = token.OpenKey(o.Config.Data); err != nil {
		return b, err
	}
	if b.key = o.Config.UpstreamKey; b.key == "" {
		if b.key, err = openUpstreamKey(o.Config.Data); err != nil {
			return b, err
		}
	}
	log := func(component string) *slog.Logger { return o.Log.With("component", "backend/"+component) }
	b.hub, err = channels.New(ctx, channels.Options{
		Config: o.Config.Hub, Store: b.store, Log: log("hub"), Registerer: o.Registerer, Now: time.Now, Initial: presence.Initial,
	})
	if err != nil {
		return b, err
	}
	b.presence = presence.New(presence.Options{Store: b.store, Publisher: b.hub, Delay: o.Config.OfflineDelay, Idle: presence.DefaultIdle, Registerer: o.Registerer, Now: time.Now})
	b.sockets = rtm.New(rtm.Options{
		Config: o.Config.RTM, Store: b.store, Hub: b.hub, Presence: b.presence, Tokens: b.tokens, HostID: "backend-" + rand.Text()[:8],
		Log: log("rtm"), Registerer: o.Registerer, Now: time.Now,
	})
	api := webapi.New(webapi.Options{
		Store: b.store, Tokens: b.tokens, Sockets: b.sockets, Presence: presenceDoor{b.presence}, Publisher: b.hub,
		Limits: webapi.Limits{Off: !o.Config.RateLimits}, Log: log("webapi"), Registerer: o.Registerer, Now: time.Now,
	})
	b.gateway = gateway.New(gateway.Options{
		Config: o.Config.Gateway, Key: b.key, Store: b.store, Hub: b.hub, Presence: b.presence, API: api, Log: log("gateway"), Registerer: o.Registerer,
	})
	if b.webListener, err = net.Listen("tcp", o.Config.Listen); err != nil {
		return b, fmt.Errorf("listen for clients: %w", err)
	}
	if b.upstreamListener, err = net.Listen("tcp", o.Config.UpstreamListen); err != nil {
		return b, fmt.Errorf("listen for edges: %w", err)
	}
	b.web = newServer(route(api.Handler(), b.sockets.Handler(api)), protocol.MaxBody+64<<10, &b.silent, log("http")) // The API itself tells of bodies just over its limit.
	b.upstream = newServer(b.gateway.Handler, gateway.MaxBody, &b.silent, log("http"))
	return b, nil
}

// route is the web listener's.
func route(api, sockets fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		switch path := string(ctx.Path()); {
		case strings.HasPrefix(path, webapi.PathPrefix):
			api(ctx)
		case strings.HasPrefix(path, rtm.PathPrefix):
			sockets(ctx)
		default:
			refuse(ctx, fasthttp.StatusNotFound, protocol.CodeUnknownMethod)
		}
	}
}

func refuse(ctx *fasthttp.RequestCtx, status int, code protocol.Code) {
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json; charset=utf-8")
	ctx.SetBody(protocol.ErrorBody(&protocol.Error{Code: code}))
}

func newServer(handler fasthttp.RequestHandler, maxBody int, silent *silentConns, log *slog.Logger) *fasthttp.Server {
	return &fasthttp.Server{
		Handler: silent.listen(handler), Name: "flannel", MaxRequestBodySize: maxBody,
		ReadBufferSize: 8 << 10,          // headers; it stays with every socket
		ReadTimeout:    30 * time.Second, // for a whole request
		WriteTimeout:   5 * time.Minute,  // for a whole answer: rtm.start of a large workspace has 100 MB
		IdleTimeout:    2 * time.Minute,  // above what edges keep idle connections for
		ConnState:      silent.state,
		Logger:         slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ErrorHandler: func(ctx *fasthttp.RequestCtx, err error) {
			var small *fasthttp.ErrSmallBuffer
			if errors.Is(err, fasthttp.ErrBodyTooLarge) || errors.As(err, &small) {
				refuse(ctx, fasthttp.StatusRequestEntityTooLarge, protocol.CodeTooLarge)
				return
			}
			refuse(ctx, fasthttp.StatusBadRequest, protocol.CodeInvalidArgs)
		},
	}
}

// Addr is the address of the Web API and the sockets.
func (b *Backend) Addr() string { return b.webListener.Addr().String() }

// UpstreamAddr is the address of the upstream contract.
func (b *Backend) UpstreamAddr() string { return b.upstreamListener.Addr().String() }

// UpstreamKey is the service key.
func (b *Backend) UpstreamKey() string { return b.key }

// Store is the backend's own; Stop closes it.
func (b *Backend) Store() store.Store { return b.store }

// Tokens issues tokens that the backend accepts.
func (b *Backend) Tokens() *token.Signer { return b.tokens }

const (
	// pruneEvery is how often events that are past their replay time are forgotten.
	pruneEvery = 30 * time.Second
	// stopTimeout bounds the stop that the end of Run's context asks for.
	stopTimeout = 10 * time.Second
)

// Run serves until Stop is called, or until ctx ends, which stops the backend too.
func (b *Backend) Run(ctx context.Context) error {
	b.running.Lock()
	defer b.running.Unlock()
	life, cancel := context.WithCancel(context.Background())
	defer cancel()
	g, failed := errgroup.WithContext(ctx)
	serve := func(s *fasthttp.Server, ln net.Listener) {
		g.Go(func() error {
			err := s.Serve(ln)
			select {
			case <-b.stopping:
				return nil // A listener that was closed before it was served is an error to nobody.
			default:
			}
			if err == nil {
				err = errors.New("the listener ended")
			}
			return fmt.Errorf("serve %s: %w", ln.Addr(), err)
		})
	}
	serve(b.web, b.webListener)
	serve(b.upstream, b.upstreamListener)
	g.Go(func() error { return b.presence.Run(life) })
	g.Go(func() error { b.prune(life); return nil })
	b.log.Info("backend started", "addr", b.Addr(), "upstream", b.UpstreamAddr())
	select {
	case <-failed.Done():
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		_ = b.Stop(stopping) // Its error is read below.
	case <-b.stopping:
	}
	<-b.stopped
	cancel()
	return errors.Join(g.Wait(), b.stopErr)
}

// prune forgets events that nobody can ask for any more.
func (b *Backend) prune(ctx context.Context) {
	ticker := time.NewTicker(pruneEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		b.hub.Evict()
		if err := b.store.Prune(ctx, time.Now().Add(-b.config.Hub.Replay)); err != nil && ctx.Err() == nil {
			b.log.Warn("old events could not be pruned", "err", err)
		}
	}
}

// Stop says goodbye to sockets, ends streams, answers the requests that are under way, and closes the store. It may be
// called more than once, also before Run; each call returns when the first is done, or with its own context's error.
func (b *Backend) Stop(ctx context.Context) error {
	b.stopOnce.Do(func() {
		close(b.stopping)
		go func() { // Ends when everything is stopped; ctx bounds each part.
			b.stopErr = b.stop(ctx)
			close(b.stopped)
		}()
	})
	select {
	case <-b.stopped:
		return b.stopErr
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *Backend) stop(ctx context.Context) error {
	var errs [4]error
	var wg sync.WaitGroup
	b.silent.stop()
	for i, step := range []func(context.Context) error{b.sockets.Stop, b.gateway.Stop, b.web.ShutdownWithContext, b.upstream.ShutdownWithContext} {
		wg.Go(func() { errs[i] = step(ctx) })
	}
	wg.Wait()
	b.closeListeners() // Those that Run never served.
	err := errors.Join(append(errs[:], b.store.Close())...)
	b.unlock()
	if err != nil {
		return fmt.Errorf("stop backend: %w", err)
	}
	b.log.Info("backend stopped")
	return nil
}

func (b *Backend) closeListeners() {
	for _, ln := range []net.Listener{b.webListener, b.upstreamListener} {
		if ln != nil {
			ln.Close() //nolint:errcheck // It may be closed already.
		}
	}
}

// presenceDoor is presence as the Web API wants it.
type presenceDoor struct{ presence *presence.Presence }

// Presence implements webapi.Presence.
func (d presenceDoor) Presence(user protocol.UserID) webapi.Status {
	s := d.presence.Status(user)
	out := webapi.Status{Presence: s.Presence, Online: s.Online, AutoAway: s.AutoAway, ManualAway: s.ManualAway, Connections: s.Connections}
	if !s.LastActivity.IsZero() {
		out.LastActivity = s.LastActivity.Unix()
	}
	return out
}

// SetManual implements webapi.Presence.
func (d presenceDoor) SetManual(user protocol.UserID, away bool) { d.presence.SetManual(user, away) }

// Touch implements webapi.Presence.
func (d presenceDoor) Touch(user protocol.UserID) { d.presence.Touch(user) }
