package edge

import (
	"context"
	"fmt"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"flannel/edge/poll"
	"flannel/protocol"
)

const (
	// closeWait is how long a client has to answer a close frame.
	closeWait = 2 * time.Second
)

// Session is one client socket.
//
// There are many, most of them idle, and an event visits thousands one after the other: so what a delivery looks at stands
// together, and what few sessions need hangs on a pointer.
type Session struct {
	// Static after newSession, but id and self, which run sets before anybody else can see the session.
	edge      *Edge
	exclude   map[string]bool   // event types the client does not want
	continued protocol.Position // up to where the session was served before it came back; 0 if it begins
	self      uint32            // hash of the user's id
	thin      bool
	batch     bool  // presence for several users in one frame
	quiet     bool  // no_query_on_subscribe: presence_sub is not answered
	window    uint8 // of the client's inflater, in bits; 0 if nothing is compressed

	// replayed is Resumed.Told, nil if that is empty.
	replayed atomic.Pointer[map[protocol.Topic]protocol.Seq]
	view     atomic.Pointer[view] // what is on a thin client's screen; nil: everything
	given    given                // the objects that a thin client was given lately
	asking   atomic.Int32         // queries whose answer is not written; at most SessionQueries; mu is held when it changes

	// mu guards what follows. It is never held across I/O.
	mu       sync.Mutex
	held     bool // events wait until the boot is in the outbox
	parked   bool // there is no readLoop, but the reactor
	stalled  bool // the reader waits for a place for a query
	corked   bool // frames wait until the reader is done
	writing  bool // somebody writes, or is about to
	timed    bool // writes have a deadline
	ending   bool // a close frame is the outbox's last: nothing is added any more
	gone     bool // run is over: no goroutine is started any more
	server   bool // we closed
	canceled bool // no context of the session is good any more
	asked    bool // for a new token in place of the present one
	renews   bool // a new token is being looked at
	code     protocol.CloseCode
	out      outbox
	early    outbox // events while held
	socket   poll.Socket
	roomy    chan struct{} // tells readLoop of a place for a query; capacity 1; never closed
	call     *call         // what is under way; nil while nothing is
	pending  *[]func()     // messages on their way to the backend, in order; nil while there are none
	badges   *badges       // nil if nothing ever moved out of view
	// presence is what the session knows of those whom it follows; nil if it never followed anybody.
	presence *presence
	renewed  *credential // in place of token and id's; nil until the client sent one

	// Static too.
	number uint32 // of all sessions of the node; it begins anew after four billion
	opened tick
	raw    net.Conn
	direct syscall.RawConn    // of raw; nil if the socket has to have a goroutine
	id     *protocol.Identity // nobody, until run knows who it is
	token  string

	// reading is held while frames are handled, by whoever reads. It is taken before mu. It guards what follows, but that
	// readLoop's sessions have one reader who needs no lock.
	reading  sync.Mutex
	half     *half // what is read in part; nil while nothing is
	pen      *pen  // while corked
	frames   pace
	messages pace
	typed    int64 // when typing was last passed on, in Unix nanoseconds
	done     bool  // finish has been called, or is about to be

	// Owned by run, and then by finish.
	booting    bool // holds a place among the handshakes
	registered bool
	attached   bool

	detached   bool          // guarded by following
	rewatching atomic.Bool   // Rewatch is on its way
	heard      atomic.Uint32 // the tick of the last frame

	work sync.WaitGroup // writing, and the goroutines of queries and messages

	seat seat // in the wheel, which guards it

	// telling is held while badges are told, and taken before mu.
	telling sync.Mutex

	// following guards detached. It is held while the hub is told whom the session follows, so that the last list wins,
	// and none comes after Detach. It is taken before mu.
	following sync.Mutex
}

// nobody is who a session's client is until that is known.
var nobody = new(protocol.Identity)

// newSession takes conn over, of which the client has sent rest already.
func newSession(e *Edge, conn net.Conn, rest []byte, o *opening) *Session {
	s := &Session{
		edge: e, raw: conn, id: nobody, token: o.token, opened: e.tickAt(o.began), held: true, window: o.window,
		thin: o.params["flannel"] == protocol.ThinVersion, batch: flag(o.params["batch_presence_aware"]), quiet: flag(o.params["no_query_on_subscribe"]),
	}
	if s.thin {
		if o.from = o.resumeFrom(); o.from != nil {
			s.continued = o.from.Position
		}
		s.view.Store(o.openView())
	}
	for name := range strings.SplitSeq(o.params["exclude_events"], ",") {
		if name != "" {
			if s.exclude == nil {
				s.exclude = make(map[string]bool)
			}
			s.exclude[name] = true
		}
	}
	if len(rest) > 0 {
		s.halfway().rest = rest
	}
	s.number = e.opened.Add(1)
	s.direct = e.direct(conn)
	s.alive(o.began)
	return s
}

func flag(v string) bool { return v == "1" || v == "true" }

// User returns whose session it is.
func (s *Session) User() protocol.UserID { return s.id.User }

