package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flannel/protocol"
)

func TestSession_HelloThenBootThenEvents(t *testing.T) {
	w := newWorld(t, func(_ *Config, w *world) {
		w.hub.during = func(s *Session) error { // events that come while the session boots
			for i := range 50 {
				s.Deliver(messageEvent(i), new(atomic.Value))
			}
			return nil
		}
	})
	for range 20 { // The order must not hang on which goroutine runs first.
		p := w.dial(w.thinURL("xoxp-ana", "boot=1&lazy_channels=1"))

		var got []string
		for range 53 {
			got = append(got, p.next())
		}

		want := []string{`{"type":"hello"`, `{"type":"boot","ok":true,"self":{}}`, `{"type":"counts","ok":true,"channels":[]}`}
		for i := range 50 {
			want = append(want, fmt.Sprintf(`{"type":"message","text":"m%d"}`, i))
		}
		for i := range want {
			if !strings.HasPrefix(got[i], want[i]) {
				t.Fatalf("frame %d is %s, want %s", i, got[i], want[i])
			}
		}
	}
}

func TestSession_ABootLargerThanTheOutboxIsNoOverflow(t *testing.T) {
	w := newWorld(t, func(c *Config, w *world) {
		c.OutboxBytes = 4 << 10
		w.queries.boot = func(context.Context, protocol.Identity, bool) (userBoot, counts []byte, err error) {
			return []byte(`{"ok":true,"x":"` + strings.Repeat("b", 300<<10) + `"}`), []byte(`{"ok":true}`), nil
		}
		w.hub.during = func(s *Session) error {
			s.Deliver(messageEvent(1), new(atomic.Value))
			return nil
		}
	})
	p := w.dial(w.thinURL("xoxp-ana", "boot=1"))

	p.until(`{"type":"hello"`)
	if f := p.until(`{"type":"boot"`); len(f) < 300<<10 {
		t.Errorf("the boot has %d bytes", len(f))
	}
	p.until(`{"type":"counts"`)
	p.until(`"m1"`)
}

func TestSession_CompatibleModeHasNoBoot(t *testing.T) {
	w := newWorld(t)
	p := w.hello(w.ticketURL("xoxp-ana") + "?boot=1")
	eventually(t, "attached", func() bool { return w.hub.len() == 1 })

	w.hub.publish(messageEvent(1))

	if f := p.next(); f != `{"type":"message","text":"m1"}` {
		t.Errorf("the frame after hello is %s", f)
	}
}

func TestSession_ExcludedEventsStayAway(t *testing.T) {
	w := newWorld(t)
	p := w.hello(w.thinURL("xoxp-ana", "exclude_events=user_typing,reaction_added"))
	eventually(t, "attached", func() bool { return w.hub.len() == 1 })

	w.hub.publish(&protocol.Event{Topic: "C1", Type: "user_typing", Class: protocol.ClassEphemeral, Payload: []byte(`{"type":"user_typing"}`)})
	w.hub.publish(&protocol.Event{Topic: "C1", Type: "message", Class: protocol.ClassMessage}) // without payload: for the cache
	w.hub.publish(messageEvent(1))

	if f := p.next(); f != `{"type":"message","text":"m1"}` {
		t.Errorf("the frame is %s", f)
	}
}

func TestSession_ATicketIsForOneUse(t *testing.T) {
	w := newWorld(t)
	url := w.ticketURL("xoxp-ana")

	// A handshake that fails does not use it up.
	req, _ := http.NewRequest("GET", "http"+strings.TrimPrefix(url, "ws"), nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a handshake without a version gets %d", resp.StatusCode)
	}
	if _, resp, err := w.dialer().Dial(url, http.Header{"Origin": {"https://evil.example"}}); err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("a foreign page gets %v, %v", resp, err)
	}
	resp2, _, body := w.call("GET", strings.TrimPrefix(url, "ws://"+w.edge.Addr()), "", "")
	if resp2.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("a plain GET gets %d %s", resp2.StatusCode, body)
	}

	w.hello(url + "/?batch_presence_aware=1") // as slack-go does
	again := w.dial(url)
	if f := again.next(); f != `{"type":"error","error":{"code":1,"msg":"Socket URL has expired"}}` {
		t.Errorf("the second use gets %s", f)
	}
	if code, _ := again.closed(); code != int(protocol.CloseBadTicket) {
		t.Errorf("the second use is closed with %d", code)
	}
}

