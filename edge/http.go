package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"flannel/protocol"
)

// Arguments that the edge adds to the calls for socket addresses, for Edge.URL. A client cannot set them.
const (
	argToken  = "\x00token"
	argMethod = "\x00method"
)

const landing = `flannel: an edge cache proxy for chat backends.
/api/METHOD              the Web API
/cache/TEAM/KIND/VERB    lazy object queries
/websocket/TICKET        the address that rtm.connect gives
`

// writeWait bounds the writing of an answer, and of each part of a streamed one: a client that takes longer is cut off.
const writeWait = 30 * time.Second

// serve routes a request. A fault of ours ends the call, not the node: fasthttp recovers from nothing.
func (e *Edge) serve(ctx *fasthttp.RequestCtx) {
	path := string(ctx.Path())
	defer func() {
		if r := recover(); r != nil {
			e.metrics.panics.Inc()
			e.write(ctx, "other", nil, fmt.Errorf("call panicked: %v\n%s", r, debug.Stack()))
		}
	}()
	switch {
	case strings.HasPrefix(path, "/api/"):
		e.limited(ctx, "api", func(c context.Context) { e.serveAPI(c, ctx, strings.TrimSuffix(path[len("/api/"):], "/")) })
	case strings.HasPrefix(path, "/cache/"):
		e.limited(ctx, "cache", func(c context.Context) { e.serveQuery(c, ctx, path[len("/cache/"):]) })
	case strings.HasPrefix(path, "/websocket/"):
		e.serveTicket(ctx, strings.TrimSuffix(path[len("/websocket/"):], "/"))
	case path == "/debug/echo" && e.cfg.DebugEcho:
		e.serveEcho(ctx)
	case path == "/" && websocket.FastHTTPIsWebSocketUpgrade(ctx):
		e.serveThin(ctx)
	case path == "/":
		ctx.SetContentType("text/plain; charset=utf-8")
		ctx.SetBodyString(landing)
	default:
		e.write(ctx, "other", &protocol.Reply{Status: fasthttp.StatusNotFound, Body: protocol.ErrorBody(protocol.Errorf("not_found", "there is nothing at this path"))}, nil)
	}
}

// badRequest answers what fasthttp could not read as a request.
func (e *Edge) badRequest(ctx *fasthttp.RequestCtx, err error) {
	status := fasthttp.StatusBadRequest
	code := protocol.CodeInvalidArgs
	var small *fasthttp.ErrSmallBuffer
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		status, code = fasthttp.StatusRequestEntityTooLarge, protocol.CodeTooLarge
	case errors.As(err, &small):
		status, code = fasthttp.StatusRequestHeaderFieldsTooLarge, protocol.CodeTooLarge
	}
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json; charset=utf-8")
	ctx.SetBody(protocol.ErrorBody(protocol.Errorf(code, "the request cannot be read")))
}

// limited runs a call if there is a place for it, and answers preflights.
func (e *Edge) limited(ctx *fasthttp.RequestCtx, path string, call func(context.Context)) {
	cors(ctx)
	if ctx.IsOptions() {
		ctx.SetStatusCode(fasthttp.StatusNoContent)
		return
	}
	if !e.admission.calls.take() {
		e.metrics.rejected.WithLabelValues("calls", "full").Inc()
		e.write(ctx, path, nil, &protocol.Error{Code: protocol.CodeUnavailable, Message: refusals[becauseFull], Retry: e.comeBack()})
		return
	}
	defer e.admission.calls.giveBack()
	began := e.now()
	defer func() { e.metrics.callTime.WithLabelValues(path).Observe(e.now().Sub(began).Seconds()) }()
	c, cancel := context.WithTimeout(e.life, e.cfg.CallTimeout)
	defer cancel()
	call(c)
}

// cors lets web pages call: tokens are in the body or in a header, never in what a browser adds by itself.
func cors(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Headers", "authorization, content-type, x-slack-version-ts, x-b3-traceid, x-b3-spanid, x-b3-parentspanid, x-b3-sampled, x-b3-flags")
	h.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
	h.Set("Access-Control-Expose-Headers", "retry-after, "+strings.ToLower(protocol.HeaderPosition)+", "+strings.ToLower(protocol.HeaderStale))
	h.Set("Access-Control-Max-Age", "86400")
}

