package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"flannel/backend/store"
	"flannel/protocol"
)

// reader implements store.Reader on one transaction. It is used by one goroutine.
type reader struct {
	ctx   context.Context // the transaction's
	stmts *stmtCache
	tx    *sql.Tx  // nil on the writer's connection, which is in a transaction anyway
	self  *writeTx // set when this is the reading half of a writeTx: what it has buffered is written first
}

var _ store.Reader = (*reader)(nil)

func (r *reader) stmt(query string) (*sql.Stmt, error) {
	if r.self != nil {
		if err := r.self.flush(); err != nil {
			return nil, err
		}
	}
	st, err := r.stmts.get(r.ctx, query)
	if err != nil || r.tx == nil {
		return st, err
	}
	return r.tx.StmtContext(r.ctx, st), nil
}

// scanner is a row, or the error on the way to it.
type scanner struct {
	row *sql.Row
	err error
}

// Scan is sql.Row's, with store.ErrNotFound for no row.
func (s scanner) Scan(dest ...any) error {
	if s.err != nil {
		return s.err
	}
	err := s.row.Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return store.ErrNotFound
	}
	return err
}

func (r *reader) row(query string, args ...any) scanner {
	st, err := r.stmt(query)
	if err != nil {
		return scanner{err: err}
	}
	return scanner{row: st.QueryRowContext(r.ctx, args...)}
}

