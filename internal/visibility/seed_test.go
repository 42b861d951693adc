package visibility

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// Two workspaces of an enterprise, and a foreign one that shares channels with the first.
const (
	alpha protocol.WorkspaceID  = "T0ALPHA"
	bravo protocol.WorkspaceID  = "T0BRAVO"
	zulu  protocol.WorkspaceID  = "T0ZULU"
	org   protocol.EnterpriseID = "E0ORG"

	// theClock asks the nodes how far they have heard; nothing ever happens to them.
	theClock protocol.UserID = "U0CLOCK"
)

var workspaces = []protocol.WorkspaceID{alpha, bravo, zulu}

// cast is everybody: a for admins, m members, g guests, u guests of one channel, b bots.
var cast = []struct {
	id   protocol.UserID
	team protocol.WorkspaceID
	role byte
}{
	{theClock, alpha, 'm'},
	{"U0ADMIN", alpha, 'a'}, {"U0ANN", alpha, 'm'}, {"U0BEN", alpha, 'm'}, {"U0CAT", alpha, 'm'}, {"U0DAN", alpha, 'm'}, {"U0EVE", alpha, 'm'},
	{"U0GIL", alpha, 'g'}, {"U0GUS", alpha, 'g'}, {"U0UMA", alpha, 'u'}, {"U0BOT", alpha, 'b'},
	{"U0BAD", bravo, 'a'}, {"U0BEA", bravo, 'm'}, {"U0BOB", bravo, 'm'}, {"U0BGU", bravo, 'g'},
	{"U0ZAD", zulu, 'a'}, {"U0ZED", zulu, 'm'}, {"U0ZOE", zulu, 'm'}, {"U0ZGU", zulu, 'g'}, {"U0ZBO", zulu, 'b'},
}

// stage is every channel that is there at the beginning, the named ones.
var stage = []struct {
	id      protocol.ChannelID
	owner   protocol.WorkspaceID
	kind    string // "general", "public", "private"
	shared  []protocol.WorkspaceID
	members []protocol.UserID
}{
	{"C0AGEN", alpha, "general", nil, []protocol.UserID{theClock, "U0ADMIN", "U0ANN", "U0BEN", "U0CAT", "U0DAN", "U0EVE", "U0BOT"}},
	{"C0APUB", alpha, "public", nil, []protocol.UserID{"U0ANN", "U0BEN", "U0GIL", "U0BOT"}},
	{"C0APUC", alpha, "public", nil, []protocol.UserID{"U0ADMIN", "U0CAT", "U0DAN"}},
	{"C0APRA", alpha, "private", nil, []protocol.UserID{"U0ADMIN", "U0ANN", "U0CAT", "U0GIL"}},
	{"C0APRB", alpha, "private", nil, []protocol.UserID{"U0BEN", "U0DAN", "U0EVE", "U0GUS", "U0BOT"}},
	{"C0APRC", alpha, "private", nil, []protocol.UserID{"U0ADMIN", "U0EVE", "U0UMA"}},
	{"C0SHPU", alpha, "public", []protocol.WorkspaceID{zulu}, []protocol.UserID{"U0ADMIN", "U0ANN", "U0BEN", "U0ZED", "U0ZGU", "U0ZBO"}},
	{"C0SHPR", alpha, "private", []protocol.WorkspaceID{zulu}, []protocol.UserID{"U0CAT", "U0GUS", "U0ZOE", "U0ZAD"}},
	{"C0ORGP", alpha, "public", []protocol.WorkspaceID{bravo}, []protocol.UserID{"U0ANN", "U0BEA", "U0BGU"}},
	{"C0BGEN", bravo, "general", nil, []protocol.UserID{"U0BAD", "U0BEA", "U0BOB"}},
	{"C0BPUB", bravo, "public", nil, []protocol.UserID{"U0BEA", "U0BOB", "U0BGU"}},
	{"C0BPRI", bravo, "private", nil, []protocol.UserID{"U0BOB", "U0BAD"}},
	{"C0ZGEN", zulu, "general", nil, []protocol.UserID{"U0ZAD", "U0ZED", "U0ZOE", "U0ZBO"}},
	{"C0ZPUB", zulu, "public", nil, []protocol.UserID{"U0ZAD", "U0ZOE"}},
	{"C0ZPRI", zulu, "private", nil, []protocol.UserID{"U0ZED", "U0ZOE", "U0ZGU"}},
	{"C0ZSHA", zulu, "public", []protocol.WorkspaceID{alpha}, []protocol.UserID{"U0ZED", "U0ZGU", "U0DAN"}},
}

