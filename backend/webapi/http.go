package webapi

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"flannel/protocol"
)

const (
	// PathPrefix is where the Web API is.
	PathPrefix = "/api/"
	// callTimeout bounds one call without its streaming: far above what any takes when the disk works.
	callTimeout = 30 * time.Second
)

// Handler serves PathPrefix + METHOD with CORS. The server bounds the size of bodies; protocol.MaxBody is enough.
func (a *API) Handler() fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		h := &ctx.Response.Header
		// Tokens travel in the request itself, so any page that has one may call; cookies are not accepted across origins.
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "Retry-After, "+protocol.HeaderPosition+", "+protocol.HeaderStale)
		switch string(ctx.Method()) {
		case fasthttp.MethodOptions:
			h.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Slack-User, X-Slack-Version-Ts, X-Requested-With")
			h.Set("Access-Control-Max-Age", "600") // ten minutes: browsers cap it at two hours
			ctx.SetStatusCode(fasthttp.StatusNoContent)
			return
		case fasthttp.MethodGet, fasthttp.MethodPost:
		default:
			h.Set("Allow", "GET, POST, OPTIONS")
			ctx.SetStatusCode(fasthttp.StatusMethodNotAllowed)
			return
		}
		name, ok := strings.CutPrefix(string(ctx.Path()), PathPrefix)
		if !ok {
			ctx.SetStatusCode(fasthttp.StatusNotFound)
			return
		}
		call, args, err := a.parse(ctx, strings.TrimSuffix(name, "/"))
		if err != nil {
			writeReply(ctx, a.fail(otherLabel, call, err))
			return
		}
		// Not the request's own context: fasthttp uses that again while a stream still runs.
		c, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		writeReply(ctx, a.do(c, call, args))
	}
}

// parse reads a call from a request. args are nil if they are for Do to read.
func (a *API) parse(ctx *fasthttp.RequestCtx, method string) (*protocol.Call, protocol.Args, error) {
	call := &protocol.Call{
		Method: method, ContentType: string(ctx.Request.Header.ContentType()), Query: ctx.URI().QueryString(), Body: ctx.Request.Body(),
		IdempotencyKey: string(ctx.Request.Header.Peek(protocol.HeaderIdempotencyKey)), Remote: ctx.RemoteIP().String(), Host: hostOf(ctx),
	}
	if len(call.Body) == 0 {
		call.ContentType = "" // fasthttp makes one up for POST
	}
	auth := string(ctx.Request.Header.Peek(fasthttp.HeaderAuthorization))
	if call.Token = (protocol.Args{}).Token(auth, ""); call.Token != "" {
		return call, nil, nil
	}
	if _, known := a.methods[method]; !known {
		return call, nil, nil
	}
	args, err := protocol.ParseArgs(call.ContentType, call.Query, call.Body)
	if err != nil {
		return call, nil, err
	}
	cookie := ""
	if sameOrigin(ctx) {
		cookie = string(ctx.Request.Header.Cookie("d"))
	}
	call.Token = args.Token("", cookie)
	return call, args, nil
}

// sameOrigin reports whether no other site's page sent the request: a browser adds the cookie by itself, so the cookie
// alone proves nothing about who asked.
func sameOrigin(ctx *fasthttp.RequestCtx) bool {
	origin := string(ctx.Request.Header.Peek(fasthttp.HeaderOrigin))
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, string(ctx.Host()))
}

// hostOf returns scheme://host as the client wrote it.
func hostOf(ctx *fasthttp.RequestCtx) string {
	scheme := "http://"
	if ctx.IsTLS() {
		scheme = "https://"
	}
	return scheme + string(ctx.Host())
}

// writeReply sends a reply. fasthttp closes the stream.
func writeReply(ctx *fasthttp.RequestCtx, r *protocol.Reply) {
	ctx.SetContentType("application/json; charset=utf-8")
	ctx.SetStatusCode(r.Status)
	if r.RetryAfter > 0 {
		ctx.Response.Header.Set("Retry-After", strconv.Itoa(r.RetryAfter))
	}
	if r.Position > 0 {
		ctx.Response.Header.Set(protocol.HeaderPosition, strconv.FormatUint(uint64(r.Position), 10))
	}
	if r.Stream != nil {
		ctx.SetBodyStream(r.Stream, -1)
		return
	}
	ctx.SetBody(r.Body)
}
