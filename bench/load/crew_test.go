//go:build linux

package load

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"
)

// inProcess starts workers as goroutines.
func inProcess(int) (*Pipe, error) {
	cr, cw := io.Pipe()
	rr, rw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := Serve(cr, rw)
		rw.Close()
		done <- err
	}()
	return &Pipe{In: cw, Out: rr, Wait: func() error { return <-done }}, nil
}

// server is a server as simple as can be: it says hello and that one is in, answers questions, and says what it is told
// to all.
type server struct {
	address  string
	refusals atomic.Int32 // of /later, which the first four times are

	mu    sync.Mutex
	conns map[*websocket.Conn]bool
}

func newServer(t *testing.T) *server {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{address: ln.Addr().String(), conns: make(map[*websocket.Conn]bool)}
	up := websocket.FastHTTPUpgrader{}
	srv := &fasthttp.Server{Logger: slog.NewLogLogger(slog.DiscardHandler, 0), Handler: func(ctx *fasthttp.RequestCtx) {
		if string(ctx.Path()) == "/no" {
			ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
			return
		}
		if string(ctx.Path()) == "/later" && s.refusals.Add(1) <= 4 {
			ctx.Response.Header.Set("Retry-After", "1")
			ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
			return
		}
		_ = up.Upgrade(ctx, s.serve)
	}}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ln) })
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return s
}

func (s *server) serve(conn *websocket.Conn) {
	s.mu.Lock()
	for _, frame := range []string{`{"type":"hello"}`, `{"type":"boot","text":"` + strings.Repeat("b", 300_000) + `"}`, `{"type":"counts"}`} {
		_ = conn.WriteMessage(websocket.TextMessage, []byte(frame))
	}
	s.conns[conn] = true
	s.mu.Unlock()
	for {
		_, body, err := conn.ReadMessage()
		if err != nil {
			return
		}
		var id int
		_, _ = fmt.Sscanf(string(body), `{"id":%d,`, &id)
		_, asked, _ := strings.Cut(string(body), `"updated_ids":{`)
		answer := fmt.Sprintf(`{"reply_to":%d,"ok":%v,"results":[`, id, !strings.Contains(asked, "UBAD"))
		for i, word := range strings.Split(strings.TrimRight(asked, "}"), ",") {
			answer += strings.Repeat(",", min(i, 1)) + `{"id":` + strings.TrimSuffix(word, ":0") + `}`
		}
		s.mu.Lock()
		err = conn.WriteMessage(websocket.TextMessage, []byte(answer+`]}`))
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *server) say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.WriteMessage(websocket.TextMessage, []byte(text))
	}
}