// talks are the direct conversations that are there at the beginning.
var talks = []struct {
	id      protocol.ChannelID
	owner   protocol.WorkspaceID
	members []protocol.UserID
}{
	{"D0ANNBEN", alpha, []protocol.UserID{"U0ANN", "U0BEN"}},
	{"D0GILDAN", alpha, []protocol.UserID{"U0DAN", "U0GIL"}},
	{"D0CATZOE", alpha, []protocol.UserID{"U0CAT", "U0ZOE"}},
	{"G0ANNBENCAT", alpha, []protocol.UserID{"U0ANN", "U0BEN", "U0CAT"}},
	{"G0EVEGUSBOB", alpha, []protocol.UserID{"U0BOB", "U0EVE", "U0GUS"}},
}

// bots are the bots behind bot users.
var bots = map[protocol.UserID]protocol.BotID{"U0BOT": "B0BOT", "U0ZBO": "B0ZBO"}

func itoa(n int) string { return strconv.Itoa(n) }

// secret makes up something that only those who may see it may ever get. What: us a user, ch a channel, ms a message, em
// an emoji, ug a usergroup, te a workspace, bo a bot, pr a preference. holder is what it is of.
func (w *world) secret(what, holder string) string {
	return fmt.Sprintf("%s~%s.%d~", what, holder, w.secrets.Add(1))
}

// channelName makes up a name of a channel, which is a secret too.
func (w *world) channelName() string { return fmt.Sprintf("zz-%d-zz", w.secrets.Add(1)) }

// populate fills an empty store.
func (w *world) populate(tx store.Tx) error {
	for _, id := range workspaces {
		team := &protocol.Workspace{ID: id, Name: w.secret("te", string(id)), Domain: "d-" + string(id[2:]), Plan: "std", DateCreated: 1, Updated: 1}
		if id != zulu {
			team.EnterpriseID, team.EnterpriseName = org, "The org"
		}
		if err := tx.Put(team); err != nil {
			return err
		}
	}
	for _, c := range cast {
		w.person(c.id, c.team)
		if err := tx.Put(w.newUser(c.id, c.team, c.role)); err != nil {
			return err
		}
		if bot := bots[c.id]; bot != "" {
			if err := tx.Put(&protocol.Bot{ID: bot, TeamID: c.team, Name: w.secret("bo", string(bot)), UserID: c.id, Updated: 1}); err != nil {
				return err
			}
		}
	}
	for i := range w.crowd {
		if err := tx.Put(w.newUser(protocol.UserID(fmt.Sprintf("U0X%04d", i)), alpha, 'm')); err != nil {
			return err
		}
	}
	for _, id := range workspaces {
		e := &protocol.Emoji{Workspace: id, Name: "first", Value: "https://emoji.example/" + w.secret("em", string(id)), Updated: 1}
		if err := tx.Put(e); err != nil {
			return err
		}
		if err := tx.Put(w.newGroup(protocol.ObjectID("S0"+id[2:]), id, 1, nil)); err != nil {
			return err
		}
	}
	for _, c := range stage {
		ch := &protocol.Channel{
			ID: c.id, Name: w.channelName(), Created: 1, Creator: c.members[0], Updated: 1, ContextTeamID: c.owner, IsGeneral: c.kind == "general",
			IsChannel: c.kind != "private", IsGroup: c.kind == "private", IsPrivate: c.kind == "private",
			Topic: protocol.Purpose{Value: w.secret("ch", string(c.id)), Creator: c.members[0], LastSet: 1},
		}
		ch.NameNormalized = ch.Name
		share(ch, c.shared)
		if err := w.stageChannel(tx, ch, c.members); err != nil {
			return err
		}
	}
	for _, c := range talks {
		ch := &protocol.Channel{
			ID: c.id, Created: 1, Creator: c.members[0], Updated: 1, ContextTeamID: c.owner, IsPrivate: true, Members: c.members,
			IsIM: len(c.members) == 2, IsMPIM: len(c.members) > 2, IsGroup: len(c.members) > 2,
		}
		if ch.IsMPIM {
			ch.Name = w.channelName()
			ch.NameNormalized = ch.Name
		}
		if err := w.stageChannel(tx, ch, c.members); err != nil {
			return err
		}
	}
	return nil
}

