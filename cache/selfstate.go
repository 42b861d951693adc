package cache

import (
	"encoding/json"
	"slices"

	"flannel/protocol"
)

// upsertStates brings user states up to a changed object: themselves, their usergroups, the version and name of their
// channels. It wants mu.
func (c *Cache) upsertStates(o *protocol.Object, p protocol.Position, change *Change) {
	switch o.Kind {
	case protocol.KindUser:
		role, deleted := roleOf(o.Body)
		c.identities.roleChanged(protocol.UserID(o.ID), role, deleted)
		// Also if the state knew it from a load, or is not held: sessions hear of it only here.
		if u, ok := c.users.get(protocol.UserID(o.ID)); !ok || u.setSelf(o, role) {
			change.Roles = append(change.Roles, RoleChange{User: protocol.UserID(o.ID), Role: role})
		}
		if u, ok := c.users.get(protocol.UserID(o.ID)); ok && deleted {
			u.void.Store(true) // The backend has no state of who is deactivated.
		}
	case protocol.KindChannel:
		if ch := c.channels[protocol.ChannelID(o.ID)]; ch != nil {
			ch.setObject(o.Version, isArchived(o.Body))
		}
	case protocol.KindUsergroup:
		users := usersOf(o.Body)
		c.users.each(func(id protocol.UserID, u *User) {
			if p > u.at {
				u.setGroup(o.ID, users[id])
			}
		})
	}
}

// upsertState is upsertStates for one user whose boot is brought up to date.
func (c *Cache) upsertState(u *User, o *protocol.Object) {
	switch o.Kind {
	case protocol.KindUser:
		if protocol.UserID(o.ID) == u.id {
			role, _ := roleOf(o.Body)
			u.setSelf(o, role)
		}
	case protocol.KindChannel:
		if ch := c.channels[protocol.ChannelID(o.ID)]; ch != nil {
			ch.setObject(o.Version, isArchived(o.Body))
		}
	case protocol.KindUsergroup:
		u.setGroup(o.ID, usersOf(o.Body)[u.id])
	}
}

// setSelf notes that o is the user's own object, and reports whether it did: not if a later one is known. It wants Cache.mu.
func (u *User) setSelf(o *protocol.Object, role protocol.Role) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if o.Version < u.version {
		return false
	}
	u.version, u.covered, u.role = o.Version, o.Topic == protocol.Topic(u.workspace), role
	return true
}

// setGroup puts the user in a usergroup or takes them out. It wants Cache.mu.
func (u *User) setGroup(group protocol.ObjectID, in bool) {
	i, was := slices.BinarySearch(u.groups, group)
	if in == was {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if in {
		u.groups = slices.Insert(u.groups, i, group)
	} else {
		u.groups = slices.Delete(u.groups, i, i+1)
	}
}

// sameRole returns r in a text that all share.
func sameRole(r protocol.Role) protocol.Role {
	for _, known := range []protocol.Role{protocol.RoleMember, protocol.RoleAdmin, protocol.RoleGuest, protocol.RoleBot} {
		if r == known {
			return known
		}
	}
	return r
}

// roleOf reads the role from the body of a user, by the rule of protocol.User.Role, and whether they are deactivated.
func roleOf(body []byte) (role protocol.Role, deleted bool) {
	var flags protocol.User
	protocol.EachField(body, func(name, value []byte) bool {
		set := string(value) == "true"
		switch string(name) {
		case "deleted":
			deleted = set
		case "is_bot":
			flags.IsBot = set
		case "is_restricted":
			flags.IsRestricted = set
		case "is_ultra_restricted":
			flags.IsUltraRestricted = set
		case "is_admin":
			flags.IsAdmin = set
		case "is_owner":
			flags.IsOwner = set
		case "is_primary_owner":
			flags.IsPrimaryOwner = set
		}
		return true
	})
	return flags.Role(), deleted
}

func isArchived(body []byte) bool { return string(protocol.Field(body, "is_archived")) == "true" }

func usersOf(body []byte) map[protocol.UserID]bool {
	var users []protocol.UserID
	if json.Unmarshal(protocol.Field(body, "users"), &users) != nil {
		return nil
	}
	in := make(map[protocol.UserID]bool, len(users))
	for _, u := range users {
		in[u] = true
	}
	return in
}

// setField returns the JSON object body with one field set to a JSON value.
func setField(body json.RawMessage, name string, value json.RawMessage) json.RawMessage {
	if len(value) == 0 {
		value = json.RawMessage("null")
	}
	out := make([]byte, 0, len(body)+len(name)+len(value)+8)
	out = append(out, '{')
	field := func(name, value []byte) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, name...)
		out = append(out, ':')
		out = append(out, value...)
	}
	quoted := protocol.AppendString(nil, name)
	done := false
	protocol.EachField(body, func(n, v []byte) bool {
		if string(n) == string(quoted[1:len(quoted)-1]) {
			v, done = value, true
		}
		field(append(append([]byte{'"'}, n...), '"'), v)
		return true
	})
	if !done {
		field(quoted, value)
	}
	return append(out, '}')
}
