package sim_test

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"flannel/protocol"
)

// What can be done to the backend: the events of each change are those of docs/upstream.md, section 7. Every method is
// one commit, and returns its position and why it was refused, if it was.

var mentionForm = regexp.MustCompile(`<@(U[A-Z0-9]+)>`)

// refused is all that a client is told: the simulation only wants to know that nothing happened.
const refused protocol.Code = "refused"

func (b *backend) post(user protocol.UserID, ch protocol.ChannelID, text string) (ts protocol.TS, at protocol.Position, code protocol.Code) {
	at, code = b.commit(func(t *tx) protocol.Code {
		r := t.rooms[ch]
		if r == nil || !r.in(user) || r.shape.IsArchived {
			return refused
		}
		m := &message{ts: r.nextTS(t.now), user: user, text: text, everyone: strings.Contains(text, "<!channel>")}
		for _, found := range mentionForm.FindAllStringSubmatch(text, -1) {
			if u := protocol.UserID(found[1]); u != user && !slices.Contains(m.mentions, u) {
				m.mentions = append(m.mentions, u)
			}
		}
		if r.shape.IsIM || r.shape.IsMPIM {
			for _, u := range r.sorted() {
				t.setOpen(r, u, true)
			}
		}
		r.messages = append(r.messages, m)
		r.places[user].lastRead = m.ts
		ts = m.ts
		t.emit(protocol.Topic(ch), protocol.ClassMessage, "message", fields{"channel": ch, "user": user, "text": text, "ts": m.ts},
			refsOf(ch, append([]protocol.UserID{user}, m.mentions...)...),
			protocol.Effect{Op: protocol.OpMessageAdded, Channel: ch, User: user, TS: m.ts, Latest: m.ts, Mentions: m.mentions, Everyone: m.everyone})
		return ""
	})
	return ts, at, code
}

// edit and remove pick the n-th newest message of the channel.
func (b *backend) edit(user protocol.UserID, ch protocol.ChannelID, n int) (protocol.Position, protocol.Code) {
	return b.commit(func(t *tx) protocol.Code {
		r, m := t.find(ch, n)
		if m == nil || !r.in(user) {
			return refused
		}
		ts := r.nextTS(t.now)
		m.text += " (edited)"
		t.emit(protocol.Topic(ch), protocol.ClassMessage, "message", fields{
			"subtype": "message_changed", "hidden": true, "channel": ch, "ts": ts, "message": fields{"user": m.user, "text": m.text, "ts": m.ts},
		}, refsOf(ch, m.user))
		return ""
	})
}

func (b *backend) remove(user protocol.UserID, ch protocol.ChannelID, n int) (protocol.Position, protocol.Code) {
	return b.commit(func(t *tx) protocol.Code {
		r, m := t.find(ch, n)
		if m == nil || !r.in(user) {
			return refused
		}
		ts := r.nextTS(t.now)
		m.deleted = true
		t.emit(protocol.Topic(ch), protocol.ClassMessage, "message",
			fields{"subtype": "message_deleted", "hidden": true, "channel": ch, "ts": ts, "deleted_ts": m.ts}, refsOf(ch, m.user),
			protocol.Effect{Op: protocol.OpMessageRemoved, Channel: ch, User: m.user, TS: m.ts, Latest: r.latest(), Mentions: m.mentions, Everyone: m.everyone})
		return ""
	})
}

func (t *tx) find(ch protocol.ChannelID, n int) (*room, *message) {
	r := t.rooms[ch]
	if r == nil || r.shape.IsArchived {
		return nil, nil
	}
	for _, m := range slices.Backward(r.messages) {
		if m.deleted {
			continue
		}
		if n == 0 {
			return r, m
		}
		n--
	}
	return r, nil
}

func (b *backend) mark(user protocol.UserID, ch protocol.ChannelID, n int) (protocol.Position, protocol.Code) {
	return b.commit(func(t *tx) protocol.Code {
		r, m := t.find(ch, n)
		if m == nil || !r.in(user) {
			return refused
		}
		r.places[user].lastRead = m.ts
		count := r.mentions(user, m.ts)
		typ := prefix(&r.shape) + "_marked"
		t.control(protocol.Topic(user), typ, fields{"channel": ch, "ts": m.ts, "mention_count": count}, refsOf(ch),
			protocol.Effect{Op: protocol.OpRead, Channel: ch, User: user, TS: m.ts, MentionCount: count})
		return ""
	})
}

