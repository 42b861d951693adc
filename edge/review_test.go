package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fasthttp/websocket"

	"flannel/protocol"
)

func TestTickets_KeepLittleAndFew(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	table := newTickets(30*time.Second, 2, nil, func() time.Time { return now })
	args := map[string]string{"token": "xoxp-ana", "text": strings.Repeat("x", 1<<20), "batch_presence_aware": "1", "exclude_events": strings.Repeat("x", maxParam+1)}
	name, err := table.issue("xoxp-ana", args)
	if err != nil {
		t.Fatal(err)
	}
	args["flannel"] = "3" // the caller's map stays the caller's
	if got := fmt.Sprint(table.all[name].params); got != "map[batch_presence_aware:1]" {
		t.Errorf("it keeps %.200s", got)
	}
	other, _ := table.issue("xoxp-ana", nil)
	if _, err := table.issue("xoxp-ana", nil); protocol.AsError(err).Code != protocol.CodeRateLimited || protocol.AsError(err).Retry <= 0 {
		t.Errorf("a third of two is issued: %v", err)
	}
	if got, ok := table.use(name); !ok || got.token != "xoxp-ana" {
		t.Errorf("the ticket is %+v, %v", got, ok)
	}
	if _, ok := table.use(name); ok {
		t.Error("a ticket is good for two")
	}
	now = now.Add(30 * time.Second)
	if table.sweep(); len(table.all) != 0 {
		t.Errorf("%d tickets are kept", len(table.all))
	}
	if _, ok := table.use(other); ok {
		t.Error("a ticket that was swept is good")
	}
}

func TestTickets_AFullTableIsToldOverHTTP(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *world) { c.MaxTickets = 1 })
	w.ticketURL("xoxp-ana")
	resp, answer, _ := w.call("GET", "/api/rtm.connect?token=xoxp-ana", "", "")
	if resp.StatusCode != http.StatusTooManyRequests || answer["error"] != "ratelimited" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %d %v", resp.StatusCode, answer)
	}
	if w.metric("flannel_admission_rejected_total", "full", "tickets") != 1 {
		t.Error("it is not counted")
	}
}

// TestWaiters_NoWakeUpIsLost: positions advance while waiters come, as they do in a node.
func TestWaiters_NoWakeUpIsLost(t *testing.T) {
	const last = 2000
	var w waiters
	var applied atomic.Uint64
	read := func() protocol.Position { return protocol.Position(applied.Load()) }
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			for p := i + 1; p <= last; p += 7 {
				if !w.wait(ctx, protocol.Position(p), read) {
					t.Errorf("position %d was never seen", p)
					return
				}
				if read() < protocol.Position(p) {
					t.Errorf("woken at %d for %d", read(), p)
				}
			}
		})
	}
	for p := uint64(1); p <= last; p++ {
		applied.Store(p)
		w.advanced(protocol.Position(p))
	}
	work.Wait()
	if len(w.all) != 0 {
		t.Errorf("%d waiters are left", len(w.all))
	}
}

// TestWaiters_AdvanceJustBeforeTheWait: the position is reached after the first look and before the waiter is listed.
func TestWaiters_AdvanceJustBeforeTheWait(t *testing.T) {
	var w waiters
	looks := 0
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	if !w.wait(ctx, 7, func() protocol.Position {
		if looks++; looks == 1 {
			w.advanced(7)
			return 6
		}
		return 7
	}) {
		t.Errorf("not seen for %v", time.Since(began))
	}
}

func TestRates_AreBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := newRates(func() time.Time { return now })
	for i := range 2*maxRates + 10 {
		r.take(protocol.UserID(fmt.Sprint("U", i)), "rtm.connect")
	}
	if n := len(r.young) + len(r.old); n > 2*maxRates {
		t.Errorf("%d buckets", n)
	}
	if wait := r.take("U1", "no.such.method"); wait != 0 {
		t.Errorf("a method without a tier waits %v", wait)
	}
}

func TestStop_BeforeRunAndTwice(t *testing.T) {
	w := newWorld(t)
	w.stop()
	for range 2 {
		if err := w.edge.Stop(t.Context()); err != nil {
			t.Errorf("another stop: %v", err)
		}
	}
	if !w.edge.Draining() {
		t.Error("it does not say that it is on its way out")
	}

	idle := newWorld(t)
	idle.stop()
	if err := idle.edge.Run(); err != nil {
		t.Errorf("run after stop: %v", err)
	}
	if idle.edge.begin(func() { t.Error("it runs after stop") }) {
		t.Error("a stopped edge takes work")
	}
}

// TestStop_RacesWithRun: neither may miss the other.
func TestStop_RacesWithRun(t *testing.T) {
	for range 20 {
		w := newWorld(t)
		w.stop() // at any point of Run
	}
}