// serveAPI answers a Web API call from the cache, or forwards it.
func (e *Edge) serveAPI(c context.Context, ctx *fasthttp.RequestCtx, method string) {
	reply, err := e.api(c, ctx, method)
	e.write(ctx, "api", reply, err)
}

func (e *Edge) api(c context.Context, ctx *fasthttp.RequestCtx, method string) (*protocol.Reply, error) {
	call := &protocol.Call{
		Method: method, ContentType: string(ctx.Request.Header.ContentType()), Query: clone(ctx.URI().QueryString()), Body: clone(ctx.PostBody()),
		Remote: ctx.RemoteAddr().String(), Host: hostOf(ctx),
	}
	args, err := protocol.ParseArgs(call.ContentType, call.Query, call.Body)
	if err != nil {
		return nil, err
	}
	call.Token = args.Token(string(ctx.Request.Header.Peek("Authorization")), string(ctx.Request.Header.Cookie("d")))
	m, known := protocol.Methods[method]
	if !known {
		return e.forward(c, "http", call, "")
	}
	if !m.Cached && method != "rtm.start" {
		return e.forward(c, "http", call, "")
	}
	id, err := e.doors.Queries.Identify(c, call.Token)
	if err != nil {
		return nil, err
	}
	if method == "rtm.start" {
		return e.rtmStart(c, call, id, args)
	}
	if wait := e.limit(id.User, method); wait > 0 {
		e.metrics.rejected.WithLabelValues("calls", "rate").Inc()
		return nil, &protocol.Error{Code: protocol.CodeRateLimited, Retry: wait}
	}
	args[argToken], args[argMethod] = call.Token, method
	reply, err := e.doors.Queries.Answer(c, *id, method, args, call.Host)
	if errors.Is(err, ErrForward) {
		return e.forward(c, "http", call, id.User)
	}
	return reply, err
}

// limit counts a call. It returns 0, or how long to wait.
func (e *Edge) limit(user protocol.UserID, method string) time.Duration {
	if !e.cfg.RateLimits {
		return 0
	}
	return e.rates.take(user, method)
}

// forward passes a call on and holds its answer back until the node has seen what it did, so that whoever wrote reads
// it at once. user is whose call it is, "" if that is not known.
func (e *Edge) forward(c context.Context, op string, call *protocol.Call, user protocol.UserID) (*protocol.Reply, error) {
	began := e.now()
	reply, err := e.doors.Writer.Forward(c, call)
	e.metrics.writeTime.WithLabelValues(op).Observe(e.now().Sub(began).Seconds())
	e.metrics.writes.WithLabelValues(op, outcome(reply, err)).Inc()
	if err != nil || reply.Position == 0 || reply.Position <= e.doors.Queries.Applied() {
		return reply, err
	}
	wait, cancel := context.WithTimeout(c, e.cfg.WriteVisible)
	defer cancel()
	if e.waiters.wait(wait, reply.Position, e.doors.Queries.Applied) {
		return reply, nil
	}
	e.metrics.unseen.Inc()
	if user == "" {
		id, err := e.doors.Queries.Identify(c, call.Token)
		if err != nil {
			return reply, nil //nolint:nilerr // The write stands; its writer may read a little late.
		}
		user = id.User
	}
	e.doors.Queries.RaiseFloor(user, reply.Position)
	return reply, nil
}

// serveQuery answers the edge query API over HTTP. Clients send JSON as text/plain, which saves a preflight.
func (e *Edge) serveQuery(c context.Context, ctx *fasthttp.RequestCtx, path string) {
	reply, err := e.query(c, ctx, path)
	e.write(ctx, "cache", reply, err)
}

