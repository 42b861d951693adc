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
	// Path of the database file. It is made if it is not there.
	Path string
	// Log gets migrations at info. Nil discards.
	Log *slog.Logger
}

const (
	// readers is the size of the pool: a few more than cores, because a long rtm.start holds one for seconds.
	readers = 8
	// maxBatch bounds the Updates that share a commit: at a few hundred microseconds each, a tenth of a second.
	maxBatch = 256
)

// Store implements store.Store.
type Store struct {
	read  *sql.DB
	write *sql.DB // one connection, used by the writer goroutine only
	conn  *sql.Conn

	readStmts, writeStmts stmtCache

	jobs     chan *job     // Updates that wait for the writer; unbuffered: callers wait in line anyway; never closed
	quit     chan struct{} // closed by Close
	done     chan struct{} // closed when the writer has ended
	closing  sync.Once
	closeErr error
	onCommit func(protocol.Position, []*protocol.Event)
}

var _ store.Store = (*Store)(nil)

// Open opens or makes the database and brings its schema up to date.
func Open(ctx context.Context, opt Options) (*Store, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	dsn := func(extra ...string) string {
		q := url.Values{"_pragma": append([]string{"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "busy_timeout(10000)", "temp_store(MEMORY)", "mmap_size(268435456)"}, extra...)}
		return "file:" + (&url.URL{Path: opt.Path}).EscapedPath() + "?" + q.Encode()
	}
	write, err := sql.Open("sqlite", dsn("cache_size(-65536)"))
	if err != nil {
		return nil, fmt.Errorf("open store %q: %w", opt.Path, err)
	}
	write.SetMaxOpenConns(1)
	if err := migrate(ctx, write, opt.Log); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate store %q: %w", opt.Path, err), write.Close())
	}
	read, err := sql.Open("sqlite", dsn("cache_size(-16384)", "query_only(1)"))
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	conn, err := write.Conn(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store %q: %w", opt.Path, err), read.Close(), write.Close())
	}
	s := &Store{read: read, write: write, conn: conn, jobs: make(chan *job), quit: make(chan struct{}), done: make(chan struct{})}
	s.readStmts.prepare = read.PrepareContext
	s.writeStmts.prepare = conn.PrepareContext
	go s.writer()
	return s, nil
}

func migrate(ctx context.Context, db *sql.DB, log *slog.Logger) error {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, sub)
	if err != nil {
		return err
	}
	results, err := p.Up(ctx)
	for _, r := range results {
		log.InfoContext(ctx, "migration applied", "migration", r.Source.Path, "took", r.Duration)
	}
	return err
}

// OnCommit implements store.Store.
func (s *Store) OnCommit(fn func(protocol.Position, []*protocol.Event)) { s.onCommit = fn }

// Close implements store.Store.
func (s *Store) Close() error {
	s.closing.Do(func() {
		close(s.quit)
		<-s.done
		s.closeErr = errors.Join(s.readStmts.close(), s.writeStmts.close(), s.conn.Close(), s.read.Close(), s.write.Close())
	})
	return s.closeErr
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // A read has nothing to lose.
	return fn(&reader{ctx: ctx, stmts: &s.readStmts, tx: tx})
}

// stmtCache keeps prepared statements by their text. The number of texts is the number of queries in this package.
type stmtCache struct {
	prepare func(ctx context.Context, query string) (*sql.Stmt, error)
	mu      sync.RWMutex
	stmts   map[string]*sql.Stmt // guarded by mu
}

func (c *stmtCache) get(ctx context.Context, query string) (*sql.Stmt, error) {
	c.mu.RLock()
	st := c.stmts[query]
	c.mu.RUnlock()
	if st != nil {
		return st, nil
	}
	st, err := c.prepare(context.WithoutCancel(ctx), query)
	if err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.stmts[query]; other != nil {
		return other, st.Close()
	}
	if c.stmts == nil {
		c.stmts = make(map[string]*sql.Stmt)
	}
	c.stmts[query] = st
	return st, nil
}

func (c *stmtCache) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, st := range c.stmts {
		errs = append(errs, st.Close())
	}
	c.stmts = nil
	return errors.Join(errs...)
}
