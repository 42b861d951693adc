package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"flannel/bench"
)

func newBenchIdle(a *app) *cobra.Command {
	f, opt, boot := newLoadFlags(a), bench.DefaultIdle(), bootThin
	cmd := &cobra.Command{
		Use:   "idle",
		Short: "What a session costs that does nothing: memory, and CPU for staying",
		Long: `Holds thin sessions of users in 100 channels each, one per user, which have booted and then say nothing. Measures the
server's resident memory above that of the empty process, after a garbage collection; its peak; and the processor time
that staying costs (pings). The server is a process of its own: flannel edge, started for this, with a made-up backend
behind it in this process, or the one at --url, whose process --pid names.`,
		Example: `  flannel bench idle
  flannel bench idle --compare=reference --runs 3
  flannel bench idle --sessions 1000 --require 'rss_kib_per_session<4' --json
  flannel bench idle --url http://127.0.0.1:8080 --tokens tokens.txt --pid 4711 --sessions 500`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opt.Settle < 0 || opt.Hold < 0 || f.url != "" && f.pid == 0 {
				return &usageError{errors.New("--settle and --hold are not below 0, and --url needs --pid: memory is of a process")}
			}
			if err := checkBoot(boot); err != nil {
				return err
			}
			return f.run(cmd.Context(), scenario{name: "idle", sessions: opt.Sessions, boot: boot, run: func(ctx context.Context, b *bench.Bench) ([]bench.Case, error) {
				return bench.Idle(ctx, b, opt)
			}})
		},
	}
	cmd.Flags().IntVar(&opt.Sessions, "sessions", opt.Sessions, "how many sessions")
	cmd.Flags().DurationVar(&opt.Settle, "settle", opt.Settle, "how long memory may take to come to rest")
	cmd.Flags().DurationVar(&opt.Hold, "hold", opt.Hold, "how long everybody then stays")
	cmd.Flags().StringVar(&boot, "boot", boot, "how sessions boot: thin; lazy (channels by their ids only); or none")
	f.add(cmd)
	return cmd
}

func compressionFlag(cmd *cobra.Command, on *bool) {
	cmd.Flags().BoolVar(on, "compression", false, "offer compression (permessage-deflate); the generator inflates only what it looks at")
}

func newBenchConnect(a *app) *cobra.Command {
	f, opt, boot, compression := newLoadFlags(a), bench.DefaultConnect(), bootThin, false
	cmd := &cobra.Command{
		Use:   "connect",
		Short: "What coming in costs: upgrade, hello and boot of users that the server knows",
		Long: `Everybody comes once, so that the server knows them, leaves, and comes again at an even rate: upgrade, hello, boot and
counts. The second time is measured: the server's processor time for each, and how long they took, from when each should
have begun. See flannel bench idle for what the server is.`,
		Example: `  flannel bench connect
  flannel bench connect --boot lazy --compare --runs 5
  flannel bench connect --compression
  flannel bench connect --sessions 500 --rate 250 --require 'cpu_us_per_connect<120' --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opt.Rate <= 0 {
				return &usageError{errors.New("--rate must be above 0")}
			}
			if err := checkBoot(boot); err != nil {
				return err
			}
			return f.run(cmd.Context(), scenario{name: "connect", sessions: opt.Sessions, boot: boot, compression: compression, run: func(ctx context.Context, b *bench.Bench) ([]bench.Case, error) {
				return bench.Connect(ctx, b, opt)
			}})
		},
	}
	cmd.Flags().IntVar(&opt.Sessions, "sessions", opt.Sessions, "how many sessions")
	cmd.Flags().Float64Var(&opt.Rate, "rate", opt.Rate, "how many come in a second")
	compressionFlag(cmd, &compression)
	cmd.Flags().StringVar(&boot, "boot", boot, "how sessions boot: thin; lazy (channels by their ids only); or none")
	f.add(cmd)
	return cmd
}
