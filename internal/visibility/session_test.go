package visibility

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"flannel/protocol"
)

// mode is how a session listens.
type mode int

const (
	compatible mode = iota // whole events, from rtm.connect
	thin                   // objects just in time, resumable
	viewing                // thin, with one channel in view: the others come as badges
)

func (m mode) String() string { return [...]string{"compatible", "thin", "thin with a view"}[m] }

// session is one socket of somebody. What comes is kept on the tape.
type session struct {
	w     *world
	a     *account
	node  *edge
	mode  mode
	token string // the name of its token
	conn  *websocket.Conn
	asked string // ids that the client has named in the address

	hello   chan struct{} // closed when hello has come, or never will
	ended   chan struct{} // closed when the socket is
	read    sync.WaitGroup
	helloed atomic.Bool
	// first is the record of hello: its stamp is where the store stood when the session had begun.
	first *record
	// heard is the judge's.
	heard *hearing
	// before is the session that this one goes on from.
	before *session

	mu sync.Mutex
	// from is what the node knew when it made what comes now, at least: what it had told before the last ping that has
	// been answered.
	from  protocol.Position
	pings map[int]protocol.Position
	last  int
	pong  chan int // the last answered, capacity 1: only the newest counts
	// resume is the last token, code how the server closed, hi what hello said.
	resume string
	code   int
	hi     protocol.Hello
	// replies has the answers to queries that somebody waits for.
	replies map[int]*question
	// presence has whose presence has come since the last presence_query.
	presence map[protocol.UserID]bool
}

// question is a query whose answer somebody waits for.
type question struct {
	access, method, asked string
	answer                chan reply
}

// open opens a socket for somebody at a node, going on from before if that is not nil. It returns nil if the account is
// not let in.
func (w *world) open(n *edge, a *account, m mode, before *session, params url.Values) *session {
	if m == compatible {
		answer := w.ask(n, a, rowOther, "rtm.connect", nil)
		if !answer.ok() {
			return nil
		}
		return w.dial(n, a, m, nil, answer.text("url"))
	}
	tok, _ := a.credentials()
	q := url.Values{"token": {tok}, "flannel": {"3"}, "batch_presence_aware": {"1"}}
	if m == viewing {
		q.Set("view", "C0AGEN")
	}
	maps.Copy(q, params)
	if before != nil {
		before.mu.Lock()
		q.Set("resume", before.resume)
		before.mu.Unlock()
	}
	return w.dial(n, a, m, before, "ws://"+n.node.Addr()+"/?"+q.Encode())
}

// dial opens a socket at an address.
func (w *world) dial(n *edge, a *account, m mode, before *session, address string) *session {
	_, name := a.credentials()
	s := &session{
		w: w, a: a, node: n, mode: m, token: name, from: n.known(), pings: make(map[int]protocol.Position), pong: make(chan int, 1),
		hello: make(chan struct{}), ended: make(chan struct{}), replies: make(map[int]*question), before: before,
	}
	if u, err := url.Parse(address); err == nil {
		s.asked = u.Query().Get("view")
	}
	conn, resp, err := websocket.DefaultDialer.Dial(address, nil)
	if err != nil {
		w.t.Errorf("%s dials: %v (%v)", a.id, err, resp)
		return nil
	}
	s.conn = conn
	s.read.Go(s.readAll)
	<-s.hello
	if !s.helloed.Load() {
		s.close()
		return nil
	}
	return s
}

// readAll keeps what comes until the socket ends.
func (s *session) readAll() {
	defer close(s.ended)
	defer s.unblock()
	for {
		_, body, err := s.conn.ReadMessage()
		if err != nil {
			if ce, ok := err.(*websocket.CloseError); ok { //nolint:errorlint // ReadMessage returns it bare.
				s.mu.Lock()
				s.code = ce.Code
				s.mu.Unlock()
			}
			return
		}
		s.frame(body)
	}
}

func (s *session) unblock() {
	if !s.helloed.Load() {
		close(s.hello)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.replies) // Who waits sees the end of the session.
}

