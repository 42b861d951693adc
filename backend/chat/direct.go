package chat

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// MaxDirect is how many others may be in a group DM; the dialect's.
const MaxDirect = 8

// Opened is the outcome of Open and Close. NoOp tells that the conversation stood so already.
type Opened struct {
	Place *Place
	NoOp  bool
}

// Open shows a direct message or group DM in the actor's list: the one named by channel, or the one of exactly users
// and the actor, which is made if there is none, unless mustExist is set.
func (c *Chat) Open(ctx context.Context, id *protocol.Identity, channel protocol.ChannelID, users []protocol.UserID, mustExist bool) (out Opened, at protocol.Position, err error) {
	at, err = c.update(ctx, id, func(a *act) error {
		created := false
		if channel != "" {
			out.Place, err = a.directPlace(channel)
		} else {
			out.Place, created, err = a.direct(users, !mustExist)
		}
		if err != nil {
			return err
		}
		if out.NoOp = out.Place.Membership.Open && !created; out.NoOp || created {
			return nil
		}
		out.Place.Membership.Open = true
		return a.setOpen(out.Place, a.ID.User, true)
	})
	return out, at, err
}

// Close hides a conversation in the actor's list.
func (c *Chat) Close(ctx context.Context, id *protocol.Identity, channel protocol.ChannelID) (out Opened, at protocol.Position, err error) {
	at, err = c.update(ctx, id, func(a *act) error {
		if out.Place, err = a.directPlace(channel); err != nil {
			return err
		}
		if out.NoOp = !out.Place.Membership.Open; out.NoOp {
			return nil
		}
		out.Place.Membership.Open = false
		return a.setOpen(out.Place, a.ID.User, false)
	})
	return out, at, err
}

// directPlace finds a DM or group DM that the actor is in.
func (a *act) directPlace(channel protocol.ChannelID) (*Place, error) {
	p, err := a.Channel(channel)
	if err != nil {
		return nil, err
	}
	if !p.Channel.IsIM && !p.Channel.IsMPIM {
		return nil, refuse(CodeMethodNotSupported)
	}
	return p, nil // only members see it
}

type openEvent struct {
	Type    string             `json:"type"`
	User    protocol.UserID    `json:"user,omitempty"`
	Channel protocol.ChannelID `json:"channel"`
	EventTS protocol.TS        `json:"event_ts"`
}

// setOpen shows or hides a direct message in user's list.
func (a *act) setOpen(p *Place, user protocol.UserID, open bool) error {
	if err := a.tx.SetOpen(p.Channel.ID, user, open); err != nil {
		return err
	}
	typ := prefixOf(p.Channel.Type()) + "_open"
	if !open {
		typ = prefixOf(p.Channel.Type()) + "_close"
	}
	payload := openEvent{Type: typ, Channel: p.Channel.ID, User: user, EventTS: FormatTS(a.now)}
	if p.Channel.IsIM {
		payload.User = peerOf(&p.Channel, user)
	}
	return a.control(protocol.Topic(user), typ, payload, refs(p.Channel.ID, payload.User),
		protocol.Effect{Op: protocol.OpOpen, Channel: p.Channel.ID, Open: open})
}

// peerOf returns the other user of a DM; oneself in the DM with oneself.
func peerOf(c *protocol.Channel, user protocol.UserID) protocol.UserID {
	for _, u := range c.Members {
		if u != user {
			return u
		}
	}
	return user
}

