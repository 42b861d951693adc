package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"flannel/protocol"
)

// heard is what a backend has seen of a forwarded call.
type heard struct {
	path, query, body, contentType, token, key string
}

func hear(r *http.Request) heard {
	body, _ := io.ReadAll(r.Body)
	return heard{r.URL.Path, r.URL.RawQuery, string(body), r.Header.Get("Content-Type"), r.Header.Get(protocol.HeaderToken), r.Header.Get(protocol.HeaderIdempotencyKey)}
}

// recorder answers with ok and remembers.
type recorder struct {
	mu    sync.Mutex
	heard []heard
}

func (rec *recorder) forward(w http.ResponseWriter, r *http.Request) {
	h := hear(r)
	rec.mu.Lock()
	rec.heard = append(rec.heard, h)
	rec.mu.Unlock()
	w.Header().Set(protocol.HeaderPosition, "77")
	_, _ = io.WriteString(w, `{"ok":true}`)
}

func TestForward_IsVerbatim(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, rec := newFake(t), &recorder{}
		f.forward = rec.forward
		u := f.open(nil)
		body := []byte("text=a%20b&&x=\x00\xff")
		calls := []protocol.Call{
			{Method: "chat.update", Token: "xoxp-1", ContentType: "application/x-www-form-urlencoded; charset=ISO-8859-1", Query: []byte("a=%2f&a=../%41;b"), Body: body, IdempotencyKey: "mine"},
			{Method: "users.profile.get", Query: []byte("x=a b#c")},
		}
		for i := range calls {
			reply, err := u.Forward(t.Context(), &calls[i])
			if err != nil {
				t.Fatal(err)
			}
			if reply.Status != 200 || string(reply.Body) != `{"ok":true}` || reply.Stream != nil || reply.Position != 77 {
				t.Errorf("%+v", reply)
			}
		}
		want := []heard{
			{"/upstream/v1/forward/chat.update", "a=%2f&a=../%41;b", string(body), "application/x-www-form-urlencoded; charset=ISO-8859-1", "xoxp-1", "mine"},
			{"/upstream/v1/forward/users.profile.get", "x=a%20b%23c", "", "", "", ""},
		}
		if fmt.Sprint(rec.heard) != fmt.Sprint(want) {
			t.Errorf("heard %q\n want %q", rec.heard, want)
		}
	})
}

func TestForward_WritesGetAnIdempotencyKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, rec := newFake(t), &recorder{}
		f.forward = rec.forward
		u := f.open(nil)
		for _, method := range []string{"chat.postMessage", "conversations.create", "conversations.history", "chat.postMessage"} {
			call := &protocol.Call{Method: method}
			if _, err := u.Forward(t.Context(), call); err != nil {
				t.Fatal(err)
			}
			if call.IdempotencyKey != "" {
				t.Error("the caller's call was changed")
			}
		}
		h := rec.heard
		if h[0].key == "" || h[1].key == "" || h[2].key != "" || h[0].key == h[3].key {
			t.Errorf("keys %q", h)
		}
	})
}

func TestForward_IsSentAgainOnlyWhenThatIsSafe(t *testing.T) {
	tests := []struct {
		method string
		fail   string // how the first attempts fail
		tries  int
		ok     bool
	}{
		{"conversations.create", "hang up", 1, false},
		{"conversations.create", "503", 1, false},
		{"conversations.create", "refuse", 1, true}, // Only the last attempt arrives.
		{"some.newMethod", "hang up", 1, false},
		{"chat.postMessage", "hang up", 3, true},
		{"chat.postMessage", "503", 3, true},
		{"conversations.history", "hang up", 3, true},
		{"conversations.history", "503", 3, true},
		{"rtm.start", "refuse", 1, true},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.fail, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f, rec := newFake(t), &recorder{}
				var keys []string
				f.forward = func(w http.ResponseWriter, r *http.Request) {
					keys = append(keys, r.Header.Get(protocol.HeaderIdempotencyKey))
					switch {
					case len(keys) > 2 || tt.fail == "refuse":
						rec.forward(w, r)
					case tt.fail == "503":
						w.WriteHeader(503)
					default:
						_, _ = io.ReadAll(r.Body)
						panic(http.ErrAbortHandler)
					}
				}
				u := f.open(nil)
				if tt.fail == "refuse" {
					f.net.Refuse(true)
					time.AfterFunc(60*time.Millisecond, func() { f.net.Refuse(false) })
				}

				_, err := u.Forward(t.Context(), &protocol.Call{Method: tt.method, Body: []byte("{}")})

				if (err == nil) != tt.ok {
					t.Errorf("error %v", err)
				}
				if e := protocol.AsError(err); err != nil && (e.Code != protocol.CodeUnavailable || e.Retry < defaultRetry) {
					t.Errorf("the client is told %v, retry %v", e, e.Retry)
				}
				if len(keys) != tt.tries {
					t.Errorf("%d attempts, want %d", len(keys), tt.tries)
				}
				for _, key := range keys {
					if key != keys[0] {
						t.Error("the attempts have different keys")
					}
				}
			})
		})
	}
}

