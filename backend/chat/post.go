package chat

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"flannel/backend/store"
	"flannel/protocol"
)

const (
	// MaxText is the longest text of a message, in characters.
	MaxText = 40000
	// maxBlocks and maxAttachments are the dialect's.
	maxBlocks      = 50
	maxAttachments = 100
	// maxRich bounds blocks and attachments each, in bytes: 50 blocks of 3,000 characters with their JSON around them.
	maxRich = 200 << 10
	// maxReplyUsers is how many people a parent names as having replied; the dialect's.
	maxReplyUsers = 5

	subtypeBroadcast = "thread_broadcast"
	subtypeTombstone = "tombstone"
)

// Post is a message to be written.
type Post struct {
	// Channel is an id, a "#name", or a user's id, which means the direct message with them.
	Channel   string
	Text      string
	Thread    string // the parent's timestamp; "" outside threads
	Broadcast bool   // shows a reply in the channel too
	// ClientMsgID and Key make the post safe to repeat; either will do.
	ClientMsgID string
	Key         string
	Attachments json.RawMessage
	Blocks      json.RawMessage
	Username    string // bots only
}

// Posted is a message that is on disk.
type Posted struct {
	Channel   protocol.ChannelID
	Message   protocol.Message
	Duplicate bool // it was there already
}

// PostMessage writes a message. A repeat of one with the same ClientMsgID or Key by the same user in the same channel
// gives the message that is there.
func (c *Chat) PostMessage(ctx context.Context, id *protocol.Identity, in Post) (out Posted, at protocol.Position, err error) {
	if err := in.check(); err != nil {
		return out, 0, err
	}
	at, err = c.update(ctx, id, func(a *act) error {
		out, err = a.post(in)
		return err
	})
	return out, at, err
}

func (in *Post) check() error {
	var err error
	if in.Blocks, err = richList(in.Blocks, maxBlocks, CodeInvalidBlocks, CodeInvalidBlocks); err != nil {
		return err
	}
	if in.Attachments, err = richList(in.Attachments, maxAttachments, CodeInvalidAttachments, CodeTooManyAttachments); err != nil {
		return err
	}
	switch {
	case utf8.RuneCountInString(in.Text) > MaxText:
		return refuse(CodeMsgTooLong)
	case strings.TrimSpace(in.Text) == "" && in.Blocks == nil && in.Attachments == nil:
		return refuse(CodeNoText)
	case len(in.ClientMsgID) > protocol.MaxIDLength:
		return protocol.Errorf(protocol.CodeInvalidArgs, "client_msg_id is longer than %d bytes", protocol.MaxIDLength)
	case len(in.Key) > protocol.MaxIDLength:
		return protocol.Errorf(protocol.CodeInvalidArgs, "the idempotency key is longer than %d bytes", protocol.MaxIDLength)
	case utf8.RuneCountInString(in.Username) > maxName:
		return refuse(CodeTooLong)
	}
	return nil
}

// richList checks a JSON array of objects. An empty list reads as nil.
func richList(raw json.RawMessage, limit int, invalid, tooMany protocol.Code) (json.RawMessage, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	if len(raw) > maxRich {
		return nil, refuse(CodeMsgBlocksTooLong)
	}
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil || slices.ContainsFunc(list, func(m map[string]json.RawMessage) bool { return m == nil }) {
		return nil, refuse(invalid)
	}
	if len(list) > limit {
		return nil, refuse(tooMany)
	}
	if len(list) == 0 {
		return nil, nil
	}
	return raw, nil
}

// key is what the store finds a repeat by. The idempotency key of a forwarding edge is kept apart from what clients
// make up.
func (in *Post) key() string {
	switch {
	case in.ClientMsgID != "":
		return in.ClientMsgID
	case in.Key != "":
		return "idempotency:" + in.Key
	default:
		return ""
	}
}

func (a *act) post(in Post) (Posted, error) {
	p, err := a.resolve(in.Channel)
	if err != nil {
		return Posted{}, err
	}
	channel := p.Channel.ID
	if key := in.key(); key != "" {
		m, err := a.tx.MessageByKey(channel, a.ID.User, key)
		if err == nil {
			return Posted{Channel: channel, Message: m, Duplicate: true}, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return Posted{}, err
		}
	}
	m := protocol.Message{
		Type: "message", User: a.ID.User, BotID: a.ID.Bot, Text: in.Text, Team: a.ID.Workspace, ClientMsgID: in.ClientMsgID,
		Attachments: in.Attachments, Blocks: in.Blocks,
	}
	if a.ID.Role == protocol.RoleBot {
		m.Username = in.Username
	}
	var parent *protocol.Message
	if in.Thread != "" {
		if parent, err = a.parent(channel, in.Thread); err != nil {
			return Posted{}, err
		}
		m.ThreadTS, m.ParentUserID = parent.TS, parent.User
		if in.Broadcast {
			m.Subtype = subtypeBroadcast
		}
	}
	if err := a.openForAll(p); err != nil {
		return Posted{}, err
	}
	if err := a.insert(p, &m, in.key()); err != nil {
		return Posted{}, err
	}
	if parent != nil {
		if err := a.countReply(p, parent, &m); err != nil {
			return Posted{}, err
		}
	}
	return Posted{Channel: channel, Message: m}, nil
}

