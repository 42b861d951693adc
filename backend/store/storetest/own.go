package storetest

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

func testPrefs(t *testing.T, st store.Store) {
	world(t, st)
	view(t, st, func(r store.Reader) error {
		prefs, err := r.Prefs(ann)
		away, awayErr := r.ManualAway(ann)
		return errors.Join(err, equal("no preferences", string(prefs), "{}"), awayErr, equal("away", away, false))
	})
	update(t, st, func(tx store.Tx) error {
		return errors.Join(tx.SetPref(ann, "theme", json.RawMessage(`"dark"`)), tx.SetPref(ann, "muted", json.RawMessage(`["C1"]`)), tx.SetPref(ann, "theme", json.RawMessage(`"<light>"`)),
			tx.SetPref(ben, "theme", json.RawMessage(`1`)), tx.SetManualAway(ann, true), tx.SetManualAway(ann, true), tx.SetManualAway(ben, true), tx.SetManualAway(ben, false), tx.SetManualAway(cat, false))
	})
	view(t, st, func(r store.Reader) error {
		raw, err := r.Prefs(ann)
		var prefs map[string]json.RawMessage
		err = errors.Join(err, json.Unmarshal(raw, &prefs))
		annAway, annErr := r.ManualAway(ann)
		benAway, benErr := r.ManualAway(ben)
		return errors.Join(err, equal("preferences", len(prefs), 2), equal("theme", string(prefs["theme"]), `"<light>"`), equal("muted", string(prefs["muted"]), `["C1"]`),
			annErr, equal("ann is away", annAway, true), benErr, equal("ben is away", benAway, false))
	})
	if _, err := st.Update(t.Context(), func(tx store.Tx) error { return tx.SetPref(ann, "broken", json.RawMessage(`{`)) }); err == nil {
		t.Error("a preference that is not JSON was taken")
	}
}

func testUsergroups(t *testing.T, st store.Store) {
	world(t, st)
	group := func(id protocol.ObjectID, version protocol.Version, users ...protocol.UserID) *protocol.Usergroup {
		return &protocol.Usergroup{ID: id, TeamID: home, Name: string(id), Handle: string(id), DateUpdate: version, Users: users}
	}
	of := func(u protocol.UserID, want ...protocol.ObjectID) {
		t.Helper()
		view(t, st, func(r store.Reader) error {
			got, err := r.Usergroups(u)
			return errors.Join(err, sameList("usergroups of "+string(u), got, want...))
		})
	}
	update(t, st, func(tx store.Tx) error {
		return errors.Join(tx.Put(group("S1", 1, ann, ben)), tx.Put(group("S2", 1, ann)))
	})
	of(ann, "S1", "S2")
	of(ben, "S1")
	of(cat)

	update(t, st, func(tx store.Tx) error { return errors.Join(tx.Put(group("S1", 2, cat)), tx.Bury("S2", 5)) })
	of(ann)
	of(ben)
	of(cat, "S1")
}

func testRevoked(t *testing.T, st store.Store) {
	world(t, st)
	at := time.Unix(1000, 500)
	update(t, st, func(tx store.Tx) error {
		// The newest word on all tokens of a user counts, whatever the order; a token may be revoked twice.
		return errors.Join(tx.Revoke("one", ann, at), tx.Revoke("one", ann, at), tx.Revoke("", ben, at), tx.Revoke("", ben, time.Unix(900, 0)))
	})
	view(t, st, func(r store.Reader) error {
		var err error
		for _, c := range []struct {
			token  string
			user   protocol.UserID
			issued int64
			want   bool
		}{{"one", ann, 500, true}, {"one", ann, 2000, true}, {"two", ann, 500, false}, {"any", ben, 999, true}, {"any", ben, 1000, true}, {"any", ben, 1001, false}} {
			got, callErr := r.Revoked(c.token, c.user, c.issued)
			err = errors.Join(err, callErr, equal(c.token+" of "+string(c.user), got, c.want))
		}
		return err
	})
}
