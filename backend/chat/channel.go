package chat

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"flannel/backend/store"
	"flannel/protocol"
)

const (
	// maxChannelName is the dialect's, in characters.
	maxChannelName = 80
	// maxPurpose is the dialect's longest topic or purpose, in characters.
	maxPurpose = 250
	// maxPreviousNames bounds how many old names a channel remembers, so that renaming does not make it grow for ever.
	maxPreviousNames = 10
)

// ChannelName checks the name of a channel: lower-case letters of any script, digits, - and _.
func ChannelName(name string) error {
	if name == "" {
		return refuse(CodeInvalidNameRequired)
	}
	if utf8.RuneCountInString(name) > maxChannelName {
		return refuse(CodeInvalidNameMaxLength)
	}
	plain := false
	for _, r := range name {
		switch {
		case r == '-' || r == '_':
		case unicode.IsDigit(r), unicode.IsLetter(r) && !unicode.IsUpper(r) && !unicode.IsTitle(r), unicode.Is(unicode.Mn, r):
			plain = true
		default:
			return refuse(CodeInvalidNameSpecials)
		}
	}
	if !plain {
		return refuse(CodeInvalidNamePunct)
	}
	return nil
}

// CreateChannel makes a public or private channel with the actor in it.
func (c *Chat) CreateChannel(ctx context.Context, id *protocol.Identity, name string, private bool) (out *Place, at protocol.Position, err error) {
	if err := ChannelName(name); err != nil {
		return nil, 0, err
	}
	at, err = c.update(ctx, id, func(a *act) error {
		if err := a.notGuest(); err != nil {
			return err
		}
		cid, err := a.newChannelID('C')
		if err != nil {
			return err
		}
		ch := protocol.Channel{
			ID: cid, Name: name, NameNormalized: name, Created: a.now.Unix(), Creator: a.ID.User, ContextTeamID: a.ID.Workspace,
			IsChannel: !private, IsGroup: private, IsPrivate: private,
		}
		out = &Place{Channel: ch}
		err = a.putChannel(out, "channel_created", func() any {
			if private {
				return nil // nobody can know of it yet; the creator hears group_joined
			}
			return channelEvent{"channel_created", out.Object.Body, FormatTS(a.now)}
		})
		if err != nil {
			return err
		}
		return a.admit(out, a.ID.User, "")
	})
	return out, at, err
}

// newChannelID makes up an id that was never used: 10 characters of 36, as the dialect's.
func (a *act) newChannelID(letter byte) (protocol.ChannelID, error) {
	const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	for {
		id := make([]byte, 11)
		rand.Read(id)
		for i := range id {
			id[i] = alphabet[int(id[i])%len(alphabet)] // The slight bias does not matter: ids are not secrets.
		}
		id[0] = letter
		version, err := a.tx.LastVersion(protocol.ObjectID(id))
		if err != nil {
			return "", err
		}
		if version == 0 {
			return protocol.ChannelID(id), nil
		}
	}
}

type channelEvent struct {
	Type    string          `json:"type"`
	Channel json.RawMessage `json:"channel"`
	EventTS protocol.TS     `json:"event_ts"`
}

// putChannel raises the version of p.Channel, writes it and emits its new state on its covering topic. payload is
// called once p.Object is up to date; nil makes the event one for caches only.
func (a *act) putChannel(p *Place, typ string, payload func() any) error {
	p.Channel.Updated = store.NextVersion(p.Channel.Updated, a.now, time.Millisecond)
	if err := a.tx.Put(&p.Channel); err != nil {
		if errors.Is(err, store.ErrExists) {
			return refuse(CodeNameTaken)
		}
		return err
	}
	p.Object = p.Channel.Object()
	if p.Membership != nil {
		p.Membership.Updated, p.Membership.Archived = p.Channel.Updated, p.Channel.IsArchived
	}
	return a.control(p.Object.Topic, typ, payload(), refs(p.Channel.ID, a.ID.User), upsert(p.Object))
}

// kindOfEvent is "channel" or "group", what events about named channels begin with.
func kindOfEvent(c *protocol.Channel) string { return prefixOf(c.Type()) }

// change runs fn on a channel that the actor may change, and writes it.
func (c *Chat) change(ctx context.Context, id *protocol.Identity, channel protocol.ChannelID, fn func(a *act, p *Place) error) (out *Place, at protocol.Position, err error) {
	at, err = c.update(ctx, id, func(a *act) error {
		if out, err = a.Channel(channel); err != nil {
			return err
		}
		if err := named(&out.Channel); err != nil {
			return err
		}
		if err := a.notGuest(); err != nil {
			return err
		}
		return fn(a, out)
	})
	return out, at, err
}

// member is a check within change: the actor is in the channel, which is not archived.
func member(p *Place) error {
	if p.Membership == nil {
		return refuse(protocol.CodeNotInChannel)
	}
	if p.Channel.IsArchived {
		return refuse(CodeIsArchived)
	}
	return nil
}

