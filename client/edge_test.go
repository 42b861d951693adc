package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/fasthttp/websocket"

	"flannel/client"
	"flannel/protocol"
)

// edge is an edge as small as it can be: one user's topics with their log, a few users, and what tests let happen to it.
type edge struct {
	server *http.Server
	dial   func(ctx context.Context, network, address string) (net.Conn, error) // nil on real sockets
	url    string
	served chan struct{}
	work   sync.WaitGroup

	mu       sync.Mutex
	position protocol.Position
	seqs     map[protocol.Topic]protocol.Seq
	log      []logged
	gone     map[protocol.Topic]protocol.Position // what is at or below it is not replayed
	users    map[protocol.UserID]protocol.User
	posted   map[string]protocol.TS // by client_msg_id
	posts    []string               // texts, each once
	sessions map[*session]bool
	opened   []string // queries of the sockets' addresses
	bearers  []string // and their tokens
	offers   []string // and the extensions that they were opened with
	asked    []string // edge queries
	tokens   map[string]bool

	// What tests set.
	refuse    func() (status int, header http.Header) // of an opening; status 0 lets it pass
	onMessage func(s *session, f protocol.MessageFrame) (answer bool)
	onQuery   func(s *session, id json.RawMessage, method string) (answer bool)
	noResume  bool
	mute      bool // takes frames and says nothing
	policy    protocol.Reconnect
}

// logged is an event that was published.
type logged struct {
	topic    protocol.Topic
	seq      protocol.Seq
	position protocol.Position
	body     []byte
}

type session struct {
	e    *edge
	ws   *websocket.Conn
	out  chan []byte
	done chan struct{}
	once sync.Once
	// Frames that the client has sent, by type.
	mu     sync.Mutex
	frames map[string][]string
}

// newEdge serves until close.
func newEdge(l net.Listener) *edge {
	e := &edge{
		seqs: make(map[protocol.Topic]protocol.Seq), gone: make(map[protocol.Topic]protocol.Position), posted: make(map[string]protocol.TS),
		sessions: make(map[*session]bool), tokens: map[string]bool{"xoxp-ana": true}, served: make(chan struct{}), position: 1000,
		policy: protocol.Reconnect{MinMS: 500, MaxMS: 30_000, StableMS: 60_000, Jitter: "full"},
		users: map[protocol.UserID]protocol.User{
			"U1": {ID: "U1", TeamID: "T1", Name: "ana", RealName: "Ana", Updated: 1},
			"U2": {ID: "U2", TeamID: "T1", Name: "bo", RealName: "Bo", Updated: 1},
			"U3": {ID: "U3", TeamID: "T1", Name: "cy", RealName: "Cy", Updated: 1},
		},
	}
	e.url = "http://" + l.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", e.socket)
	mux.HandleFunc("/api/{method}", e.api)
	e.server = &http.Server{Handler: mux}
	go func() {
		defer close(e.served)
		e.server.Serve(l)
	}()
	return e
}

func (e *edge) close() {
	e.mu.Lock()
	for s := range e.sessions {
		s.cut()
	}
	e.mu.Unlock()
	e.server.Close()
	<-e.served
	e.work.Wait()
}

func (e *edge) options() client.Options {
	return client.Options{URL: e.url, Token: "xoxp-ana", DialContext: e.dial}
}

var upgrader = websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024, EnableCompression: true}

func (e *edge) socket(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	e.opened = append(e.opened, r.URL.RawQuery)
	e.offers = append(e.offers, r.Header.Get("Sec-WebSocket-Extensions"))
	e.bearers = append(e.bearers, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	refuse := e.refuse
	e.mu.Unlock()
	if refuse != nil {
		if status, header := refuse(); status != 0 {
			maps.Copy(w.Header(), header)
			http.Error(w, `{"ok":false,"error":"service_unavailable"}`, status)
			return
		}
	}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	s := &session{e: e, ws: ws, out: make(chan []byte, 10_000), done: make(chan struct{}), frames: make(map[string][]string)}
	e.work.Go(s.write)
	q := r.URL.Query()
	e.mu.Lock()
	if !e.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")] {
		s.say(`{"type":"error","error":{"code":5,"msg":"token_revoked"}}`)
		s.closeLocked(protocol.CloseTokenRevoked, protocol.CloseReason{Reason: "token_revoked"})
		e.mu.Unlock()
	} else {
		e.greetLocked(s, q.Get("resume"), q.Get("boot") == "1")
		e.sessions[s] = true
		e.mu.Unlock()
	}
	s.read()
	e.mu.Lock()
	delete(e.sessions, s)
	e.mu.Unlock()
}