func TestForward_AnswersOfTheBackend(t *testing.T) {
	tests := []struct {
		name    string
		forward func(w http.ResponseWriter)
		reply   protocol.Reply
		code    protocol.Code
	}{
		{"an error of the dialect", func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"ok":false,"error":"x"}`) }, protocol.Reply{Status: 200, Body: []byte(`{"ok":false,"error":"x"}`)}, ""},
		{"rate limited", func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "12")
			w.WriteHeader(429)
			_, _ = io.WriteString(w, `{"ok":false,"error":"ratelimited"}`)
		}, protocol.Reply{Status: 429, RetryAfter: 12, Body: []byte(`{"ok":false,"error":"ratelimited"}`)}, ""},
		{"nothing", func(w http.ResponseWriter) { w.Header().Set(protocol.HeaderPosition, "x") }, protocol.Reply{Status: 200}, ""},
		{"wrong key", func(w http.ResponseWriter) { w.WriteHeader(401) }, protocol.Reply{}, protocol.CodeUnavailable},
		{"unknown method", func(w http.ResponseWriter) {
			w.WriteHeader(404)
			_, _ = io.WriteString(w, `{"error":"unknown_method"}`)
		}, protocol.Reply{}, protocol.CodeUnknownMethod},
		{"a huge page", func(w http.ResponseWriter) {
			w.WriteHeader(502)
			_, _ = w.Write(make([]byte, 1<<20))
		}, protocol.Reply{}, protocol.CodeUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t)
				f.forward = func(w http.ResponseWriter, _ *http.Request) { tt.forward(w) }
				u := f.open(nil)
				reply, err := u.Forward(t.Context(), &protocol.Call{Method: "conversations.create"})
				if tt.code != "" {
					if protocol.AsError(err).Code != tt.code {
						t.Error(err)
					}
					return
				}
				if err != nil || reply.Status != tt.reply.Status || reply.RetryAfter != tt.reply.RetryAfter || !bytes.Equal(reply.Body, tt.reply.Body) || reply.Stream != nil || reply.Position != 0 {
					t.Errorf("%+v, %v", reply, err)
				}
			})
		})
	}
}

func TestForward_MethodsThatAreNone(t *testing.T) {
	u := newFake(t).open(nil)
	for _, method := range []string{"", "../identify", "a/b", "a?b", "a b", ".x", strings.Repeat("x", 101), "a\r\nb", "é"} {
		if _, err := u.Forward(t.Context(), &protocol.Call{Method: method}); protocol.AsError(err).Code != protocol.CodeUnknownMethod {
			t.Errorf("%q: %v", method, err)
		}
	}
}

func TestForward_EndsWithItsContextAndTheCallersBytesAreFree(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, rec := newFake(t), &recorder{}
		release := make(chan struct{})
		f.forward = func(w http.ResponseWriter, r *http.Request) {
			<-release
			rec.forward(w, r)
		}
		u := f.open(nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		body := []byte("original")
		_, err := u.Forward(ctx, &protocol.Call{Method: "conversations.create", Body: body})
		copy(body, "changed!")
		if !errors.Is(err, context.DeadlineExceeded) || protocol.AsError(err).Code != protocol.CodeUnavailable {
			t.Error(err)
		}
		close(release)
		settle(time.Second)
		if len(rec.heard) != 1 || rec.heard[0].body != "original" {
			t.Errorf("heard %q", rec.heard)
		}
	})
}

func TestForward_AnAnswerThatNobodyWaitsForIsClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		f.forward = func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(5 * time.Second)
			for {
				if _, err := w.Write(big); err != nil {
					return
				}
			}
		}
		u := f.open(nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := u.Forward(ctx, &protocol.Call{Method: "rtm.start"}); err == nil {
			t.Error("no error")
		}
		settle(10 * time.Second)
		if f.net.Open() != 0 {
			t.Error("its connection is still open")
		}
	})
}

func TestForward_SilenceIsATimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		release := make(chan struct{})
		f.forward = func(http.ResponseWriter, *http.Request) { <-release }
		u := f.open(func(c *Config) { c.ForwardTimeout = 2 * time.Second })
		_, err := u.Forward(t.Context(), &protocol.Call{Method: "conversations.create"})
		var fail *failure
		if !errors.As(err, &fail) || fail.code != codeTimeout {
			t.Error(err)
		}
		close(release)
	})
}

// big is a chunk of a large answer.
var big = bytes.Repeat([]byte("0123456789abcdef"), 1<<12) // 64 KiB

func TestForward_LargeAnswersAreStreamedWithoutBufferingThem(t *testing.T) {
	const chunks = 2000 // 125 MiB
	f := &fake{calls: make(map[string]int), t: t}
	f.forward = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "length" {
			w.Header().Set("Content-Length", strconv.Itoa(chunks*len(big)))
		}
		for range chunks {
			if _, err := w.Write(big); err != nil {
				return
			}
		}
	}
	srv := httptest.NewServer(f)
	defer srv.Close()
	cfg := Default()
	cfg.URL, cfg.Key, cfg.IdleTimeout = srv.URL, fakeKey, 50*time.Millisecond
	u, err := New(cfg, Options{Log: testLog(t), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for _, query := range []string{"length", "chunked"} {
		reply, err := u.Forward(t.Context(), &protocol.Call{Method: "rtm.start", Query: []byte(query)})
		if err != nil || reply.Stream == nil {
			t.Fatalf("%s: %+v, %v", query, reply, err)
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		n, err := io.Copy(io.Discard, reply.Stream)
		runtime.ReadMemStats(&after)
		if err != nil || n != chunks*int64(len(big)) {
			t.Errorf("%s: read %d bytes, %v", query, n, err)
		}
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
			t.Errorf("%s: the heap grew by %d bytes", query, grown)
		}
		_ = reply.Stream.Close()
		_ = reply.Stream.Close()
	}
	if got := u.wire.bulk.ConnsCount(); got > 1 {
		t.Errorf("%d connections: they are not used again", got)
	}
}

func TestForward_StreamIsNotCutByTheTimeoutAndEndsWithClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		f.forward = func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(big); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}
		u := f.open(func(c *Config) { c.ForwardTimeout = 8 * time.Second })
		ctx, cancel := context.WithCancel(t.Context())
		reply, err := u.Forward(ctx, &protocol.Call{Method: "rtm.start"})
		cancel() // The stream outlives the call.
		if err != nil || reply.Stream == nil {
			t.Fatalf("%+v, %v", reply, err)
		}
		if n, err := io.CopyN(io.Discard, reply.Stream, 50*int64(len(big))); err != nil {
			t.Errorf("after %d bytes: %v", n, err)
		}
		if err := reply.Stream.Close(); err != nil {
			t.Error(err)
		}
		if _, err := reply.Stream.Read(make([]byte, 1)); err == nil {
			t.Error("read after close")
		}
		settle(2 * time.Second)
		if f.net.Open() != 0 {
			t.Error("the connection of an unfinished answer is still open")
		}
	})
}

func TestForward_ACutOffAnswerIsNotItsEnd(t *testing.T) {
	head := "HTTP/1.1 200 OK\r\n"
	for name, answer := range map[string]string{
		"short of its length":    head + "Content-Length: 600000\r\n\r\n" + strings.Repeat("x", 400_000),
		"between chunks":         head + "Transfer-Encoding: chunked\r\n\r\n61a80\r\n" + strings.Repeat("x", 400_000) + "\r\n",
		"within a chunk":         head + "Transfer-Encoding: chunked\r\n\r\n100000\r\n" + strings.Repeat("x", 400_000),
		"within a chunk's size":  head + "Transfer-Encoding: chunked\r\n\r\n61a80\r\n" + strings.Repeat("x", 400_000) + "\r\n6",
		"small, short":           head + "Content-Length: 600\r\n\r\nxxx",
		"small, between chunks":  head + "Transfer-Encoding: chunked\r\n\r\n3\r\nxxx\r\n",
		"small, header only":     head + "Content-Len",
		"chunked and empty":      head + "Transfer-Encoding: chunked\r\n\r\n",
		"small, at the last one": head + "Transfer-Encoding: chunked\r\n\r\n3\r\nxxx\r\n0",
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			defer wg.Wait()
			defer l.Close()
			wg.Go(func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = c.Read(make([]byte, 10_000))
					_, _ = io.WriteString(c, answer)
					_ = c.Close()
				}
			})
			cfg := Default()
			cfg.URL, cfg.Key, cfg.IdleTimeout = "http://"+l.Addr().String(), fakeKey, 50*time.Millisecond
			u, err := New(cfg, Options{Log: testLog(t), Registerer: prometheus.NewRegistry()})
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()

			reply, err := u.Forward(t.Context(), &protocol.Call{Method: "conversations.create"})

			if strings.Contains(answer, strings.Repeat("x", 1000)) {
				if err != nil {
					t.Fatal(err)
				}
				defer reply.Stream.Close()
				if n, err := io.Copy(io.Discard, reply.Stream); err == nil {
					t.Errorf("%d bytes were taken for all of it", n)
				}
				return
			}
			if err == nil {
				t.Errorf("taken for whole: %q", reply.Body)
			}
			if got := testutil.ToFloat64(u.metrics.calls[protocol.CallForward].requests[codeBroken]); got != 1 {
				t.Errorf("%v broken answers counted", got)
			}
		})
	}
}

func TestForward_CloseEndsStreams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		f.forward = func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(big); err != nil {
					return
				}
			}
		}
		u := f.open(nil)
		reply, err := u.Forward(t.Context(), &protocol.Call{Method: "rtm.start"})
		if err != nil {
			t.Fatal(err)
		}
		u.Close()
		if _, err := io.Copy(io.Discard, reply.Stream); err == nil {
			t.Error("the stream went on")
		}
		_ = reply.Stream.Close()
		if _, err := u.Forward(t.Context(), &protocol.Call{Method: "rtm.start"}); protocol.AsError(err).Code != protocol.CodeUnavailable {
			t.Error(err)
		}
		synctest.Wait()
	})
}

func TestForward_OverTLS(t *testing.T) {
	f := &fake{calls: make(map[string]int), t: t}
	rec := &recorder{}
	f.forward = rec.forward
	srv := httptest.NewTLSServer(f)
	defer srv.Close()
	cfg := Default()
	cfg.URL, cfg.Key, cfg.IdleTimeout = srv.URL, fakeKey, 50*time.Millisecond
	good, err := New(cfg, Options{Log: testLog(t), Registerer: prometheus.NewRegistry(), TLS: srv.Client().Transport.(*http.Transport).TLSClientConfig})
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close()
	if reply, err := good.Forward(t.Context(), &protocol.Call{Method: "api.test"}); err != nil || reply.Position != 77 {
		t.Errorf("%+v, %v", reply, err)
	}
	bad, err := New(cfg, Options{Log: testLog(t), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	var fail *failure
	if _, err := bad.Forward(t.Context(), &protocol.Call{Method: "api.test"}); !errors.As(err, &fail) || fail.code != codeRefused {
		t.Errorf("a certificate of nobody: %v", err)
	}
}
