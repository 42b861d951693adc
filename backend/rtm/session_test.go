package rtm

import (
	"bufio"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"flannel/backend/channels"
	"flannel/backend/presence"
	"flannel/backend/store"
	"flannel/backend/token"
	"flannel/protocol"
)

// lonely is a store with one user who is in no channel.
type lonely struct {
	store.Store
	store.Reader
}

func (lonely) OnCommit(func(protocol.Position, []*protocol.Event))          {}
func (l lonely) View(_ context.Context, fn func(store.Reader) error) error  { return fn(l) }
func (lonely) Position() (protocol.Position, error)                         { return 7, nil }
func (lonely) Memberships(protocol.UserID) ([]protocol.Membership, error)   { return nil, nil }
func (lonely) Head(protocol.Topic) (protocol.Seq, protocol.Position, error) { return 0, 0, nil }
func (lonely) ManualAway(protocol.UserID) (bool, error)                     { return false, nil }
func (lonely) Issue(token.Claims) (string, error)                           { return "xoxp-session", nil }
func (lonely) TopicEvents(protocol.Topic, protocol.Seq, int) ([]*protocol.Event, error) {
	return nil, nil
}

func (lonely) Object(protocol.ObjectID) (protocol.Object, error) {
	return protocol.Object{}, store.ErrNotFound
}

// broken is an API with a bug; refusing one that likes no message.
type (
	broken   struct{}
	refusing struct{}
)

func (broken) Do(context.Context, *protocol.Call) *protocol.Reply { panic("a bug in a method") }
func (refusing) Do(context.Context, *protocol.Call) *protocol.Reply {
	return &protocol.Reply{Status: 200, Body: []byte(`{"ok":false,"error":"channel_not_found"}`)}
}

func newTestServer(t *testing.T) *Server {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	hub, err := channels.New(t.Context(), channels.Options{
		Config: channels.Default(), Store: lonely{}, Log: log, Registerer: prometheus.NewRegistry(), Now: time.Now, Initial: presence.Initial,
	})
	if err != nil {
		t.Fatal(err)
	}
	p := presence.New(presence.Options{Store: lonely{}, Publisher: hub, Delay: time.Second, Registerer: prometheus.NewRegistry(), Now: time.Now})
	return New(Options{
		Config: Default(), Store: lonely{}, Hub: hub, Presence: p, Tokens: lonely{}, HostID: "test", Log: log,
		Registerer: prometheus.NewRegistry(), Now: time.Now,
	})
}

// hijacked is a response that has only its connection.
type hijacked struct {
	http.ResponseWriter
	conn net.Conn
	rw   *bufio.ReadWriter
}

func (h hijacked) Header() http.Header { return http.Header{} }
func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, h.rw, nil
}

// connect runs a session over a pipe and returns the client's end. done is closed when the session is over.
func connect(t *testing.T, s *Server, tk ticket) (client *websocket.Conn, done chan struct{}) {
	t.Helper()
	near, far := net.Pipe()
	done = make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		rw := bufio.NewReadWriter(bufio.NewReader(far), bufio.NewWriter(far))
		req, err := http.ReadRequest(rw.Reader)
		if err != nil {
			t.Error(err)
			return
		}
		conn, err := (&websocket.Upgrader{}).Upgrade(hijacked{conn: far, rw: rw}, req, nil)
		if err != nil {
			t.Error(err)
			return
		}
		newSession(s, broken{}, conn, tk, "pipe").run()
	}()
	dialer := websocket.Dialer{NetDialContext: func(context.Context, string, string) (net.Conn, error) { return near, nil }}
	client, _, err := dialer.DialContext(t.Context(), "ws://test/websocket/x", nil) //nolint:bodyclose // A handshake has none.
	if err != nil {
		t.Fatal(err)
	}
	return client, done
}

var annTicket = ticket{id: protocol.Identity{User: "U1", Workspace: "T1", Workspaces: []protocol.WorkspaceID{"T1"}, Role: protocol.RoleMember, Token: "t1"}, host: "http://test", fresh: true}

