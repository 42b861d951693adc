package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// AdminConfig is the admin listener's: net/http on a port of its own, so that a flood on the public one cannot hide it.
type AdminConfig struct {
	// Listen is the address; loopback by default, because pprof and metrics are for operators only. Empty: no listener.
	Listen string `koanf:"listen"`
	// TopWorkspaces is how many workspaces GET /debug/workspaces knows the sessions and calls of, those with most of them; 0
	// turns it off. No metric is ever labelled with a workspace.
	TopWorkspaces int `koanf:"top_workspaces"`
}

// DefaultAdmin returns the defaults.
func DefaultAdmin() AdminConfig { return AdminConfig{Listen: "127.0.0.1:8082"} }

// Validate reports the first value that makes no sense.
func (c *AdminConfig) Validate() error {
	if c.TopWorkspaces < 0 || c.TopWorkspaces > maxTop {
		return fmt.Errorf("top_workspaces must be between 0 and %d", maxTop)
	}
	return nil
}

// Admin serves /metrics, /livez, /readyz and /debug/pprof.
type Admin struct {
	listener net.Listener
	server   *http.Server
	mux      *http.ServeMux
	log      *slog.Logger
}

// Readiness says why a node should not get traffic; nil if it should.
type Readiness func() error

// NewAdmin binds the listener. It returns nil if the configuration asks for none.
func NewAdmin(cfg AdminConfig, gather prometheus.Gatherer, ready Readiness, log *slog.Logger) (*Admin, error) {
	if cfg.Listen == "" {
		return nil, nil
	}
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for admin on %q: %w", cfg.Listen, err)
	}
	mux := http.NewServeMux()
	// A hundred scrapers cost as much as one.
	mux.Handle("GET /metrics", promhttp.HandlerFor(gather, promhttp.HandlerOpts{EnableOpenMetrics: true, CoalesceGather: true}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, ready()) })
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><title>flannel admin</title><h1>flannel</h1><ul><li><a href="/metrics">metrics</a><li><a href="/livez">livez</a><li><a href="/readyz">readyz</a><li><a href="/debug/pprof/">pprof</a></ul>`)
	})
	return &Admin{listener: ln, mux: mux, server: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}, log: log}, nil
}

// Handle adds a call, before Run. It is answered with "ok".
func (a *Admin) Handle(pattern string, fn func()) {
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
		fn()
		answer(w, nil)
	})
}

// HandleJSON adds a call, before Run, that is answered with what fn returns, or with 404 and why there is none.
func (a *Admin) HandleJSON(pattern string, fn func(*http.Request) (any, error)) {
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		found, err := fn(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		if err := json.NewEncoder(w).Encode(found); err != nil {
			a.log.Debug("answer is not written", "err", err)
		}
	})
}

func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintln(w, "ok")
}

// Addr returns the address that is listened on.
func (a *Admin) Addr() string { return a.listener.Addr().String() }

// Run serves until Stop.
func (a *Admin) Run(context.Context) error {
	if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin: %w", err)
	}
	return nil
}

// Stop ends Run, and waits for running requests until ctx ends.
func (a *Admin) Stop(ctx context.Context) error {
	if err := a.server.Shutdown(ctx); err != nil {
		return errors.Join(err, a.server.Close())
	}
	return nil
}

// UpstreamCalls returns how many loads and forwarded calls a node with this registry has sent to its backend.
func UpstreamCalls(gather prometheus.Gatherer) (int, error) {
	families, err := gather.Gather()
	if err != nil {
		return 0, fmt.Errorf("gather metrics: %w", err)
	}
	calls := 0.0
	for _, f := range families {
		if f.GetName() == "flannel_upstream_requests_total" {
			for _, m := range f.GetMetric() {
				calls += m.GetCounter().GetValue()
			}
		}
	}
	return int(calls), nil
}
