package main

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"flannel/bench"
)

func newBenchOverload(a *app) *cobra.Command {
	f, opt, boot := newLoadFlags(a), bench.DefaultOverload(), bootThin
	cmd := &cobra.Command{
		Use:   "overload",
		Short: "A storm beside steady sessions, and what is still done when more come than there is room for",
		Long: `Steady sessions hear messages at an even pace. Then all others lose their connection at once and come back, as the server
says: what do the steady ones notice? After that people come and go: as many as the server lets in fastest (the peak, its
capacity), and at multiples of that, each at their time, whether they are let in or not. Goodput are those who were in
within 5 s. Messages go on all the time. See flannel bench idle for what the server is.`,
		Example: `  flannel bench overload
  flannel bench overload --factors 2 --require 'goodput_share>=0.9' --require 'p99_times<2'
  flannel bench overload --steady 200 --storm 1500 --spread 3s --each 3s --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opt.Steady < 1 || opt.Storm < 1 || opt.Pace <= 0 || opt.Each <= 0 || opt.Spread <= 0 {
				return &usageError{errors.New("--steady, --storm, --pace, --each and --spread must be above 0")}
			}
			if slices.Equal(opt.Factors, []float64{0}) {
				opt.Factors = nil
			}
			for _, factor := range opt.Factors {
				if factor <= 0 {
					return &usageError{errors.New("--factors must be above 0, or 0 alone")}
				}
			}
			if err := checkBoot(boot); err != nil {
				return err
			}
			if f.generators == 0 {
				f.generators = 1 // for the steady sessions
			}
			return f.run(cmd.Context(), overload(opt, boot))
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&opt.Steady, "steady", opt.Steady, "sessions that stay and hear messages")
	flags.IntVar(&opt.Storm, "storm", opt.Storm, "sessions that lose their connection at once and come back")
	flags.DurationVar(&opt.Spread, "spread", opt.Spread, "time within which they begin to come back")
	flags.Float64Var(&opt.Pace, "pace", opt.Pace, "messages a second")
	flags.DurationVar(&opt.Each, "each", opt.Each, "how long each part is")
	flags.Float64SliceVar(&opt.Factors, "factors", opt.Factors, "multiples of the capacity to offer; 0 leaves that out")
	flags.StringVar(&boot, "boot", boot, "how sessions boot: thin; lazy (channels by their ids only); or none")
	f.add(cmd)
	return cmd
}

// overload is the scenario. Whoever comes has generators of their own, beside those of the steady sessions.
func overload(opt bench.OverloadOptions, boot string) scenario {
	return scenario{name: "overload", sessions: opt.Sessions(), watching: opt.Steady, asIs: true, boot: boot, run: func(ctx context.Context, b *bench.Bench) (cases []bench.Case, err error) {
		crowd, err := startWorkers(max((opt.Storm+perGenerator-1)/perGenerator, 1))
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, crowd.Close()) }()
		return bench.Overload(ctx, b, crowd, opt)
	}}
}
