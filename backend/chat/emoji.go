package chat

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// maxEmojiValue bounds an emoji's address, in bytes.
const maxEmojiValue = 1000

type emojiEvent struct {
	Type    string      `json:"type"`
	Subtype string      `json:"subtype"`
	Name    string      `json:"name,omitempty"`
	Value   string      `json:"value,omitempty"`
	Names   []string    `json:"names,omitempty"`
	EventTS protocol.TS `json:"event_ts"`
}

// AddEmoji adds a custom emoji to the actor's workspace; value is an address or "alias:other". Admins only.
func (c *Chat) AddEmoji(ctx context.Context, id *protocol.Identity, name, value string) (protocol.Position, error) {
	name = strings.Trim(name, ":")
	if !emojiName(name) || strings.Contains(name, "::") {
		return 0, refuse(CodeErrorBadNameI18n)
	}
	if other, isAlias := strings.CutPrefix(value, "alias:"); isAlias {
		if !emojiName(other) {
			return 0, refuse(CodeErrorBadURL)
		}
	} else if u, err := url.Parse(value); err != nil || len(value) > maxEmojiValue || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return 0, refuse(CodeErrorBadURL)
	}
	return c.update(ctx, id, func(a *act) error {
		if a.ID.Role != protocol.RoleAdmin {
			return refuse(CodeNotAdmin)
		}
		eid := protocol.EmojiID(a.ID.Workspace, name)
		if _, err := a.tx.Object(eid); err == nil {
			return refuse(CodeErrorNameTaken)
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		version, err := a.tx.LastVersion(eid) // of the tombstone, if it was there before
		if err != nil {
			return err
		}
		e := &protocol.Emoji{Workspace: a.ID.Workspace, Name: name, Value: value, Updated: store.NextVersion(version, a.now, time.Second), Creator: a.ID.User}
		if err := a.tx.Put(e); err != nil {
			return err
		}
		o := e.Object()
		payload := emojiEvent{Type: "emoji_changed", Subtype: "add", Name: name, Value: value, EventTS: FormatTS(a.now)}
		return a.control(o.Topic, payload.Type, payload, nil, upsert(o))
	})
}

// RemoveEmoji removes one. Admins only.
func (c *Chat) RemoveEmoji(ctx context.Context, id *protocol.Identity, name string) (protocol.Position, error) {
	name = strings.Trim(name, ":")
	return c.update(ctx, id, func(a *act) error {
		if a.ID.Role != protocol.RoleAdmin {
			return refuse(CodeNotAdmin)
		}
		if !emojiName(name) {
			return refuse(CodeEmojiNotFound)
		}
		eid := protocol.EmojiID(a.ID.Workspace, name)
		o, err := a.tx.Object(eid)
		if err != nil {
			return orRefuse(err, CodeEmojiNotFound)
		}
		version := store.NextVersion(o.Version, a.now, time.Second)
		if err := a.tx.Bury(eid, version); err != nil {
			return err
		}
		payload := emojiEvent{Type: "emoji_changed", Subtype: "remove", Names: []string{name}, EventTS: FormatTS(a.now)}
		return a.control(o.Topic, payload.Type, payload, nil, protocol.Effect{Op: protocol.OpTombstone, ID: eid, Version: version})
	})
}
