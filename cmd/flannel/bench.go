package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

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
  flannel bench boot --presets 12,530 --json
  flannel bench reconnect --users 1000
  flannel bench idle --sessions 1000 --require 'rss_kib_per_session<4'`,
	}
	cmd.AddCommand(newBenchBoot(a), newBenchReconnect(a), newBenchTraffic(a), newBenchIdle(a), newBenchConnect(a), newBenchQuery(a), newBenchFanout(a), newBenchOverload(a), newBenchGrowth(a), newBenchAll(a), newBenchWorker(a), newBenchReference(a))
	return cmd
}

func newBenchBoot(a *app) *cobra.Command {
	var (
		data    string
		presets []int
		f       = sheetFlags{app: a}
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
			if err := f.checkThresholds(); err != nil {
				return err
			}
			data, cleanUp, err := benchData(data)
			if err != nil {
				return err
			}
			defer cleanUp()
			bar := newProgress(a.stderr)
			sheet, err := a.benchBoots(cmd.Context(), presets, data, bar, opt)
			bar.Done()
			if err != nil {
				return err
			}
			return f.print(sheet)
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
	f.add(cmd)
	return cmd
}

// benchBoots measures several workspaces, one after the other.
func (a *app) benchBoots(ctx context.Context, presets []int, data string, bar *progress, opt bench.BootOptions) (*bench.Sheet, error) {
	cfg, log, err := a.benchConfig()
	if err != nil {
		return nil, err
	}
	opt.Progress = bar.Step
	var rows []bench.BootRow
	for _, users := range presets {
		preset, err := seed.Preset(users)
		if err != nil {
			return nil, &usageError{err}
		}
		row, err := a.benchBoot(ctx, cfg, log, preset, filepath.Join(data, fmt.Sprintf("preset-%d", users)), bar, opt)
		if err != nil {
			return nil, fmt.Errorf("preset %d: %w", users, err)
		}
		rows = append(rows, row)
	}
	return bench.BootSheet(rows), nil
}

// benchBoot makes the workspace if need be, starts a backend on it, and measures.
func (a *app) benchBoot(ctx context.Context, cfg Config, log *slog.Logger, preset seed.Published, data string, bar *progress, opt bench.BootOptions) (row bench.BootRow, err error) {
	site, err := a.newBenchSite(ctx, cfg, log, preset.Users, data, bar, nil)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, site.stop()) }()
	tok, err := tokenOf(ctx, site.backend, site.made.Busy)
	if err != nil {
		return row, err
	}
	return bench.Boot(ctx, bench.BootTarget{
		Users: preset.Users, PublishedBytes: preset.TotalBytes, Backend: "http://" + site.backend.Addr(), Token: tok,
		FreshEdge:    site.freshEdge,
		BackendCalls: func() (int, error) { return node.UpstreamCalls(site.edgeMetrics) },
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
