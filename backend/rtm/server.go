// Package rtm is the websocket straight on the backend: the dialect's compatible mode, and the baseline of a chat
// product without flannel. A session follows its user's topics at the hub, the topics of the workspaces that the user
// sees something of, and the topic of each channel that the user is in; who is in a channel is decided by the channel
// topic's own membership events, in order.
//
// A session has two goroutines: the connection's own reads frames and does what they ask, in order; a second one writes
// what stands in the session's queue. Both are gone before the connection's handler returns, and Stop waits for all of
// them. A client that does not read is closed (CloseSlow); the hub never waits for it. Ephemeral events go first.
package rtm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"flannel/backend/channels"
	"flannel/backend/presence"
	"flannel/backend/store"
	"flannel/backend/token"
	"flannel/protocol"
)

// PathPrefix is where the sockets are; the ticket follows, because clients overwrite the query.
const PathPrefix = "/websocket/"

// API answers calls of clients: package webapi does.
type API interface {
	Do(ctx context.Context, call *protocol.Call) *protocol.Reply
}

// Tokens issues the token with which a session makes its calls.
type Tokens interface {
	Issue(c token.Claims) (string, error)
}

// Config is the sockets'.
type Config struct {
	// Sessions bounds the sockets that are open at once.
	Sessions int `koanf:"sessions"`
	// QueueItems and QueueBytes bound what waits for one socket. Beyond it the socket is closed.
	QueueItems int `koanf:"queue_items"`
	QueueBytes int `koanf:"queue_bytes"`
	// Origins that browsers may come from, besides none at all, the server's own and those that Slack's own programs
	// send; "*" allows all.
	Origins []string `koanf:"origins"`
}

// Default returns the defaults.
func Default() Config {
	return Config{
		Sessions:   20_000,  // What one machine can hold with two goroutines each.
		QueueItems: 4096,    // An answer to presence_query of 500, and some seconds of a busy workspace.
		QueueBytes: 8 << 20, // 4096 events of 2 KB.
		Origins:    []string{},
	}
}

// Validate reports what is wrong with the configuration.
func (c *Config) Validate() error {
	var errs []error
	for _, n := range []struct {
		name       string
		value, min int
	}{
		{"sessions", c.Sessions, 1}, {"queue_items", c.QueueItems, 2 * protocol.MaxPresenceIDs}, {"queue_bytes", c.QueueBytes, 1 << 20},
	} {
		if n.value < n.min {
			errs = append(errs, fmt.Errorf("%s is %d; it must be at least %d", n.name, n.value, n.min))
		}
	}
	for _, o := range c.Origins {
		if u, err := url.Parse(o); o != "*" && (err != nil || u.Host == "" || u.Path != "") {
			errs = append(errs, fmt.Errorf("origin %q is not like https://chat.example.com", o))
		}
	}
	return errors.Join(errs...)
}

// Options are what the server is made of. All are needed.
type Options struct {
	Config     Config
	Store      store.Store
	Hub        *channels.Hub
	Presence   *presence.Presence
	Tokens     Tokens
	HostID     string // names this process in hello
	Log        *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// Server hands out tickets and serves sockets. It is safe for concurrent use.
type Server struct {
	Options
	upgrader websocket.FastHTTPUpgrader
	tickets  *tickets
	metrics  *metrics

	mu       sync.Mutex
	stopping bool
	sessions map[*session]struct{}
	running  sync.WaitGroup // handlers of sessions
}

// New returns a server.
func New(o Options) *Server {
	s := &Server{Options: o, tickets: newTickets(o.Now), metrics: newMetrics(o.Registerer), sessions: make(map[*session]struct{})}
	s.upgrader = websocket.FastHTTPUpgrader{
		// Frames of clients are small; one of 16 KB is read in parts.
		ReadBufferSize: 1 << 10, WriteBufferSize: 4 << 10, WriteBufferPool: &sync.Pool{}, CheckOrigin: s.originAllowed,
	}
	return s
}

// Ticket returns a single-use address for a socket of id, valid for TicketLife. The socket will be told what happened
// since. params are the arguments of the call that asked for it; host is scheme://host as the client knows this server.
func (s *Server) Ticket(id protocol.Identity, params map[string]string, host string) (string, error) {
	t := ticket{id: id, host: host, batch: protocol.Args(params).Bool(batchParam, false), since: s.Hub.Position()}
	return s.address(t, TicketLife)
}

func (s *Server) address(t ticket, life time.Duration) (string, error) {
	code, err := s.tickets.issue(t, life)
	if err != nil {
		return "", err
	}
	scheme, host, _ := strings.Cut(t.host, "://")
	if scheme == "https" {
		return "wss://" + host + PathPrefix + code, nil
	}
	return "ws://" + host + PathPrefix + code, nil
}

// batchParam asks for presence changes of several users in one frame; of the call or of the socket's address.
const batchParam = "batch_presence_aware"

// Handler serves PathPrefix + TICKET. Calls of the sessions go through api.
func (s *Server) Handler(api API) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		code := strings.TrimSuffix(strings.TrimPrefix(string(ctx.Path()), PathPrefix), "/")
		batch := ctx.QueryArgs().GetBool(batchParam)
		remote := ctx.RemoteAddr().String()
		err := s.upgrader.Upgrade(ctx, func(conn *websocket.Conn) {
			// Taken only now, so that a request which is not a good handshake does not use the ticket up.
			t, ok := s.tickets.take(code)
			x := newSession(s, api, conn, t, remote)
			defer x.end(nil)
			x.batch = x.batch || batch
			switch {
			case !ok:
				s.metrics.closed(protocol.CloseBadTicket)
				x.refuse(protocol.CloseBadTicket, protocol.SocketErrURLExpired, "Socket URL has expired")
			case !s.admit(x):
				s.metrics.closed(protocol.CloseOverloaded)
				x.refuse(protocol.CloseOverloaded, protocol.SocketErrRateLimited, "Ratelimited")
			default:
				defer s.release(x)
				x.run()
			}
		})
		if err != nil {
			ctx.Response.Header.Set("X-Flannel-Error", err.Error())
		}
	}
}

// knownOrigins are what unmodified programs send although they are no browsers.
var knownOrigins = []string{"https://api.slack.com", "https://app.slack.com", "http://wss-primary.slack.com", "https://wss-primary.slack.com"}

func (s *Server) originAllowed(ctx *fasthttp.RequestCtx) bool {
	origin := string(ctx.Request.Header.Peek(fasthttp.HeaderOrigin))
	if origin == "" || slices.Contains(knownOrigins, origin) || slices.Contains(s.Config.Origins, origin) || slices.Contains(s.Config.Origins, "*") {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, string(ctx.Host()))
}

// admit makes a session one of those that Stop waits for.
func (s *Server) admit(x *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping || len(s.sessions) >= s.Config.Sessions {
		return false
	}
	s.sessions[x] = struct{}{}
	s.running.Add(1)
	s.metrics.sessions.Inc()
	return true
}

func (s *Server) release(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, x)
	s.metrics.sessions.Dec()
	s.running.Done()
}

// Sessions returns how many sockets are open.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Stop says goodbye to every socket, closes it, and takes no more. It returns when the sessions' goroutines are gone, or
// with the context's error.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	for x := range s.sessions {
		x.end(&ending{code: protocol.CloseDraining, reason: "the server stops", goodbye: true})
	}
	s.mu.Unlock()
	gone := make(chan struct{})
	go func() { s.running.Wait(); close(gone) }() // Ends with the last session, which has a deadline for everything.
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop sockets: %w", ctx.Err())
	}
}