func (b *backend) join(user protocol.UserID, ch protocol.ChannelID) (protocol.Position, protocol.Code) {
	return b.commit(func(t *tx) protocol.Code {
		r := t.rooms[ch]
		if r == nil || r.shape.Type() != protocol.TypePublic || r.shape.IsArchived || r.in(user) || !t.accounts[user].roles.at(t.at).Full() || !t.belongs(user, r) {
			return refused
		}
		t.admit(r, user)
		return ""
	})
}

// belongs reports whether somebody of the user's workspace may be in the channel.
func (t *tx) belongs(user protocol.UserID, r *room) bool {
	home := t.accounts[user].shape.TeamID
	return home == r.shape.ContextTeamID || slices.Contains(r.shape.SharedTeamIDs, home)
}

func (b *backend) leave(user protocol.UserID, ch protocol.ChannelID) (protocol.Position, protocol.Code) {
	return b.commit(func(t *tx) protocol.Code {
		r := t.rooms[ch]
		if r == nil || r.shape.IsIM || r.shape.IsMPIM || r.shape.IsArchived || !r.in(user) || len(r.places) == 1 {
			return refused
		}
		t.expel(r, user)
		return ""
	})
}

func (b *backend) invite(actor protocol.UserID, ch protocol.ChannelID, user protocol.UserID) (protocol.Position, protocol.Code) {
	return b.commit(func(t *tx) protocol.Code {
		r := t.rooms[ch]
		if r == nil || r.shape.IsIM || r.shape.IsMPIM || r.shape.IsArchived || !r.in(actor) || r.in(user) || t.accounts[user].dead.at(t.at) || !t.belongs(user, r) {
			return refused
		}
		t.admit(r, user)
		return ""
	})
}

func (b *backend) kick(actor protocol.UserID, ch protocol.ChannelID, user protocol.UserID) (protocol.Position, protocol.Code) {
	if actor == user {
		return 0, refused
	}
	return b.commit(func(t *tx) protocol.Code {
		r := t.rooms[ch]
		if r == nil || r.shape.IsIM || r.shape.IsMPIM || r.shape.IsArchived || !r.in(actor) || !r.in(user) {
			return refused
		}
		t.expel(r, user)
		return ""
	})
}

// admit puts a user in a named channel. What was said before does not count as unread.
func (t *tx) admit(r *room, user protocol.UserID) {
	t.enter(r, user, false)
	r.places[user].lastRead = r.latest()
	m := t.membershipLocked(r, user)
	typ := prefix(&r.shape) + "_joined"
	t.control(protocol.Topic(user), typ, fields{"channel": bodyOf(r)}, refsOf(r.shape.ID, user),
		protocol.Effect{Op: protocol.OpMemberAdded, Channel: r.shape.ID, User: user, Membership: &m})
	t.control(protocol.Topic(r.shape.ID), "member_joined_channel", fields{"user": user, "channel": r.shape.ID}, refsOf(r.shape.ID, user),
		protocol.Effect{Op: protocol.OpMemberAdded, Channel: r.shape.ID, User: user})
}

func (t *tx) enter(r *room, user protocol.UserID, open bool) {
	if r.members[user] == nil {
		r.members[user] = new(timeline[bool])
	}
	r.members[user].set(t.at, true)
	r.places[user] = &place{open: open}
}

func (t *tx) expel(r *room, user protocol.UserID) {
	r.members[user].set(t.at, false)
	delete(r.places, user)
	removed := protocol.Effect{Op: protocol.OpMemberRemoved, Channel: r.shape.ID, User: user}
	t.control(protocol.Topic(user), prefix(&r.shape)+"_left", fields{"channel": r.shape.ID}, refsOf(r.shape.ID), removed)
	t.control(protocol.Topic(r.shape.ID), "member_left_channel", fields{"user": user, "channel": r.shape.ID}, refsOf(r.shape.ID, user), removed)
}

func (b *backend) create(user protocol.UserID, private bool) (id protocol.ChannelID, at protocol.Position, code protocol.Code) {
	at, code = b.commit(func(t *tx) protocol.Code {
		if !t.accounts[user].roles.at(t.at).Full() {
			return refused
		}
		id = protocol.ChannelID("C9" + number(t.commits))
		t.makeRoom(id, t.accounts[user].shape.TeamID, user, private)
		t.admit(t.rooms[id], user)
		return ""
	})
	return id, at, code
}

