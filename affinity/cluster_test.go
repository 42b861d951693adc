package affinity

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// patience bounds every wait: long enough for a loaded machine with the race detector.
const patience = 30 * time.Second

// testNode is a real member on loopback.
type testNode struct {
	*Cluster
	t        *testing.T
	load     atomic.Int64
	sessions [][2]string // static once it runs
	end      context.CancelFunc
	done     chan error
}

// logTo writes to the test's log while that is there: memberlist does not wait for its goroutines.
type logTo struct {
	mu sync.Mutex
	t  *testing.T // guarded by mu; nil when the test is over
}

func newLog(t *testing.T) *logTo {
	w := &logTo{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.t = nil
	})
	return w
}

func (w *logTo) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

// quick makes gossip fast; a death is confirmed in a second or two. Faster, and a machine that is busy with the race detector
// looks dead.
func quick(c *memberlist.Config) {
	c.ProbeInterval, c.ProbeTimeout, c.GossipInterval, c.PushPullInterval = 250*time.Millisecond, 200*time.Millisecond, 10*time.Millisecond, 200*time.Millisecond
	c.SuspicionMult, c.SuspicionMaxTimeoutMult, c.TCPTimeout, c.DeadNodeReclaimTime = 4, 2, time.Second, time.Millisecond
}

// start runs a node; it is stopped like a crash at the end of the test unless it was stopped before.
func start(t *testing.T, name string, seed *testNode, edit func(*Config, *Options, *testNode)) *testNode {
	t.Helper()
	n := &testNode{t: t, done: make(chan error, 1)}
	cfg := Default()
	cfg.Listen, cfg.Node, cfg.AnnounceEvery, cfg.JoinEvery, cfg.HoldDown = "127.0.0.1:0", name, 10*time.Millisecond, 50*time.Millisecond, time.Hour
	if seed != nil {
		cfg.Seeds = []string{seed.Addr()}
	}
	o := Options{
		Region: "test", PublicURL: "http://127.0.0.1:1", Version: "v0", Load: func() int { return int(n.load.Load()) },
		Sessions: func() iter.Seq2[string, string] { return pairs(n.sessions) },
		Log:      slog.New(slog.NewTextHandler(newLog(t), &slog.HandlerOptions{Level: slog.LevelInfo})), Registerer: prometheus.NewRegistry(), Now: time.Now, Tune: quick,
	}
	if edit != nil {
		edit(&cfg, &o, n)
	}
	o.Config = cfg
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	n.Cluster = c
	ctx, cancel := context.WithCancel(context.Background())
	n.end = cancel
	go func() { n.done <- c.Run(ctx) }()
	c.Serving()
	t.Cleanup(n.crash)
	return n
}

// crash ends a node without a word.
func (n *testNode) crash() {
	if n.end == nil {
		return
	}
	n.end()
	n.end = nil
	if err := n.Close(); err != nil {
		n.t.Error(err)
	}
	if err := <-n.done; err != nil {
		n.t.Error(err)
	}
}

// until waits for a condition.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// sees reports whether n knows exactly these members, in these states.
func (n *testNode) sees(want map[string]State) bool {
	have := make(map[string]State)
	for _, m := range n.View().Members() {
		have[m.Name] = m.State
	}
	return maps.Equal(have, want)
}

func all(nodes []*testNode, cond func(*testNode) bool) func() bool {
	return func() bool {
		return !slices.ContainsFunc(nodes, func(n *testNode) bool { return !cond(n) })
	}
}

// group starts three nodes that know each other.
func group(t *testing.T, edit func(*Config, *Options, *testNode)) []*testNode {
	t.Helper()
	a := start(t, "a", nil, edit)
	nodes := []*testNode{a, start(t, "b", a, edit), start(t, "c", a, edit)}
	until(t, "three members", all(nodes, func(n *testNode) bool {
		return n.sees(map[string]State{"a": Active, "b": Active, "c": Active})
	}))
	return nodes
}

