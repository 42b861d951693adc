package edge

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"flannel/protocol"
)

// step handles one text frame of the client. It is called from one goroutine at a time, in order, and keeps nothing of raw.
// It reports false, and has done nothing, if the frame has to wait until there is room for a query.
func (s *Session) step(raw []byte) bool {
	switch done, wait := s.quick(raw); {
	case done:
		s.edge.metrics.queries.Inc()
		return true
	case wait:
		return false // Though there may be a place by now: query would take it, and find the answer the long way.
	}
	f, err := protocol.DecodeFrame(raw)
	if err != nil {
		s.edge.metrics.frames.WithLabelValues("bad").Inc()
		pe := protocol.AsError(err)
		switch pe.Code {
		case protocol.CodeInvalidCharset:
			s.Close(protocol.CloseBadUTF8, 0)
		case protocol.CodeTooLarge:
			s.Close(protocol.CloseTooBig, 0)
		default:
			s.fault(f, protocol.SocketErrBadFrame, pe.Message)
		}
		return true
	}
	label := f.Type
	switch f.Type {
	case protocol.FrameMessage:
		s.message(f)
	case protocol.FrameTyping, protocol.FrameUserTyping:
		label = protocol.FrameTyping
		s.typing(f)
	case protocol.FramePing:
		s.ping(f)
	case protocol.FramePresenceSub:
		s.presenceSub(f)
	case protocol.FramePresenceQuery:
		s.presenceQuery(f)
	case protocol.FrameQuery:
		if !s.query(f) {
			return false
		}
	case protocol.FrameView:
		s.setView(f)
	case protocol.FrameRefresh:
		s.refresh(f)
	default:
		label = "other"
		s.fault(f, protocol.SocketErrUnknownType, "unknown type "+string(protocol.AppendString(nil, f.Type)))
	}
	s.edge.metrics.frames.WithLabelValues(label).Inc()
	return true
}

// fault answers a frame that cannot be used; the socket stays.
func (s *Session) fault(f protocol.ClientFrame, code int, msg string) {
	s.say(protocol.ErrorFrame{Type: protocol.FrameError, ReplyTo: f.ID, Error: protocol.SocketError{Code: code, Msg: msg}})
}

// nack refuses a message.
func (s *Session) nack(f protocol.ClientFrame, e protocol.SocketError) {
	if f.ID == nil { // Nobody could tell which message it is about.
		s.say(protocol.ErrorFrame{Type: protocol.FrameError, Error: e})
		return
	}
	s.say(protocol.Nack{ReplyTo: f.ID, Error: e})
}

func (s *Session) ping(f protocol.ClientFrame) {
	pong, err := protocol.EchoPong(f)
	if err != nil {
		s.fault(f, protocol.SocketErrBadFrame, "the ping is not a flat object")
		return
	}
	if s.thin {
		// Read before the pong is put behind what has been delivered. Without one the client keeps the token that it has.
		if token := s.resumeToken(); token != "" {
			pong = protocol.AppendFields(nil, pong, protocol.MustMarshal(map[string]string{"resume_token": token}))
		}
	}
	s.put(wireText(pong), protocol.ClassControl)
}

// message forwards a message. Those of one session go one after the other, so that they keep their order.
func (s *Session) message(f protocol.ClientFrame) {
	var m protocol.MessageFrame
	if err := json.Unmarshal(f.Raw, &m); err != nil {
		s.nack(f, protocol.SocketError{Code: protocol.SocketErrBadFrame, Msg: "a field has the wrong type"})
		return
	}
	switch {
	case m.Text == "" && len(m.Attachments) == 0 && len(m.Blocks) == 0:
		s.nack(f, textMissing)
	case utf8.RuneCountInString(m.Text) > protocol.MaxText:
		s.nack(f, protocol.SocketError{Code: protocol.SocketErrMessage, Msg: "msg_too_long"})
	case !s.messages.allow(s.edge.now().UnixNano(), 1, s.edge.cfg.MessageBurst):
		s.edge.metrics.rejected.WithLabelValues("messages", "rate").Inc()
		s.nack(f, tooFast(0))
	case !s.inOrder(func() { s.post(f, m) }):
		s.edge.metrics.rejected.WithLabelValues("messages", "rate").Inc()
		s.nack(f, tooFast(0))
	}
}