func TestSession_PingsAndReconnectURLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		client, done := connect(t, s, annTicket)
		began := time.Now()
		var pings []time.Duration
		client.SetPingHandler(func(data string) error {
			pings = append(pings, time.Since(began))
			return client.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(time.Second))
		})
		if _, raw, err := client.ReadMessage(); err != nil || !strings.HasPrefix(string(raw), `{"type":"hello","fast_reconnect":false`) {
			t.Fatalf("first frame %s, %v", raw, err)
		}

		_, raw, err := client.ReadMessage()
		var frame struct{ Type, URL string }
		if err != nil || json.Unmarshal(raw, &frame) != nil || frame.Type != protocol.FrameReconnectURL || time.Since(began) != reconnectEvery {
			t.Fatalf("after %s: %s, %v", time.Since(began), raw, err)
		}
		last := time.Duration(0)
		for _, p := range pings {
			if p-last > 30*time.Second {
				t.Errorf("no ping for %s", p-last)
			}
			last = p
		}
		if len(pings) < 6 {
			t.Errorf("%d pings in three minutes", len(pings))
		}
		// The address is good for one socket until well after the next one came.
		code := strings.TrimPrefix(frame.URL, "ws://test"+PathPrefix)
		time.Sleep(reconnectLife - time.Second)
		if tk, ok := s.tickets.take(code); !ok || tk.id.User != "U1" || !tk.fresh {
			t.Errorf("ticket %+v, %v", tk, ok)
		}
		client.Close()
		<-done
	})
}

func TestSession_SilentClientIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, done := connect(t, newTestServer(t), annTicket)
		began := time.Now()
		client.SetPingHandler(func(string) error { return nil }) // reads, but never answers
		for {
			_, _, err := client.ReadMessage()
			if websocket.IsCloseError(err, int(protocol.ClosePingTimeout)) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != silence {
			t.Errorf("closed after %s", took)
		}
		client.Close()
		<-done
	})
}

func TestSession_EndsWithItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tk := annTicket
		tk.id.Expires = time.Now().Add(10 * time.Second).Unix()
		client, done := connect(t, newTestServer(t), tk)
		_, _, err := client.ReadMessage() // hello
		if err == nil {
			_, _, err = client.ReadMessage()
		}
		if !websocket.IsCloseError(err, int(protocol.CloseTokenExpired)) {
			t.Errorf("got %v", err)
		}
		client.Close()
		<-done
	})
}

func TestSession_PanicEndsOnlyTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, done := connect(t, newTestServer(t), annTicket)
		if err := client.WriteMessage(websocket.TextMessage, []byte(`{"id":1,"type":"message","channel":"C1","text":"x"}`)); err != nil {
			t.Fatal(err)
		}
		_, _, err := client.ReadMessage() // hello
		if err == nil {
			_, _, err = client.ReadMessage()
		}
		if !websocket.IsCloseError(err, int(protocol.CloseReconnect)) {
			t.Errorf("got %v", err)
		}
		client.Close()
		<-done
	})
}

func TestTickets_ExpireAndAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newTickets(time.Now)
		early, err := ts.issue(ticket{}, TicketLife)
		if err != nil {
			t.Fatal(err)
		}
		late, err := ts.issue(ticket{}, TicketLife)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(TicketLife - time.Millisecond)
		if _, ok := ts.take(early); !ok {
			t.Error("a ticket expired early")
		}
		if _, ok := ts.take(early); ok {
			t.Error("a ticket was taken twice")
		}
		time.Sleep(time.Millisecond)
		if _, ok := ts.take(late); ok {
			t.Error("an expired ticket was taken")
		}
		for range maxTickets {
			if _, err := ts.issue(ticket{}, TicketLife); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := ts.issue(ticket{}, TicketLife); protocol.AsError(err).Code != protocol.CodeUnavailable {
			t.Errorf("one too many = %v", err)
		}
		time.Sleep(TicketLife)
		if _, err := ts.issue(ticket{}, TicketLife); err != nil || len(ts.open) != 1 {
			t.Errorf("after they expired: %v, %d open", err, len(ts.open))
		}
	})
}

func FuzzHandle(f *testing.F) {
	for _, seed := range []string{
		`{"id":1,"type":"ping","x":1}`, `{"type":"typing","channel":"C1"}`, `{"type":"presence_sub","ids":[]}`,
		`{"type":"presence_query","ids":["U1","x"]}`, `{"type":"message","channel":"C1","text":"x","blocks":[{}]}`, `{"id":"a","type":"dance"}`, `[]`, "\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := newTestServer(t)
		x := newSession(s, refusing{}, nil, annTicket, "fuzz")
		defer x.end(nil)
		x.sub = s.Hub.Attach(channels.Limits{Items: 2000, Bytes: 1 << 20, Topics: 10_000}, true, nil)
		defer x.sub.Close()
		_ = x.handle(raw)
		items, _, err := x.sub.Drain(nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range items {
			if !json.Valid(items[i].Frame) && items[i].Kind == channels.ItemFrame {
				t.Errorf("answer %q is not JSON", items[i].Frame)
			}
		}
	})
}
