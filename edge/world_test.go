package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"flannel/internal/memnet"
	"flannel/protocol"
)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// fakeQueries knows users by their tokens. Fields are set before the edge runs, but for those under mu.
type fakeQueries struct {
	answer func(ctx context.Context, id protocol.Identity, method string, args protocol.Args, host string) (*protocol.Reply, error)
	query  func(ctx context.Context, id protocol.Identity, path string, args json.RawMessage) (*protocol.Reply, error)
	ready  func(id *protocol.Identity, method, args, dst []byte) (body []byte, ok bool) // nil: never
	boot   func(ctx context.Context, id protocol.Identity, lazy bool) (userBoot, counts []byte, err error)

	mu      sync.Mutex
	tokens  map[string]protocol.Identity
	dead    map[string]protocol.Code
	floors  map[protocol.UserID]protocol.Position
	members map[protocol.ChannelID]bool
	applied protocol.Position
	objects map[protocol.ObjectID]protocol.Object
	places  map[protocol.ChannelID]protocol.Membership
	unheard map[protocol.UserID]bool
	unsure  map[protocol.UserID]bool // nobody knows now whether they may be heard of
	void    bool                     // nobody knows a user's places now
	badge   func()                   // runs within Badge, if set
	asked   func(token string)       // runs within Identify, if set
}

func (q *fakeQueries) Identify(_ context.Context, token string) (*protocol.Identity, error) {
	if q.asked != nil {
		q.asked(token)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if code, ok := q.dead[token]; ok {
		return nil, &protocol.Error{Code: code, Retry: time.Second}
	}
	id, ok := q.tokens[token]
	switch {
	case token == "":
		return nil, &protocol.Error{Code: protocol.CodeNotAuthed}
	case !ok:
		return nil, &protocol.Error{Code: protocol.CodeInvalidAuth}
	}
	return &id, nil
}

func (q *fakeQueries) Answer(ctx context.Context, id protocol.Identity, method string, args protocol.Args, host string) (*protocol.Reply, error) {
	return q.answer(ctx, id, method, args, host)
}

func (q *fakeQueries) Query(ctx context.Context, id protocol.Identity, path string, args json.RawMessage) (*protocol.Reply, error) {
	return q.query(ctx, id, path, args)
}

func (q *fakeQueries) Ready(id *protocol.Identity, method, args, dst []byte) (body []byte, ok bool) {
	if q.ready == nil {
		return dst, false
	}
	return q.ready(id, method, args, dst)
}

func (q *fakeQueries) Boot(ctx context.Context, id protocol.Identity, lazy bool, use func(userBoot, counts []byte)) error {
	boot, counts, err := q.boot(ctx, id, lazy)
	if err == nil {
		boot, counts = bytes.Clone(boot), bytes.Clone(counts)
		use(boot, counts)
		clear(boot) // Nobody may have kept them.
		clear(counts)
	}
	return err
}

func (q *fakeQueries) Member(_ protocol.UserID, channel protocol.ChannelID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.members[channel]
}

func (q *fakeQueries) Peek(_ protocol.Identity, ids []protocol.ObjectID) []protocol.Object {
	q.mu.Lock()
	defer q.mu.Unlock()
	var found []protocol.Object
	for _, id := range ids {
		if o, ok := q.objects[id]; ok {
			found = append(found, o)
		}
	}
	return found
}

func (q *fakeQueries) Hears(_ protocol.Identity, user protocol.UserID) (may, known bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.unheard[user] && !q.unsure[user], !q.unsure[user]
}

func (q *fakeQueries) Badge(_ protocol.Identity, channel protocol.ChannelID) (protocol.Membership, bool) {
	if q.badge != nil {
		q.badge()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	m, in := q.places[channel]
	if in {
		m.Channel = channel
	}
	return m, !q.void
}

func (q *fakeQueries) RaiseFloor(user protocol.UserID, p protocol.Position) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.floors[user] = p
}

func (q *fakeQueries) Applied() protocol.Position {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.applied
}

func (q *fakeQueries) kill(token string, code protocol.Code) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dead[token] = code
}

