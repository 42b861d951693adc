package chat

import (
	"context"

	"flannel/backend/store"
	"flannel/protocol"
)

// maxUnread is where the unread count of a marker event is cut: clients show no more than "50+".
const maxUnread = 50

type markedEvent struct {
	Type               string             `json:"type"`
	Channel            protocol.ChannelID `json:"channel"`
	TS                 protocol.TS        `json:"ts"`
	UnreadCount        int                `json:"unread_count"`
	UnreadCountDisplay int                `json:"unread_count_display"`
	NumMentions        int                `json:"num_mentions"`
	NumMentionsDisplay int                `json:"num_mentions_display"`
	MentionCount       int                `json:"mention_count"`
	MentionDisplay     int                `json:"mention_count_display"`
	DMCount            *int               `json:"dm_count,omitempty"`
	EventTS            protocol.TS        `json:"event_ts"`
}

// Mark moves the actor's read marker in a channel.
func (c *Chat) Mark(ctx context.Context, id *protocol.Identity, channel protocol.ChannelID, ts string) (protocol.Position, error) {
	t, ok := ParseTS(ts)
	if !ok || ts == "" {
		return 0, refuse(CodeInvalidTimestamp)
	}
	return c.update(ctx, id, func(a *act) error {
		p, err := a.Channel(channel)
		if err != nil {
			return err
		}
		if p.Membership == nil {
			return refuse(protocol.CodeNotInChannel)
		}
		mentions, err := a.tx.UnreadMentions(channel, a.ID.User, t)
		if err != nil {
			return err
		}
		if err := a.tx.SetRead(channel, a.ID.User, t, mentions); err != nil {
			return err
		}
		unread, _, err := a.tx.History(store.HistoryQuery{Channel: channel, Oldest: t, Limit: maxUnread})
		if err != nil {
			return err
		}
		payload := markedEvent{
			Type: prefixOf(p.Channel.Type()) + "_marked", Channel: channel, TS: t.OrZero(), UnreadCount: len(unread), UnreadCountDisplay: len(unread),
			NumMentions: mentions, NumMentionsDisplay: mentions, MentionCount: mentions, MentionDisplay: mentions, EventTS: FormatTS(a.now),
		}
		if p.Channel.IsIM {
			payload.DMCount = &mentions
		}
		return a.control(protocol.Topic(a.ID.User), payload.Type, payload, refs(channel),
			protocol.Effect{Op: protocol.OpRead, Channel: channel, User: a.ID.User, TS: t, MentionCount: mentions})
	})
}