// each calls fn for every row; fn scans it.
func (r *reader) each(fn func(scan func(...any) error) error, query string, args ...any) error {
	st, err := r.stmt(query)
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(r.ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells it.
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// list collects one column.
func list[T any](r *reader, query string, args ...any) ([]T, error) {
	var out []T
	err := r.each(func(scan func(...any) error) error {
		var v T
		if err := scan(&v); err != nil {
			return err
		}
		out = append(out, v)
		return nil
	}, query, args...)
	return out, err
}

// Position implements store.Reader.
func (r *reader) Position() (p protocol.Position, err error) {
	err = r.row("SELECT value FROM meta WHERE key = 'position'").Scan(&p)
	return p, err
}

const objectColumns = "id, kind, version, workspace, topic, visibility, body"

func scanObject(scan func(...any) error) (o protocol.Object, err error) {
	var visibility, body []byte
	if err := scan(&o.ID, &o.Kind, &o.Version, &o.Owner, &o.Topic, &visibility, &body); err != nil {
		return o, err
	}
	o.Body = body
	if err := json.Unmarshal(visibility, &o.Visibility); err != nil {
		return o, fmt.Errorf("visibility of %s: %w", o.ID, err)
	}
	return o, nil
}

// Object implements store.Reader.
func (r *reader) Object(id protocol.ObjectID) (protocol.Object, error) {
	row := r.row("SELECT "+objectColumns+" FROM objects WHERE id = ? AND buried = 0", id)
	return scanObject(row.Scan)
}

// Objects implements store.Reader.
func (r *reader) Objects(ids []protocol.ObjectID) (found []protocol.Object, missing []protocol.ObjectID, err error) {
	asked := make(map[protocol.ObjectID]bool, len(ids))
	for _, id := range ids {
		if asked[id] {
			continue
		}
		asked[id] = true
		o, err := r.Object(id)
		switch {
		case err == nil:
			found = append(found, o)
		case errors.Is(err, store.ErrNotFound):
			missing = append(missing, id)
		default:
			return nil, nil, err
		}
	}
	return found, missing, nil
}

// EachObject implements store.Reader.
func (r *reader) EachObject(workspace protocol.WorkspaceID, kind protocol.Kind, fn func(*protocol.Object) error) error {
	return r.each(func(scan func(...any) error) error {
		o, err := scanObject(scan)
		if err != nil {
			return err
		}
		return fn(&o)
	}, "SELECT "+objectColumns+" FROM objects WHERE workspace = ? AND kind = ? AND buried = 0 ORDER BY id", workspace, kind)
}

// List implements store.Reader. A cursor is the last entry's id, or its sort name and id with a NUL between.
func (r *reader) List(req protocol.ListRequest) (entries []protocol.ListEntry, next string, err error) {
	const columns = "o.id, o.version, o.sort_name, o.name, o.real_name, o.display_name, o.email, o.inactive, o.guest, o.bot, o.app, coalesce(c.members, 0)"
	query := "SELECT " + columns + " FROM objects o LEFT JOIN channels c ON c.id = o.id WHERE o.workspace = ?1 AND o.kind = ?2 AND o.buried = 0 AND o.listed = 1"
	args := []any{req.Workspace, req.Kind, req.Limit + 1}
	if req.Kind == protocol.KindChannel { // Channels that are shared into the workspace have another owner.
		query = "SELECT " + columns + " FROM objects o JOIN channels c ON c.id = o.id WHERE o.kind = ?2 AND o.buried = 0 AND o.listed = 1" +
			" AND (o.workspace = ?1 OR o.id IN (SELECT channel FROM shared_channels WHERE workspace = ?1))"
	}
	switch req.Order {
	case protocol.ByName:
		sortName, id, ok := strings.Cut(req.Cursor, "\x00")
		if req.Cursor != "" && !ok {
			return nil, "", &protocol.Error{Code: protocol.CodeInvalidCursor}
		}
		if ok {
			query += " AND (o.sort_name, o.id) > (?4, ?5)"
			args = append(args, sortName, id)
		}
		query += " ORDER BY o.sort_name, o.id"
	default:
		if req.Cursor != "" {
			query += " AND o.id > ?4"
			args = append(args, req.Cursor)
		}
		query += " ORDER BY o.id"
	}
	query += " LIMIT ?3"
	err = r.each(func(scan func(...any) error) error {
		var e protocol.ListEntry
		if err := scan(&e.ID, &e.Version, &e.SortName, &e.Name, &e.RealName, &e.DisplayName, &e.Email, &e.Deleted, &e.Guest, &e.Bot, &e.App, &e.NumMembers); err != nil {
			return err
		}
		entries = append(entries, e)
		return nil
	}, query, args...)
	if err != nil || len(entries) <= req.Limit {
		return entries, "", err
	}
	entries = entries[:req.Limit]
	last := entries[req.Limit-1]
	if req.Order == protocol.ByName {
		return entries, last.SortName + "\x00" + string(last.ID), nil
	}
	return entries, string(last.ID), nil
}

// Workspaces implements store.Reader.
func (r *reader) Workspaces() ([]protocol.Workspace, error) {
	bodies, err := list[[]byte](r, "SELECT body FROM objects WHERE kind = 'workspace' AND buried = 0 ORDER BY id")
	if err != nil {
		return nil, err
	}
	workspaces := make([]protocol.Workspace, len(bodies))
	for i, body := range bodies {
		if err := json.Unmarshal(body, &workspaces[i]); err != nil {
			return nil, fmt.Errorf("decode workspace: %w", err)
		}
	}
	return workspaces, nil
}

// UserByName implements store.Reader.
func (r *reader) UserByName(workspace protocol.WorkspaceID, name string) (id protocol.UserID, err error) {
	err = r.row("SELECT id FROM objects WHERE workspace = ? AND kind = 'user' AND handle = ?", workspace, name).Scan(&id)
	return id, err
}

// UserByEmail implements store.Reader.
func (r *reader) UserByEmail(workspace protocol.WorkspaceID, email string) (id protocol.UserID, err error) {
	err = r.row("SELECT id FROM objects WHERE workspace = ? AND email = ? AND email <> '' AND kind = 'user' ORDER BY inactive, id LIMIT 1", workspace, email).Scan(&id)
	return id, err
}

// ChannelByName implements store.Reader.
func (r *reader) ChannelByName(workspace protocol.WorkspaceID, name string) (id protocol.ChannelID, err error) {
	err = r.row("SELECT id FROM objects WHERE workspace = ? AND kind = 'channel' AND handle = ?", workspace, name).Scan(&id)
	return id, err
}

// Conversation implements store.Reader.
func (r *reader) Conversation(users []protocol.UserID) (id protocol.ChannelID, err error) {
	err = r.row("SELECT channel FROM conversations WHERE users = ?", conversationKey(users)).Scan(&id)
	return id, err
}

func conversationKey(users []protocol.UserID) string {
	sorted := slices.Compact(slices.Sorted(slices.Values(users)))
	parts := make([]string, len(sorted))
	for i, u := range sorted {
		parts[i] = string(u)
	}
	return strings.Join(parts, " ")
}

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
// channel instead of one of each member.
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
	}, "SELECT c.id, group_concat(m.user) FROM channels c JOIN memberships m ON m.channel = c.id WHERE c.workspace = ? GROUP BY c.id ORDER BY c.id", workspace)
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
	err = r.row("SELECT EXISTS (SELECT 1 FROM memberships x JOIN memberships y ON y.channel = x.channel AND y.user = ? WHERE x.user = ?)", b, a).Scan(&yes)
	return yes, err
}