func (t *tx) makeRoom(id protocol.ChannelID, home protocol.WorkspaceID, creator protocol.UserID, private bool, shared ...protocol.WorkspaceID) {
	r := &room{members: make(map[protocol.UserID]*timeline[bool]), places: make(map[protocol.UserID]*place)}
	r.shape = protocol.Channel{
		ID: id, Name: "ch-" + string(id), Created: t.now.Unix(), Creator: creator, ContextTeamID: home, IsChannel: !private, IsGroup: private, IsPrivate: private,
		SharedTeamIDs: shared, IsShared: len(shared) > 0,
	}
	t.addRoom(r)
	var payload fields
	if !private {
		payload = fields{"channel": nil} // filled by putRoom
	}
	t.putRoom(r, "channel_created", payload)
}

func (t *tx) addRoom(r *room) {
	t.rooms[r.shape.ID] = r
	t.list = append(t.list, r.shape.ID)
}

// putRoom raises a channel's version and tells its covering topic.
func (t *tx) putRoom(r *room, typ string, payload fields) {
	r.shape.Updated = nextVersion(r.shape.Updated, t.now.UnixMilli())
	o := r.shape.Object()
	effect := t.put(o)
	if _, there := payload["channel"]; there {
		payload["channel"] = o.Body
	}
	t.control(o.Topic, typ, payload, refsOf(r.shape.ID, r.shape.Creator), effect)
}

// open is the conversation of user with others: made if there is none, and shown.
func (b *backend) open(user protocol.UserID, others ...protocol.UserID) (protocol.Position, protocol.Code) {
	members := append([]protocol.UserID{user}, others...)
	slices.Sort(members)
	members = slices.Compact(members)
	return b.commit(func(t *tx) protocol.Code {
		if len(members) < 2 {
			return refused
		}
		for _, id := range t.list {
			if r := t.rooms[id]; (r.shape.IsIM || r.shape.IsMPIM) && slices.Equal(r.shape.Members, members) {
				t.setOpen(r, user, true)
				return ""
			}
		}
		for _, u := range members {
			if t.accounts[u].dead.at(t.at) || t.accounts[u].shape.TeamID != t.accounts[user].shape.TeamID {
				return refused
			}
		}
		t.makeDirect(user, members)
		return ""
	})
}

func (t *tx) makeDirect(user protocol.UserID, members []protocol.UserID) {
	group := len(members) > 2
	id := protocol.ChannelID("D9" + number(t.commits))
	if group {
		id = "G" + id[1:]
	}
	r := &room{members: make(map[protocol.UserID]*timeline[bool]), places: make(map[protocol.UserID]*place)}
	r.shape = protocol.Channel{
		ID: id, Created: t.now.Unix(), Creator: user, Updated: nextVersion(0, t.now.UnixMilli()), ContextTeamID: t.accounts[user].shape.TeamID,
		IsGroup: group, IsIM: !group, IsMPIM: group, IsPrivate: true, Members: members,
	}
	if group {
		r.shape.Name = "mpdm-" + string(id)
	}
	t.addRoom(r)
	effects := []protocol.Effect{t.put(r.shape.Object())}
	for _, u := range members {
		t.enter(r, u, u == user)
		m := t.membershipLocked(r, u)
		typ := "im_created"
		if group {
			typ = "mpim_joined"
		}
		t.control(protocol.Topic(u), typ, fields{"channel": bodyOf(r)}, refsOf(id, members...),
			protocol.Effect{Op: protocol.OpMemberAdded, Channel: id, User: u, Membership: &m})
		effects = append(effects, protocol.Effect{Op: protocol.OpMemberAdded, Channel: id, User: u})
	}
	t.control(protocol.Topic(id), "member_joined_channel", nil, nil, effects...)
}

func (b *backend) hide(user protocol.UserID, ch protocol.ChannelID) (protocol.Position, protocol.Code) {
	return b.commit(func(t *tx) protocol.Code {
		r := t.rooms[ch]
		if r == nil || !r.in(user) || !r.shape.IsIM && !r.shape.IsMPIM {
			return refused
		}
		t.setOpen(r, user, false)
		return ""
	})
}

func (t *tx) setOpen(r *room, user protocol.UserID, open bool) {
	if r.places[user].open == open {
		return
	}
	r.places[user].open = open
	typ := prefix(&r.shape) + "_close"
	if open {
		typ = prefix(&r.shape) + "_open"
	}
	t.control(protocol.Topic(user), typ, fields{"channel": r.shape.ID}, refsOf(r.shape.ID),
		protocol.Effect{Op: protocol.OpOpen, Channel: r.shape.ID, Open: open})
}

func (b *backend) rename(user protocol.UserID, ch protocol.ChannelID, name string) (protocol.Position, protocol.Code) {
	return b.commit(func(t *tx) protocol.Code {
		r := t.rooms[ch]
		if r == nil || !r.in(user) || r.shape.IsArchived || r.shape.IsIM || r.shape.IsMPIM {
			return refused
		}
		r.shape.Name = name
		t.putRoom(r, prefix(&r.shape)+"_rename", fields{"channel": nil})
		return ""
	})
}

