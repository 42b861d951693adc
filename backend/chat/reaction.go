package chat

import (
	"context"
	"errors"
	"slices"
	"strings"

	"flannel/backend/store"
	"flannel/protocol"
)

const (
	// maxReactionName is the dialect's longest emoji name, in bytes.
	maxReactionName = 100
	// maxEmojiPerMessage and maxEmojiPerUser are the dialect's: different emoji under one message, and by one user.
	maxEmojiPerMessage = 50
	maxEmojiPerUser    = 23
)

// Item names a message.
type Item struct {
	Type    string             `json:"type"`
	Channel protocol.ChannelID `json:"channel"`
	TS      protocol.TS        `json:"ts"`
}

type reactionEvent struct {
	Type     string          `json:"type"`
	User     protocol.UserID `json:"user"`
	Reaction string          `json:"reaction"`
	Item     Item            `json:"item"`
	ItemUser protocol.UserID `json:"item_user,omitempty"`
	EventTS  protocol.TS     `json:"event_ts"`
}

// AddReaction puts the actor's emoji under a message.
func (c *Chat) AddReaction(ctx context.Context, id *protocol.Identity, channel protocol.ChannelID, ts, name string) (protocol.Position, error) {
	return c.react(ctx, id, channel, ts, name, "reaction_added", func(a *act, m *protocol.Message, name string) error {
		mine := 0
		for _, r := range m.Reactions {
			if slices.Contains(r.Users, a.ID.User) {
				mine++
			}
		}
		isNew := !slices.ContainsFunc(m.Reactions, func(r protocol.Reaction) bool { return r.Name == name })
		if isNew && len(m.Reactions) >= maxEmojiPerMessage {
			return refuse(CodeTooManyEmoji)
		}
		err := a.tx.AddReaction(channel, m.TS, a.ID.User, name)
		switch {
		case errors.Is(err, store.ErrExists):
			return refuse(CodeAlreadyReacted)
		case err == nil && mine >= maxEmojiPerUser:
			return refuse(CodeTooManyReactions)
		default:
			return err
		}
	})
}

// RemoveReaction takes it away.
func (c *Chat) RemoveReaction(ctx context.Context, id *protocol.Identity, channel protocol.ChannelID, ts, name string) (protocol.Position, error) {
	return c.react(ctx, id, channel, ts, name, "reaction_removed", func(a *act, m *protocol.Message, name string) error {
		return orRefuse(a.tx.RemoveReaction(channel, m.TS, a.ID.User, name), CodeNoReaction)
	})
}

func (c *Chat) react(ctx context.Context, id *protocol.Identity, channel protocol.ChannelID, ts, name, event string,
	change func(a *act, m *protocol.Message, name string) error,
) (protocol.Position, error) {
	name = strings.Trim(name, ":")
	if !emojiName(name) {
		return 0, refuse(CodeInvalidName)
	}
	if channel == "" && ts == "" {
		return 0, refuse(CodeNoItemSpecified)
	}
	t, err := messageTS(ts, CodeBadTimestamp)
	if err != nil {
		return 0, err
	}
	return c.update(ctx, id, func(a *act) error {
		p, err := a.place(channel)
		if err != nil {
			return err
		}
		m, err := a.tx.Message(channel, t)
		if err != nil {
			return orRefuse(err, CodeMessageNotFound)
		}
		if err := change(a, &m, name); err != nil {
			return err
		}
		payload := reactionEvent{
			Type: event, User: a.ID.User, Reaction: name, Item: Item{"message", channel, t}, ItemUser: m.User, EventTS: FormatTS(a.now),
		}
		return a.emit(protocol.Topic(channel), protocol.ClassMessage, event, payload, refs(p.Channel.ID, a.ID.User))
	})
}

// emojiName reports whether name can be an emoji's, with a skin tone or without. Whether there is such an emoji is not
// asked: the standard ones are known to clients only.
func emojiName(name string) bool {
	base, tone, toned := strings.Cut(name, "::")
	if toned && (len(tone) != len("skin-tone-2") || !strings.HasPrefix(tone, "skin-tone-") || tone[10] < '2' || tone[10] > '6') {
		return false
	}
	if base == "" || len(base) > maxReactionName {
		return false
	}
	for i := range len(base) {
		c := base[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("_-+'", rune(c)) {
			return false
		}
	}
	return true
}
