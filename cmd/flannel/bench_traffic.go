package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"flannel/backend/seed"
	"flannel/backend/store"
	"flannel/bench"
	"flannel/protocol"
)

func newBenchTraffic(a *app) *cobra.Command {
	var (
		data                       string
		preset, listeners, passive int
		f                          = sheetFlags{app: a}
		opt, quiet                 = bench.DefaultTraffic(), bench.DefaultPassive()
	)
	cmd := &cobra.Command{
		Use:   "traffic",
		Short: "What a session costs in bytes: compatible, thin, thin with views",
		Long: `Replays some minutes of a busy day in a workspace, faster than it goes: messages in channels of which few are busy,
reactions, typing, changes of profiles and presence, read markers. The same people listen in three ways:

  compatible   a client of the dialect as it always was: everything of its conversations and its workspace
  thin         the Go client: the same, with objects right before the events that need them
  thin_views   the Go client with a few conversations in view, its busiest; the others come as badges

and what crosses their sockets is counted and stretched to an hour of the day. What a client fetches before it listens is
not in it: flannel bench boot measures that. Badges are collected by the second of the clock, which a fast replay would
flatter, so a badge is counted for each event out of view. Then, in a large channel, many messages a second are said, and
the badges of sessions that look elsewhere are counted: at most one a second each is promised. Everything runs in this
process on loopback.`,
		Example: `  flannel bench traffic
  flannel bench traffic --preset 530 --duration 1m --speed 60 --passive 0 --json
  flannel bench traffic --data ./bench-data       # keeps the made-up workspaces for the next time`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := seed.Preset(preset); err != nil {
				return &usageError{err}
			}
			if err := checkTraffic(listeners, passive, &opt, &quiet); err != nil {
				return &usageError{err}
			}
			if err := f.checkThresholds(); err != nil {
				return err
			}
			data, cleanUp, err := benchData(data)
			if err != nil {
				return err
			}
			defer cleanUp()
			cfg, log, err := a.benchConfig()
			if err != nil {
				return err
			}
			cfg.Backend.RateLimits = false // A few writers stand for everybody.
			bar := newProgress(a.stderr)
			opt.Progress, quiet.Progress = bar.Step, bar.Step
			report, err := a.benchTraffic(cmd.Context(), cfg, log, preset, listeners, data, bar, opt)
			if err == nil && passive > 0 {
				report.Passive, err = a.benchPassive(cmd.Context(), cfg, log, passive, data, bar, quiet)
			}
			bar.Done()
			if err != nil {
				return err
			}
			return f.print(bench.TrafficSheet(report))
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "where to keep the made-up workspaces (default: nowhere)")
	cmd.Flags().IntVar(&preset, "preset", 4008, "published workspace to stand for: "+seed.PresetNames())
	cmd.Flags().IntVar(&listeners, "listeners", 24, "how many people listen, in each of the three modes")
	cmd.Flags().IntVar(&opt.InView, "view", opt.InView, "conversations in view")
	cmd.Flags().DurationVar(&opt.Duration, "duration", opt.Duration, "how long the replay takes")
	cmd.Flags().Float64Var(&opt.Speed, "speed", opt.Speed, "how much faster than the day it goes")
	cmd.Flags().IntVar(&passive, "passive", 20_000, "members of the large channel; 0 leaves that part out")
	cmd.Flags().IntVar(&quiet.Sessions, "passive-sessions", quiet.Sessions, "sessions that have the large channel out of view")
	cmd.Flags().DurationVar(&quiet.Duration, "passive-duration", quiet.Duration, "how long messages are said there")
	cmd.Flags().Uint64Var(&opt.Seed, "seed", opt.Seed, "which day")
	f.add(cmd)
	return cmd
}

func checkTraffic(listeners, passive int, opt *bench.TrafficOptions, quiet *bench.PassiveOptions) error {
	switch {
	case listeners < 1:
		return errors.New("--listeners is at least 1")
	case opt.InView < 0 || opt.InView > protocol.MaxView:
		return fmt.Errorf("--view is between 0 and %d", protocol.MaxView)
	case opt.Duration <= 0 || opt.Speed <= 0:
		return errors.New("--duration and --speed must be above 0")
	case passive != 0 && (passive < seed.MinUsers || quiet.Sessions < 1 || quiet.Duration <= 0):
		return fmt.Errorf("--passive is 0 or at least %d, --passive-sessions at least 1, --passive-duration above 0", seed.MinUsers)
	}
	return nil
}

