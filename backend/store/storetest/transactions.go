package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"flannel/backend/store"
	"flannel/protocol"
)

var errWanted = errors.New("wanted")

func testFailedUpdate(t *testing.T, st store.Store) {
	var told commits
	st.OnCommit(told.listen)
	world(t, st)
	update(t, st, func(tx store.Tx) error { return tx.Emit(event("T1HOME", "before")) })

	refused(t, st, errWanted, func(tx store.Tx) error {
		err := errors.Join(tx.Put(user("U5EVE", home, "eve")), tx.RemoveMember(general, ben), tx.InsertMessage(message(general, ann, stamp(1), ""), "", store.Mentions{Everyone: true}),
			tx.SetPref(ann, "theme", []byte("1")), tx.Emit(event("T1HOME", "never")))
		if err != nil {
			return err
		}
		return errWanted
	})

	p := update(t, st, func(tx store.Tx) error { return tx.Emit(event("T1HOME", "after")) })
	view(t, st, func(r store.Reader) error {
		_, objErr := r.Object("U5EVE")
		m, err := r.Membership(general, ben)
		sizes, sizesErr := r.NumMembers([]protocol.ChannelID{general})
		_, msgErr := r.Message(general, stamp(1))
		prefs, prefsErr := r.Prefs(ann)
		events, eventsErr := r.Events(0, 10)
		return errors.Join(absent("object", objErr), err, equal("mentions", m.MentionCount, 0), sizesErr, equal("members", sizes[general], 3), absent("message", msgErr),
			prefsErr, equal("preferences", string(prefs), "{}"), equal("position", p, 2), eventsErr, equal("events", len(events), 2), checkLog(events), told.check())
	})
}

func testSnapshot(t *testing.T, st store.Store) {
	world(t, st)
	view(t, st, func(r store.Reader) error {
		before, err := r.Position()
		if err != nil {
			return err
		}
		update(t, st, func(tx store.Tx) error {
			return errors.Join(tx.Put(user("U5EVE", home, "eve")), tx.Emit(event("T1HOME", "")), tx.RemoveMember(general, ben))
		})
		after, err := r.Position()
		_, objErr := r.Object("U5EVE")
		_, memberErr := r.Membership(general, ben)
		events, eventsErr := r.Events(0, 10)
		return errors.Join(err, equal("position", after, before), absent("object of a later commit", objErr), memberErr, eventsErr, equal("events", len(events), 0))
	})
	view(t, st, func(r store.Reader) error {
		p, err := r.Position()
		_, objErr := r.Object("U5EVE")
		return errors.Join(err, equal("position", p, 1), objErr)
	})
}

// testConcurrentUpdates lets writers write into one channel, some of them failing, while readers check that every
// snapshot is a whole number of commits.
func testConcurrentUpdates(t *testing.T, st store.Store) {
	const writers, each = 16, 20
	var told commits
	st.OnCommit(told.listen)
	world(t, st)
	ctx, stop := context.WithCancel(context.Background())
	var readers, wg sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				err := st.View(context.Background(), func(r store.Reader) error {
					p, err := r.Position()
					if err != nil {
						return err
					}
					seq, at, err := r.Head("C1GENERAL")
					history, _, historyErr := r.History(store.HistoryQuery{Channel: general, Limit: 1000})
					m, memberErr := r.Membership(general, cat)
					return errors.Join(err, historyErr, memberErr, equal("seq and position", uint64(seq), uint64(p)), equal("head and position", at, p),
						equal("messages", len(history), int(p)), equal("mentions", m.MentionCount, int(p)))
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	positions := make(chan protocol.Position, writers*each) // never blocks; nobody closes it
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				p, err := st.Update(context.Background(), func(tx store.Tx) error {
					ts, err := tx.NextTS(general, now)
					if err != nil {
						return err
					}
					err = errors.Join(tx.InsertMessage(message(general, ann, ts, fmt.Sprintf("%d/%d", w, i)), "", store.Mentions{Users: []protocol.UserID{cat}}), tx.Emit(event("C1GENERAL", string(ts))))
					if err == nil && (w+i)%5 == 0 {
						return errWanted
					}
					return err
				})
				switch {
				case err == nil:
					positions <- p
				case !errors.Is(err, errWanted):
					t.Errorf("update: %v", err)
				}
			}
		})
	}
	wg.Wait()
	stop()
	readers.Wait()
	seen := make(map[protocol.Position]bool)
	for range len(positions) {
		seen[<-positions] = true
	}
	view(t, st, func(r store.Reader) error {
		all, err := r.Events(0, 10000)
		return errors.Join(err, checkLog(all), told.check(), sameEvents("told and kept", told.events, all), equal("events", len(all), writers*each*4/5), equal("distinct positions", len(seen), len(all)))
	})
}

func testCancelled(t *testing.T, st store.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	called := false
	_, updateErr := st.Update(ctx, func(store.Tx) error { called = true; return nil })
	viewErr := st.View(ctx, func(r store.Reader) error { _, err := r.Position(); return err })
	if called || !errors.Is(updateErr, context.Canceled) || !errors.Is(viewErr, context.Canceled) {
		t.Errorf("called %v, update %v, view %v", called, updateErr, viewErr)
	}
	// The next one is not hurt.
	world(t, st)
}

func testClose(t *testing.T, st store.Store) {
	world(t, st)
	inside, ended := make(chan struct{}), make(chan error, 1)
	proceed := make(chan struct{})
	go func() {
		ended <- st.View(context.Background(), func(r store.Reader) error {
			close(inside)
			<-proceed
			_, err := r.Object("U1ANN")
			return err
		})
	}()
	<-inside
	closed := make(chan error, 1)
	go func() { closed <- st.Close() }()
	close(proceed)
	if err := <-ended; err != nil {
		t.Errorf("a running View was not waited for: %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("close: %v", err)
	}
	if err := st.View(context.Background(), func(store.Reader) error { return nil }); err == nil {
		t.Error("a closed store was read")
	}
	if _, err := st.Update(context.Background(), func(store.Tx) error { return nil }); err == nil {
		t.Error("a closed store was written")
	}
}
