package suite_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/slack-go/slack"

	"flannel/backend"
	"flannel/backend/seed"
	"flannel/backend/store"
	"flannel/backend/token"
	"flannel/node"
	"flannel/protocol"
)

// patience bounds every wait: long enough for a loaded machine with the race detector, short enough for a person.
const patience = 20 * time.Second

// world is a backend with an edge in front of it, in this process.
type world struct {
	t       *testing.T
	data    string
	back    *backend.Backend
	edge    *node.Node
	reg     *prometheus.Registry // the edge's
	backReg *prometheus.Registry // the backend's
	seed    seed.Result
	users   map[protocol.Role][]account

	unlimited          bool               // no rate limits
	configure          func(*node.Config) // changes the edge's configuration; nil for none
	stopEdge, stopBack func()
}

// account is somebody with a token.
type account struct {
	id    protocol.UserID
	name  string
	token string
}

func newWorld(t *testing.T, users int) *world {
	t.Helper()
	return makeWorld(&world{t: t}, users)
}

func makeWorld(w *world, users int) *world {
	t := w.t
	t.Helper()
	w.data, w.users = t.TempDir(), make(map[protocol.Role][]account)
	st, unlock, err := backend.OpenStore(t.Context(), w.data)
	if err != nil {
		t.Fatal(err)
	}
	w.seed, err = seed.Generate(t.Context(), st, seed.Options{Users: users, Seed: 42})
	if err := errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
	unlock()
	w.startBackend("127.0.0.1:0", "127.0.0.1:0")
	w.startEdge("127.0.0.1:0")
	t.Cleanup(func() { w.stopEdge(); w.stopBack() })
	w.issueTokens()
	return w
}

func (w *world) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{w.t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func (w *world) startBackend(listen, upstream string) {
	w.t.Helper()
	cfg := backend.Default()
	cfg.Data, cfg.Listen, cfg.UpstreamListen, cfg.RateLimits = w.data, listen, upstream, !w.unlimited
	w.backReg = prometheus.NewRegistry()
	back, err := backend.New(backend.Options{Config: cfg, Log: w.log(), Registerer: w.backReg})
	if err != nil {
		w.t.Fatal(err)
	}
	w.back, w.stopBack = back, run(w.t, back)
}

func (w *world) startEdge(listen string) {
	w.t.Helper()
	cfg := node.Default()
	cfg.Edge.Listen, cfg.Admin.Listen, cfg.Edge.RateLimits, cfg.Edge.DrainTime = listen, "127.0.0.1:0", !w.unlimited, 100*time.Millisecond
	cfg.Upstream.URL, cfg.Upstream.Key = "http://"+w.back.UpstreamAddr(), w.back.UpstreamKey()
	if w.configure != nil {
		w.configure(&cfg)
	}
	w.reg = prometheus.NewRegistry()
	n, err := node.New(node.Options{Config: cfg, Log: w.log(), Registry: w.reg})
	if err != nil {
		w.t.Fatal(err)
	}
	w.edge, w.stopEdge = n, run(w.t, n)
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := n.WaitReady(ctx); err != nil {
		w.t.Fatal(err)
	}
}

// run runs a server; the function that it returns stops it and waits. It may be called twice.
func run(t *testing.T, s interface {
	Run(ctx context.Context) error
	Stop(ctx context.Context) error
}) func() {
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background()) }()
	stopped := false
	return func() {
		if stopped {
			return
		}
		stopped = true
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

func (w *world) issueTokens() {
	w.t.Helper()
	err := w.back.Store().View(w.t.Context(), func(r store.Reader) error {
		return r.EachObject(w.seed.Workspace.ID, protocol.KindUser, func(o *protocol.Object) error {
			var u protocol.User
			if err := json.Unmarshal(o.Body, &u); err != nil {
				return err
			}
			if u.Deleted {
				return nil
			}
			w.users[u.Role()] = append(w.users[u.Role()], account{id: u.ID, name: u.Name, token: w.token(&u)})
			return nil
		})
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) token(u *protocol.User) string {
	w.t.Helper()
	tok, err := w.back.Tokens().Issue(token.Claims{User: u.ID, Workspace: u.TeamID, Role: u.Role(), Issued: time.Now().Unix()})
	if err != nil {
		w.t.Fatal(err)
	}
	return tok
}

func (w *world) member(i int) account { return w.users[protocol.RoleMember][i] }
func (w *world) guest() account       { return w.users[protocol.RoleGuest][0] }
func (w *world) admin() account       { return w.users[protocol.RoleAdmin][0] }
func (w *world) bot() account         { return w.users[protocol.RoleBot][0] }

func (w *world) edgeURL() string    { return "http://" + w.edge.Addr() }
func (w *world) backendURL() string { return "http://" + w.back.Addr() }

// client is slack-go, unmodified, at one of the two.
func client(base string, a account) *slack.Client {
	return slack.New(a.token, slack.OptionAPIURL(base+"/api/"))
}

// call posts a form and returns the status, the Retry-After header and the answer.
func call(t *testing.T, base, method, tok string, args url.Values) (status int, retry string, answer map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/api/"+method, strings.NewReader(args.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if tok != "" {
		req.Header.Set("Authorization", "Bearer "+tok)
	}
	return do(t, req)
}

func do(t *testing.T, req *http.Request) (status int, retry string, answer map[string]any) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%s: %v in %q", req.URL.Path, err, body)
	}
	return resp.StatusCode, resp.Header.Get("Retry-After"), answer
}

// query asks the edge query API.
func query(t *testing.T, w *world, path string, a account, args map[string]any) map[string]any {
	t.Helper()
	args["token"] = a.token
	body, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.edgeURL()+"/cache/"+string(w.seed.Workspace.ID)+"/"+path, strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "text/plain;charset=UTF-8")
	_, _, answer := do(t, req)
	return answer
}

// eventually asks again until the claim holds: what an edge answers may lag behind a write of somebody else.
func eventually(t *testing.T, what string, claim func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !claim() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		<-tick.C
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}
