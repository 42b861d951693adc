package sqlite

import (
	"fmt"

	"flannel/protocol"
)

// Put implements store.Tx.
func (t *writeTx) Put(s protocol.Shape) error {
	o, e := s.Object(), s.Entry()
	listed, handle := true, any(e.Name)
	switch v := s.(type) {
	case *protocol.Channel:
		listed = v.Type() == protocol.TypePublic
		if v.IsIM || v.IsMPIM {
			handle = nil
		}
	case *protocol.Workspace, *protocol.Bot:
		handle = nil
	}
	err := t.exec(`INSERT INTO objects (id, kind, workspace, version, topic, visibility, body, listed, handle, sort_name, name, real_name, display_name, email, inactive, guest, bot, app)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET workspace = excluded.workspace, version = excluded.version, buried = 0, topic = excluded.topic, visibility = excluded.visibility,
			body = excluded.body, listed = excluded.listed, handle = excluded.handle, sort_name = excluded.sort_name, name = excluded.name, real_name = excluded.real_name,
			display_name = excluded.display_name, email = excluded.email, inactive = excluded.inactive, guest = excluded.guest, bot = excluded.bot, app = excluded.app`,
		o.ID, o.Kind, o.Owner, o.Version, o.Topic, string(protocol.MustMarshal(o.Visibility)), string(o.Body), listed, handle, e.SortName, e.Name, e.RealName, e.DisplayName,
		e.Email, e.Deleted, e.Guest, e.Bot, e.App)
	if err != nil {
		return fmt.Errorf("put %s: %w", o.ID, err)
	}
	switch v := s.(type) {
	case *protocol.Channel:
		return t.putChannel(v)
	case *protocol.Usergroup:
		return t.putUsergroup(v)
	}
	return nil
}

func (t *writeTx) putChannel(c *protocol.Channel) error {
	n, err := t.affected("UPDATE channels SET workspace = ?, type = ?, archived = ?, updated = ? WHERE id = ?", c.ContextTeamID, c.Type(), c.IsArchived, c.Updated, c.ID)
	if err != nil {
		return err
	}
	if n == 0 {
		if err := t.exec("INSERT INTO channels (id, workspace, type, archived, updated) VALUES (?, ?, ?, ?, ?)", c.ID, c.ContextTeamID, c.Type(), c.IsArchived, c.Updated); err != nil {
			return err
		}
		t.members.fresh = c.ID
		if c.IsIM || c.IsMPIM {
			if err := t.exec("INSERT OR IGNORE INTO conversations VALUES (?, ?)", conversationKey(c.Members), c.ID); err != nil {
				return err
			}
		}
	}
	if n > 0 || len(c.SharedTeamIDs) > 0 {
		if err := t.exec("DELETE FROM shared_channels WHERE channel = ?", c.ID); err != nil {
			return err
		}
	}
	for _, w := range c.SharedTeamIDs {
		if w == c.ContextTeamID {
			continue
		}
		if err := t.exec("INSERT OR IGNORE INTO shared_channels VALUES (?, ?)", w, c.ID); err != nil {
			return err
		}
	}
	return nil
}

func (t *writeTx) putUsergroup(g *protocol.Usergroup) error {
	if err := t.exec("DELETE FROM usergroup_members WHERE usergroup = ?", g.ID); err != nil {
		return err
	}
	for _, u := range g.Users {
		if err := t.exec("INSERT OR IGNORE INTO usergroup_members VALUES (?, ?)", u, g.ID); err != nil {
			return err
		}
	}
	return nil
}

// memberBuffer gathers the members of a channel that a Load has just made, so that they go in by hundreds: a workspace
// of 148,170 users has millions of memberships.
type memberBuffer struct {
	fresh protocol.ChannelID       // made in this transaction: nobody can be in it but who is buffered or was just written
	seen  map[protocol.UserID]bool // of fresh
	of    protocol.ChannelID       // whose members seen holds
	rows  []any                    // memberColumns values a member
	count int
}

const (
	memberColumns = 4
	maxBuffered   = 200 // members a statement: 800 variables, far below SQLite's limit
)

// add buffers a member, or reports that they are there already.
func (b *memberBuffer) add(user protocol.UserID, m protocol.Membership) (exists bool) {
	if b.of != m.Channel {
		b.of, b.seen = m.Channel, make(map[protocol.UserID]bool)
	}
	if b.seen[user] {
		return true
	}
	b.seen[user] = true
	b.rows = append(b.rows, string(m.Channel), string(user), string(m.Peer), m.Open)
	b.count++
	return false
}

// flush writes the buffered members.
func (t *writeTx) flush() error {
	b := &t.members
	if b.count == 0 {
		return nil
	}
	rows, n := b.rows, b.count
	b.rows, b.count = nil, 0 // before the statement, which comes back here
	err := t.exec("INSERT INTO memberships (channel, user, peer, open) VALUES "+placeholders("(?,?,?,?)", n), rows...)
	b.rows = rows[:0]
	if err != nil {
		return fmt.Errorf("add %d members: %w", n, err)
	}
	return nil
}