func (e *edge) tokenLocked() string {
	if e.noResume {
		return ""
	}
	return protocol.ResumeToken{User: "U1", Position: e.position}.String()
}

func (e *edge) greetLocked(s *session, resume string, boot bool) {
	hello := protocol.Hello{Type: "hello", Reconnect: e.policy, ResumeToken: e.tokenLocked()}
	var replay []logged
	if resume != "" && !e.noResume {
		token, err := protocol.ParseResumeToken(resume)
		if err != nil || token.User != "U1" {
			hello.Resume, hello.Refetch = protocol.ResumeResync, []string{protocol.RefetchAll}
		} else {
			hello.ResumeToken = resume
			for _, ev := range e.log {
				switch {
				case ev.position <= token.Position:
				case ev.position <= e.gone[ev.topic]:
					if !slices.Contains(hello.Refetch, string(ev.topic)) {
						hello.Refetch = append(hello.Refetch, string(ev.topic))
					}
				default:
					replay = append(replay, ev)
				}
			}
			replay = slices.DeleteFunc(replay, func(ev logged) bool { return slices.Contains(hello.Refetch, string(ev.topic)) })
			hello.Count = len(replay)
			switch {
			case len(hello.Refetch) > 0:
				hello.Resume = protocol.ResumeResync
			case len(replay) > 0:
				hello.Resume = protocol.ResumeReplayed
			default:
				hello.Resume = protocol.ResumeLossless
			}
		}
	}
	s.say(string(protocol.MustMarshal(hello)))
	for _, ev := range replay {
		s.say(string(ev.body))
	}
	if boot {
		self := protocol.MustMarshal(e.users["U1"])
		s.say(`{"type":"boot","ok":true,"self":` + string(self) + `,"team":{"id":"T1"},"channels":[{"id":"C1","name":"general","updated":5}],"ims":[],"prefs":{}}`)
		s.say(`{"type":"counts","ok":true,"channels":[{"id":"C1","has_unreads":true,"mention_count":2}]}`)
	}
}

// publish says an event on a topic, to everybody.
func (e *edge) publish(topic protocol.Topic, fields string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.publishLocked(topic, fields)
}

func (e *edge) publishLocked(topic protocol.Topic, fields string) {
	e.position++
	e.seqs[topic]++
	ev := logged{topic: topic, seq: e.seqs[topic], position: e.position}
	ev.body = fmt.Appendf(nil, `{%s,"event_id":"%s:%d"}`, fields, topic, ev.seq)
	e.log = append(e.log, ev)
	for s := range e.sessions {
		s.say(string(ev.body))
	}
}

// say says a frame to everybody that is not remembered.
func (e *edge) say(frame string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.sessions {
		s.say(frame)
	}
}

// with runs fn on the sessions.
func (e *edge) with(fn func(s *session)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.sessions {
		fn(s)
	}
}

func (e *edge) set(fn func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	fn()
}

func (e *edge) closeAll(code protocol.CloseCode, reason protocol.CloseReason) {
	e.with(func(s *session) { s.closeLocked(code, reason) })
}

func (s *session) say(frame string) {
	select {
	case s.out <- []byte(frame):
	default:
		s.cut()
	}
}

func (s *session) closeLocked(code protocol.CloseCode, reason protocol.CloseReason) {
	delete(s.e.sessions, s)
	s.out <- append([]byte{0}, websocket.FormatCloseMessage(int(code), string(protocol.MustMarshal(reason)))...)
}

// cut ends the socket as a dead network does.
func (s *session) cut() {
	s.once.Do(func() {
		close(s.done)
		s.ws.NetConn().Close()
	})
}

func (s *session) write() {
	for {
		select {
		case f := <-s.out:
			kind := websocket.TextMessage
			if len(f) > 0 && f[0] == 0 {
				kind, f = websocket.CloseMessage, f[1:]
			}
			if s.ws.WriteMessage(kind, f) != nil {
				s.cut()
			}
		case <-s.done:
			return
		}
	}
}

func (s *session) read() {
	defer s.cut()
	for {
		_, raw, err := s.ws.ReadMessage()
		if err != nil {
			return
		}
		f, err := protocol.DecodeFrame(raw)
		if err != nil {
			s.say(`{"type":"error","error":{"code":3,"msg":"bad frame"}}`)
			continue
		}
		s.mu.Lock()
		s.frames[f.Type] = append(s.frames[f.Type], string(raw))
		s.mu.Unlock()
		s.step(f)
	}
}

func (s *session) sent(kind string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.frames[kind])
}

