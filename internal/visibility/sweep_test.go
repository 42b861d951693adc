package visibility

import (
	"math/rand/v2"
	"slices"
	"strings"

	"flannel/protocol"
)

// sweep reads everything as somebody, when all is quiet, and compares with what the oracle gives them.
type sweep struct {
	*judge
	w   *world
	a   *account
	ask asker
	rng *rand.Rand
	how string // for messages
}

// column is the viewer's.
func (s *sweep) column() string {
	_, name := s.a.credentials()
	return s.l.viewer(s.a.id, name, thing{}, s.l.head)
}

// same compares a list that was answered with the one that should have been: what is missing is hidden, what is too much
// is a leak.
func (s *sweep) same(row, what string, got []string, want []string) {
	slices.Sort(got)
	for _, id := range want {
		_, found := slices.BinarySearch(got, id)
		s.t.expect(row, s.column(), found, "%s not in %s of %s %s", id, what, s.a.id, s.how)
	}
	slices.Sort(want)
	for _, id := range got {
		_, found := slices.BinarySearch(want, id)
		s.t.check(row, s.column(), found, "%s in %s of %s %s", id, what, s.a.id, s.how)
	}
}

func (s *sweep) users(keep func(u protocol.UserID) bool) []string {
	var ids []string
	for _, u := range sortedKeys(s.l.users) {
		if keep(u) {
			ids = append(ids, string(u))
		}
	}
	return ids
}

func (s *sweep) channels(keep func(ch protocol.ChannelID, c channelState) bool) []string {
	var ids []string
	for _, ch := range sortedKeys(s.l.channels) {
		if c, _ := s.l.channel(ch, s.l.head); keep(ch, c) {
			ids = append(ids, string(ch))
		}
	}
	return ids
}

func (s *sweep) seesUser(u protocol.UserID) bool { return s.l.seesUser(s.a.id, u, s.l.head) }

func (s *sweep) seesChannel(ch protocol.ChannelID, _ channelState) bool {
	return s.l.seesChannel(s.a.id, ch, s.l.head)
}

func (s *sweep) isIn(ch protocol.ChannelID, _ channelState) bool {
	return s.l.member(ch, s.a.id, s.l.head)
}

// full reports whether the viewer is a full member.
func (s *sweep) full() bool { return s.l.belongs(s.a.id, s.l.head, s.a.team) }

// everything is the whole sweep.
func (s *sweep) everything() {
	if _, name := s.a.credentials(); !s.l.alive(s.a.id, name, s.l.head) {
		r := s.ask(rowUsers, "users/info", args{"updated_ids": fresh(s.w.everybody())})
		s.t.check(rowUsers, asInactive, !r.ok(), "%s is not active and is answered %v", s.a.id, r)
		return
	}
	s.byID()
	s.lists()
	s.boot()
	s.membership()
	s.search()
	s.others()
}

func (s *sweep) byID() {
	sees := s.users(s.seesUser)
	r := s.ask(rowUsers, "users/info", args{"updated_ids": fresh(s.w.everybody()), "check_interaction": true})
	s.same(rowUsers, "users/info", r.ids("results"), sees)
	r = s.ask(rowUsers, "users.info", args{"users": strings.Join(s.w.everybody(), ",")})
	s.same(rowUsers, "users.info", r.ids("users"), sees)
	r = s.ask(rowChannels, "channels/info", args{"updated_ids": fresh(sortedKeys(s.l.channels)), "check_membership": true})
	s.same(rowChannels, "channels/info", r.ids("results"), s.channels(s.seesChannel))
	s.same(rowChannels, "member_channels of channels/info", r.ids("member_channels"), s.channels(s.isIn))
	for range 5 {
		ch := pickOne(sortedKeys(s.l.channels), s.rng.Uint64())
		r := s.ask(rowChannels, "conversations.info", args{"channel": ch})
		s.t.expect(rowChannels, s.column(), r.ok() == s.seesChannel(ch, channelState{}), "conversations.info of %s for %s is %v %s", ch, s.a.id, r, s.how)
	}
}

func (s *sweep) lists() {
	s.same(rowLists, "conversations.list", paged(s.ask, rowLists, "conversations.list", "channels", args{"types": allTypes, "limit": 20}),
		s.channels(func(ch protocol.ChannelID, c channelState) bool {
			if s.full() && c.typ == protocol.TypePublic {
				return c.owner == s.a.team || slices.Contains(c.shared, s.a.team) // The list is the workspace's.
			}
			return s.isIn(ch, c)
		}))
	s.same(rowLists, "users.conversations", paged(s.ask, rowLists, "users.conversations", "channels", args{"types": allTypes, "limit": 20}), s.channels(s.isIn))
	ours := func(u protocol.UserID) bool {
		state, _ := s.l.user(u, s.l.head)
		return state.team == s.a.team && s.seesUser(u)
	}
	listed := s.users(s.seesUser) // Guests are listed whom they meet, from wherever they are.
	if s.full() {
		listed = s.users(ours)
	}
	s.same(rowLists, "users.list", paged(s.ask, rowLists, "users.list", "members", args{"limit": 7}), listed)
	s.same(rowLists, "users/list", paged(s.ask, rowLists, "users/list", "results", args{"count": 7, "filter": "everyone"}), s.users(ours))
	s.same(rowLists, "users/list", paged(s.ask, rowLists, "users/list", "results", args{"count": 3, "filter": "everyone", "present_first": true}), s.users(ours))
}

