package suite_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
)

// socket is a bare websocket, for what no client library shows.
type socket struct {
	t    *testing.T
	conn *websocket.Conn
}

// dial opens a socket at an address that rtm.connect or client.getWebSocketURL gave.
func dial(t *testing.T, address string, header http.Header) *socket {
	t.Helper()
	conn, resp, err := websocket.DefaultDialer.DialContext(t.Context(), address, header)
	if err != nil {
		t.Fatalf("dial %s: %v (%v)", address, err, resp)
	}
	t.Cleanup(func() { conn.Close() })
	return &socket{t: t, conn: conn}
}

// rtmURL asks for a socket address.
func rtmURL(t *testing.T, base string, a account, args url.Values) string {
	t.Helper()
	_, _, answer := call(t, base, "rtm.connect", a.token, args)
	address, ok := answer["url"].(string)
	if !ok {
		t.Fatalf("rtm.connect gives %v", answer)
	}
	return address
}

func (s *socket) send(frame any) {
	s.t.Helper()
	body, err := json.Marshal(frame)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.conn.WriteMessage(websocket.TextMessage, body); err != nil {
		s.t.Fatal(err)
	}
}

// next returns the next frame as it came.
func (s *socket) next() []byte {
	s.t.Helper()
	s.conn.SetReadDeadline(time.Now().Add(patience))
	kind, body, err := s.conn.ReadMessage()
	if err != nil {
		s.t.Fatal(err)
	}
	if kind != websocket.TextMessage {
		s.t.Fatalf("a frame of kind %d", kind)
	}
	return body
}

// until returns the first frame for which the claim holds.
func (s *socket) until(what string, claim func(map[string]any) bool) map[string]any {
	s.t.Helper()
	for {
		var frame map[string]any
		if err := json.Unmarshal(s.next(), &frame); err != nil {
			s.t.Fatal(err)
		}
		if claim(frame) {
			return frame
		}
		if frame["type"] == "goodbye" {
			s.t.Fatalf("goodbye before %s", what)
		}
	}
}

func ofType(name string) func(map[string]any) bool {
	return func(f map[string]any) bool { return f["type"] == name }
}

// closed reads until the socket is closed and returns the code.
func (s *socket) closed() int {
	s.t.Helper()
	s.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		if _, _, err := s.conn.ReadMessage(); err != nil {
			if ce, ok := err.(*websocket.CloseError); ok { //nolint:errorlint // ReadMessage returns it bare.
				return ce.Code
			}
			s.t.Fatalf("closed without a code: %v", err)
		}
	}
}

// bothWays runs a test at the edge and straight at the backend.
func bothWays(t *testing.T, w *world, run func(t *testing.T, base string)) {
	t.Helper()
	t.Run("edge", func(t *testing.T) { run(t, w.edgeURL()) })
	t.Run("backend", func(t *testing.T) { run(t, w.backendURL()) })
}

