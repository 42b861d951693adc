package main

// visibility has the bugs that the tests of internal/visibility are to find: each lets somebody see too much, or too little.
var visibility = []mutation{
	{"guests see what members see", []edit{{
		"query/visible.go", "r.full && r.stillFull() && r.ofOurs(",
		"r.ofOurs(",
	}}},
	{"private channels are everybody's", []edit{{
		"query/visible.go", "return member && r.fresh, r.permitted()",
		"return member || true, nil",
	}}},
	{"a DM with one shows everybody", []edit{{
		"query/visible.go", "if m.Peer == user {\n				return true, nil\n			}\n			continue\n		}\n		if set",
		"return true, nil\n		}\n		if set",
	}}},
	{"any channel will do to share", []edit{{
		"query/visible.go", "if set.Contains(user) {",
		"if set.Contains(user) || true {",
	}}},
	{"every workspace is shown", []edit{{
		"query/visible.go", "func (r *reader) seesWorkspace(w protocol.WorkspaceID) (bool, error) {",
		"func (r *reader) seesWorkspace(protocol.WorkspaceID) (bool, error) {\n	return true, nil\n}\n\nfunc (r *reader) SeesWorkspace(w protocol.WorkspaceID) (bool, error) {",
	}}},
	{"presence of anybody can be followed", []edit{{
		"query/visible.go", "if sees, err := r.sees(o); sees && err == nil {",
		"if sees, err := r.sees(o); sees || err == nil {",
	}}},
	{"presence goes on for ever", []edit{{
		"query/visible.go", "return meets, meets || len(unknown) == 0 && (here || !full)",
		"return meets || true, true || len(unknown) == 0",
	}}},
	{"guests hear of everybody in the workspace", []edit{{
		"query/visible.go", "	return meets\n}",
		"	return true\n}",
	}}},
	{"guests hear of every channel", []edit{{
		"query/visible.go", "_, member := u.Membership(ch)\n		return member\n",
		"return true\n",
	}}},
	{"a guest's channels are not known", []edit{{
		"query/guests.go", "for _, ch := range channels {\n		if _, freshness",
		"for _, ch := range channels[:0] {\n		if _, freshness",
	}}},
	{"a guest's pages are the members' with gaps", []edit{{
		"query/directory.go", "return r.guestDirectory(l, keep)",
		"",
	}}},
	{"just-in-time objects of anybody", []edit{{
		"query/peek.go", "if full && r.ofOurs(o.Visibility.Workspaces) || s.allows(u, &o) {",
		"if full && r.ofOurs(o.Visibility.Workspaces) || s.allows(u, &o) || true {",
	}}},
	{"who is removed goes on hearing", []edit{{
		"fanout/publish.go", "e.Op == protocol.OpMemberRemoved && e.Channel == ch {\n			if a := h.users[e.User]; a != nil {",
		"e.Op == protocol.OpMemberRemoved && e.Channel == ch {\n			if a := h.users[e.User]; a != nil && false {",
	}}},
	{"who is removed misses the removal", []edit{{
		"fanout/publish.go", "for a := range h.crowdLocked(ev.Topic) {\n		h.choose(a, ev)\n	}\n	for i",
		"for a := range h.crowdLocked(ev.Topic) {\n		if !leaves(ev, a.user) {\n			h.choose(a, ev)\n		}\n	}\n	for i",
	}, {
		"fanout/publish.go", "func (h *Hub) choose(a *audience",
		"func leaves(ev *protocol.Event, user protocol.UserID) bool {\n	for i := range ev.Effects {\n		if ev.Effects[i].Op == protocol.OpMemberRemoved && ev.Effects[i].User == user {\n			return true\n		}\n	}\n	return false\n}\n\nfunc (h *Hub) choose(a *audience",
	}}},
	{"guests hear what members of the workspace hear", []edit{{
		"fanout/publish.go", "if a.role.Full() {",
		"if true {",
	}}},
	{"sessions keep their old workspaces", []edit{{
		"node/sink.go", "if s.n.hub.SetRole(r.User, r.Role) {",
		"if s.n.hub.SetRole(r.User, r.Role) && false {",
	}}},
	{"a ticket keeps its old role", []edit{{
		"edge/session.go", "case err == nil && !s.registered:",
		"case err == nil && s.id.User == \"\":",
	}}},
	{"revoked sessions go on", []edit{{
		"node/sink.go", "s.n.edge.CloseUser(r.User, r.Token, protocol.CloseTokenRevoked)",
		"_ = r",
	}}},
	{"revoked tokens are good for a while", []edit{{
		"cache/apply.go", "c.identities.revoke(user, e.Token)",
		"0",
	}}},
	{"member sets keep who has left", []edit{{
		"cache/apply.go", "c.setRemove(e.Channel, e.User, p)",
		"_ = p",
	}}},
	{"user states keep channels that were left", []edit{{
		"cache/userstate.go", "	c.unlink(u, u.members[i].channel)\n	return true\n}",
		"	return true\n}",
	}}},
	{"user states keep their old role", []edit{{
		"cache/selfstate.go", "u.setSelf(o, role) {\n			change",
		"u.setSelf(o, u.Role()) {\n			change",
	}}},
	{"the past of a channel goes on after a removal", []edit{{
		"node/heard.go", "		if in {\n",
		"		if in || len(turns) == 0 {\n",
	}}},
}
