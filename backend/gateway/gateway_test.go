package gateway

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/valyala/fasthttp"

	"flannel/backend/channels"
	"flannel/backend/presence"
	"flannel/backend/store"
	"flannel/protocol"
)

const testKey = "0123456789abcdef"

// bare is a store that has nothing, and an API that answers nothing.
type bare struct {
	store.Store
	store.Reader
}

func (bare) OnCommit(func(protocol.Position, []*protocol.Event))         {}
func (b bare) View(_ context.Context, fn func(store.Reader) error) error { return fn(b) }
func (bare) Position() (protocol.Position, error)                        { return 7, nil }
func (bare) ReplayFrom() (protocol.Position, error)                      { return 0, nil }
func (bare) ManualAway(protocol.UserID) (bool, error)                    { return false, nil }
func (bare) Object(protocol.ObjectID) (protocol.Object, error) {
	return protocol.Object{}, store.ErrNotFound
}

func (bare) Objects(ids []protocol.ObjectID) ([]protocol.Object, []protocol.ObjectID, error) {
	return nil, ids, nil
}

func (bare) Head(protocol.Topic) (protocol.Seq, protocol.Position, error) { return 0, 0, nil }

func (bare) Identify(_ context.Context, tokens []string) ([]protocol.Identity, protocol.Position, error) {
	return make([]protocol.Identity, len(tokens)), 7, nil
}

func (bare) Do(context.Context, *protocol.Call) *protocol.Reply {
	panic("a bug in a method")
}

func newTestGateway(t testing.TB) *Gateway {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	hub, err := channels.New(context.Background(), channels.Options{
		Config: channels.Default(), Store: bare{}, Log: log, Registerer: prometheus.NewRegistry(), Now: time.Now, Initial: presence.Initial,
	})
	if err != nil {
		t.Fatal(err)
	}
	p := presence.New(presence.Options{Store: bare{}, Publisher: hub, Delay: time.Second, Registerer: prometheus.NewRegistry(), Now: time.Now})
	return New(Options{
		Config: Default(), Key: testKey, Store: bare{}, Hub: hub, Presence: p, API: bare{}, Log: log, Registerer: prometheus.NewRegistry(),
	})
}

// call sends one request straight to the handler.
func call(g *Gateway, method, path, auth string, body []byte) (int, []byte) {
	var ctx fasthttp.RequestCtx
	ctx.Request.Header.SetMethod(method)
	ctx.Request.SetRequestURI(path)
	ctx.Request.Header.Set("Authorization", auth)
	ctx.Request.SetBody(body)
	g.Handler(&ctx)
	return ctx.Response.StatusCode(), ctx.Response.Body()
}

func TestHandler_Access(t *testing.T) {
	g := newTestGateway(t)
	for _, tt := range []struct {
		method, path, auth string
		status             int
	}{
		{"POST", "/upstream/v1/objects", "", 401},
		{"POST", "/upstream/v1/objects", "Bearer", 401},
		{"POST", "/upstream/v1/objects", "Bearer wrong", 401},
		{"POST", "/upstream/v1/objects", "Basic " + testKey, 401},
		{"POST", "/upstream/v1/objects", "Bearer " + testKey[:15], 401},
		{"POST", "/upstream/v1/objects", "Bearer " + testKey + "0", 401},
		{"POST", "/upstream/v1/forward/auth.test", "Bearer wrong", 401},
		{"GET", "/upstream/v1/stream", "Bearer wrong", 401},
		{"POST", "/upstream/v1/objects", "bearer " + testKey, 200},
		{"GET", "/upstream/v1/objects", "Bearer " + testKey, 405},
		{"POST", "/upstream/v1/nonsense", "Bearer " + testKey, 404},
		{"POST", "/upstream/v1/", "Bearer " + testKey, 404},
		{"POST", "/", "Bearer " + testKey, 404},
		{"GET", "/upstream/v1/stream", "Bearer " + testKey, 400},             // no handshake
		{"POST", "/upstream/v1/forward/auth.test", "Bearer " + testKey, 500}, // a panic ends that call only
	} {
		status, body := call(g, tt.method, tt.path, tt.auth, []byte(`{"ids":["U1"]}`))
		var e protocol.ErrorAnswer
		if err := json.Unmarshal(body, &e); status != tt.status || err != nil || (status != 200) != (e.Error != "") {
			t.Errorf("%s %s with %q: status %d, %s; want %d", tt.method, tt.path, tt.auth, status, body, tt.status)
		}
	}
}