// resolve finds the channel that a post is for, and refuses those that the actor cannot write to.
func (a *act) resolve(ref string) (*Place, error) {
	switch protocol.KindOf(protocol.ObjectID(ref)) {
	case protocol.KindChannel:
		return a.place(protocol.ChannelID(ref))
	case protocol.KindUser:
		p, _, err := a.direct([]protocol.UserID{protocol.UserID(ref)}, true)
		if errors.Is(err, &protocol.Error{Code: protocol.CodeUserNotFound}) {
			return nil, refuse(protocol.CodeChannelNotFound)
		}
		return p, err
	}
	name := strings.TrimPrefix(ref, "#")
	if name == "" || len(name) > 4*maxChannelName {
		return nil, refuse(protocol.CodeChannelNotFound)
	}
	id, err := a.tx.ChannelByName(a.ID.Workspace, name)
	if err != nil {
		return nil, orRefuse(err, protocol.CodeChannelNotFound)
	}
	return a.place(id)
}

// openForAll shows a direct message to those who had hidden it or never seen it.
func (a *act) openForAll(p *Place) error {
	if !p.Channel.IsIM && !p.Channel.IsMPIM {
		return nil
	}
	for _, u := range p.Channel.Members {
		m, err := a.tx.Membership(p.Channel.ID, u)
		if errors.Is(err, store.ErrNotFound) || (err == nil && m.Open) {
			continue
		}
		if err != nil {
			return err
		}
		if err := a.setOpen(p, u, true); err != nil {
			return err
		}
		if u == a.ID.User {
			p.Membership.Open = true
		}
	}
	return nil
}

// insert gives m its timestamp, writes it and tells the channel.
func (a *act) insert(p *Place, m *protocol.Message, key string) error {
	channel := p.Channel.ID
	ts, err := a.tx.NextTS(channel, a.now)
	if err != nil {
		return err
	}
	m.TS = ts
	mentions, err := a.mentions(p, m.Text)
	if err != nil {
		return err
	}
	stored := *m
	stored.Channel = channel
	if err := a.tx.InsertMessage(&stored, key, mentions); err != nil {
		return err
	}
	var effects []protocol.Effect
	if shown(m) {
		effects = append(effects, protocol.Effect{
			Op: protocol.OpMessageAdded, Channel: channel, User: m.User, TS: ts, Latest: ts, Mentions: mentions.Users, Everyone: mentions.Everyone,
		})
	}
	return a.emit(protocol.Topic(channel), protocol.ClassMessage, "message", messageEvent(p, *m), messageRefs(p, m), effects...)
}

// shown reports whether History shows m: a reply only if it was broadcast.
func shown(m *protocol.Message) bool {
	return m.ThreadTS == "" || m.ThreadTS == m.TS || m.Subtype == subtypeBroadcast
}

// EncodeMessage returns m as clients see it in histories.
func EncodeMessage(m *protocol.Message) []byte {
	in := *m
	in.Channel = ""
	return protocol.MustMarshal(&in)
}

// messageEvent is the payload that tells of a new message.
func messageEvent(p *Place, m protocol.Message) json.RawMessage {
	m.Channel = p.Channel.ID
	return protocol.AppendFields(nil, protocol.MustMarshal(&m), protocol.MustMarshal(struct {
		EventTS     protocol.TS `json:"event_ts"`
		ChannelType string      `json:"channel_type"`
	}{m.TS, prefixOf(p.Channel.Type())}))
}

// messageRefs names what a message needs in order to be shown: its author, whom it mentions, its channel.
func messageRefs(p *Place, m *protocol.Message) []protocol.ObjectID {
	users := append([]protocol.UserID{m.User, m.ParentUserID}, parseMentions(m.Text).users...)
	slices.Sort(users[1:])
	ids := refs(p.Channel.ID, slices.Compact(users)...)
	if m.BotID != "" {
		ids = append([]protocol.ObjectID{protocol.ObjectID(m.BotID)}, ids...)
	}
	return ids
}

// hidden is the payload of an event about a message that is not itself in the history.
type hidden struct {
	Type        string             `json:"type"`
	Subtype     string             `json:"subtype"`
	Hidden      bool               `json:"hidden"`
	Channel     protocol.ChannelID `json:"channel"`
	Message     json.RawMessage    `json:"message,omitempty"`
	Previous    json.RawMessage    `json:"previous_message,omitempty"`
	DeletedTS   protocol.TS        `json:"deleted_ts,omitempty"`
	ThreadTS    protocol.TS        `json:"thread_ts,omitempty"`
	TS          protocol.TS        `json:"ts"`
	EventTS     protocol.TS        `json:"event_ts"`
	ChannelType string             `json:"channel_type"`
}

// emitHidden gives h its timestamp, which is unique in the channel too, and tells the channel.
func (a *act) emitHidden(p *Place, about *protocol.Message, h hidden, effects ...protocol.Effect) error {
	ts, err := a.tx.NextTS(p.Channel.ID, a.now)
	if err != nil {
		return err
	}
	h.Type, h.Hidden, h.Channel, h.TS, h.EventTS, h.ChannelType = "message", true, p.Channel.ID, ts, ts, prefixOf(p.Channel.Type())
	return a.emit(protocol.Topic(p.Channel.ID), protocol.ClassMessage, "message", h, messageRefs(p, about), effects...)
}
