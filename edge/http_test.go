package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"flannel/protocol"
)

func TestHTTP_LandingAndPreflight(t *testing.T) {
	w := newWorld(t)
	if resp, _, body := w.call("GET", "/", "", ""); resp.StatusCode != 200 || !strings.HasPrefix(body, "flannel") || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("/ gets %d %q", resp.StatusCode, body)
	}
	for _, path := range []string{"/api/users.info", "/cache/T1/users/info"} {
		resp, _, body := w.call("OPTIONS", path, "", "", "Origin", "https://chat.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization")
		h := resp.Header
		if resp.StatusCode != 204 || body != "" || h.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "authorization") || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") {
			t.Errorf("a preflight of %s gets %d %v", path, resp.StatusCode, h)
		}
		resp, _, _ = w.call("POST", path, "application/json", `{"token":"xoxp-ana"}`, "Origin", "https://chat.example")
		if resp.Header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(resp.Header.Get("Access-Control-Expose-Headers"), "x-flannel-position") {
			t.Errorf("the call itself gets %v", resp.Header)
		}
	}
}

func TestHTTP_TheTokenComesEveryWay(t *testing.T) {
	w := newWorld(t)
	const form = "application/x-www-form-urlencoded"
	for name, c := range map[string]struct {
		method, path, contentType, body string
		header                          []string
	}{
		"query":     {"GET", "?token=xoxp-ana", "", "", nil},
		"form":      {"POST", "", form, "token=xoxp-ana", nil},
		"JSON":      {"POST", "", "application/json; charset=utf-8", `{"token":"xoxp-ana"}`, nil},
		"plain":     {"POST", "", "text/plain;charset=UTF-8", `{"token":"xoxp-ana"}`, nil},
		"header":    {"POST", "", "application/json", `{}`, []string{"Authorization", "Bearer xoxp-ana"}},
		"cookie":    {"GET", "", "", "", []string{"Cookie", "a=b; d=xoxp-ana"}},
		"multipart": {"POST", "", "multipart/form-data; boundary=X", "--X\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nxoxp-ana\r\n--X--\r\n", nil},
	} {
		if _, answer, raw := w.call(c.method, "/api/users.info"+c.path, c.contentType, c.body, c.header...); answer["from"] != "cache" {
			t.Errorf("%s gets %s", name, raw)
		}
		if c.contentType == form || strings.HasPrefix(c.contentType, "multipart") {
			continue
		}
		if _, answer, raw := w.call(c.method, "/cache/T1/users/info"+c.path, c.contentType, c.body, c.header...); answer["ok"] != true {
			t.Errorf("%s of a query gets %s", name, raw)
		}
	}
}

func TestHTTP_CallsAreForwardedVerbatim(t *testing.T) {
	var mu sync.Mutex
	var got *protocol.Call
	w := newWorld(t, func(_ *Config, w *world) {
		w.queries.answer = func(context.Context, protocol.Identity, string, protocol.Args, string) (*protocol.Reply, error) {
			return nil, ErrForward
		}
		w.writer.forward = func(_ context.Context, call *protocol.Call) (*protocol.Reply, error) {
			mu.Lock()
			defer mu.Unlock()
			got = call
			return &protocol.Reply{Status: 200, Body: []byte(`{"ok":true,"text":"<&>"}`), Position: 5}, nil
		}
	})
	w.queries.applied = 5
	multipart := "--X\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n1\r\n--X\r\nContent-Disposition: form-data; name=\"a\"; filename=\"f\"\r\nContent-Type: image/png\r\n\r\n\x00\x01\r\n--X--\r\n"
	for _, c := range []struct{ method, path, query, contentType, body string }{
		{"POST", "chat.postMessage", "b=%20x&a=+&a=1", "application/json", ` {"text": "<&>" }`},
		{"POST", "files.upload", "", "multipart/form-data; boundary=X", multipart},
		{"GET", "conversations.history", "channel=C1&&x", "", ""},
		{"POST", "no.such", "", "application/x-www-form-urlencoded", "z=1&a=%41"},
		{"POST", "conversations.info", "", "application/x-www-form-urlencoded", "include_num_members=1"}, // one the cache gives up
	} {
		path := "/api/" + c.path
		if c.query != "" {
			path += "?" + c.query
		}
		resp, _, raw := w.call(c.method, path, c.contentType, c.body, "Authorization", "Bearer xoxp-ana")

		if raw != `{"ok":true,"text":"<&>"}` || resp.Header.Get(protocol.HeaderPosition) != "5" {
			t.Errorf("%s gets %s %v", c.path, raw, resp.Header)
		}
		mu.Lock()
		if got.Method != c.path || got.Token != "xoxp-ana" || string(got.Query) != c.query || got.ContentType != c.contentType || string(got.Body) != c.body || got.Host != w.base() {
			t.Errorf("%s is forwarded as %+v\nquery %s\nbody %q", c.path, got, got.Query, got.Body)
		}
		mu.Unlock()
	}
}

