package edge

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/fasthttp/websocket"
	"golang.org/x/time/rate"

	"flannel/protocol"
)

// Session is one client socket.
type Session struct {
	// Static after newSession, but id, which run sets before anybody else can see the session.
	edge    *Edge
	conn    *websocket.Conn // read by run only; never written to
	raw     net.Conn        // written to by flush only
	opening opening
	id      protocol.Identity
	opened  time.Time
	thin    bool
	batch   bool            // presence for several users in one frame
	exclude map[string]bool // event types the client does not want
	ctx     context.Context // ends with the session: it is one
	cancel  context.CancelFunc
	queries chan struct{} // a place per query under way; capacity SessionQueries; never closed

	// Owned by run.
	messages *rate.Limiter
	typed    time.Time // when typing was last passed on

	heard  atomic.Int64 // Unix nanoseconds of the last frame
	pinged atomic.Int64 // Unix nanoseconds of the last ping

	work sync.WaitGroup // flush, and the goroutines of queries and messages

	// mu guards what follows. It is never held across I/O.
	mu      sync.Mutex
	out     outbox
	held    bool      // events wait until the boot is out
	writing bool      // flush runs
	ending  bool      // a close frame is the outbox's last: nothing is added any more
	gone    bool      // run is over: no goroutine is started any more
	waiting time.Time // since when the outbox's first frame waits
	code    protocol.CloseCode
	server  bool // we closed
	pending []func()
	sending bool
	watch   []protocol.UserID // presence_sub's list
	known   map[protocol.UserID]protocol.Presence
	asked   map[protocol.UserID]time.Time // presence_query's, and until when
}

func newSession(e *Edge, conn *websocket.Conn, o opening) *Session {
	s := &Session{
		edge: e, conn: conn, raw: conn.NetConn(), opening: o, id: o.id, opened: e.now(), held: true,
		thin: o.params["flannel"] == protocol.ThinVersion, batch: flag(o.params["batch_presence_aware"]), queries: make(chan struct{}, e.cfg.SessionQueries),
		messages: rate.NewLimiter(1, e.cfg.MessageBurst),
	}
	for name := range strings.SplitSeq(o.params["exclude_events"], ",") {
		if name != "" {
			if s.exclude == nil {
				s.exclude = make(map[string]bool)
			}
			s.exclude[name] = true
		}
	}
	s.ctx, s.cancel = context.WithCancel(e.life)
	s.heard.Store(s.opened.UnixNano())
	// A random first ping, so that those who came together are not pinged together.
	s.pinged.Store(s.opened.Add(-rand.N(e.cfg.PingInterval)).UnixNano())
	return s
}

func flag(v string) bool { return v == "1" || v == "true" }

func validText(b []byte) bool { return utf8.Valid(b) }

// User returns whose session it is.
func (s *Session) User() protocol.UserID { return s.id.User }

// Identity returns who the client is.
func (s *Session) Identity() protocol.Identity { return s.id }

// run is the session's life: it reads until the socket ends.
func (s *Session) run() {
	e := s.edge
	attached, booting := false, true
	defer func() {
		if r := recover(); r != nil { // A fault of ours ends this session, not the node.
			e.metrics.panics.Inc()
			e.log.Error("session panicked", "panic", r, "stack", string(debug.Stack()))
		}
		s.finish(attached)
		if booting {
			<-e.handshakes
			e.metrics.handshakes.Dec()
		}
	}()
	e.metrics.handshakes.Inc()
	s.listen()
	refused := s.identify() // before others can see the session, who look at its identity
	if !s.register() {
		return
	}
	outcome, err := s.welcome(refused, &attached)
	e.metrics.opened.WithLabelValues(outcome).Inc()
	booting = false
	<-e.handshakes
	e.metrics.handshakes.Dec()
	if err != nil {
		e.log.Debug("session refused", "outcome", outcome, "err", err)
	}
	s.release()
	s.readLoop()
}

// register puts the session on the node's list; false if the node has stopped.
func (s *Session) register() bool {
	s.edge.mu.Lock()
	defer s.edge.mu.Unlock()
	if s.edge.stopped {
		return false
	}
	s.edge.sessions[s] = struct{}{}
	s.edge.metrics.connections.Inc()
	return true
}

// listen lets control frames count as signs of life. The library must not write: our writer would write in between.
func (s *Session) listen() {
	s.conn.SetReadLimit(protocol.MaxFrame)
	s.conn.SetPongHandler(func(string) error { s.alive(); return nil })
	s.conn.SetPingHandler(func(data string) error {
		s.alive()
		s.put(wire(0xA, []byte(data)), protocol.ClassControl)
		return nil
	})
	s.conn.SetCloseHandler(func(code int, _ string) error {
		s.end(protocol.CloseCode(code), nil, false)
		return nil
	})
}

func (s *Session) alive() { s.heard.Store(s.edge.now().UnixNano()) }

// identify finds out who the client is, unless its ticket said so.
func (s *Session) identify() error {
	if s.opening.expired || s.id.User != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.edge.cfg.CallTimeout)
	defer cancel()
	id, err := s.edge.doors.Queries.Identify(ctx, s.opening.token)
	s.id = id
	return err
}

