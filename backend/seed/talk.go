package seed

import (
	"fmt"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// talk writes a few messages: more in small workspaces, where people look at them, enough everywhere for every
// conversation to have a latest message.
func (g *generator) talk(c *protocol.Channel, members []protocol.UserID) error {
	n := 1 + g.rng.IntN(3)
	if g.opt.Users <= 1000 && !c.IsIM {
		n = 5 + g.rng.IntN(20)
	}
	at := Epoch.Add(-time.Duration(g.rng.Int64N(14*24)+1) * time.Hour)
	var thread *protocol.Message
	for range n {
		at = at.Add(time.Duration(g.rng.Int64N(int64(time.Hour)))/time.Duration(n) + time.Microsecond)
		author := pick(g.rng, members)
		text := pick(g.rng, sentences)
		mentions := store.Mentions{Everyone: c.IsIM || c.IsMPIM}
		if len(members) > 2 && g.chance(0.1) {
			other := pick(g.rng, members)
			text = fmt.Sprintf("<@%s> %s", other, text)
			mentions.Users = []protocol.UserID{other}
		}
		m := &protocol.Message{
			Type: "message", Channel: c.ID, User: author, Text: text, Team: g.workspace.ID,
			TS: protocol.TS(fmt.Sprintf("%010d.%06d", at.Unix(), at.Nanosecond()/1000)),
		}
		if thread != nil && g.chance(0.25) {
			m.ThreadTS, m.ParentUserID = thread.TS, thread.User
		}
		if err := g.tx.InsertMessage(m, "", mentions); err != nil {
			return err
		}
		g.result.Messages++
		if m.ThreadTS == "" {
			thread = m
		} else if err := g.reply(thread, m); err != nil {
			return err
		}
		if g.chance(0.15) {
			if err := g.tx.AddReaction(c.ID, m.TS, pick(g.rng, members), pick(g.rng, []string{"+1", "eyes", "tada", "heart"})); err != nil {
				return err
			}
		}
	}
	return nil
}

// reply counts a reply in its parent.
func (g *generator) reply(parent, reply *protocol.Message) error {
	parent.ThreadTS = parent.TS
	parent.ReplyCount++
	parent.LatestReply = reply.TS
	known := false
	for _, u := range parent.ReplyUsers {
		known = known || u == reply.User
	}
	if !known {
		parent.ReplyUsers = append(parent.ReplyUsers, reply.User)
		parent.ReplyUsersCount++
	}
	return g.tx.UpdateMessage(parent)
}
