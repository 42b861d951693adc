package edge

import (
	"encoding/json"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fasthttp/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/valyala/fasthttp"

	"flannel/protocol"
)

// FuzzStep: whatever a client sends, it gets JSON, and its socket stays; but for bad UTF-8 and frames that are too large.
func FuzzStep(f *testing.F) {
	for _, frame := range []string{
		`{"id":1,"type":"message","channel":"C1","text":"a"}`, `{"type":"typing","channel":"C1"}`, `{"id":1,"type":"ping","x":{}}`,
		`{"type":"presence_sub","ids":["U1"]}`, `{"type":"presence_query","ids":["U2","U2"]}`, `{"id":7,"type":"query","method":"users/info","args":{}}`,
		`{"id":"\ud800","type":"\u0000"}`, `[`, `null`, "\xff", `{"type":"message","blocks":null}`, `{"id":1e9999,"type":"ping"}`,
		`{"type":"view","channels":["C1","C1","U1",""]}`, `{"id":1,"type":"view","channels":null}`, `{"type":"view","channels":[5]}`,
	} {
		f.Add([]byte(frame))
	}
	w := newWorld(f, func(c *Config, _ *world) { c.RateLimits = false })
	f.Fuzz(func(t *testing.T, raw []byte) {
		w.t = t
		p := w.hello(w.thinURL("xoxp-ana", ""))
		if err := p.conn.WriteMessage(websocket.TextMessage, raw); err != nil {
			t.Fatal(err)
		}
		_ = p.conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"ping","fuzz":true}`))
		for {
			frame, ok := <-p.frames
			if !ok {
				var ce *websocket.CloseError
				if !errors.As(p.ended, &ce) || utf8.Valid(raw) && len(raw) <= protocol.MaxFrame {
					t.Fatalf("%q ends the socket: %v", raw, p.ended)
				}
				break
			}
			if !json.Valid([]byte(frame)) {
				t.Errorf("%q gets %q", raw, frame)
			}
			if strings.Contains(frame, `"fuzz":true`) && strings.Contains(frame, `"pong"`) {
				break
			}
		}
		if testutil.ToFloat64(w.edge.metrics.panics) != 0 {
			t.Fatalf("%q: a goroutine panicked", raw)
		}
	})
}

// FuzzHTTP: every request gets one answer, which is JSON but for the landing page and preflights.
func FuzzHTTP(f *testing.F) {
	for _, path := range []string{"/", "/api/users.info?token=xoxp-ana", "/api/rtm.start", "/api/", "/cache/T1/users/info", "/cache/", "/websocket/x", "/debug/echo", "/api/%00/..", "//", "/api/rtm.connect?token=xoxp-ana&%00method=client.getWebSocketURL"} {
		f.Add("GET", path, "", "", []byte(nil))
		f.Add("POST", path, "application/json", "Bearer xoxp-ana", []byte(`{"token":"xoxp-ana","x":[1]}`))
		f.Add("POST", path, "multipart/form-data; boundary=X", "", []byte("--X\r\n\r\n--X--"))
	}
	w := newWorld(f, func(c *Config, _ *world) { c.RateLimits = false; c.MaxTickets = 100 })
	f.Fuzz(func(t *testing.T, method, path, contentType, auth string, body []byte) {
		var req fasthttp.Request
		req.Header.SetMethod(method)
		req.SetRequestURI(path)
		req.Header.SetContentType(contentType)
		req.Header.Set("Authorization", auth)
		req.SetBody(body)
		client, server := net.Pipe()
		defer client.Close()
		defer server.Close()
		var ctx fasthttp.RequestCtx
		ctx.Init2(server, nil, false)
		req.CopyTo(&ctx.Request)

		w.edge.serve(&ctx)

		if testutil.ToFloat64(w.edge.metrics.panics) != 0 {
			t.Fatal("it panicked")
		}
		switch out := ctx.Response.Body(); {
		case ctx.Response.StatusCode() == fasthttp.StatusNoContent, strings.HasPrefix(string(ctx.Response.Header.ContentType()), "text/plain"):
		case !json.Valid(out):
			t.Errorf("%s %q gets %d %q", method, path, ctx.Response.StatusCode(), out)
		}
		if n := len(w.edge.tickets.all); n > 100 {
			t.Errorf("%d tickets", n)
		}
	})
}

// FuzzOpening: whatever an address says of a view and of the past, the session begins; the view is bounded and sorted, and
// a token names a user or nobody.
func FuzzOpening(f *testing.F) {
	f.Add("C1,C2,C1", "1.5.U1")
	f.Add("", "1.zz.U1")
	f.Add(strings.Repeat("C1,", 500), strings.Repeat("1", 500))
	f.Add(",,U1,\x00", "1..U1.U2")
	f.Fuzz(func(t *testing.T, view, resume string) {
		o := opening{params: map[string]string{"view": view, "resume": resume}}

		v, from := o.openView(), o.resumeFrom()

		if v == nil || len(*v) > protocol.MaxView || !slices.IsSorted(*v) {
			t.Errorf("%q is the view %v", view, v)
		}
		named := strings.Split(view, ",")
		for i, ch := range named {
			channel := protocol.KindOf(protocol.ObjectID(ch)) == protocol.KindChannel
			if i < protocol.MaxView && v.has(hashID(ch)) != channel {
				t.Errorf("%q has %q in view: %v", view, ch, !channel)
			}
		}
		switch {
		case (from == nil) != (resume == ""):
			t.Errorf("%q is the token %v", resume, from)
		case from != nil && from.User != "":
			if again, err := protocol.ParseResumeToken(from.String()); err != nil || again != *from {
				t.Errorf("%q is %+v, and %+v when it is said again", resume, *from, again)
			}
		}
	})
}

// FuzzAnswered: whatever stands in an answer, no more is remembered of it than there is room for.
func FuzzAnswered(f *testing.F) {
	f.Add([]byte(`{"updated_ids":{"U1":1,"U2":0}}`), []byte(`{"results":[{"id":"U1"}],"failed_ids":["U2"],"ok":true}`))
	f.Add([]byte(`{}`), []byte(`{"results":{},"pending_ids":[[]],"ok":true}`))
	f.Add([]byte(`[`), []byte(`{"results":[{"id":"\\"`))
	f.Fuzz(func(t *testing.T, args, body []byte) {
		var g given
		g.answered(args, body)
		if len(g.table) > maxGiven {
			t.Errorf("%d are remembered", len(g.table))
		}
	})
}