// direct finds the conversation of the actor with others, and makes it if there is none and create is set.
func (a *act) direct(others []protocol.UserID, create bool) (p *Place, created bool, err error) {
	others = slices.Clone(others)
	slices.Sort(others)
	others = slices.Compact(others)
	if len(others) == 0 {
		return nil, false, refuse(CodeUsersListNotSupplied)
	}
	if len(others) > 1 {
		others = slices.DeleteFunc(others, func(u protocol.UserID) bool { return u == a.ID.User })
	}
	if len(others) > MaxDirect {
		return nil, false, refuse(CodeTooManyUsers)
	}
	handles := map[protocol.UserID]string{a.ID.User: a.ID.UserName}
	disabled := false
	for _, id := range others {
		u, _, err := a.User(id)
		if err != nil {
			return nil, false, err
		}
		disabled = disabled || u.Deleted
		handles[id] = u.Name
	}
	members := append(others, a.ID.User) //nolint:gocritic // others is a copy of our own.
	slices.Sort(members)
	members = slices.Compact(members)

	id, err := a.tx.Conversation(members)
	switch {
	case err == nil:
		p, err := a.Channel(id)
		if err == nil && p.Membership == nil {
			err = refuse(protocol.CodeChannelNotFound)
		}
		return p, false, err
	case !errors.Is(err, store.ErrNotFound):
		return nil, false, err
	case !create:
		return nil, false, refuse(protocol.CodeChannelNotFound)
	case disabled:
		return nil, false, refuse(CodeUserDisabled)
	}
	p, err = a.makeDirect(members, handles)
	return p, true, err
}

type createdEvent struct {
	Type    string          `json:"type"`
	User    protocol.UserID `json:"user,omitempty"`
	Channel json.RawMessage `json:"channel"`
	EventTS protocol.TS     `json:"event_ts"`
}

// makeDirect makes the conversation of members (sorted). It is open for the actor only, until somebody says something.
func (a *act) makeDirect(members []protocol.UserID, handles map[protocol.UserID]string) (*Place, error) {
	group := len(members) > 2
	letter := byte('D')
	if group {
		letter = 'G'
	}
	cid, err := a.newChannelID(letter)
	if err != nil {
		return nil, err
	}
	p := &Place{Channel: protocol.Channel{
		ID: cid, Created: a.now.Unix(), Creator: a.ID.User, Updated: store.NextVersion(0, a.now, time.Millisecond), ContextTeamID: a.ID.Workspace,
		IsGroup: group, IsIM: !group, IsMPIM: group, IsPrivate: true, Members: members,
	}}
	ch := &p.Channel
	if group {
		names := make([]string, len(members))
		for i, u := range members {
			names[i] = handles[u]
		}
		ch.Name = mpdmName(names)
		ch.NameNormalized = ch.Name
	}
	if err := a.tx.Put(ch); err != nil {
		return nil, err
	}
	p.Object = ch.Object()
	added := []protocol.Effect{upsert(p.Object)}
	for _, u := range members {
		m, err := a.admitDirect(p, u)
		if err != nil {
			return nil, err
		}
		if u == a.ID.User {
			p.Membership = m
			if err := a.setOpen(p, u, true); err != nil {
				return nil, err
			}
		}
		added = append(added, protocol.Effect{Op: protocol.OpMemberAdded, Channel: cid, User: u})
	}
	return p, a.control(protocol.Topic(cid), "member_joined_channel", nil, nil, added...)
}

// admitDirect puts user in a new conversation and tells them on their own topic.
func (a *act) admitDirect(p *Place, user protocol.UserID) (*protocol.Membership, error) {
	m := protocol.Membership{
		Channel: p.Channel.ID, Owner: p.Channel.ContextTeamID, Type: p.Channel.Type(), Updated: p.Channel.Updated, Open: user == a.ID.User,
	}
	if p.Channel.IsIM {
		m.Peer = peerOf(&p.Channel, user)
	}
	err := a.tx.AddMember(user, m)
	if err != nil {
		return nil, err
	}
	if m, err = a.tx.Membership(p.Channel.ID, user); err != nil {
		return nil, err
	}
	payload := createdEvent{
		Type: "im_created", User: m.Peer, Channel: protocol.ViewChannel(&m).AppendViewer(nil, p.Object.Body), EventTS: FormatTS(a.now),
	}
	if p.Channel.IsMPIM {
		payload.Type = "mpim_joined"
	}
	return &m, a.control(protocol.Topic(user), payload.Type, payload, refs(p.Channel.ID, p.Channel.Members...),
		protocol.Effect{Op: protocol.OpMemberAdded, Channel: p.Channel.ID, User: user, Membership: &m})
}
