package storetest

import (
	"errors"
	"fmt"
	"testing"

	"flannel/backend/store"
	"flannel/protocol"
)

// counts compares the mention counts of members with what is wanted.
func counts(r store.Reader, ch protocol.ChannelID, want map[protocol.UserID]int) error {
	var err error
	for u, n := range want {
		m, mErr := r.Membership(ch, u)
		unread, unreadErr := r.UnreadMentions(ch, u, m.LastRead)
		err = errors.Join(err, mErr, unreadErr, equal(fmt.Sprintf("count of %s", u), m.MentionCount, n), equal(fmt.Sprintf("unread mentions of %s", u), unread, n))
	}
	return err
}

func testMentions(t *testing.T, st store.Store) {
	world(t, st)
	reply := message(general, ann, stamp(3), "hidden")
	reply.ThreadTS = stamp(1)
	update(t, st, func(tx store.Tx) error {
		return errors.Join(
			// The author mentions themself, ben twice, and dan, who is not in the channel.
			tx.InsertMessage(message(general, ann, stamp(1), ""), "", store.Mentions{Users: []protocol.UserID{ann, ben, ben, dan}}),
			tx.InsertMessage(message(general, ann, stamp(2), ""), "", store.Mentions{Users: []protocol.UserID{ben}}),
			tx.InsertMessage(reply, "", store.Mentions{Users: []protocol.UserID{ben, cat}}),
			counts(tx, general, map[protocol.UserID]int{ann: 0, ben: 2, cat: 0}),
		)
	})
	view(t, st, func(r store.Reader) error {
		first, err := r.MentionsOf(general, stamp(1))
		_, none := r.MentionsOf(general, stamp(9))
		after, afterErr := r.UnreadMentions(general, ben, stamp(1))
		outsider, outsiderErr := r.UnreadMentions(general, dan, "")
		author, authorErr := r.Membership(general, ann)
		return errors.Join(err, sameList("mentions", first.Users, ann, ben, dan), equal("everyone", first.Everyone, false), absent("no message", none),
			afterErr, equal("after the first", after, 1), outsiderErr, equal("of an outsider", outsider, 1), authorErr, equal("the author has read it", author.LastRead, stamp(2)))
	})

	// Reading, and moving the marker back, by the count of UnreadMentions; then ben writes and has read all.
	update(t, st, func(tx store.Tx) error {
		return errors.Join(tx.SetRead(general, ben, stamp(2), 0), counts(tx, general, map[protocol.UserID]int{ben: 0}),
			tx.SetRead(general, ben, stamp(1), 1), counts(tx, general, map[protocol.UserID]int{ben: 1}),
			tx.InsertMessage(message(general, ben, stamp(4), ""), "", store.Mentions{Users: []protocol.UserID{cat}}), counts(tx, general, map[protocol.UserID]int{ben: 0, cat: 1}))
	})

	// A deleted message takes its mention along from those who have not read it, and from nobody else.
	update(t, st, func(tx store.Tx) error {
		return errors.Join(
			tx.InsertMessage(message(general, ann, stamp(5), ""), "", store.Mentions{Users: []protocol.UserID{ben, cat}}), counts(tx, general, map[protocol.UserID]int{ben: 1, cat: 2}),
			tx.DeleteMessage(general, stamp(2)), counts(tx, general, map[protocol.UserID]int{ben: 1, cat: 2}),
			tx.DeleteMessage(general, stamp(5)), counts(tx, general, map[protocol.UserID]int{ben: 0, cat: 1}),
			tx.DeleteMessage(general, stamp(3)), counts(tx, general, map[protocol.UserID]int{ben: 0, cat: 1}),
		)
	})
}

// testMentionsOfOneself: authors never mention themselves, also when their marker stands before their own message.
func testMentionsOfOneself(t *testing.T, st store.Store) {
	world(t, st)
	update(t, st, func(tx store.Tx) error {
		return errors.Join(
			tx.InsertMessage(message(general, ben, stamp(1), ""), "", store.Mentions{Users: []protocol.UserID{ann}}),
			tx.InsertMessage(message(general, ann, stamp(2), ""), "", store.Mentions{Users: []protocol.UserID{ann}}),
			tx.InsertMessage(message(general, ann, stamp(3), ""), "", store.Mentions{Everyone: true, Users: []protocol.UserID{ann}}),
			tx.SetRead(general, ann, "", 1), counts(tx, general, map[protocol.UserID]int{ann: 1}),
			tx.DeleteMessage(general, stamp(2)), tx.DeleteMessage(general, stamp(3)), counts(tx, general, map[protocol.UserID]int{ann: 1}),
		)
	})
}

func testMentionsOfEveryone(t *testing.T, st store.Store) {
	world(t, st)
	update(t, st, func(tx store.Tx) error {
		return errors.Join(
			tx.InsertMessage(message(general, ann, stamp(1), ""), "", store.Mentions{Everyone: true, Users: []protocol.UserID{ben}}), // ben counts once
			tx.InsertMessage(message(general, ben, stamp(2), ""), "", store.Mentions{Everyone: true}),
			counts(tx, general, map[protocol.UserID]int{ann: 1, ben: 0, cat: 2}),
			// Direct messages count for the other one, because the caller says everyone.
			tx.InsertMessage(message(direct, ann, stamp(3), ""), "", store.Mentions{Everyone: true}), tx.InsertMessage(message(direct, ann, stamp(4), ""), "", store.Mentions{Everyone: true}),
			counts(tx, direct, map[protocol.UserID]int{ann: 0, ben: 2}),
			tx.DeleteMessage(general, stamp(1)), counts(tx, general, map[protocol.UserID]int{ann: 1, ben: 0, cat: 1}),
		)
	})
	view(t, st, func(r store.Reader) error {
		m, err := r.MentionsOf(general, stamp(2))
		return errors.Join(err, equal("everyone", m.Everyone, true), equal("users", len(m.Users), 0))
	})
	// A message that is put in below the author's marker, as imports do, does not move it back.
	update(t, st, func(tx store.Tx) error {
		err := tx.InsertMessage(message(direct, ben, stamp(9), ""), "", store.Mentions{Everyone: true})
		err = errors.Join(err, tx.InsertMessage(message(direct, ben, stamp(5), ""), "", store.Mentions{Everyone: true}))
		m, mErr := tx.Membership(direct, ben)
		return errors.Join(err, mErr, equal("marker", m.LastRead, stamp(9)), counts(tx, direct, map[protocol.UserID]int{ann: 2, ben: 0}))
	})
}
