package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

func sameMessage(got protocol.Message, want *protocol.Message) error {
	if !reflect.DeepEqual(got, *want) {
		return fmt.Errorf("message: got %+v, want %+v", got, *want)
	}
	return nil
}

func stamps(messages []protocol.Message) (all []protocol.TS) {
	for _, m := range messages {
		all = append(all, m.TS)
	}
	return all
}

func testMessages(t *testing.T, st store.Store) {
	world(t, st)
	m := message(general, ann, stamp(1), "héllo <b> & \"you\"")
	m.Blocks = json.RawMessage(`[{"type":"rich_text"}]`)
	m.ClientMsgID = "abc"
	odd := message(general, ben, stamp(2), "")
	odd.Subtype, odd.Extra = "huddle_thread", json.RawMessage(`{"room":{"id":"R1"}}`)
	update(t, st, func(tx store.Tx) error {
		return errors.Join(tx.InsertMessage(m, "", store.Mentions{}), tx.InsertMessage(odd, "", store.Mentions{}))
	})
	refused(t, st, store.ErrExists, func(tx store.Tx) error { return tx.InsertMessage(m, "", store.Mentions{}) })
	refused(t, st, store.ErrNotFound, func(tx store.Tx) error {
		return tx.InsertMessage(message("C404", ann, stamp(1), ""), "", store.Mentions{})
	})

	view(t, st, func(r store.Reader) error {
		got, err := r.Message(general, stamp(1))
		gotOdd, oddErr := r.Message(general, stamp(2))
		_, none := r.Message(general, stamp(3))
		_, elsewhere := r.Message(secret, stamp(1))
		latest, latestErr := r.Latest(general)
		empty, emptyErr := r.Latest(secret)
		return errors.Join(err, sameMessage(got, m), oddErr, sameMessage(gotOdd, odd), absent("none", none), absent("elsewhere", elsewhere),
			latestErr, equal("latest", latest, stamp(2)), emptyErr, equal("no latest", empty, ""))
	})

	m.Text, m.Edited = "changed", &protocol.Edited{User: ann, TS: stamp(9)}
	update(t, st, func(tx store.Tx) error { return tx.UpdateMessage(m) })
	refused(t, st, store.ErrNotFound, func(tx store.Tx) error { return tx.UpdateMessage(message(general, ann, stamp(3), "")) })
	view(t, st, func(r store.Reader) error {
		got, err := r.Message(general, stamp(1))
		return errors.Join(err, sameMessage(got, m))
	})

	// Deleting the newest gives the one before it back as latest.
	update(t, st, func(tx store.Tx) error { return tx.DeleteMessage(general, stamp(2)) })
	refused(t, st, store.ErrNotFound, func(tx store.Tx) error { return tx.DeleteMessage(general, stamp(2)) })
	view(t, st, func(r store.Reader) error {
		_, gone := r.Message(general, stamp(2))
		latest, err := r.Latest(general)
		membership, mErr := r.Membership(general, cat)
		return errors.Join(absent("deleted", gone), err, equal("latest", latest, stamp(1)), mErr, equal("latest of membership", membership.Latest, stamp(1)))
	})
}

func testMessageKeys(t *testing.T, st store.Store) {
	world(t, st)
	update(t, st, func(tx store.Tx) error {
		return errors.Join(
			tx.InsertMessage(message(general, ann, stamp(1), "one"), "key", store.Mentions{}),
			tx.InsertMessage(message(general, ben, stamp(2), "another user"), "key", store.Mentions{}),
			tx.InsertMessage(message(secret, ann, stamp(3), "another channel"), "key", store.Mentions{}),
			tx.InsertMessage(message(general, ann, stamp(4), "no key"), "", store.Mentions{}),
			tx.InsertMessage(message(general, ann, stamp(5), "no key"), "", store.Mentions{}),
			exists("used key", tx.InsertMessage(message(general, ann, stamp(6), "two"), "key", store.Mentions{})),
		)
	})
	view(t, st, func(r store.Reader) error {
		got, err := r.MessageByKey(general, ann, "key")
		theirs, theirErr := r.MessageByKey(general, ben, "key")
		_, none := r.MessageByKey(general, ann, "other")
		_, empty := r.MessageByKey(general, ann, "")
		return errors.Join(err, equal("text", got.Text, "one"), theirErr, equal("text", theirs.Text, "another user"), absent("other key", none), absent("no key", empty))
	})
}

