// Package gateway is the backend's side of the upstream contract (docs/upstream.md; the words are in package protocol):
// loads as HTTP, each answered from one snapshot and as of its position, forwarded calls of clients, and the stream of
// events. Whoever shows the service key is an edge and is trusted with everything; the edge decides who sees what.
//
// A stream has two goroutines: the connection's own reads frames, a second one writes what the hub queued for it. Both
// are gone before the connection's handler returns, and Stop waits for all of them. An edge that does not read its
// stream is cut off and comes back with the seqs that it knows; the hub never waits for it.
package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"flannel/backend/channels"
	"flannel/backend/presence"
	"flannel/backend/store"
	"flannel/protocol"
)

// API answers the calls of clients and tells who they are: package webapi does.
type API interface {
	Do(ctx context.Context, call *protocol.Call) *protocol.Reply
	Identify(ctx context.Context, tokens []string) ([]protocol.Identity, protocol.Position, error)
}

// Config is the gateway's.
type Config struct {
	// Heartbeat: both sides of a stream say something at least this often, and close one that was silent for three.
	Heartbeat time.Duration `koanf:"heartbeat"`
	// Streams bounds the streams that are open at once.
	Streams int `koanf:"streams"`
	// QueueEvents and QueueBytes bound what waits for one stream. Beyond it the stream is cut.
	QueueEvents int `koanf:"queue_events"`
	QueueBytes  int `koanf:"queue_bytes"`
	// Topics bounds what one stream follows.
	Topics int `koanf:"topics"`
	// WriteTimeout bounds writing one frame to a stream.
	WriteTimeout time.Duration `koanf:"write_timeout"`
}

// Default returns the defaults.
func Default() Config {
	return Config{
		Heartbeat:    5 * time.Second,  // A dead peer is noticed within 15 s, the offline delay of presence.
		Streams:      256,              // Far more edges than one backend serves.
		QueueEvents:  65536,            // A minute and a half of 650 events a second.
		QueueBytes:   64 << 20,         // 65536 events of 1 KB.
		Topics:       2_000_000,        // Every topic of a workspace of 148,170 users, several times.
		WriteTimeout: 10 * time.Second, // A frame has at most about 256 KB.
	}
}

// Validate reports what is wrong with the configuration.
func (c *Config) Validate() error {
	var errs []error
	if c.Heartbeat < 10*time.Millisecond || c.Heartbeat > time.Minute {
		errs = append(errs, fmt.Errorf("heartbeat is %s; choose between 10ms and 1m", c.Heartbeat))
	}
	if c.WriteTimeout <= 0 {
		errs = append(errs, fmt.Errorf("write_timeout is %s; it must be above 0", c.WriteTimeout))
	}
	for name, n := range map[string]int{"streams": c.Streams, "queue_events": c.QueueEvents, "queue_bytes": c.QueueBytes, "topics": c.Topics} {
		if n < 1 {
			errs = append(errs, fmt.Errorf("%s is %d; it must be at least 1", name, n))
		}
	}
	return errors.Join(errs...)
}

// Options are what a gateway is made of. All are needed.
type Options struct {
	Config     Config
	Key        string // the service key
	Store      store.Store
	Hub        *channels.Hub
	Presence   *presence.Presence
	API        API
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Gateway answers edges. It is safe for concurrent use.
type Gateway struct {
	config   Config
	key      [sha256.Size]byte
	store    store.Store
	hub      *channels.Hub
	presence *presence.Presence
	api      API
	log      *slog.Logger
	metrics  *metrics

	mu       sync.Mutex
	stopping bool
	streams  map[*stream]struct{}
	running  sync.WaitGroup // handlers of streams
}

// New returns a gateway. Its Handler is to be served.
func New(o Options) *Gateway {
	return &Gateway{
		config: o.Config, key: sha256.Sum256([]byte(o.Key)), store: o.Store, hub: o.Hub, presence: o.Presence, api: o.API,
		log: o.Log, metrics: newMetrics(o.Registerer), streams: make(map[*stream]struct{}),
	}
}

// MaxBody is the largest request that the server must let through: 500 tokens of 4 KiB as JSON, or a client's body.
const MaxBody = 4 << 20

// callTimeout bounds one load or call: far above what any takes while the disk works.
const callTimeout = 30 * time.Second

// Handler serves everything under protocol.UpstreamPath.
func (g *Gateway) Handler(ctx *fasthttp.RequestCtx) {
	began := time.Now()
	call := "other"
	defer func() {
		if p := recover(); p != nil {
			g.log.Error("upstream call panicked", "call", call, "panic", p, "stack", string(debug.Stack()))
			ctx.Response.Reset()
			writeError(ctx, &protocol.Error{Code: protocol.CodeInternal})
		}
		g.metrics.answered(call, ctx.Response.StatusCode(), time.Since(began))
	}()
	name, ok := strings.CutPrefix(string(ctx.Path()), protocol.UpstreamPath)
	if !ok {
		writeError(ctx, &protocol.Error{Code: protocol.CodeUnknownMethod, Message: "the upstream contract is under " + protocol.UpstreamPath})
		return
	}
	if !g.authorized(ctx) {
		ctx.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, "Bearer")
		writeError(ctx, &protocol.Error{Code: protocol.CodeNotAuthed, Message: "the service key is missing or wrong"})
		return
	}
	method, forwarded := strings.CutPrefix(name, protocol.CallForward+"/")
	switch {
	case forwarded:
		call = protocol.CallForward
		g.forward(ctx, method)
	case name == protocol.CallStream:
		call = name
		g.serveStream(ctx)
	default:
		load, ok := loads[name]
		if !ok {
			writeError(ctx, protocol.Errorf(protocol.CodeUnknownMethod, "there is no call %q", name))
			return
		}
		call = name
		if !ctx.IsPost() {
			ctx.Response.Header.Set(fasthttp.HeaderAllow, fasthttp.MethodPost)
			writeJSON(ctx, fasthttp.StatusMethodNotAllowed, &protocol.ErrorAnswer{Error: protocol.CodeInvalidArgs, Message: "loads are POST"})
			return
		}
		g.load(ctx, load)
	}
}