// fakeWriter is the backend. forward is set before the edge runs.
type fakeWriter struct {
	forward func(ctx context.Context, call *protocol.Call) (*protocol.Reply, error)

	mu        sync.Mutex
	published []*protocol.Event
}

func (w *fakeWriter) Forward(ctx context.Context, call *protocol.Call) (*protocol.Reply, error) {
	return w.forward(ctx, call)
}

func (w *fakeWriter) Publish(ev *protocol.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.published = append(w.published, ev)
}

func (w *fakeWriter) events() []*protocol.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*protocol.Event(nil), w.published...)
}

// fakeHub delivers every event to everybody. during runs within Attach, after the session is attached.
type fakeHub struct {
	during func(s *Session) error
	resume func(from protocol.ResumeToken) Resumed
	served func()        // runs within Served, if set
	heard  atomic.Uint64 // how far the token of Served is above 2

	mu       sync.Mutex
	sessions map[*Session]bool
	watched  map[*Session][]protocol.UserID
	watches  int
}

func (h *fakeHub) Attach(_ context.Context, s *Session, id protocol.Identity, from *protocol.ResumeToken) (Resumed, error) {
	h.mu.Lock()
	h.sessions[s] = true
	h.mu.Unlock()
	if h.during != nil {
		if err := h.during(s); err != nil {
			h.Detach(s)
			return Resumed{}, err
		}
	}
	if from != nil && h.resume != nil {
		return h.resume(*from), nil
	}
	return Resumed{Token: protocol.ResumeToken{User: id.User, Position: 1}.String()}, nil
}

func (h *fakeHub) Served(s *Session) string {
	if h.served != nil {
		h.served()
	}
	return protocol.ResumeToken{User: s.User(), Position: 2 + protocol.Position(h.heard.Load())}.String()
}

func (h *fakeHub) Detach(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sessions, s)
	delete(h.watched, s)
}

func (h *fakeHub) WatchPresence(s *Session, users []protocol.UserID) {
	h.mu.Lock()
	before := h.watched[s]
	h.watched[s] = users
	h.watches++
	h.mu.Unlock()
	for _, u := range users {
		if !strings.Contains(fmt.Sprint(before), string(u)) {
			s.Deliver(presenceOf(u, protocol.Active), new(atomic.Value))
		}
	}
}

func (h *fakeHub) publish(ev *protocol.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	shared := new(atomic.Value)
	for s := range h.sessions {
		s.Deliver(ev, shared)
	}
}

func (h *fakeHub) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sessions)
}

func presenceOf(u protocol.UserID, p protocol.Presence) *protocol.Event {
	return &protocol.Event{Topic: protocol.PresenceTopic(u), Type: protocol.FramePresenceChange, Class: protocol.ClassEphemeral,
		Payload: protocol.MustMarshal(protocol.PresenceChange{Type: protocol.FramePresenceChange, Presence: p, User: u})}
}

func messageEvent(n int) *protocol.Event {
	return &protocol.Event{Topic: "C1", Type: "message", Class: protocol.ClassMessage, Payload: fmt.Appendf(nil, `{"type":"message","text":"m%d"}`, n)}
}

// world is an edge with fakes around it, on a network of its own.
type world struct {
	t        testing.TB
	edge     *Edge
	queries  *fakeQueries
	writer   *fakeWriter
	hub      *fakeHub
	reg      *prometheus.Registry
	mem      *memnet.Listener // nil over loopback
	listener net.Listener     // in place of one of loopback; nil without
	apart    bool
	offers   bool // clients offer compression
	client   *http.Client
	ran      chan error
}

type option func(*Config, *world)

// inBubble has the tests that run with fake time: their networks are pipes, which have no buffers and are not parked. All
// others have real sockets.
var inBubble sync.Map // of testing.TB

// everyWay is bothWays, and once more with everything compressed that can be, in both directions.
func everyWay(t *testing.T, run func(t *testing.T, way option)) {
	t.Helper()
	bothWays(t, run)
	t.Run("compressed", func(t *testing.T) { run(t, compressing) })
}