func testHistory(t *testing.T, st store.Store) {
	world(t, st)
	update(t, st, func(tx store.Tx) error {
		for i := 1; i <= 5; i++ {
			if err := tx.InsertMessage(message(general, ann, stamp(i), fmt.Sprint(i)), "", store.Mentions{}); err != nil {
				return err
			}
		}
		return tx.InsertMessage(message(secret, ann, stamp(3), "elsewhere"), "", store.Mentions{})
	})
	for _, c := range []struct {
		q    store.HistoryQuery
		want []int
		more bool
	}{
		{store.HistoryQuery{Limit: 10}, []int{5, 4, 3, 2, 1}, false},
		{store.HistoryQuery{Limit: 5}, []int{5, 4, 3, 2, 1}, false},
		{store.HistoryQuery{Limit: 2}, []int{5, 4}, true},
		{store.HistoryQuery{Limit: 10, Oldest: stamp(2)}, []int{5, 4, 3}, false},
		{store.HistoryQuery{Limit: 10, Oldest: stamp(2), Inclusive: true}, []int{5, 4, 3, 2}, false},
		{store.HistoryQuery{Limit: 10, Latest: stamp(4)}, []int{3, 2, 1}, false},
		{store.HistoryQuery{Limit: 10, Latest: stamp(4), Inclusive: true}, []int{4, 3, 2, 1}, false},
		{store.HistoryQuery{Limit: 1, Oldest: stamp(1), Latest: stamp(4)}, []int{3}, true},
		{store.HistoryQuery{Limit: 2, Oldest: stamp(1), Latest: stamp(4)}, []int{3, 2}, false},
		{store.HistoryQuery{Limit: 1, Oldest: stamp(3), Latest: stamp(3), Inclusive: true}, []int{3}, false},
		{store.HistoryQuery{Limit: 9, Oldest: stamp(5)}, nil, false},
	} {
		c.q.Channel = general
		view(t, st, func(r store.Reader) error {
			got, more, err := r.History(c.q)
			var want []protocol.TS
			for _, n := range c.want {
				want = append(want, stamp(n))
			}
			return errors.Join(err, sameList(fmt.Sprintf("%+v", c.q), stamps(got), want...), equal(fmt.Sprintf("more of %+v", c.q), more, c.more))
		})
	}
}

func testThreads(t *testing.T, st store.Store) {
	world(t, st)
	parent := message(general, ann, stamp(1), "parent")
	parent.ThreadTS = parent.TS // as a parent has it once it was answered
	reply := func(n int, subtype string) *protocol.Message {
		m := message(general, ben, stamp(n), "reply")
		m.ThreadTS, m.ParentUserID, m.Subtype = parent.TS, ann, subtype
		return m
	}
	update(t, st, func(tx store.Tx) error {
		return errors.Join(tx.InsertMessage(parent, "", store.Mentions{}), tx.InsertMessage(reply(2, ""), "", store.Mentions{}),
			tx.InsertMessage(reply(3, "thread_broadcast"), "", store.Mentions{}), tx.InsertMessage(reply(4, ""), "", store.Mentions{}))
	})
	view(t, st, func(r store.Reader) error {
		history, _, err := r.History(store.HistoryQuery{Channel: general, Limit: 10})
		latest, latestErr := r.Latest(general)
		one, oneErr := r.Message(general, stamp(4))
		all, more, allErr := r.Replies(parent.TS, store.HistoryQuery{Channel: general, Limit: 10})
		some, someMore, someErr := r.Replies(parent.TS, store.HistoryQuery{Channel: general, Limit: 2, Oldest: stamp(1)})
		rest, restMore, restErr := r.Replies(parent.TS, store.HistoryQuery{Channel: general, Limit: 2, Oldest: stamp(3)})
		_, _, none := r.Replies(stamp(9), store.HistoryQuery{Channel: general, Limit: 2})
		author, authorErr := r.Membership(general, ben)
		return errors.Join(
			err, sameList("history has broadcast replies only", stamps(history), stamp(3), stamp(1)), latestErr, equal("latest", latest, stamp(3)),
			oneErr, equal("a reply by itself", one.ThreadTS, parent.TS), authorErr, equal("a hidden reply moves no marker", author.LastRead, stamp(3)),
			allErr, sameList("thread", stamps(all), stamp(1), stamp(2), stamp(3), stamp(4)), equal("more", more, false),
			someErr, sameList("first page", stamps(some), stamp(1), stamp(2), stamp(3)), equal("more", someMore, true),
			restErr, sameList("second page", stamps(rest), stamp(1), stamp(4)), equal("more", restMore, false), absent("no thread", none))
	})
	update(t, st, func(tx store.Tx) error {
		return errors.Join(tx.DeleteMessage(general, stamp(4)), tx.DeleteMessage(general, stamp(3)))
	})
	view(t, st, func(r store.Reader) error {
		latest, err := r.Latest(general)
		return errors.Join(err, equal("latest", latest, stamp(1)))
	})
}