func TestNew_AddressInUse(t *testing.T) {
	w := newWorld(t)
	cfg := Default()
	cfg.Listen = w.edge.Addr()
	if _, err := New(cfg, Options{}); err == nil || !strings.Contains(err.Error(), cfg.Listen) {
		t.Errorf("got %v", err)
	}
	cfg.MaxCalls = 0
	if _, err := New(cfg, Options{}); err == nil || !strings.Contains(err.Error(), "max_calls") {
		t.Errorf("got %v", err)
	}
}

// TestDrain_NewSockets: programs get a status, browsers a close code, and so does who was between the two looks.
func TestDrain_NewSockets(t *testing.T) {
	w := newWorld(t)
	late := false
	w.edge.doors.Queries = hooked{w.queries, func() {
		if late {
			w.edge.refusing.Store(true)
		}
	}}
	w.edge.refusing.Store(true)
	_, resp, err := w.dialer().Dial(w.thinURL("xoxp-ana", ""), nil)
	if err == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a program gets %v, %v", resp, err)
	}
	if code, reason := w.dial(w.thinURL("xoxp-ana", ""), "Origin", "https://app.slack.com").closed(); code != int(protocol.CloseDraining) || reason.Reason != "draining" || reason.RetryMS == 0 {
		t.Errorf("a browser is closed with %d %+v", code, reason)
	}
	w.edge.refusing.Store(false)
	late = true
	if code, reason := w.dial(w.thinURL("xoxp-ana", "")).closed(); code != int(protocol.CloseDraining) || reason.RetryMS == 0 {
		t.Errorf("one that came just before is closed with %d %+v", code, reason)
	}
	if n := w.metric("flannel_admission_rejected_total", "draining", "sessions"); n != 3 {
		t.Errorf("%v are counted", n)
	}
	if w.hub.len() != 0 {
		t.Error("one is attached")
	}
}

func TestAdmission_HandshakesHaveTheirOwnCount(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *world) { c.MaxHandshakes = 1 })
	w.edge.admission.handshakes.take()
	if _, resp, err := w.dialer().Dial(w.thinURL("xoxp-ana", ""), nil); err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("got %v, %v", resp, err)
	}
	w.edge.admission.handshakes.giveBack()
	if w.metric("flannel_admission_rejected_total", "full", "handshakes") != 1 || w.metric("flannel_admission_rejected_total", "full", "sessions") != 0 {
		t.Error("it is counted in the wrong place")
	}
}

func TestOrigins(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *world) { c.Origins = []string{"https://chat.example"} })
	for origin, allowed := range map[string]bool{
		"": true, "https://api.slack.com": true, "https://app.slack.com": true, "http://wss-primary.slack.com": true, "https://chat.example": true,
		"http://" + w.edge.Addr(): true, "https://evil.example": false, "https://chat.example.evil": false, "http://chat.example": false, "null": false, "https://": false, "%zz": false,
	} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		conn, resp, err := w.dialer().Dial(w.thinURL("xoxp-ana", ""), header)
		if err == nil {
			conn.Close()
		}
		if (err == nil) != allowed || !allowed && (resp == nil || resp.StatusCode != http.StatusForbidden) {
			t.Errorf("%q gets %v, %v", origin, resp, err)
		}
	}
	if n := w.metric("flannel_connections_opened_total", "origin"); n != 6 {
		t.Errorf("%v refusals are counted", n)
	}
}

// TestPanics_EndOneSessionOnly: wherever a door has a fault, its session is closed and the others go on.
func TestPanics_EndOneSessionOnly(t *testing.T) {
	for name, c := range map[string]struct {
		set   option
		frame string // "" closes the socket
	}{
		"query": {func(_ *Config, w *world) {
			w.queries.query = func(context.Context, protocol.Identity, string, json.RawMessage) (*protocol.Reply, error) {
				panic("a fault of ours")
			}
		}, `{"id":1,"type":"query","method":"users/info"}`},
		"message": {func(_ *Config, w *world) {
			w.writer.forward = func(context.Context, *protocol.Call) (*protocol.Reply, error) { panic("a fault of ours") }
		}, `{"id":1,"type":"message","channel":"C1","text":"a"}`},
		"detach": {func(*Config, *world) {}, ""},
	} {
		w := newWorld(t, c.set)
		if name == "detach" {
			w.edge.doors.Hub = &badHub{fakeHub: w.hub}
		}
		victim, other := w.hello(w.ticketURL("xoxp-ana")), w.hello(w.ticketURL("xoxp-bo"))
		eventually(t, "both are attached", func() bool { return w.hub.len() == 2 })
		if c.frame == "" {
			victim.conn.Close()
		} else {
			victim.send(c.frame)
			if code, reason := victim.closed(); code != int(protocol.CloseReconnect) || reason.RetryMS == 0 {
				t.Errorf("%s: closed with %d %+v", name, code, reason)
			}
		}
		eventually(t, name+": one is left", func() bool { return w.edge.Sessions() == 1 && w.hub.len() == 1 })
		other.send(`{"type":"ping"}`)
		other.until("pong")
		if w.metric("flannel_panics_total") != 1 {
			t.Errorf("%s: the panic is not counted", name)
		}
		w.stop()
	}
}

