package sim_test

import (
	"time"

	"flannel/protocol"
)

// The world that every seed begins with: two workspaces, ours with people of every kind, and a channel shared by both.
const (
	ours   protocol.WorkspaceID = "T1"
	theirs protocol.WorkspaceID = "T2"

	admin     protocol.UserID = "U1"
	ann       protocol.UserID = "U2"
	bob       protocol.UserID = "U3"
	cyd       protocol.UserID = "U4"
	visitor   protocol.UserID = "U5" // a guest
	robot     protocol.UserID = "U6"
	stranger  protocol.UserID = "U7" // of the other workspace
	temporary protocol.UserID = "U8" // is deactivated on the way

	generalID protocol.ChannelID = "C1"
	openID    protocol.ChannelID = "C2"
	secretID  protocol.ChannelID = "C3" // private
	guestsID  protocol.ChannelID = "C4" // private, with the guest
	sharedID  protocol.ChannelID = "C5" // with the other workspace
	botID     protocol.BotID     = "B1"
)

// populate makes the first commits.
func (b *backend) populate() {
	b.commit(func(t *tx) protocol.Code {
		for _, id := range []protocol.WorkspaceID{ours, theirs} {
			w := protocol.Workspace{ID: id, Name: "workspace " + string(id), Domain: "w" + string(id), Updated: nextVersion(0, t.now.Unix())}
			o := w.Object()
			t.control(o.Topic, "team_join", nil, nil, t.put(o))
		}
		bot := protocol.Bot{ID: botID, TeamID: ours, Name: "robot", UserID: robot, Updated: nextVersion(0, t.now.Unix())}
		o := bot.Object()
		t.control(o.Topic, "bot_added", fields{"bot": o.Body}, nil, t.put(o))
		return ""
	})
	for _, id := range []protocol.UserID{admin, ann, bob, cyd, visitor, robot, stranger, temporary} {
		b.commit(func(t *tx) protocol.Code {
			u := protocol.User{ID: id, TeamID: ours, Name: "user" + string(id), RealName: "User " + string(id), IsAdmin: id == admin, IsRestricted: id == visitor, IsBot: id == robot}
			if id == stranger {
				u.TeamID = theirs
			}
			if id == robot {
				u.Profile.BotID = botID
			}
			t.accounts[id] = &account{shape: u, theme: "light"}
			t.people = append(t.people, id)
			t.putUser(id)
			t.newTokenLocked(id)
			return ""
		})
	}
	for _, c := range []struct {
		id      protocol.ChannelID
		private bool
		shared  []protocol.WorkspaceID
		members []protocol.UserID
	}{
		{generalID, false, nil, []protocol.UserID{admin, ann, bob, cyd, robot, temporary}},
		{openID, false, nil, []protocol.UserID{ann, cyd, robot}},
		{secretID, true, nil, []protocol.UserID{ann, bob, temporary}},
		{guestsID, true, nil, []protocol.UserID{bob, visitor}},
		{sharedID, false, []protocol.WorkspaceID{ours, theirs}, []protocol.UserID{ann, stranger}},
	} {
		b.commit(func(t *tx) protocol.Code {
			t.makeRoom(c.id, ours, c.members[0], c.private, c.shared...)
			for _, u := range c.members {
				t.admit(t.rooms[c.id], u)
			}
			return ""
		})
		for n := range 3 {
			b.post(c.members[n%len(c.members)], c.id, "before")
		}
	}
	b.open(ann, bob)
	b.open(bob, visitor)
	b.open(ann, bob, cyd)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replayFrom = b.position
	b.born = time.Now()
}
