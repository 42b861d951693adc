package upstream

import (
	"cmp"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"flannel/internal/memnet"
	"flannel/protocol"
)

const fakeKey = "service-key"

// fake is a backend with the upstream contract and a log in memory. Its hooks break what a test wants broken.
type fake struct {
	t   testing.TB
	net *memnet.Listener
	srv *http.Server
	wg  sync.WaitGroup

	mu sync.Mutex
	// load answers a load; nil answers with answer. It runs without mu.
	load func(name string, body []byte) (status int, answer any)
	// forward answers a forwarded call.
	forward func(w http.ResponseWriter, r *http.Request)
	// mangle may drop, repeat or change frames before they are sent.
	mangle func(f protocol.StreamFrame) []protocol.StreamFrame
	// hello may change the hello.
	hello      func(f *protocol.StreamFrame)
	refuse     int           // status for opening a stream, 0 to accept
	mute       bool          // streams send nothing, whatever happens
	deaf       bool          // subscriptions are not answered
	stuck      chan struct{} // nothing is read from streams until it is closed
	calls      map[string]int
	bodies     []string
	received   []protocol.StreamFrame
	heartbeat  time.Duration
	log        map[protocol.Topic][]*protocol.Event
	forgotten  map[protocol.Topic]int // the first events of a topic whose replay is gone
	position   protocol.Position
	streams    map[*fakeStream]struct{}
	everOpened int
}

// fakeStream is one open stream. Guarded by fake.mu.
type fakeStream struct {
	conn  *websocket.Conn
	sent  map[protocol.Topic]protocol.Seq // subscribed: the last seq that was put in out
	out   []protocol.StreamFrame
	wake  chan struct{}
	ended chan struct{}
}

