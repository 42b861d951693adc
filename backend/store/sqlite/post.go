package sqlite

import (
	"fmt"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// NextTS implements store.Tx.
func (t *writeTx) NextTS(channel protocol.ChannelID, now time.Time) (protocol.TS, error) {
	var last string
	if err := t.row("SELECT last_ts FROM channels WHERE id = ?", channel).Scan(&last); err != nil {
		return "", err
	}
	ts := fmt.Sprintf("%010d.%06d", now.Unix(), now.Nanosecond()/1000)
	if ts <= last {
		var sec, micro int64
		if _, err := fmt.Sscanf(last, "%d.%d", &sec, &micro); err != nil {
			return "", fmt.Errorf("timestamp %q: %w", last, err)
		}
		if micro++; micro == 1_000_000 {
			sec, micro = sec+1, 0
		}
		ts = fmt.Sprintf("%010d.%06d", sec, micro)
	}
	return protocol.TS(ts), t.exec("UPDATE channels SET last_ts = ? WHERE id = ?", ts, channel)
}

// shown reports whether the history shows a message: replies are in it only if they were broadcast.
func shown(m *protocol.Message) bool {
	return m.ThreadTS == "" || m.ThreadTS == m.TS || m.Subtype == "thread_broadcast"
}

// messageBody encodes a message without what has tables of its own.
func messageBody(m *protocol.Message) (string, error) {
	plain := *m
	plain.Reactions, plain.PinnedTo = nil, nil
	body, err := protocol.Marshal(plain)
	if err != nil {
		return "", fmt.Errorf("encode message: %w", err)
	}
	return string(body), nil
}

// InsertMessage implements store.Tx. Of the mentioned, those who are not in the channel are remembered too: they may
// come in, and their marker may be moved back.
func (t *writeTx) InsertMessage(m *protocol.Message, key string, mentions store.Mentions) error {
	body, err := messageBody(m)
	if err != nil {
		return err
	}
	var thread, keyValue any
	if m.ThreadTS != "" && m.ThreadTS != m.TS {
		thread = m.ThreadTS
	}
	if key != "" {
		keyValue = key
	}
	show := shown(m)
	if err := t.exec("INSERT INTO messages (channel, ts, user, thread, shown, everyone, key, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		m.Channel, m.TS, m.User, thread, show, mentions.Everyone, keyValue, body); err != nil {
		return fmt.Errorf("insert message: %w", err)
	}
	for _, user := range mentions.Users {
		if err := t.exec("INSERT OR IGNORE INTO mentions VALUES (?, ?, ?)", m.Channel, user, m.TS); err != nil {
			return err
		}
	}
	if err := t.exec("UPDATE channels SET last_ts = max(last_ts, ?1), latest = CASE WHEN ?2 THEN max(latest, ?1) ELSE latest END WHERE id = ?3", m.TS, show, m.Channel); err != nil {
		return err
	}
	if !show {
		return nil
	}
	if err := t.count(m.Channel, m.User, m.TS, mentions, +1); err != nil {
		return err
	}
	// A message that is put in below the author's marker (imports do that) says nothing about what they have read.
	return t.exec("UPDATE memberships SET last_read = ?1, mentions = 0 WHERE channel = ?2 AND user = ?3 AND last_read <= ?1", m.TS, m.Channel, m.User)
}

// count adds step to the mention counts of those whom a message mentions and who have not read it.
func (t *writeTx) count(channel protocol.ChannelID, author protocol.UserID, ts protocol.TS, mentions store.Mentions, step int) error {
	if mentions.Everyone {
		return t.exec("UPDATE memberships SET mentions = max(0, mentions + ?) WHERE channel = ? AND user <> ? AND last_read < ?", step, channel, author, ts)
	}
	done := make(map[protocol.UserID]bool, len(mentions.Users))
	for _, user := range mentions.Users {
		if user == author || done[user] {
			continue
		}
		done[user] = true
		if err := t.exec("UPDATE memberships SET mentions = max(0, mentions + ?) WHERE channel = ? AND user = ? AND last_read < ?", step, channel, user, ts); err != nil {
			return err
		}
	}
	return nil
}

// UpdateMessage implements store.Tx.
func (t *writeTx) UpdateMessage(m *protocol.Message) error {
	body, err := messageBody(m)
	if err != nil {
		return err
	}
	return t.must("UPDATE messages SET body = ? WHERE channel = ? AND ts = ?", body, m.Channel, m.TS)
}

// DeleteMessage implements store.Tx. Mentions, reactions and pins go with it.
func (t *writeTx) DeleteMessage(channel protocol.ChannelID, ts protocol.TS) error {
	mentions, err := t.MentionsOf(channel, ts)
	if err != nil {
		return err
	}
	var author protocol.UserID
	var show bool
	if err := t.row("DELETE FROM messages WHERE channel = ? AND ts = ? RETURNING user, shown", channel, ts).Scan(&author, &show); err != nil {
		return err
	}
	if !show {
		return nil
	}
	if err := t.count(channel, author, ts, mentions, -1); err != nil {
		return err
	}
	latest, err := t.Latest(channel)
	if err != nil {
		return err
	}
	return t.exec("UPDATE channels SET latest = ? WHERE id = ?", latest, channel)
}