// Identity returns who the client is.
func (s *Session) Identity() protocol.Identity { return *s.id }

// run is the session's life: it opens, and then reads until the socket ends, or leaves that to the reactor.
func (s *Session) run(o *opening) {
	var ended error
	parked := false
	defer func() {
		if !parked {
			s.finish(ended)
		}
	}()
	defer s.guard()
	ctx, leave := s.context()
	defer leave()
	s.edge.storm.opened(o.began) // Not when it is done: a storm makes that late.
	s.open(ctx, o)
	if parked = s.park(); parked {
		s.goOn()
		return
	}
	ended = s.readLoop(ctx)
}

// open begins the session. All that it says then, the answer to the handshake and the boot too, makes one write as a rule.
func (s *Session) open(ctx context.Context, o *opening) {
	if s.direct != nil {
		s.cork()
		late := time.AfterFunc(answerWait, func() { s.answerNow(o) })
		defer func() {
			late.Stop()
			s.mu.Lock()
			s.pen.buf = append(s.pen.buf, o.answer...)
			o.answer = nil
			s.mu.Unlock()
			s.uncork()
		}()
	} else {
		s.raw.SetWriteDeadline(time.Now().Add(s.edge.cfg.WriteTimeout)) //nolint:errcheck // The write says it.
		s.timed = true
		s.raw.Write(o.answer) //nolint:errcheck // The reader says it.
		o.answer = nil
	}
	outcome, err := s.begin(ctx, o)
	if s.booting {
		s.edge.metrics.handshakeTime.Observe(s.edge.now().Sub(o.began).Seconds())
	}
	s.booted()
	s.edge.metrics.opened.WithLabelValues(outcome).Inc()
	if err != nil {
		s.edge.log.Debug("session refused", "outcome", outcome, "err", err)
	}
	s.release()
}

// answerWait is how long the answer to the handshake waits for the first frames. A node that knows the user has them in a tenth
// of a millisecond; one that has to ask the backend does not keep the client in doubt meanwhile.
const answerWait = 50 * time.Millisecond

// answerNow writes the answer to the handshake, if it is not out. mu is held, so that it comes before everything else; the socket
// is new, so there is room, and the write does not wait.
func (s *Session) answerNow(o *opening) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(o.answer) > 0 && !s.gone {
		s.raw.Write(o.answer) //nolint:errcheck // The reader says it.
	}
	o.answer = nil
}

// guard ends the session after a fault of ours, and keeps the node. It is deferred by each of the session's goroutines.
func (s *Session) guard() {
	if r := recover(); r != nil {
		s.faulted(r)
		s.Close(protocol.CloseReconnect, s.edge.comeBack())
		s.hangUp(closeWait)
	}
}

// faulted counts and tells a fault of ours.
func (s *Session) faulted(r any) {
	s.edge.metrics.panics.Inc()
	s.edge.log.Error("session panicked", "err", fmt.Sprint(r), "stack", string(debug.Stack()))
}

// begin brings the session to where it hears events, or tells the client why not. outcome is the label of
// flannel_connections_opened_total.
func (s *Session) begin(ctx context.Context, o *opening) (outcome string, err error) {
	e := s.edge
	if o.expired {
		s.say(protocol.ErrorFrame{Type: protocol.FrameError, Error: protocol.SocketError{Code: protocol.SocketErrURLExpired, Msg: "Socket URL has expired"}})
		s.Close(protocol.CloseBadTicket, 0)
		return "bad_ticket", nil
	}
	if !e.admission.handshakes.take() {
		return s.turnAway(stageHandshakes, becauseFull)
	}
	s.booting = true
	e.metrics.handshakes.Inc()
	// Before others can see the session, who look at its identity. A ticket may be older than the end of its token.
	ctx, cancel := context.WithTimeout(ctx, e.cfg.CallTimeout)
	defer cancel()
	if err := s.identify(ctx); err != nil {
		return s.refuse(err)
	}
	if reason := s.register(); reason != "" {
		return s.turnAway(stageSessions, reason)
	}
	// Again, now that a revocation finds the session: one that came in between did not.
	if err := s.identify(ctx); err != nil {
		return s.refuse(err)
	}
	return s.welcome(ctx, o)
}

// booted gives the place among the handshakes back.
func (s *Session) booted() {
	if !s.booting {
		return
	}
	s.booting = false
	s.edge.admission.handshakes.giveBack()
	s.edge.metrics.handshakes.Dec()
}

// register puts the session on the node's list, or tells why there is no room for it.
func (s *Session) register() (reason string) {
	e := s.edge
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.stopped, e.refusing.Load():
		return becauseDraining
	case e.sessions.len() >= int(e.admission.sessions.Load()):
		return becauseFull
	}
	at := e.now()
	now := e.tickAt(at)
	e.sessions.add(s, s.dueAfter(now, at))
	e.metrics.connections.Inc()
	if s.window > 0 {
		e.metrics.compressing.Inc()
	}
	s.registered = true
	return ""
}

