package edge

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"flannel/protocol"
)

// TestBadInput_Frames says what each bad frame gets: an error and the socket stays, or a close code.
func TestBadInput_Frames(t *testing.T) {
	everyWay(t, func(t *testing.T, way option) {
		w := newWorld(t, way)
		for _, c := range []struct {
			name, frame string
			answer      string // part of the frame that it gets
		}{
			{"unknown type", `{"id":1,"type":"no_such_type"}`, `{"type":"error","reply_to":1,"error":{"code":4,"msg":"unknown type \"no_such_type\""}}`},
			{"no type", `{"id":2}`, `"reply_to":2,"error":{"code":3,`},
			{"type of the wrong type", `{"id":3,"type":7}`, `"error":{"code":3,`},
			{"no object", `[]`, `"error":{"code":3,`},
			{"a string", `"x"`, `"error":{"code":3,`},
			{"null", `null`, `"error":{"code":3,`},
			{"no JSON", `{`, `"error":{"code":3,`},
			{"empty", ``, `"error":{"code":3,`},
			{"id is an object", `{"id":{},"type":"ping"}`, `"error":{"code":3,`},
			{"id is too long", `{"id":"` + strings.Repeat("x", 200) + `","type":"ping"}`, `"error":{"code":3,`},
			{"deep", strings.Repeat("[", 8000), `"error":{"code":3,`},
			{"typing in a number", `{"type":"typing","channel":5}`, `"error":{"code":3,`},
			{"presence_sub of a number", `{"type":"presence_sub","ids":5}`, `"error":{"code":3,`},
			{"presence_sub of 501", `{"id":9,"type":"presence_sub","ids":["U1"` + strings.Repeat(`,"U2"`, 500) + `]}`, `"reply_to":9,"error":{"code":3,"msg":"501 ids; the limit is 500"}`},
			{"presence_query of 501", `{"id":9,"type":"presence_query","ids":["U1"` + strings.Repeat(`,"U2"`, 500) + `]}`, `"error":{"code":3,`},
			{"query without method", `{"id":10,"type":"query"}`, `{"reply_to":10,"ok":false,"error":"unknown_method"}`},
			{"query of an unknown method", `{"id":11,"type":"query","method":"no/such","args":{}}`, `{"reply_to":11,"ok":false,"error":"unknown_method"}`},
			{"query of a number", `{"id":12,"type":"query","method":7}`, `"error":{"code":3,`},
			{"view of a number", `{"id":13,"type":"view","channels":5}`, `"reply_to":13,"error":{"code":3,"msg":"\"channels\" is not a list of strings"`},
			{"view of 101", `{"id":13,"type":"view","channels":["C1"` + strings.Repeat(`,"C2"`, 100) + `]}`, `"error":{"code":3,"msg":"101 channels; the limit is 100"}`},
			{"largest", `{"id":14,"type":"ping","x":"` + strings.Repeat("a", protocol.MaxFrame-30) + `"}`, `"type":"pong"`},
		} {
			p := w.hello(w.thinURL("xoxp-ana", ""))
			p.send(c.frame)
			if f := p.next(); !strings.Contains(f, c.answer) {
				t.Errorf("%s: got %s, want %s", c.name, f, c.answer)
			}
			p.send(`{"type":"ping","id":99,"timestamp":1.5}`)
			if f := p.next(); f != `{"reply_to":99,"timestamp":1.5,"type":"pong","resume_token":"1.2.U1"}` {
				t.Errorf("%s: the ping after it gets %s", c.name, f)
			}
			p.conn.Close()
		}
		for _, c := range []struct {
			name, label string
			kind        int
			body        string
			code        int
		}{
			{"bad UTF-8", "bad_utf8", websocket.TextMessage, "{\"type\":\"ping\",\"x\":\"\xff\xfe\"}", 1007},
			{"binary", "unsupported_data", websocket.BinaryMessage, `{"type":"ping"}`, 1003},
			{"over 16 KiB", "too_big", websocket.TextMessage, `{"type":"ping","x":"` + strings.Repeat("a", protocol.MaxFrame) + `"}`, 1009},
		} {
			p := w.hello(w.thinURL("xoxp-ana", ""))
			if err := p.conn.WriteMessage(c.kind, []byte(c.body)); err != nil {
				t.Fatal(err)
			}
			if code, _ := p.closed(); code != c.code {
				t.Errorf("%s closes with %d, want %d", c.name, code, c.code)
			}
			eventually(t, c.name+" is counted", func() bool { return w.metric("flannel_connections_closed_total", c.label, "server") == 1 })
		}
	})
}