var textMissing = protocol.SocketError{Code: protocol.SocketErrTextMissing, Msg: "message text is missing"}

func tooFast(retryAfter int) protocol.SocketError {
	return protocol.SocketError{Code: protocol.SocketErrTooFast, Msg: protocol.TooFastText, RetryAfter: retryAfter}
}

// inOrder runs fn after those before it, beside the reader. false if too many wait.
func (s *Session) inOrder(fn func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone || s.pending != nil && len(*s.pending) >= max(s.edge.cfg.SessionQueries, s.edge.cfg.MessageBurst) {
		return false
	}
	if s.pending != nil {
		*s.pending = append(*s.pending, fn)
		return true
	}
	s.pending = &[]func(){fn}
	s.work.Add(1)
	go s.drainPending()
	return true
}

func (s *Session) drainPending() {
	defer s.work.Done()
	defer s.guard()
	for {
		s.mu.Lock()
		if len(*s.pending) == 0 || s.gone {
			s.pending = nil
			s.mu.Unlock()
			return
		}
		fn := (*s.pending)[0]
		*s.pending = (*s.pending)[1:]
		s.mu.Unlock()
		fn()
	}
}

// post sends a message to the backend and acknowledges it when the backend did.
func (s *Session) post(f protocol.ClientFrame, m protocol.MessageFrame) {
	ctx, cancel := context.WithTimeout(s.edge.life, s.edge.cfg.CallTimeout)
	defer cancel()
	fields := map[string]any{"channel": m.Channel, "text": m.Text}
	for name, v := range map[string]string{"thread_ts": string(m.ThreadTS), "client_msg_id": m.ClientMsgID} {
		if v != "" {
			fields[name] = v
		}
	}
	if m.ReplyBroadcast {
		fields["reply_broadcast"] = true
	}
	for name, v := range map[string]json.RawMessage{"attachments": m.Attachments, "blocks": m.Blocks} {
		if len(v) > 0 {
			fields[name] = v
		}
	}
	reply, err := s.edge.forward(ctx, "socket", &protocol.Call{
		Method: "chat.postMessage", Token: s.credential().token, ContentType: "application/json", Body: protocol.MustMarshal(fields), Remote: s.raw.RemoteAddr().String(),
	}, s.id.User)
	if err != nil {
		pe := protocol.AsError(err)
		if pe.Code == protocol.CodeInternal {
			s.edge.log.Error("message could not be forwarded", "err", err)
		}
		s.nack(f, protocol.SocketError{Code: protocol.SocketErrMessage, Msg: string(pe.Code), RetryAfter: seconds(pe.Retry)})
		return
	}
	if reply.Stream != nil {
		reply.Stream.Close() //nolint:errcheck // Nobody wants an answer of that size.
	}
	var answer struct {
		OK      bool          `json:"ok"`
		Error   protocol.Code `json:"error"`
		TS      protocol.TS   `json:"ts"`
		Message struct {
			Text string `json:"text"`
		} `json:"message"`
	}
	switch err := json.Unmarshal(reply.Body, &answer); {
	case reply.Status == fasthttp.StatusTooManyRequests:
		s.nack(f, tooFast(reply.RetryAfter))
	case err != nil:
		s.nack(f, protocol.SocketError{Code: protocol.SocketErrMessage, Msg: string(protocol.CodeInternal)})
	case answer.Error == "no_text":
		s.nack(f, textMissing)
	case answer.Error == protocol.CodeRateLimited:
		s.nack(f, tooFast(reply.RetryAfter))
	case !answer.OK:
		s.nack(f, protocol.SocketError{Code: protocol.SocketErrMessage, Msg: string(cmp.Or(answer.Error, protocol.CodeInternal)), RetryAfter: reply.RetryAfter})
	default:
		s.say(protocol.Ack{OK: true, ReplyTo: f.ID, TS: answer.TS, Text: answer.Message.Text})
	}
}

