package query

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"flannel/cache"
	"flannel/protocol"
)

// Who may see what is decided here and nowhere else: for every object in an answer (reader.sees; Visible for lists of users), and for every event
// of a workspace that is about to go to somebody who is not a full member of it (Service.Allow).
//
//	full roles   see users, emoji, usergroups, public channels and bots of their workspaces
//	everybody    sees themself, their workspaces, and those that own a channel they are in
//	members      see their channels of any type
//	whoever shares a channel with a user or a bot sees it: guests, and strangers in shared channels
//
// What is not seen reads as if it were not there. What cannot be decided (permissions are not fresh, or a member set
// cannot be loaded) is an error, never a yes.

// sees reports whether the reader may see o.
func (r *reader) sees(o *protocol.Object) (bool, error) {
	if r.full && r.stillFull() && r.ofOurs(o.Visibility.Workspaces) {
		return true, nil
	}
	if ch := o.Visibility.Channel; ch != "" {
		_, member := r.membership(ch)
		return member && r.fresh, r.permitted()
	}
	switch o.Kind {
	case protocol.KindUser:
		return r.sharesWith(o, protocol.UserID(o.ID))
	case protocol.KindBot:
		user := botUser(o)
		if user == "" {
			return false, nil
		}
		return r.sharesWith(o, user)
	case protocol.KindWorkspace:
		return r.seesWorkspace(protocol.WorkspaceID(o.ID))
	default:
		return false, nil
	}
}

// stillFull looks at the role again: the object may have been loaded after the reader became a guest.
func (r *reader) stillFull() bool { return r.own != nil || r.user.Role().Full() }

// ofOurs reports whether one of the workspaces is the reader's.
func (r *reader) ofOurs(workspaces []protocol.WorkspaceID) bool { return ours(r.id, workspaces) }

func ours(id *protocol.Identity, workspaces []protocol.WorkspaceID) bool {
	for _, w := range workspaces {
		if slices.Contains(id.Workspaces, w) {
			return true
		}
	}
	return false
}

// stranger reports whether a user or bot belongs to none of the reader's workspaces.
func (r *reader) stranger(o *protocol.Object) bool { return strange(r.id, o) }

func strange(id *protocol.Identity, o *protocol.Object) bool {
	return !slices.Contains(id.Workspaces, o.Owner)
}

func (r *reader) seesWorkspace(w protocol.WorkspaceID) (bool, error) {
	if slices.Contains(r.id.Workspaces, w) {
		return true, nil
	}
	if err := r.permitted(); err != nil {
		return false, err
	}
	return slices.ContainsFunc(r.memberships(), func(m protocol.Membership) bool { return m.Owner == w }), nil
}

// sharesWith reports whether the reader is user, or in a channel together with user, whose object (or whose bot's) is o.
func (r *reader) sharesWith(o *protocol.Object, user protocol.UserID) (bool, error) {
	if user == r.id.User {
		return true, nil
	}
	if !o.Visibility.Sharing {
		return false, nil
	}
	if err := r.permitted(); err != nil {
		return false, err
	}
	var unknown []protocol.ChannelID
	for _, m := range r.memberships() {
		if m.Type == protocol.TypeDM {
			if m.Peer == user {
				return true, nil
			}
			continue
		}
		if set, freshness := r.s.cache.Members(m.Channel); freshness == cache.Fresh && r.floor <= r.s.cache.Applied() {
			if set.Contains(user) {
				return true, nil
			}
			continue
		}
		unknown = append(unknown, m.Channel)
	}
	unknown, err := r.joining(unknown, o.Owner)
	if err != nil {
		return false, err
	}
	for _, ch := range unknown {
		if member, err := r.isMember(ch, user); member || err != nil {
			return member, err
		}
	}
	return false, nil
}

// joining leaves of channels those in which somebody of the owner's workspace can be. For one's own workspace that is
// all of them; for another it is the shared ones that name it, so that a member of hundreds of channels does not load
// the member sets of all to look at one stranger.
func (r *reader) joining(channels []protocol.ChannelID, owner protocol.WorkspaceID) ([]protocol.ChannelID, error) {
	if len(channels) == 0 || slices.Contains(r.id.Workspaces, owner) {
		return channels, nil
	}
	ids := make([]protocol.ObjectID, len(channels))
	for i, ch := range channels {
		ids[i] = protocol.ObjectID(ch)
	}
	objects, err := r.objects(ids)
	if err != nil {
		return nil, err
	}
	var left []protocol.ChannelID
	for i := range objects {
		o := &objects[i]
		if o.ID != "" && (o.Owner == owner || names(protocol.Field(o.Body, "shared_team_ids"), owner) ||
			string(protocol.Field(o.Body, "is_mpim")) == "true") {
			left = append(left, protocol.ChannelID(o.ID))
		}
	}
	return left, nil
}

// names reports whether the JSON list of ids has id.
func names(list []byte, id protocol.WorkspaceID) bool {
	return bytes.Contains(list, protocol.AppendString(nil, id))
}