func TestSession_ATicketDoesNotOutliveItsToken(t *testing.T) {
	w := newWorld(t)
	url := w.ticketURL("xoxp-ana")
	w.queries.kill("xoxp-ana", protocol.CodeTokenRevoked)

	p := w.dial(url)

	if f := p.next(); !strings.Contains(f, "token_revoked") {
		t.Errorf("the first frame is %s", f)
	}
	if code, _ := p.closed(); code != int(protocol.CloseTokenRevoked) {
		t.Errorf("closed with %d", code)
	}
}

// A ticket given just before its token was revoked: the node has heard of the revocation, so no longer knows who the
// token is, and the backend is slow to say so. Such a session used to stand on the ticket alone, and since the
// revocation had come already nothing was left to end it.
func TestSession_ATicketIsNotEnoughWhenNobodyKnowsTheToken(t *testing.T) {
	w := newWorld(t)
	url := w.ticketURL("xoxp-ana")
	w.queries.kill("xoxp-ana", protocol.CodeUnavailable)

	p := w.dial(url)

	if f := p.next(); !strings.Contains(f, string(protocol.CodeUnavailable)) {
		t.Errorf("the first frame is %s", f)
	}
	if code, reason := p.closed(); code != int(protocol.CloseOverloaded) || reason.RetryMS == 0 {
		t.Errorf("closed with %d %+v", code, reason)
	}
}

func TestSession_RefusalsTellWhatToDo(t *testing.T) {
	for _, c := range []struct {
		code  protocol.Code
		close protocol.CloseCode
		retry bool
	}{
		{protocol.CodeInvalidAuth, protocol.CloseTokenRevoked, false},
		{protocol.CodeNotAuthed, protocol.CloseTokenRevoked, false},
		{protocol.CodeTokenRevoked, protocol.CloseTokenRevoked, false},
		{protocol.CodeTokenExpired, protocol.CloseTokenExpired, false},
		{protocol.CodeAccountInactive, protocol.CloseInactive, false},
		{protocol.CodeUnavailable, protocol.CloseOverloaded, true},
		{protocol.CodeInternal, protocol.CloseOverloaded, true},
	} {
		w := newWorld(t)
		w.queries.kill("xoxp-ana", c.code)
		p := w.dial(w.thinURL("xoxp-ana", ""))

		var f protocol.ErrorFrame
		if err := json.Unmarshal([]byte(p.next()), &f); err != nil || f.Error.Msg != string(c.code) || f.Error.RetryAfter > 0 != c.retry {
			t.Errorf("%s: the frame is %+v (%v)", c.code, f, err)
		}
		if code, reason := p.closed(); code != int(c.close) || reason.Reason != c.close.String() || reason.RetryMS > 0 != c.retry {
			t.Errorf("%s: closed with %d %+v", c.code, code, reason)
		}
		w.stop()
	}
}

func TestSession_FailuresOfTheDoors(t *testing.T) {
	for name, set := range map[string]option{
		"attach": func(_ *Config, w *world) { w.hub.during = func(*Session) error { return errTest } },
		"boot": func(_ *Config, w *world) {
			w.queries.boot = func(context.Context, protocol.Identity, bool) (userBoot, counts []byte, err error) {
				return nil, nil, errTest
			}
		},
		"panic": func(_ *Config, w *world) {
			w.queries.boot = func(context.Context, protocol.Identity, bool) (userBoot, counts []byte, err error) {
				panic("a fault of ours")
			}
		},
	} {
		w := newWorld(t, set)
		p := w.dial(w.thinURL("xoxp-ana", "boot=1"))

		code, reason := p.closed()

		if code < 4000 || code >= 4200 || reason.RetryMS == 0 {
			t.Errorf("%s: closed with %d %+v", name, code, reason)
		}
		if name == "panic" && w.metric("flannel_panics_total") != 1 {
			t.Errorf("the panic is not counted")
		}
		w.stop()
	}
}