func TestHTTP_StaleAnswersSaySo(t *testing.T) {
	w := newWorld(t, func(_ *Config, w *world) {
		w.queries.answer = func(_ context.Context, _ protocol.Identity, method string, _ protocol.Args, _ string) (*protocol.Reply, error) {
			if method == "team.info" {
				return nil, &protocol.Error{Code: protocol.CodeUnavailable, Retry: 1200 * time.Millisecond}
			}
			return &protocol.Reply{Status: 200, Body: []byte(`{"ok":true}`), Stale: true, Age: 0, Position: 9}, nil
		}
	})
	resp, _, _ := w.call("GET", "/api/users.info?token=xoxp-ana", "", "")
	if resp.Header.Get(protocol.HeaderStale) != "0" || resp.Header.Get(protocol.HeaderPosition) != "9" {
		t.Errorf("the headers are %v", resp.Header)
	}
	resp, answer, _ := w.call("GET", "/api/team.info?token=xoxp-ana", "", "")
	if resp.StatusCode != 200 || resp.Header.Get("Retry-After") != "2" || answer["error"] != "service_unavailable" {
		t.Errorf("without a backend: %d %v %v", resp.StatusCode, resp.Header, answer)
	}
}

// part is a stream that comes in small reads.
type part struct {
	io.Reader
	closed *atomic.Int64
}

func (p part) Read(b []byte) (int, error) { return p.Reader.Read(b[:min(len(b), 7)]) }

func (p part) Close() error {
	p.closed.Add(1)
	return nil
}

func TestHTTP_StartGetsAnAddressOfThisEdge(t *testing.T) {
	rest := `","self":{"id":"U1"},"users":[` + strings.Repeat(`{"id":"U1"},`, 10_000) + `{}]}`
	var closed atomic.Int64
	var reply atomic.Pointer[protocol.Reply]
	w := newWorld(t, func(_ *Config, w *world) {
		w.writer.forward = func(_ context.Context, call *protocol.Call) (*protocol.Reply, error) {
			if call.Method != "rtm.start" {
				t.Errorf("forwarded %s", call.Method)
			}
			return reply.Load(), nil
		}
	})
	whole := `{"ok":true,"url":"ws://backend/websocket/abc` + rest
	for name, r := range map[string]func() *protocol.Reply{
		"body": func() *protocol.Reply { return &protocol.Reply{Status: 200, Body: []byte(whole)} },
		"stream": func() *protocol.Reply {
			return &protocol.Reply{Status: 200, Stream: part{strings.NewReader(whole), &closed}}
		},
	} {
		reply.Store(r())
		_, answer, raw := w.call("POST", "/api/rtm.start", "application/json", `{"token":"xoxp-ana","batch_presence_aware":true}`)
		url, _ := answer["url"].(string)
		if !strings.HasPrefix(url, "ws://"+w.edge.Addr()+"/websocket/") || !strings.HasSuffix(raw, rest) {
			t.Fatalf("%s: the answer begins with %.100s", name, raw)
		}
		p := w.hello(url)
		p.send(`{"type":"presence_sub","ids":["U7"]}`)
		if f := p.next(); !strings.Contains(f, `"users":["U7"]`) {
			t.Errorf("the arguments of the call are lost: %s", f)
		}
	}
	if closed.Load() != 1 {
		t.Errorf("the stream was closed %d times", closed.Load())
	}
	for name, body := range map[string]string{"error": `{"ok":false,"error":"ratelimited"}`, "other order": `{"url":"x","ok":true}`, "cut": `{"ok":true,"url":"ws`, "empty": ``} {
		reply.Store(&protocol.Reply{Status: 200, Body: []byte(body)})
		if _, _, raw := w.call("POST", "/api/rtm.start", "application/json", `{"token":"xoxp-ana"}`); raw != body {
			t.Errorf("%s becomes %s", name, raw)
		}
	}
	reply.Store(&protocol.Reply{Status: 429, RetryAfter: 7, Body: []byte(`{"ok":false,"error":"ratelimited"}`)})
	if resp, _, _ := w.call("POST", "/api/rtm.start", "application/json", `{"token":"xoxp-ana"}`); resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "7" {
		t.Errorf("a refusal becomes %d %v", resp.StatusCode, resp.Header)
	}
}