// botUser returns the user behind a bot, "" if it has none.
func botUser(o *protocol.Object) protocol.UserID {
	var user protocol.UserID
	if raw := protocol.Field(o.Body, "user_id"); raw != nil && json.Unmarshal(raw, &user) != nil {
		return ""
	}
	return user
}

// Visible returns those of users whom id may see, in their order: those whose presence may be followed, for one. Users
// who cannot be loaded in time are left out.
func (s *Service) Visible(ctx context.Context, id protocol.Identity, users []protocol.UserID) ([]protocol.UserID, error) {
	r, err := s.reader(ctx, &id)
	if err != nil {
		return nil, err
	}
	ids := make([]protocol.ObjectID, 0, len(users))
	for _, u := range users {
		if oid := protocol.ObjectID(u); protocol.KindOf(oid) == protocol.KindUser {
			ids = append(ids, oid)
		}
	}
	objects, err := r.objects(ids)
	if err != nil {
		return nil, late(err)
	}
	var seen []protocol.UserID
	for i := range objects {
		if o := &objects[i]; o.ID != "" {
			if sees, err := r.sees(o); sees && err == nil {
				seen = append(seen, protocol.UserID(o.ID))
			}
		}
	}
	return seen, nil
}

// Allow reports whether an event of a workspace topic may go to a user who is not a full member of that workspace: a
// guest, or somebody in a channel that it shares. It may only if everything that it tells of is visible to them. It
// decides by what the node knows and never waits; what it cannot know it forbids. The member sets of a guest's channels
// are loaded with the guest, so that it does know.
func (s *Service) Allow(user protocol.UserID, ev *protocol.Event) bool {
	u, freshness := s.cache.User(user)
	if freshness != cache.Fresh {
		return false
	}
	seen := false
	for i := range ev.Effects {
		e := &ev.Effects[i]
		switch e.Op {
		case protocol.OpUpsert:
			if e.Object == nil || !s.allows(u, e.Object) {
				return false
			}
		case protocol.OpTombstone:
			// What it was is gone; whoever shared a channel with a user or was in a channel may know that.
			o := protocol.Object{ID: e.ID, Kind: protocol.KindOf(e.ID), Visibility: protocol.Visibility{Sharing: true}}
			if o.Kind == protocol.KindChannel {
				o.Visibility.Channel = protocol.ChannelID(e.ID)
			}
			if !s.allows(u, &o) {
				return false
			}
		default:
			return false
		}
		seen = true
	}
	return seen
}

// allows is sees for one who is not a full member, from memory only.
func (s *Service) allows(u *cache.User, o *protocol.Object) bool {
	if ch := o.Visibility.Channel; ch != "" {
		_, member := u.Membership(ch)
		return member
	}
	user := protocol.UserID(o.ID)
	switch o.Kind {
	case protocol.KindUser:
	case protocol.KindBot:
		user = botUser(o)
	case protocol.KindWorkspace:
		w := protocol.WorkspaceID(o.ID)
		return u.Workspace() == w || slices.ContainsFunc(u.Memberships(), func(m protocol.Membership) bool { return m.Owner == w })
	default:
		return false
	}
	if user == u.ID() {
		return true
	}
	if user == "" || !o.Visibility.Sharing {
		return false
	}
	meets, unknown := s.meets(u, user)
	if !meets && !u.Role().Full() {
		s.acquaint(unknown) // For the next time.
	}
	return meets
}

// meets reports whether two users share a channel, from memory only. If not, unknown are the first one's channels of
// which the node does not know who is in them.
func (s *Service) meets(u *cache.User, user protocol.UserID) (meets bool, unknown []protocol.ChannelID) {
	for _, m := range u.Memberships() {
		if m.Type == protocol.TypeDM {
			if m.Peer == user {
				return true, nil
			}
			continue
		}
		set, freshness := s.cache.Members(m.Channel)
		switch {
		case freshness != cache.Fresh:
			unknown = append(unknown, m.Channel)
		case set.Contains(user):
			return true, nil
		}
	}
	return false, unknown
}

// Hears reports whether id, who could see a user when they began to follow their presence, may still hear of it. It
// decides by what the node knows and never waits; if that is not enough, known is false.
func (s *Service) Hears(id protocol.Identity, user protocol.UserID) (may, known bool) {
	u, freshness := s.cache.User(id.User)
	if freshness != cache.Fresh {
		return false, false
	}
	if user == id.User {
		return true, true
	}
	full := u.Role().Full()
	o, freshness := s.cache.Get(protocol.ObjectID(user), u.Floor())
	here := freshness == cache.Fresh
	r := reader{id: &id}
	if here && full && r.ofOurs(o.Visibility.Workspaces) {
		return true, true
	}
	if here && !o.Visibility.Sharing {
		return false, true
	}
	meets, unknown := s.meets(u, user)
	return meets, meets || len(unknown) == 0 && (here || !full)
}