// authorized compares digests, so that neither the key's length nor its beginning can be felt out by timing.
func (g *Gateway) authorized(ctx *fasthttp.RequestCtx) bool {
	scheme, key, _ := strings.Cut(string(ctx.Request.Header.Peek(fasthttp.HeaderAuthorization)), " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(key)))
	return subtle.ConstantTimeCompare(sum[:], g.key[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// forward hands a client's call to the Web API as it came and its answer back as it is.
func (g *Gateway) forward(ctx *fasthttp.RequestCtx, method string) {
	h := &ctx.Request.Header
	call := &protocol.Call{
		Method: method, Token: string(h.Peek(protocol.HeaderToken)), ContentType: string(h.ContentType()),
		Query: ctx.URI().QueryString(), Body: ctx.Request.Body(), IdempotencyKey: string(h.Peek(protocol.HeaderIdempotencyKey)),
		Remote: string(h.Peek(fasthttp.HeaderXForwardedFor)), Host: forwardedHost(ctx),
	}
	if len(call.Body) == 0 {
		call.ContentType = "" // fasthttp makes one up for POST
	}
	// Not the request's context, which is used again while an answer is still streamed.
	c, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	reply := g.api.Do(c, call)
	ctx.SetStatusCode(reply.Status)
	ctx.SetContentType("application/json; charset=utf-8")
	if reply.RetryAfter > 0 {
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, strconv.Itoa(reply.RetryAfter))
	}
	if reply.Position > 0 {
		ctx.Response.Header.Set(protocol.HeaderPosition, strconv.FormatUint(uint64(reply.Position), 10))
	}
	if reply.Stream != nil {
		ctx.SetBodyStream(reply.Stream, -1) // fasthttp closes it
		return
	}
	ctx.SetBody(reply.Body)
}

// forwardedHost returns scheme://host of the server that the client called, as the edge says in X-Forwarded-Host and
// X-Forwarded-Proto; "" if it does not.
func forwardedHost(ctx *fasthttp.RequestCtx) string {
	host := string(ctx.Request.Header.Peek(fasthttp.HeaderXForwardedHost))
	if host == "" {
		return ""
	}
	if strings.EqualFold(string(ctx.Request.Header.Peek(fasthttp.HeaderXForwardedProto)), "https") {
		return "https://" + host
	}
	return "http://" + host
}

// statuses says which HTTP status an error of the contract has; others are 500.
var statuses = map[protocol.Code]int{
	protocol.CodeInvalidArgs:     fasthttp.StatusBadRequest,
	protocol.CodeInvalidJSON:     fasthttp.StatusBadRequest,
	protocol.CodeInvalidLimit:    fasthttp.StatusBadRequest,
	protocol.CodeInvalidCursor:   fasthttp.StatusBadRequest,
	protocol.CodeNotAuthed:       fasthttp.StatusUnauthorized,
	protocol.CodeUnknownMethod:   fasthttp.StatusNotFound,
	protocol.CodeChannelNotFound: fasthttp.StatusNotFound,
	protocol.CodeTeamNotFound:    fasthttp.StatusNotFound,
	protocol.CodeTooLarge:        fasthttp.StatusRequestEntityTooLarge,
	protocol.CodeBehind:          fasthttp.StatusServiceUnavailable,
	protocol.CodeUnavailable:     fasthttp.StatusServiceUnavailable,
}

func writeError(ctx *fasthttp.RequestCtx, e *protocol.Error) {
	answer := protocol.ErrorAnswer{Error: e.Code, Message: e.Message}
	if e.Retry > 0 {
		answer.RetryAfter = max(1, int(e.Retry.Round(time.Second).Seconds()))
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, strconv.Itoa(answer.RetryAfter))
	}
	status := statuses[e.Code]
	if status == 0 {
		status = fasthttp.StatusInternalServerError
	}
	writeJSON(ctx, status, &answer)
}

func writeJSON(ctx *fasthttp.RequestCtx, status int, v any) {
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json; charset=utf-8")
	ctx.SetBody(protocol.MustMarshal(v))
}