func newCrew(t *testing.T, n int) *Crew {
	c, err := Start(n, inProcess)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// phase returns what was counted since the last one.
func phase(t *testing.T, c *Crew) Totals {
	t.Helper()
	totals, err := c.Mark(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return totals
}

func do(t *testing.T, c *Crew, cmd Command) {
	t.Helper()
	if err := c.All(t.Context(), cmd); err != nil {
		t.Fatal(err)
	}
}

func TestCrew_ConnectAskListenClose(t *testing.T) {
	s, c := newServer(t), newCrew(t, 3)
	order := Connect{Address: s.address, Paths: []string{"/"}, Until: `{"type":"counts"`, Parallel: 4, PatienceMS: 30_000}
	if err := c.Connect(t.Context(), order, 20, 0, true); err != nil {
		t.Fatal(err)
	}
	if got := phase(t, c); got.Counts.Opened != 20 || got.Counts.Errors() != 0 || got.Times.Count() != 20 || got.Counts.Bytes < 20*300_000 {
		t.Fatalf("connect: %+v, %d times", got, got.Times.Count())
	}

	ids := []string{"U1", "U2", "U3", "U4", "U5"}
	do(t, c, Command{Do: DoAsk, Ask: &Ask{IDs: ids, Batch: 2, Depth: 3}})
	for c.SoFar().Queries < 1000 {
		do(t, c, Command{Do: DoListen})
	}
	do(t, c, Command{Do: DoRest, PatienceMS: 30_000})
	if got := phase(t, c); got.Counts.Queries < 1000 || got.Counts.Objects != 2*got.Counts.Queries || got.Counts.Errors() != 0 || got.Times.Count() != got.Counts.Queries {
		t.Errorf("ask: %+v", got)
	}

	do(t, c, Command{Do: DoListen})
	for n := int64(1); n <= 50; n++ {
		s.say(Stamp(n, time.Now()))
	}
	heard := make(map[int64]bool)
	for len(heard) < 50 {
		heard[<-c.Heard()] = true
	}
	s.say(Stamp(50, time.Now())) // again
	s.say(Stamp(52, time.Now())) // 51 is lost
	for !heard[52] {
		heard[<-c.Heard()] = true
	}
	do(t, c, Command{Do: DoRest, Last: 53, PatienceMS: 1}) // and 53
	if got := phase(t, c); got.Counts.Delivered != 20*51 || got.Counts.Doubled != 20 || got.Counts.Missed != 40 || got.Times.Count() != 20*51 {
		t.Errorf("listen: %+v", got.Counts)
	}

	do(t, c, Command{Do: DoClose})
	if got := phase(t, c); got.Counts.Errors() != 0 {
		t.Errorf("close: %+v", got)
	}
}

// With a rate everything has its time, and is timed from it.
func TestCrew_Schedules(t *testing.T) {
	s, c := newServer(t), newCrew(t, 2)
	order := Connect{Address: s.address, Paths: []string{"/"}, PatienceMS: 30_000}
	if err := c.Connect(t.Context(), order, 10, 500, false); err != nil {
		t.Fatal(err)
	}
	if got := phase(t, c); got.Counts.Opened != 10 || got.Counts.Errors() != 0 {
		t.Fatalf("connect: %+v", got)
	}
	do(t, c, Command{Do: DoAsk, Ask: &Ask{IDs: []string{"U1"}, Rate: 400}})
	for c.SoFar().Queries < 50 {
		do(t, c, Command{Do: DoListen})
	}
	do(t, c, Command{Do: DoRest, PatienceMS: 30_000})
	if got := phase(t, c); got.Counts.Queries < 50 || got.Counts.Errors() != 0 {
		t.Errorf("ask: %+v", got)
	}
}

// TestCrew_ComesAgain: whoever is turned away comes back when the server says, and not before.
func TestCrew_ComesAgain(t *testing.T) {
	s, c := newServer(t), newCrew(t, 1)
	order := Connect{Address: s.address, Paths: []string{"/later"}, Parallel: 3, PatienceMS: 30_000, Again: true, Until: `{"type":"counts"`}
	began := time.Now()
	if err := c.Connect(t.Context(), order, 3, 0, false); err != nil {
		t.Fatal(err)
	}
	if got := phase(t, c); got.Counts.Opened != 3 || got.Counts.Turned != 4 || got.Counts.Refused != 0 || got.Times.Percentile(100) < 2000 {
		t.Errorf("%+v, the last after %v ms", got.Counts, got.Times.Percentile(100))
	}
	if took := time.Since(began); took < 2*time.Second { // One was turned away twice.
		t.Errorf("all are in after %v", took)
	}
	order.Paths, order.PatienceMS = []string{"/no"}, 1
	if err := c.Connect(t.Context(), order, 2, 0, false); err != nil {
		t.Fatal(err)
	}
	if got := phase(t, c); got.Counts.Opened != 0 || got.Counts.Refused != 2 {
		t.Errorf("out of patience: %+v", got.Counts)
	}
}

// TestCrew_Leaves: each connection ends when it is in, so there may be more of them than files.
func TestCrew_Leaves(t *testing.T) {
	s, c := newServer(t), newCrew(t, 1)
	if err := c.Connect(t.Context(), Connect{Address: s.address, Paths: []string{"/"}, Parallel: 2, PatienceMS: 30_000, Leave: true, Until: `{"type":"counts"`}, 50, 0, false); err != nil {
		t.Fatal(err)
	}
	if got := phase(t, c); got.Counts.Opened != 50 || got.Counts.Errors() != 0 {
		t.Errorf("%+v", got)
	}
}

func TestCrew_WhatGoesWrongIsToldAndCounted(t *testing.T) {
	s, c := newServer(t), newCrew(t, 1)
	connect := func(address, path string) Totals {
		t.Helper()
		if err := c.Connect(t.Context(), Connect{Address: address, Paths: []string{path}, Parallel: 2, PatienceMS: 100}, 2, 0, false); err != nil {
			t.Fatal(err)
		}
		return phase(t, c)
	}
	if got := connect(s.address, "/no"); got.Counts.Refused != 2 || !strings.Contains(got.Error, "503") {
		t.Errorf("refused: %+v", got)
	}
	if got := connect("127.0.0.1:1", "/"); got.Counts.Refused != 2 || !strings.Contains(got.Error, "refused") {
		t.Errorf("nobody there: %+v", got)
	}
	do(t, c, Command{Do: "dance"})
	if got := phase(t, c); !strings.Contains(got.Error, "dance") {
		t.Errorf("%+v", got)
	}
	// A server that takes the connection and says nothing.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if got := connect(silent.Addr().String(), "/"); got.Counts.Refused != 2 || !strings.Contains(got.Error, "not in after") {
		t.Errorf("silent: %+v", got)
	}
	do(t, c, Command{Do: DoClose})
	if got := connect(s.address, "/"); got.Counts.Opened != 2 {
		t.Fatalf("connect: %+v", got)
	}
	do(t, c, Command{Do: DoAsk, Ask: &Ask{IDs: []string{"UBAD"}}})
	for c.SoFar().Wrong == 0 {
		do(t, c, Command{Do: DoListen})
	}
	do(t, c, Command{Do: DoRest, PatienceMS: 30_000})
	if got := phase(t, c); got.Counts.Queries != 0 || !strings.Contains(got.Error, "not the answer") {
		t.Errorf("wrong answers: %+v", got)
	}
	s.mu.Lock()
	for conn := range s.conns {
		_ = conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(4001, "enough"))
	}
	s.mu.Unlock()
	for c.SoFar().Dropped < 2 {
		do(t, c, Command{Do: DoListen})
	}
	if got := phase(t, c); !strings.Contains(got.Error, "4001 enough") {
		t.Errorf("dropped: %+v", got)
	}
}