// header of a frame of a client: opcode byte, length byte; the mask is zero.
func clientFrame(first, second byte, payload string) []byte {
	b := []byte{first, second}
	if second&0x80 != 0 {
		b = append(b, 0, 0, 0, 0)
	}
	return append(b, payload...)
}

// TestBadInput_Protocol sends what no library sends.
func TestBadInput_Protocol(t *testing.T) {
	everyWay(t, func(t *testing.T, way option) {
		w := newWorld(t, way)
		for name, c := range map[string]struct {
			bytes []byte
			code  uint16
		}{
			"unmasked":                  {clientFrame(0x81, 2, "{}"), 1002},
			"reserved bit":              {clientFrame(0xC1, 0x82, "{}"), 1002},
			"unknown opcode":            {clientFrame(0x83, 0x82, "{}"), 1002},
			"ping in parts":             {clientFrame(0x09, 0x80, ""), 1002},
			"ping of 126":               {clientFrame(0x89, 0xFE, ""), 1002},
			"continuation of nothing":   {clientFrame(0x80, 0x82, "{}"), 1002},
			"text within a text":        {append(clientFrame(0x01, 0x82, "{}"), clientFrame(0x81, 0x82, "{}")...), 1002},
			"close with a bad code":     {clientFrame(0x88, 0x82, "\x03\xEE"), 1002},
			"close with bad UTF-8":      {clientFrame(0x88, 0x83, "\x03\xE8\xFF"), 1002},
			"close":                     {clientFrame(0x88, 0x82, "\x03\xE8"), 1000},
			"close without a code":      {clientFrame(0x88, 0x80, ""), 1000},
			"close with a code of ours": {clientFrame(0x88, 0x82, "\x0F\xA0"), 4000},
			"a frame of 2^62":           {append([]byte{0x81, 0xFF}, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 1009},
			"a frame of 2^63":           {append([]byte{0x81, 0xFF}, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0},
			"too much in parts":         {bytes.Repeat(clientFrame(0x01, 0xFE, "\x20\x00"), 1), 0},
		} {
			if name == "too much in parts" {
				part := append([]byte{0x01, 0xFE, 0x20, 0x00, 0, 0, 0, 0}, make([]byte, 0x2000)...)
				more := append([]byte{0x00, 0xFE, 0x20, 0x01, 0, 0, 0, 0}, make([]byte, 0x2001)...)
				c.bytes, c.code = append(part, more...), 1009
			}
			conn := w.rawSocket(w.thinURL("xoxp-ana", ""))
			readFrame(t, conn) // hello
			if _, err := conn.Write(c.bytes); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			op, body := readFrame(t, conn)
			switch {
			case c.code == 0: // closed somehow
			case op != 8 || len(body) < 2 || binary.BigEndian.Uint16(body) != c.code:
				t.Errorf("%s gets opcode %d with %q, want a close with %d", name, op, body, c.code)
			}
			conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("%s: the socket does not end well: %v", name, err)
			}
		}
		eventually(t, "all sessions are gone", func() bool { return w.edge.Sessions() == 0 })
		if n := w.metric("flannel_connections_closed_total", "protocol_error", "server"); n < 9 {
			t.Errorf("%v protocol errors are counted", n)
		}
	})
}

func TestBadInput_Cuts(t *testing.T) {
	w := newWorld(t)
	for name, sent := range map[string][]byte{"nothing": nil, "half a header": {0x81}, "half a frame": {0x81, 0xFE, 0x10}, "half a body": clientFrame(0x81, 0x90, "{}")} {
		conn := w.rawSocket(w.thinURL("xoxp-ana", ""))
		readFrame(t, conn)
		if _, err := conn.Write(sent); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		eventually(t, "gone after "+name, func() bool { return w.edge.Sessions() == 0 })
	}
}

// readFrame reads one frame of the server, which is not masked. Opcode 0 if the socket ended.
func readFrame(t *testing.T, conn net.Conn) (opcode byte, body []byte) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(patience))
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(conn, head); err != nil {
			return 0, nil
		}
		n := int(head[1])
		if n == 126 {
			ext := make([]byte, 2)
			if _, err := io.ReadFull(conn, ext); err != nil {
				t.Fatal(err)
			}
			n = int(binary.BigEndian.Uint16(ext))
		}
		body = make([]byte, n)
		if _, err := io.ReadFull(conn, body); err != nil {
			t.Fatal(err)
		}
		if head[0]&0xf != 9 { // a ping may come between
			return head[0] & 0xf, body
		}
	}
}

