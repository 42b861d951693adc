package rtm

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"unicode/utf8"

	"flannel/backend/chat"
	"flannel/backend/store"
	"flannel/protocol"
)

// handle does what one frame asks. An error ends the session.
func (x *session) handle(raw []byte) error {
	f, err := protocol.DecodeFrame(raw)
	if err != nil {
		e := protocol.AsError(err)
		x.metrics.frame("other")
		if e.Code == protocol.CodeInvalidCharset {
			return &ending{code: protocol.CloseBadUTF8, reason: e.Message}
		}
		x.fail(&f, protocol.SocketErrBadFrame, e.Message)
		return nil
	}
	x.metrics.frame(f.Type)
	switch f.Type {
	case protocol.FrameMessage:
		x.message(&f)
	case protocol.FrameTyping, protocol.FrameUserTyping:
		x.tellTyping(&f)
	case protocol.FramePing:
		pong, err := protocol.EchoPong(f)
		if err != nil {
			x.fail(&f, protocol.SocketErrBadFrame, "the frame is not a JSON object")
			return nil
		}
		x.sub.Push(pong)
	case protocol.FramePresenceSub:
		return x.watch(&f)
	case protocol.FramePresenceQuery:
		return x.tellPresence(&f)
	default:
		x.fail(&f, protocol.SocketErrUnknownType, "unknown type "+string(protocol.AppendString(nil, f.Type)))
	}
	return nil
}

// fail answers a frame with an error frame.
func (x *session) fail(f *protocol.ClientFrame, code int, msg string) {
	x.sub.Push(protocol.MustMarshal(protocol.ErrorFrame{
		Type: protocol.FrameError, ReplyTo: f.ID, Error: protocol.SocketError{Code: code, Msg: msg},
	}))
}

// nack refuses a message.
func (x *session) nack(f *protocol.ClientFrame, code int, msg string) {
	if f.ID == nil {
		x.fail(f, code, msg)
		return
	}
	x.sub.Push(protocol.MustMarshal(protocol.Nack{ReplyTo: f.ID, Error: protocol.SocketError{Code: code, Msg: msg}}))
}