func TestSession_QueriesArePipelinedAndBounded(t *testing.T) {
	everyWay(t, func(t *testing.T, way option) {
		const places = 4
		var running, most atomic.Int64
		gate := make(chan struct{})
		w := newWorld(t, way, func(c *Config, w *world) {
			c.SessionQueries = places
			w.queries.query = func(_ context.Context, _ protocol.Identity, path string, args json.RawMessage) (*protocol.Reply, error) {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				<-gate
				return &protocol.Reply{Status: 200, Body: []byte(`{"results":[],"ok":true}`)}, nil
			}
		})
		p := w.hello(w.thinURL("xoxp-ana", ""))

		const n = 40
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for i := range n {
				p.send(fmt.Sprintf(`{"id":%d,"type":"query","method":"users/info","args":{}}`, i))
			}
		}()
		eventually(t, "all places are taken", func() bool { return running.Load() == places })
		close(gate)

		seen := map[string]bool{}
		for range n {
			seen[p.next()] = true
		}
		<-sent
		for i := range n {
			if want := fmt.Sprintf(`{"reply_to":%d,"results":[],"ok":true}`, i); !seen[want] {
				t.Errorf("no answer %s", want)
			}
		}
		if most.Load() != places {
			t.Errorf("%d queries ran at once, want %d", most.Load(), places)
		}
	})
}

func TestSession_LargeAnswersAreNoOverflow(t *testing.T) {
	everyWay(t, func(t *testing.T, way option) {
		w := newWorld(t, way, func(c *Config, w *world) {
			c.OutboxBytes = 64 << 10
			w.queries.query = func(context.Context, protocol.Identity, string, json.RawMessage) (*protocol.Reply, error) {
				return &protocol.Reply{Status: 200, Body: []byte(`{"ok":true,"x":"` + strings.Repeat("a", 60<<10) + `"}`)}, nil
			}
		})
		p := w.hello(w.thinURL("xoxp-ana", ""))
		go func() {
			for i := range 100 {
				_ = p.conn.WriteMessage(1, fmt.Appendf(nil, `{"id":%d,"type":"query","method":"users/info"}`, i))
			}
		}()
		for range 100 {
			p.until(`"reply_to":`)
		}
	})
}