// Whatever a load's body is, the answer is 200, or a refusal that says why.
func FuzzLoads(f *testing.F) {
	for _, seed := range []string{
		`{"tokens":["x"]}`, `{"users":["U1",""]}`, `{"ids":["U1","U1","x","T1/emoji/a"]}`, `{"channel":"C1","limit":-1}`,
		`{"workspace":"T1","kind":"user","order":"name","limit":10,"cursor":"x"}`, `{"topics":[{"topic":"C1","position":3},{"topic":"C1","position":9},{"topic":"U1","position":7}],"limit":5}`,
		`{"topics":[{"topic":"presence:U1","position":3}]}`, `{"topics":[{"topic":"C1"}],"limit":-1}`, `{"at_least":-1}`, `null`, `[`, `{"at_least":3}`,
	} {
		f.Add([]byte(seed))
	}
	g := newTestGateway(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		var want struct {
			AtLeast protocol.Position `json:"at_least"`
		}
		if json.Unmarshal(body, &want) == nil && want.AtLeast > 7 {
			return // It would wait a second for it.
		}
		for name := range loads {
			status, answer := call(g, "POST", protocol.UpstreamPath+name, "Bearer "+testKey, body)
			if status != 200 && (status < 400 || status >= 500) || !json.Valid(answer) {
				t.Errorf("%s: status %d, %s", name, status, answer)
			}
		}
	})
}

// TestPublish_RefusedIsCounted: what lasts is the backend's to publish.
func TestPublish_RefusedIsCounted(t *testing.T) {
	g := newTestGateway(t)
	s := &stream{g: g}
	frame := protocol.StreamFrame{Type: protocol.StreamPublish, Events: []*protocol.Event{nil, {Topic: "C1", Type: "message", Class: protocol.ClassMessage, Seq: 1}}}
	if err := s.handle(&frame); err != nil {
		t.Fatal(err)
	}
	if n := testutil.ToFloat64(g.metrics.refused); n != 2 {
		t.Errorf("flannel_backend_upstream_publish_refused_total is %v", n)
	}
}

// Whatever an edge says on its stream, the stream goes on or ends with a reason; and it cannot publish what lasts.
func FuzzStreamFrame(f *testing.F) {
	for _, seed := range []string{
		`{"type":"subscribe","topics":[{"topic":"C1","seq":0},{"topic":"presence:U1"},{"topic":"T1","position":7}]}`,
		`{"type":"publish","events":[{"topic":"C1","type":"user_typing","class":"ephemeral","payload":{}},null]}`,
		`{"type":"publish","events":[{"topic":"C1","type":"message","class":"message","seq":1,"payload":{}}]}`,
		`{"type":"report","present":["U1","x"],"absent":["U2"]}`, `{"type":"ping","id":1}`, `{"type":"unsubscribe","topics":[{}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var frame protocol.StreamFrame
		if json.Unmarshal(raw, &frame) != nil {
			return
		}
		g := newTestGateway(t)
		watcher := g.hub.Attach(channels.Limits{Items: 1000, Bytes: 1 << 20, Topics: 10}, true, nil)
		defer watcher.Close()
		if err := watcher.Subscribe(context.Background(), []protocol.TopicState{{Topic: "C1"}}); err != nil {
			t.Fatal(err)
		}
		s := &stream{g: g, pongs: make(chan int64, 8), here: g.presence.Source()}
		s.life, s.end = context.WithCancelCause(context.Background())
		defer s.end(nil)
		s.sub = g.hub.Attach(channels.Limits{Items: 10_000, Bytes: 16 << 20, Topics: 10_000}, false, nil)
		defer s.sub.Close()
		_ = s.handle(&frame)
		items, _, err := watcher.Drain(nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range items {
			ev := items[i].Entry.Event
			if ev.Class != protocol.ClassEphemeral || ev.Seq != 0 || len(ev.Effects) > 0 || ev.Type != protocol.FrameUserTyping {
				t.Errorf("published %s", protocol.MustMarshal(ev))
			}
		}
	})
}
