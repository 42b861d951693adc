package chat

import (
	"context"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"flannel/protocol"
)

// Edit is a change to a message. What is nil stays as it is; an empty list removes.
type Edit struct {
	Channel     protocol.ChannelID
	TS          string
	Text        *string
	Attachments json.RawMessage
	Blocks      json.RawMessage
}

// UpdateMessage changes a message of the actor's own.
func (c *Chat) UpdateMessage(ctx context.Context, id *protocol.Identity, in Edit) (out protocol.Message, at protocol.Position, err error) {
	if in.Text != nil && utf8.RuneCountInString(*in.Text) > MaxText {
		return out, 0, refuse(CodeMsgTooLong)
	}
	if in.Text == nil && in.Blocks == nil && in.Attachments == nil {
		return out, 0, refuse(CodeNoText)
	}
	blocks, err := richList(in.Blocks, maxBlocks, CodeInvalidBlocks, CodeInvalidBlocks)
	if err != nil {
		return out, 0, err
	}
	attachments, err := richList(in.Attachments, maxAttachments, CodeInvalidAttachments, CodeTooManyAttachments)
	if err != nil {
		return out, 0, err
	}
	at, err = c.update(ctx, id, func(a *act) error {
		p, m, err := a.message(in.Channel, in.TS)
		if err != nil {
			return err
		}
		if m.User != a.ID.User || p.Membership == nil || !editable(m) {
			return refuse(CodeCantUpdateMessage)
		}
		before := EncodeMessage(m)
		if in.Text != nil {
			m.Text = *in.Text
		}
		if in.Blocks != nil {
			m.Blocks = blocks
		}
		if in.Attachments != nil {
			m.Attachments = attachments
		}
		if strings.TrimSpace(m.Text) == "" && m.Blocks == nil && m.Attachments == nil {
			return refuse(CodeNoText)
		}
		m.Edited = &protocol.Edited{User: a.ID.User, TS: FormatTS(a.now)}
		m.Channel = p.Channel.ID
		if err := a.tx.UpdateMessage(m); err != nil {
			return err
		}
		out = *m
		return a.emitHidden(p, m, hidden{Subtype: "message_changed", Message: EncodeMessage(m), Previous: before})
	})
	return out, at, err
}

// DeleteMessage removes a message: its author may, and admins. The parent of a thread leaves a tombstone that keeps the
// replies together.
func (c *Chat) DeleteMessage(ctx context.Context, id *protocol.Identity, channel protocol.ChannelID, ts string) (protocol.Position, error) {
	return c.update(ctx, id, func(a *act) error {
		p, m, err := a.message(channel, ts)
		if err != nil {
			return err
		}
		mine := m.User == a.ID.User && p.Membership != nil
		if m.Subtype == subtypeTombstone || (!mine && a.ID.Role != protocol.RoleAdmin) {
			return refuse(CodeCantDeleteMessage)
		}
		if m.ReplyCount > 0 {
			return a.bury(p, m)
		}
		return a.remove(p, m)
	})
}

// message finds a message in a channel that the actor sees and that is not archived.
func (a *act) message(channel protocol.ChannelID, ts string) (*Place, *protocol.Message, error) {
	p, err := a.Channel(channel)
	if err != nil {
		return nil, nil, err
	}
	if p.Channel.IsArchived {
		return nil, nil, refuse(CodeIsArchived)
	}
	t, err := messageTS(ts, CodeMessageNotFound)
	if err != nil {
		return nil, nil, err
	}
	m, err := a.tx.Message(channel, t)
	if err != nil {
		return nil, nil, orRefuse(err, CodeMessageNotFound)
	}
	return p, &m, nil
}

// editable: what people wrote, not what the product noted (channel_topic and the like).
func editable(m *protocol.Message) bool {
	return m.Subtype == "" || m.Subtype == subtypeBroadcast || m.Subtype == "bot_message" || m.Subtype == "me_message" || m.Subtype == "file_share"
}

func (a *act) remove(p *Place, m *protocol.Message) error {
	channel := p.Channel.ID
	mentions, err := a.tx.MentionsOf(channel, m.TS)
	if err != nil {
		return orRefuse(err, CodeMessageNotFound)
	}
	if err := a.tx.DeleteMessage(channel, m.TS); err != nil {
		return orRefuse(err, CodeMessageNotFound)
	}
	var effects []protocol.Effect
	if shown(m) {
		latest, err := a.tx.Latest(channel)
		if err != nil {
			return err
		}
		effects = append(effects, protocol.Effect{
			Op: protocol.OpMessageRemoved, Channel: channel, User: m.User, TS: m.TS, Latest: latest, Mentions: mentions.Users, Everyone: mentions.Everyone,
		})
	}
	h := hidden{Subtype: "message_deleted", DeletedTS: m.TS, Previous: EncodeMessage(m)}
	if err := a.emitHidden(p, m, h, effects...); err != nil {
		return err
	}
	if m.ThreadTS != "" && m.ThreadTS != m.TS {
		return a.recount(p, m.ThreadTS)
	}
	return nil
}

// bury replaces the parent of a thread by a tombstone.
func (a *act) bury(p *Place, m *protocol.Message) error {
	before := EncodeMessage(m)
	grave := protocol.Message{
		Type: "message", Subtype: subtypeTombstone, Channel: p.Channel.ID, User: m.User, Text: "This message was deleted.", TS: m.TS, ThreadTS: m.TS,
		ReplyCount: m.ReplyCount, ReplyUsersCount: m.ReplyUsersCount, ReplyUsers: m.ReplyUsers, LatestReply: m.LatestReply, Team: m.Team,
	}
	if err := a.tx.UpdateMessage(&grave); err != nil {
		return err
	}
	return a.emitHidden(p, &grave, hidden{Subtype: "message_changed", Message: EncodeMessage(&grave), Previous: before})
}
