package chat

import (
	"context"
	"errors"
	"slices"

	"flannel/backend/store"
	"flannel/protocol"
)

// MaxInvite is how many people one call may invite; the dialect's.
const MaxInvite = 100

type memberEvent struct {
	Type        string               `json:"type"`
	User        protocol.UserID      `json:"user"`
	Channel     protocol.ChannelID   `json:"channel"`
	ChannelType string               `json:"channel_type"`
	Team        protocol.WorkspaceID `json:"team"`
	Inviter     protocol.UserID      `json:"inviter,omitempty"`
	EventTS     protocol.TS          `json:"event_ts"`
}

type leftEvent struct {
	Type    string             `json:"type"`
	Channel protocol.ChannelID `json:"channel"`
	ActorID protocol.UserID    `json:"actor_id"`
	EventTS protocol.TS        `json:"event_ts"`
}

// isMember reports whether user is in channel.
func (a *act) isMember(channel protocol.ChannelID, user protocol.UserID) (bool, error) {
	_, err := a.tx.Membership(channel, user)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// admit puts user in a public or private channel: their user topic first, then the channel's. What was said before
// they came does not count as unread.
func (a *act) admit(p *Place, user, inviter protocol.UserID) error {
	channel := p.Channel.ID
	latest, err := a.tx.Latest(channel)
	if err != nil {
		return err
	}
	m := protocol.Membership{
		Channel: channel, Owner: p.Channel.ContextTeamID, Type: p.Channel.Type(), Updated: p.Channel.Updated,
		Archived: p.Channel.IsArchived,
	}
	if err := a.tx.AddMember(user, m); err != nil {
		return err
	}
	if err := a.tx.SetRead(channel, user, latest, 0); err != nil {
		return err
	}
	if m, err = a.tx.Membership(channel, user); err != nil { // as the store has it
		return err
	}
	if user == a.ID.User {
		p.Membership = &m
	}
	added := protocol.Effect{Op: protocol.OpMemberAdded, Channel: channel, User: user, Membership: &m}
	typ := kindOfEvent(&p.Channel) + "_joined"
	payload := channelEvent{typ, protocol.ViewChannel(&m).AppendViewer(nil, p.Object.Body), FormatTS(a.now)}
	if err := a.control(protocol.Topic(user), typ, payload, refs(channel, p.Channel.Creator), added); err != nil {
		return err
	}
	added.Membership = nil
	joined := memberEvent{
		"member_joined_channel", user, channel, channelLetter(p.Channel.Type()), p.Channel.ContextTeamID, inviter, FormatTS(a.now),
	}
	return a.control(protocol.Topic(channel), joined.Type, joined, refs(channel, user, inviter), added)
}

// expel takes user out of a channel.
func (a *act) expel(p *Place, user protocol.UserID) error {
	channel := p.Channel.ID
	if err := a.tx.RemoveMember(channel, user); err != nil {
		return orRefuse(err, protocol.CodeNotInChannel)
	}
	removed := protocol.Effect{Op: protocol.OpMemberRemoved, Channel: channel, User: user}
	gone := leftEvent{kindOfEvent(&p.Channel) + "_left", channel, a.ID.User, FormatTS(a.now)}
	if err := a.control(protocol.Topic(user), gone.Type, gone, refs(channel, a.ID.User), removed); err != nil {
		return err
	}
	left := memberEvent{
		"member_left_channel", user, channel, channelLetter(p.Channel.Type()), p.Channel.ContextTeamID, "", FormatTS(a.now),
	}
	return a.control(protocol.Topic(channel), left.Type, left, refs(channel, user), removed)
}

// Join puts the actor in a public channel. already tells that they were in it.
func (c *Chat) Join(ctx context.Context, id *protocol.Identity, channel protocol.ChannelID) (out *Place, already bool, at protocol.Position, err error) {
	at, err = c.update(ctx, id, func(a *act) error {
		if out, err = a.Channel(channel); err != nil {
			return err
		}
		switch {
		case out.Channel.Type() != protocol.TypePublic:
			return refuse(CodeMethodNotSupported)
		case out.Channel.IsArchived:
			return refuse(CodeIsArchived)
		case out.Membership != nil:
			already = true
			return nil
		}
		return a.admit(out, a.ID.User, "")
	})
	return out, already, at, err
}

// Leave takes the actor out of a channel. absent tells that they were not in it.
func (c *Chat) Leave(ctx context.Context, id *protocol.Identity, channel protocol.ChannelID) (absent bool, at protocol.Position, err error) {
	at, err = c.update(ctx, id, func(a *act) error {
		p, err := a.Channel(channel)
		if err != nil {
			return err
		}
		if err := named(&p.Channel); err != nil {
			return err
		}
		if err := a.notGuest(); err != nil {
			return err
		}
		switch {
		case p.Channel.IsGeneral:
			return refuse(CodeCantLeaveGeneral)
		case p.Membership == nil:
			absent = true
			return nil
		case p.Channel.IsArchived:
			return refuse(CodeIsArchived)
		}
		if p.Channel.IsPrivate {
			_, _, total, err := a.tx.Members(channel, "", 1)
			if err != nil {
				return err
			}
			if total == 1 {
				return refuse(CodeLastMember) // nobody could ever get in again
			}
		}
		return a.expel(p, a.ID.User)
	})
	return absent, at, err
}

// Kick takes another user out: admins may, the channel's creator, and in private channels every member.
func (c *Chat) Kick(ctx context.Context, id *protocol.Identity, channel protocol.ChannelID, user protocol.UserID) (protocol.Position, error) {
	_, at, err := c.change(ctx, id, channel, func(a *act, p *Place) error {
		if err := member(p); err != nil {
			return err
		}
		if _, _, err := a.User(user); err != nil {
			return err
		}
		in, err := a.isMember(channel, user)
		switch {
		case err != nil:
			return err
		case user == a.ID.User:
			return refuse(CodeCantKickSelf)
		case p.Channel.IsGeneral:
			return refuse(CodeCantKickGeneral)
		case a.ID.Role != protocol.RoleAdmin && p.Channel.Creator != a.ID.User && !p.Channel.IsPrivate:
			return refuse(CodeRestrictedAction)
		case !in:
			return refuse(protocol.CodeNotInChannel)
		}
		return a.expel(p, user)
	})
	return at, err
}

// UserError tells why one of several users was refused.
type UserError struct {
	User  protocol.UserID `json:"user"`
	OK    bool            `json:"ok"`
	Error protocol.Code   `json:"error"`
}

// InviteError is a refused invitation: why, for each user that was refused.
type InviteError struct {
	Users []UserError
}

// Error implements error.
func (e *InviteError) Error() string { return string(e.Users[0].Error) }

// Unwrap gives the first reason as what the client is told.
func (e *InviteError) Unwrap() error { return refuse(e.Users[0].Error) }

// Invite puts users in a channel. If some cannot be, nobody is, unless force is set: then those who can be are, and
// refused tells of the others.
func (c *Chat) Invite(ctx context.Context, id *protocol.Identity, channel protocol.ChannelID, users []protocol.UserID, force bool) (out *Place, refused []UserError, at protocol.Position, err error) {
	if len(users) == 0 {
		return nil, nil, 0, refuse(CodeNoUser)
	}
	if len(users) > MaxInvite {
		return nil, nil, 0, refuse(CodeTooManyUsers)
	}
	out, at, err = c.change(ctx, id, channel, func(a *act, p *Place) error {
		if err := member(p); err != nil {
			return err
		}
		refused = nil
		var welcome []protocol.UserID
		for _, u := range users {
			if slices.Contains(welcome, u) {
				continue
			}
			if err := a.mayInvite(p, u); err != nil {
				e, ok := errors.AsType[*protocol.Error](err)
				if !ok {
					return err
				}
				refused = append(refused, UserError{User: u, Error: e.Code})
				continue
			}
			welcome = append(welcome, u)
		}
		if len(refused) > 0 && (!force || len(welcome) == 0) {
			return &InviteError{refused}
		}
		for _, u := range welcome {
			if err := a.admit(p, u, a.ID.User); err != nil {
				return err
			}
		}
		return nil
	})
	return out, refused, at, err
}

func (a *act) mayInvite(p *Place, user protocol.UserID) error {
	if user == a.ID.User {
		return refuse(CodeCantInviteSelf)
	}
	u, _, err := a.User(user)
	if err != nil {
		return err
	}
	in, err := a.isMember(p.Channel.ID, user)
	switch {
	case err != nil:
		return err
	case in:
		return refuse(CodeAlreadyInChannel)
	case u.Deleted:
		return refuse(CodeCantInvite)
	}
	if !slices.Contains(homes(&p.Channel), u.TeamID) && (u.EnterpriseID == "" || u.EnterpriseID != a.ID.Enterprise) {
		return refuse(CodeCantInvite) // a stranger comes in through shared channels only
	}
	if u.IsUltraRestricted {
		ms, err := a.tx.Memberships(user)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(ms, func(m protocol.Membership) bool {
			return m.Type == protocol.TypePublic || m.Type == protocol.TypePrivate
		}) {
			return refuse(CodeUltraRestrictedInMany)
		}
	}
	return nil
}