// welcome says hello, attaches the session and boots it, or tells it why not. What it sends stands before every event.
func (s *Session) welcome(refused error, attached *bool) (outcome string, err error) {
	e := s.edge
	if s.opening.expired {
		s.say(protocol.ErrorFrame{Type: protocol.FrameError, Error: protocol.SocketError{Code: protocol.SocketErrURLExpired, Msg: "Socket URL has expired"}})
		s.Close(protocol.CloseBadTicket, 0)
		return "bad_ticket", nil
	}
	if refused != nil {
		return s.refuse(refused)
	}
	ctx, cancel := context.WithTimeout(s.ctx, e.cfg.CallTimeout)
	defer cancel()
	s.say(protocol.Hello{
		Type: protocol.FrameHello, Start: true, Region: e.cfg.Region, HostID: e.hostID,
		Reconnect: protocol.Reconnect{
			MinMS: int(e.cfg.ReconnectMin.Milliseconds()), MaxMS: int(e.cfg.ReconnectMax.Milliseconds()), StableMS: int(e.cfg.ReconnectStable.Milliseconds()), Jitter: "full",
		},
	})
	s.flushHeld()
	if err := e.doors.Hub.Attach(ctx, s, s.id); err != nil {
		return s.refuse(err)
	}
	*attached = true
	if s.thin && flag(s.opening.params["boot"]) {
		boot, counts, err := e.doors.Queries.Boot(ctx, s.id, flag(s.opening.params["lazy_channels"]))
		if err != nil {
			return s.refuse(err)
		}
		s.sayFirst(typed(protocol.FrameBoot, boot), typed(protocol.FrameCounts, counts))
	}
	return "ok", nil
}

// typed puts a type in front of a body.
func typed(name string, body []byte) []byte {
	return protocol.AppendFields(nil, []byte(`{"type":"`+name+`"}`), body)
}

// refuse tells the client why it cannot stay.
func (s *Session) refuse(err error) (string, error) {
	pe := protocol.AsError(err)
	frame := protocol.ErrorFrame{Type: protocol.FrameError, Error: protocol.SocketError{Code: protocol.SocketErrMessage, Msg: string(pe.Code)}}
	code, outcome := protocol.CloseOverloaded, "unavailable"
	switch pe.Code {
	case protocol.CodeTokenExpired:
		code, outcome = protocol.CloseTokenExpired, "bad_token"
	case protocol.CodeTokenRevoked, protocol.CodeInvalidAuth, protocol.CodeNotAuthed:
		code, outcome = protocol.CloseTokenRevoked, "bad_token"
	case protocol.CodeAccountInactive:
		code, outcome = protocol.CloseInactive, "bad_token"
	}
	wait := time.Duration(0)
	if outcome == "unavailable" {
		wait = max(pe.Retry, s.edge.comeBack())
		frame.Error.RetryAfter = seconds(wait)
	}
	s.say(frame)
	s.Close(code, wait)
	return outcome, err
}

// readLoop handles frames until the socket ends.
func (s *Session) readLoop() {
	for {
		kind, body, err := s.conn.ReadMessage()
		if err != nil {
			return
		}
		s.alive()
		if kind != websocket.TextMessage {
			s.Close(protocol.CloseUnsupported, 0)
			continue // until the client's close frame, or the deadline
		}
		s.step(body)
	}
}

// finish ends what the session began.
func (s *Session) finish(attached bool) {
	e := s.edge
	if attached {
		e.doors.Hub.Detach(s)
	}
	s.cancel()
	s.mu.Lock()
	s.gone = true
	s.ending = true
	code, server := s.code, s.server
	s.mu.Unlock()
	s.work.Wait()
	s.linger()
	s.conn.Close() //nolint:errcheck // Whatever it says, the socket is over.
	e.mu.Lock()
	_, there := e.sessions[s]
	delete(e.sessions, s)
	e.mu.Unlock()
	if !there {
		return
	}
	e.metrics.connections.Dec()
	initiator := "client"
	if server {
		initiator = "server"
	}
	e.metrics.closed.WithLabelValues(code.String(), initiator).Inc()
	e.metrics.duration.Observe(e.now().Sub(s.opened).Seconds())
}

// linger reads what the client still sends, for a moment: closing a socket with unread bytes resets it, and the client
// would never see our close frame.
func (s *Session) linger() {
	const most = 256 << 10                                        // a few frames that were too large
	s.raw.SetReadDeadline(time.Now().Add(300 * time.Millisecond)) //nolint:errcheck // The read says it.
	io.CopyN(io.Discard, s.raw, most)                             //nolint:errcheck // Any end will do.
}

// check is called by the keeper every second or so.
func (s *Session) check(now time.Time) {
	cfg := &s.edge.cfg
	if now.Sub(time.Unix(0, s.heard.Load())) > cfg.PingInterval+cfg.PongWait {
		s.Close(protocol.ClosePingTimeout, 0)
		return
	}
	if now.Sub(time.Unix(0, s.pinged.Load())) >= cfg.PingInterval {
		s.pinged.Store(now.UnixNano())
		s.put(wire(0x9, nil), protocol.ClassControl)
	}
	if s.id.Expires > 0 && now.Unix() >= s.id.Expires {
		s.Close(protocol.CloseTokenExpired, 0)
	}
	s.forgetAsked(now)
}
