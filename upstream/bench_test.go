package upstream

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"flannel/protocol"
)

// benchUpstream is an Upstream on a real socket, with handler behind it.
func benchUpstream(b *testing.B, handler http.Handler) *Upstream {
	srv := httptest.NewServer(handler)
	b.Cleanup(srv.Close)
	cfg := Default()
	cfg.URL, cfg.Key, cfg.IdleTimeout = srv.URL, fakeKey, 100*time.Millisecond
	u, err := New(cfg, Options{Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(u.Close)
	return u
}

// profile is about as long as a user's profile.
var profile = json.RawMessage(`{"id":"U1","profile":"` + string(make64(700)) + `"}`)

func make64(n int) []byte {
	s := make([]byte, n)
	for i := range s {
		s[i] = 'x'
	}
	return s
}

// One object per call, from 64 callers at once: the cost per object should be far below that of a request.
func BenchmarkObjects_Batched(b *testing.B) {
	var requests atomic.Int64
	u := benchUpstream(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		var req protocol.ObjectsRequest
		_ = json.NewDecoder(r.Body).Decode(&req)
		a := protocol.ObjectsAnswer{Position: 1}
		for _, id := range req.IDs {
			a.Objects = append(a.Objects, protocol.Object{ID: id, Kind: protocol.KindUser, Version: 1, Owner: "T1", Topic: "T1", Body: profile})
		}
		_ = json.NewEncoder(w).Encode(a)
	}))
	var n atomic.Int64
	b.SetParallelism(32) // Times GOMAXPROCS.
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			id := protocol.ObjectID(fmt.Sprintf("U%d", n.Add(1)))
			if a, err := objects(b.Context(), u, "T1", []protocol.ObjectID{id}, 0); err != nil || len(a.Objects) != 1 {
				b.Errorf("%+v, %v", a, err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/float64(requests.Load()), "objects/request")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "objects/s")
}

// A thousand objects in one call: what decoding costs.
func BenchmarkObjects_FullLoad(b *testing.B) {
	a := protocol.ObjectsAnswer{Position: 1}
	var ids []protocol.ObjectID
	for i := range protocol.MaxObjectIDs {
		id := protocol.ObjectID(fmt.Sprintf("U%d", i))
		ids = append(ids, id)
		a.Objects = append(a.Objects, protocol.Object{ID: id, Kind: protocol.KindUser, Version: 1, Owner: "T1", Topic: "T1", Body: profile})
	}
	raw := protocol.MustMarshal(a)
	u := benchUpstream(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(raw) }))
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if a, err := objects(b.Context(), u, "T1", ids, 0); err != nil || len(a.Objects) != len(ids) {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(ids))/b.Elapsed().Seconds(), "objects/s")
}

// A small forwarded call at a time.
func BenchmarkForward(b *testing.B) {
	u := benchUpstream(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"ok":true}`)) }))
	call := &protocol.Call{Method: "chat.postMessage", ContentType: "application/json", Body: make64(300), Token: "xoxp-1"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := u.Forward(b.Context(), call); err != nil {
			b.Fatal(err)
		}
	}
}

// countSink counts events.
type countSink struct {
	events atomic.Int64
	want   int64
	done   chan struct{}
	once   sync.Once
}

func (s *countSink) Events(run []*protocol.Event) {
	if s.events.Add(int64(len(run))) >= s.want {
		s.once.Do(func() { close(s.done) })
	}
}
func (*countSink) Followed(protocol.Topic, protocol.Seq, protocol.Position) {}
func (*countSink) Reset(protocol.Topic, protocol.Position)                  {}
func (*countSink) Unfollowed(protocol.Topic)                                {}
func (*countSink) Watermark(protocol.Position)                              {}
func (*countSink) Live(bool)                                                {}

// Events of 1,000 topics with ordinary messages in them, 50 to a frame, from the socket to the sink.
func BenchmarkStream_Events(b *testing.B) {
	const topics, perFrame = 1000, 50
	payload := json.RawMessage(`{"type":"message","text":"` + string(make64(250)) + `","user":"U1","ts":"1700000000.000100"}`)
	var bytes atomic.Int64
	begin := make(chan struct{})
	u := benchUpstream(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		send := func(f protocol.StreamFrame) bool {
			raw := protocol.MustMarshal(f)
			bytes.Add(int64(len(raw)))
			return conn.WriteMessage(websocket.TextMessage, raw) == nil
		}
		send(protocol.StreamFrame{Type: protocol.StreamHello, Version: 1, HeartbeatMS: 30_000})
		for seen := 0; seen < topics; {
			var f protocol.StreamFrame
			if conn.ReadJSON(&f) != nil {
				return
			}
			if f.Type == protocol.StreamSubscribe {
				seen += len(f.Topics)
				f.Type = protocol.StreamSubscribed
				send(f)
			}
		}
		// Frames are prepared for one round over the topics, so that the bench does not measure the sender much.
		<-begin
		bytes.Store(0)
		position := protocol.Position(0)
		for seq := protocol.Seq(1); ; seq++ {
			f := protocol.StreamFrame{Type: protocol.StreamEvents}
			for t := range topics {
				position++
				f.Events = append(f.Events, &protocol.Event{
					Topic: protocol.Topic(fmt.Sprintf("C%d", t)), Seq: seq, Position: position, Type: "message", Class: protocol.ClassMessage, Payload: payload,
					Effects: []protocol.Effect{{Op: protocol.OpMessageAdded, Channel: "C1", User: "U1", TS: "1700000000.000100", Latest: "1700000000.000100"}},
				})
				if len(f.Events) == perFrame {
					if !send(f) {
						return
					}
					f.Events = f.Events[:0]
				}
			}
		}
	}))
	sink := &countSink{want: int64(b.N), done: make(chan struct{})}
	stop := run(b, u, sink)
	var states []protocol.TopicState
	for t := range topics {
		states = append(states, protocol.TopicState{Topic: protocol.Topic(fmt.Sprintf("C%d", t)), Seq: new(protocol.Seq(0))})
	}
	if err := u.Follow(b.Context(), states); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	close(begin)
	<-sink.done
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	stop()
}

// What the table costs per event, without the wire.
func BenchmarkTable_Event(b *testing.B) {
	tb := newTable()
	tb.add(protocol.TopicState{Topic: "C1", Seq: new(protocol.Seq(0))})
	tb.take(time.Time{}, 1)
	notes, _ := tb.answered(protocol.TopicState{Topic: "C1"}, nil)
	tb.confirm(notes[0].row)
	ev := &protocol.Event{Topic: "C1"}
	b.ReportAllocs()
	for b.Loop() {
		ev.Seq++
		if notes, _, _ = tb.event(ev, notes[:0]); len(notes) != 1 {
			b.Fatal("not delivered")
		}
	}
}