func newFake(t testing.TB) *fake {
	f := &fake{
		t: t, net: memnet.Listen(), calls: make(map[string]int), heartbeat: time.Second,
		log: make(map[protocol.Topic][]*protocol.Event), forgotten: make(map[protocol.Topic]int),
		streams: make(map[*fakeStream]struct{}),
	}
	f.srv = &http.Server{Handler: f, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	f.wg.Go(func() { _ = f.srv.Serve(f.net) })
	t.Cleanup(f.close)
	return f
}

func (f *fake) close() {
	_ = f.net.Close()
	_ = f.srv.Close()
	f.net.Cut()
	f.wg.Wait()
}

func (f *fake) set(change func(f *fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fake) count(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[name]
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, protocol.UpstreamPath)
	if r.Header.Get("Authorization") != "Bearer "+fakeKey {
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(protocol.ErrorAnswer{Error: protocol.CodeInvalidAuth})
		return
	}
	kind, _, _ := strings.Cut(name, "/")
	f.mu.Lock()
	f.calls[kind]++
	load, forward, refuse := f.load, f.forward, f.refuse
	f.mu.Unlock()
	switch kind {
	case protocol.CallStream:
		if refuse != 0 {
			w.WriteHeader(refuse)
			return
		}
		f.serveStream(w, r)
	case protocol.CallForward:
		forward(w, r)
	default:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		f.mu.Lock()
		f.bodies = append(f.bodies, string(body))
		f.mu.Unlock()
		if load == nil {
			load = f.answer
		}
		status, answer := load(name, body)
		w.WriteHeader(status)
		if raw, ok := answer.(string); ok {
			_, _ = io.WriteString(w, raw)
			return
		}
		_ = json.NewEncoder(w).Encode(answer)
	}
}

// answer answers loads about objects that always exist, unless their id ends in 0.
func (f *fake) answer(name string, body []byte) (int, any) {
	f.mu.Lock()
	position := f.position
	f.mu.Unlock()
	switch name {
	case protocol.CallIdentify:
		var req protocol.IdentifyRequest
		_ = json.Unmarshal(body, &req)
		a := protocol.IdentifyAnswer{Position: position}
		for _, t := range req.Tokens {
			if t == "bad" {
				a.Identities = append(a.Identities, protocol.Identity{Error: protocol.CodeInvalidAuth})
				continue
			}
			a.Identities = append(a.Identities, protocol.Identity{User: protocol.UserID("U" + t), Workspace: "T1"})
		}
		return 200, a
	case protocol.CallBoot:
		var req protocol.BootRequest
		_ = json.Unmarshal(body, &req)
		a := protocol.BootAnswer{Position: max(position, req.AtLeast)}
		for _, u := range req.Users {
			a.Users = append(a.Users, protocol.UserBoot{User: u, Workspace: "T1"})
		}
		return 200, a
	case protocol.CallObjects:
		var req protocol.ObjectsRequest
		_ = json.Unmarshal(body, &req)
		a := protocol.ObjectsAnswer{Position: max(position, req.AtLeast)}
		for _, id := range req.IDs {
			if strings.HasSuffix(string(id), "0") {
				a.Missing = append(a.Missing, id)
				continue
			}
			a.Objects = append(a.Objects, protocol.Object{ID: id, Kind: protocol.KindOf(id), Version: 1, Owner: req.Workspace, Topic: protocol.Topic(req.Workspace), Body: json.RawMessage(`{"id":"` + string(id) + `"}`)})
		}
		return 200, a
	case protocol.CallReplay:
		var req protocol.ReplayRequest
		_ = json.Unmarshal(body, &req)
		return 200, f.replay(req)
	case protocol.CallMembers:
		var req protocol.MembersRequest
		_ = json.Unmarshal(body, &req)
		return 200, protocol.MembersAnswer{Users: []protocol.UserID{"U1", "U2"}, Total: 2, Position: max(position, req.AtLeast)}
	case protocol.CallList:
		var req protocol.ListRequest
		_ = json.Unmarshal(body, &req)
		return 200, protocol.ListAnswer{Entries: []protocol.ListEntry{{ID: "U1", Version: 1, SortName: "ana"}}, Position: max(position, req.AtLeast)}
	}
	return 404, protocol.ErrorAnswer{Error: protocol.CodeUnknownMethod}
}

// replay answers from the log.
func (f *fake) replay(req protocol.ReplayRequest) protocol.ReplayAnswer {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := protocol.ReplayAnswer{Events: []*protocol.Event{}, Position: max(f.position, req.AtLeast)}
	for _, t := range req.Topics {
		events := f.log[t.Topic]
		from := 0
		for from < len(events) && events[from].Position <= *t.Position {
			from++
		}
		if from < f.forgotten[t.Topic] || len(a.Events)+len(events)-from > req.Limit {
			a.Gone = append(a.Gone, t.Topic)
			continue
		}
		a.Events = append(a.Events, events[from:]...)
	}
	slices.SortStableFunc(a.Events, func(x, y *protocol.Event) int { return cmp.Compare(x.Position, y.Position) })
	return a
}

func (f *fake) serveStream(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	s := &fakeStream{conn: conn, sent: make(map[protocol.Topic]protocol.Seq), wake: make(chan struct{}, 1), ended: make(chan struct{})}
	f.mu.Lock()
	hello := protocol.StreamFrame{Type: protocol.StreamHello, Version: protocol.UpstreamVersion, Position: f.position, ReplayFrom: 0, HeartbeatMS: int(f.heartbeat.Milliseconds())}
	if f.hello != nil {
		f.hello(&hello)
	}
	s.out = append(s.out, hello)
	f.streams[s] = struct{}{}
	f.everOpened++
	f.mu.Unlock()
	f.wg.Go(func() { f.write(s) })
	s.nudge()
	for {
		f.mu.Lock()
		stuck := f.stuck
		f.mu.Unlock()
		if stuck != nil {
			<-stuck
		}
		_, raw, err := conn.ReadMessage()
		if err != nil {
			break
		}
		var frame protocol.StreamFrame
		if err := json.Unmarshal(raw, &frame); err != nil {
			f.t.Errorf("the edge sent %q", raw)
		}
		f.take(s, frame)
	}
	close(s.ended)
	_ = conn.Close()
	f.mu.Lock()
	delete(f.streams, s)
	f.mu.Unlock()
}

// write is the only writer of a stream.
func (f *fake) write(s *fakeStream) {
	for {
		f.mu.Lock()
		var frames []protocol.StreamFrame
		if !f.mute {
			frames, s.out = s.out, nil
		}
		f.mu.Unlock()
		for _, frame := range frames {
			if err := s.conn.WriteMessage(websocket.TextMessage, protocol.MustMarshal(frame)); err != nil {
				_ = s.conn.Close()
				return
			}
		}
		select {
		case <-s.wake:
		case <-s.ended:
			return
		}
	}
}

func (s *fakeStream) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// send puts a frame in the stream's queue. Call with mu held.
func (f *fake) send(s *fakeStream, frame protocol.StreamFrame) {
	frames := []protocol.StreamFrame{frame}
	if f.mangle != nil {
		frames = f.mangle(frame)
	}
	s.out = append(s.out, frames...)
	s.nudge()
}

func (f *fake) take(s *fakeStream, frame protocol.StreamFrame) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.received = append(f.received, frame)
	switch frame.Type {
	case protocol.StreamPing:
		f.send(s, protocol.StreamFrame{Type: protocol.StreamPong, ID: frame.ID})
	case protocol.StreamUnsubscribe:
		for _, ts := range frame.Topics {
			delete(s.sent, ts.Topic)
		}
	case protocol.StreamSubscribe:
		if f.deaf {
			return
		}
		for _, ts := range frame.Topics {
			f.subscribe(s, ts)
		}
	}
}

