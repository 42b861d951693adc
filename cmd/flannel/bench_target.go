package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"flannel/bench"
	"flannel/bench/load"
	"flannel/bench/proc"
	"flannel/bench/synth"
	"flannel/protocol"
)

// benchObjects is how many objects are looked up: all are in memory, and no session is near its limit of different ones.
const benchObjects = 1000

// How sessions boot: with the channels that they are in, with the channels' ids only, or not at all.
const (
	bootThin = "thin"
	bootLazy = "lazy"
	bootNone = "none"
)

// thinPath is what a thin session connects to. One that boots has the given channel on its screen.
func thinPath(token, boot string, view protocol.ChannelID) string {
	path := "/?flannel=" + protocol.ThinVersion
	switch boot {
	case bootLazy:
		path += "&boot=1&lazy_channels=1&view=" + string(view)
	case bootThin:
		path += "&boot=1&view=" + string(view)
	}
	return path + "&token=" + url.QueryEscape(token)
}

// lastFrame is how the frame begins that ends what a thin session is told first.
func lastFrame(boot string) string {
	if boot == bootNone {
		return `{"type":"` + protocol.FrameHello + `"`
	}
	return `{"type":"` + protocol.FrameCounts + `"`
}

// checkBoot finds a mistake in --boot.
func checkBoot(boot string) error {
	if boot != bootThin && boot != bootLazy && boot != bootNone {
		return &usageError{fmt.Errorf("--boot is %q; choose %s, %s or %s", boot, bootThin, bootLazy, bootNone)}
	}
	return nil
}

// remote is an edge that runs somewhere.
func (f *loadFlags) remote(ctx context.Context, s *scenario) (*bench.Target, error) {
	u, err := url.Parse(f.url)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" {
		return nil, &usageError{fmt.Errorf("--url is %q; the generator speaks http://HOST:PORT, without TLS, which would measure the generator", f.url)}
	}
	text, err := os.ReadFile(f.tokens)
	if err != nil {
		return nil, &usageError{err}
	}
	t := &bench.Target{Name: "flannel", Address: u.Host, Until: lastFrame(s.boot), Language: load.Websocket}
	if u.Port() == "" {
		t.Address = net.JoinHostPort(u.Hostname(), "80")
	}
	var tokens []string
	for line := range strings.Lines(string(text)) {
		// A line of flannel token --all has the user in front.
		if words := strings.Fields(line); len(words) > 0 {
			tokens = append(tokens, words[len(words)-1])
			t.Paths = append(t.Paths, thinPath(words[len(words)-1], s.boot, protocol.ChannelID(f.channel)))
		}
	}
	if len(tokens) == 0 {
		return nil, &usageError{fmt.Errorf("there is no token in %s", f.tokens)}
	}
	if f.pid != 0 {
		t.Process = &proc.Process{PID: f.pid}
	}
	if f.channel != "" {
		t.Publish = func(ctx context.Context, text string) error {
			text += strings.Repeat("m", max(synth.PayloadLen-len(text), 0))
			_, err := callAPI(ctx, "http://"+t.Address, "chat.postMessage", tokens[0], url.Values{"channel": {f.channel}, "text": {text}})
			return err
		}
	}
	if s.boot == bootNone {
		// Whoever there are tokens for is looked up.
		for _, token := range tokens[:min(len(tokens), benchObjects)] {
			body, err := callAPI(ctx, "http://"+t.Address, "auth.test", token, nil)
			if err != nil {
				return nil, err
			}
			var who struct {
				User string `json:"user_id"`
			}
			if err := json.Unmarshal(body, &who); err != nil {
				return nil, fmt.Errorf("read auth.test: %w", err)
			}
			t.IDs = append(t.IDs, who.User)
		}
	}
	return t, nil
}

// callAPI calls a method of the Web API that must succeed.
func callAPI(ctx context.Context, base, method, token string, args url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/api/"+method, strings.NewReader(args.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", method, err)
	}
	defer resp.Body.Close() //nolint:errcheck // Read to the end or given up.
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && string(protocol.Field(body, "ok")) != "true" {
		err = fmt.Errorf("status %d, %.200s", resp.StatusCode, body)
	}
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", method, err)
	}
	return body, nil
}

// worldOf is what the made-up backend has: what was asked for, else enough to look up; and a user for each session.
func worldOf(s *scenario, asked synth.World) synth.World {
	w := synth.Sized(max(s.sessions, cmp.Or(asked.Users, benchObjects)))
	if asked.PerUser > 0 {
		w.PerUser = asked.PerUser
		w.Channels = max(w.Channels, 2*asked.PerUser) // Nobody is in all.
	}
	return w
}

// startEdge starts flannel edge in a process of its own, with a made-up backend behind it in this one.
func (a *app) startEdge(ctx context.Context, s *scenario, asked synth.World) (t *bench.Target, stop func(), err error) {
	cfg, _, err := a.benchConfig()
	if err != nil {
		return nil, nil, err
	}
	back, err := synth.New(worldOf(s, asked))
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
	if !s.asIs {
		environ = append(environ, unlimited()...)
	}
	if cfg.Node.Edge.MaxSessions < s.sessions {
		environ = append(environ, envName("node.edge.max_sessions")+"="+strconv.Itoa(s.sessions))
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
		Name: "flannel", Address: fmt.Sprint(line["edge"]), Until: lastFrame(s.boot), Process: &proc.Process{PID: server.cmd.Process.Pid},
		Profile: "http://" + fmt.Sprint(line["admin"]), BackendCalls: back.Calls, Paths: make([]string, s.sessions), Language: load.Websocket,
		Publish: func(ctx context.Context, text string) error { return publish(ctx, back, text) },
	}
	for i := range t.Paths {
		view := synth.Channel(0)
		if s.watching > 0 && i >= s.watching {
			view = synth.Channel(1)
		}
		t.Paths[i] = thinPath(synth.Token(i), s.boot, view)
	}
	t.IDs = objectIDs()
	return t, stop, nil
}

// publish says something once the edge listens.
func publish(ctx context.Context, back *synth.Backend, text string) error {
	for end := time.Now().Add(startWithin); !back.Followed(); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(end) {
			return errors.New("the edge does not follow the channel")
		}
	}
	back.Publish(text)
	return nil
}

// unlimited is the environment that lifts the limits of one session, which a generator with few sessions would run into, and
// of sockets a second, which it would run into before it measures anything.
func unlimited() (environ []string) {
	known := knownKeys()
	for key, value := range map[string]string{"node.edge.frame_rate": "100000000", "node.edge.frame_burst": "100000000", "node.query.enumeration_limit": "0", "node.edge.open_rate": "1000000"} {
		if known[key] {
			environ = append(environ, envName(key)+"="+value)
		}
	}
	return environ
}