// badConn has a fault when it is written to.
type badConn struct{ syscall.RawConn }

func (badConn) Write(func(fd uintptr) bool) error { panic("a fault of ours") }

// TestPanics_InAWriterOfMany: the goroutine that writes for many sessions survives a fault in one, and so do the others.
func TestPanics_InAWriterOfMany(t *testing.T) {
	w := newWorld(t)
	victim, other := w.hello(w.thinURL("xoxp-ana", "")), w.hello(w.thinURL("xoxp-bo", ""))
	eventually(t, "both are attached", func() bool { return w.hub.len() == 2 })
	for _, s := range w.edge.sessions.all() {
		if s.User() == "U1" {
			s.reading.Lock()
			s.mu.Lock()
			s.direct = badConn{s.direct}
			s.mu.Unlock()
			s.reading.Unlock()
		}
	}
	w.hub.publish(messageEvent(1))
	victim.closed()
	eventually(t, "one is left", func() bool { return w.edge.Sessions() == 1 && w.hub.len() == 1 })
	w.hub.publish(messageEvent(2))
	other.until(`"m2"`)
	if w.metric("flannel_panics_total") != 1 {
		t.Error("the panic is not counted")
	}
}

// badHub has a fault after the first detach.
type badHub struct {
	*fakeHub
	once sync.Once
}

func (h *badHub) Detach(s *Session) {
	h.fakeHub.Detach(s)
	h.once.Do(func() { panic("a fault of ours") })
}

// TestSlow_MemoryAndTime: what waits for a reader that stopped stays within its outbox, and it has little time once the
// outbox was full, whatever the write timeout.
func TestSlow_MemoryAndTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config, _ *world) { c.OutboxBytes, c.WriteTimeout = 8<<10, time.Hour })
		conn := w.rawSocket(w.thinURL("xoxp-ana", "")) // reads nothing
		synctest.Wait()
		s := w.edge.sessions.all()[0]
		for i := range 100 {
			w.hub.publish(&protocol.Event{Topic: "C1", Type: "message", Class: protocol.ClassMessage, Payload: fmt.Appendf(nil, `{"n":%d,"x":%q}`, i, strings.Repeat("x", 1000))})
			s.mu.Lock()
			if s.out.size() > 8<<10 {
				t.Errorf("%d bytes wait", s.out.size())
			}
			s.mu.Unlock()
		}
		readFrame(t, conn) // what was being written; then it stops again, and the next write must not have a time of its own
		time.Sleep(closeWait + time.Second)
		synctest.Wait()
		if n := w.edge.Sessions(); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
		if w.metric("flannel_slow_clients_total") != 1 || w.metric("flannel_connections_closed_total", "slow", "server") != 1 {
			t.Error("it is not counted")
		}
	})
}

// TestSlow_AWriteThatTakesTooLong is a slow client too, though no close frame reaches it.
func TestSlow_AWriteThatTakesTooLong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.rawSocket(w.thinURL("xoxp-ana", "")) // does not even read hello
		time.Sleep(Default().WriteTimeout + time.Second)
		synctest.Wait()
		if w.edge.Sessions() != 0 || w.metric("flannel_slow_clients_total") != 1 || w.metric("flannel_connections_closed_total", "slow", "server") != 1 {
			t.Errorf("%d sessions are left, or it is not counted", w.edge.Sessions())
		}
	})
}

func TestSlow_EphemeralEventsThatGaveWayAreCounted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config, _ *world) { c.OutboxFrames = 10 })
		conn := w.rawSocket(w.thinURL("xoxp-ana", ""))
		synctest.Wait()
		for i := range 100 {
			w.hub.publish(&protocol.Event{Topic: "C1", Type: "user_typing", Class: protocol.ClassEphemeral, Payload: fmt.Appendf(nil, `{"n":%d}`, i)})
		}
		for i := range 10 {
			w.hub.publish(messageEvent(i))
		}
		if n := w.metric("flannel_events_dropped_total", "ephemeral"); n < 99 { // all but what the writer may have taken
			t.Errorf("%v of 100 are counted", n)
		}
		if w.metric("flannel_events_dropped_total", "message") != 0 || w.edge.Sessions() != 1 {
			t.Error("messages are dropped for typing")
		}
		conn.Close()
		synctest.Wait()
	})
}