func (b *backend) archive(ch protocol.ChannelID) (protocol.Position, protocol.Code) {
	return b.commit(func(t *tx) protocol.Code {
		r := t.rooms[ch]
		if r == nil || r.shape.IsIM || r.shape.IsMPIM || ch == generalID {
			return refused
		}
		r.shape.IsArchived = !r.shape.IsArchived
		typ := prefix(&r.shape) + "_archive"
		if !r.shape.IsArchived {
			typ = prefix(&r.shape) + "_unarchive"
		}
		t.putRoom(r, typ, fields{"id": ch})
		return ""
	})
}

func (b *backend) profile(user protocol.UserID, status string) (protocol.Position, protocol.Code) {
	return b.commit(func(t *tx) protocol.Code {
		t.accounts[user].shape.Profile.StatusText = status
		t.putUser(user)
		return ""
	})
}

func (t *tx) putUser(user protocol.UserID) {
	u := &t.accounts[user].shape
	u.Updated = nextVersion(u.Updated, t.now.Unix())
	t.accounts[user].roles.set(t.at, u.Role())
	o := u.Object()
	t.control(o.Topic, "user_change", fields{"user": o.Body, "cache_ts": u.Updated}, refsOf("", user), t.put(o))
}

// guest makes a member a guest, or a guest a member.
func (b *backend) guest(user protocol.UserID) (protocol.Position, protocol.Code) {
	return b.commit(func(t *tx) protocol.Code {
		u := &t.accounts[user].shape
		if u.IsBot || u.IsAdmin || u.Deleted {
			return refused
		}
		u.IsRestricted = !u.IsRestricted
		t.putUser(user)
		return ""
	})
}

func (b *backend) deactivate(user protocol.UserID) (protocol.Position, protocol.Code) {
	return b.commit(func(t *tx) protocol.Code {
		a := t.accounts[user]
		if a.shape.Deleted {
			return refused
		}
		a.shape.Deleted = true
		a.dead.set(t.at, true)
		t.putUser(user)
		for _, l := range t.logins {
			if l.user == user && l.revoked == 0 {
				l.revoked = t.at
			}
		}
		t.control(protocol.Topic(user), "account_inactive", nil, nil, protocol.Effect{Op: protocol.OpRevoked, User: user})
		return ""
	})
}

func (b *backend) revoke(token string) (protocol.Position, protocol.Code) {
	return b.commit(func(t *tx) protocol.Code {
		l := t.logins[token]
		if l == nil || l.revoked != 0 {
			return refused
		}
		l.revoked = t.at
		t.control(protocol.Topic(l.user), "token_revoked", nil, nil, protocol.Effect{Op: protocol.OpRevoked, User: l.user, Token: l.id})
		return ""
	})
}

// newToken lets a user in again. It is no event.
func (b *backend) newToken(user protocol.UserID) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.newTokenLocked(user)
}

func (b *backend) newTokenLocked(user protocol.UserID) string {
	n := len(b.logins) + 1
	l := &login{token: "xoxp-" + number(n), id: "tk" + number(n), user: user}
	b.logins[l.token] = l
	b.accounts[user].token = l.token
	return l.token
}

func (b *backend) pref(user protocol.UserID, value string) (protocol.Position, protocol.Code) {
	return b.commit(func(t *tx) protocol.Code {
		t.accounts[user].theme = value
		t.control(protocol.Topic(user), "pref_change", fields{"name": "theme", "value": value}, nil,
			protocol.Effect{Op: protocol.OpPref, Name: "theme", Value: protocol.MustMarshal(value)})
		return ""
	})
}

func prefix(c *protocol.Channel) string {
	switch c.Type() {
	case protocol.TypeDM:
		return "im"
	case protocol.TypeGroupDM:
		return "mpim"
	case protocol.TypePrivate:
		return "group"
	}
	return "channel"
}

func bodyOf(r *room) any { return r.shape.Object().Body }

func refsOf(ch protocol.ChannelID, users ...protocol.UserID) []protocol.ObjectID {
	var ids []protocol.ObjectID
	for _, u := range users {
		if id := protocol.ObjectID(u); u != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if ch != "" {
		ids = append(ids, protocol.ObjectID(ch))
	}
	return ids
}

// timeOf is when a position was committed.
func (b *backend) timeOfLocked(p protocol.Position) time.Time {
	if p == 0 || int(p) > len(b.when) {
		return time.Time{}
	}
	return b.when[p-1]
}