// newUser makes a user up. The role is one of cast's letters.
func (w *world) newUser(id protocol.UserID, team protocol.WorkspaceID, role byte) *protocol.User {
	s := w.secret("us", string(id))
	u := &protocol.User{
		ID: id, TeamID: team, Name: "h-" + string(id[2:]), RealName: s, Updated: 1, IsAdmin: role == 'a', IsBot: role == 'b',
		IsRestricted: role == 'g' || role == 'u', IsUltraRestricted: role == 'u',
		Profile: protocol.Profile{RealName: s, RealNameNormalized: s, Email: string(id) + "@example.com", BotID: bots[id]},
	}
	if team != zulu {
		u.EnterpriseID = org
	}
	return u
}

func (w *world) newGroup(id protocol.ObjectID, team protocol.WorkspaceID, updated protocol.Version, users []protocol.UserID) *protocol.Usergroup {
	return &protocol.Usergroup{
		ID: id, TeamID: team, IsUsergroup: true, Name: w.secret("ug", string(team)), Handle: "g-" + string(id[2:]), DateCreate: 1, DateUpdate: updated,
		Prefs: protocol.UsergroupPrefs{Channels: []protocol.ChannelID{}, Groups: []protocol.ChannelID{}}, Users: users, UserCount: len(users),
	}
}

// share makes a channel one that others share; with nobody it is not shared.
func share(c *protocol.Channel, with []protocol.WorkspaceID) {
	c.IsShared, c.IsExtShared, c.IsOrgShared, c.SharedTeamIDs = len(with) > 0, slices.Contains(with, zulu) != (c.ContextTeamID == zulu), slices.Contains(with, bravo), nil
	if len(with) > 0 {
		c.SharedTeamIDs = append([]protocol.WorkspaceID{c.ContextTeamID}, with...)
	} else {
		c.IsExtShared = false
	}
}

// stageChannel writes a channel with its members and something said in it.
func (w *world) stageChannel(tx store.Tx, ch *protocol.Channel, members []protocol.UserID) error {
	if err := tx.Put(ch); err != nil {
		return err
	}
	for _, u := range members {
		m := protocol.Membership{Channel: ch.ID, Owner: ch.ContextTeamID, Type: ch.Type(), Updated: ch.Updated, Open: ch.IsIM || ch.IsMPIM}
		if ch.IsIM {
			m.Peer = members[0]
			if u == members[0] {
				m.Peer = members[1]
			}
		}
		if err := tx.AddMember(u, m); err != nil {
			return err
		}
	}
	ts, err := tx.NextTS(ch.ID, time.Unix(1_700_000_000, 0))
	if err != nil {
		return err
	}
	m := &protocol.Message{Type: "message", Channel: ch.ID, User: members[0], TS: ts, Text: w.secret("ms", string(ch.ID))}
	return tx.InsertMessage(m, "", store.Mentions{})
}
