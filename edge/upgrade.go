package edge

import (
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"flannel/protocol"
)

// dialectOrigins are what the dialect's programs send, though no page of theirs is ever served here.
var dialectOrigins = []string{"https://api.slack.com", "https://app.slack.com", "http://wss-primary.slack.com", "https://wss-primary.slack.com"}

// originAllowed decides which pages may open sockets: programs send no origin, or one of the dialect's; browsers get the
// configured list, and pages from this very host.
func (e *Edge) originAllowed(ctx *fasthttp.RequestCtx) bool {
	origin := string(ctx.Request.Header.Peek(fasthttp.HeaderOrigin))
	if origin == "" || slices.Contains(dialectOrigins, origin) || slices.Contains(e.cfg.Origins, origin) {
		return true
	}
	u, err := url.Parse(origin)
	if err == nil && u.Host != "" && strings.EqualFold(u.Host, string(ctx.Host())) {
		return true
	}
	e.metrics.opened.WithLabelValues("origin").Inc()
	return false
}

// opening is what is known of a socket before it is one.
type opening struct {
	ticket  string // the name in the path; "" if the token came in the query
	token   string
	params  map[string]string
	expired bool // the ticket is unknown, used, or too old
	began   time.Time
	from    *protocol.ResumeToken // what a thin session continues from; nil if it begins
	// answer to the handshake, which goes out with the first frames if those come soon. Session.mu guards it; nil once it is out.
	answer []byte
	window uint8 // of the client's inflater, in bits; 0 if nothing is compressed
}

// serveTicket opens a socket at an address that rtm.connect gave.
func (e *Edge) serveTicket(ctx *fasthttp.RequestCtx, name string) {
	if !websocket.FastHTTPIsWebSocketUpgrade(ctx) {
		e.write(ctx, "other", &protocol.Reply{Status: fasthttp.StatusUpgradeRequired, Body: protocol.ErrorBody(protocol.Errorf("upgrade_required", "this address is for a websocket"))}, nil)
		return
	}
	e.open(ctx, opening{ticket: name, params: queryParams(ctx)})
}

// serveThin opens a socket at the address that client.getWebSocketURL gives, with the token in the query.
func (e *Edge) serveThin(ctx *fasthttp.RequestCtx) {
	o := opening{params: queryParams(ctx)}
	args := protocol.Args{"token": o.params["token"]}
	o.token = args.Token(string(ctx.Request.Header.Peek(fasthttp.HeaderAuthorization)), string(ctx.Request.Header.Cookie("d")))
	e.open(ctx, o)
}

// maxParams bounds what is kept of a query: the dialect's longest address has about 20.
const maxParams = 40

func queryParams(ctx *fasthttp.RequestCtx) map[string]string {
	params := make(map[string]string)
	for k, v := range ctx.QueryArgs().All() {
		if len(params) < maxParams {
			params[string(k)] = string(v)
		}
	}
	return params
}

// redeem takes the ticket of o. What the address says of the session counts as if the call had said it: slack-go says it
// there.
func (e *Edge) redeem(o *opening) {
	if o.ticket == "" {
		return
	}
	t, ok := e.tickets.use(o.ticket)
	o.token, o.expired = t.token, !ok
	for k, v := range t.params {
		if _, there := o.params[k]; !there {
			o.params[k] = v
		}
	}
}

// open upgrades a request to a session, or refuses: cheaply, and with a time to come back at that the server chooses.
//
// Nothing is taken before the handshake is known to be good, neither the ticket nor a place: so a bad one does not use a
// ticket up. What is looked at before is looked at again in admit.
func (e *Edge) open(ctx *fasthttp.RequestCtx, o opening) {
	if stage, reason := e.full(); reason != "" {
		e.turnAway(ctx, stage, reason)
		return
	}
	var answer []byte
	agreed, window := negotiate(e.offers(ctx))
	o.window = window
	err := e.upgrader.Upgrade(ctx, func(ws *websocket.Conn) {
		// From here on the library has nothing to do: what it holds, and the HTTP server's reader, would be several times
		// what an idle session costs.
		o.answer, o.began = answer, e.now()
		e.redeem(&o)
		conn, rest := bare(ws.NetConn())
		s := newSession(e, conn, rest, &o)
		if !e.openWith(func() { s.run(&o) }) {
			conn.Close() //nolint:errcheck // The node has stopped.
		}
	})
	if err != nil {
		return // The upgrader has answered.
	}
	if window > 0 {
		ctx.Response.Header.Set(extensionsHeader, agreed)
	}
	answer = handshake(ctx)
}

// handshake takes the answer of an upgrade from the HTTP server: the session writes it, with its first frames as a rule. A write
// of its own costs as much as the boot behind it, here and at the client.
func handshake(ctx *fasthttp.RequestCtx) []byte {
	ctx.HijackSetNoResponse(true)
	header := &ctx.Response.Header
	header.SetServer("flannel")
	return header.AppendBytes(nil)
}

// bare returns the connection below the HTTP server's reader, and what the client has sent into that already.
func bare(conn net.Conn) (inner net.Conn, sent []byte) {
	sent = early(conn)
	if c, ok := conn.(interface{ UnsafeConn() net.Conn }); ok {
		conn = c.UnsafeConn()
	}
	return conn, sent
}

// turnAway refuses an upgrade. Programs see the status; browsers do not show it to their pages, so for them the socket is
// opened, and closed with a code.
func (e *Edge) turnAway(ctx *fasthttp.RequestCtx, stage, reason string) {
	wait := e.comeBack()
	if len(ctx.Request.Header.Peek(fasthttp.HeaderOrigin)) == 0 {
		e.countRefusal(stage, reason)
		refusal := protocol.ErrorBody(protocol.Errorf(protocol.CodeUnavailable, "%s", refusals[reason]))
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, strconv.Itoa(seconds(wait)))
		e.write(ctx, "other", &protocol.Reply{Status: fasthttp.StatusServiceUnavailable, Body: refusal}, nil)
		return
	}
	code := closeFor(reason)
	frame := wireClose(code, protocol.MustMarshal(protocol.CloseReason{Reason: code.String(), RetryMS: int(wait.Milliseconds())}))
	//nolint:errcheck // A refused client that cannot be told is refused all the same.
	e.upgrader.Upgrade(ctx, func(conn *websocket.Conn) {
		e.countRefusal(stage, reason)
		raw := conn.NetConn()
		if !e.begin(func() {
			defer raw.Close()
			raw.SetDeadline(time.Now().Add(time.Second))
			raw.Write(frame)
		}) {
			raw.Close()
		}
	})
}

func closeFor(reason string) protocol.CloseCode {
	if reason == becauseDraining {
		return protocol.CloseDraining
	}
	return protocol.CloseOverloaded
}

func (e *Edge) countRefusal(stage, reason string) {
	e.metrics.opened.WithLabelValues("overloaded").Inc()
	e.metrics.rejected.WithLabelValues(stage, reason).Inc()
}

// comeBack returns a random time within the reconnect policy's first steps: full jitter, so that those who are refused
// together do not come back together.
func (e *Edge) comeBack() time.Duration {
	return time.Second + rand.N(max(e.cfg.ReconnectMax/3, time.Second))
}
