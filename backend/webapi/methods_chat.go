package webapi

import (
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"flannel/backend/chat"
	"flannel/backend/store"
	"flannel/protocol"
)

// notFound tells the client code where the store found nothing.
func notFound(err error, code protocol.Code) error {
	if errors.Is(err, store.ErrNotFound) {
		return &protocol.Error{Code: code}
	}
	return err
}

func postMessage(q *request) ([]byte, protocol.Position, error) {
	posted, at, err := q.Chat.PostMessage(q.ctx, q.id, chat.Post{
		Channel: q.args["channel"], Text: q.args["text"], Thread: q.args["thread_ts"], Broadcast: q.args.Bool("reply_broadcast", false),
		ClientMsgID: q.args["client_msg_id"], Key: q.call.IdempotencyKey, Attachments: rawJSON(q.args, "attachments"), Blocks: rawJSON(q.args, "blocks"),
		Username: q.args["username"],
	})
	if err != nil {
		return nil, 0, err
	}
	a := okAnswer().val("channel", posted.Channel).val("ts", posted.Message.TS).raw("message", chat.EncodeMessage(&posted.Message))
	if posted.Duplicate {
		a.val("is_duplicate", true)
	}
	return a.bytes(), at, nil
}

func updateMessage(q *request) ([]byte, protocol.Position, error) {
	edit := chat.Edit{Channel: q.channel(), TS: q.args["ts"], Attachments: rawJSON(q.args, "attachments"), Blocks: rawJSON(q.args, "blocks")}
	if text, ok := q.args["text"]; ok {
		edit.Text = &text
	}
	m, at, err := q.Chat.UpdateMessage(q.ctx, q.id, edit)
	if err != nil {
		return nil, 0, err
	}
	return okAnswer().val("channel", edit.Channel).val("ts", m.TS).val("text", m.Text).raw("message", chat.EncodeMessage(&m)).bytes(), at, nil
}

func deleteMessage(q *request) ([]byte, protocol.Position, error) {
	at, err := q.Chat.DeleteMessage(q.ctx, q.id, q.channel(), q.args["ts"])
	if err != nil {
		return nil, 0, err
	}
	return okAnswer().val("channel", q.channel()).val("ts", q.args["ts"]).bytes(), at, nil
}

// postEphemeral shows a message to one member, which is never on disk.
func postEphemeral(q *request) ([]byte, error) {
	if q.Publisher == nil {
		return nil, &protocol.Error{Code: protocol.CodeUnavailable, Retry: time.Second}
	}
	text := q.args["text"]
	blocks, attachments := rawJSON(q.args, "blocks"), rawJSON(q.args, "attachments")
	switch {
	case utf8.RuneCountInString(text) > chat.MaxText:
		return nil, &protocol.Error{Code: chat.CodeMsgTooLong}
	case strings.TrimSpace(text) == "" && blocks == nil && attachments == nil:
		return nil, &protocol.Error{Code: chat.CodeNoText}
	case blocks != nil && !isList(blocks):
		return nil, &protocol.Error{Code: chat.CodeInvalidBlocks}
	case attachments != nil && !isList(attachments):
		return nil, &protocol.Error{Code: chat.CodeInvalidAttachments}
	}
	p, err := q.view.Channel(q.channel())
	if err != nil {
		return nil, err
	}
	switch {
	case p.Membership == nil:
		return nil, &protocol.Error{Code: protocol.CodeNotInChannel}
	case p.Channel.IsArchived:
		return nil, &protocol.Error{Code: chat.CodeIsArchived}
	}
	user := protocol.UserID(q.args["user"])
	if protocol.KindOf(protocol.ObjectID(user)) != protocol.KindUser {
		return nil, &protocol.Error{Code: chat.CodeUserNotInChannel}
	}
	if _, err := q.r.Membership(p.Channel.ID, user); err != nil {
		return nil, notFound(err, chat.CodeUserNotInChannel)
	}
	ts := chat.FormatTS(q.Now())
	m := protocol.Message{
		Type: "message", Channel: p.Channel.ID, User: q.id.User, BotID: q.id.Bot, Text: text, TS: ts, Team: q.id.Workspace, Blocks: blocks, Attachments: attachments,
	}
	if t, ok := chat.ParseTS(q.args["thread_ts"]); ok {
		m.ThreadTS = t
	}
	q.Publisher.Publish(&protocol.Event{
		Topic: protocol.Topic(user), Type: m.Type, Class: protocol.ClassEphemeral,
		Refs: []protocol.ObjectID{protocol.ObjectID(q.id.User), protocol.ObjectID(p.Channel.ID)},
		Payload: protocol.AppendFields(nil, protocol.MustMarshal(&m), protocol.MustMarshal(struct {
			IsEphemeral bool        `json:"is_ephemeral"`
			EventTS     protocol.TS `json:"event_ts"`
		}{true, ts})),
	})
	return okAnswer().val("message_ts", ts).bytes(), nil
}

func isList(raw json.RawMessage) bool {
	var list []map[string]json.RawMessage
	return json.Unmarshal(raw, &list) == nil
}

func reactionsAdd(q *request) ([]byte, protocol.Position, error) {
	return doneAt(q.Chat.AddReaction(q.ctx, q.id, q.channel(), q.args["timestamp"], q.args["name"]))
}

func reactionsRemove(q *request) ([]byte, protocol.Position, error) {
	return doneAt(q.Chat.RemoveReaction(q.ctx, q.id, q.channel(), q.args["timestamp"], q.args["name"]))
}

func reactionsGet(q *request) ([]byte, error) {
	if q.args["channel"] == "" && q.args["timestamp"] == "" {
		return nil, &protocol.Error{Code: chat.CodeNoItemSpecified}
	}
	if ts, ok := chat.ParseTS(q.args["timestamp"]); !ok || ts == "" {
		return nil, &protocol.Error{Code: chat.CodeBadTimestamp}
	}
	p, err := q.readable()
	if err != nil {
		return nil, err
	}
	m, err := q.message(q.args["timestamp"], chat.CodeMessageNotFound)
	if err != nil {
		return nil, err
	}
	return okAnswer().val("type", "message").val("channel", p.Channel.ID).raw("message", chat.EncodeMessage(m)).bytes(), nil
}
