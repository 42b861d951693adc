package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"flannel/bench"
)

func newBenchQuery(a *app) *cobra.Command {
	f, opt := newLoadFlags(a), bench.DefaultQuery()
	cmd := &cobra.Command{
		Use:   "query",
		Short: "Look-ups of objects that the edge has: single ones at several depths, and batches",
		Long: `Sessions look up users of 716 bytes each that the edge has in its cache: one in a question with --depth questions of
each session in the air, and --batch in a question with --air. Each answer is looked at: it must have what was asked for.
Without --rate the next question goes out with the answer, and times are those of answers; with it, questions have their
time, and are timed from it. See flannel bench idle for what the server is.`,
		Example: `  flannel bench query
  flannel bench query --compare --runs 5 --require 'queries_per_s_depth_16/reference>0.9'
  flannel bench query --depth 1 --rate 2000 --batch 0 --require 'p99<5ms'
  flannel bench query --sessions 4 --for 1s --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case slices.ContainsFunc(opt.Depths, func(n int) bool { return n < 1 }), opt.Batch < 0 || opt.Air < 1 || opt.Rate < 0, opt.Batch > benchObjects:
				return &usageError{errors.New("--depth and --air are at least 1, --rate is not below 0, --batch is 0 to 1,000")}
			case opt.Each <= 0 || opt.Warm < 0:
				return &usageError{errors.New("--for must be above 0, and --warm not below")}
			}
			return f.run(cmd.Context(), scenario{name: "query", sessions: opt.Sessions, boot: bootNone, run: func(ctx context.Context, b *bench.Bench) ([]bench.Case, error) {
				return bench.Query(ctx, b, opt)
			}})
		},
	}
	cmd.Flags().IntVar(&opt.Sessions, "sessions", opt.Sessions, "how many sessions ask")
	cmd.Flags().IntSliceVar(&opt.Depths, "depth", opt.Depths, "questions of a session in the air, one object each")
	cmd.Flags().IntVar(&opt.Batch, "batch", opt.Batch, "objects in a question, in a case of its own; 0 leaves it out")
	cmd.Flags().IntVar(&opt.Air, "air", opt.Air, "questions of a session in the air in that case")
	cmd.Flags().Float64Var(&opt.Rate, "rate", opt.Rate, "questions a second, all sessions together; 0: as many as come through")
	cmd.Flags().DurationVar(&opt.Each, "for", opt.Each, "how long each case counts")
	cmd.Flags().DurationVar(&opt.Warm, "warm", opt.Warm, "how long before it counts")
	cmd.Flags().Uint64Var(&opt.Seed, "seed", opt.Seed, "which objects are asked for, and in which order")
	f.add(cmd)
	return cmd
}

// maxBenchText is the longest text that a message may have over HTTP.
const maxBenchText = 40_000

func newBenchFanout(a *app) *cobra.Command {
	f, opt, compression := newLoadFlags(a), bench.DefaultFanout(), false
	cmd := &cobra.Command{
		Use:   "fanout",
		Short: "Messages in one channel that everybody has on the screen",
		Long: `Messages of 200 bytes (--text for longer ones) in one channel that all sessions are in and have on their screen. First at an even pace, each at
its time, to --paced-to sessions: latency, and processor time for each delivery. Then to --subscribers, with so many
messages in the air (--in-flight): as many deliveries as come through. Each delivery is counted, of each session, by its
number: lost are those that did not come. Messages come from the made-up backend, which stores nothing; with --url, from
chat.postMessage in --channel. See flannel bench idle for what the server is.`,
		Example: `  flannel bench fanout
  flannel bench fanout --compare --runs 5
  flannel bench fanout --subscribers 1000 --in-flight 1 --paced-to 0 --for 2s --json
  flannel bench fanout --text 2000 --compression
  flannel bench fanout --in-flight 8 --require 'deliveries_per_s>300000' --require 'p99_ms_paced<20'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case slices.ContainsFunc(opt.InFlight, func(n int) bool { return n < 1 }), opt.Subscribers < 0, opt.PacedTo < 0, opt.Sessions() == 0:
				return &usageError{errors.New("--in-flight is at least 1, and one of --subscribers and --paced-to")}
			case opt.Each <= 0 || opt.PacedFor <= 0 || opt.Pace <= 0:
				return &usageError{errors.New("--for, --paced-for and --pace must be above 0")}
			case (f.url == "") != (f.channel == ""):
				return &usageError{errors.New("--url and --channel belong together: where are messages to be said?")}
			case opt.Text < 0 || opt.Text > maxBenchText:
				return &usageError{fmt.Errorf("--text is from 0 to %d characters", maxBenchText)}
			}
			return f.run(cmd.Context(), scenario{name: "fanout", sessions: opt.Sessions(), boot: bootThin, compression: compression, run: func(ctx context.Context, b *bench.Bench) ([]bench.Case, error) {
				return bench.Fanout(ctx, b, opt)
			}})
		},
	}
	cmd.Flags().IntVar(&opt.PacedTo, "paced-to", opt.PacedTo, "how many sessions hear messages at an even pace; 0 leaves it out")
	cmd.Flags().Float64Var(&opt.Pace, "pace", opt.Pace, "messages a second")
	cmd.Flags().DurationVar(&opt.PacedFor, "paced-for", opt.PacedFor, "for how long")
	cmd.Flags().IntVar(&opt.Subscribers, "subscribers", opt.Subscribers, "how many sessions hear as much as comes through; 0 leaves it out")
	cmd.Flags().IntSliceVar(&opt.InFlight, "in-flight", opt.InFlight, "messages in the air; a case for each")
	cmd.Flags().DurationVar(&opt.Each, "for", opt.Each, "how long each of these cases is")
	cmd.Flags().IntVar(&opt.Text, "text", 0, "characters of the text of each message (default: as many as make it 200 bytes)")
	compressionFlag(cmd, &compression)
	cmd.Flags().StringVar(&f.channel, "channel", "", "where to say it, with --url: a channel that all of --tokens are in")
	f.add(cmd)
	return cmd
}