// bothWays runs a test with sockets that are parked, and with a goroutine for each as on systems without a poller.
func bothWays(t *testing.T, run func(t *testing.T, way option)) {
	t.Helper()
	t.Run("parked", func(t *testing.T) { run(t, func(*Config, *world) {}) })
	t.Run("apart", func(t *testing.T) { run(t, func(_ *Config, w *world) { w.apart = true }) })
}

// compressing is for clients that offer compression, to an edge that takes all the trouble.
func compressing(c *Config, w *world) {
	w.offers = true
	c.CompressionThreshold, c.CompressionParallel = 1, 1000
}

func newWorld(t testing.TB, options ...option) *world {
	t.Helper()
	w := &world{
		t: t,
		queries: &fakeQueries{
			tokens: map[string]protocol.Identity{
				"xoxp-ana": {Token: "tk1", User: "U1", UserName: "ana", Workspace: "T1", Workspaces: []protocol.WorkspaceID{"T1"}, Role: protocol.RoleMember},
				"xoxp-bo":  {Token: "tk2", User: "U2", UserName: "bo", Workspace: "T1", Workspaces: []protocol.WorkspaceID{"T1"}, Role: protocol.RoleMember},
			},
			dead: map[string]protocol.Code{}, floors: map[protocol.UserID]protocol.Position{}, members: map[protocol.ChannelID]bool{"C1": true},
		},
		writer: &fakeWriter{}, hub: &fakeHub{sessions: map[*Session]bool{}, watched: map[*Session][]protocol.UserID{}},
		reg: prometheus.NewRegistry(), ran: make(chan error, 1),
	}
	if _, pipes := inBubble.Load(t); pipes {
		w.mem = memnet.Listen()
	}
	w.queries.answer = func(_ context.Context, id protocol.Identity, method string, args protocol.Args, host string) (*protocol.Reply, error) {
		if method == "rtm.connect" || method == "client.getWebSocketURL" {
			url, err := w.edge.URL(id, args, host, false)
			return &protocol.Reply{Status: 200, Body: protocol.MustMarshal(map[string]any{"ok": true, "url": url})}, err
		}
		return &protocol.Reply{Status: 200, Body: []byte(`{"ok":true,"from":"cache"}`)}, nil
	}
	w.queries.query = func(_ context.Context, _ protocol.Identity, path string, args json.RawMessage) (*protocol.Reply, error) {
		if path != "users/info" && path != "T1/users/info" {
			return nil, &protocol.Error{Code: protocol.CodeUnknownMethod}
		}
		return &protocol.Reply{Status: 200, Body: protocol.MustMarshal(map[string]any{"results": []string{}, "ok": true, "args": args})}, nil
	}
	w.queries.boot = func(context.Context, protocol.Identity, bool) (userBoot, counts []byte, err error) {
		return []byte(`{"ok":true,"self":{}}`), []byte(`{"ok":true,"channels":[]}`), nil
	}
	w.writer.forward = func(_ context.Context, call *protocol.Call) (*protocol.Reply, error) {
		return &protocol.Reply{Status: 200, Body: []byte(`{"ok":true,"channel":"C1","ts":"1700000000.000100","message":{"text":"hi"}}`)}, nil
	}
	cfg := Default()
	cfg.Listen = "127.0.0.1:0"
	cfg.DrainTime = 0
	for _, o := range options {
		o(&cfg, w)
	}
	opts := Options{Doors: Doors{Queries: w.queries, Writer: w.writer, Hub: w.hub}, Log: slog.New(slog.NewTextHandler(testLog{t}, nil)), Registerer: w.reg, Now: time.Now, HostID: "test"}
	opts.Listener = w.listener
	if w.mem != nil {
		opts.Listener = w.mem
	}
	if _, fuzzing := t.(*testing.F); fuzzing { // It may not log from within its runs.
		opts.Log = slog.New(slog.DiscardHandler)
	}
	var err error
	if w.edge, err = New(cfg, opts); err != nil {
		t.Fatal(err)
	}
	w.edge.apart = w.apart
	transport := &http.Transport{}
	if w.mem != nil {
		transport.DialContext = w.mem.Dial
	}
	w.client = &http.Client{Transport: transport}
	go func() { w.ran <- w.edge.Run() }()
	t.Cleanup(func() {
		w.t = t
		w.stop()
	})
	return w
}

