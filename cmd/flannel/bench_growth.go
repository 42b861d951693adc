package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"flannel/bench"
	"flannel/bench/synth"
)

// growth is what is swept: one of the three at a time, the others as they are at the base.
type growth struct {
	sessions, channels, workspaces []int
	base                           int // sessions
	settle                         time.Duration
}

// Where the other two stay while one is swept: the target's user is in 100 channels.
const (
	baseChannels  = 100
	baseWorkspace = 20_000
)

func defaultGrowth() growth {
	return growth{sessions: []int{1000, 3000, 9000}, channels: []int{10, 30, 100, 300}, workspaces: []int{530, 4008, 44_030, 148_170}, base: 1000, settle: bench.DefaultPoint(0).Settle}
}

func newBenchGrowth(a *app) *cobra.Command {
	f, g := newLoadFlags(a), defaultGrowth()
	cmd := &cobra.Command{
		Use:   "growth",
		Short: "How cost grows with sessions, channels and the size of the workspace",
		Long: `Measures a node at several sizes, a new one for each: how much it holds, how much of it for each session, and what a
connect costs in processor time and bytes. One of three is swept at a time: sessions; channels that each user is in; and
people of the workspace. See flannel bench idle for what the server is.`,
		Example: `  flannel bench growth
  flannel bench growth --sessions 100,200 --channels 10,100 --workspaces 530 --base 100 --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.checkThresholds(); err != nil {
				return err
			}
			if f.url != "" {
				return &usageError{errors.New("growth makes its workspaces up: no --url")}
			}
			return f.report(func(bar *progress) (*bench.Sheet, error) { return f.grow(cmd.Context(), g, bar) })
		},
	}
	cmd.Flags().IntSliceVar(&g.sessions, "sessions", g.sessions, "numbers of sessions")
	cmd.Flags().IntSliceVar(&g.channels, "channels", g.channels, "numbers of channels that each user is in")
	cmd.Flags().IntSliceVar(&g.workspaces, "workspaces", g.workspaces, "numbers of people of the workspace")
	cmd.Flags().IntVar(&g.base, "base", g.base, "sessions while the other two are swept")
	cmd.Flags().DurationVar(&g.settle, "settle", g.settle, "how long memory may take to come to rest, each time")
	f.add(cmd)
	return cmd
}

// grow measures all points.
func (f *loadFlags) grow(ctx context.Context, g growth, bar *progress) (*bench.Sheet, error) {
	if least := slices.Min(append(append(append([]int{g.base}, g.sessions...), g.channels...), g.workspaces...)); least < 1 {
		return nil, &usageError{errors.New("sessions, channels, workspaces and --base are at least 1")}
	}
	sheet := &bench.Sheet{Scenario: bench.GrowthScenario, Runs: f.runs}
	point := func(what string, n, sessions, channels, workspace int) error {
		one := *f // A point has as many generators as it needs.
		one.world = synth.World{Users: workspace, PerUser: channels}
		name := fmt.Sprintf("%s %d", what, n)
		s, err := one.measure(ctx, scenario{name: bench.GrowthScenario, sessions: sessions, boot: bootThin, run: func(ctx context.Context, b *bench.Bench) ([]bench.Case, error) {
			opt := bench.DefaultPoint(sessions)
			opt.Settle = g.settle
			return bench.Point(ctx, b, name, opt)
		}}, bar)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		sheet.Cases = append(sheet.Cases, s.Cases...)
		return nil
	}
	for _, n := range g.sessions {
		if err := point("sessions", n, n, baseChannels, baseWorkspace); err != nil {
			return nil, err
		}
	}
	for _, n := range g.channels {
		if err := point("channels", n, g.base, n, baseWorkspace); err != nil {
			return nil, err
		}
	}
	for _, n := range g.workspaces {
		if err := point("workspace", n, min(g.base, n), baseChannels, n); err != nil { // A session for each at most: users are different.
			return nil, err
		}
	}
	return sheet, nil
}
