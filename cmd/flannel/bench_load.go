package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"flannel/bench"
	"flannel/bench/synth"
)

// loadFlags are what all load scenarios are asked.
type loadFlags struct {
	sheetFlags

	url, tokens string
	channel     string // where to say something at url
	pid         int
	generators  int
	runs        int
	compare     []string
	selfCheck   bool
	metrics     string
	live        *bench.Live // nil without --metrics-listen
	world       synth.World // what the made-up backend has; 0 takes what Sized does
}

// newLoadFlags returns the flags of a command that was not asked anything.
func newLoadFlags(a *app) loadFlags { return loadFlags{sheetFlags: sheetFlags{app: a}, runs: 1} }

// scenario is a load scenario: how many sessions it has, and what it does with them.
type scenario struct {
	name     string
	sessions int
	asIs     bool   // the server has its own limits
	watching int    // so many of them, the first, have the channel of messages on the screen; 0: all
	boot     string // how sessions boot: bootThin, bootLazy or bootNone
	// bootBytes is how much the others tell who boots: what flannel did.
	bootBytes int
	// compression is offered to the servers; those that do not know it decline.
	compression bool
	run         func(ctx context.Context, b *bench.Bench) ([]bench.Case, error)
}

func (f *loadFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.url, "url", "", "a running edge, http://HOST:PORT (default: starts one of its own, with a made-up backend behind it)")
	flags.StringVar(&f.tokens, "tokens", "", "file with a token in each line, for --url; flannel token --all writes one")
	flags.IntVar(&f.pid, "pid", 0, "process of the server at --url, if it runs on this machine: its CPU and memory are measured then")
	flags.IntVar(&f.generators, "generators", 0, "processes that make the load (default: one for each 8,000 sessions)")
	flags.IntVar(&f.runs, "runs", 1, "how often; the medians count")
	flags.StringSliceVar(&f.compare, "compare", nil, "servers to measure in turn: reference, redis, memcached, nchan, or all of the scenario (--compare alone)")
	flags.Lookup("compare").NoOptDefVal = everyRival
	flags.BoolVar(&f.selfCheck, "self-check", false, "measure a server that does nothing in turn too: what the generators can do at most")
	flags.StringVar(&f.metrics, "metrics-listen", "", "address to serve what the generators count at, while the scenario runs: flannel_load_… for Prometheus")
	f.sheetFlags.add(cmd)
}

// perGenerator is how many sessions one generator has by default: with the server on the same two cores, more processes
// are in each other's way.
const perGenerator = 8000

// run runs a scenario and prints what came of it.
func (f *loadFlags) run(ctx context.Context, s scenario) error {
	if err := f.checkThresholds(); err != nil {
		return err
	}
	return f.report(func(bar *progress) (*bench.Sheet, error) { return f.measure(ctx, s, bar) })
}

// report measures, with a bar to watch and with --metrics-listen served, and prints what came of it.
func (f *loadFlags) report(measure func(bar *progress) (*bench.Sheet, error)) error {
	stop, err := f.watched()
	if err != nil {
		return &usageError{err}
	}
	defer stop()
	bar := newProgress(f.app.stderr)
	sheet, err := measure(bar)
	bar.Done()
	if err != nil {
		return err
	}
	return f.print(sheet)
}

// measure runs a scenario.
func (f *loadFlags) measure(ctx context.Context, s scenario, bar *progress) (*bench.Sheet, error) {
	if err := f.check(&s); err != nil {
		return nil, &usageError{err}
	}
	others, err := f.chosen(s.name)
	if err != nil {
		return nil, err
	}
	sheet := &bench.Sheet{Scenario: s.name, Runs: f.runs}
	s.bootBytes = defaultBootBytes
	var runs [][]bench.Case
	for i := range f.runs {
		// All in turn in each run: what the machine does meanwhile happens to all.
		var cases []bench.Case
		for _, start := range f.starters(others) {
			more, series, err := f.once(ctx, &s, start, func(phase string, done, total int) {
				bar.Step(numbered(i, f.runs, phase), done, total)
			})
			if err != nil {
				return nil, err
			}
			if bytes, ok := more[0].Figures["bytes_per_connect"]; ok && len(cases) == 0 {
				s.bootBytes = int(bytes)
			}
			cases = append(cases, more...)
			if i == 0 {
				sheet.Series = append(sheet.Series, series)
			}
		}
		runs = append(runs, cases)
	}
	sheet.Cases = bench.Medians(runs)
	return sheet, nil
}