// stop may be called by the test before its cleanup does.
func (w *world) stop() {
	w.client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.edge.Stop(ctx); err != nil {
		w.t.Errorf("stop: %v", err)
	}
	if w.ran != nil {
		if err := <-w.ran; err != nil {
			w.t.Errorf("run: %v", err)
		}
		w.ran = nil
	}
	if n := w.hub.len(); n != 0 {
		w.t.Errorf("%d sessions are still attached", n)
	}
	if n := w.edge.Sessions(); n != 0 {
		w.t.Errorf("%d sessions are left", n)
	}
	if n := w.edge.admission.handshakes.taken(); n != 0 {
		w.t.Errorf("%d places for handshakes are lost", n)
	}
	if n := w.edge.admission.calls.taken(); n != 0 {
		w.t.Errorf("%d places for calls are lost", n)
	}
}

type testLog struct{ t testing.TB }

func (l testLog) Write(line []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(line)))
	return len(line), nil
}

func (w *world) metric(name string, labels ...string) float64 {
	w.t.Helper()
	families, err := w.reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			have := []string{}
			for _, l := range m.Label {
				have = append(have, l.GetValue())
			}
			if f.GetName() == name && fmt.Sprint(have) == fmt.Sprint(append([]string{}, labels...)) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	w.t.Fatalf("there is no metric %s%v", name, labels)
	return 0
}

func (w *world) base() string { return "http://" + w.edge.Addr() }

// call makes an HTTP call.
func (w *world) call(method, path, contentType, body string, header ...string) (*http.Response, map[string]any, string) {
	w.t.Helper()
	req, err := http.NewRequest(method, w.base()+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	var fields map[string]any
	_ = json.Unmarshal(raw, &fields)
	return resp, fields, string(raw)
}

// ticketURL asks for an address as rtm.connect does.
func (w *world) ticketURL(token string) string {
	w.t.Helper()
	_, answer, raw := w.call("GET", "/api/rtm.connect?token="+token, "", "")
	url, ok := answer["url"].(string)
	if !ok {
		w.t.Fatalf("rtm.connect gives %s", raw)
	}
	return url
}

func (w *world) thinURL(token, params string) string {
	return "ws://" + w.edge.Addr() + "/?token=" + token + "&flannel=3&" + params
}

func (w *world) dialer() *websocket.Dialer {
	d := &websocket.Dialer{HandshakeTimeout: patience, EnableCompression: w.offers}
	if w.mem != nil {
		d.NetDialContext = w.mem.Dial
	}
	return d
}

// peer is the client's end of a socket. Its reader takes what comes until the socket ends.
type peer struct {
	t      testing.TB
	conn   *websocket.Conn
	frames chan string // of all sizes; closed by the reader at the end
	ended  error       // why; read after frames is closed
	pings  atomic.Int64
	silent atomic.Bool            // pings are not answered
	pinged atomic.Pointer[func()] // runs for each ping, if there is one
}

func (w *world) dial(url string, header ...string) *peer {
	w.t.Helper()
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	conn, resp, err := w.dialer().DialContext(context.Background(), url, h)
	if err != nil {
		w.t.Fatalf("dial %s: %v (%v)", url, err, resp)
	}
	return w.peer(conn)
}

func (w *world) peer(conn *websocket.Conn) *peer {
	p := &peer{t: w.t, conn: conn, frames: make(chan string, 10_000)}
	conn.SetPingHandler(func(data string) error {
		p.pings.Add(1)
		if fn := p.pinged.Load(); fn != nil {
			(*fn)()
		}
		if p.silent.Load() {
			return nil
		}
		return conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(time.Second))
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(p.frames)
		for {
			kind, body, err := conn.ReadMessage()
			if err != nil {
				p.ended = err
				return
			}
			if kind != websocket.TextMessage {
				p.ended = fmt.Errorf("a frame of kind %d", kind)
				return
			}
			p.frames <- string(body)
		}
	}()
	w.t.Cleanup(func() { conn.Close(); <-done })
	return p
}

// hello dials and waits for hello.
func (w *world) hello(url string) *peer {
	w.t.Helper()
	p := w.dial(url)
	if f := p.next(); !strings.HasPrefix(f, `{"type":"hello"`) {
		w.t.Fatalf("the first frame is %s", f)
	}
	return p
}

func (p *peer) send(frame string) {
	p.t.Helper()
	if err := p.conn.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) next() string {
	p.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case f, ok := <-p.frames:
		if !ok {
			p.t.Fatalf("the socket ended: %v", p.ended)
		}
		return f
	case <-timer.C:
		p.t.Fatal("no frame")
	}
	return ""
}

