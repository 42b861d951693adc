package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"flannel/backend/store"
	"flannel/protocol"
)

func load(t testing.TB, st store.Store, fn func(tx store.Tx) error) {
	t.Helper()
	if err := st.Load(context.Background(), fn); err != nil {
		t.Fatalf("load: %v", err)
	}
}

// crowd puts n more users in a channel of their own, with a message in the middle.
func crowd(tx store.Tx, id protocol.ChannelID, n int) error {
	c := channel(id, "crowd-"+string(id))
	if err := tx.Put(c); err != nil {
		return err
	}
	for i := range n {
		u := user(protocol.UserID(fmt.Sprintf("U%s%04d", id, i)), home, fmt.Sprintf("%s.%04d", id, i))
		if err := errors.Join(tx.Put(u), tx.AddMember(u.ID, member(c, ""))); err != nil {
			return err
		}
		if i == n/2 {
			if err := tx.InsertMessage(message(id, u.ID, stamp(1), ""), "", store.Mentions{Everyone: true}); err != nil {
				return err
			}
		}
	}
	return nil
}

func testLoad(t *testing.T, st store.Store) {
	var told commits
	st.OnCommit(told.listen)
	load(t, st, func(tx store.Tx) error {
		if err := errors.Join(fillWorld(tx), crowd(tx, "C5CROWD", 700)); err != nil {
			return err
		}
		c := channel("C6", "six")
		if err := errors.Join(tx.Put(c), tx.AddMember(ann, member(c, "")), tx.AddMember(ben, member(c, ""))); err != nil {
			return err
		}
		// Reads see the writes, and the rules are those of an Update.
		users, _, total, err := tx.Members("C6", "", 10)
		err = errors.Join(err, sameList("members", users, ann, ben), equal("total", total, 2), exists("again", tx.AddMember(ann, member(c, ""))), absent("nobody", tx.AddMember("U404", member(c, ""))),
			tx.RemoveMember("C6", ann), tx.AddMember(ann, member(c, "")), exists("again", tx.AddMember(ann, member(c, ""))), exists("name", tx.Put(channel("C7", "six"))))
		id, convErr := tx.Conversation([]protocol.UserID{ben, ann})
		sizes, sizesErr := tx.NumMembers([]protocol.ChannelID{"C5CROWD", "C6"})
		return errors.Join(err, convErr, equal("conversation", id, direct), sizesErr, equal("crowd", sizes["C5CROWD"], 700), equal("six", sizes["C6"], 2), counts(tx, "C5CROWD", map[protocol.UserID]int{"UC5CROWD0001": 1}))
	})
	view(t, st, func(r store.Reader) error {
		p, err := r.Position()
		all, membershipsErr := r.Memberships(ann)
		n := 0
		eachErr := r.EachMembership(home, func(protocol.ChannelID, protocol.UserID) error { n++; return nil })
		entries, listErr := pages(r, protocol.ListRequest{Workspace: home, Kind: protocol.KindUser, Order: protocol.ByName, Limit: 100})
		id, emailErr := r.UserByEmail(home, "ann@example.org")
		author, authorErr := r.Membership("C5CROWD", "UC5CROWD0350")
		after, afterErr := r.Membership("C5CROWD", "UC5CROWD0351")
		return errors.Join(err, equal("position", p, 0), equal("told", len(told.positions), 0), membershipsErr, equal("memberships of ann", len(all), 5), eachErr, equal("memberships", n, 10+700+2),
			listErr, equal("users", len(entries), 704), emailErr, equal("by address", id, ann), authorErr, equal("the author's marker", author.LastRead, stamp(1)),
			afterErr, equal("who came after the message", after.MentionCount, 0))
	})
	if err := st.Load(context.Background(), func(tx store.Tx) error { return tx.Emit(event("T1HOME", "")) }); err == nil {
		t.Error("a load emitted an event")
	}
}

// testLoadTwice loads into a store that has been used, as an import does.
func testLoadTwice(t *testing.T, st store.Store) {
	load(t, st, fillWorld)
	update(t, st, func(tx store.Tx) error { return tx.Emit(event("T1HOME", "")) })
	load(t, st, func(tx store.Tx) error {
		c := channel("C6", "six")
		return errors.Join(tx.Put(channel(general, "general")), tx.AddMember(dan, member(channel(general, "general"), "")), tx.Put(c), tx.AddMember(dan, member(c, "")), tx.AddMember(zoe, member(c, "")), crowd(tx, "C5CROWD", 10))
	})
	p := update(t, st, func(tx store.Tx) error { return tx.Emit(event("T1HOME", "")) })
	view(t, st, func(r store.Reader) error {
		all, err := r.Memberships(dan)
		sizes, sizesErr := r.NumMembers([]protocol.ChannelID{general, "C6", "C5CROWD"})
		return errors.Join(err, equal("memberships", len(all), 3), sizesErr, equal("general", sizes[general], 4), equal("six", sizes["C6"], 2), equal("crowd", sizes["C5CROWD"], 10), equal("position", p, 2))
	})
}

func testFailedLoad(t *testing.T, st store.Store) {
	world(t, st)
	err := st.Load(context.Background(), func(tx store.Tx) error {
		return errors.Join(crowd(tx, "C5CROWD", 300), errWanted)
	})
	if !errors.Is(err, errWanted) {
		t.Fatalf("load gave %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	err = st.Load(ctx, func(tx store.Tx) error { cancel(); return crowd(tx, "C5CROWD", 300) })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled load gave %v", err)
	}
	view(t, st, func(r store.Reader) error {
		_, objErr := r.Object("C5CROWD")
		all, err := r.Memberships(ann)
		entries, listErr := pages(r, protocol.ListRequest{Workspace: home, Kind: protocol.KindUser, Order: protocol.ByName, Limit: 100})
		return errors.Join(absent("channel", objErr), err, equal("memberships", len(all), 4), listErr, equal("users", len(entries), 4))
	})
	update(t, st, func(tx store.Tx) error { return tx.Emit(event("T1HOME", "")) })
}