func TestSession_MessagesAreForwardedAndAcknowledged(t *testing.T) {
	var mu sync.Mutex
	var calls []*protocol.Call
	w := newWorld(t, func(_ *Config, w *world) {
		w.writer.forward = func(_ context.Context, call *protocol.Call) (*protocol.Reply, error) {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, call)
			var m protocol.MessageFrame
			if err := json.Unmarshal(call.Body, &m); err != nil {
				return nil, err
			}
			switch m.Text {
			case "down":
				return nil, &protocol.Error{Code: protocol.CodeUnavailable, Retry: 1500 * time.Millisecond}
			case "fast":
				return &protocol.Reply{Status: 429, RetryAfter: 3, Body: []byte(`{"ok":false,"error":"ratelimited"}`)}, nil
			case "elsewhere":
				return &protocol.Reply{Status: 200, Body: []byte(`{"ok":false,"error":"channel_not_found"}`)}, nil
			case "blank":
				return &protocol.Reply{Status: 200, Body: []byte(`{"ok":false,"error":"no_text"}`)}, nil
			case "garbage":
				return &protocol.Reply{Status: 200, Body: []byte(`<html>`)}, nil
			case "fault":
				return nil, errTest
			}
			return &protocol.Reply{Status: 200, Body: protocol.MustMarshal(map[string]any{"ok": true, "ts": "1700000000.000100", "message": map[string]string{"text": m.Text + "!"}})}, nil
		}
	})
	p := w.hello(w.ticketURL("xoxp-ana"))
	for _, c := range []struct{ frame, answer string }{
		{`{"id":1,"type":"message","channel":"C1","text":"a","client_msg_id":"u-1","thread_ts":"1.2","reply_broadcast":true}`, `{"ok":true,"reply_to":1,"ts":"1700000000.000100","text":"a!"}`},
		{`{"id":2,"type":"message","channel":"C1","text":"down"}`, `{"ok":false,"reply_to":2,"error":{"code":5,"msg":"service_unavailable","retry_after":2}}`},
		{`{"id":3,"type":"message","channel":"C1","text":"fast"}`, `{"ok":false,"reply_to":3,"error":{"code":-1,"msg":"slow down, too many messages...","retry_after":3}}`},
		{`{"id":4,"type":"message","channel":"C9","text":"elsewhere"}`, `{"ok":false,"reply_to":4,"error":{"code":5,"msg":"channel_not_found"}}`},
		{`{"id":5,"type":"message","channel":"C1","text":"blank"}`, `{"ok":false,"reply_to":5,"error":{"code":2,"msg":"message text is missing"}}`},
		{`{"id":6,"type":"message","channel":"C1","text":""}`, `{"ok":false,"reply_to":6,"error":{"code":2,"msg":"message text is missing"}}`},
		{`{"id":7,"type":"message","channel":"C1","text":"` + strings.Repeat("ä", 4001) + `"}`, `{"ok":false,"reply_to":7,"error":{"code":5,"msg":"msg_too_long"}}`},
		{`{"id":8,"type":"message","channel":7}`, `{"ok":false,"reply_to":8,"error":{"code":3,"msg":"a field has the wrong type"}}`},
		{`{"type":"message","channel":"C1","text":""}`, `{"type":"error","error":{"code":2,"msg":"message text is missing"}}`},
		{`{"id":9,"type":"message","channel":"C1","text":"garbage"}`, `{"ok":false,"reply_to":9,"error":{"code":5,"msg":"internal_error"}}`},
		{`{"id":10,"type":"message","channel":"C1","text":"fault"}`, `{"ok":false,"reply_to":10,"error":{"code":5,"msg":"internal_error"}}`},
		{`{"id":"x","type":"message","channel":"C1","blocks":[{"type":"section"}],"attachments":[1]}`, `{"ok":true,"reply_to":"x","ts":"1700000000.000100","text":"!"}`},
	} {
		p.send(c.frame)
		if f := p.next(); f != c.answer {
			t.Errorf("%s\n got %s\nwant %s", c.frame, f, c.answer)
		}
	}

	mu.Lock()
	defer mu.Unlock()
	first, last := calls[0], calls[len(calls)-1]
	if first.Method != "chat.postMessage" || first.Token != "xoxp-ana" || first.ContentType != "application/json" ||
		string(first.Body) != `{"channel":"C1","client_msg_id":"u-1","reply_broadcast":true,"text":"a","thread_ts":"1.2"}` {
		t.Errorf("the first call is %+v with %s", first, first.Body)
	}
	if string(last.Body) != `{"attachments":[1],"blocks":[{"type":"section"}],"channel":"C1","text":""}` {
		t.Errorf("the last call has %s", last.Body)
	}
}

func TestSession_MessagesKeepTheirOrder(t *testing.T) {
	var order []string
	w := newWorld(t, func(_ *Config, w *world) {
		w.writer.forward = func(_ context.Context, call *protocol.Call) (*protocol.Reply, error) {
			pause()
			order = append(order, string(call.Body)) // one at a time, or the race detector says so
			return &protocol.Reply{Status: 200, Body: []byte(`{"ok":true,"ts":"1700000000.000100","message":{"text":"x"}}`)}, nil
		}
	})
	p := w.hello(w.ticketURL("xoxp-ana"))
	for i := range 20 {
		p.send(fmt.Sprintf(`{"id":%d,"type":"message","channel":"C1","text":"%02d"}`, i+1, i))
	}
	for i := range 20 {
		if f := p.next(); !strings.Contains(f, fmt.Sprintf(`"reply_to":%d,`, i+1)) {
			t.Errorf("answer %d is %s", i, f)
		}
	}
	for i, body := range order {
		if want := fmt.Sprintf(`{"channel":"C1","text":"%02d"}`, i); body != want {
			t.Errorf("call %d is %s, want %s", i, body, want)
		}
	}
}

