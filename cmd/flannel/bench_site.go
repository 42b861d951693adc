package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/backend"
	"flannel/backend/seed"
	"flannel/backend/store"
	"flannel/node"
	"flannel/protocol"
)

// benchSite is a made-up workspace with a backend on it and an edge in front, all in this process.
type benchSite struct {
	cfg     Config
	log     *slog.Logger
	made    seed.Result
	backend *backend.Backend
	servers *running // the backend

	edge        *running // nil before the first
	edgeMetrics *prometheus.Registry
}

// benchConfig is the configuration for a measurement: everything on free ports of loopback, nothing said but warnings.
func (a *app) benchConfig() (Config, *slog.Logger, error) {
	return a.config(map[string]any{
		"log.level": "warn", "node.edge.listen": "127.0.0.1:0", "node.admin.listen": "", "backend.listen": "127.0.0.1:0", "backend.upstream_listen": "127.0.0.1:0",
	})
}

// benchData returns the folder for made-up workspaces: the one that is named, or a temporary one that cleanUp removes.
func benchData(named string) (data string, cleanUp func(), err error) {
	if named != "" {
		return named, func() {}, nil
	}
	tmp, err := os.MkdirTemp("", "flannel-bench-")
	if err != nil {
		return "", nil, err
	}
	return tmp, func() { os.RemoveAll(tmp) }, nil //nolint:errcheck // A left-over temporary folder is nobody's loss.
}

// newBenchSite makes the workspace in the data folder unless it is there, and starts a backend on it. prepare, if set,
// may change what was made before the backend sees it; it runs each time.
func (a *app) newBenchSite(ctx context.Context, cfg Config, log *slog.Logger, users int, data string, bar *progress, prepare func(store.Store) error) (*benchSite, error) {
	site := &benchSite{cfg: cfg, log: log}
	if err := a.withStore(ctx, data, func(st store.Store) error {
		var have []protocol.Workspace
		if err := st.View(ctx, func(r store.Reader) (err error) { have, err = r.Workspaces(); return err }); err != nil {
			return err
		}
		if len(have) == 0 {
			made, err := seed.Generate(ctx, st, seed.Options{Users: users, Seed: 1, Progress: func(phase string, done, total int) {
				bar.Step(fmt.Sprintf("%d users: make %s", users, phase), done, total)
			}})
			if err != nil {
				return err
			}
			if err := saveJSON(filepath.Join(data, "generated.json"), made); err != nil {
				return err
			}
		}
		if prepare == nil {
			return nil
		}
		return prepare(st)
	}); err != nil {
		return nil, err
	}
	if err := loadJSON(filepath.Join(data, "generated.json"), &site.made); err != nil {
		return nil, fmt.Errorf("%s was not made by flannel bench: %w", data, err)
	}
	site.cfg.Backend.Data = data
	back, err := backend.New(backend.Options{Config: site.cfg.Backend, Log: log, Registerer: prometheus.NewRegistry()})
	if err != nil {
		return nil, err
	}
	site.backend, site.servers = back, newRunning(cfg.Node.StopTimeout)
	site.servers.start(back)
	site.cfg.Node.Upstream.URL, site.cfg.Node.Upstream.Key = "http://"+back.UpstreamAddr(), back.UpstreamKey()
	return site, nil
}

// freshEdge starts an edge that has never seen anything, in place of the last one, and returns its base URL.
func (s *benchSite) freshEdge(ctx context.Context) (string, error) {
	if err := s.stopEdge(); err != nil {
		return "", err
	}
	s.edgeMetrics = prometheus.NewRegistry()
	n, err := node.New(node.Options{Config: s.cfg.Node, Log: s.log, Registry: s.edgeMetrics})
	if err != nil {
		return "", err
	}
	s.edge = newRunning(s.cfg.Node.StopTimeout)
	s.edge.start(n)
	return "http://" + n.Addr(), n.WaitReady(ctx)
}

func (s *benchSite) stopEdge() error {
	if s.edge == nil {
		return nil
	}
	defer func() { s.edge = nil }()
	return s.edge.stop()
}

// stop stops the edge and the backend.
func (s *benchSite) stop() error { return errors.Join(s.stopEdge(), s.servers.stop()) }

// running is a server with the goroutine that runs it.
type running struct {
	timeout time.Duration
	server  server
	done    chan error // Run's result; capacity 1, never closed
}

func newRunning(timeout time.Duration) *running {
	return &running{timeout: timeout, done: make(chan error, 1)}
}

func (r *running) start(s server) {
	r.server = s
	go func() { r.done <- s.Run(context.Background()) }()
}

// stop stops the server and waits for its goroutine.
func (r *running) stop() error {
	return errors.Join(stopWithin(r.server.Stop, r.timeout), <-r.done)
}

func saveJSON(path string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, body, 0o600)
}

func loadJSON(path string, v any) error {
	body, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, v)
}