// watched serves --metrics-listen, if it is given, until stop is called.
func (f *loadFlags) watched() (stop func(), err error) {
	if f.metrics == "" {
		return func() {}, nil
	}
	ln, err := net.Listen("tcp", f.metrics)
	if err != nil {
		return nil, fmt.Errorf("--metrics-listen: %w", err)
	}
	f.live = bench.NewLive()
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", f.live)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	var ended sync.WaitGroup
	ended.Go(func() { server.Serve(ln) }) //nolint:errcheck // It says that it was closed.
	return func() {
		server.Close() //nolint:errcheck // Nobody waits for the rest.
		ended.Wait()
	}, nil
}

// check finds mistakes before anything is started.
func (f *loadFlags) check(s *scenario) error {
	if f.generators == 0 {
		f.generators = max((s.sessions+perGenerator-1)/perGenerator, 1)
	}
	limit := descriptors()
	switch {
	case s.sessions < 1 || f.runs < 1 || f.generators < 1:
		return errors.New("sessions, --runs and --generators are at least 1")
	case f.generators > s.sessions:
		return fmt.Errorf("%d generators for %d sessions are too many", f.generators, s.sessions)
	case f.selfCheck && s.name == "idle":
		return errors.New("idle measures memory, for which it does not matter what the generators can do: no --self-check")
	case (f.url == "") != (f.tokens == ""):
		return errors.New("--url and --tokens belong together: who are the sessions to be?")
	case f.pid != 0 && f.url == "":
		return errors.New("--pid is the process of the server at --url")
	case limit > 0 && s.sessions/f.generators > limit-fewDescriptors:
		return fmt.Errorf("%d sessions are too many for %d generators, which may have %d files open each: take more --generators", s.sessions, f.generators, limit)
	case limit > 0 && f.url == "" && s.sessions > limit-fewDescriptors:
		return fmt.Errorf("a server of this machine may have %d files open, which is not enough for %d sessions: raise the limit (ulimit -n)", limit, s.sessions)
	}
	return nil
}

// fewDescriptors are for what a process has open besides sessions.
const fewDescriptors = 300

// starter starts a server, or finds it.
type starter func(ctx context.Context, s *scenario) (*bench.Target, func(), error)

// starters are those of all that are measured, ours first.
func (f *loadFlags) starters(others []rival) []starter {
	all := []starter{f.target}
	for _, r := range others {
		all = append(all, func(ctx context.Context, s *scenario) (*bench.Target, func(), error) { return r.start(ctx, f.app, s) })
	}
	if f.selfCheck {
		all = append(all, startBare)
	}
	return all
}

// once runs a scenario against a server that was just started.
func (f *loadFlags) once(ctx context.Context, s *scenario, start starter, progress func(string, int, int)) (cases []bench.Case, series bench.Series, err error) {
	target, stop, err := start(ctx, s)
	if err != nil {
		return nil, series, err
	}
	defer stop()
	target.Compression = s.compression
	crew, err := startWorkers(f.generators)
	if err != nil {
		return nil, series, err
	}
	defer func() { err = errors.Join(err, crew.Close()) }()
	b := &bench.Bench{Target: target, Crew: crew, Loopback: strings.HasPrefix(target.Address, "127.0.0.1:"), Progress: progress, Live: f.live}
	recorded := b.Record()
	cases, err = s.run(ctx, b)
	return cases, recorded(), err
}

// target starts the server that is measured, or finds it.
func (f *loadFlags) target(ctx context.Context, s *scenario) (*bench.Target, func(), error) {
	if f.url != "" {
		t, err := f.remote(ctx, s)
		return t, func() {}, err
	}
	return f.app.startEdge(ctx, s, f.world)
}
