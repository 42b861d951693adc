package edge

import (
	"context"
	"net"
	"slices"
	"unicode/utf8"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"flannel/protocol"
)

// maxEcho bounds what is echoed: the largest message of the usual conformance suites has 16 MiB.
const maxEcho = 16 << 20

// serveEcho echoes text and binary messages as they come, over the framing that sessions use.
func (e *Edge) serveEcho(ctx *fasthttp.RequestCtx) {
	answer, window := negotiate(e.offers(ctx))
	err := e.upgrader.Upgrade(ctx, func(ws *websocket.Conn) {
		conn, sent := bare(ws.NetConn())
		if !e.begin(func() { e.echo(conn, sent, window) }) {
			conn.Close() //nolint:errcheck // The node has stopped.
		}
	})
	if err == nil && window > 0 { // Else the upgrader has answered.
		ctx.Response.Header.Set(extensionsHeader, answer)
	}
}

//nolint:errcheck // Whatever goes wrong ends the echo.
func (e *Edge) echo(conn net.Conn, data []byte, window uint8) {
	defer conn.Close()
	defer context.AfterFunc(e.life, func() { conn.Close() })()
	in := intake{limit: maxEcho, deflate: window > 0}
	buf := make([]byte, 64<<10)
	for {
		op, payload, n, _, err := in.next(data)
		if err != nil {
			conn.Write(wireClose(closeCodeOf(err), nil))
			return
		}
		data = data[n:]
		if in.packed && (op == opText || op == opBinary) {
			whole, err := inflate(payload, in.limit)
			if err != nil {
				conn.Write(wireClose(closeCodeOf(err), nil))
				return
			}
			payload = slices.Clone(whole.body)
			whole.giveBack()
		}
		switch {
		case n == 0:
			m, err := conn.Read(buf)
			if err != nil {
				return
			}
			data = append(data, buf[:m]...)
		case op == opClose:
			code, err := closeIn(payload)
			if err != nil {
				code = protocol.CloseProtocol
			}
			conn.Write(wireClose(sendable(code), nil))
			return
		case op == opText && !utf8.Valid(payload):
			conn.Write(wireClose(protocol.CloseBadUTF8, nil))
			return
		case op == opPing:
			conn.Write(wire(opPong, payload))
		case op == opText, op == opBinary:
			conn.Write(e.press.shrink(wire(op, payload), 0, window))
		}
	}
}