// typingEvery is how often a session's typing is passed on, in the dialect's words at most once per 3 s.
const typingEvery = 3 * time.Second

// typing passes "I am typing" on to those who are in the channel. There is no answer.
func (s *Session) typing(f protocol.ClientFrame) {
	var t protocol.TypingFrame
	if err := json.Unmarshal(f.Raw, &t); err != nil {
		s.fault(f, protocol.SocketErrBadFrame, "a field has the wrong type")
		return
	}
	if !t.ThreadTS.Valid() {
		t.ThreadTS = ""
	}
	now := s.edge.now().UnixNano()
	if now-s.typed < int64(typingEvery) || !s.edge.doors.Queries.Member(s.id.User, t.Channel) {
		return
	}
	s.typed = now
	s.edge.doors.Writer.Publish(&protocol.Event{
		Topic: protocol.Topic(t.Channel), Type: protocol.FrameUserTyping, Class: protocol.ClassEphemeral, Except: s.id.User,
		Refs: []protocol.ObjectID{protocol.ObjectID(s.id.User), protocol.ObjectID(t.Channel)},
		Payload: protocol.MustMarshal(struct {
			Type     string             `json:"type"`
			Channel  protocol.ChannelID `json:"channel"`
			User     protocol.UserID    `json:"user"`
			ThreadTS protocol.TS        `json:"thread_ts,omitempty"`
		}{protocol.FrameUserTyping, t.Channel, s.id.User, t.ThreadTS}),
	})
}

// query answers an edge query, beside the reader; answers may come out of order. It reports false for a session with too
// many under way: it is not read on until one is done.
func (s *Session) query(f protocol.ClientFrame) bool {
	var q protocol.QueryFrame
	if err := json.Unmarshal(f.Raw, &q); err != nil {
		s.fault(f, protocol.SocketErrBadFrame, "a field has the wrong type")
		return true
	}
	if len(q.Args) == 0 {
		q.Args = json.RawMessage("{}")
	}
	if !s.place() {
		return false
	}
	if !s.aside(func() { s.find(f, q) }) {
		s.mu.Lock()
		s.freeLocked(1)
		s.mu.Unlock()
	}
	return true
}

// find answers a query, whose place it holds.
func (s *Session) find(f protocol.ClientFrame, q protocol.QueryFrame) {
	ctx, leave := s.context()
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, s.edge.cfg.CallTimeout)
	defer cancel()
	reply, err := s.edge.doors.Queries.Query(ctx, *s.id, q.Method, q.Args)
	if err != nil {
		reply = s.edge.refusal(err)
	}
	head := []byte("{}")
	if f.ID != nil {
		head = append(append([]byte(`{"reply_to":`), f.ID...), '}')
	}
	if reply.RetryAfter > 0 { // Over HTTP it is a header.
		head = protocol.AppendFields(nil, head, fmt.Appendf(nil, `{"retry_after":%d}`, reply.RetryAfter))
	}
	s.answer(protocol.AppendFields(nil, head, reply.Body))
	if s.thin && err == nil {
		// Now that it is in the outbox: an event that comes in between brings its objects along, rather than too late.
		s.given.answered(q.Args, reply.Body)
	}
}

// aside runs fn in a goroutine of the session. It reports whether it did: not when the session is over.
func (s *Session) aside(fn func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return false
	}
	s.work.Go(func() {
		defer s.guard()
		fn()
	})
	return true
}
