package sqlite

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// maxBatch bounds the Updates that share a commit: at a few hundred microseconds each, a tenth of a second.
const maxBatch = 256

// job is one Update on its way through the writer.
type job struct {
	ctx  context.Context // the caller's: it ends the wait in line, not the work
	fn   func(*writeTx) error
	load bool
	done chan struct{} // closed by the writer; what is below may be read then

	position protocol.Position
	events   []*protocol.Event
	err      error
	panicked string // the panic of fn and where it was, for the caller
}

// Update implements store.Store. fn runs in a goroutine of its own, so that a panic in it reaches the caller of Update
// and nobody else.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) (protocol.Position, error) {
	return s.submit(ctx, false, func(tx *writeTx) error { return fn(tx) })
}

func (s *Store) submit(ctx context.Context, load bool, fn func(*writeTx) error) (protocol.Position, error) {
	if err := s.begin(); err != nil {
		return 0, err
	}
	defer s.running.Done()
	j := &job{ctx: ctx, fn: fn, load: load, done: make(chan struct{})}
	select {
	case s.jobs <- j:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	<-j.done
	if j.panicked != "" {
		panic(j.panicked)
	}
	if j.err != nil {
		return 0, j.err
	}
	return j.position, nil
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
	ctx := context.Background() // The writer's own: a caller who leaves must not break the others' transaction.
	ran, err := s.run(ctx, first)
	if err != nil {
		s.conn.ExecContext(ctx, "ROLLBACK") //nolint:errcheck // The error that led here tells more.
	}
	for _, j := range ran {
		if j.err == nil {
			j.err = err
		}
		if j.err == nil && j.load {
			s.checkpoint(ctx)
		}
		if j.err == nil && len(j.events) > 0 && s.onCommit != nil {
			s.onCommit(j.position, j.events)
		}
		close(j.done)
	}
}

// run does the transaction of a batch. An error undoes all of it.
func (s *Store) run(ctx context.Context, first *job) (ran []*job, err error) {
	ran = []*job{first}
	if _, err := s.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return ran, fmt.Errorf("begin: %w", err)
	}
	for j := first; j != nil; {
		if err := s.runJob(ctx, j); err != nil {
			return ran, err
		}
		if j = s.next(len(ran)); j != nil {
			ran = append(ran, j)
		}
	}
	if _, err := s.conn.ExecContext(ctx, "COMMIT"); err != nil {
		return ran, fmt.Errorf("commit: %w", err)
	}
	return ran, nil
}

// next returns an Update that waits, nil if there is none or the batch is full.
func (s *Store) next(ran int) *job {
	if ran >= maxBatch {
		return nil
	}
	select {
	case j := <-s.jobs:
		return j
	default:
		return nil
	}
}

// runJob runs one Update within a savepoint. Its own failure is in j.err; the error returned is the batch's end.
func (s *Store) runJob(ctx context.Context, j *job) error {
	if j.err = j.ctx.Err(); j.err != nil {
		return nil
	}
	if _, err := s.conn.ExecContext(ctx, "SAVEPOINT job"); err != nil {
		return fmt.Errorf("savepoint: %w", err)
	}
	tx := &writeTx{reader: reader{ctx: ctx, stmts: &s.writeStmts}, conn: s.conn, load: j.load, now: time.Now()}
	tx.self = tx
	j.call(tx)
	if j.err == nil {
		j.err = tx.finish()
	}
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

// call runs the job's function and waits. It has a goroutine of its own, because a panic or a runtime.Goexit (the
// Fatal of a test) must not end the writer.
func (j *job) call(tx *writeTx) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		j.err = errors.New("update did not return")
		defer func() {
			if r := recover(); r != nil {
				j.panicked = fmt.Sprintf("update panicked: %v\n\n%s", r, debug.Stack())
			}
		}()
		j.err = j.fn(tx)
	}()
	<-ended
}