// frame keeps one frame, and notes what it says to the client itself.
func (s *session) frame(body []byte) {
	var head struct {
		Type    string `json:"type"`
		ReplyTo int    `json:"reply_to"`
		Resume  string `json:"resume_token"`
		User    any    `json:"user"`
		Users   []any  `json:"users"`
	}
	if err := json.Unmarshal(body, &head); err != nil {
		s.w.t.Errorf("%s gets %.200q: %v", s.a.id, body, err)
		return
	}
	s.mu.Lock()
	r := &record{who: s.a, token: s.token, access: rowDelivery, what: head.Type, asked: s.asked, body: body, from: s.from, session: s}
	if head.Resume != "" {
		s.resume = head.Resume
	}
	if head.Type == protocol.FramePong {
		if p, ok := s.pings[head.ReplyTo]; ok {
			s.from = max(s.from, p)
			delete(s.pings, head.ReplyTo)
		}
		select {
		case <-s.pong:
		default:
		}
		s.pong <- head.ReplyTo
	}
	if head.Type == protocol.FramePresenceChange {
		for _, u := range append(head.Users, head.User) {
			if id, ok := u.(string); ok && s.presence != nil {
				s.presence[protocol.UserID(id)] = true
			}
		}
	}
	var q *question
	if q = s.replies[head.ReplyTo]; q != nil && head.Type == "" {
		delete(s.replies, head.ReplyTo)
		r.access, r.what, r.asked = q.access, q.method, q.asked
	}
	if head.Type == protocol.FrameHello {
		s.first = r
		if err := json.Unmarshal(body, &s.hi); err != nil {
			s.w.t.Errorf("hello is %.200q: %v", body, err)
		}
	}
	s.mu.Unlock()
	s.w.tape.came(r)
	if q != nil && head.Type == "" {
		var answer reply
		if err := json.Unmarshal(body, &answer); err != nil {
			s.w.t.Error(err)
		}
		q.answer <- answer
	}
	if head.Type == protocol.FrameHello && s.helloed.CompareAndSwap(false, true) {
		close(s.hello)
	}
}

// say sends a frame. A socket that is over says nothing.
func (s *session) say(f any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sayLocked(f)
}

func (s *session) sayLocked(f any) {
	s.conn.SetWriteDeadline(time.Now().Add(patience))
	s.conn.WriteMessage(websocket.TextMessage, protocol.MustMarshal(f)) // If it fails, the reader notices.
}

// ping raises what the session is known to know, once it is answered. It returns the ping's number.
func (s *session) ping() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	s.pings[s.last] = s.node.known()
	s.sayLocked(args{"type": "ping", "id": s.last})
	return s.last
}

// sync waits until everything that the node had for the session has come. It reports whether the socket is still open.
func (s *session) sync() bool {
	id := s.ping()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		select {
		case n := <-s.pong:
			if n >= id {
				return true
			}
		case <-s.ended:
			return false
		case <-limit.C:
			s.w.t.Errorf("%s: no pong within %v", s, patience)
			return false
		}
	}
}

// query asks over the socket. The answer is judged as a frame; nil if the socket ended.
func (s *session) query(access, method string, in args) reply {
	q := &question{access: access, method: method, asked: string(protocol.MustMarshal(in)), answer: make(chan reply, 1)}
	s.mu.Lock()
	s.last++
	id := s.last
	s.replies[id] = q
	s.sayLocked(args{"type": "query", "id": id, "method": method, "args": in})
	s.mu.Unlock()
	select {
	case r := <-q.answer:
		return r
	case <-s.ended:
		return nil
	}
}

// askPresence asks for everybody's presence and waits until that of users has come. It returns those of whom it has not.
func (s *session) askPresence(users []string) (missing []string) {
	s.mu.Lock()
	s.presence = make(map[protocol.UserID]bool)
	s.sayLocked(args{"type": "presence_query", "ids": s.w.everybody()})
	s.mu.Unlock()
	deadline := time.Now().Add(generous)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		missing = nil
		s.mu.Lock()
		for _, u := range users {
			if !s.presence[protocol.UserID(u)] {
				missing = append(missing, u)
			}
		}
		s.mu.Unlock()
		if len(missing) == 0 || time.Now().After(deadline) {
			return missing
		}
		<-tick.C
	}
}

// close ends the socket from the client's side, without a word, as a lost network does.
func (s *session) close() {
	s.conn.Close()
	s.read.Wait()
}

// closed returns the code with which the server has closed, 0 if it has not.
func (s *session) closed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.code
}

func (s *session) String() string { return fmt.Sprintf("%s session of %s", s.mode, s.a.id) }

// mustOpen is open for a test that cannot go on without.
func mustOpen(t *testing.T, w *world, n *edge, a *account, m mode, before *session, params url.Values) *session {
	t.Helper()
	s := w.open(n, a, m, before, params)
	if s == nil {
		t.Fatalf("%s is not let in", a.id)
	}
	t.Cleanup(s.close)
	return s
}
