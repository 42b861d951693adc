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
	"github.com/spf13/cobra"

	"flannel/backend"
	"flannel/backend/seed"
	"flannel/backend/store"
	"flannel/bench"
	"flannel/node"
	"flannel/protocol"
)

func newBench(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure: through an edge and straight at the backend",
		Args:  cobra.ArbitraryArgs,
		RunE:  subcommand,
		Example: `  flannel bench boot
  flannel bench boot --presets 12,530 --json`,
	}
	cmd.AddCommand(newBenchBoot(a))
	return cmd
}

func newBenchBoot(a *app) *cobra.Command {
	var (
		data    string
		presets []int
		asJSON  bool
		opt     = bench.DefaultBoot()
	)
	cmd := &cobra.Command{
		Use:   "boot",
		Short: "Full boot against thin boot, for the published workspaces",
		Long: `For each preset: the size of a full boot as published and as our backend's rtm.start gives it, and a thin boot through
an edge (client.userBoot and client.counts): bytes, time from an edge that has never seen anything (cold), time again
(warm), and how many calls a cold boot costs the backend. The user who boots is in 100 conversations of the same mix in
every workspace that has so many. Everything runs in this process on loopback.`,
		Example: `  flannel bench boot
  flannel bench boot --presets 12,530 --json
  flannel bench boot --data ./bench-data       # keeps the made-up workspaces for the next time`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opt.Full < 1 || opt.Cold < 1 || opt.Warm < 1 {
				return &usageError{errors.New("--full, --cold and --warm are at least 1: there is a median of each")}
			}
			if data == "" {
				tmp, err := os.MkdirTemp("", "flannel-bench-")
				if err != nil {
					return err
				}
				defer os.RemoveAll(tmp) //nolint:errcheck // A left-over temporary folder is nobody's loss.
				data = tmp
			}
			cfg, log, err := a.config(map[string]any{
				"log.level": "warn", "node.edge.listen": "127.0.0.1:0", "node.admin.listen": "", "backend.listen": "127.0.0.1:0", "backend.upstream_listen": "127.0.0.1:0",
			})
			if err != nil {
				return err
			}
			bar := newProgress(a.stderr)
			opt.Progress = bar.Step
			var rows []bench.BootRow
			for _, users := range presets {
				preset, err := seed.Preset(users)
				if err != nil {
					return &usageError{err}
				}
				row, err := a.benchBoot(cmd.Context(), cfg, log, preset, filepath.Join(data, fmt.Sprintf("preset-%d", users)), bar, opt)
				if err != nil {
					return fmt.Errorf("preset %d: %w", users, err)
				}
				rows = append(rows, row)
			}
			bar.Done()
			if asJSON {
				return bench.WriteBootJSON(a.stdout, rows)
			}
			return bench.WriteBootTable(a.stdout, rows)
		},
	}
	all := make([]int, len(seed.Presets))
	for i, p := range seed.Presets {
		all[i] = p.Users
	}
	cmd.Flags().StringVar(&data, "data", "", "where to keep the made-up workspaces (default: nowhere)")
	cmd.Flags().IntSliceVar(&presets, "presets", all, "which workspaces")
	cmd.Flags().IntVar(&opt.Full, "full", opt.Full, "full boots per preset; the median counts")
	cmd.Flags().IntVar(&opt.Cold, "cold", opt.Cold, "cold boots per preset")
	cmd.Flags().IntVar(&opt.Warm, "warm", opt.Warm, "warm boots per preset")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// benchBoot makes the workspace if need be, starts a backend on it, and measures.
func (a *app) benchBoot(ctx context.Context, cfg Config, log *slog.Logger, preset seed.Published, data string, bar *progress, opt bench.BootOptions) (row bench.BootRow, err error) {
	if err := a.withStore(ctx, data, func(st store.Store) error {
		var have []protocol.Workspace
		if err := st.View(ctx, func(r store.Reader) (err error) { have, err = r.Workspaces(); return err }); err != nil || len(have) > 0 {
			return err
		}
		made, err := seed.Generate(ctx, st, seed.Options{Users: preset.Users, Seed: 1, Progress: func(phase string, done, total int) {
			bar.Step(fmt.Sprintf("%d users: make %s", preset.Users, phase), done, total)
		}})
		if err != nil {
			return err
		}
		return saveJSON(filepath.Join(data, "generated.json"), made)
	}); err != nil {
		return row, err
	}
	var made seed.Result
	if err := loadJSON(filepath.Join(data, "generated.json"), &made); err != nil {
		return row, fmt.Errorf("%s was not made by flannel bench: %w", data, err)
	}
	cfg.Backend.Data = data
	back, err := backend.New(backend.Options{Config: cfg.Backend, Log: log, Registerer: prometheus.NewRegistry()})
	if err != nil {
		return row, err
	}
	servers := newRunning(cfg.Node.StopTimeout)
	servers.start(back)
	defer func() { err = errors.Join(err, servers.stop()) }()
	tok, err := tokenOf(ctx, back, made.Busy)
	if err != nil {
		return row, err
	}
	cfg.Node.Upstream.URL, cfg.Node.Upstream.Key = "http://"+back.UpstreamAddr(), back.UpstreamKey()
	var edge *running
	var reg *prometheus.Registry
	stopEdge := func() error {
		if edge == nil {
			return nil
		}
		defer func() { edge = nil }()
		return edge.stop()
	}
	defer func() { err = errors.Join(err, stopEdge()) }()
	return bench.Boot(ctx, bench.BootTarget{
		Users: preset.Users, PublishedBytes: preset.TotalBytes, Backend: "http://" + back.Addr(), Token: tok,
		FreshEdge: func(ctx context.Context) (string, error) {
			if err := stopEdge(); err != nil {
				return "", err
			}
			reg = prometheus.NewRegistry()
			n, err := node.New(node.Options{Config: cfg.Node, Log: log, Registry: reg})
			if err != nil {
				return "", err
			}
			edge = newRunning(cfg.Node.StopTimeout)
			edge.start(n)
			return "http://" + n.Addr(), n.WaitReady(ctx)
		},
		BackendCalls: func() (int, error) { return node.UpstreamCalls(reg) },
	}, opt)
}

func tokenOf(ctx context.Context, back *backend.Backend, id protocol.UserID) (string, error) {
	var u protocol.User
	err := back.Store().View(ctx, func(r store.Reader) error {
		o, err := r.Object(protocol.ObjectID(id))
		if err != nil {
			return err
		}
		return json.Unmarshal(o.Body, &u)
	})
	if err != nil {
		return "", fmt.Errorf("find user %s: %w", id, err)
	}
	return issue(back.Tokens(), &u, 0)
}

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