func (a *app) benchTraffic(ctx context.Context, cfg Config, log *slog.Logger, preset, listeners int, data string, bar *progress, opt bench.TrafficOptions) (report bench.TrafficReport, err error) {
	site, err := a.newBenchSite(ctx, cfg, log, preset, filepath.Join(data, fmt.Sprintf("traffic-%d", preset)), bar, nil)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, site.stop()) }()
	edge, err := site.freshEdge(ctx)
	if err != nil {
		return report, err
	}
	target := bench.TrafficTarget{Users: preset, Edge: edge, Backend: "http://" + site.backend.Addr(), Token: site.tokenOf(ctx)}
	people, err := site.people(ctx)
	if err != nil {
		return report, err
	}
	conversations := make(map[protocol.UserID][]protocol.ChannelID)
	if target.Channels, err = site.conversations(ctx, people); err != nil {
		return report, err
	}
	for _, ch := range target.Channels {
		for _, m := range ch.Members {
			conversations[m] = append(conversations[m], ch.ID)
		}
	}
	// Every so-manieth of the people, so that they are neither all new nor all old.
	var candidates []protocol.UserID
	for _, p := range people {
		if len(conversations[p]) > 0 {
			candidates = append(candidates, p)
		}
	}
	listeners = min(listeners, len(candidates))
	for i := range listeners {
		id := candidates[i*len(candidates)/listeners]
		token, err := target.Token(id)
		if err != nil {
			return report, err
		}
		target.Listeners = append(target.Listeners, bench.Listener{Person: bench.Person{ID: id, Token: token}, Channels: conversations[id]})
	}
	return bench.Traffic(ctx, target, opt)
}

func (a *app) benchPassive(ctx context.Context, cfg Config, log *slog.Logger, members int, data string, bar *progress, opt bench.PassiveOptions) (figures *bench.PassiveFigures, err error) {
	// Not everybody is in the general channel: guests are not, nor those who are gone.
	users := members + members/7 + seed.MinUsers
	site, err := a.newBenchSite(ctx, cfg, log, users, filepath.Join(data, fmt.Sprintf("passive-%d", users)), bar, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, site.stop()) }()
	edge, err := site.freshEdge(ctx)
	if err != nil {
		return nil, err
	}
	people, err := site.people(ctx)
	if err != nil {
		return nil, err
	}
	channels, err := site.conversations(ctx, people)
	if err != nil {
		return nil, err
	}
	f, err := bench.Passive(ctx, bench.PassiveTarget{
		Edge: edge, Backend: "http://" + site.backend.Addr(), Channel: channels[0].ID, Members: channels[0].Members, Token: site.tokenOf(ctx),
	}, opt)
	return &f, err
}

// tokenOf returns a function that issues tokens.
func (s *benchSite) tokenOf(ctx context.Context) func(protocol.UserID) (string, error) {
	return func(id protocol.UserID) (string, error) { return tokenOf(ctx, s.backend, id) }
}

// people returns everybody who is no bot and not gone.
func (s *benchSite) people(ctx context.Context) (ids []protocol.UserID, err error) {
	err = eachUser(ctx, s.backend.Store(), func(u *protocol.User) error {
		if !u.Deleted && !u.IsBot {
			ids = append(ids, u.ID)
		}
		return nil
	})
	return ids, err
}

// conversations returns where those people talk, the largest first: everything but what is archived.
func (s *benchSite) conversations(ctx context.Context, people []protocol.UserID) (list []bench.TrafficChannel, err error) {
	members := make(map[protocol.ChannelID][]protocol.UserID)
	err = s.backend.Store().View(ctx, func(r store.Reader) error {
		archived := make(map[protocol.ChannelID]bool)
		if err := r.EachObject(s.made.Workspace.ID, protocol.KindChannel, func(o *protocol.Object) error {
			var c protocol.Channel
			err := json.Unmarshal(o.Body, &c)
			archived[c.ID] = c.IsArchived
			return err
		}); err != nil {
			return err
		}
		for _, user := range people {
			in, err := r.Memberships(user)
			if err != nil {
				return err
			}
			for i := range in {
				if ch := in[i].Channel; !archived[ch] {
					members[ch] = append(members[ch], user)
				}
			}
		}
		return nil
	})
	for id, m := range members {
		list = append(list, bench.TrafficChannel{ID: id, Members: m})
	}
	slices.SortFunc(list, func(a, b bench.TrafficChannel) int {
		return cmp.Or(cmp.Compare(len(b.Members), len(a.Members)), cmp.Compare(a.ID, b.ID))
	})
	if err == nil && len(list) == 0 {
		err = errors.New("nobody is in a conversation")
	}
	return list, err
}