// TestInsistence has one test per line of what real clients insist on (section 6 of the dialect).
func TestInsistence(t *testing.T) {
	w := newWorld(t, 12)

	t.Run("1: the ticket stands in the path", func(t *testing.T) {
		bothWays(t, w, func(t *testing.T, base string) {
			u, err := url.Parse(rtmURL(t, base, w.member(0), nil))
			if err != nil {
				t.Fatal(err)
			}
			u.RawQuery = "batch_presence_aware=1" // what slack-go does
			s := dial(t, u.String(), nil)
			s.until("hello", ofType("hello"))
			if _, _, err := websocket.DefaultDialer.DialContext(t.Context(), u.String(), nil); err == nil {
				again := dial(t, u.String(), nil)
				f := again.until("an error", ofType("error"))
				if e, _ := f["error"].(map[string]any); e["code"] != 1.0 || e["msg"] != "Socket URL has expired" {
					t.Errorf("the second use of a ticket gets %v", f)
				}
			}
		})
	})
	t.Run("2: no newline at the end of a frame", func(t *testing.T) {
		bothWays(t, w, func(t *testing.T, base string) {
			s := dial(t, rtmURL(t, base, w.member(0), nil), nil)
			s.send(map[string]any{"type": "ping", "id": 1})
			for range 2 {
				if f := s.next(); f[len(f)-1] != '}' {
					t.Errorf("a frame ends in %q", f[len(f)-1])
				}
			}
		})
	})
	t.Run("3: pong echoes all fields, id or not", func(t *testing.T) {
		bothWays(t, w, func(t *testing.T, base string) {
			s := dial(t, rtmURL(t, base, w.member(0), nil), nil)
			s.send(map[string]any{"type": "ping", "id": 7, "timestamp": 1234567890123, "note": "a"})
			if f := s.until("pong", ofType("pong")); f["reply_to"] != 7.0 || f["timestamp"] != 1234567890123.0 || f["note"] != "a" {
				t.Errorf("pong is %v", f)
			}
			s.send(map[string]any{"type": "ping"})
			if f := s.until("pong", ofType("pong")); f["reply_to"] != nil {
				t.Errorf("pong is %v", f)
			}
		})
	})
	t.Run("5: origins", func(t *testing.T) {
		bothWays(t, w, func(t *testing.T, base string) {
			for _, origin := range []string{"", "https://api.slack.com", "https://app.slack.com", "http://wss-primary.slack.com"} {
				header := http.Header{}
				if origin != "" {
					header.Set("Origin", origin)
				}
				dial(t, rtmURL(t, base, w.member(0), nil), header).until("hello", ofType("hello"))
			}
			_, resp, err := websocket.DefaultDialer.DialContext(t.Context(), rtmURL(t, base, w.member(0), nil), http.Header{"Origin": {"https://evil.example"}})
			if err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
				t.Errorf("a foreign page may connect: %v, %v", resp, err)
			}
		})
	})
	t.Run("6 and 7: tokens and arguments come every way", func(t *testing.T) {
		bothWays(t, w, func(t *testing.T, base string) {
			a, user := w.member(0), string(w.member(1).id)
			form := url.Values{"token": {a.token}, "user": {user}}.Encode()
			for name, req := range map[string]func() (*http.Request, error){
				"get":  func() (*http.Request, error) { return http.NewRequest("GET", base+"/api/users.info?"+form, nil) },
				"form": func() (*http.Request, error) { return post(base, "application/x-www-form-urlencoded", form) },
				"json": func() (*http.Request, error) {
					return post(base, "application/json", `{"token":"`+a.token+`","user":"`+user+`"}`)
				},
				"plain": func() (*http.Request, error) {
					return post(base, "text/plain;charset=UTF-8", `{"token":"`+a.token+`","user":"`+user+`"}`)
				},
				"header": func() (*http.Request, error) {
					return bearer(post(base, "application/json; charset=utf-8", `{"user":"`+user+`"}`))(a.token)
				},
				"cookie": func() (*http.Request, error) {
					r, err := http.NewRequest("GET", base+"/api/users.info?user="+user, nil)
					r.AddCookie(&http.Cookie{Name: "d", Value: url.QueryEscape(a.token)})
					return r, err
				},
				"multipart": func() (*http.Request, error) {
					body := "--X\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n" + a.token + "\r\n--X\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\n" + user + "\r\n--X--\r\n"
					return post(base, "multipart/form-data; boundary=X", body)
				},
			} {
				r, err := req()
				if err != nil {
					t.Fatal(err)
				}
				if _, _, answer := do(t, r); answer["ok"] != true {
					t.Errorf("%s gets %v", name, answer)
				}
			}
		})
	})
	t.Run("9: batch forms", func(t *testing.T) {
		bothWays(t, w, func(t *testing.T, base string) {
			_, _, answer := call(t, base, "users.info", w.member(0).token, url.Values{"users": {string(w.member(0).id) + "," + string(w.member(1).id)}})
			if list, _ := answer["users"].([]any); len(list) != 2 {
				t.Errorf("users.info of two gets %v", answer)
			}
			_, _, self := call(t, base, "auth.test", w.bot().token, nil)
			_, _, answer = call(t, base, "bots.info", w.member(0).token, url.Values{"bots": {self["bot_id"].(string)}})
			if list, _ := answer["bots"].([]any); len(list) != 1 {
				t.Errorf("bots.info of one gets %v", answer)
			}
		})
	})
	t.Run("10: channels and users are complete", func(t *testing.T) {
		bothWays(t, w, func(t *testing.T, base string) {
			for method, list := range map[string]string{"conversations.list": "channels", "users.conversations": "channels", "client.userBoot": "channels"} {
				_, _, answer := call(t, base, method, w.member(0).token, nil)
				channels, _ := answer[list].([]any)
				if len(channels) == 0 {
					t.Fatalf("%s gets %v", method, answer)
				}
				for _, c := range channels {
					for _, field := range []string{"topic", "purpose", "name_normalized", "is_channel", "is_group", "is_im", "is_mpim", "is_private", "is_archived", "is_general"} {
						if _, ok := c.(map[string]any)[field]; !ok {
							t.Errorf("%s: no %s in %v", method, field, c)
						}
					}
				}
			}
			_, _, answer := call(t, base, "users.list", w.member(0).token, nil)
			for _, u := range answer["members"].([]any) {
				if _, ok := u.(map[string]any)["profile"].(map[string]any); !ok {
					t.Errorf("no profile in %v", u)
				}
			}
		})
	})
	t.Run("11: bad frames", func(t *testing.T) {
		bothWays(t, w, func(t *testing.T, base string) {
			for name, c := range map[string]struct {
				kind int
				body string
				code int
			}{
				"bad UTF-8":   {websocket.TextMessage, "{\"type\":\"ping\",\"x\":\"\xff\xfe\"}", 1007},
				"binary":      {websocket.BinaryMessage, `{"type":"ping"}`, 1003},
				"over 16 KiB": {websocket.TextMessage, `{"type":"ping","x":"` + strings.Repeat("a", 17<<10) + `"}`, 1009},
			} {
				s := dial(t, rtmURL(t, base, w.member(0), nil), nil)
				s.until("hello", ofType("hello"))
				if err := s.conn.WriteMessage(c.kind, []byte(c.body)); err != nil {
					t.Fatal(err)
				}
				if code := s.closed(); code != c.code {
					t.Errorf("%s closes with %d, want %d", name, code, c.code)
				}
			}
			s := dial(t, rtmURL(t, base, w.member(0), nil), nil)
			for _, frame := range []string{`{"id":1,"type":"no_such_type"}`, `{"id":2}`, `[]`, `"x"`, `{`, `{"id":{},"type":"ping"}`} {
				if err := s.conn.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
					t.Fatal(err)
				}
				s.until("an error for "+frame, func(f map[string]any) bool { return f["error"] != nil })
			}
			s.send(map[string]any{"type": "ping", "id": 99})
			s.until("pong", ofType("pong"))
		})
	})
	t.Run("12: auth.test answers url", func(t *testing.T) {
		bothWays(t, w, func(t *testing.T, base string) {
			_, _, answer := call(t, base, "auth.test", w.member(0).token, nil)
			// The edge forwards auth.test: the backend must be told which host the client called.
			if answer["url"] != base+"/" {
				t.Errorf("auth.test at %s gets %v", base, answer)
			}
		})
	})
	t.Run("13: start-up storms pass", func(t *testing.T) {
		bothWays(t, w, func(t *testing.T, base string) {
			for range 1000 {
				if _, _, answer := call(t, base, "users.info", w.member(5).token, url.Values{"user": {string(w.member(1).id)}}); answer["ok"] != true {
					t.Fatalf("users.info gets %v", answer)
				}
			}
			channel := general(t, client(base, w.member(5)))
			for range 122 {
				if _, _, answer := call(t, base, "conversations.members", w.member(5).token, url.Values{"channel": {channel}}); answer["ok"] != true {
					t.Fatalf("conversations.members gets %v", answer)
				}
			}
		})
	})
}

func post(base, contentType, body string) (*http.Request, error) {
	r, err := http.NewRequest("POST", base+"/api/users.info", strings.NewReader(body))
	if err == nil {
		r.Header.Set("Content-Type", contentType)
	}
	return r, err
}

func bearer(r *http.Request, err error) func(tok string) (*http.Request, error) {
	return func(tok string) (*http.Request, error) {
		if err == nil {
			r.Header.Set("Authorization", "Bearer "+tok)
		}
		return r, err
	}
}
