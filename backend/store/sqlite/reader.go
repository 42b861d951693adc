package sqlite

import (
	"context"
	"database/sql"
	"errors"

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
	return r.prepared(query)
}

// prepared is stmt for what does not depend on buffered writes.
func (r *reader) prepared(query string) (*sql.Stmt, error) {
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
