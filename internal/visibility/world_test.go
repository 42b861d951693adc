package visibility

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/backend"
	"flannel/backend/store"
	"flannel/backend/token"
	"flannel/node"
	"flannel/protocol"
)

// world is a backend with edges in front of it, in this process, and the people of it.
type world struct {
	t      *testing.T
	back   *backend.Backend
	nodes  []*edge
	people []*account
	byUser map[protocol.UserID]*account
	http   *http.Client
	crowd  int
	// secrets counts: no two are the same.
	secrets atomic.Int64
	ledger  *ledger
	tape    *tape
}

// account is somebody with a token. The token changes when the old one is revoked.
type account struct {
	id   protocol.UserID
	team protocol.WorkspaceID

	mu     sync.Mutex
	token  string
	name   string // the token's, in revocations
	issued int
}

// credentials returns the present token and its name.
func (a *account) credentials() (tok, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.token, a.name
}

// newWorld starts a backend with the population of seed_test.go and two nodes.
func newWorld(t *testing.T) *world {
	t.Helper()
	return crowdedWorld(t, 0)
}

// crowdedWorld is newWorld with that many more members in the first workspace, who do nothing.
func crowdedWorld(t *testing.T, crowd int) *world {
	t.Helper()
	w := &world{t: t, crowd: crowd, byUser: make(map[protocol.UserID]*account), http: &http.Client{
		Timeout: patience, Transport: &http.Transport{MaxIdleConns: 64, MaxIdleConnsPerHost: 32}}}
	w.tape = &tape{position: w.position}
	data := t.TempDir()
	st, unlock, err := backend.OpenStore(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	err = st.Load(t.Context(), w.populate)
	if err := errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
	unlock()
	w.startBackend(data)
	for range 2 {
		w.nodes = append(w.nodes, w.startNode())
	}
	w.ledger = newLedger(w)
	for _, a := range w.people {
		w.issue(a)
	}
	for _, n := range w.nodes {
		w.watch(n)
	}
	t.Cleanup(w.http.CloseIdleConnections)
	return w
}

func (w *world) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{w.t}, &slog.HandlerOptions{Level: slog.LevelError}))
}

func (w *world) startBackend(data string) {
	w.t.Helper()
	cfg := backend.Default()
	cfg.Data, cfg.Listen, cfg.UpstreamListen, cfg.RateLimits = data, "127.0.0.1:0", "127.0.0.1:0", false
	cfg.OfflineDelay = 50 * time.Millisecond // Much presence.
	back, err := backend.New(backend.Options{Config: cfg, Log: w.log(), Registerer: prometheus.NewRegistry()})
	if err != nil {
		w.t.Fatal(err)
	}
	w.back = back
	run(w.t, back)
}

// edge is a node, and how far it is known to have heard.
type edge struct {
	node *node.Node
	// heard is a position that the node has told: everything that it does from then on, it does knowing all up to there.
	heard atomic.Uint64
}

func (n *edge) url() string { return "http://" + n.node.Addr() }

// known returns what the node knows at least.
func (n *edge) known() protocol.Position { return protocol.Position(n.heard.Load()) }

func (n *edge) learn(p protocol.Position) {
	for {
		old := n.heard.Load()
		if uint64(p) <= old || n.heard.CompareAndSwap(old, uint64(p)) {
			return
		}
	}
}

func (w *world) startNode() *edge {
	w.t.Helper()
	cfg := node.Default()
	cfg.Edge.Listen, cfg.Admin.Listen, cfg.Edge.RateLimits = "127.0.0.1:0", "", false
	cfg.Edge.DrainDelay, cfg.Edge.DrainTime = 0, 100*time.Millisecond
	cfg.Upstream.BatchEvery = 0 // Everybody comes one after the other here: nothing is to be held back.
	cfg.Upstream.URL, cfg.Upstream.Key = "http://"+w.back.UpstreamAddr(), w.back.UpstreamKey()
	n, err := node.New(node.Options{Config: cfg, Log: w.log(), Registry: prometheus.NewRegistry()})
	if err != nil {
		w.t.Fatal(err)
	}
	run(w.t, n)
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := n.WaitReady(ctx); err != nil {
		w.t.Fatal(err)
	}
	return &edge{node: n}
}

// run runs a server until the test ends.
func run(t *testing.T, s interface {
	Run(ctx context.Context) error
	Stop(ctx context.Context) error
}) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

// person adds somebody to the list of accounts.
func (w *world) person(id protocol.UserID, team protocol.WorkspaceID) {
	a := &account{id: id, team: team}
	w.people = append(w.people, a)
	w.byUser[id] = a
}

// of returns an account.
func (w *world) of(id protocol.UserID) *account {
	a := w.byUser[id]
	if a == nil {
		w.t.Helper()
		w.t.Fatalf("nobody is %s", id)
	}
	return a
}

// issue gives an account a new token.
func (w *world) issue(a *account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.issued++
	name := string(a.id) + "-" + itoa(a.issued)
	tok, err := w.back.Tokens().Issue(token.Claims{ID: name, User: a.id, Workspace: a.team, Role: protocol.RoleMember, Issued: time.Now().Unix()})
	if err != nil {
		w.t.Error(err)
		return
	}
	a.token, a.name = tok, name
}

// position is where the store stands.
func (w *world) position() (p protocol.Position) {
	err := w.back.Store().View(context.Background(), func(r store.Reader) (err error) {
		p, err = r.Position()
		return err
	})
	if err != nil {
		w.t.Error(err)
	}
	return p
}

// watch keeps asking a node how far it has heard, on behalf of somebody who never writes.
func (w *world) watch(n *edge) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			w.look(n)
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	w.t.Cleanup(func() { cancel(); done.Wait() })
}

// look asks a node once.
func (w *world) look(n *edge) {
	tok, _ := w.of(theClock).credentials()
	if _, at, err := w.post(n.url()+"/cache/"+string(alpha)+"/users/info", tok, []byte(`{"updated_ids":{"`+string(theClock)+`":0}}`)); err == nil {
		n.learn(at)
	}
}

// settle waits until every node has heard everything.
func (w *world) settle() protocol.Position {
	w.t.Helper()
	at := w.position()
	for _, n := range w.nodes {
		eventually(w.t, "the node has heard everything", func() bool { return n.known() >= at })
	}
	return at
}

// eventually asks again until the claim holds.
func eventually(t *testing.T, what string, claim func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !claim() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		<-tick.C
	}
}

func pickOne[T any](list []T, n uint64) T { return list[n%uint64(len(list))] }

func sortedKeys[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}
