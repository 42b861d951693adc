package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"

	"flannel/backend/store"
	"flannel/protocol"
)

func testEachObject(t *testing.T, st store.Store) {
	world(t, st)
	view(t, st, func(r store.Reader) error {
		var users, channels []protocol.ObjectID
		err := errors.Join(
			r.EachObject(home, protocol.KindUser, func(o *protocol.Object) error { users = append(users, o.ID); return nil }),
			r.EachObject(home, protocol.KindChannel, func(o *protocol.Object) error { channels = append(channels, o.ID); return nil }),
		)
		stop := errors.New("stop")
		n := 0
		stopped := r.EachObject(home, protocol.KindUser, func(*protocol.Object) error { n++; return stop })
		return errors.Join(err, sameList("users", users, "U1ANN", "U2BEN", "U3CAT", "U4DAN"), sameList("channels of every type", channels, "C1GENERAL", "C2SECRET", "D1ANNBEN", "G1TRIO"),
			equal("stopped", errors.Is(stopped, stop), true), equal("calls", n, 1))
	})
}

// pages reads a list to its end.
func pages(r store.Reader, req protocol.ListRequest) (all []protocol.ListEntry, err error) {
	for {
		entries, next, err := r.List(req)
		if err != nil {
			return nil, err
		}
		if len(entries) > req.Limit || (next != "" && len(entries) != req.Limit) {
			return nil, fmt.Errorf("page of %d with limit %d, next %q", len(entries), req.Limit, next)
		}
		all = append(all, entries...)
		if next == "" {
			return all, nil
		}
		req.Cursor = next
	}
}

func entryIDs(entries []protocol.ListEntry) (ids []protocol.ObjectID) {
	for _, e := range entries {
		ids = append(ids, e.ID)
	}
	return ids
}

func testList(t *testing.T, st store.Store) {
	world(t, st)
	// Names in another order than ids, equal ones among them, and one that folds.
	names := []string{"delta", "alpha", "Écho", "alpha", "bravo", "echo"}
	var shapes []protocol.Shape
	for i, name := range names {
		u := user(protocol.UserID(fmt.Sprintf("U5%d", i)), home, fmt.Sprintf("%s%d", name, i))
		u.Profile.DisplayName, u.Deleted, u.IsRestricted, u.IsBot, u.IsAppUser = name, i == 1, i == 2, i == 3, i == 3
		shapes = append(shapes, u)
	}
	archived := channel("C5OLD", "old")
	archived.IsArchived = true
	update(t, st, func(tx store.Tx) error {
		for _, s := range shapes {
			if err := tx.Put(s); err != nil {
				return err
			}
		}
		return tx.Put(archived)
	})

	for limit := 1; limit < 12; limit++ {
		view(t, st, func(r store.Reader) error {
			byID, err := pages(r, protocol.ListRequest{Workspace: home, Kind: protocol.KindUser, Order: protocol.ByID, Limit: limit})
			byName, nameErr := pages(r, protocol.ListRequest{Workspace: home, Kind: protocol.KindUser, Order: protocol.ByName, Limit: limit})
			sorted := slices.IsSortedFunc(byName, func(a, b protocol.ListEntry) int {
				return cmp.Or(cmp.Compare(a.SortName, b.SortName), cmp.Compare(a.ID, b.ID))
			})
			if err := errors.Join(err, nameErr, equal("sorted", sorted, true), equal("users by id", len(byID), 10), equal("users by name", len(byName), 10),
				equal("ids are sorted", slices.IsSorted(entryIDs(byID)), true)); err != nil {
				return err
			}
			for _, e := range byID {
				if i := slices.IndexFunc(shapes, func(s protocol.Shape) bool { return s.Object().ID == e.ID }); i >= 0 && e != shapes[i].Entry() {
					return fmt.Errorf("entry: got %+v, want %+v", e, shapes[i].Entry())
				}
			}
			channels, chErr := pages(r, protocol.ListRequest{Workspace: home, Kind: protocol.KindChannel, Order: protocol.ByName, Limit: limit})
			if err := errors.Join(chErr, sameList("public channels", entryIDs(channels), "C1GENERAL", "C5OLD")); err != nil {
				return err
			}
			return errors.Join(equal("members", channels[0].NumMembers, 3), equal("members of nobody's", channels[1].NumMembers, 0), equal("archived", channels[1].Deleted, true))
		})
	}
}

// testListShared lists channels of another workspace where they are shared into.
func testListShared(t *testing.T, st store.Store) {
	world(t, st)
	shared := func(id protocol.ChannelID, name string, with ...protocol.WorkspaceID) *protocol.Channel {
		c := channel(id, name)
		c.ContextTeamID, c.IsShared, c.SharedTeamIDs = other, len(with) > 0, with
		return c
	}
	update(t, st, func(tx store.Tx) error {
		return errors.Join(tx.Put(shared("C0EARLY", "zulu", other, home)), tx.Put(shared("C3LATE", "alpha", other, home)), tx.Put(shared("C4OWN", "own")), tx.Put(channel("C5", "mike")))
	})

	for limit := 1; limit < 6; limit++ {
		view(t, st, func(r store.Reader) error {
			byID, err := pages(r, protocol.ListRequest{Workspace: home, Kind: protocol.KindChannel, Order: protocol.ByID, Limit: limit})
			byName, nameErr := pages(r, protocol.ListRequest{Workspace: home, Kind: protocol.KindChannel, Order: protocol.ByName, Limit: limit})
			theirs, theirErr := pages(r, protocol.ListRequest{Workspace: other, Kind: protocol.KindChannel, Order: protocol.ByID, Limit: limit})
			return errors.Join(err, nameErr, theirErr, sameList("by id", entryIDs(byID), "C0EARLY", "C1GENERAL", "C3LATE", "C5"),
				sameList("by name", entryIDs(byName), "C3LATE", "C1GENERAL", "C5", "C0EARLY"), sameList("the owner's", entryIDs(theirs), "C0EARLY", "C3LATE", "C4OWN"))
		})
	}

	// Not shared any more.
	update(t, st, func(tx store.Tx) error { return tx.Put(shared("C3LATE", "alpha")) })
	view(t, st, func(r store.Reader) error {
		byID, err := pages(r, protocol.ListRequest{Workspace: home, Kind: protocol.KindChannel, Order: protocol.ByID, Limit: 10})
		return errors.Join(err, sameList("after the end of sharing", entryIDs(byID), "C0EARLY", "C1GENERAL", "C5"))
	})
}