func TestBadInput_TooManyFrames(t *testing.T) {
	w := newWorld(t)
	p := w.hello(w.ticketURL("xoxp-ana"))
	go func() {
		for range 2 * Default().FrameBurst {
			if p.conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"nothing"}`)) != nil {
				return
			}
		}
	}()
	if code, reason := p.closed(); code != int(protocol.CloseTooFast) || reason.RetryMS == 0 {
		t.Errorf("closed with %d %+v", code, reason)
	}
}

// TestBadInput_HTTP says what each bad request gets.
func TestBadInput_HTTP(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name, method, path, contentType, body string
		status                                int
		code                                  string
	}{
		{"nothing there", "GET", "/nothing", "", "", 404, "not_found"},
		{"climbing", "GET", "/api/../etc/passwd", "", "", 404, "not_found"},
		{"echo is off", "GET", "/debug/echo", "", "", 404, "not_found"},
		{"ticket without upgrade", "GET", "/websocket/abc", "", "", 426, "upgrade_required"},
		{"no token", "GET", "/api/users.info", "", "", 200, "not_authed"},
		{"bad token", "GET", "/api/users.info?token=nope", "", "", 200, "invalid_auth"},
		{"bad JSON", "POST", "/api/users.info", "application/json", "{", 200, "invalid_json"},
		{"JSON list", "POST", "/api/users.info", "application/json", "[]", 200, "json_not_object"},
		{"bad form", "POST", "/api/users.info", "application/x-www-form-urlencoded", "a=%zz", 200, "invalid_form_data"},
		{"bad query", "GET", "/api/users.info?a=%zz", "", "", 200, "invalid_form_data"},
		{"bad multipart", "POST", "/api/users.info", "multipart/form-data; boundary=X", "--X\r\nbroken", 200, "invalid_form_data"},
		{"no boundary", "POST", "/api/users.info", "multipart/form-data", "x", 200, "invalid_form_data"},
		{"odd type", "POST", "/api/users.info", "image/png", "x", 200, "invalid_post_type"},
		{"bad type", "POST", "/api/users.info", ";;;", "x", 200, "invalid_post_type"},
		{"charset", "POST", "/api/users.info", "application/json; charset=latin1", "{}", 200, "invalid_charset"},
		{"bad UTF-8", "POST", "/api/users.info", "application/x-www-form-urlencoded", "a=%ff", 200, "invalid_charset"},
		{"query without token", "POST", "/cache/T1/users/info", "text/plain", `{}`, 200, "not_authed"},
		{"query that is no JSON", "POST", "/cache/T1/users/info", "text/plain", `x`, 200, "invalid_json"},
		{"query that is a list", "POST", "/cache/T1/users/info", "text/plain", `[]`, 200, "json_not_object"},
		{"query of an unknown path", "POST", "/cache/T1/no/such", "text/plain", `{"token":"xoxp-ana"}`, 200, "unknown_method"},
		{"query of nothing", "POST", "/cache/", "text/plain", `{"token":"xoxp-ana"}`, 200, "unknown_method"},
	} {
		resp, answer, raw := w.call(c.method, c.path, c.contentType, c.body)
		if resp.StatusCode != c.status || answer["error"] != c.code || answer["ok"] != false || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
			t.Errorf("%s: %d %s %s, want %d %s", c.name, resp.StatusCode, resp.Header.Get("Content-Type"), raw, c.status, c.code)
		}
	}
}

func TestBadInput_RawHTTP(t *testing.T) {
	w := newWorld(t)
	for name, request := range map[string]string{
		"413 large body":   fmt.Sprintf("POST /api/users.info HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", protocol.MaxBody+1),
		"431 large header": "GET /api/users.info?" + strings.Repeat("x", 8<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"garbage":          "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
		"no version":       "GET /\r\n\r\n",
		"bad length":       "POST /api/users.info HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
		"bad chunks":       "POST /api/users.info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"huge chunk":       "POST /api/users.info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\nx",
		"upgrade by POST":  "POST /websocket/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
		"upgrade, close":   "GET /websocket/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nConnection: close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a\r\n\r\n",
		"upgrade by 1.0":   "GET /websocket/x HTTP/1.0\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", w.edge.Addr())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(conn, request)
		conn.(*net.TCPConn).CloseWrite()
		answer, err := io.ReadAll(conn)
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 4")) || name[0] == '4' && (!bytes.HasPrefix(answer, []byte("HTTP/1.1 "+name[:3])) || !bytes.Contains(answer, []byte(`"request_too_large"`))) {
			t.Errorf("%s gets %q, %v", name, answer, err)
		}
		conn.Close()
	}
	if resp, _, _ := w.call(http.MethodGet, "/", "", ""); resp.StatusCode != 200 {
		t.Errorf("the landing page gets %d", resp.StatusCode)
	}
}
