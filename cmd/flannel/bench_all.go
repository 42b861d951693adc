package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"flannel/bench"
)

// sitting is one measurement of all that docs/benchmarks.md tells.
type sitting struct {
	app   *app
	runs  int
	scale float64 // of sessions and times; 1 is what is required
	only  []string
	out   string
	bar   *progress
}

// part is a scenario of a sitting.
type part struct {
	name string
	// says is what is measured, for the reader of the results.
	says string
	// require is what is required of a node on two cores; ratios are to servers that run in turn.
	require []string
	run     func(ctx context.Context, s *sitting) (*bench.Sheet, error)
}

var parts = []part{
	{
		"idle", "15,000 thin sessions of users in 100 channels, who have booted and say nothing.", []string{"rss_kib_per_session<=4"},
		func(ctx context.Context, s *sitting) (*bench.Sheet, error) {
			f, opt := s.load(true, "reference", "nchan"), bench.DefaultIdle()
			opt.Sessions, opt.Settle, opt.Hold = s.n(opt.Sessions), s.d(15*time.Second), s.d(4*time.Second)
			return f.measure(ctx, scenario{name: "idle", sessions: opt.Sessions, boot: bootThin, run: func(ctx context.Context, b *bench.Bench) ([]bench.Case, error) {
				return bench.Idle(ctx, b, opt)
			}}, s.bar)
		},
	},
	{
		"connect", "4,000 users whom the server knows come at 1,000 a second: upgrade, hello, boot and counts.", []string{"cpu_us_per_connect<=120"},
		func(ctx context.Context, s *sitting) (*bench.Sheet, error) { return s.connect(ctx, bootThin) },
	},
	{
		"connect-lazy", "The same with the channels' ids only.", nil,
		func(ctx context.Context, s *sitting) (*bench.Sheet, error) { return s.connect(ctx, bootLazy) },
	},
	{
		"query", "50 sessions look up users of 716 bytes: single ones with 1, 16 and 64 questions in the air, and 16 in a question.",
		[]string{
			"queries_per_s_depth_1/reference>=1", "queries_per_s_depth_16/reference>=2.3", "queries_per_s_depth_64/reference>=2.9", "queries_per_s_depth_64>=700000",
			"objects_per_s_batches_of_16>=1000000", "objects_per_s_batches_of_16/redis>1",
		},
		func(ctx context.Context, s *sitting) (*bench.Sheet, error) {
			f, opt := s.load(false, everyRival), bench.DefaultQuery()
			opt.Sessions, opt.Each = max(s.n(opt.Sessions), 2), s.d(1500*time.Millisecond)
			opt.Warm = 500 * time.Millisecond // At any scale: what is not in the cache yet would be what is measured.
			return f.measure(ctx, scenario{name: "query", sessions: opt.Sessions, boot: bootNone, run: func(ctx context.Context, b *bench.Bench) ([]bench.Case, error) {
				return bench.Query(ctx, b, opt)
			}}, s.bar)
		},
	},
	{
		"fanout", "Messages of 200 bytes in one channel: 20 a second to 1,000 sessions; then as many as come through to 9,000.",
		[]string{
			"deliveries_per_s_in_flight_8/reference>=2.3", "deliveries_per_s_in_flight_64/reference>=7", "cpu_us_per_delivery_paced/reference<=1",
			"p50_ms_paced/reference<=1.2", "p99_ms_paced/reference<=1.2", "lost==0", "errors==0",
		},
		func(ctx context.Context, s *sitting) (*bench.Sheet, error) {
			f, opt := s.load(false, "reference", "nchan"), bench.DefaultFanout()
			opt.PacedTo, opt.Subscribers = s.n(opt.PacedTo), s.n(opt.Subscribers)
			opt.PacedFor, opt.Each = s.d(6*time.Second), s.d(2*time.Second)
			return f.measure(ctx, scenario{name: "fanout", sessions: opt.Sessions(), boot: bootThin, run: func(ctx context.Context, b *bench.Bench) ([]bench.Case, error) {
				return bench.Fanout(ctx, b, opt)
			}}, s.bar)
		},
	},
	{
		"overload", "2,000 steady sessions hear 5 messages a second; 15,000 others lose their connection and come back; then 1, 2 and 4 times as many come as the node lets in. One run.",
		[]string{"p99_times_storm<2", "back_storm==15000", "goodput_share_offered_×2>=0.9", "goodput_share_offered_×4>=0.9", "lost==0"},
		func(ctx context.Context, s *sitting) (*bench.Sheet, error) {
			f, opt := s.load(false), bench.DefaultOverload()
			f.runs, f.generators = 1, 1
			opt.Steady, opt.Storm, opt.Each, opt.Spread = s.n(opt.Steady), s.n(opt.Storm), s.d(opt.Each), s.d(opt.Spread)
			return f.measure(ctx, overload(opt, bootThin), s.bar)
		},
	},
	{
		"boot", "Full and thin boots of the published workspaces, through an edge and a backend with a disk. Medians of several boots in one run.",
		[]string{"thin_bytes_148170<=65536", "cold_ms_148170<=50", "backend_calls_148170<=5"},
		func(ctx context.Context, s *sitting) (*bench.Sheet, error) {
			presets := []int{12, 530, 4008, 44_030, 148_170}
			if s.scale < 1 {
				presets = []int{12, 530}
			}
			return s.withData(func(data string) (*bench.Sheet, error) {
				opt := bench.DefaultBoot()
				opt.Warm = s.n(opt.Warm)
				return s.app.benchBoots(ctx, presets, data, s.bar, opt)
			})
		},
	},
	{
		"reconnect", "4,000 people lose their connection at once and come back within 4 s, one run: to an edge that knows them, to a new one, and to the backend.",
		[]string{"backend_calls_warm==0", "backend_calls_cold<=40", "errors==0"},
		func(ctx context.Context, s *sitting) (*bench.Sheet, error) {
			users, preset := s.n(4000), 4008
			if users < 400 {
				preset = 530
			}
			opt := bench.DefaultReconnect(users)
			opt.DirectBudget = s.d(opt.DirectBudget)
			return s.withData(func(data string) (*bench.Sheet, error) {
				return s.app.benchReconnects(ctx, 1, users, preset, data, s.bar, opt)
			})
		},
	},
	{
		bench.GrowthScenario, "One of three is swept at a time: sessions, channels of each user, people of the workspace; the others stay at 1,000, 100 and 20,000.", nil,
		func(ctx context.Context, s *sitting) (*bench.Sheet, error) {
			g, f := defaultGrowth(), s.load(false)
			f.runs = (s.runs + 4) / 5 // Memory hardly varies, and there are many points.
			if s.scale < 1 {
				g = growth{sessions: []int{s.n(1000), s.n(4000)}, channels: []int{10, 100}, workspaces: []int{530, 4008}, base: s.n(g.base), settle: s.d(g.settle)}
			}
			return f.grow(ctx, g, s.bar)
		},
	},
}