// owned returns a workspace that a node owns.
func owned(n *testNode, by string) string {
	for i := 0; ; i++ {
		if w := fmt.Sprint("T", i); n.View().Place(w, "").Owner == by {
			return w
		}
	}
}

// TestCluster_JoinDieLeave is the life of a region: three nodes find each other and agree; one crashes, and keeps its
// workspaces while users go elsewhere; it comes back at another address; another leaves with a word.
func TestCluster_JoinDieLeave(t *testing.T) {
	nodes := group(t, nil)
	a, b, c := nodes[0], nodes[1], nodes[2]
	for i := range 500 {
		w := fmt.Sprint("T", i)
		if x, y := a.View().Place(w, "U"), c.View().Place(w, "U"); x.Owner != y.Owner || x.Primary != y.Primary || x.Fallback != y.Fallback {
			t.Fatalf("a says %+v, c says %+v", x, y)
		}
	}
	w := owned(a, "b")

	b.crash()
	rest := []*testNode{a, c}
	until(t, "b is dead", all(rest, func(n *testNode) bool { return n.sees(map[string]State{"a": Active, "b": Dead, "c": Active}) }))
	for _, n := range rest {
		if p, primary, _ := n.Place(w, "U"); p.Owner != "b" || p.Primary == "b" || p.By != ByStandIn || primary.URL == "" {
			t.Errorf("after the crash: %+v", p)
		}
	}
	b = start(t, "b", a, nil)
	until(t, "b is back", all(rest, func(n *testNode) bool { return n.sees(map[string]State{"a": Active, "b": Active, "c": Active}) }))
	if p := a.View().Place(w, "U"); p.Primary != "b" {
		t.Errorf("b is back: %+v", p)
	}

	c.Drain()
	rest = []*testNode{a, b}
	until(t, "c drains", all(rest, func(n *testNode) bool { return n.View().find("c").State == Draining }))
	for i := range 500 {
		if p := a.View().Place(fmt.Sprint("T", i), "U"); p.Primary == "c" || p.Fallback == "c" {
			t.Fatalf("sent to a draining node: %+v", p)
		}
	}
	c.Resume()
	until(t, "c serves again", all(rest, func(n *testNode) bool { return n.View().find("c").State == Active }))
	c.Drain()
	until(t, "c drains", all(rest, func(n *testNode) bool { return n.View().find("c").State == Draining }))
	if err := c.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	until(t, "c has left", all(rest, func(n *testNode) bool { return n.View().find("c").State == Left }))
	if got := testutil.ToFloat64(a.metrics.members.WithLabelValues(string(Left))); got != 1 {
		t.Errorf("flannel_cluster_members{state=left} is %v", got)
	}
	if got := testutil.ToFloat64(a.metrics.placements[ByStandIn]); got != 1 {
		t.Errorf("flannel_cluster_placements_total{by=stand_in} is %v", got)
	}
	for _, name := range []prometheus.Counter{a.metrics.packets, a.metrics.bytes, a.metrics.events.WithLabelValues("join"), a.metrics.events.WithLabelValues("gone"), a.metrics.events.WithLabelValues("update"), a.metrics.announced.WithLabelValues("ok"), b.metrics.joins.WithLabelValues("ok"), b.metrics.streams.WithLabelValues("ok"), a.metrics.lines.WithLabelValues("debug")} {
		if testutil.ToFloat64(name) == 0 {
			t.Errorf("%v has not moved", name.Desc())
		}
	}
}

