package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"flannel/backend/store"
	"flannel/protocol"
)

// writeTx implements store.Tx on the writer's connection. It is used by the writer goroutine, and by the goroutine of
// the Update's function while that runs.
type writeTx struct {
	reader
	conn *sql.Conn
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

// affected runs a statement and returns the number of rows that it changed. A broken uniqueness is store.ErrExists; a
// reference to nothing (a membership in no channel, a reaction to no message) is store.ErrNotFound.
func (t *writeTx) affected(query string, args ...any) (int64, error) {
	st, err := t.stmt(query)
	if err != nil {
		return 0, err
	}
	res, err := st.ExecContext(t.ctx, args...)
	if err != nil {
		if se, ok := errors.AsType[*sqlite.Error](err); ok {
			switch se.Code() {
			case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
				return 0, fmt.Errorf("%w: %w", store.ErrExists, err)
			case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
				return 0, fmt.Errorf("%w: %w", store.ErrNotFound, err)
			}
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

// once runs a statement that is not worth keeping, until ctx ends.
func (t *writeTx) once(ctx context.Context, query string) error {
	_, err := t.conn.ExecContext(ctx, query)
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
