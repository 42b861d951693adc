package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"flannel/backend/store"
	"flannel/protocol"
)

// Viewer decides what one identity may see, on one snapshot.
type Viewer struct {
	r  store.Reader
	ID *protocol.Identity
}

// NewViewer returns the view of id on r. It lives as long as r.
func NewViewer(r store.Reader, id *protocol.Identity) *Viewer { return &Viewer{r: r, ID: id} }

// Sees applies the object's visibility to the viewer: full roles see what is of their workspaces, members what is of
// their channel, and whoever shares a channel with a user or a bot sees them. Everybody sees themself and their own
// workspaces.
func (v *Viewer) Sees(o *protocol.Object) (bool, error) {
	if v.ID.Role.Full() && slices.ContainsFunc(o.Visibility.Workspaces, v.inWorkspace) {
		return true, nil
	}
	if o.Visibility.Channel != "" {
		if m, err := v.membership(o.Visibility.Channel); m != nil || err != nil {
			return m != nil, err
		}
	}
	switch o.Kind {
	case protocol.KindUser:
		return v.sharesWith(o, protocol.UserID(o.ID))
	case protocol.KindBot:
		var b protocol.Bot
		if err := decode(o, &b); err != nil || b.UserID == "" {
			return false, err
		}
		return v.sharesWith(o, b.UserID)
	case protocol.KindWorkspace:
		return v.seesWorkspace(protocol.WorkspaceID(o.ID))
	default:
		return false, nil
	}
}

func (v *Viewer) inWorkspace(w protocol.WorkspaceID) bool { return slices.Contains(v.ID.Workspaces, w) }

func (v *Viewer) sharesWith(o *protocol.Object, user protocol.UserID) (bool, error) {
	if user == v.ID.User {
		return true, nil
	}
	if !o.Visibility.Sharing {
		return false, nil
	}
	return v.r.ShareChannel(v.ID.User, user)
}

// seesWorkspace: one's own, and those that own a channel one is in.
func (v *Viewer) seesWorkspace(w protocol.WorkspaceID) (bool, error) {
	if v.inWorkspace(w) {
		return true, nil
	}
	ms, err := v.r.Memberships(v.ID.User)
	return slices.ContainsFunc(ms, func(m protocol.Membership) bool { return m.Owner == w }), err
}

// membership returns the viewer's place in a channel, nil if there is none.
func (v *Viewer) membership(channel protocol.ChannelID) (*protocol.Membership, error) {
	m, err := v.r.Membership(channel, v.ID.User)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return &m, err
}

// Object returns an object of the kind that the viewer sees, or an error with code.
func (v *Viewer) Object(id protocol.ObjectID, kind protocol.Kind, code protocol.Code) (protocol.Object, error) {
	if protocol.KindOf(id) != kind {
		return protocol.Object{}, refuse(code)
	}
	o, err := v.r.Object(id)
	if err != nil {
		return o, orRefuse(err, code)
	}
	sees, err := v.Sees(&o)
	if err == nil && !sees {
		err = refuse(code)
	}
	return o, err
}

// Place is a channel as one viewer finds it: Membership is nil if they are not in it.
type Place struct {
	Channel    protocol.Channel
	Object     protocol.Object
	Membership *protocol.Membership
}

// Channel returns a channel that the viewer sees, or channel_not_found.
func (v *Viewer) Channel(id protocol.ChannelID) (*Place, error) {
	if protocol.KindOf(protocol.ObjectID(id)) != protocol.KindChannel {
		return nil, refuse(protocol.CodeChannelNotFound)
	}
	o, err := v.r.Object(protocol.ObjectID(id))
	if err != nil {
		return nil, orRefuse(err, protocol.CodeChannelNotFound)
	}
	p := &Place{Object: o}
	if p.Membership, err = v.membership(id); err != nil {
		return nil, err
	}
	if p.Membership == nil {
		// Looked at only for those who are not in it, which saves asking for the membership twice.
		if sees := v.ID.Role.Full() && slices.ContainsFunc(o.Visibility.Workspaces, v.inWorkspace); !sees {
			return nil, refuse(protocol.CodeChannelNotFound)
		}
	}
	return p, decode(&o, &p.Channel)
}

// User returns a user whom the viewer sees, or user_not_found. stranger tells that the user belongs to none of the
// viewer's workspaces.
func (v *Viewer) User(id protocol.UserID) (u *protocol.User, stranger bool, err error) {
	o, err := v.Object(protocol.ObjectID(id), protocol.KindUser, protocol.CodeUserNotFound)
	if err != nil {
		return nil, false, err
	}
	u = new(protocol.User)
	return u, v.Stranger(&o), decode(&o, u)
}

// Stranger reports whether a user or bot belongs to none of the viewer's workspaces.
func (v *Viewer) Stranger(o *protocol.Object) bool { return !v.inWorkspace(o.Owner) }

// decode reads the body of an object of ours.
func decode(o *protocol.Object, into any) error {
	if err := json.Unmarshal(o.Body, into); err != nil {
		return fmt.Errorf("decode object %q: %w", o.ID, err)
	}
	return nil
}

// place is Channel for one who wants to change something there: they must be a member, and the channel must not be
// archived.
func (a *act) place(id protocol.ChannelID) (*Place, error) {
	p, err := a.Channel(id)
	switch {
	case err != nil:
		return nil, err
	case p.Membership == nil:
		return nil, refuse(protocol.CodeNotInChannel)
	case p.Channel.IsArchived:
		return nil, refuse(CodeIsArchived)
	default:
		return p, nil
	}
}

// notGuest refuses guests.
func (a *act) notGuest() error {
	if a.ID.Role == protocol.RoleGuest {
		return refuse(CodeUserRestricted)
	}
	return nil
}

// named refuses DMs and group DMs, which have no name, topic or membership that could be changed.
func named(c *protocol.Channel) error {
	if c.IsIM || c.IsMPIM {
		return refuse(CodeMethodNotSupported)
	}
	return nil
}