// When the hold-down is over the workspaces of who is gone have new owners, and nobody else's have moved.
func TestCluster_HoldDownEnds(t *testing.T) {
	nodes := group(t, func(c *Config, _ *Options, _ *testNode) { c.HoldDown = time.Second })
	before := nodes[0].View().Ring()
	nodes[1].crash()
	rest := []*testNode{nodes[0], nodes[2]}
	until(t, "b is forgotten", all(rest, func(n *testNode) bool { return n.sees(map[string]State{"a": Active, "c": Active}) }))
	after := nodes[0].View().Ring()
	if moved := after.Moved(before); moved != before.Count("b") {
		t.Errorf("%d partitions moved, b had %d", moved, before.Count("b"))
	}
	if got := testutil.ToFloat64(nodes[0].metrics.moved); got < float64(before.Count("b")) {
		t.Errorf("flannel_cluster_moved_partitions_total is %v", got)
	}
}

// What a node says of its sessions reaches the others: who is far above the mean gets no new ones, and a large workspace is
// spread.
func TestCluster_LoadAndCrowdsAreAnnounced(t *testing.T) {
	big := "T0"
	owner := NewRing([]string{"a", "b", "c"}).Owner(Partition(big))
	nodes := group(t, func(c *Config, _ *Options, n *testNode) {
		c.SpreadAt = 100
		if c.Node == owner {
			for i := range 350 {
				n.sessions = append(n.sessions, [2]string{big, fmt.Sprint("U", i)})
			}
		}
		n.load.Store(1000)
		if c.Node == "b" {
			n.load.Store(3000)
		}
	})
	until(t, "loads and crowds are known", all(nodes, func(n *testNode) bool {
		return n.View().find("b").Load == 3000 && n.View().find("a").Load == 1000 && n.View().find("c").Load == 1000 && n.View().Shares(big) == 4
	}))
	for _, n := range nodes {
		if p := n.View().Place(owned(n, "b"), ""); p.By != ByOverflow || p.Primary == "b" {
			t.Errorf("%+v", p)
		}
		if owners := n.View().Owners(big); len(owners) != 4 || owners[0] != owner {
			t.Errorf("owners %v", owners)
		}
		s := n.Status()
		if len(s.Members) != 3 || len(s.Spread) != 1 || s.Spread[0].Workspace != big || s.Mean != 5000/3 || s.Node != n.Name() || s.Encrypted {
			t.Errorf("status %+v", s)
		}
		if e := n.Explain(owned(n, "b"), ""); !strings.Contains(e.Why, "has 3000 sessions") || len(e.Order) != 3 || e.PrimaryURL == "" {
			t.Errorf("explanation %+v", e)
		}
	}
}

// Who has another key, another cluster's name or another region is not a member; with a common key, one is.
func TestCluster_WhoMayNotBeIn(t *testing.T) {
	key, other := NewKey(), NewKey()
	a := start(t, "a", nil, func(c *Config, _ *Options, _ *testNode) { c.Keys = []string{key} })
	strangers := map[string]func(*Config, *Options, *testNode){
		"no key":    nil,
		"other key": func(c *Config, _ *Options, _ *testNode) { c.Keys = []string{other} },
		"other cluster": func(c *Config, _ *Options, _ *testNode) {
			c.Keys, c.Name = []string{key}, "another"
		},
		"other region": func(c *Config, o *Options, _ *testNode) { c.Keys, o.Region = []string{key}, "elsewhere" },
	}
	for what, edit := range strangers {
		t.Run(what, func(t *testing.T) {
			n := start(t, "stranger", a, edit)
			until(t, "three attempts", func() bool { return testutil.ToFloat64(n.metrics.joins.WithLabelValues("failed")) >= 3 })
			if len(a.View().Members()) != 1 || len(n.View().Members()) != 1 {
				t.Errorf("a sees %v, the stranger %v", a.View().Members(), n.View().Members())
			}
		})
	}
	b := start(t, "b", a, func(c *Config, _ *Options, _ *testNode) { c.Keys = []string{key, other} })
	until(t, "b is in", func() bool { return len(a.View().Members()) == 2 && len(b.View().Members()) == 2 })
	if !a.Status().Encrypted {
		t.Error("not encrypted")
	}
}