func TestSession_AMessageOnItsWayOutlivesTheSocket(t *testing.T) {
	began, end := make(chan struct{}), make(chan struct{})
	var failed atomic.Bool
	w := newWorld(t, func(_ *Config, w *world) {
		w.writer.forward = func(ctx context.Context, _ *protocol.Call) (*protocol.Reply, error) {
			close(began)
			<-end
			failed.Store(ctx.Err() != nil)
			return &protocol.Reply{Status: 200, Body: []byte(`{"ok":true}`)}, nil
		}
	})
	p := w.hello(w.ticketURL("xoxp-ana"))
	p.send(`{"id":1,"type":"message","channel":"C1","text":"a"}`)
	<-began
	p.conn.Close()
	eventually(t, "the session sees it", func() bool { return w.hub.len() == 0 })
	close(end)
	eventually(t, "the session is gone", func() bool { return w.edge.Sessions() == 0 })
	if failed.Load() {
		t.Error("the call was cancelled with the socket")
	}
}

func TestSession_RevokedSessionsAreClosed(t *testing.T) {
	w := newWorld(t)
	one, two, bo := w.hello(w.ticketURL("xoxp-ana")), w.hello(w.ticketURL("xoxp-ana")), w.hello(w.ticketURL("xoxp-bo"))

	w.edge.CloseUser("U1", "tk9", protocol.CloseTokenRevoked) // another of hers
	w.edge.CloseUser("U1", "tk1", protocol.CloseTokenRevoked)
	w.edge.CloseUser("U2", "", protocol.CloseInactive)

	for _, p := range []*peer{one, two} {
		if code, reason := p.closed(); code != int(protocol.CloseTokenRevoked) || reason.Reason != "token_revoked" {
			t.Errorf("closed with %d %+v", code, reason)
		}
	}
	if code, _ := bo.closed(); code != int(protocol.CloseInactive) {
		t.Errorf("closed with %d", code)
	}
	eventually(t, "gone", func() bool { return w.edge.Sessions() == 0 })
	if n := w.metric("flannel_connections_closed_total", "token_revoked", "server"); n != 2 {
		t.Errorf("%v closes are counted", n)
	}
}

func TestSession_ARevocationWhileASessionOpensIsSeen(t *testing.T) {
	w := newWorld(t)
	w.hub.during = func(s *Session) error { return errors.New("must not be attached") }
	identified := 0
	w.edge.doors.Queries = hooked{w.queries, func() {
		if identified++; identified == 1 { // just after the session knew who it is, and before it can be found
			w.queries.kill("xoxp-ana", protocol.CodeTokenRevoked)
		}
	}}
	p := w.dial(w.thinURL("xoxp-ana", ""))

	if code, _ := p.closed(); code != int(protocol.CloseTokenRevoked) {
		t.Errorf("closed with %d", code)
	}
}

type hooked struct {
	*fakeQueries
	after func()
}

func (h hooked) Identify(ctx context.Context, token string) (*protocol.Identity, error) {
	id, err := h.fakeQueries.Identify(ctx, token)
	h.after()
	return id, err
}

func TestSession_ThePeerClosesAtOnce(t *testing.T) {
	everyWay(t, func(t *testing.T, way option) {
		w := newWorld(t, way)
		p := w.hello(w.ticketURL("xoxp-ana"))
		began := time.Now()
		if err := p.conn.WriteControl(8, []byte{3, 232}, time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if code, _ := p.closed(); code != 1000 {
			t.Errorf("closed with %d", code)
		}
		eventually(t, "gone", func() bool { return w.edge.Sessions() == 0 })
		if took := time.Since(began); took > 250*time.Millisecond { // it lingers for 300 ms where it must
			t.Errorf("the close took %v", took)
		}
		if n := w.metric("flannel_connections_closed_total", "normal", "client"); n != 1 {
			t.Errorf("%v closes are counted", n)
		}
	})
}