func (s *session) step(f protocol.ClientFrame) {
	e := s.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mute {
		return
	}
	switch f.Type {
	case protocol.FramePing:
		pong, _ := protocol.EchoPong(f)
		if !e.noResume {
			pong = protocol.AppendFields(nil, pong, []byte(`{"resume_token":"`+e.tokenLocked()+`"}`))
		}
		s.say(string(pong))
	case protocol.FrameMessage:
		var m protocol.MessageFrame
		json.Unmarshal(f.Raw, &m)
		if e.onMessage == nil || e.onMessage(s, m) {
			s.say(fmt.Sprintf(`{"ok":true,"reply_to":%s,"ts":%q}`, f.ID, e.postLocked(m.Channel, m.Text, m.ClientMsgID)))
		}
	case protocol.FrameRefresh:
		var r protocol.RefreshFrame
		json.Unmarshal(f.Raw, &r)
		if e.tokens[r.Token] {
			s.say(fmt.Sprintf(`{"ok":true,"reply_to":%s,"expires":0}`, f.ID))
		} else {
			s.say(fmt.Sprintf(`{"ok":false,"reply_to":%s,"error":{"code":5,"msg":"token_revoked"}}`, f.ID))
		}
	case protocol.FrameQuery:
		var q protocol.QueryFrame
		json.Unmarshal(f.Raw, &q)
		e.asked = append(e.asked, q.Method+" "+string(q.Args))
		if e.onQuery == nil || e.onQuery(s, f.ID, q.Method) {
			s.say(fmt.Sprintf(`{"reply_to":%s,%s`, f.ID, e.queryLocked(q)[1:]))
		}
	}
}

// postLocked posts each message once.
func (e *edge) postLocked(channel protocol.ChannelID, text, id string) protocol.TS {
	if ts := e.posted[id]; ts != "" {
		return ts
	}
	ts := protocol.TS(fmt.Sprintf("%010d.000000", 1_700_000_000+len(e.posts)))
	e.posted[id] = ts
	e.posts = append(e.posts, text)
	e.publishLocked(protocol.Topic(channel), fmt.Sprintf(`"type":"message","channel":%q,"user":"U1","text":%q,"ts":%q`, channel, text, ts))
	return ts
}

func (e *edge) queryLocked(q protocol.QueryFrame) string {
	if q.Method != "users/info" {
		return `{"ok":false,"error":"unknown_method"}`
	}
	var args struct {
		Updated map[protocol.UserID]protocol.Version `json:"updated_ids"`
	}
	json.Unmarshal(q.Args, &args)
	results, failed := []protocol.User{}, []protocol.UserID{}
	for id, version := range args.Updated {
		u, ok := e.users[id]
		switch {
		case !ok:
			failed = append(failed, id)
		case u.Updated != version:
			results = append(results, u)
		}
	}
	if len(failed) == 0 {
		return string(protocol.MustMarshal(map[string]any{"results": results, "ok": true}))
	}
	return string(protocol.MustMarshal(map[string]any{"results": results, "failed_ids": failed, "ok": true}))
}

func (e *edge) api(w http.ResponseWriter, r *http.Request) {
	r.ParseForm()
	e.mu.Lock()
	defer e.mu.Unlock()
	switch r.PathValue("method") {
	case "chat.postMessage":
		ts := e.postLocked(protocol.ChannelID(r.Form.Get("channel")), r.Form.Get("text"), r.Form.Get("client_msg_id"))
		fmt.Fprintf(w, `{"ok":true,"ts":%q}`, ts)
	case "client.userBoot":
		fmt.Fprintf(w, `{"ok":true,"self":%s,"team":{"id":"T1"}}`, protocol.MustMarshal(e.users["U1"]))
	case "client.counts":
		fmt.Fprint(w, `{"ok":true,"channels":[]}`)
	case "rate.limited":
		w.Header().Set("Retry-After", "7")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"ok":false,"error":"ratelimited"}`)
	default:
		fmt.Fprint(w, `{"ok":false,"error":"unknown_method"}`)
	}
}

// rename changes a user, and tells it in full or only that it is so.
func (e *edge) rename(id protocol.UserID, name string, inFull bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	u := e.users[id]
	u.RealName = name
	u.Updated++
	e.users[id] = u
	if inFull {
		e.publishLocked("T1", `"type":"user_change","user":`+string(protocol.MustMarshal(u)))
		return
	}
	for s := range e.sessions {
		s.say(fmt.Sprintf(`{"type":"user_invalidated","user":{"id":%q}}`, id))
	}
}

// message publishes a message in C1.
func (e *edge) message(text string) {
	e.publish("C1", fmt.Sprintf(`"type":"message","channel":"C1","user":"U2","text":%q,"ts":"1700000000.000001"`, text))
}

func (e *edge) queries() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.asked)
}

func (e *edge) tokensSeen() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.bearers)
}

func (e *edge) addresses() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.opened)
}