// Keys are changed while the nodes run, as docs/cluster.md says: the new one is added everywhere, put first everywhere, and
// the old one taken out everywhere. Nobody is lost on the way, and whoever has only the old key stays outside then.
func TestCluster_KeysAreChangedWhileItRuns(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	write := func(keys ...string) {
		if err := os.WriteFile(file+".new", []byte("# gossip\n"+strings.Join(keys, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	old, fresh := NewKey(), NewKey()
	write(old)
	nodes := group(t, func(c *Config, _ *Options, _ *testNode) { c.KeysFile = file })
	for _, keys := range [][]string{{old, fresh}, {fresh, old}, {fresh}} {
		write(keys...)
		want, err := parseKeys(keys)
		if err != nil {
			t.Fatal(err)
		}
		until(t, "keys are changed", all(nodes, func(n *testNode) bool {
			return len(n.Keys()) == len(want) && string(n.Keys()[0]) == string(want[0]) && string(n.keyring.GetPrimaryKey()) == string(want[0])
		}))
	}
	write("not a key")
	until(t, "a bad file is seen", all(nodes, func(n *testNode) bool { return testutil.ToFloat64(n.metrics.rekeyed.WithLabelValues("failed")) > 0 }))
	write(fresh)
	d := start(t, "d", nodes[0], func(c *Config, _ *Options, _ *testNode) { c.KeysFile = file })
	until(t, "d is in", func() bool { return len(d.View().Members()) == 4 })
	late := start(t, "late", nodes[0], func(c *Config, _ *Options, _ *testNode) { c.Keys = []string{old} })
	until(t, "an attempt", func() bool { return testutil.ToFloat64(late.metrics.joins.WithLabelValues("failed")) > 0 })
	until(t, "four are there, and not the late one", all(append(nodes, d), func(n *testNode) bool {
		return n.sees(map[string]State{"a": Active, "b": Active, "c": Active, "d": Active})
	}))
}

// Two nodes of one name: the one that was there stays.
func TestCluster_TwoOfOneName(t *testing.T) {
	a := start(t, "a", nil, nil)
	b := start(t, "b", a, nil)
	until(t, "b is in", func() bool { return len(a.View().Members()) == 2 })
	start(t, "b", a, nil)
	until(t, "the conflict is seen", func() bool { return testutil.ToFloat64(a.metrics.events.WithLabelValues("conflict")) > 0 })
	if m := a.View().find("b"); m.Address != b.Addr() {
		t.Errorf("b is at %s, was at %s", m.Address, b.Addr())
	}
}

func TestCluster_ListenerIsTaken(t *testing.T) {
	a := start(t, "a", nil, nil)
	cfg := Default()
	cfg.Listen = a.Addr()
	_, err := New(Options{Config: cfg, PublicURL: "http://127.0.0.1:1", Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Now: time.Now})
	if err == nil || !strings.Contains(err.Error(), a.Addr()) {
		t.Errorf("%v", err)
	}
}

// A seed is a name too, which is looked up again all the time: a node that comes back without seeds of its own, as after a
// split or when it was the first, is found by those whose seed it is.
func TestCluster_SeedsAreAskedAgain(t *testing.T) {
	first := start(t, "first", nil, nil)
	at := first.Addr()
	_, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	other := start(t, "other", nil, func(c *Config, _ *Options, _ *testNode) {
		c.Seeds = []string{"no.such.name.invalid:1", "localhost:" + port}
	})
	until(t, "two members", func() bool {
		return first.sees(map[string]State{"first": Active, "other": Active}) && other.sees(map[string]State{"first": Active, "other": Active})
	})
	first.crash()
	until(t, "the first is dead", func() bool { return other.sees(map[string]State{"first": Dead, "other": Active}) })
	first = start(t, "first", nil, func(c *Config, _ *Options, _ *testNode) { c.Listen = at })
	until(t, "two members again", func() bool {
		return first.sees(map[string]State{"first": Active, "other": Active}) && other.sees(map[string]State{"first": Active, "other": Active})
	})
}