func TestHTTP_ThinAddress(t *testing.T) {
	w := newWorld(t)
	_, answer, _ := w.call("POST", "/api/client.getWebSocketURL", "application/json", `{"token":"xoxp-ana"}`, "X-Forwarded-Proto", "https")
	if want := "wss://" + w.edge.Addr() + "/?token=xoxp-ana&flannel=3&lazy_channels=1&batch_presence_aware=1&no_query_on_subscribe=1"; answer["url"] != want {
		t.Errorf("the address is %v, want %s", answer["url"], want)
	}
}

func TestHTTP_AFaultEndsTheCallOnly(t *testing.T) {
	w := newWorld(t, func(_ *Config, w *world) {
		w.queries.answer = func(context.Context, protocol.Identity, string, protocol.Args, string) (*protocol.Reply, error) {
			panic("a fault of ours")
		}
		w.writer.forward = func(context.Context, *protocol.Call) (*protocol.Reply, error) { return nil, errTest }
	})
	for _, path := range []string{"/api/users.info?token=xoxp-ana", "/api/chat.postMessage"} {
		if resp, answer, raw := w.call("GET", path, "", ""); resp.StatusCode != 200 || answer["error"] != "internal_error" || strings.Contains(raw, "fault") {
			t.Errorf("%s gets %d %s", path, resp.StatusCode, raw)
		}
	}
	if w.metric("flannel_panics_total") != 1 {
		t.Error("the panic is not counted")
	}
	if resp, _, _ := w.call("GET", "/", "", ""); resp.StatusCode != 200 {
		t.Errorf("after it / gets %d", resp.StatusCode)
	}
}

func TestHTTP_CallsAreBounded(t *testing.T) {
	entered, gate := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(c *Config, w *world) {
		c.MaxCalls = 1
		w.writer.forward = func(context.Context, *protocol.Call) (*protocol.Reply, error) {
			entered <- struct{}{}
			<-gate
			return &protocol.Reply{Status: 200, Body: []byte(`{"ok":true}`)}, nil
		}
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.call("POST", "/api/chat.postMessage", "", "")
	}()
	<-entered

	resp, answer, _ := w.call("POST", "/api/chat.postMessage", "", "")

	if answer["error"] != "service_unavailable" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the second call gets %v %v", answer, resp.Header)
	}
	close(gate)
	<-done
}

func TestHTTP_StopLetsCallsFinish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(_ *Config, w *world) {
			w.writer.forward = func(ctx context.Context, _ *protocol.Call) (*protocol.Reply, error) {
				timer := time.NewTimer(3 * time.Second)
				defer timer.Stop()
				select {
				case <-timer.C:
					return &protocol.Reply{Status: 200, Body: []byte(`{"ok":true}`)}, nil
				case <-ctx.Done():
					return nil, &protocol.Error{Code: protocol.CodeUnavailable}
				}
			}
		})
		answered := make(chan any, 1)
		go func() {
			_, answer, _ := w.call("POST", "/api/chat.postMessage", "", "")
			answered <- answer["ok"]
		}()
		synctest.Wait()
		began := time.Now()

		w.stop()

		if ok := <-answered; ok != true {
			t.Errorf("the call under way gets ok %v", ok)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("the stop took %v", took)
		}
		if _, err := w.client.Get(w.base()); err == nil {
			t.Error("the edge still answers")
		}
	})
}

func TestHTTP_QueriesTellThePathAsItCame(t *testing.T) {
	var path atomic.Value
	w := newWorld(t, func(_ *Config, w *world) {
		w.queries.query = func(_ context.Context, _ protocol.Identity, p string, args json.RawMessage) (*protocol.Reply, error) {
			path.Store(p + " " + string(args))
			return &protocol.Reply{Status: 200, Body: []byte(`{"results":[],"ok":true}`)}, nil
		}
	})
	for in, want := range map[string]string{"T1/users/info": "T1/users/info", "E1/T2/emojis/info/": "E1/T2/emojis/info"} {
		if _, _, raw := w.call("POST", "/cache/"+in, "text/plain;charset=UTF-8", `{"token":"xoxp-ana","count":3}`); raw != `{"results":[],"ok":true}` {
			t.Errorf("%s gets %s", in, raw)
		}
		if path.Load() != want+` {"token":"xoxp-ana","count":3}` {
			t.Errorf("%s is asked as %s", in, path.Load())
		}
	}
}

func TestHTTP_KeepAliveAndPipelining(t *testing.T) {
	w := newWorld(t)
	conn := w.rawConn()
	one := "POST /api/users.info HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"token\":\"xoxp-ana\"}"
	conn.Write([]byte(strings.Repeat(one, 5) + "GET /api/users.info?token=xoxp-ana HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
	all, err := io.ReadAll(conn)
	if err != nil || bytes.Count(all, []byte(`"from":"cache"`)) != 6 {
		t.Errorf("%v, got %s", err, all)
	}
}