// message posts a message and answers when it is on disk, or says why it is not.
func (x *session) message(f *protocol.ClientFrame) {
	var m protocol.MessageFrame
	switch err := json.Unmarshal(f.Raw, &m); {
	case err != nil:
		x.nack(f, protocol.SocketErrBadFrame, "the message's fields have the wrong types")
		return
	case m.Text == "" && len(m.Blocks) == 0 && len(m.Attachments) == 0:
		x.nack(f, protocol.SocketErrTextMissing, "message text is missing")
		return
	case utf8.RuneCountInString(m.Text) > protocol.MaxText:
		x.nack(f, protocol.SocketErrMessage, string(chat.CodeMsgTooLong))
		return
	case !x.messages.AllowN(x.Now(), 1):
		x.nack(f, protocol.SocketErrTooFast, protocol.TooFastText)
		return
	}
	args := struct {
		Channel        protocol.ChannelID `json:"channel"`
		Text           string             `json:"text"`
		ThreadTS       protocol.TS        `json:"thread_ts,omitempty"`
		ReplyBroadcast bool               `json:"reply_broadcast,omitempty"`
		ClientMsgID    string             `json:"client_msg_id,omitempty"`
		Attachments    json.RawMessage    `json:"attachments,omitempty"`
		Blocks         json.RawMessage    `json:"blocks,omitempty"`
	}(m)
	body, err := protocol.Marshal(args)
	if err != nil {
		x.nack(f, protocol.SocketErrBadFrame, "the message's fields have the wrong types")
		return
	}
	// Not life: a message that is on its way is finished even if the socket goes.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.life), callTimeout)
	defer cancel()
	reply := x.api.Do(ctx, &protocol.Call{
		Method: "chat.postMessage", Token: x.token, ContentType: "application/json", Body: body, Remote: x.remote, Host: x.ticket.host,
	})
	var answer struct {
		OK      bool          `json:"ok"`
		Error   protocol.Code `json:"error"`
		TS      protocol.TS   `json:"ts"`
		Message struct {
			Text string `json:"text"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply.Body, &answer); err != nil {
		x.Log.Error("answer to a message is not JSON", "err", err)
		answer.Error = protocol.CodeInternal
	}
	switch {
	case answer.OK:
		x.sub.Push(protocol.MustMarshal(protocol.Ack{OK: true, ReplyTo: f.ID, TS: answer.TS, Text: answer.Message.Text}))
	case answer.Error == chat.CodeNoText:
		x.nack(f, protocol.SocketErrTextMissing, "message text is missing")
	case answer.Error == protocol.CodeRateLimited:
		x.nack(f, protocol.SocketErrTooFast, protocol.TooFastText)
	default:
		x.nack(f, protocol.SocketErrMessage, string(answer.Error))
	}
}

// tellTyping tells the others in a channel that the user types. There is no answer, whatever happens.
func (x *session) tellTyping(f *protocol.ClientFrame) {
	var t protocol.TypingFrame
	if json.Unmarshal(f.Raw, &t) != nil || !x.sub.Follows(protocol.Topic(t.Channel)) || protocol.KindOf(protocol.ObjectID(t.Channel)) != protocol.KindChannel {
		return
	}
	if !x.typing.AllowN(x.Now(), 1) {
		return
	}
	if !t.ThreadTS.Valid() {
		t.ThreadTS = ""
	}
	user := x.ticket.id.User
	x.Presence.Touch(user)
	x.Hub.Publish(&protocol.Event{
		Topic: protocol.Topic(t.Channel), Type: protocol.FrameUserTyping, Class: protocol.ClassEphemeral, Except: user,
		Refs: []protocol.ObjectID{protocol.ObjectID(user), protocol.ObjectID(t.Channel)},
		Payload: protocol.MustMarshal(struct {
			Type     string             `json:"type"`
			Channel  protocol.ChannelID `json:"channel"`
			User     protocol.UserID    `json:"user"`
			ThreadTS protocol.TS        `json:"thread_ts,omitempty"`
		}{protocol.FrameUserTyping, t.Channel, user, t.ThreadTS}),
	})
}

// watch replaces the list of users whose presence the client wants to know. The state of those who are new to the list
// follows.
func (x *session) watch(f *protocol.ClientFrame) error {
	ids, ok := x.presenceIDs(f)
	if !ok {
		return nil
	}
	var gone []protocol.Topic
	for id := range x.watched {
		if !slices.Contains(ids, id) {
			gone = append(gone, protocol.PresenceTopic(id))
			delete(x.watched, id)
		}
	}
	x.sub.Unsubscribe(gone...)
	ids = slices.DeleteFunc(ids, func(id protocol.UserID) bool { _, ok := x.watched[id]; return ok })
	seen, err := x.visible(ids)
	if err != nil {
		return err
	}
	var topics []protocol.TopicState
	for _, id := range seen {
		x.watched[id] = struct{}{}
		topics = append(topics, protocol.TopicState{Topic: protocol.PresenceTopic(id)})
	}
	return x.sub.Subscribe(x.life, topics)
}

// tellPresence answers with the presence of users.
func (x *session) tellPresence(f *protocol.ClientFrame) error {
	ids, ok := x.presenceIDs(f)
	if !ok {
		return nil
	}
	seen, err := x.visible(ids)
	if err != nil {
		return err
	}
	var p presenceFrames
	for _, id := range seen {
		p.add(id, x.Presence.Status(id).Presence)
	}
	for _, frame := range p.take(x.batch) {
		x.sub.Push(frame)
	}
	return nil
}

// presenceIDs reads a list of users, without repeats. ok is false if the client was told what is wrong with it.
func (x *session) presenceIDs(f *protocol.ClientFrame) (ids []protocol.UserID, ok bool) {
	var p protocol.PresenceFrame
	if err := json.Unmarshal(f.Raw, &p); err != nil {
		x.fail(f, protocol.SocketErrBadFrame, "ids is not a list of users")
		return nil, false
	}
	if len(p.IDs) > protocol.MaxPresenceIDs {
		x.fail(f, protocol.SocketErrBadFrame, "more than 500 ids")
		return nil, false
	}
	slices.Sort(p.IDs)
	return slices.Compact(p.IDs), true
}

// visible returns those of ids that are users whom the client may see.
func (x *session) visible(ids []protocol.UserID) (seen []protocol.UserID, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	id := x.ticket.id
	err = x.Store.View(x.life, func(r store.Reader) error {
		v := chat.NewViewer(r, &id)
		for _, user := range ids {
			switch _, _, err := v.User(user); {
			case err == nil:
				seen = append(seen, user)
			case !errors.Is(err, &protocol.Error{Code: protocol.CodeUserNotFound}):
				return err
			}
		}
		return nil
	})
	return seen, err
}
