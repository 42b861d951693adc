package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// Reopen checks that a store is the same after it was closed and opened again. open opens the store of a folder, which
// is empty at first; the suite closes it.
func Reopen(t *testing.T, open func(t *testing.T, dir string) store.Store) {
	dir := t.TempDir()
	var told commits
	st := open(t, dir)
	st.OnCommit(told.listen)
	load(t, st, fillWorld)
	update(t, st, func(tx store.Tx) error {
		return errors.Join(tx.InsertMessage(message(general, ann, stamp(1), "kept"), "key", store.Mentions{Users: []protocol.UserID{ben}}), tx.AddReaction(general, stamp(1), cat, "eyes"),
			tx.SetPref(ann, "theme", []byte(`"dark"`)), tx.Revoke("token", ann, now), tx.Emit(event("C1GENERAL", "1")), tx.Emit(event("T1HOME", "2")))
	})
	for range 3 { // the third time nothing was written in between
		if err := st.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
		st = open(t, dir)
		st.OnCommit(told.listen)
		view(t, st, func(r store.Reader) error {
			m, err := r.MessageByKey(general, ann, "key")
			prefs, prefsErr := r.Prefs(ann)
			revoked, revokedErr := r.Revoked("token", ann, 0)
			all, membershipsErr := r.Memberships(ann)
			events, eventsErr := r.Events(0, 100)
			return errors.Join(err, equal("text", m.Text, "kept"), equal("reactions", len(m.Reactions), 1), prefsErr, equal("preferences", string(prefs), `{"theme":"dark"}`), revokedErr, equal("revoked", revoked, true),
				membershipsErr, equal("memberships", len(all), 4), counts(r, general, map[protocol.UserID]int{ben: 1}), eventsErr, sameEvents("log", events, told.events), checkLog(events))
		})
	}
	p := update(t, st, func(tx store.Tx) error {
		ts, err := tx.NextTS(general, time.Unix(0, 0))
		return errors.Join(err, equal("next timestamp", ts, "1700000000.000002"), tx.Emit(event("C1GENERAL", "3")))
	})
	if err := errors.Join(equal("position", p, 2), told.check(), st.Close()); err != nil {
		t.Error(err)
	}
}

// stormWriters write at once, enough for commits to be shared.
const stormWriters = 8

// Storm writes messages and their events into an empty store until it is killed or out fails, and says every one that
// was acknowledged on out: a line of timestamp and position. It is the child's half of a crash test.
func Storm(st store.Store, out io.Writer) error {
	if _, err := st.Update(context.Background(), fillWorld); err != nil {
		return err
	}
	var mu sync.Mutex // guards out
	errs := make(chan error, stormWriters)
	for w := range stormWriters {
		go func() {
			for i := 0; ; i++ {
				var ts protocol.TS
				p, err := st.Update(context.Background(), func(tx store.Tx) (err error) {
					if ts, err = tx.NextTS(general, time.Now()); err != nil {
						return err
					}
					if err := tx.InsertMessage(message(general, ann, ts, "storm"), fmt.Sprintf("%d/%d", w, i), store.Mentions{Users: []protocol.UserID{ben}}); err != nil {
						return err
					}
					return tx.Emit(event("C1GENERAL", string(ts)))
				})
				if err == nil {
					mu.Lock()
					_, err = fmt.Fprintf(out, "%s %d\n", ts, p)
					mu.Unlock()
				}
				if err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

// CheckStorm is the parent's half: st is what the child left, said is what it said. Every acknowledged message is there
// at its position, the log has no gap, and there is nothing half done. It returns how many were acknowledged.
func CheckStorm(st store.Store, said io.Reader) (acknowledged int, err error) {
	type ack struct {
		ts protocol.TS
		at protocol.Position
	}
	var acks []ack
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		var a ack
		if _, err := fmt.Sscanf(lines.Text(), "%s %d", &a.ts, &a.at); err != nil {
			break // the line at which the child was killed
		}
		acks = append(acks, a)
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return len(acks), st.View(context.Background(), func(r store.Reader) error {
		events, err := r.Events(0, 1<<30)
		if err := errors.Join(err, checkLog(events)); err != nil {
			return err
		}
		at := make(map[protocol.TS]protocol.Position, len(events))
		for _, e := range events {
			ts := protocol.TS(strings.TrimSuffix(strings.TrimPrefix(string(e.Payload), `{"text":"`), `","type":"test"}`))
			at[ts] = e.Position
		}
		for _, a := range acks {
			if _, err := r.Message(general, a.ts); err != nil {
				return fmt.Errorf("acknowledged message %s: %w", a.ts, err)
			}
			if err := equal("position of "+string(a.ts), at[a.ts], a.at); err != nil {
				return err
			}
		}
		history, _, err := r.History(store.HistoryQuery{Channel: general, Limit: 1 << 30})
		if err := errors.Join(err, equal("messages and events", len(history), len(events)), counts(r, general, map[protocol.UserID]int{ben: len(history)})); err != nil {
			return err
		}
		for i, m := range history { // newest first, in the order of positions
			if err := equal("order of "+string(m.TS), at[m.TS], protocol.Position(len(history)-i)); err != nil {
				return err
			}
		}
		return nil
	})
}