func (f *fake) subscribe(s *fakeStream, ts protocol.TopicState) {
	events := f.log[ts.Topic]
	from := len(events) // index of the first event to send
	switch {
	case ts.Seq != nil:
		from = min(int(*ts.Seq), len(events))
	case ts.Position != nil:
		for from = 0; from < len(events) && events[from].Position <= *ts.Position; from++ {
		}
	}
	kind := protocol.StreamSubscribed
	if from < f.forgotten[ts.Topic] {
		kind, from = protocol.StreamReset, len(events)
	}
	seq, position := protocol.Seq(from), f.position
	if from < len(events) {
		position = events[from].Position - 1
	}
	f.send(s, protocol.StreamFrame{Type: kind, Topics: []protocol.TopicState{{Topic: ts.Topic, Seq: &seq, Position: &position}}})
	if from < len(events) {
		f.send(s, protocol.StreamFrame{Type: protocol.StreamEvents, Events: events[from:len(events):len(events)]})
	}
	s.sent[ts.Topic] = protocol.Seq(len(events))
}

// publish commits one event per topic, at one position.
func (f *fake) publish(topics ...protocol.Topic) protocol.Position {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.position++
	for _, t := range topics {
		ev := &protocol.Event{Topic: t, Seq: protocol.Seq(len(f.log[t]) + 1), Position: f.position, Type: "message", Class: protocol.ClassMessage, Payload: json.RawMessage(`{"type":"message"}`)}
		f.log[t] = append(f.log[t], ev)
		for s := range f.streams {
			if _, ok := s.sent[t]; ok {
				s.sent[t] = ev.Seq
				f.send(s, protocol.StreamFrame{Type: protocol.StreamEvents, Events: []*protocol.Event{ev}})
			}
		}
	}
	return f.position
}

// watermark tells every stream that it has everything.
func (f *fake) watermark() protocol.Position {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.toAll(protocol.StreamFrame{Type: protocol.StreamWatermark, Position: f.position})
	return f.position
}

func (f *fake) toAll(frame protocol.StreamFrame) {
	for s := range f.streams {
		f.send(s, frame)
	}
}

func (f *fake) sendAll(frame protocol.StreamFrame) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.toAll(frame)
}

// raw sends bytes that are no frame.
func (f *fake) raw(kind int, b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.streams {
		_ = s.conn.WriteMessage(kind, b)
	}
}

// cut breaks every stream.
func (f *fake) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.streams {
		_ = s.conn.NetConn().Close()
	}
}

// frames returns the frames of a type that came from the edge.
func (f *fake) frames(typ string) []protocol.StreamFrame {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []protocol.StreamFrame
	for _, frame := range f.received {
		if frame.Type == typ {
			found = append(found, frame)
		}
	}
	return found
}

// config is the default with the fake behind it.
func (f *fake) config() Config {
	cfg := Default()
	cfg.URL, cfg.Key = "http://backend.test:1", fakeKey
	return cfg
}

// open builds an Upstream on the fake; it is closed with the test.
func (f *fake) open(change func(*Config)) *Upstream {
	f.t.Helper()
	cfg := f.config()
	if change != nil {
		change(&cfg)
	}
	u, err := New(cfg, Options{Log: testLog(f.t), Registerer: prometheus.NewRegistry(), Dial: f.net.Dial})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(u.Close)
	return u
}

// testLog writes to the test's log.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}
