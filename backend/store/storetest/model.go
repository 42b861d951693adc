package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"flannel/backend/store"
	"flannel/protocol"
)

// modelMessage and modelMember are what the model knows.
type modelMessage struct {
	author   protocol.UserID
	mentions store.Mentions
	shown    bool
	thread   protocol.TS
	text     string
}

type modelMember struct {
	lastRead protocol.TS
	mentions int
}

// model is one channel as the contract describes it, in the plainest form. Counts move as OpMessageAdded and
// OpMessageRemoved say, not by counting anew.
type model struct {
	rt       *rapid.T
	st       store.Store
	id       protocol.ChannelID
	users    []protocol.UserID
	messages map[protocol.TS]modelMessage
	members  map[protocol.UserID]modelMember
}

// testMentionsModel does random things to a channel and compares everything with the model after each.
func testMentionsModel(t *testing.T, st store.Store) {
	world(t, st)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		m := &model{
			rt: rt, st: st, id: protocol.ChannelID(fmt.Sprintf("C8MODEL%d", n)), users: []protocol.UserID{ann, ben, cat, dan},
			messages: make(map[protocol.TS]modelMessage), members: make(map[protocol.UserID]modelMember),
		}
		m.update(func(tx store.Tx) error { return tx.Put(channel(m.id, fmt.Sprintf("model-%d", n))) })
		rt.Repeat(map[string]func(*rapid.T){
			"":       m.check,
			"join":   m.join,
			"leave":  m.leave,
			"post":   m.post,
			"edit":   m.edit,
			"delete": m.remove,
			"mark":   m.mark,
		})
	})
}

func (m *model) update(fn func(tx store.Tx) error) {
	if _, err := m.st.Update(context.Background(), fn); err != nil {
		m.rt.Fatalf("update: %v", err)
	}
}

func (m *model) latest() protocol.TS {
	var latest protocol.TS
	for ts, msg := range m.messages {
		if msg.shown {
			latest = max(latest, ts)
		}
	}
	return latest
}

// unread counts by definition what the counters should say.
func (m *model) unread(u protocol.UserID, after protocol.TS) (n int) {
	for ts, msg := range m.messages {
		if ts > after && msg.mentioned(u) {
			n++
		}
	}
	return n
}

func (msg *modelMessage) mentioned(u protocol.UserID) bool {
	return msg.shown && u != msg.author && (msg.mentions.Everyone || slices.Contains(msg.mentions.Users, u))
}

func (m *model) join(rt *rapid.T) {
	u := rapid.SampledFrom(m.users).Draw(rt, "user")
	member := protocol.Membership{Channel: m.id, Owner: home, Type: protocol.TypePublic, LastRead: m.latest()}
	m.update(func(tx store.Tx) error {
		err := tx.AddMember(u, member)
		if _, in := m.members[u]; in {
			return exists("join", err)
		}
		return err
	})
	if _, in := m.members[u]; !in {
		m.members[u] = modelMember{lastRead: member.LastRead}
	}
}

func (m *model) leave(rt *rapid.T) {
	u := rapid.SampledFrom(m.users).Draw(rt, "user")
	m.update(func(tx store.Tx) error {
		err := tx.RemoveMember(m.id, u)
		if _, in := m.members[u]; !in {
			return absent("leave", err)
		}
		return err
	})
	delete(m.members, u)
}

func (m *model) post(rt *rapid.T) {
	msg := modelMessage{author: rapid.SampledFrom(m.users).Draw(rt, "author"), shown: true, text: rapid.StringN(0, 8, 20).Draw(rt, "text")}
	msg.mentions.Users = rapid.SliceOfNDistinct(rapid.SampledFrom(m.users), 0, 3, rapid.ID[protocol.UserID]).Draw(rt, "mentions")
	msg.mentions.Everyone = rapid.IntRange(0, 3).Draw(rt, "everyone") == 0
	full := message(m.id, msg.author, "", msg.text)
	if threads := m.stamps(); len(threads) > 0 && rapid.Bool().Draw(rt, "reply") {
		msg.thread = rapid.SampledFrom(threads).Draw(rt, "thread")
		full.ThreadTS = msg.thread
		if msg.shown = rapid.Bool().Draw(rt, "broadcast"); msg.shown {
			full.Subtype = "thread_broadcast"
		}
	}
	m.update(func(tx store.Tx) (err error) {
		if full.TS, err = tx.NextTS(m.id, time.Unix(1_700_000_000, 0)); err != nil {
			return err
		}
		return tx.InsertMessage(full, "", msg.mentions)
	})
	if last := slices.Max(append(m.stamps(), "")); full.TS <= last {
		rt.Fatalf("timestamp %s does not follow %s", full.TS, last)
	}
	m.messages[full.TS] = msg
	for u, member := range m.members {
		if msg.mentioned(u) && member.lastRead < full.TS {
			member.mentions++
		}
		if msg.shown && u == msg.author {
			member = modelMember{lastRead: full.TS}
		}
		m.members[u] = member
	}
}