func newBenchAll(a *app) *cobra.Command {
	s := &sitting{app: a, runs: 5, scale: 1}
	names := make([]string, len(parts))
	for i, p := range parts {
		names[i] = p.name
	}
	cmd := &cobra.Command{
		Use:   "all",
		Short: "Everything that docs/benchmarks.md tells, in one sitting, with tables and pictures",
		Long: `Runs the scenarios in turn, with the servers to compare with that are installed, and writes to --out: results.md with all
tables, what is required and whether it was met; for each scenario NAME.json; and the pictures as SVG. Five runs take about 25 minutes on 2 cores, one takes 8. If something required is not met the exit code is 3.`,
		Example: `  flannel bench all --out results
  flannel bench all --out results --runs 1 --only query,fanout
  flannel bench all --out results --runs 1 --scale 0.1`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case s.out == "":
				return &usageError{errors.New("--out is missing: where are the results to go?")}
			case s.runs < 1 || s.scale <= 0 || s.scale > 1:
				return &usageError{errors.New("--runs is at least 1, and --scale above 0 and at most 1")}
			}
			for _, name := range s.only {
				if !slices.Contains(names, name) {
					return &usageError{fmt.Errorf("--only %s: there are %s", name, strings.Join(names, ", "))}
				}
			}
			s.bar = newProgress(a.stderr)
			met, err := s.run(cmd.Context())
			s.bar.Done()
			if err == nil && !met {
				err = errUnmet
			}
			return err
		},
	}
	cmd.Flags().StringVar(&s.out, "out", "", "folder to write to")
	cmd.Flags().IntVar(&s.runs, "runs", s.runs, "how often each of idle, connect, query and fanout; the medians count")
	cmd.Flags().StringSliceVar(&s.only, "only", nil, "scenarios to run: "+strings.Join(names, ", ")+" (default: all)")
	cmd.Flags().Float64Var(&s.scale, "scale", s.scale, "share of the sessions and of the time, for a quick look; below 1 nothing is required")
	return cmd
}