func (s *sweep) boot() {
	open := func(ch protocol.ChannelID, c channelState) bool {
		return s.isIn(ch, c) && (c.typ == protocol.TypeDM || !c.closed)
	}
	r := s.ask(rowBoot, "client.userBoot", nil)
	s.same(rowBoot, "client.userBoot", append(r.ids("channels"), r.ids("ims")...), s.channels(open))
	r = s.ask(rowBoot, "client.counts", nil)
	s.same(rowBoot, "client.counts", slices.Concat(r.ids("channels"), r.ids("mpims"), r.ids("ims")), s.channels(open))
}

func (s *sweep) membership() {
	for _, ch := range sortedKeys(s.l.channels) {
		sees, in := s.seesChannel(ch, channelState{}), s.l.membersAt(ch, s.l.head)
		var ids, others []string
		for _, a := range s.w.people {
			if slices.Contains(in, a.id) {
				ids = append(ids, string(a.id))
			} else {
				others = append(others, string(a.id))
			}
		}
		switch s.rng.IntN(5) {
		case 0, 1:
			r := s.ask(rowMembership, "conversations.members", args{"channel": ch, "limit": 500})
			s.told(rowMembership, "conversations.members", ch, r, sees)
			if sees {
				s.same(rowMembership, "conversations.members of "+string(ch), r.ids("members"), ids)
			}
		case 2:
			r := s.ask(rowMembership, "channels/membership", args{"channel": ch, "users": s.w.everybody()})
			s.told(rowMembership, "channels/membership", ch, r, sees)
			if sees {
				s.same(rowMembership, "channels/membership of "+string(ch), r.ids("members"), ids)
				s.same(rowMembership, "channels/membership of "+string(ch), r.ids("non_members"), others)
			}
		case 3:
			r := s.ask(rowMembership, "users/counts", args{"channel": ch})
			s.told(rowMembership, "users/counts", ch, r, sees)
			counts, _ := r["counts"].(map[string]any)
			in = slices.DeleteFunc(in, func(u protocol.UserID) bool { // Who is deactivated is not counted.
				state, _ := s.l.user(u, s.l.head)
				return state.deleted
			})
			if n, _ := counts["everyone"].(float64); sees {
				s.t.expect(rowMembership, s.column(), int(n) == len(in), "users/counts of %s for %s is %v, there are %d %s", ch, s.a.id, r, len(in), s.how)
			}
		case 4:
			r := s.ask(rowHistory, "conversations.history", args{"channel": ch, "limit": 3})
			if u, _ := s.l.user(s.a.id, s.l.head); u.role != protocol.RoleBot || !sees { // Bots read only the channels they are in.
				s.told(rowHistory, "conversations.history", ch, r, sees)
			}
		}
	}
}

// told checks that a channel is there for whom it should be.
func (s *sweep) told(row, method string, ch protocol.ChannelID, r reply, sees bool) {
	if sees {
		s.t.expect(row, s.column(), r.ok(), "%s of %s for %s is %v %s", method, ch, s.a.id, r, s.how)
	} else {
		s.t.check(row, s.column(), !r.ok(), "%s of %s for %s is %v %s", method, ch, s.a.id, r, s.how)
	}
}

func (s *sweep) others() {
	at := s.l.head
	r := s.ask(rowOther, "bots.info", args{"bots": "B0BOT,B0ZBO"})
	var want []string
	for user, bot := range bots {
		if s.seesUser(user) {
			want = append(want, string(bot))
		}
	}
	s.same(rowOther, "bots.info", r.ids("bots"), want)
	for _, team := range workspaces {
		r := s.ask(rowOther, "team.info", args{"team": team})
		if s.l.seesWorkspace(s.a.id, team, at) {
			s.t.expect(rowOther, s.column(), r.ok(), "team.info of %s for %s is %v %s", team, s.a.id, r, s.how)
		} else {
			s.t.check(rowOther, s.column(), !r.ok(), "team.info of %s for %s is %v %s", team, s.a.id, r, s.how)
		}
	}
	var named, values []string
	if s.full() {
		for _, id := range sortedKeys(s.l.kept) {
			if team, name, ok := protocol.EmojiName(id); ok && team == s.a.team && s.l.exists(id, at) {
				named = append(named, name)
			}
		}
	}
	emoji, _ := s.ask(rowOther, "emoji.list", nil)["emoji"].(map[string]any)
	s.same(rowOther, "emoji.list", sortedKeys(emoji), named)
	for _, v := range s.ask(rowOther, "emojis/list", args{"count": 100}).list("results") {
		name, _ := v.(map[string]any)["name"].(string)
		values = append(values, name)
	}
	s.same(rowOther, "emojis/list", values, named)
	var mine []string
	for _, team := range workspaces {
		if s.l.belongs(s.a.id, at, team) {
			mine = append(mine, "S0"+string(team[2:]))
		}
	}
	s.same(rowOther, "usergroups/info", s.ask(rowOther, "usergroups/info", args{"ids": groups()}).ids("results"), mine)
}

// exists reports whether an emoji or a usergroup is there.
func (l *ledger) exists(id protocol.ObjectID, p protocol.Position) bool {
	return slices.ContainsFunc(l.kept[id], func(s span) bool { return s.has(p) })
}