func (m *model) stamps() []protocol.TS { return slices.Sorted(maps.Keys(m.messages)) }

func (m *model) some(rt *rapid.T) protocol.TS {
	all := m.stamps()
	if len(all) == 0 {
		rt.Skip("no messages")
	}
	return rapid.SampledFrom(all).Draw(rt, "ts")
}

func (m *model) edit(rt *rapid.T) {
	ts := m.some(rt)
	msg := m.messages[ts]
	msg.text = rapid.StringN(0, 8, 20).Draw(rt, "text")
	m.update(func(tx store.Tx) error {
		full, err := tx.Message(m.id, ts)
		full.Text = msg.text
		return errors.Join(err, tx.UpdateMessage(&full))
	})
	m.messages[ts] = msg
}

func (m *model) remove(rt *rapid.T) {
	ts := m.some(rt)
	m.update(func(tx store.Tx) error { return tx.DeleteMessage(m.id, ts) })
	msg := m.messages[ts]
	delete(m.messages, ts)
	for u, member := range m.members {
		if msg.mentioned(u) && member.lastRead < ts {
			member.mentions--
			m.members[u] = member
		}
	}
}

func (m *model) mark(rt *rapid.T) {
	ts := m.some(rt)
	u := rapid.SampledFrom(m.users).Draw(rt, "user")
	if _, in := m.members[u]; !in {
		rt.Skip("not in the channel")
	}
	m.update(func(tx store.Tx) error {
		n, err := tx.UnreadMentions(m.id, u, ts)
		return errors.Join(err, equal("unread mentions", n, m.unread(u, ts)), tx.SetRead(m.id, u, ts, n))
	})
	m.members[u] = modelMember{lastRead: ts, mentions: m.unread(u, ts)}
}

// check compares everything that can be read of the channel.
func (m *model) check(rt *rapid.T) {
	err := m.st.View(context.Background(), func(r store.Reader) error {
		latest, err := r.Latest(m.id)
		err = errors.Join(err, equal("latest", latest, m.latest()))
		var shown []protocol.TS
		for _, ts := range m.stamps() {
			if m.messages[ts].shown {
				shown = append(shown, ts)
			}
			got, msgErr := r.Message(m.id, ts)
			err = errors.Join(err, msgErr, equal("text", got.Text, m.messages[ts].text), equal("thread", got.ThreadTS, m.messages[ts].thread))
		}
		slices.Reverse(shown)
		history, more, historyErr := r.History(store.HistoryQuery{Channel: m.id, Limit: 1000})
		err = errors.Join(err, historyErr, sameList("history", stamps(history), shown...), equal("more", more, false))
		users, _, total, membersErr := r.Members(m.id, "", 100)
		err = errors.Join(err, membersErr, sameList("members", users, slices.Sorted(maps.Keys(m.members))...), equal("total", total, len(m.members)))
		for u, member := range m.members {
			got, mErr := r.Membership(m.id, u)
			want := protocol.Membership{
				Channel: m.id, Owner: home, Type: protocol.TypePublic, Updated: 10, LastRead: member.lastRead, Latest: m.latest(), MentionCount: member.mentions,
			}
			n, unreadErr := r.UnreadMentions(m.id, u, member.lastRead)
			// The count that was moved step by step is the count by definition.
			err = errors.Join(err, mErr, equal("membership", got, want), unreadErr, equal("unread mentions", n, member.mentions))
		}
		return err
	})
	if err != nil {
		rt.Fatal(err)
	}
}
