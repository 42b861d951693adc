package sqlite

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"flannel/backend/store"
)

// The interleaving: as many Views as the pool has connections begin, so that each holds one, and then each asks for a
// statement that nobody has prepared yet. Preparing takes a connection of its own for a moment; when the Views held all
// of them, every one waited for the others for ever, and the whole backend stood still.
func TestView_AllPrepareAtOnce(t *testing.T) {
	st, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "flannel.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var inside, done sync.WaitGroup
	inside.Add(readers)
	for range readers {
		done.Go(func() {
			err := st.View(ctx, func(r store.Reader) error {
				inside.Done()
				inside.Wait()
				_, err := r.Prefs("U0NOBODY0")
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}

	finished := make(chan struct{})
	go func() { done.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-ctx.Done():
		t.Fatal("the Views wait for each other")
	}
}

// One View more than there are connections waits, and gives up with its context.
func TestView_WaitsForAPlace(t *testing.T) {
	st, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "flannel.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	release := make(chan struct{})
	var inside, done sync.WaitGroup
	inside.Add(readers)
	for range readers {
		done.Go(func() {
			st.View(t.Context(), func(store.Reader) error { inside.Done(); <-release; return nil })
		})
	}
	inside.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	err = st.View(ctx, func(store.Reader) error { return nil })

	if !errors.Is(err, context.Canceled) {
		t.Errorf("a View without a place gives %v", err)
	}
	close(release)
	done.Wait()
}
