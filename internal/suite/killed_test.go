package suite_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	thinclient "flannel/client"
	"flannel/node"
)

// childEdge names the environment variable that makes this test binary an edge: address, upstream and key.
const childEdge = "FLANNEL_TEST_CHILD_EDGE"

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEdge); spec != "" {
		if err := edgeProcess(strings.Fields(spec)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func edgeProcess(spec []string) error {
	cfg := node.Default()
	cfg.Edge.Listen, cfg.Admin.Listen, cfg.Edge.ReconnectMin, cfg.Edge.ReconnectMax = spec[0], "", 20*time.Millisecond, 500*time.Millisecond
	cfg.Upstream.URL, cfg.Upstream.Key = spec[1], spec[2]
	n, err := node.New(node.Options{Config: cfg, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})), Registry: prometheus.NewRegistry()})
	if err != nil {
		return err
	}
	fmt.Println(n.Addr())
	return n.Run(context.Background())
}

// process is an edge in a process of its own, at an address that it keeps when it is killed and started again.
type process struct {
	t    *testing.T
	w    *world
	addr string
	cmd  *exec.Cmd
}

func startProcess(t *testing.T, w *world) *process {
	p := &process{t: t, w: w, addr: "127.0.0.1:0"}
	p.start()
	t.Cleanup(p.kill)
	return p
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), childEdge+"="+p.addr+" http://"+p.w.back.UpstreamAddr()+" "+p.w.back.UpstreamKey())
	p.cmd.Stderr = testWriter{p.t}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	p.addr = strings.TrimSpace(line)
}

// kill is SIGKILL: nothing is flushed, nothing said.
func (p *process) kill() {
	p.cmd.Process.Kill() // It may be dead.
	p.cmd.Wait()         // It says that it was killed.
}

// TestKilled_NothingIsLost kills edges with SIGKILL under load, one after the other, while clients of the thin library
// hear sixteen channels' worth of numbered messages. Each client, wherever it comes back, hears every message once and
// in order, and nobody reconnects more often than its edge died.
func TestKilled_NothingIsLost(t *testing.T) {
	const clients, rounds, perRound = 12, 4, 60
	w := makeWorld(&world{t: t, unlimited: true}, 12)
	edges := []*process{startProcess(t, w), startProcess(t, w)}
	var dials atomic.Int64
	dialer := func(ctx context.Context, network, _ string) (net.Conn, error) {
		dials.Add(1)
		var d net.Dialer
		first := rand.IntN(2)
		conn, err := d.DialContext(ctx, network, edges[first].addr)
		if err != nil {
			conn, err = d.DialContext(ctx, network, edges[1-first].addr)
		}
		return conn, err
	}
	channel := general(t, client(w.backendURL(), w.member(6)))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	var heard sync.WaitGroup
	fails := make(chan string, clients)
	for i := range clients {
		// Two sessions of each of six members, so that a user's sessions sit on both edges.
		c, err := thinclient.Dial(ctx, thinclient.Options{URL: "http://edge", Token: w.member(i % 6).token, DialContext: dialer, PingInterval: time.Second, PongWait: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		heard.Go(func() {
			next := 0
			for next < rounds*perRound {
				ev, err := c.Next(ctx)
				if err != nil {
					fails <- fmt.Sprintf("client %d waits for %d: %v", i, next, err)
					return
				}
				if r, ok := ev.Data.(*thinclient.Resync); ok {
					fails <- fmt.Sprintf("client %d was told to resync: %+v", i, r)
					return
				}
				m, ok := ev.Data.(*thinclient.Message)
				if !ok || string(m.Channel) != channel {
					continue
				}
				n, err := strconv.Atoi(m.Text)
				if err != nil {
					continue
				}
				if n != next {
					fails <- fmt.Sprintf("client %d heard %d, want %d", i, n, next)
					return
				}
				next++
			}
		})
	}
	n := 0
	for round := range rounds {
		victim := edges[round%2]
		for i := range perRound {
			if i == perRound/3 {
				victim.kill()
			}
			if i == 2*perRound/3 {
				victim.start()
			}
			_, _, answer := call(t, w.backendURL(), "chat.postMessage", w.member(6).token, url.Values{"channel": {channel}, "text": {strconv.Itoa(n)}})
			if answer["ok"] != true {
				t.Fatalf("post: %v", answer)
			}
			n++
		}
		// So that they have come back before the other one dies: an edge that is down is no reason to count a loop.
		eventually(t, "the killed edge serves", func() bool {
			_, _, answer := call(t, "http://"+victim.addr, "api.test", w.member(0).token, nil)
			return answer["ok"] == true
		})
	}
	heard.Wait()
	close(fails)
	for f := range fails {
		t.Error(f)
	}
	// Each kill ends at most every session once; a dial may meet a dead edge before it tries the other.
	if got, most := dials.Load(), int64(clients*(1+3*rounds)); got > most {
		t.Errorf("%d dials for %d clients and %d kills", got, clients, rounds)
	}
}