// TestOutbox_ControlClosesRatherThanIsDropped: a full outbox ends the session with resync, for control frames too.
func TestOutbox_ControlClosesRatherThanIsDropped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config, _ *world) { c.OutboxFrames = 4 })
		conn := w.rawSocket(w.thinURL("xoxp-ana", ""))
		synctest.Wait()
		for i := range 10 {
			w.hub.publish(&protocol.Event{Topic: "T1", Type: "user_change", Class: protocol.ClassControl, Payload: fmt.Appendf(nil, `{"n":%d}`, i)})
		}
		for {
			op, body := readFrame(t, conn)
			if op == 8 {
				if code := int(body[0])<<8 | int(body[1]); code != int(protocol.CloseSlow) {
					t.Errorf("closed with %d", code)
				}
				break
			}
			if op == 0 {
				t.Fatal("no close frame")
			}
		}
		conn.Close()
		synctest.Wait()
	})
}

// TestSession_PongsAreSignsOfLifeAndPingsAreAnswered: control frames of the client.
func TestSession_PongsAreSignsOfLifeAndPingsAreAnswered(t *testing.T) {
	w := newWorld(t)
	conn := w.rawSocket(w.thinURL("xoxp-ana", ""))
	readFrame(t, conn)
	for _, frame := range [][]byte{clientFrame(0x8A, 0x82, "xy"), clientFrame(0x89, 0x82, "ab")} {
		if _, err := conn.Write(frame); err != nil {
			t.Fatal(err)
		}
	}
	if op, body := readFrame(t, conn); op != 10 || string(body) != "ab" {
		t.Errorf("got opcode %d with %q", op, body)
	}
}

// TestSession_AFloodOfPingsIsClosed: pings count as frames.
func TestSession_AFloodOfPingsIsClosed(t *testing.T) {
	w := newWorld(t)
	p := w.hello(w.thinURL("xoxp-ana", ""))
	go func() {
		for range 2 * Default().FrameBurst {
			if p.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(patience)) != nil {
				return
			}
		}
	}()
	if code, _ := p.closed(); code != int(protocol.CloseTooFast) {
		t.Errorf("closed with %d", code)
	}
}

// TestSession_TooManyMessagesAtOnce: more than may wait for the backend are refused, and none is lost without a word.
func TestSession_TooManyMessagesAtOnce(t *testing.T) {
	gate := make(chan struct{})
	w := newWorld(t, func(c *Config, w *world) {
		c.MessageBurst, c.SessionQueries = 8, 2
		w.writer.forward = func(context.Context, *protocol.Call) (*protocol.Reply, error) {
			<-gate
			return &protocol.Reply{Status: 200, Body: []byte(`{"ok":true,"ts":"1700000000.000100","message":{"text":"x"}}`)}, nil
		}
	})
	p := w.hello(w.ticketURL("xoxp-ana"))
	for i := range 12 {
		p.send(fmt.Sprintf(`{"id":%d,"type":"message","channel":"C1","text":"x"}`, i+1))
	}
	acks, nacks := 0, 0
	for i := range 12 {
		switch f := p.next(); {
		case strings.HasPrefix(f, `{"ok":true,`):
			acks++
		case strings.Contains(f, `{"code":-1,"msg":"`+protocol.TooFastText+`"`):
			if nacks++; nacks == 4 {
				close(gate)
			}
		default:
			t.Errorf("answer %d is %s", i, f)
		}
	}
	if acks != 8 || nacks != 4 {
		t.Errorf("%d acknowledged, %d refused", acks, nacks)
	}
}

// TestUpgrade_BadHandshakesUseNoTicketUp.
func TestUpgrade_BadHandshakesUseNoTicketUp(t *testing.T) {
	w := newWorld(t)
	ticket := w.ticketURL("xoxp-ana")
	path := strings.TrimPrefix(ticket, "ws://"+w.edge.Addr())
	for name, head := range map[string]string{
		"no version":  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
		"no key":      "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
		"old version": "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
		"no upgrade":  "Connection: keep-alive\r\n",
	} {
		conn, err := net.Dial("tcp", w.edge.Addr())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, head)
		answer := make([]byte, 12)
		if _, err := conn.Read(answer); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 4") {
			t.Errorf("%s gets %q, %v", name, answer, err)
		}
		conn.Close()
	}
	w.hello(ticket)
	again := w.dial(ticket)
	if f := again.next(); !strings.Contains(f, `"code":1,`) {
		t.Errorf("a used ticket gets %s", f)
	}
	if code, _ := again.closed(); code != int(protocol.CloseBadTicket) {
		t.Errorf("closed with %d", code)
	}
}
