package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"flannel/backend/store"
	"flannel/protocol"
)

// sameObject compares all of an object with what its shape says.
func sameObject(got protocol.Object, s protocol.Shape) error {
	want := s.Object()
	switch {
	case got.ID != want.ID, got.Kind != want.Kind, got.Version != want.Version, got.Owner != want.Owner, got.Topic != want.Topic,
		!slices.Equal(got.Visibility.Workspaces, want.Visibility.Workspaces), got.Visibility.Channel != want.Visibility.Channel,
		got.Visibility.Sharing != want.Visibility.Sharing, !bytes.Equal(got.Body, want.Body):
		return fmt.Errorf("object %s: got %+v, want %+v", want.ID, got, want)
	}
	return nil
}

func testObjects(t *testing.T, st store.Store) {
	world(t, st)
	shapes := []protocol.Shape{
		user("U5EVE", home, "eve"), channel("C5NEWS", "news"), &protocol.Bot{ID: "B1BOT", TeamID: home, Name: "bot", Updated: 3},
		&protocol.Emoji{Workspace: home, Name: "party", Value: "https://e.example/<party>&.png", Updated: 4},
		&protocol.Usergroup{ID: "S1GROUP", TeamID: home, Name: "Group", Handle: "group", DateUpdate: 5, Users: []protocol.UserID{ann}},
		&protocol.Workspace{ID: "T7", Name: "Séven", Domain: "seven", Updated: 6},
	}

	update(t, st, func(tx store.Tx) error {
		for _, s := range shapes {
			if err := tx.Put(s); err != nil {
				return err
			}
			o, err := tx.Object(s.Object().ID) // reads see the writes
			if err := errors.Join(err, sameObject(o, s)); err != nil {
				return err
			}
		}
		return nil
	})

	view(t, st, func(r store.Reader) error {
		ids := []protocol.ObjectID{"U404", "C404"}
		for _, s := range shapes {
			id := s.Object().ID
			o, err := r.Object(id)
			if err := errors.Join(err, sameObject(o, s)); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		found, missing, err := r.Objects(append(ids, ids[2])) // one of them twice
		slices.Sort(missing)
		err = errors.Join(err, equal("found", len(found), len(shapes)), sameList("missing", missing, "C404", "U404"))
		for _, o := range found {
			i := slices.IndexFunc(shapes, func(s protocol.Shape) bool { return s.Object().ID == o.ID })
			err = errors.Join(err, sameObject(o, shapes[i]))
		}
		_, objErr := r.Object("U404")
		return errors.Join(err, absent("object", objErr))
	})

	// A changed object replaces the old one whole.
	eve := user("U5EVE", home, "evelyn")
	eve.Updated, eve.Deleted, eve.Profile.Email = 11, true, ""
	update(t, st, func(tx store.Tx) error { return tx.Put(eve) })
	view(t, st, func(r store.Reader) error {
		o, err := r.Object("U5EVE")
		_, oldName := r.UserByName(home, "eve")
		id, newName := r.UserByName(home, "evelyn")
		_, email := r.UserByEmail(home, "eve@example.org")
		return errors.Join(err, sameObject(o, eve), absent("old name", oldName), newName, equal("new name", id, "U5EVE"), absent("old address", email))
	})
}

func testTombstones(t *testing.T, st store.Store) {
	world(t, st)
	emoji := &protocol.Emoji{Workspace: home, Name: "party", Value: "https://e.example/1.png", Updated: 4}
	id := emoji.Object().ID
	update(t, st, func(tx store.Tx) error {
		never, err := tx.LastVersion(id)
		return errors.Join(err, equal("version of nothing", never, 0), tx.Put(emoji))
	})

	update(t, st, func(tx store.Tx) error { return tx.Bury(id, 9) })

	update(t, st, func(tx store.Tx) error {
		_, err := tx.Object(id)
		_, missing, objsErr := tx.Objects([]protocol.ObjectID{id})
		version, vErr := tx.LastVersion(id)
		entries, _, listErr := tx.List(protocol.ListRequest{Workspace: home, Kind: protocol.KindEmoji, Limit: 10})
		eachErr := tx.EachObject(home, protocol.KindEmoji, func(o *protocol.Object) error { return fmt.Errorf("buried %s is listed", o.ID) })
		return errors.Join(absent("buried", err), objsErr, sameList("missing", missing, id), vErr, equal("version", version, 9), listErr, equal("entries", len(entries), 0), eachErr)
	})

	// The name is free again, and the object may come back.
	emoji.Updated = 10
	update(t, st, func(tx store.Tx) error { return tx.Put(emoji) })
	view(t, st, func(r store.Reader) error {
		o, err := r.Object(id)
		return errors.Join(err, sameObject(o, emoji))
	})

	// Nobody is in a channel that is gone, and its name is free.
	update(t, st, func(tx store.Tx) error {
		return errors.Join(tx.Bury(protocol.ObjectID(general), 20), tx.Put(channel("C6AGAIN", "general")))
	})
	view(t, st, func(r store.Reader) error {
		all, err := r.Memberships(ben)
		for _, m := range all {
			if m.Channel == general {
				err = errors.Join(err, errors.New("member of a buried channel"))
			}
		}
		again, nameErr := r.ChannelByName(home, "general")
		return errors.Join(err, nameErr, equal("channel", again, "C6AGAIN"))
	})
}

func testNames(t *testing.T, st store.Store) {
	world(t, st)
	archived := channel("C5OLD", "old")
	archived.IsArchived = true
	gone := user("U5GONE", home, "gone")
	gone.Deleted = true
	update(t, st, func(tx store.Tx) error {
		return errors.Join(tx.Put(archived), tx.Put(gone), tx.Put(&protocol.Usergroup{ID: "S1", TeamID: home, Name: "One", Handle: "one", DateUpdate: 1}))
	})

	view(t, st, func(r store.Reader) error {
		a, aErr := r.UserByName(home, "ann")
		g, gErr := r.UserByName(home, "gone")
		_, elsewhere := r.UserByName(other, "ann")
		c, cErr := r.ChannelByName(home, "general")
		s, sErr := r.ChannelByName(home, "secret")
		o, oErr := r.ChannelByName(home, "old")
		_, dm := r.ChannelByName(home, "mpdm-ann--ben--cat-1")
		_, none := r.ChannelByName(home, "")
		return errors.Join(aErr, equal("ann", a, ann), gErr, equal("deactivated", g, "U5GONE"), absent("other workspace", elsewhere),
			cErr, equal("general", c, general), sErr, equal("secret", s, secret), oErr, equal("archived", o, "C5OLD"), absent("group DM", dm), absent("no name", none))
	})

	for what, s := range map[string]protocol.Shape{
		"user": user("U6", home, "ann"), "deactivated user": user("U6", home, "gone"), "channel": channel("C6", "general"), "private channel": channel("C6", "secret"),
		"archived channel": channel("C6", "old"), "renamed user": user(ben, home, "ann"), "usergroup": &protocol.Usergroup{ID: "S2", TeamID: home, Name: "Two", Handle: "one", DateUpdate: 1},
	} {
		t.Run("taken by "+what, func(t *testing.T) {
			refused(t, st, store.ErrExists, func(tx store.Tx) error { return tx.Put(s) })
		})
	}
	// An Update may go on after a name was taken, as an import does.
	update(t, st, func(tx store.Tx) error {
		return errors.Join(exists("taken", tx.Put(channel("C6", "general"))), tx.Put(channel("C6", "general-2")))
	})
	// The same name elsewhere, of another kind, or kept by its owner is no conflict.
	update(t, st, func(tx store.Tx) error {
		elsewhere := channel("C7", "general")
		elsewhere.ContextTeamID = other
		return errors.Join(tx.Put(elsewhere), tx.Put(user("U7", other, "ann")), tx.Put(channel("C8", "ann")), tx.Put(channel(general, "general")),
			tx.Put(&protocol.Bot{ID: "B1", TeamID: home, Name: "bot"}), tx.Put(&protocol.Bot{ID: "B2", TeamID: home, Name: "bot"}))
	})
}

func testEmail(t *testing.T, st store.Store) {
	world(t, st)
	gone := user("U0GONE", home, "gone")
	gone.Deleted, gone.Profile.Email = true, "ann@example.org"
	update(t, st, func(tx store.Tx) error { return tx.Put(gone) })

	view(t, st, func(r store.Reader) error {
		a, err := r.UserByEmail(home, "ann@example.org")
		upper, upperErr := r.UserByEmail(home, "Ben@Example.org")
		_, elsewhere := r.UserByEmail(other, "ann@example.org")
		_, none := r.UserByEmail(home, "")
		return errors.Join(err, equal("active before deactivated", a, ann), upperErr, equal("case does not matter", upper, ben), absent("other workspace", elsewhere), absent("no address", none))
	})
}

func testConversation(t *testing.T, st store.Store) {
	world(t, st)
	view(t, st, func(r store.Reader) error {
		dm, dmErr := r.Conversation([]protocol.UserID{ben, ann})
		group, groupErr := r.Conversation([]protocol.UserID{cat, ann, ben, ann})
		_, fewer := r.Conversation([]protocol.UserID{ann, cat})
		_, more := r.Conversation([]protocol.UserID{ann, ben, cat, dan})
		_, none := r.Conversation(nil)
		return errors.Join(dmErr, equal("dm", dm, direct), groupErr, equal("group", group, trio), absent("fewer", fewer), absent("more", more), absent("none", none))
	})
}

func testWorkspaces(t *testing.T, st store.Store) {
	view(t, st, func(r store.Reader) error {
		all, err := r.Workspaces()
		return errors.Join(err, equal("workspaces of an empty store", len(all), 0))
	})
	world(t, st)
	view(t, st, func(r store.Reader) error {
		all, err := r.Workspaces()
		if err := errors.Join(err, equal("workspaces", len(all), 2)); err != nil {
			return err
		}
		return errors.Join(equal("first", all[0].ID, home), equal("name", all[0].Name, "Home"), equal("second", all[1].ID, other))
	})
}