func (e *Edge) query(c context.Context, ctx *fasthttp.RequestCtx, path string) (*protocol.Reply, error) {
	body := clone(ctx.PostBody())
	if len(body) == 0 {
		body = []byte("{}")
	}
	var fields struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(body, &fields); err != nil {
		if json.Valid(body) {
			return nil, protocol.Errorf(protocol.CodeJSONNotObject, "the body is a JSON object with a string \"token\"")
		}
		return nil, protocol.Errorf(protocol.CodeInvalidJSON, "the body is not JSON")
	}
	args := protocol.Args{"token": fields.Token}
	if q := string(ctx.QueryArgs().Peek("token")); fields.Token == "" && q != "" {
		args["token"] = q
	}
	id, err := e.doors.Queries.Identify(c, args.Token(string(ctx.Request.Header.Peek("Authorization")), string(ctx.Request.Header.Cookie("d"))))
	if err != nil {
		return nil, err
	}
	if wait := e.limit(id.User, queryRate); wait > 0 {
		e.metrics.rejected.WithLabelValues("calls", "rate").Inc()
		return nil, &protocol.Error{Code: protocol.CodeRateLimited, Retry: wait}
	}
	return e.doors.Queries.Query(c, *id, strings.TrimSuffix(path, "/"), body)
}

// queryRate is what edge queries are counted as, all kinds together: they have no tier of their own.
const queryRate = "cache"

// write is the one door from a reply or an error to an HTTP answer.
func (e *Edge) write(ctx *fasthttp.RequestCtx, path string, reply *protocol.Reply, err error) {
	e.metrics.calls.WithLabelValues(path, outcome(reply, err)).Inc()
	if err != nil {
		reply = e.refusal(err)
	}
	h := &ctx.Response.Header
	ctx.SetContentType("application/json; charset=utf-8")
	if reply.Status != 0 {
		ctx.SetStatusCode(reply.Status)
	}
	if reply.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(reply.RetryAfter))
	}
	if reply.Position > 0 {
		h.Set(protocol.HeaderPosition, strconv.FormatUint(uint64(reply.Position), 10))
	}
	if reply.Stale {
		h.Set(protocol.HeaderStale, strconv.Itoa(reply.Age))
	}
	if reply.Stream != nil {
		ctx.SetBodyStream(paced{reply.Stream, ctx.Conn()}, -1) // fasthttp closes it
		return
	}
	ctx.Response.SetBodyRaw(reply.Body)
}

// paced is a stream whose reader has to keep up: each part has its own deadline.
type paced struct {
	io.ReadCloser
	conn net.Conn
}

// Read implements io.Reader. What it returns is written next.
func (p paced) Read(buf []byte) (int, error) {
	n, err := p.ReadCloser.Read(buf)
	p.conn.SetWriteDeadline(time.Now().Add(writeWait)) //nolint:errcheck // The write says it.
	return n, err
}

// refusal turns an error into an answer: 200 with ok false as the dialect has it, 429 with a Retry-After where waiting
// helps. What is not a protocol.Error is a fault of ours: it is logged, and the client hears internal_error.
func (e *Edge) refusal(err error) *protocol.Reply {
	pe := protocol.AsError(err)
	if pe.Code == protocol.CodeInternal {
		e.log.Error("call failed", "err", err)
	}
	reply := &protocol.Reply{Status: fasthttp.StatusOK, Body: protocol.ErrorBody(pe)}
	if pe.Retry > 0 {
		reply.RetryAfter = seconds(pe.Retry)
	}
	if pe.Code == protocol.CodeRateLimited {
		reply.Status, reply.RetryAfter = fasthttp.StatusTooManyRequests, max(reply.RetryAfter, 1)
	}
	return reply
}

// seconds rounds up: the dialect's retry times are whole seconds.
func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// hostOf returns scheme://host as the client sees it.
func hostOf(ctx *fasthttp.RequestCtx) string {
	scheme := "http"
	if ctx.IsTLS() || string(ctx.Request.Header.Peek("X-Forwarded-Proto")) == "https" {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s", scheme, ctx.Host())
}

// trimScheme turns http://host into ://host and https://host into s://host.
func trimScheme(host string) string { return strings.TrimPrefix(host, "http") }

func clone(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return append([]byte(nil), b...)
}
