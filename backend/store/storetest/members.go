package storetest

import (
	"errors"
	"fmt"
	"testing"

	"flannel/backend/store"
	"flannel/protocol"
)

func testMembers(t *testing.T, st store.Store) {
	world(t, st)
	c := channel(general, "general")
	refused(t, st, store.ErrExists, func(tx store.Tx) error { return tx.AddMember(ann, member(c, "")) })
	refused(t, st, store.ErrNotFound, func(tx store.Tx) error { return tx.AddMember("U404", member(c, "")) })
	refused(t, st, store.ErrNotFound, func(tx store.Tx) error { return tx.AddMember(ann, member(channel("C404", "none"), "")) })
	refused(t, st, store.ErrNotFound, func(tx store.Tx) error { return tx.RemoveMember(general, dan) })
	refused(t, st, store.ErrNotFound, func(tx store.Tx) error { return tx.SetRead(general, dan, stamp(1), 0) })
	refused(t, st, store.ErrNotFound, func(tx store.Tx) error { return tx.SetOpen(direct, dan, true) })

	update(t, st, func(tx store.Tx) error {
		if err := errors.Join(tx.AddMember(dan, member(c, "")), tx.RemoveMember(general, ben), exists("again", tx.AddMember(dan, member(c, "")))); err != nil {
			return err
		}
		sizes, err := tx.NumMembers([]protocol.ChannelID{general}) // reads see the writes
		return errors.Join(err, equal("members", sizes[general], 3))
	})

	view(t, st, func(r store.Reader) error {
		users, next, total, err := r.Members(general, "", 10)
		_, gone := r.Membership(general, ben)
		sizes, sizesErr := r.NumMembers([]protocol.ChannelID{general, secret, direct, "C404"})
		return errors.Join(err, sameList("members", users, ann, cat, dan), equal("next", next, ""), equal("total", total, 3), absent("removed", gone),
			sizesErr, equal("general", sizes[general], 3), equal("secret", sizes[secret], 2), equal("direct", sizes[direct], 2), equal("none", sizes["C404"], 0))
	})
}

func testMembersPages(t *testing.T, st store.Store) {
	world(t, st)
	for limit := 1; limit < 5; limit++ {
		view(t, st, func(r store.Reader) error {
			var all []protocol.UserID
			var after protocol.UserID
			for {
				users, next, total, err := r.Members(general, after, limit)
				if err := errors.Join(err, equal("total", total, 3)); err != nil {
					return err
				}
				all = append(all, users...)
				if next == "" {
					break
				}
				if err := equal("full page", len(users), limit); err != nil {
					return err
				}
				after = next
			}
			return sameList(fmt.Sprintf("members by %d", limit), all, ann, ben, cat)
		})
	}
	view(t, st, func(r store.Reader) error {
		users, next, total, err := r.Members("C404", "", 10)
		return errors.Join(err, equal("users", len(users), 0), equal("next", next, ""), equal("total", total, 0))
	})
}

func testMembershipIsComplete(t *testing.T, st store.Store) {
	world(t, st)
	archived := channel(general, "general")
	archived.IsArchived, archived.Updated = true, 99
	update(t, st, func(tx store.Tx) error {
		return errors.Join(
			tx.Put(archived),
			tx.InsertMessage(message(general, ben, stamp(5), "hello"), "", store.Mentions{Users: []protocol.UserID{ann}}),
			tx.InsertMessage(message(direct, ben, stamp(6), "psst"), "", store.Mentions{Everyone: true}),
			tx.SetOpen(direct, ben, false),
			tx.SetRead(trio, ann, stamp(3), 7),
		)
	})

	want := []protocol.Membership{
		{Channel: general, Owner: home, Type: protocol.TypePublic, Updated: 99, Archived: true, Latest: stamp(5), MentionCount: 1},
		{Channel: secret, Owner: home, Type: protocol.TypePrivate, Updated: 10},
		{Channel: direct, Owner: home, Type: protocol.TypeDM, Peer: ben, Updated: 10, Open: true, Latest: stamp(6), MentionCount: 1},
		{Channel: trio, Owner: home, Type: protocol.TypeGroupDM, Updated: 10, Open: true, LastRead: stamp(3), MentionCount: 7},
	}
	view(t, st, func(r store.Reader) error {
		all, err := r.Memberships(ann)
		if err := errors.Join(err, sameList("memberships", all, want...)); err != nil {
			return err
		}
		for _, m := range want {
			got, err := r.Membership(m.Channel, ann)
			if err := errors.Join(err, equal("membership", got, m)); err != nil {
				return err
			}
		}
		theirs, err := r.Membership(direct, ben)
		nobody, nobodyErr := r.Memberships("U404")
		return errors.Join(err, equal("the other side", theirs, protocol.Membership{
			Channel: direct, Owner: home, Type: protocol.TypeDM, Peer: ann, Updated: 10, LastRead: stamp(6), Latest: stamp(6),
		}), nobodyErr, equal("nobody's", len(nobody), 0))
	})

	// Somebody who is put in with a marker has it.
	update(t, st, func(tx store.Tx) error {
		m := member(archived, "")
		m.LastRead = stamp(5)
		return tx.AddMember(dan, m)
	})
	view(t, st, func(r store.Reader) error {
		m, err := r.Membership(general, dan)
		return errors.Join(err, equal("marker", m.LastRead, stamp(5)), equal("mentions", m.MentionCount, 0))
	})
}

func testEachMembership(t *testing.T, st store.Store) {
	world(t, st)
	theirs := channel("C3THEIRS", "theirs")
	theirs.ContextTeamID = other
	update(t, st, func(tx store.Tx) error {
		return errors.Join(tx.Put(theirs), tx.AddMember(zoe, member(theirs, "")), tx.Put(channel("C4EMPTY", "empty")))
	})
	view(t, st, func(r store.Reader) error {
		var all []string
		err := r.EachMembership(home, func(c protocol.ChannelID, u protocol.UserID) error {
			all = append(all, string(c)+" "+string(u))
			return nil
		})
		stop := errors.New("stop")
		stopped := r.EachMembership(home, func(protocol.ChannelID, protocol.UserID) error { return stop })
		return errors.Join(err, equal("stopped", errors.Is(stopped, stop), true), sameList("memberships", all,
			"C1GENERAL U1ANN", "C1GENERAL U2BEN", "C1GENERAL U3CAT", "C2SECRET U1ANN", "C2SECRET U4DAN", "D1ANNBEN U1ANN", "D1ANNBEN U2BEN",
			"G1TRIO U1ANN", "G1TRIO U2BEN", "G1TRIO U3CAT"))
	})
}

func testShareChannel(t *testing.T, st store.Store) {
	world(t, st)
	view(t, st, func(r store.Reader) error {
		var err error
		for _, c := range []struct {
			a, b protocol.UserID
			want bool
		}{{ann, ben, true}, {ben, ann, true}, {ann, dan, true}, {ben, dan, false}, {ann, zoe, false}, {ann, "U404", false}} {
			got, callErr := r.ShareChannel(c.a, c.b)
			err = errors.Join(err, callErr, equal(fmt.Sprintf("%s and %s", c.a, c.b), got, c.want))
		}
		return err
	})
}
