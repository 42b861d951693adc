package sqlite

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"flannel/backend/store"
	"flannel/protocol"
)

// Put implements store.Tx.
func (t *writeTx) Put(s protocol.Shape) error {
	o, e := s.Object(), s.Entry()
	listed := true
	var handle any // NULL: may repeat
	if e.Name != "" {
		handle = e.Name
	}
	switch v := s.(type) {
	case *protocol.Channel:
		listed = v.Type() == protocol.TypePublic
		if v.IsIM || v.IsMPIM {
			handle = nil
		}
	case *protocol.Workspace, *protocol.Bot:
		handle = nil
	}
	err := t.exec(`INSERT INTO objects (id, kind, workspace, version, topic, visibility, body, listed, handle, sort_name, name, real_name, display_name, email, inactive, guest, bot, app, words)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET workspace = excluded.workspace, version = excluded.version, buried = 0, topic = excluded.topic, visibility = excluded.visibility,
			body = excluded.body, listed = excluded.listed, handle = excluded.handle, sort_name = excluded.sort_name, name = excluded.name, real_name = excluded.real_name,
			display_name = excluded.display_name, email = excluded.email, inactive = excluded.inactive, guest = excluded.guest, bot = excluded.bot, app = excluded.app, words = excluded.words`,
		o.ID, o.Kind, o.Owner, o.Version, o.Topic, string(protocol.MustMarshal(o.Visibility)), string(o.Body), listed, handle, e.SortName, e.Name, e.RealName, e.DisplayName,
		e.Email, e.Deleted, e.Guest, e.Bot, e.App, searchText(&e))
	if err != nil {
		return fmt.Errorf("put %s: %w", o.ID, err)
	}
	switch v := s.(type) {
	case *protocol.User:
		if t.load {
			t.members.know(v.ID)
		}
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
		if t.load {
			t.members.begin(c.ID)
		}
	}
	if (c.IsIM || c.IsMPIM) && len(c.Members) > 0 { // The first conversation of these users stays the one that is found.
		if err := t.exec("INSERT OR IGNORE INTO conversations VALUES (?, ?)", conversationKey(c.Members), c.ID); err != nil {
			return err
		}
	}
	if n > 0 {
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

// conversationKey names a set of users.
func conversationKey(users []protocol.UserID) string {
	sorted := slices.Compact(slices.Sorted(slices.Values(users)))
	parts := make([]string, len(sorted))
	for i, u := range sorted {
		parts[i] = string(u)
	}
	return strings.Join(parts, " ")
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

// Bury implements store.Tx. What was in the object goes with it: members of channels and of usergroups. Its name is
// free again. An object that never was cannot be buried.
func (t *writeTx) Bury(id protocol.ObjectID, version protocol.Version) error {
	if err := t.must("UPDATE objects SET buried = 1, version = ?, body = '', handle = NULL, listed = 0 WHERE id = ?", version, id); err != nil {
		return fmt.Errorf("bury %s: %w", id, err)
	}
	var queries []string
	switch protocol.KindOf(id) {
	case protocol.KindChannel:
		t.members.fresh = ""
		queries = []string{
			"DELETE FROM memberships WHERE channel = ?", "DELETE FROM conversations WHERE channel = ?", "DELETE FROM shared_channels WHERE channel = ?",
			"UPDATE channels SET members = 0 WHERE id = ?",
		}
	case protocol.KindUsergroup:
		queries = []string{"DELETE FROM usergroup_members WHERE usergroup = ?"}
	}
	for _, query := range queries {
		if err := t.exec(query, id); err != nil {
			return fmt.Errorf("bury %s: %w", id, err)
		}
	}
	return nil
}

// LastVersion implements store.Tx.
func (t *writeTx) LastVersion(id protocol.ObjectID) (v protocol.Version, err error) {
	err = t.row("SELECT version FROM objects WHERE id = ?", id).Scan(&v)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	return v, err
}
