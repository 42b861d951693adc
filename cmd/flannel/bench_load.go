package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"flannel/bench"
	"flannel/bench/load"
	"flannel/bench/proc"
	"flannel/bench/synth"
	"flannel/protocol"
)

// loadFlags are what all load scenarios are asked.
type loadFlags struct {
	app *app

	url, tokens string
	pid         int
	generators  int
	runs        int
	asJSON      bool
	require     []string
}

// scenario is a load scenario: how many sessions it has, and what it does with them.
type scenario struct {
	name     string
	sessions int
	run      func(ctx context.Context, b *bench.Bench) ([]bench.Case, error)
}

// errUnmet is a threshold that was not met.
var errUnmet = errors.New("a threshold was not met")

func (f *loadFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.url, "url", "", "a running edge, http://HOST:PORT (default: starts one of its own, with a made-up backend behind it)")
	flags.StringVar(&f.tokens, "tokens", "", "file with a token in each line, for --url; flannel token --all writes one")
	flags.IntVar(&f.pid, "pid", 0, "process of the server at --url, if it runs on this machine: its CPU and memory are measured then")
	flags.IntVar(&f.generators, "generators", 0, "processes that make the load (default: one for each 8,000 sessions)")
	flags.IntVar(&f.runs, "runs", 1, "how often; the medians count")
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
	flags.StringArrayVar(&f.require, "require", nil, "threshold, like 'p99<50ms'; may be given several times. If one is not met the exit code is 3")
}

// perGenerator is how many sessions one generator has by default: with the server on the same two cores, more processes
// are in each other's way.
const perGenerator = 8000

// run runs a scenario and prints what came of it.
func (f *loadFlags) run(ctx context.Context, s scenario) error {
	thresholds := make([]bench.Threshold, len(f.require))
	for i, text := range f.require {
		var err error
		if thresholds[i], err = bench.ParseThreshold(text); err != nil {
			return &usageError{err}
		}
	}
	if err := f.check(&s); err != nil {
		return &usageError{err}
	}
	bar := newProgress(f.app.stderr)
	sheet := &bench.Sheet{Scenario: s.name, Runs: f.runs}
	var runs [][]bench.Case
	for i := range f.runs {
		cases, err := f.once(ctx, &s, func(phase string, done, total int) {
			if f.runs > 1 {
				phase = fmt.Sprintf("run %d, %s", i+1, phase)
			}
			bar.Step(phase, done, total)
		})
		if err != nil {
			bar.Done()
			return err
		}
		runs = append(runs, cases)
	}
	bar.Done()
	sheet.Cases = bench.Medians(runs)
	met, err := sheet.Judge(thresholds)
	if err != nil {
		return &usageError{err}
	}
	if f.asJSON {
		err = sheet.WriteJSON(f.app.stdout)
	} else {
		err = sheet.WriteTable(f.app.stdout)
	}
	if err == nil && !met {
		err = errUnmet
	}
	return err
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

// once runs a scenario against a server that was just started.
func (f *loadFlags) once(ctx context.Context, s *scenario, progress func(string, int, int)) (cases []bench.Case, err error) {
	target, stop, err := f.target(ctx, s)
	if err != nil {
		return nil, err
	}
	defer stop()
	crew, err := startWorkers(f.generators)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, crew.Close()) }()
	return s.run(ctx, &bench.Bench{Target: target, Crew: crew, Loopback: strings.HasPrefix(target.Address, "127.0.0.1:"), Progress: progress})
}

// target starts the server that is measured, or finds it.
func (f *loadFlags) target(ctx context.Context, s *scenario) (*bench.Target, func(), error) {
	if f.url != "" {
		t, err := f.remote()
		return t, func() {}, err
	}
	return f.app.startEdge(ctx, s.sessions)
}

// thinPath is what a thin session connects to that boots.
func thinPath(token string) string {
	return "/?flannel=" + protocol.ThinVersion + "&boot=1&token=" + url.QueryEscape(token)
}

// countsFrame is how the frame begins that ends a thin session's boot.
const countsFrame = `{"type":"` + protocol.FrameCounts + `"`

// remote is an edge that runs somewhere.
func (f *loadFlags) remote() (*bench.Target, error) {
	u, err := url.Parse(f.url)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" {
		return nil, &usageError{fmt.Errorf("--url is %q; the generator speaks http://HOST:PORT, without TLS, which would measure the generator", f.url)}
	}
	text, err := os.ReadFile(f.tokens)
	if err != nil {
		return nil, &usageError{err}
	}
	t := &bench.Target{Name: "flannel", Address: u.Host, Until: countsFrame}
	if u.Port() == "" {
		t.Address = net.JoinHostPort(u.Hostname(), "80")
	}
	for line := range strings.Lines(string(text)) {
		// A line of flannel token --all has the user in front.
		if words := strings.Fields(line); len(words) > 0 {
			t.Paths = append(t.Paths, thinPath(words[len(words)-1]))
		}
	}
	if len(t.Paths) == 0 {
		return nil, &usageError{fmt.Errorf("there is no token in %s", f.tokens)}
	}
	if f.pid != 0 {
		t.Process = &proc.Process{PID: f.pid}
	}
	return t, nil
}

// startEdge starts flannel edge in a process of its own, with a made-up backend behind it in this one.
func (a *app) startEdge(ctx context.Context, sessions int) (t *bench.Target, stop func(), err error) {
	cfg, _, err := a.benchConfig()
	if err != nil {
		return nil, nil, err
	}
	back, err := synth.New(synth.Sized(sessions))
	if err != nil {
		return nil, nil, err
	}
	served := make(chan error, 1)
	go func() { served <- back.Serve() }()
	stopBackend := func() {
		back.Close() //nolint:errcheck // It holds nothing.
		<-served     //nolint:errcheck // As above.
	}
	environ := []string{"FLANNEL_NODE_UPSTREAM_KEY=" + back.Key()}
	if cfg.Node.Edge.MaxSessions < sessions {
		environ = append(environ, envName("node.edge.max_sessions")+"="+strconv.Itoa(sessions))
	}
	args := []string{"edge", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--upstream", back.URL(), "--log-level", "info", "--log-format", "json"}
	if a.configPath != "" {
		args = append(args, "--config", a.configPath)
	}
	server, line, err := startSelf(ctx, a.stderr, "edge", environ, args)
	if err != nil {
		stopBackend()
		return nil, nil, err
	}
	stop = func() {
		server.stop()
		stopBackend()
	}
	waiting, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if err := back.WaitEdge(waiting); err != nil {
		stop()
		return nil, nil, fmt.Errorf("%w\n%s", err, server.last())
	}
	t = &bench.Target{
		Name: "flannel", Address: fmt.Sprint(line["edge"]), Until: countsFrame, Process: &proc.Process{PID: server.cmd.Process.Pid},
		Profile: "http://" + fmt.Sprint(line["admin"]), BackendCalls: back.Calls, Paths: make([]string, sessions), Language: load.Websocket,
	}
	for i := range t.Paths {
		t.Paths[i] = thinPath(synth.Token(i))
	}
	return t, stop, nil
}
