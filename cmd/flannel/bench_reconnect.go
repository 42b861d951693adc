package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"flannel/backend/seed"
	"flannel/backend/store"
	"flannel/bench"
	"flannel/protocol"
)

func newBenchReconnect(a *app) *cobra.Command {
	var (
		data          string
		users, preset int
		spread        time.Duration
		direct, runs  int
		random        uint64
		f             = sheetFlags{app: a}
	)
	cmd := &cobra.Command{
		Use:   "reconnect",
		Short: "Everybody loses their connection at once and comes back",
		Long: `Connects that many people of one workspace, a thin socket with boot=1 each, cuts all connections at once and lets
everybody come back at a random moment within the spread. Three rows:

  warm     to the same edge, which remembers everybody: no call to the backend is allowed
  cold     to an edge that was just started: at most users/200 + 20 calls, and no more boot loads at once than configured
  direct   without an edge: a full boot and a socket each, with as many people as the machine bears in about 20 s

While all are away messages with mentions are written; after the storm the counts of a sample of people are compared with
the backend's own. Everything runs in this process on loopback, so each person costs two file descriptors.`,
		Example: `  flannel bench reconnect
  flannel bench reconnect --users 100 --preset 530 --json
  flannel bench reconnect --users 9000 --preset 44030 --data ./bench-data`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt := bench.DefaultReconnect(users)
			if cmd.Flags().Changed("spread") {
				opt.Spread = spread
			}
			opt.Direct, opt.Seed = direct, random
			if _, err := seed.Preset(preset); err != nil {
				return &usageError{err}
			}
			if err := checkReconnect(users, preset, opt); err != nil {
				return &usageError{err}
			}
			if runs < 1 {
				return &usageError{errors.New("--runs is at least 1")}
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
			sheet, err := a.benchReconnects(cmd.Context(), runs, users, preset, data, bar, opt)
			bar.Done()
			if err != nil {
				return err
			}
			return f.print(sheet)
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "where to keep the made-up workspaces (default: nowhere)")
	cmd.Flags().IntVar(&users, "users", 4000, "how many people connect")
	cmd.Flags().IntVar(&preset, "preset", 4008, "published workspace to stand for: "+seed.PresetNames())
	cmd.Flags().DurationVar(&spread, "spread", 0, "time within which all come back (default: 1s for each 1,000 people, at least 1s)")
	cmd.Flags().IntVar(&direct, "direct", 0, "how many people come straight to the backend (default: as many as come through in about 20s)")
	cmd.Flags().IntVar(&runs, "runs", 1, "how often; the medians count")
	cmd.Flags().Uint64Var(&random, "seed", 1, "who comes when")
	f.add(cmd)
	return cmd
}

// benchReconnects runs the scenario several times.
func (a *app) benchReconnects(ctx context.Context, runs, users, preset int, data string, bar *progress, opt bench.ReconnectOptions) (*bench.Sheet, error) {
	cfg, log, err := a.benchConfig()
	if err != nil {
		return nil, err
	}
	cfg.Node.Query.AuditSample = 0 // Its two calls in ten seconds, whoever is there, are nobody's who comes back.
	var reports []bench.ReconnectReport
	for i := range runs {
		opt.Progress = func(phase string, done, total int) { bar.Step(numbered(i, runs, phase), done, total) }
		report, err := a.benchReconnect(ctx, cfg, log, users, preset, data, bar, opt)
		if err != nil {
			return nil, err
		}
		reports = append(reports, report)
	}
	return bench.ReconnectSheet(reports), nil
}

// numbered is what a phase is called in the i-th of several runs.
func numbered(i, runs int, phase string) string {
	if runs > 1 {
		return fmt.Sprintf("run %d, %s", i+1, phase)
	}
	return phase
}

// spareDescriptors are for everything but the people's sockets: listeners, the store, loads, calls, and sockets that one
// end has closed and the other has not yet.
const spareDescriptors = 2000

func checkReconnect(users, preset int, opt bench.ReconnectOptions) error {
	switch {
	case users < 1 || opt.Direct < 0:
		return errors.New("--users is at least 1 and --direct not below 0")
	case users > preset:
		return fmt.Errorf("a workspace of %d has no %d people: take a larger --preset", preset, users)
	case opt.Spread <= 0:
		return errors.New("--spread must be above 0")
	}
	if limit := descriptors(); limit > 0 && users > (limit-spareDescriptors)/2 {
		return fmt.Errorf("%d people need %d file descriptors, because both ends of each connection are in this process, and %d to spare; "+
			"the limit is %d: take --users %d, or raise the limit (ulimit -n)", users, 2*users, spareDescriptors, limit, max((limit-spareDescriptors)/2, 1))
	}
	return nil
}

func (a *app) benchReconnect(ctx context.Context, cfg Config, log *slog.Logger, users, preset int, data string, bar *progress, opt bench.ReconnectOptions) (report bench.ReconnectReport, err error) {
	// Made-up workspaces have people who are gone. If all the others are not enough, some come back, in a folder of its own.
	folder := fmt.Sprintf("preset-%d", preset)
	active := preset - int(float64(preset)*goneShare)
	if users > active {
		folder += "-all"
	}
	site, err := a.newBenchSite(ctx, cfg, log, preset, filepath.Join(data, folder), bar, func(st store.Store) error {
		if users <= active {
			return nil
		}
		return comeBack(ctx, st)
	})
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, site.stop()) }()

	target := bench.ReconnectTarget{
		Backend: "http://" + site.backend.Addr(), FreshEdge: site.freshEdge, BootConcurrency: cfg.Node.Upstream.BootConcurrency,
		BackendCalls: func() (map[string]int, error) { return upstreamCalls(site.edgeMetrics) },
		BootsAtOnce:  func() (int, error) { return bootsAtOnce(site.edgeMetrics) },
	}
	if err := eachUser(ctx, site.backend.Store(), func(u *protocol.User) error {
		if u.Deleted || u.IsBot || len(target.People) >= users {
			return nil
		}
		tok, err := issue(site.backend.Tokens(), u, 0)
		target.People = append(target.People, bench.Person{ID: u.ID, Token: tok})
		return err
	}); err != nil {
		return report, err
	}
	if len(target.People) < users {
		return report, &usageError{fmt.Errorf("the workspace of %d has %d people who are not gone: take --users %d or a larger --preset", preset, len(target.People), len(target.People))}
	}
	if err := site.backend.Store().View(ctx, func(r store.Reader) (err error) {
		if target.Channel, err = r.ChannelByName(site.made.Workspace.ID, "general"); err != nil {
			return err
		}
		target.Writer, err = firstMember(r, target.Channel, target.People)
		return err
	}); err != nil {
		return report, fmt.Errorf("find somebody in the general channel: %w", err)
	}
	return bench.Reconnect(ctx, target, opt)
}