// turnAway is for a session that found no room after its upgrade.
func (s *Session) turnAway(stage, reason string) (string, error) {
	s.edge.metrics.rejected.WithLabelValues(stage, reason).Inc()
	s.Close(closeFor(reason), s.edge.comeBack())
	return "overloaded", nil
}

// alive notes that the client has been heard of.
func (s *Session) alive(now time.Time) { s.heard.Store(uint32(s.edge.tickAt(now))) }

// paced counts a frame, and ends a session that sends too many.
func (s *Session) paced(now time.Time) bool {
	if s.frames.allow(now.UnixNano(), s.edge.cfg.FrameRate, s.edge.cfg.FrameBurst) {
		return true
	}
	s.edge.metrics.rejected.WithLabelValues("frames", "rate").Inc()
	s.Close(protocol.CloseTooFast, s.edge.comeBack())
	return false
}

// identify finds out who the client is. Since a ticket was given for it its token may have died, and its role may have
// changed. That is known here without asking the backend, or the backend is asked; if nobody can tell, the client has to
// come again.
func (s *Session) identify(ctx context.Context) error {
	id, err := s.edge.doors.Queries.Identify(ctx, s.token)
	switch {
	case err == nil && !s.registered:
		s.id, s.self = id, hashID(id.User)
		return nil
	case err == nil && id.Role.Full() != s.id.Role.Full():
		// Others see the session, and its identity, by now. Whoever told them of the change did not find it yet.
		return &protocol.Error{Code: protocol.CodeUnavailable, Message: "your role has just changed"}
	default:
		return err
	}
}

// welcome attaches the session, says hello, what it missed, and the boot. All of that stands before every live event.
func (s *Session) welcome(ctx context.Context, o *opening) (outcome string, err error) {
	e := s.edge
	resumed, err := e.doors.Hub.Attach(ctx, s, *s.id, o.from)
	if s.attached = err == nil; s.attached {
		// Once more, now that the hub tells the session of a reset, which may hide a revocation: one before did not.
		err = s.identify(ctx)
	}
	if len(resumed.Told) > 0 {
		s.replayed.Store(&resumed.Told)
	}
	past, count := s.past(resumed.Events)
	s.hello(resumed, count)
	if err != nil {
		return s.refuse(err)
	}
	for _, it := range past {
		s.putFree(item{frame: it.frame, class: it.class})
	}
	if s.thin && flag(o.params["boot"]) {
		err := e.doors.Queries.Boot(ctx, *s.id, flag(o.params["lazy_channels"]), func(boot, counts []byte) {
			s.sayBoot(protocol.FrameBoot, boot)
			s.sayBoot(protocol.FrameCounts, counts)
		})
		if err != nil {
			return s.refuse(err)
		}
	}
	return "ok", nil
}

// hello is the first frame, always.
func (s *Session) hello(r Resumed, count int) {
	e := s.edge
	hello := protocol.Hello{
		Type: protocol.FrameHello, Start: true, Region: e.cfg.Region, HostID: e.hostID,
		Reconnect: protocol.Reconnect{
			MinMS: int(e.cfg.ReconnectMin.Milliseconds()), MaxMS: int(e.cfg.ReconnectMax.Milliseconds()), StableMS: int(e.cfg.ReconnectStable.Milliseconds()), Jitter: "full",
		},
	}
	if s.thin {
		hello.ResumeToken, hello.Resume, hello.Count, hello.Refetch = r.Token, r.Mode, count, r.Refetch
		hello.FastReconnect = r.Mode == protocol.ResumeReplayed || r.Mode == protocol.ResumeLossless
		if r.Mode != "" {
			e.metrics.resumes.WithLabelValues(r.Mode).Inc()
			e.metrics.replayed.Observe(float64(count))
		}
	}
	s.say(hello)
}

// refuse tells the client why it cannot stay.
func (s *Session) refuse(err error) (string, error) {
	if s.over() { // Closed while it began; that is why it failed.
		return "failed", err
	}
	pe := protocol.AsError(err)
	frame := protocol.ErrorFrame{Type: protocol.FrameError, Error: protocol.SocketError{Code: protocol.SocketErrMessage, Msg: string(pe.Code)}}
	code, outcome, wait := protocol.CloseOverloaded, "unavailable", time.Duration(0)
	switch pe.Code {
	case protocol.CodeTokenExpired:
		code, outcome = protocol.CloseTokenExpired, "bad_token"
	case protocol.CodeTokenRevoked, protocol.CodeInvalidAuth, protocol.CodeNotAuthed:
		code, outcome = protocol.CloseTokenRevoked, "bad_token"
	case protocol.CodeAccountInactive:
		code, outcome = protocol.CloseInactive, "bad_token"
	case protocol.CodeInternal:
		outcome = "failed"
		s.edge.log.Error("session could not begin", "err", err)
		fallthrough
	default:
		wait = max(pe.Retry, s.edge.comeBack())
		frame.Error.RetryAfter = seconds(wait)
	}
	s.say(frame)
	s.Close(code, wait)
	return outcome, err
}

// over reports whether a close frame has been sent or is on its way.
func (s *Session) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending
}
