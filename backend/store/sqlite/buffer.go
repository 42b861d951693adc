package sqlite

import (
	"fmt"
	"strings"

	"flannel/backend/store"
	"flannel/protocol"
)

// memberBuffer gathers the members of a channel that a Load has just made, so that they go in by hundreds: the largest
// workspace has millions of memberships. Every other statement of the transaction writes the buffer out first, and only
// one channel is filled at a time, so it never holds members of two.
type memberBuffer struct {
	fresh protocol.ChannelID // made in this transaction: nobody is in it but who came through here
	turn  int                // counts fresh channels
	// last says of each user that is known to exist in which turn they were put in a channel last: cheaper than a set
	// per channel, and as large as the workspace has users.
	last map[protocol.UserID]int
	rows []any // memberColumns values a member
}

const (
	memberColumns = 6
	// maxBuffered members are written by one statement: 1,536 variables of SQLite's 32,766. Fewer go in statements of a
	// quarter, a sixteenth …, so that there are five texts and not 256.
	maxBuffered = 256
)

func (b *memberBuffer) know(user protocol.UserID) {
	if b.last == nil {
		b.last = make(map[protocol.UserID]int)
	}
	if _, ok := b.last[user]; !ok {
		b.last[user] = 0
	}
}

func (b *memberBuffer) begin(channel protocol.ChannelID) {
	b.fresh = channel
	b.turn++
}

// buffer is AddMember for the fresh channel of a Load.
func (t *writeTx) buffer(user protocol.UserID, m *protocol.Membership) error {
	b := &t.members
	turn, known := b.last[user]
	switch {
	case !known: // A user of an earlier Load. Nobody who is buffered matters, so the buffer may stay.
		st, err := t.prepared("SELECT EXISTS (SELECT 1 FROM objects WHERE id = ? AND kind = 'user' AND buried = 0)")
		if err != nil {
			return err
		}
		var yes bool
		if err := st.QueryRowContext(t.ctx, user).Scan(&yes); err != nil {
			return err
		}
		if !yes {
			return fmt.Errorf("add member %s: %w", user, store.ErrNotFound)
		}
		b.know(user)
	case turn == b.turn:
		return store.ErrExists
	}
	b.last[user] = b.turn
	b.rows = append(b.rows, string(m.Channel), string(user), string(m.Peer), m.Open, string(m.LastRead), m.MentionCount)
	if len(b.rows) >= maxBuffered*memberColumns {
		return t.flush()
	}
	return nil
}

// flush writes the buffered members.
func (t *writeTx) flush() error {
	b := &t.members
	if len(b.rows) == 0 {
		return nil
	}
	rows := b.rows
	b.rows = nil // before the statements, which come back here
	n := len(rows) / memberColumns
	left := rows
	for size := maxBuffered; size > 0; size /= 4 {
		query := insertMember + "VALUES " + strings.TrimSuffix(strings.Repeat("(?,?,?,?,?,?),", size), ",")
		for len(left) >= size*memberColumns {
			if err := t.exec(query, left[:size*memberColumns]...); err != nil {
				return fmt.Errorf("add %d members: %w", n, err)
			}
			left = left[size*memberColumns:]
		}
	}
	if err := t.exec("UPDATE channels SET members = members + ? WHERE id = ?", n, rows[0]); err != nil {
		return err
	}
	b.rows = rows[:0]
	return nil
}
