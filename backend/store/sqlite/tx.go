package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"flannel/backend/store"
	"flannel/protocol"
)

// writeTx implements store.Tx on the writer's connection. It is used by the writer goroutine.
type writeTx struct {
	reader
	load bool
	now  time.Time

	position protocol.Position // of this commit: given at the first Emit
	events   []*protocol.Event

	members memberBuffer // Load only
}

var _ store.Tx = (*writeTx)(nil)

func (t *writeTx) exec(query string, args ...any) error {
	_, err := t.affected(query, args...)
	return err
}

// affected runs a statement and returns the number of rows that it changed. A broken uniqueness is store.ErrExists.
func (t *writeTx) affected(query string, args ...any) (int64, error) {
	st, err := t.stmt(query)
	if err != nil {
		return 0, err
	}
	res, err := st.ExecContext(t.ctx, args...)
	if err != nil {
		if se, ok := errors.AsType[*sqlite.Error](err); ok && (se.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || se.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY) {
			return 0, fmt.Errorf("%w: %w", store.ErrExists, err)
		}
		return 0, err
	}
	return res.RowsAffected()
}

// must is exec for statements that change exactly one row: none is store.ErrNotFound.
func (t *writeTx) must(query string, args ...any) error {
	n, err := t.affected(query, args...)
	if err == nil && n == 0 {
		return store.ErrNotFound
	}
	return err
}

// finish writes what is left at the end of an Update and finds its position.
func (t *writeTx) finish() error {
	if err := t.flush(); err != nil {
		return err
	}
	if t.position == 0 {
		p, err := t.Position()
		t.position = p
		return err
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

// Bury implements store.Tx.
func (t *writeTx) Bury(id protocol.ObjectID, version protocol.Version) error {
	return t.must("UPDATE objects SET buried = 1, version = ?, body = '', handle = NULL, listed = 0 WHERE id = ?", version, id)
}

// SetPref implements store.Tx.
func (t *writeTx) SetPref(user protocol.UserID, name string, value json.RawMessage) error {
	return t.exec("INSERT INTO prefs VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", user, name, string(value))
}

// SetManualAway implements store.Tx.
func (t *writeTx) SetManualAway(user protocol.UserID, away bool) error {
	if away {
		return t.exec("INSERT OR IGNORE INTO away VALUES (?)", user)
	}
	return t.exec("DELETE FROM away WHERE user = ?", user)
}

// Revoke implements store.Tx.
func (t *writeTx) Revoke(token string, user protocol.UserID, at time.Time) error {
	if token != "" {
		return t.exec("INSERT OR IGNORE INTO revoked_tokens VALUES (?, ?, ?)", token, user, at.Unix())
	}
	return t.exec("INSERT INTO revoked_users VALUES (?, ?) ON CONFLICT DO UPDATE SET at = max(at, excluded.at)", user, at.Unix())
}

// Emit implements store.Tx.
func (t *writeTx) Emit(e *protocol.Event) error {
	if t.load {
		return errors.New("a load emits no events")
	}
	if e.Class == protocol.ClassEphemeral {
		return errors.New("ephemeral events are not kept")
	}
	if t.position == 0 {
		p, err := t.Position()
		if err != nil {
			return err
		}
		t.position = p + 1
		// At once, so that the next Update of the same transaction counts on from here.
		if err := t.exec("UPDATE meta SET value = ? WHERE key = 'position'", t.position); err != nil {
			return err
		}
	}
	e.Position = t.position
	err := t.row("INSERT INTO topics VALUES (?, 1, ?) ON CONFLICT DO UPDATE SET seq = seq + 1, position = excluded.position RETURNING seq", e.Topic, t.position).Scan(&e.Seq)
	if err != nil {
		return fmt.Errorf("next seq of %s: %w", e.Topic, err)
	}
	body, err := protocol.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	t.events = append(t.events, e)
	return t.exec("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", t.position, len(t.events), e.Topic, e.Seq, t.now.UnixMilli(), string(body))
}

// placeholders returns n groups like "(?,?)" between commas.
func placeholders(group string, n int) string {
	return strings.TrimSuffix(strings.Repeat(group+",", n), ",")
}
