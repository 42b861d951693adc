package edge

import (
	"context"
	"net"
	"unicode/utf8"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"flannel/protocol"
)

// maxEcho bounds what is echoed: the largest message of the usual conformance suites has 16 MiB.
const maxEcho = 16 << 20

// serveEcho echoes text and binary messages as they come, over the framing that sessions use.
func (e *Edge) serveEcho(ctx *fasthttp.RequestCtx) {
	//nolint:errcheck // The upgrader has answered.
	e.upgrader.Upgrade(ctx, func(ws *websocket.Conn) {
		conn, sent := bare(ws.NetConn())
		if !e.begin(func() { e.echo(conn, sent) }) {
			conn.Close()
		}
	})
}

//nolint:errcheck // Whatever goes wrong ends the echo.
func (e *Edge) echo(conn net.Conn, data []byte) {
	defer conn.Close()
	defer context.AfterFunc(e.life, func() { conn.Close() })()
	in := intake{limit: maxEcho}
	buf := make([]byte, 64<<10)
	for {
		op, payload, n, _, err := in.next(data)
		if err != nil {
			conn.Write(wireClose(closeCodeOf(err), nil))
			return
		}
		data = data[n:]
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
			conn.Write(wire(op, payload))
		}
	}
}
