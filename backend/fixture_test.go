package backend_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"flannel/backend"
	"flannel/backend/store"
	"flannel/backend/token"
	"flannel/protocol"
)

// The people and channels of the test workspace. U4 is a guest in #guests alone; U6 belongs to another workspace, which
// shares #shared.
const (
	workspace   = protocol.WorkspaceID("T0001")
	otherSpace  = protocol.WorkspaceID("T0002")
	ann         = protocol.UserID("U0001") // admin
	bob         = protocol.UserID("U0002")
	eve         = protocol.UserID("U0003")
	guest       = protocol.UserID("U0004")
	botUser     = protocol.UserID("U0005")
	stranger    = protocol.UserID("U0006")
	former      = protocol.UserID("U0007") // deactivated
	general     = protocol.ChannelID("C0001")
	private     = protocol.ChannelID("C0002") // ann and bob
	guests      = protocol.ChannelID("C0003") // everybody and the guest
	shared      = protocol.ChannelID("C0004") // bob and the stranger
	empty       = protocol.ChannelID("C0005") // public, nobody in it
	otherPublic = protocol.ChannelID("C0006") // of the other workspace
)

// furnish puts the test workspace into a data folder.
func furnish(t testing.TB, data string) {
	t.Helper()
	st, unlock, err := backend.OpenStore(context.Background(), data)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	err = st.Load(context.Background(), func(tx store.Tx) error {
		put := func(shapes ...protocol.Shape) error {
			for _, s := range shapes {
				if err := tx.Put(s); err != nil {
					return fmt.Errorf("put %v: %w", s.Object().ID, err)
				}
			}
			return nil
		}
		user := func(id protocol.UserID, team protocol.WorkspaceID, name string) *protocol.User {
			return &protocol.User{
				ID: id, TeamID: team, Name: name, RealName: name, Updated: 1,
				Profile: protocol.Profile{RealName: name, DisplayName: name, Email: name + "@example.com", Team: team},
			}
		}
		admin := user(ann, workspace, "ann")
		admin.IsAdmin = true
		visitor := user(guest, workspace, "guest")
		visitor.IsRestricted = true
		robot := user(botUser, workspace, "robot")
		robot.IsBot, robot.Profile.BotID = true, "B0001"
		gone := user(former, workspace, "former")
		gone.Deleted = true
		channel := func(id protocol.ChannelID, team protocol.WorkspaceID, name string, isPrivate bool) *protocol.Channel {
			return &protocol.Channel{
				ID: id, Name: name, NameNormalized: name, ContextTeamID: team, Created: 1, Creator: ann, Updated: 1000,
				IsChannel: !isPrivate, IsGroup: isPrivate, IsPrivate: isPrivate, IsGeneral: id == general,
			}
		}
		both := channel(shared, workspace, "shared", false)
		both.IsShared, both.IsExtShared, both.SharedTeamIDs = true, true, []protocol.WorkspaceID{workspace, otherSpace}
		err := put(
			&protocol.Workspace{ID: workspace, Name: "Test", Domain: "test", Updated: 1},
			&protocol.Workspace{ID: otherSpace, Name: "Other", Domain: "other", Updated: 1},
			admin, user(bob, workspace, "bob"), user(eve, workspace, "eve"), visitor, robot, user(stranger, otherSpace, "stranger"), gone,
			&protocol.Bot{ID: "B0001", TeamID: workspace, Name: "robot", UserID: botUser, Updated: 1},
			&protocol.Emoji{Workspace: workspace, Name: "wave", Value: "https://example.com/wave.png", Updated: 1},
			channel(general, workspace, "general", false), channel(private, workspace, "private", true),
			channel(guests, workspace, "guests", false), both, channel(empty, workspace, "empty", false), channel(otherPublic, otherSpace, "elsewhere", false),
		)
		if err != nil {
			return err
		}
		for id, users := range map[protocol.ChannelID][]protocol.UserID{
			general: {ann, bob, eve, botUser}, private: {ann, bob}, guests: {ann, bob, eve, guest}, shared: {bob, stranger}, otherPublic: {stranger},
		} {
			kind, owner := protocol.TypePublic, workspace
			switch id {
			case private:
				kind = protocol.TypePrivate
			case otherPublic:
				owner = otherSpace
			}
			for _, u := range users {
				if err := tx.AddMember(u, protocol.Membership{Channel: id, Owner: owner, Type: kind, Updated: 1000, Open: true}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// server is a backend under test.
type server struct {
	*backend.Backend
	t   testing.TB
	reg *prometheus.Registry
}

func config(data string) backend.Config {
	cfg := backend.Default()
	cfg.Data, cfg.Listen, cfg.UpstreamListen = data, "127.0.0.1:0", "127.0.0.1:0"
	cfg.RateLimits = false
	return cfg
}

// start runs a backend on a fresh data folder until the test ends.
func start(t testing.TB, mutate func(*backend.Config)) *server {
	t.Helper()
	data := t.TempDir()
	furnish(t, data)
	return startOn(t, data, mutate)
}

// startOn runs a backend on a data folder until the test ends, or it is stopped before.
func startOn(t testing.TB, data string, mutate func(*backend.Config)) *server {
	t.Helper()
	cfg := config(data)
	if mutate != nil {
		mutate(&cfg)
	}
	reg := prometheus.NewRegistry()
	b, err := backend.New(backend.Options{Config: cfg, Log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn})), Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.Run(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := b.Stop(ctx); err != nil {
			t.Errorf("Stop: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return &server{Backend: b, t: t, reg: reg}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (s *server) token(user protocol.UserID) string {
	s.t.Helper()
	c := token.Claims{User: user, Workspace: workspace, Role: protocol.RoleMember}
	if user == stranger {
		c.Workspace = otherSpace
	}
	tok, err := s.Tokens().Issue(c)
	if err != nil {
		s.t.Fatal(err)
	}
	return tok
}

// answer is the answer of a Web API call.
type answer map[string]json.RawMessage

func (a answer) str(name string) string {
	var s string
	_ = json.Unmarshal(a[name], &s) // "" if it is none
	return s
}

func (a answer) ok() bool { return string(a["ok"]) == "true" }

// api calls a method of the Web API with a form of pairs.
func (s *server) api(tok, method string, pairs ...string) answer {
	s.t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	req, err := http.NewRequest(http.MethodPost, "http://"+s.Addr()+"/api/"+method, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+tok)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		s.t.Fatalf("%s: %v", method, err)
	}
	return a
}

// must is api for calls that have to succeed.
func (s *server) must(tok, method string, pairs ...string) answer {
	s.t.Helper()
	a := s.api(tok, method, pairs...)
	if !a.ok() {
		s.t.Fatalf("%s %v: %s", method, pairs, a["error"])
	}
	return a
}

// upstream posts a load and decodes its answer into out if the status is 200. It returns the status and the error.
func (s *server) upstream(call string, in, out any) (int, protocol.ErrorAnswer) {
	s.t.Helper()
	resp, body := s.upstreamRaw(http.MethodPost, call, "Bearer "+s.UpstreamKey(), protocol.MustMarshal(in))
	var e protocol.ErrorAnswer
	if resp.StatusCode != http.StatusOK {
		if err := json.Unmarshal(body, &e); err != nil {
			s.t.Fatalf("%s: %s is no ErrorAnswer", call, body)
		}
		return resp.StatusCode, e
	}
	if err := json.Unmarshal(body, out); err != nil {
		s.t.Fatalf("%s: %v", call, err)
	}
	return resp.StatusCode, e
}

func (s *server) upstreamRaw(method, call, auth string, body []byte, headers ...string) (*http.Response, []byte) {
	s.t.Helper()
	req, err := http.NewRequest(method, "http://"+s.UpstreamAddr()+protocol.UpstreamPath+call, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", auth)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, answer
}

// metric returns the value of a counter or gauge whose labels have the values, in any order of names.
func (s *server) metric(name string, labels ...string) float64 {
	s.t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var have []string
			for _, l := range m.GetLabel() {
				have = append(have, l.GetValue())
			}
			if slices.Equal(have, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	s.t.Fatalf("there is no metric %s %v", name, labels)
	return 0
}

// eventually waits until cond holds.
func (s *server) eventually(cond func() bool) {
	s.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			s.t.Fatal("it does not come true")
		}
	}
}

// socket is one end of a websocket under test.
type socket struct {
	*websocket.Conn
	t     testing.TB
	heard []string
}

// patience is for a machine that runs other things too: several seconds without a finished fsync were seen.
const patience = 30 * time.Second

func dial(t testing.TB, address string, header http.Header) *socket {
	t.Helper()
	conn, resp, err := websocket.DefaultDialer.Dial(address, header)
	if err != nil {
		t.Fatalf("dial %s: %v (%v)", address, err, resp)
	}
	t.Cleanup(func() { conn.Close() })
	return &socket{Conn: conn, t: t}
}

func (c *socket) say(frame string) {
	c.t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
		c.t.Fatal(err)
	}
}

// next returns the next frame.
func (c *socket) next() string {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, raw, err := c.ReadMessage()
	if err != nil {
		c.t.Fatalf("read: %v; heard before:\n%s", err, strings.Join(c.heard[max(0, len(c.heard)-20):], "\n"))
	}
	c.heard = append(c.heard, string(raw[:min(len(raw), 300)]))
	return string(raw)
}

// until returns the next frame that holds all of parts; others are passed over.
func (c *socket) until(parts ...string) string {
	c.t.Helper()
	for {
		f := c.next()
		all := true
		for _, p := range parts {
			all = all && strings.Contains(f, p)
		}
		if all {
			return f
		}
	}
}

// closed reads up to the close frame and returns its code.
func (c *socket) closed() (code int, frames []string) {
	c.t.Helper()
	for {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		_, raw, err := c.ReadMessage()
		if ce, ok := err.(*websocket.CloseError); ok { //nolint:errorlint // ReadMessage returns it bare.
			return ce.Code, frames
		}
		if err != nil {
			c.t.Fatalf("read: %v", err)
		}
		frames = append(frames, string(raw))
	}
}

// rtm opens a socket and reads its hello.
func (s *server) rtm(user protocol.UserID, pairs ...string) *socket {
	s.t.Helper()
	a := s.must(s.token(user), "rtm.connect", pairs...)
	c := dial(s.t, a.str("url"), nil)
	if f := c.next(); !strings.HasPrefix(f, `{"type":"hello"`) {
		s.t.Fatalf("first frame is %s", f)
	}
	return c
}
