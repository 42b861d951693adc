package chat

import (
	"slices"

	"flannel/backend/store"
	"flannel/protocol"
)

// repliesPage is how many replies are read at once when a thread is counted again.
const repliesPage = 500

// parent finds the message that a reply belongs under.
func (a *act) parent(channel protocol.ChannelID, thread string) (*protocol.Message, error) {
	ts, err := messageTS(thread, CodeThreadNotFound)
	if err != nil {
		return nil, err
	}
	m, err := a.tx.Message(channel, ts)
	if err != nil {
		return nil, orRefuse(err, CodeThreadNotFound)
	}
	if m.ThreadTS != "" && m.ThreadTS != m.TS {
		return nil, refuse(CodeCannotReply) // a reply has no thread of its own
	}
	return &m, nil
}

// countReply adds a reply to its parent's counts. parent is as it was before the reply.
func (a *act) countReply(p *Place, parent, reply *protocol.Message) error {
	parent.ThreadTS = parent.TS
	parent.ReplyCount++
	parent.LatestReply = reply.TS
	known := slices.Contains(parent.ReplyUsers, reply.User)
	if !known && parent.ReplyUsersCount > len(parent.ReplyUsers) {
		// The list is cut: only the thread itself knows whether this one has replied before.
		err := a.eachReply(p.Channel.ID, parent.TS, func(m *protocol.Message) {
			known = known || (m.TS != reply.TS && m.User == reply.User)
		})
		if err != nil {
			return err
		}
	}
	if !known {
		parent.ReplyUsersCount++
		if len(parent.ReplyUsers) < maxReplyUsers {
			parent.ReplyUsers = append(slices.Clone(parent.ReplyUsers), reply.User)
		}
	}
	return a.updateParent(p, parent)
}

// recount sets a parent's counts after a reply is gone.
func (a *act) recount(p *Place, thread protocol.TS) error {
	parent, err := a.tx.Message(p.Channel.ID, thread)
	if err != nil {
		return orRefuse(err, CodeMessageNotFound)
	}
	parent.ReplyCount, parent.ReplyUsersCount, parent.ReplyUsers, parent.LatestReply, parent.ThreadTS = 0, 0, nil, "", ""
	users := make(map[protocol.UserID]bool)
	err = a.eachReply(p.Channel.ID, thread, func(m *protocol.Message) {
		parent.ThreadTS = thread
		parent.ReplyCount++
		parent.LatestReply = m.TS
		if !users[m.User] && len(users) < maxReplyUsers {
			parent.ReplyUsers = append(parent.ReplyUsers, m.User)
		}
		users[m.User] = true
	})
	if err != nil {
		return err
	}
	parent.ReplyUsersCount = len(users)
	return a.updateParent(p, &parent)
}

func (a *act) updateParent(p *Place, parent *protocol.Message) error {
	parent.Channel = p.Channel.ID
	if err := a.tx.UpdateMessage(parent); err != nil {
		return err
	}
	return a.emitHidden(p, parent, hidden{Subtype: "message_replied", Message: EncodeMessage(parent), ThreadTS: parent.TS})
}

// eachReply calls fn for the replies of a thread, oldest first, without the parent.
func (a *act) eachReply(channel protocol.ChannelID, thread protocol.TS, fn func(m *protocol.Message)) error {
	q := store.HistoryQuery{Channel: channel, Limit: repliesPage}
	for {
		page, more, err := a.tx.Replies(thread, q)
		if err != nil {
			return err
		}
		for i := range page {
			if page[i].TS != thread {
				fn(&page[i])
			}
		}
		if !more || len(page) == 0 {
			return nil
		}
		q.Oldest = page[len(page)-1].TS
	}
}
