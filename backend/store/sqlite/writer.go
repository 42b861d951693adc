package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// job is one Update on its way through the writer.
type job struct {
	ctx  context.Context // the caller's: it ends the wait in line, not the work
	fn   func(store.Tx) error
	load bool
	done chan struct{} // closed by the writer; what is below may be read then

	position protocol.Position
	events   []*protocol.Event
	err      error
}

var errClosed = errors.New("store is closed")

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) (protocol.Position, error) {
	return s.submit(&job{ctx: ctx, fn: fn, done: make(chan struct{})})
}

func (s *Store) submit(j *job) (protocol.Position, error) {
	select {
	case s.jobs <- j:
	case <-j.ctx.Done():
		return 0, j.ctx.Err()
	case <-s.quit:
		return 0, errClosed
	}
	<-j.done
	return j.position, j.err
}

// writer runs the Updates that come, those that wait together in one transaction.
func (s *Store) writer() {
	defer close(s.done)
	for {
		select {
		case j := <-s.jobs:
			s.batch(j)
		case <-s.quit:
			return
		}
	}
}

// batch runs first and those that wait behind it, commits, and tells them.
func (s *Store) batch(first *job) {
	var ran []*job
	finish := func(err error) {
		for _, j := range ran {
			if j.err == nil {
				j.err = err
			}
			if j.err == nil && len(j.events) > 0 && s.onCommit != nil {
				s.onCommit(j.position, j.events)
			}
			close(j.done)
		}
	}
	ctx := context.Background() // The writer's own: a caller who leaves must not break the others' transaction.
	if _, err := s.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		ran = append(ran, first)
		finish(fmt.Errorf("begin: %w", err))
		return
	}
	for j := first; j != nil; {
		ran = append(ran, j)
		if err := s.runJob(ctx, j); err != nil {
			s.conn.ExecContext(ctx, "ROLLBACK") //nolint:errcheck // The error that led here tells more.
			finish(err)
			return
		}
		j = nil
		if len(ran) < maxBatch && !first.load {
			select {
			case j = <-s.jobs:
			default:
			}
		}
	}
	if _, err := s.conn.ExecContext(ctx, "COMMIT"); err != nil {
		s.conn.ExecContext(ctx, "ROLLBACK") //nolint:errcheck // As above.
		finish(fmt.Errorf("commit: %w", err))
		return
	}
	finish(nil)
}

// runJob runs one Update within a savepoint. Its own failure is in j.err; the error returned is the batch's end.
func (s *Store) runJob(ctx context.Context, j *job) error {
	if j.err = j.ctx.Err(); j.err != nil {
		return nil
	}
	if _, err := s.conn.ExecContext(ctx, "SAVEPOINT job"); err != nil {
		return fmt.Errorf("savepoint: %w", err)
	}
	tx := &writeTx{reader: reader{ctx: ctx, stmts: &s.writeStmts}, load: j.load, now: time.Now()}
	tx.self = tx
	j.err = protect(func() error {
		if err := j.fn(tx); err != nil {
			return err
		}
		return tx.finish()
	})
	if j.err != nil {
		_, err := s.conn.ExecContext(ctx, "ROLLBACK TO job; RELEASE job")
		return err
	}
	if _, err := s.conn.ExecContext(ctx, "RELEASE job"); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	j.position, j.events = tx.position, tx.events
	return nil
}

// protect turns a panic of an Update into its error: it must not take the other writers down.
func protect(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("update panicked: %v", r)
		}
	}()
	return fn()
}

// Load implements store.Store. Indexes that nobody reads meanwhile are dropped and built anew at the end.
func (s *Store) Load(ctx context.Context, fn func(store.Tx) error) error {
	_, err := s.submit(&job{ctx: ctx, load: true, done: make(chan struct{}), fn: func(tx store.Tx) error {
		w := tx.(*writeTx)
		for name := range lateIndexes {
			if err := w.exec("DROP INDEX IF EXISTS " + name); err != nil {
				return err
			}
		}
		if err := fn(tx); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.flush(); err != nil {
			return err
		}
		for name, def := range lateIndexes {
			if err := w.exec("CREATE INDEX " + name + " ON " + def); err != nil {
				return err
			}
		}
		return w.exec("UPDATE channels SET members = (SELECT count(*) FROM memberships m WHERE m.channel = channels.id)")
	}})
	return err
}

// lateIndexes are built after a Load: name and definition, as in the migrations.
var lateIndexes = map[string]string{
	"memberships_user": "memberships (user, channel)",
	"objects_sort":     "objects (workspace, kind, sort_name, id)",
	"objects_email":    "objects (workspace, email) WHERE email <> ''",
}

// Prune implements store.Store.
func (s *Store) Prune(ctx context.Context, before time.Time) error {
	_, err := s.Update(ctx, func(tx store.Tx) error {
		w := tx.(*writeTx)
		var last *int64
		if err := w.row("SELECT max(position) FROM events WHERE at < ?", before.UnixMilli()).Scan(&last); err != nil || last == nil {
			return err
		}
		if err := w.exec("DELETE FROM events WHERE position <= ?", *last); err != nil {
			return err
		}
		return w.exec("UPDATE meta SET value = ? WHERE key = 'replay_from' AND value < ?", *last, *last)
	})
	return err
}
