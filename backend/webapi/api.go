// Package webapi is the Web API of the reference backend: it takes one call as it stands on the wire and answers it.
// API.Do is the only way in: rate limit, token, arguments, method, errors. The HTTP handler, the upstream contract's
// forward and the RTM socket all go through it, so that a call means the same wherever it comes from.
//
// Reads run in one snapshot and say as of which position; writes go through package chat and say which position they
// produced. Errors that a client may be told have the dialect's names; all others are logged and told as
// internal_error. A panic in a method ends that call only.
package webapi

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/backend/chat"
	"flannel/backend/store"
	"flannel/backend/token"
	"flannel/protocol"
)

// Sockets hands out tickets for websockets.
type Sockets interface {
	// Ticket returns a single-use address for id. params are the arguments of the call that asked for it; host is
	// scheme://host as the client knows this server.
	Ticket(id protocol.Identity, params map[string]string, host string) (url string, err error)
}

// Presence knows who is active.
type Presence interface {
	Presence(user protocol.UserID) Status
	// SetManual tells that user set themself away, or took that back. The store knows already.
	SetManual(user protocol.UserID, away bool)
	// Touch tells that user did something.
	Touch(user protocol.UserID)
}

// Status is the presence of one user.
type Status struct {
	Presence                     protocol.Presence
	Online, AutoAway, ManualAway bool
	Connections                  int
	LastActivity                 int64 // Unix seconds, 0 if unknown
}

// Publisher sends ephemeral events, which are never on disk.
type Publisher interface {
	Publish(*protocol.Event)
}

// Options are what an API is made of. Sockets, Presence and Publisher may be nil: the methods that need them then
// answer service_unavailable, or away.
type Options struct {
	Store      store.Store
	Tokens     *token.Signer
	Chat       *chat.Chat // nil: made from Store and Now
	Sockets    Sockets
	Presence   Presence
	Publisher  Publisher
	Limits     Limits
	Log        *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time // nil: time.Now
}

// API answers calls. It is safe for concurrent use.
type API struct {
	Options
	limits  *limiter
	once    *onceMap
	methods map[string]method
	metrics *metrics
}

// New returns an API.
func New(o Options) *API {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Chat == nil {
		o.Chat = chat.New(o.Store, o.Now)
	}
	m := newMetrics(o.Registerer)
	return &API{
		Options: o, limits: newLimiter(o.Limits, o.Now), once: newOnceMap(o.Now, m.repeated.Inc), methods: methods(), metrics: m,
	}
}

// request is one call under way.
type request struct {
	*API
	ctx  context.Context
	call *protocol.Call
	args protocol.Args
	id   *protocol.Identity // nil in methods without a token
	// r and view are there in reads only.
	r    store.Reader
	view *chat.Viewer
}

// method is how one method is answered: exactly one field is set.
type method struct {
	read   func(q *request) ([]byte, error)
	write  func(q *request) ([]byte, protocol.Position, error)
	stream func(q *request) (*protocol.Reply, error)
	open   func(q *request) ([]byte, error) // without a token
}

// Do answers one call. It never fails: every error is an answer.
func (a *API) Do(ctx context.Context, call *protocol.Call) *protocol.Reply {
	return a.do(ctx, call, nil)
}

// do is Do for one who may have parsed the arguments already.
func (a *API) do(ctx context.Context, call *protocol.Call, args protocol.Args) (reply *protocol.Reply) {
	started := a.Now()
	m, known := a.methods[call.Method]
	label := call.Method
	if !known {
		label = otherLabel
	}
	defer func() {
		if p := recover(); p != nil {
			a.Log.Error("web api method panicked", "method", label, "panic", p, "stack", string(debug.Stack()))
			reply = a.fail(label, call, errors.New("panic"))
		}
		a.metrics.answered(label, a.Now().Sub(started))
	}()
	if !known {
		return a.fail(label, call, &protocol.Error{Code: protocol.CodeUnknownMethod})
	}
	reply, err := a.answer(ctx, call, args, m)
	if err != nil {
		return a.fail(label, call, err)
	}
	return reply
}