// until returns the first frame that contains a text.
func (p *peer) until(text string) string {
	p.t.Helper()
	for {
		if f := p.next(); strings.Contains(f, text) {
			return f
		}
	}
}

// closed returns the code and the reason that the socket is closed with.
func (p *peer) closed() (int, protocol.CloseReason) {
	p.t.Helper()
	timer := time.NewTimer(10 * patience) // in bubbles it costs nothing
	defer timer.Stop()
	for {
		select {
		case _, ok := <-p.frames:
			if ok {
				continue
			}
			var ce *websocket.CloseError
			if !errors.As(p.ended, &ce) {
				p.t.Fatalf("the socket ended without a code: %v", p.ended)
			}
			var reason protocol.CloseReason
			if ce.Text != "" && ce.Text[0] == '{' {
				if err := json.Unmarshal([]byte(ce.Text), &reason); err != nil {
					p.t.Fatalf("reason %q: %v", ce.Text, err)
				}
			}
			return ce.Code, reason
		case <-timer.C:
			p.t.Fatal("the socket is not closed")
		}
	}
}

// eventually waits until a claim holds, without a clock.
func eventually(t testing.TB, what string, claim func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !claim() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		pause()
	}
}

// pause gives others the processor for a moment.
func pause() {
	t := time.NewTimer(time.Millisecond)
	<-t.C
}

var errTest = errors.New("a fault of ours")

// rawSocket upgrades by hand, for frames that no library sends.
func (w *world) rawSocket(url string) net.Conn {
	w.t.Helper()
	conn, _ := w.rawOffer(url, "")
	return conn
}

// rawOffer is rawSocket with an offer of extensions; what of it is agreed on is in the answer.
func (w *world) rawOffer(url, offer string) (conn net.Conn, agreed string) {
	w.t.Helper()
	if offer != "" {
		offer = "Sec-WebSocket-Extensions: " + offer + "\r\n"
	}
	var err error
	if w.mem != nil {
		conn, err = w.mem.Dial(context.Background(), "mem", "")
	} else {
		conn, err = net.Dial("tcp", w.edge.Addr())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	path := strings.TrimPrefix(url, "ws://"+w.edge.Addr())
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+offer+"\r\n"); err != nil {
		w.t.Fatal(err)
	}
	head := []byte{}
	for one := make([]byte, 1); !strings.HasSuffix(string(head), "\r\n\r\n"); {
		if _, err := conn.Read(one); err != nil {
			w.t.Fatalf("upgrade: %v after %q", err, head)
		}
		head = append(head, one[0])
	}
	if !strings.HasPrefix(string(head), "HTTP/1.1 101") {
		w.t.Fatalf("upgrade answers %q", head)
	}
	for line := range strings.SplitSeq(string(head), "\r\n") {
		if name, value, _ := strings.Cut(line, ": "); strings.EqualFold(name, "Sec-WebSocket-Extensions") {
			agreed += value
		}
	}
	return conn, agreed
}

// rawConn is a connection without a word said.
func (w *world) rawConn() net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.edge.Addr())
	if err != nil {
		w.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	w.t.Cleanup(func() { conn.Close() })
	return conn
}