// RenameChannel gives a channel another name: its creator may, and admins.
func (c *Chat) RenameChannel(ctx context.Context, id *protocol.Identity, channel protocol.ChannelID, name string) (*Place, protocol.Position, error) {
	if err := ChannelName(name); err != nil {
		return nil, 0, err
	}
	return c.change(ctx, id, channel, func(a *act, p *Place) error {
		if err := member(p); err != nil {
			return err
		}
		ch := &p.Channel
		if a.ID.Role != protocol.RoleAdmin && (ch.Creator != a.ID.User || ch.IsGeneral) {
			return refuse(CodeNotAuthorized)
		}
		if ch.Name == name {
			return nil
		}
		ch.PreviousNames = slices.DeleteFunc(append([]string{ch.Name}, ch.PreviousNames...), func(n string) bool { return n == name })
		ch.PreviousNames = ch.PreviousNames[:min(len(ch.PreviousNames), maxPreviousNames)]
		ch.Name, ch.NameNormalized = name, name
		typ := kindOfEvent(ch) + "_rename"
		return a.putChannel(p, typ, func() any { return channelEvent{typ, p.Object.Body, FormatTS(a.now)} })
	})
}

// SetTopic sets a channel's topic, and notes so in the channel.
func (c *Chat) SetTopic(ctx context.Context, id *protocol.Identity, channel protocol.ChannelID, text string) (*Place, protocol.Position, error) {
	return c.describe(ctx, id, channel, text, "topic", func(ch *protocol.Channel) *protocol.Purpose { return &ch.Topic })
}

// SetPurpose sets a channel's purpose, and notes so in the channel.
func (c *Chat) SetPurpose(ctx context.Context, id *protocol.Identity, channel protocol.ChannelID, text string) (*Place, protocol.Position, error) {
	return c.describe(ctx, id, channel, text, "purpose", func(ch *protocol.Channel) *protocol.Purpose { return &ch.Purpose })
}

func (c *Chat) describe(ctx context.Context, id *protocol.Identity, channel protocol.ChannelID, text, what string,
	field func(*protocol.Channel) *protocol.Purpose,
) (*Place, protocol.Position, error) {
	if utf8.RuneCountInString(text) > maxPurpose {
		return nil, 0, refuse(CodeTooLong)
	}
	return c.change(ctx, id, channel, func(a *act, p *Place) error {
		if err := member(p); err != nil {
			return err
		}
		f := field(&p.Channel)
		if f.Value == text {
			return nil
		}
		*f = protocol.Purpose{Value: text, Creator: a.ID.User, LastSet: a.now.Unix()}
		if err := a.putChannel(p, "channel_updated", func() any { return nil }); err != nil {
			return err
		}
		note := protocol.Message{
			Type: "message", Subtype: kindOfEvent(&p.Channel) + "_" + what, User: a.ID.User, Team: a.ID.Workspace,
			Text:  fmt.Sprintf("<@%s> set the channel %s: %s", a.ID.User, what, text),
			Extra: protocol.MustMarshal(map[string]string{what: text}),
		}
		if text == "" {
			note.Text = fmt.Sprintf("<@%s> cleared the channel %s", a.ID.User, what)
		}
		return a.insert(p, &note, "")
	})
}

type archiveEvent struct {
	Type    string             `json:"type"`
	Channel protocol.ChannelID `json:"channel"`
	User    protocol.UserID    `json:"user"`
	EventTS protocol.TS        `json:"event_ts"`
}

// Archive closes a channel for writing, or opens it again.
func (c *Chat) Archive(ctx context.Context, id *protocol.Identity, channel protocol.ChannelID, archived bool) (protocol.Position, error) {
	_, at, err := c.change(ctx, id, channel, func(a *act, p *Place) error {
		ch := &p.Channel
		switch {
		case archived && ch.IsGeneral:
			return refuse(CodeCantArchiveGeneral)
		case archived && ch.IsArchived:
			return refuse(CodeAlreadyArchived)
		case !archived && !ch.IsArchived:
			return refuse(CodeNotArchived)
		case p.Membership == nil && a.ID.Role != protocol.RoleAdmin:
			return refuse(protocol.CodeNotInChannel)
		}
		ch.IsArchived = archived
		typ := kindOfEvent(ch) + "_archive"
		if !archived {
			typ = kindOfEvent(ch) + "_unarchive"
		}
		return a.putChannel(p, typ, func() any { return archiveEvent{typ, ch.ID, a.ID.User, FormatTS(a.now)} })
	})
	return at, err
}

// homes lists the workspaces whose people may be in a channel.
func homes(c *protocol.Channel) []protocol.WorkspaceID {
	if c.IsShared || len(c.SharedTeamIDs) > 0 {
		return append([]protocol.WorkspaceID{c.ContextTeamID}, c.SharedTeamIDs...)
	}
	return []protocol.WorkspaceID{c.ContextTeamID}
}

// mpdmName is the name of a group DM, made of its members' handles.
func mpdmName(handles []string) string {
	return "mpdm-" + strings.Join(handles, "--") + "-1"
}
