package sqlite

import (
	"encoding/json"
	"fmt"
	"slices"

	"flannel/backend/store"
	"flannel/protocol"
)

func decodeMessage(body []byte) (m protocol.Message, err error) {
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("decode message: %w", err)
	}
	return m, nil
}

// message returns one by a query for its body, with reactions and pin.
func (r *reader) message(channel protocol.ChannelID, query string, args ...any) (protocol.Message, error) {
	var body []byte
	if err := r.row(query, args...).Scan(&body); err != nil {
		return protocol.Message{}, err
	}
	m, err := decodeMessage(body)
	if err != nil {
		return m, err
	}
	all := []protocol.Message{m}
	err = r.dress(channel, all)
	return all[0], err
}

// Message implements store.Reader.
func (r *reader) Message(channel protocol.ChannelID, ts protocol.TS) (protocol.Message, error) {
	return r.message(channel, "SELECT body FROM messages WHERE channel = ? AND ts = ?", channel, ts)
}

// MessageByKey implements store.Reader.
func (r *reader) MessageByKey(channel protocol.ChannelID, user protocol.UserID, key string) (protocol.Message, error) {
	return r.message(channel, "SELECT body FROM messages WHERE channel = ? AND user = ? AND key = ?", channel, user, key)
}

// page returns up to the limit of messages, and whether there are more.
func (r *reader) page(q store.HistoryQuery, query string, args ...any) (all []protocol.Message, more bool, err error) {
	err = r.each(func(scan func(...any) error) error {
		var body []byte
		if err := scan(&body); err != nil {
			return err
		}
		m, err := decodeMessage(body)
		all = append(all, m)
		return err
	}, query, args...)
	if err != nil {
		return nil, false, err
	}
	if limit := max(q.Limit, 0); len(all) > limit {
		all, more = all[:limit], true
	}
	return all, more, r.dress(q.Channel, all)
}

// bounds returns the conditions of a query's bounds and its arguments, the limit last: one row more than asked for tells
// whether there are more.
func bounds(q store.HistoryQuery, args ...any) (string, []any) {
	var where string
	op := ""
	if q.Inclusive {
		op = "="
	}
	if q.Oldest != "" {
		args = append(args, q.Oldest)
		where += " AND ts >" + op + " ?"
	}
	if q.Latest != "" {
		args = append(args, q.Latest)
		where += " AND ts <" + op + " ?"
	}
	return where, append(args, max(q.Limit, 0)+1)
}

// History implements store.Reader.
func (r *reader) History(q store.HistoryQuery) (messages []protocol.Message, more bool, err error) {
	where, args := bounds(q, q.Channel)
	return r.page(q, "SELECT body FROM messages WHERE channel = ? AND shown = 1"+where+" ORDER BY ts DESC LIMIT ?", args...)
}

// Replies implements store.Reader. The parent comes first, whatever the bounds.
func (r *reader) Replies(thread protocol.TS, q store.HistoryQuery) (messages []protocol.Message, more bool, err error) {
	parent, err := r.Message(q.Channel, thread)
	if err != nil {
		return nil, false, err
	}
	where, args := bounds(q, q.Channel, thread)
	replies, more, err := r.page(q, "SELECT body FROM messages WHERE channel = ? AND thread = ?"+where+" ORDER BY ts LIMIT ?", args...)
	return append([]protocol.Message{parent}, replies...), more, err
}

// dress adds reactions and pins, which have tables of their own, to messages of one channel.
func (r *reader) dress(channel protocol.ChannelID, all []protocol.Message) error {
	if len(all) == 0 {
		return nil
	}
	at := make(map[protocol.TS]int, len(all))
	stamps := make([]protocol.TS, len(all))
	for i := range all {
		stamps[i] = all[i].TS
		at[all[i].TS] = i
	}
	wanted := string(protocol.AppendStrings(nil, stamps))
	err := r.each(func(scan func(...any) error) error {
		var ts protocol.TS
		var name string
		var user protocol.UserID
		if err := scan(&ts, &name, &user); err != nil {
			return err
		}
		m := &all[at[ts]]
		i := slices.IndexFunc(m.Reactions, func(rc protocol.Reaction) bool { return rc.Name == name })
		if i < 0 {
			i = len(m.Reactions)
			m.Reactions = append(m.Reactions, protocol.Reaction{Name: name})
		}
		rc := &m.Reactions[i]
		rc.Users = append(rc.Users, user)
		rc.Count++
		return nil
	}, "SELECT r.ts, r.name, r.user FROM json_each(?) j CROSS JOIN reactions r WHERE r.channel = ? AND r.ts = j.value ORDER BY r.n", wanted, channel)
	if err != nil {
		return err
	}
	pinned, err := list[protocol.TS](r, "SELECT p.ts FROM json_each(?) j CROSS JOIN pins p WHERE p.channel = ? AND p.ts = j.value", wanted, channel)
	for _, ts := range pinned {
		all[at[ts]].PinnedTo = []protocol.ChannelID{channel}
	}
	return err
}

// Latest implements store.Reader.
func (r *reader) Latest(channel protocol.ChannelID) (protocol.TS, error) {
	var ts *protocol.TS
	err := r.row("SELECT max(ts) FROM messages WHERE channel = ? AND shown = 1", channel).Scan(&ts)
	if err != nil || ts == nil {
		return "", err
	}
	return *ts, nil
}

// UnreadMentions implements store.Reader.
func (r *reader) UnreadMentions(channel protocol.ChannelID, user protocol.UserID, after protocol.TS) (int, error) {
	var everyone, named int
	if err := r.row("SELECT count(*) FROM messages WHERE channel = ? AND ts > ? AND everyone = 1 AND shown = 1 AND user <> ?", channel, after, user).Scan(&everyone); err != nil {
		return 0, err
	}
	err := r.row("SELECT count(*) FROM mentions n CROSS JOIN messages m ON m.channel = n.channel AND m.ts = n.ts WHERE n.channel = ? AND n.user = ? AND n.ts > ? AND m.everyone = 0 AND m.shown = 1 AND m.user <> n.user",
		channel, user, after).Scan(&named)
	return everyone + named, err
}

// MentionsOf implements store.Reader.
func (r *reader) MentionsOf(channel protocol.ChannelID, ts protocol.TS) (m store.Mentions, err error) {
	if err := r.row("SELECT everyone FROM messages WHERE channel = ? AND ts = ?", channel, ts).Scan(&m.Everyone); err != nil {
		return m, err
	}
	m.Users, err = list[protocol.UserID](r, "SELECT user FROM mentions WHERE channel = ? AND ts = ? ORDER BY user", channel, ts)
	return m, err
}