// firstMember returns the first of people who is in a channel.
func firstMember(r store.Reader, channel protocol.ChannelID, people []bench.Person) (bench.Person, error) {
	for _, p := range people {
		if _, err := r.Membership(channel, p.ID); err == nil {
			return p, nil
		} else if !errors.Is(err, store.ErrNotFound) {
			return bench.Person{}, err
		}
	}
	return bench.Person{}, store.ErrNotFound
}

// goneShare bounds the share of people whom seed deactivates.
const goneShare = 0.1

// comeBack makes everybody active again.
func comeBack(ctx context.Context, st store.Store) error {
	var gone []protocol.User
	if err := eachUser(ctx, st, func(u *protocol.User) error {
		if u.Deleted {
			gone = append(gone, *u)
		}
		return nil
	}); err != nil || len(gone) == 0 {
		return err
	}
	return st.Load(ctx, func(tx store.Tx) error {
		for i := range gone {
			gone[i].Deleted = false
			gone[i].Updated++
			if err := tx.Put(&gone[i]); err != nil {
				return fmt.Errorf("bring %s back: %w", gone[i].ID, err)
			}
		}
		return nil
	})
}

// upstreamCalls returns how many loads and forwarded calls of each kind a node with this registry has sent.
func upstreamCalls(gather prometheus.Gatherer) (map[string]int, error) {
	calls := make(map[string]int)
	err := eachSample(gather, "flannel_upstream_requests_total", func(labels map[string]string, v float64) { calls[labels["call"]] += int(v) })
	return calls, err
}

// bootsAtOnce returns the most boot loads that a node with this registry has had in the air at once.
func bootsAtOnce(gather prometheus.Gatherer) (most int, err error) {
	err = eachSample(gather, "flannel_upstream_boot_peak", func(_ map[string]string, v float64) { most = int(v) })
	return most, err
}

// eachSample calls fn for every counter or gauge of a family.
func eachSample(gather prometheus.Gatherer, name string, fn func(labels map[string]string, v float64)) error {
	families, err := gather.Gather()
	if err != nil {
		return fmt.Errorf("gather metrics: %w", err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			fn(labels, m.GetCounter().GetValue()+m.GetGauge().GetValue())
		}
	}
	return nil
}
