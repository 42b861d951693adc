package sqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"flannel/backend/store"
	"flannel/backend/store/storetest"
	"flannel/protocol"
)

func openAt(t testing.TB, dir string) *Store {
	t.Helper()
	st, err := Open(context.Background(), Options{Path: filepath.Join(dir, "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func openNew(t testing.TB) *Store {
	t.Helper()
	st := openAt(t, t.TempDir())
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

func TestStore(t *testing.T) {
	texts := make(map[string]bool)
	storetest.Run(t, func(t *testing.T) store.Store { return &recorder{openAt(t, t.TempDir()), texts} })
	t.Run("Plans", func(t *testing.T) { testPlans(t, texts) })
}

func TestStore_Reopen(t *testing.T) {
	storetest.Reopen(t, func(t *testing.T, dir string) store.Store { return openAt(t, dir) })
}

func TestOpen_FilesAreTheOwnersOnly(t *testing.T) {
	dir := t.TempDir()
	st := openAt(t, dir)
	if _, err := st.Update(context.Background(), func(tx store.Tx) error { return tx.SetManualAway("U1", true) }); err != nil {
		t.Fatal(err)
	}

	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 { // the database, its log and the log's index
		t.Fatalf("files: %v, %v", files, err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", f.Name(), info.Mode(), err)
		}
	}

	// A closed store is one file.
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("files: %v, %v", files, err)
	}
}

// TestOpen_IsDurable: a killed process cannot show that a machine without power would keep what was acknowledged, so
// what makes SQLite do it is looked at.
func TestOpen_IsDurable(t *testing.T) {
	st := openNew(t)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		var write, read string
		if err := st.conn.QueryRowContext(context.Background(), "PRAGMA "+pragma).Scan(&write); err != nil {
			t.Fatal(err)
		}
		if err := st.read.QueryRowContext(context.Background(), "PRAGMA "+pragma).Scan(&read); err != nil {
			t.Fatal(err)
		}
		if write != want || read != want {
			t.Errorf("%s is %s for the writer and %s for readers, want %s", pragma, write, read, want)
		}
	}
}

func TestOpen_NamesWhatItCannotOpen(t *testing.T) {
	_, err := Open(context.Background(), Options{Path: filepath.Join(t.TempDir(), "no", "store.db")})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "store.db") {
		t.Errorf("open gave %v", err)
	}
	odd := filepath.Join(t.TempDir(), "a ? strange # name%20.db") // must not become another file
	st, err := Open(context.Background(), Options{Path: odd})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(odd); err != nil || info.Size() == 0 {
		t.Errorf("database: %v, %v", info, err)
	}
}

// TestUpdate_PanicReachesItsCaller: a function that panics or leaves its goroutine hurts neither the writer nor the
// Updates that share its transaction.
func TestUpdate_PanicReachesItsCaller(t *testing.T) {
	st := openNew(t)
	try := func(fn func(tx store.Tx) error) (panicked any, err error) {
		defer func() { panicked = recover() }()
		_, err = st.Update(context.Background(), fn)
		return nil, err
	}
	emit := func(tx store.Tx) error {
		return tx.Emit(&protocol.Event{Topic: "T1", Type: "test", Class: protocol.ClassControl})
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if panicked, err := try(func(tx store.Tx) error {
				if err := emit(tx); err != nil {
					return err
				}
				panic("boom")
			}); err != nil || panicked == nil || !strings.Contains(panicked.(string), "boom") || !strings.Contains(panicked.(string), "store_test.go") {
				t.Errorf("panicking update: %v, %v", err, panicked)
			}
		})
		wg.Go(func() {
			if panicked, err := try(func(store.Tx) error { runtime.Goexit(); return nil }); err == nil || panicked != nil {
				t.Errorf("leaving update: %v, %v", err, panicked)
			}
		})
		wg.Go(func() {
			if panicked, err := try(emit); err != nil || panicked != nil {
				t.Errorf("good update: %v, %v", err, panicked)
			}
		})
	}
	wg.Wait()

	err := st.View(context.Background(), func(r store.Reader) error {
		p, err := r.Position()
		if p != 20 {
			t.Errorf("position %d after 20 good updates", p)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestUpdate_WaitingUpdatesShareACommit: those that came while another ran are in one transaction with what follows it.
func TestUpdate_WaitingUpdatesShareACommit(t *testing.T) {
	const waiting = 50
	st := openNew(t)
	busy, proceed := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := st.Update(context.Background(), func(store.Tx) error {
			close(busy)
			<-proceed
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-busy
	positions := make([]protocol.Position, waiting)
	for i := range waiting {
		wg.Go(func() {
			var err error
			positions[i], err = st.Update(context.Background(), func(tx store.Tx) error {
				return tx.Emit(&protocol.Event{Topic: "T1", Type: "test", Class: protocol.ClassControl})
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	// Nothing of it is to be seen before the commit, and all of it after.
	position := func() (p protocol.Position) {
		if err := st.View(context.Background(), func(r store.Reader) (err error) { p, err = r.Position(); return err }); err != nil {
			t.Error(err)
		}
		return p
	}
	if p := position(); p != 0 {
		t.Errorf("position %d before the commit", p)
	}
	close(proceed)
	wg.Wait()
	if p := position(); p != waiting {
		t.Errorf("position %d after all", p)
	}
	seen := make(map[protocol.Position]bool)
	for _, p := range positions {
		seen[p] = true
	}
	if len(seen) != waiting {
		t.Errorf("%d distinct positions of %d updates", len(seen), waiting)
	}
}