// Prefs implements store.Reader.
func (r *reader) Prefs(user protocol.UserID) (json.RawMessage, error) {
	prefs := make(map[string]json.RawMessage)
	err := r.each(func(scan func(...any) error) error {
		var name string
		var value []byte
		if err := scan(&name, &value); err != nil {
			return err
		}
		prefs[name] = value
		return nil
	}, "SELECT name, value FROM prefs WHERE user = ?", user)
	if err != nil {
		return nil, err
	}
	return protocol.Marshal(prefs)
}

// ManualAway implements store.Reader.
func (r *reader) ManualAway(user protocol.UserID) (yes bool, err error) {
	err = r.row("SELECT EXISTS (SELECT 1 FROM away WHERE user = ?)", user).Scan(&yes)
	return yes, err
}

// Usergroups implements store.Reader.
func (r *reader) Usergroups(user protocol.UserID) ([]protocol.ObjectID, error) {
	return list[protocol.ObjectID](r, "SELECT usergroup FROM usergroup_members WHERE user = ? ORDER BY usergroup", user)
}

// Revoked implements store.Reader.
func (r *reader) Revoked(token string, user protocol.UserID, issued int64) (yes bool, err error) {
	err = r.row("SELECT EXISTS (SELECT 1 FROM revoked_tokens WHERE token = ?) OR EXISTS (SELECT 1 FROM revoked_users WHERE user = ? AND at >= ?)", token, user, issued).Scan(&yes)
	return yes, err
}

// Head implements store.Reader.
func (r *reader) Head(topic protocol.Topic) (seq protocol.Seq, p protocol.Position, err error) {
	err = r.row("SELECT seq, position FROM topics WHERE topic = ?", topic).Scan(&seq, &p)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return seq, p, err
}

// Events implements store.Reader.
func (r *reader) Events(after protocol.Position, limit int) ([]*protocol.Event, error) {
	// Whole commits: the last position within the limit, or the next commit alone if it is larger than the limit.
	var end *protocol.Position
	err := r.row("SELECT max(position) FROM (SELECT position FROM events WHERE position > ? ORDER BY position LIMIT ?)", after, limit).Scan(&end)
	if err != nil || end == nil {
		return nil, err
	}
	return r.events("SELECT body FROM events WHERE position > ? AND position <= ? ORDER BY position, n", after, *end)
}

// TopicEvents implements store.Reader.
func (r *reader) TopicEvents(topic protocol.Topic, after protocol.Seq, limit int) ([]*protocol.Event, error) {
	return r.events("SELECT body FROM events WHERE topic = ? AND seq > ? ORDER BY seq LIMIT ?", topic, after, limit)
}

func (r *reader) events(query string, args ...any) (events []*protocol.Event, err error) {
	err = r.each(func(scan func(...any) error) error {
		var body []byte
		if err := scan(&body); err != nil {
			return err
		}
		e := new(protocol.Event)
		if err := json.Unmarshal(body, e); err != nil {
			return fmt.Errorf("decode event: %w", err)
		}
		events = append(events, e)
		return nil
	}, query, args...)
	return events, err
}

// ReplayFrom implements store.Reader.
func (r *reader) ReplayFrom() (p protocol.Position, err error) {
	err = r.row("SELECT value FROM meta WHERE key = 'replay_from'").Scan(&p)
	return p, err
}