// run measures all parts, and writes what came of each at once, so that a sitting that is cut short is not for nothing.
func (s *sitting) run(ctx context.Context) (met bool, err error) {
	if err := os.MkdirAll(s.out, 0o755); err != nil { //nolint:gosec // Results are for everybody.
		return false, err
	}
	results := newResults(s)
	met = true
	for _, p := range parts {
		if len(s.only) > 0 && !slices.Contains(s.only, p.name) {
			continue
		}
		began := time.Now()
		sheet, err := p.run(ctx, s)
		if err != nil {
			return false, fmt.Errorf("%s: %w", p.name, err)
		}
		sheet.Scenario = p.name
		required, err := s.required(p, sheet)
		if err != nil {
			return false, err
		}
		ok, err := sheet.Judge(required)
		if err != nil {
			return false, err
		}
		met = met && ok
		if err := results.add(p, sheet, time.Since(began)); err != nil {
			return false, err
		}
		if err := sheet.WriteTable(s.app.stdout); err != nil {
			return false, err
		}
		fmt.Fprintln(s.app.stdout)
	}
	return met, nil
}

// required are the thresholds of a part that can be looked at: servers that are not installed have no ratios.
func (s *sitting) required(p part, sheet *bench.Sheet) (list []bench.Threshold, err error) {
	if s.scale < 1 {
		return nil, nil
	}
	for _, text := range p.require {
		t, err := bench.ParseThreshold(text)
		if err != nil {
			return nil, err
		}
		if sheet.Measured(t) {
			list = append(list, t)
		}
	}
	return list, nil
}

func (s *sitting) connect(ctx context.Context, boot string) (*bench.Sheet, error) {
	f, opt := s.load(true, "reference", "nchan"), bench.DefaultConnect()
	if boot == bootLazy {
		f = s.load(true)
	}
	opt.Sessions = s.n(4000)
	opt.Rate *= s.scale
	return f.measure(ctx, scenario{name: "connect", sessions: opt.Sessions, boot: boot, run: func(ctx context.Context, b *bench.Bench) ([]bench.Case, error) {
		return bench.Connect(ctx, b, opt)
	}}, s.bar)
}

// load returns the flags of a load scenario, with whoever of the others is installed. cheap leaves out the self-check: the
// generators have little to do.
func (s *sitting) load(cheap bool, others ...string) *loadFlags {
	f := newLoadFlags(s.app)
	f.runs = s.runs
	for _, name := range others {
		if name == everyRival {
			f.compare, f.selfCheck = []string{everyRival}, !cheap
			continue
		}
		for _, r := range rivals {
			if r.name == name && r.missing() == "" {
				f.compare = append(f.compare, name)
			}
		}
	}
	return &f
}

// n is a number of sessions at the scale.
func (s *sitting) n(full int) int { return max(int(float64(full)*s.scale), 10) }

// d is a time at the scale.
func (s *sitting) d(full time.Duration) time.Duration {
	return max(time.Duration(float64(full)*s.scale), 100*time.Millisecond)
}

// withData lends a folder for made-up workspaces.
func (s *sitting) withData(run func(data string) (*bench.Sheet, error)) (*bench.Sheet, error) {
	data, cleanUp, err := benchData("")
	if err != nil {
		return nil, err
	}
	defer cleanUp()
	return run(data)
}
