package sqlite

import (
	"errors"
	"fmt"
	"strings"

	"flannel/backend/store"
	"flannel/protocol"
)

const membershipQuery = "SELECT m.channel, c.workspace, c.type, m.peer, c.updated, c.archived, m.open, m.last_read, c.latest, m.mentions FROM memberships m JOIN channels c ON c.id = m.channel WHERE "

func scanMembership(scan func(...any) error) (m protocol.Membership, err error) {
	err = scan(&m.Channel, &m.Owner, &m.Type, &m.Peer, &m.Updated, &m.Archived, &m.Open, &m.LastRead, &m.Latest, &m.MentionCount)
	return m, err
}

// Memberships implements store.Reader.
func (r *reader) Memberships(user protocol.UserID) (all []protocol.Membership, err error) {
	err = r.each(func(scan func(...any) error) error {
		m, err := scanMembership(scan)
		all = append(all, m)
		return err
	}, membershipQuery+"m.user = ? ORDER BY m.channel", user)
	return all, err
}

// Membership implements store.Reader.
func (r *reader) Membership(channel protocol.ChannelID, user protocol.UserID) (protocol.Membership, error) {
	row := r.row(membershipQuery+"m.channel = ? AND m.user = ?", channel, user)
	return scanMembership(row.Scan)
}

// Members implements store.Reader.
func (r *reader) Members(channel protocol.ChannelID, after protocol.UserID, limit int) (users []protocol.UserID, next protocol.UserID, total int, err error) {
	if limit <= 0 {
		limit = protocol.MaxMembersLimit
	}
	if err := r.row("SELECT members FROM channels WHERE id = ?", channel).Scan(&total); err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, "", 0, err
	}
	users, err = list[protocol.UserID](r, "SELECT user FROM memberships WHERE channel = ? AND user > ? ORDER BY user LIMIT ?", channel, after, limit+1)
	if len(users) > limit {
		users = users[:limit]
		next = users[limit-1]
	}
	return users, next, total, err
}

// EachMembership implements store.Reader. Members are gathered per channel in the database, which makes one row of a
// channel instead of one of each member; the largest row is a channel of everybody, about 12 bytes a user.
func (r *reader) EachMembership(workspace protocol.WorkspaceID, fn func(protocol.ChannelID, protocol.UserID) error) error {
	return r.each(func(scan func(...any) error) error {
		var channel protocol.ChannelID
		var users string
		if err := scan(&channel, &users); err != nil {
			return err
		}
		for user := range strings.SplitSeq(users, ",") {
			if err := fn(channel, protocol.UserID(user)); err != nil {
				return err
			}
		}
		return nil
	}, "SELECT c.id, (SELECT group_concat(user) FROM (SELECT user FROM memberships WHERE channel = c.id ORDER BY user)) FROM channels c WHERE c.workspace = ? AND c.members > 0 ORDER BY c.id", workspace)
}

// NumMembers implements store.Reader.
func (r *reader) NumMembers(channels []protocol.ChannelID) (map[protocol.ChannelID]int, error) {
	out := make(map[protocol.ChannelID]int, len(channels))
	for _, c := range channels {
		var n int
		switch err := r.row("SELECT members FROM channels WHERE id = ?", c).Scan(&n); {
		case err == nil:
			out[c] = n
		case !errors.Is(err, store.ErrNotFound):
			return nil, err
		}
	}
	return out, nil
}

// ShareChannel implements store.Reader.
func (r *reader) ShareChannel(a, b protocol.UserID) (yes bool, err error) {
	err = r.row("SELECT EXISTS (SELECT 1 FROM memberships x CROSS JOIN memberships y ON y.channel = x.channel AND y.user = ? WHERE x.user = ?)", b, a).Scan(&yes)
	return yes, err
}

const insertMember = "INSERT INTO memberships (channel, user, peer, open, last_read, mentions) "

// AddMember implements store.Tx.
func (t *writeTx) AddMember(user protocol.UserID, m protocol.Membership) error {
	if t.load && m.Channel == t.members.fresh {
		return t.buffer(user, &m)
	}
	err := t.must(insertMember+"SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE EXISTS (SELECT 1 FROM objects WHERE id = ?2 AND kind = 'user' AND buried = 0)",
		m.Channel, user, m.Peer, m.Open, m.LastRead, m.MentionCount)
	if err != nil {
		return fmt.Errorf("add member: %w", err)
	}
	return t.exec("UPDATE channels SET members = members + 1 WHERE id = ?", m.Channel)
}

// RemoveMember implements store.Tx.
func (t *writeTx) RemoveMember(channel protocol.ChannelID, user protocol.UserID) error {
	if err := t.must("DELETE FROM memberships WHERE channel = ? AND user = ?", channel, user); err != nil {
		return err
	}
	t.members.fresh = "" // What the buffer knows of the channel does not hold any more.
	return t.exec("UPDATE channels SET members = members - 1 WHERE id = ?", channel)
}

// SetRead implements store.Tx.
func (t *writeTx) SetRead(channel protocol.ChannelID, user protocol.UserID, ts protocol.TS, mentions int) error {
	return t.must("UPDATE memberships SET last_read = ?, mentions = ? WHERE channel = ? AND user = ?", ts, mentions, channel, user)
}

// SetOpen implements store.Tx.
func (t *writeTx) SetOpen(channel protocol.ChannelID, user protocol.UserID, open bool) error {
	return t.must("UPDATE memberships SET open = ? WHERE channel = ? AND user = ?", open, channel, user)
}