func (a *API) answer(ctx context.Context, call *protocol.Call, args protocol.Args, m method) (*protocol.Reply, error) {
	tok := call.Token
	if args == nil {
		parsed, err := protocol.ParseArgs(call.ContentType, call.Query, call.Body)
		if err != nil && (tok == "" || m.open != nil) {
			return nil, err
		}
		if err != nil {
			// Somebody without a good token is told that first.
			if _, verr := a.Tokens.Verify(tok); verr != nil {
				return nil, verr
			}
			return nil, err
		}
		args = parsed
	}
	q := &request{API: a, ctx: ctx, call: call, args: args}
	if m.open != nil {
		if wait := a.limits.take(call.Remote, call.Method); wait > 0 {
			return nil, &protocol.Error{Code: protocol.CodeRateLimited, Retry: wait}
		}
		body, err := m.open(q)
		return &protocol.Reply{Status: 200, Body: body}, err
	}
	if tok == "" {
		tok = args.Token("", "")
	}
	if tok == "" {
		return nil, &protocol.Error{Code: protocol.CodeNotAuthed}
	}
	claims, err := a.Tokens.Verify(tok)
	if err != nil {
		return nil, err
	}
	if wait := a.limits.take(string(claims.User), call.Method); wait > 0 {
		return nil, &protocol.Error{Code: protocol.CodeRateLimited, Retry: wait}
	}
	switch {
	case m.read != nil:
		return a.read(q, claims, m)
	case m.stream != nil:
		if err := a.admit(q, claims); err != nil {
			return nil, err
		}
		return m.stream(q)
	case call.IdempotencyKey != "":
		return a.once.do(ctx, onceKey(claims.User, call), func() (*protocol.Reply, error) { return a.write(q, claims, m) })
	default:
		return a.write(q, claims, m)
	}
}

func (a *API) read(q *request, claims token.Claims, m method) (*protocol.Reply, error) {
	reply := &protocol.Reply{Status: 200}
	err := a.Store.View(q.ctx, func(r store.Reader) error {
		id, err := identify(r, claims)
		if err != nil {
			return err
		}
		q.id, q.r, q.view = id, r, chat.NewViewer(r, id)
		if reply.Body, err = m.read(q); err != nil {
			return err
		}
		reply.Position, err = r.Position()
		return err
	})
	return reply, err
}

func (a *API) write(q *request, claims token.Claims, m method) (*protocol.Reply, error) {
	if err := a.admit(q, claims); err != nil {
		return nil, err
	}
	if a.Presence != nil {
		a.Presence.Touch(q.id.User)
	}
	body, at, err := m.write(q)
	return &protocol.Reply{Status: 200, Body: body, Position: at}, err
}

// admit finds out who calls.
func (a *API) admit(q *request, claims token.Claims) error {
	return a.Store.View(q.ctx, func(r store.Reader) error {
		var err error
		q.id, err = identify(r, claims)
		return err
	})
}

// fail is the one door through which an error becomes an answer.
func (a *API) fail(label string, call *protocol.Call, err error) *protocol.Reply {
	e := protocol.AsError(err)
	if e.Code == protocol.CodeInternal {
		switch {
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			e = &protocol.Error{Code: protocol.CodeUnavailable, Retry: time.Second} // a second: the store was busy
		default:
			a.Log.Error("web api call failed", "method", label, "remote", call.Remote, "err", err)
			e = &protocol.Error{Code: protocol.CodeInternal} // its text is ours
		}
	}
	a.metrics.failed(e.Code)
	reply := &protocol.Reply{Status: 200}
	if inv, ok := errors.AsType[*chat.InviteError](err); ok {
		reply.Body = errorAnswer(e).val("errors", inv.Users).bytes()
		return reply
	}
	if e.Code == protocol.CodeRateLimited {
		reply.Status = 429
	}
	if e.Retry > 0 {
		reply.RetryAfter = int(math.Ceil(e.Retry.Seconds()))
	}
	reply.Body = protocol.ErrorBody(e)
	return reply
}
