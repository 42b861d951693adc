package edge

import (
	"context"
	"unicode/utf8"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"flannel/protocol"
)

// maxEcho bounds what is echoed: the largest message of the usual conformance suites has 16 MiB.
const maxEcho = 16 << 20

// serveEcho echoes text and binary messages as they come, over the stack that sessions use.
func (e *Edge) serveEcho(ctx *fasthttp.RequestCtx) {
	//nolint:errcheck // The upgrader has answered.
	e.upgrader.Upgrade(ctx, func(conn *websocket.Conn) {
		if !e.begin(func() { e.echo(conn) }) {
			conn.Close()
		}
	})
}

//nolint:errcheck // Whatever goes wrong ends the echo.
func (e *Edge) echo(conn *websocket.Conn) {
	defer conn.Close()
	defer context.AfterFunc(e.life, func() { conn.Close() })()
	conn.SetReadLimit(maxEcho)
	for {
		kind, body, err := conn.ReadMessage()
		if err != nil {
			return
		}
		if kind == websocket.TextMessage && !utf8.Valid(body) {
			conn.NetConn().Write(wireClose(protocol.CloseBadUTF8, nil))
			return
		}
		if err := conn.WriteMessage(kind, body); err != nil {
			return
		}
	}
}
