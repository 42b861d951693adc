package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"sync"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // registers the driver

	"flannel/backend/store"
	"flannel/protocol"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Options of Open.
type Options struct {
	// Path of the database file. It is made if it is not there, readable by its owner only.
	Path string
	// Log gets migrations at info. Nil discards.
	Log *slog.Logger
}

const (
	// readers is the size of the pool: a few more than cores, because a long rtm.start holds one for seconds.
	readers = 8
	// cacheWriter and cacheReader are page caches in KiB, of each connection: the upper levels of all trees of the
	// largest workspace for the writer; readers lean on the system's cache.
	cacheWriter = 64 << 10
	cacheReader = 8 << 10
	// maxWAL is what is left of the log beside the database after a large write, in bytes.
	maxWAL = 64 << 20
)

// Store implements store.Store.
type Store struct {
	log   *slog.Logger
	read  *sql.DB
	write *sql.DB
	conn  *sql.Conn // the one connection of write; used by the writer goroutine only

	readStmts, writeStmts stmtCache

	views    chan struct{} // a place per View under way; capacity readers; never closed
	jobs     chan *job     // Updates that wait for the writer; unbuffered: callers wait in line anyway; never closed
	quit     chan struct{} // closed by Close, when nothing runs any more
	done     chan struct{} // closed when the writer has ended
	onCommit func(protocol.Position, []*protocol.Event)

	closing  sync.Once
	closeErr error // static after closing
	mu       sync.Mutex
	closed   bool           // guarded by mu: no transaction begins any more
	running  sync.WaitGroup // transactions; Add only under mu and not closed
}

var _ store.Store = (*Store)(nil)

var errClosed = errors.New("store is closed")

// Open opens or makes the database and brings its schema up to date.
func Open(ctx context.Context, opt Options) (*Store, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{log: opt.Log, jobs: make(chan *job), quit: make(chan struct{}), done: make(chan struct{})}
	if err := s.connect(ctx, opt.Path); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %q: %w", opt.Path, err), s.disconnect())
	}
	s.readStmts.prepare = s.read.PrepareContext
	s.writeStmts.prepare = s.conn.PrepareContext
	go s.writer()
	return s, nil
}

func (s *Store) connect(ctx context.Context, path string) (err error) {
	// SQLite would make it readable by everybody; the log beside it takes over the file's mode.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if s.write, err = sql.Open("sqlite", dsn(path, fmt.Sprintf("cache_size(-%d)", cacheWriter), fmt.Sprintf("journal_size_limit(%d)", maxWAL))); err != nil {
		return err
	}
	s.write.SetMaxOpenConns(1)
	if err := s.migrate(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if s.conn, err = s.write.Conn(ctx); err != nil {
		return err
	}
	if s.read, err = sql.Open("sqlite", dsn(path, fmt.Sprintf("cache_size(-%d)", cacheReader), "query_only(1)")); err != nil {
		return err
	}
	// One connection more than Views: a View that prepares a statement takes a second one for a moment. If all had a View
	// and each of these waited for a second one, they would wait for ever.
	s.read.SetMaxOpenConns(readers + 1)
	s.read.SetMaxIdleConns(readers + 1)
	s.views = make(chan struct{}, readers)
	return nil
}

// dsn returns the address of the database with the pragmas that every connection has, and more.
func dsn(path string, pragmas ...string) string {
	all := append([]string{"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"}, pragmas...)
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + url.Values{"_pragma": all}.Encode()
}

func (s *Store) migrate(ctx context.Context) error {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, s.write, sub, goose.WithGoMigrations(
		goose.NewGoMigration(3, &goose.GoFunc{RunTx: fillWords}, nil),
	))
	if err != nil {
		return err
	}
	results, err := p.Up(ctx)
	for _, r := range results {
		s.log.InfoContext(ctx, "migration applied", "migration", r.Source.Path, "took", r.Duration)
	}
	return err
}

// OnCommit implements store.Store.
func (s *Store) OnCommit(fn func(protocol.Position, []*protocol.Event)) { s.onCommit = fn }

// begin counts a transaction; the caller calls s.running.Done at its end.
func (s *Store) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	s.running.Add(1)
	return nil
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.running.Wait()
		close(s.quit)
		<-s.done
		s.closeErr = errors.Join(s.readStmts.close(), s.writeStmts.close(), s.disconnect())
	})
	return s.closeErr
}

// disconnect closes what connect opened. The writer's connection goes last: it takes the log back into the file.
func (s *Store) disconnect() error {
	var errs []error
	if s.read != nil {
		errs = append(errs, s.read.Close())
	}
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	if s.write != nil {
		errs = append(errs, s.write.Close())
	}
	return errors.Join(errs...)
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.running.Done()
	select {
	case s.views <- struct{}{}:
		defer func() { <-s.views }()
	case <-ctx.Done():
		return ctx.Err()
	}
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // A read has nothing to lose.
	return fn(&reader{ctx: ctx, stmts: &s.readStmts, tx: tx})
}