func testNextTS(t *testing.T, st store.Store) {
	world(t, st)
	var last protocol.TS
	for i := range 5 {
		update(t, st, func(tx store.Tx) error {
			ts, err := tx.NextTS(general, now) // the clock stands still, and goes backwards once
			if i == 3 {
				ts, err = tx.NextTS(general, now.Add(-time.Hour))
			}
			if err != nil {
				return err
			}
			if i == 0 {
				err = equal("first", ts, "1700000000.123456")
			}
			if ts <= last || !ts.Valid() {
				return fmt.Errorf("%s does not follow %s", ts, last)
			}
			last = ts
			if i == 1 {
				return errors.Join(err, tx.InsertMessage(message(general, ann, ts, ""), "", store.Mentions{}), tx.DeleteMessage(general, ts))
			}
			return errors.Join(err, tx.InsertMessage(message(general, ann, ts, ""), "", store.Mentions{}))
		})
	}
	update(t, st, func(tx store.Tx) error {
		// Just above the last one ever, also over the second's end and after an imported message.
		err := tx.InsertMessage(message(secret, ann, "1800000000.999999", ""), "", store.Mentions{})
		ts, nextErr := tx.NextTS(secret, now)
		_, none := tx.NextTS("C404", now)
		return errors.Join(err, nextErr, equal("next", ts, "1800000001.000000"), absent("no channel", none))
	})
}

func testReactions(t *testing.T, st store.Store) {
	world(t, st)
	update(t, st, func(tx store.Tx) error {
		return errors.Join(
			tx.InsertMessage(message(general, ann, stamp(1), ""), "", store.Mentions{}), tx.InsertMessage(message(general, ann, stamp(2), ""), "", store.Mentions{}),
			tx.AddReaction(general, stamp(1), ben, "zap"), tx.AddReaction(general, stamp(1), ann, "+1"), tx.AddReaction(general, stamp(1), ann, "zap"), tx.AddReaction(general, stamp(2), ann, "eyes"),
			exists("again", tx.AddReaction(general, stamp(1), ann, "zap")), absent("no message", tx.AddReaction(general, stamp(3), ann, "zap")),
			absent("not set", tx.RemoveReaction(general, stamp(1), ben, "+1")),
			tx.UpdateMessage(message(general, ann, stamp(1), "changed")),
		)
	})
	want := []protocol.Reaction{{Name: "zap", Users: []protocol.UserID{ben, ann}, Count: 2}, {Name: "+1", Users: []protocol.UserID{ann}, Count: 1}}
	view(t, st, func(r store.Reader) error {
		one, err := r.Message(general, stamp(1))
		history, _, historyErr := r.History(store.HistoryQuery{Channel: general, Limit: 10})
		if err := errors.Join(err, historyErr, equal("messages", len(history), 2)); err != nil {
			return err
		}
		if !reflect.DeepEqual(one.Reactions, want) || !reflect.DeepEqual(history[1].Reactions, want) || len(history[0].Reactions) != 1 {
			return fmt.Errorf("reactions: got %+v and %+v, want %+v", one.Reactions, history, want)
		}
		return nil
	})

	update(t, st, func(tx store.Tx) error {
		return errors.Join(tx.RemoveReaction(general, stamp(1), ann, "+1"), tx.DeleteMessage(general, stamp(2)), tx.InsertMessage(message(general, ann, stamp(2), ""), "", store.Mentions{}))
	})
	view(t, st, func(r store.Reader) error {
		one, err := r.Message(general, stamp(1))
		again, againErr := r.Message(general, stamp(2))
		return errors.Join(err, equal("reactions", len(one.Reactions), 1), againErr, equal("reactions of a deleted message", len(again.Reactions), 0))
	})
}

func testPins(t *testing.T, st store.Store) {
	world(t, st)
	update(t, st, func(tx store.Tx) error {
		var err error
		for i := 1; i <= 3; i++ {
			err = errors.Join(err, tx.InsertMessage(message(general, ann, stamp(i), ""), "", store.Mentions{}))
		}
		return errors.Join(err, tx.AddPin(general, stamp(2), ann, now), tx.AddPin(general, stamp(1), ben, now.Add(time.Millisecond)), tx.AddPin(general, stamp(3), ben, now.Add(-time.Second)),
			exists("again", tx.AddPin(general, stamp(1), ann, now)), absent("no message", tx.AddPin(general, stamp(9), ann, now)), absent("not pinned", tx.RemovePin(general, stamp(9))))
	})
	view(t, st, func(r store.Reader) error {
		pins, err := r.Pins(general)
		one, oneErr := r.Message(general, stamp(1))
		none, noneErr := r.Pins(secret)
		return errors.Join(err, sameList("newest pin first", stamps(pins), stamp(1), stamp(2), stamp(3)), oneErr, sameList("pinned to", one.PinnedTo, general), noneErr, equal("none", len(none), 0))
	})
	update(t, st, func(tx store.Tx) error {
		return errors.Join(tx.RemovePin(general, stamp(1)), tx.DeleteMessage(general, stamp(2)))
	})
	view(t, st, func(r store.Reader) error {
		pins, err := r.Pins(general)
		one, oneErr := r.Message(general, stamp(1))
		return errors.Join(err, sameList("pins", stamps(pins), stamp(3)), oneErr, equal("pinned to", len(one.PinnedTo), 0))
	})
}
