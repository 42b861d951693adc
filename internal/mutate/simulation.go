package main

// simulation has the bugs that the simulation is to find: what somebody could plant with one careless change, by room.
var simulation = []mutation{
	{"cache: a fill is kept whatever events have touched it since", []edit{{
		"cache/fill.go",
		"	if sh.touched[id].outruns(version, p) || sh.ahead[id].outruns(version, p) || e != nil && e.newerThan(version, p) {",
		"	if false && e != nil {",
	}}},
	{"cache: a reset does not raise the epoch", []edit{{
		"cache/topic.go",
		"	old.trust.Store(max(uint64(p), c.applied.Load()))\n	old.epoch.Add(1)\n	c.beginLocked(old)\n	c.voidLocked(t)",
		"	old.trust.Store(max(uint64(p), c.applied.Load()))\n	c.beginLocked(old)",
	}}},
	{"cache: user states do not hear of a reset", []edit{{
		"cache/topic.go", "	c.voidUsersOf(t)\n", "",
	}}},
	{"cache: events do not touch objects", []edit{{
		"cache/apply.go", "			c.upsert(e.Object, p, now)\n", "",
	}}},
	{"cache: an older event replaces a newer fill", []edit{{
		"cache/applyobject.go", "	case old != nil && old.asOf >= t.position:\n		return // A load or an event that is later came before.\n", "	case false:\n",
	}}},
	{"cache: a boot is not brought up to the events since", []edit{{
		"cache/filluser.go", "	c.replayUser(u, own, above)\n	if held", "	if held",
	}}},
	{"cache: a mark does not count again the messages that came before it", []edit{{
		"cache/userstate.go", "	if t == nil || t.last <= p {\n		return true\n	}\n	if !t.reaches(p)", "	if true {\n		return true\n	}\n	if !t.reaches(p)",
	}}},
	{"cache: removals do not reach the member sets", []edit{{
		"cache/apply.go", "			c.setRemove(e.Channel, e.User, p)\n", "",
	}}},
	{"cache: an identity outlives its revocation", []edit{{
		"cache/apply.go", "c.identities.revoke(user, e.Token); n > 0", "0; n > 0",
	}}},
	{"cache: the role of an identity does not change", []edit{{
		"cache/selfstate.go", "		c.identities.roleChanged(protocol.UserID(o.ID), role, deleted)\n", "		_ = deleted\n",
	}, {
		"query/reader.go", "full: u.Role().Full()", "full: id.Role.Full()",
	}}},
	{"cache: a note outlives the object", []edit{{
		"cache/note.go", "n != nil && n.version == list[first+i].Updated && n.link.valid()", "n != nil && list[first+i].Updated >= 0",
	}}},
	{"query: what the user wrote does not raise their floor", []edit{{
		"query/reader.go", "floor: u.Floor()}", "floor: 0}",
	}}},
	{"query: a load may be older than what was applied", []edit{{
		"query/reader.go", "return max(r.floor, r.s.cache.Known())", "return 0 * max(r.floor, r.s.cache.Known())",
	}}},
	{"query: a load that began before a revocation is joined and believed", []edit{{
		"query/service.go", "if !s.cache.Outran(&id, at) {", "if true {",
	}}},
	{"query: private things are shown on stale permission", []edit{{
		"query/visible.go", "		return member && r.fresh, r.permitted()\n", "		return member, nil\n",
	}}},
	{"query: guests hear everything of their workspace", []edit{{
		"query/visible.go", "	u, freshness := s.cache.User(user)\n	if freshness != cache.Fresh {\n		return false\n	}\n	seen := false\n",
		"	u, freshness := s.cache.User(user)\n	if freshness == cache.Fresh {\n		return true\n	}\n	seen := false\n",
	}}},
	{"query: whoever shares a channel with anybody sees everybody", []edit{{
		"query/visible.go", "			if set.Contains(user) {\n				return true, nil\n			}\n			continue", "			if set != nil {\n				return true, nil\n			}\n			continue",
	}}},
	{"query: channels that are joined are not followed", []edit{{
		"query/userload.go", "		s.loader.FollowAsync(follow)\n", "		_ = follow\n",
	}}},
	{"fanout: who is removed goes on hearing", []edit{{
		"fanout/publish.go", "				h.leaveLocked(a, ch)\n", "				_ = a\n",
	}}},
	{"fanout: who is removed does not hear what came before in order", []edit{{
		"fanout/publish.go", "	for i := range ev.Effects {\n		if e := &ev.Effects[i]; e.Op == protocol.OpMemberRemoved && e.Channel == ch {",
		"	for i := range ev.Effects {\n		if e := &ev.Effects[i]; e.Op == protocol.OpMemberAdded && e.Channel == ch {",
	}}},
	{"fanout: who joins is not let in", []edit{{
		"fanout/publish.go", "				h.enterLocked(a, ch)\n", "",
	}}},
	{"fanout: a coming that the channel has told is told again", []edit{{
		"fanout/replay.go", "		if e.Op == protocol.OpMemberRemoved || in || heard {", "		if e.Op == protocol.OpMemberRemoved || in {",
	}}},
	{"fanout: the role is the one that the session came with", []edit{{
		"fanout/hub.go", "	a.role = standing.Role\n	a.sessions", "	a.role = id.Role\n	a.sessions",
	}, {
		"node/sink.go", "	for _, r := range change.Roles {\n", "	for _, r := range change.Roles[:0] {\n",
	}}},
	{"fanout: topics that catch up are not waited for", []edit{{
		"fanout/replay.go", "			p = min(p, from)\n", "			_ = from\n",
	}}},
	{"fanout: channels that are due are not waited for", []edit{{
		"fanout/replay.go", "		p = min(p, max(c.first, 1)-1)\n", "		_ = c\n",
	}}},
	{"node: sessions hear of an event before the cache does", []edit{{
		"node/sink.go", "	s.n.hub.PublishAfter(func() {\n		for _, ev := range run {\n			change = s.n.cache.Apply(ev)\n			s.n.query.Moved(change, ev.Position)\n		}\n	}, run...)\n",
		"	s.n.hub.PublishAfter(func() {}, run...)\n	time.Sleep(3 * time.Millisecond)\n	for _, ev := range run {\n		change = s.n.cache.Apply(ev)\n		s.n.query.Moved(change, ev.Position)\n	}\n",
	}, {
		"node/sink.go", "import (\n", "import (\n	\"time\"\n\n",
	}}},
	{"node: a reset is kept from the sessions", []edit{{
		"node/sink.go", "	s.n.hub.Forget(t, tellLost)\n	s.n.hub.Followed(t, 0, p)\n", "	s.n.hub.Followed(t, 0, p)\n",
	}}},
	{"node: revocations close nobody", []edit{{
		"node/sink.go", "	for _, r := range change.Revoked {\n", "	for _, r := range change.Revoked[:0] {\n",
	}}},
	{"node: a replay has all events of a channel, also from when the user was not in it", []edit{{
		"node/heard.go", "		if in {\n			heard = append(heard, ev)\n		}", "		if in || true {\n			heard = append(heard, ev)\n		}",
	}}},
	{"node: a replay is not filtered for guests", []edit{{
		"node/replay.go", "			if !role.Full() {", "			if !role.Full() && false {",
	}}},
	{"node: what the hub has forgotten is not asked of the backend", []edit{{
		"node/replay.go", "			ask = append(ask, protocol.TopicState{Topic: p.Topic, Position: &b.since})\n", "			continue\n",
	}}},
	{"node: who comes back does not wait until the node has heard what their state knows", []edit{{
		"node/attach.go", "	case resync, !n.reaches(ctx, u.AsOf()):", "	case resync:",
	}, {
		"node/attach.go", " && (!heard || now.AsOf() <= n.hub.Applied())", "",
	}}},
	{"node: what a replay has told is told again", []edit{{
		"edge/resume.go", "	return past != nil && ev.Seq > 0 &&", "	return false && past != nil && ev.Seq > 0 &&",
	}}},
	{"query: a channel is given back before what happened in it has come", []edit{{
		"query/userload.go", "			back = s.leaveLocked(back, leaving{protocol.Topic(l.Channel), above, s.now()})\n", "			_ = above\n			back = append(back, protocol.Topic(l.Channel))\n",
	}}},
	{"edge: a ticket is enough when nobody knows the token", []edit{{
		"edge/session.go", "	default:\n		return err\n	}\n}\n\n// welcome", "	case err != nil && s.id.User != \"\" && protocol.AsError(err).Code == protocol.CodeUnavailable:\n		return nil\n	default:\n		return err\n	}\n}\n\n// welcome",
	}}},
	{"upstream: an answer of several loads is as of the lowest of their positions", []edit{{
		"upstream/load.go", "	for _, p := range parts {\n", "	for i := range parts {\n		for j := range parts {\n			parts[i].position = min(parts[i].position, parts[j].position)\n		}\n	}\n	for _, p := range parts {\n",
	}}},
	{"upstream: a hole in a topic is taken for no loss", []edit{{
		"upstream/table.go", "	case ev.Seq == t.seq+1:\n", "	case ev.Seq > t.seq:\n",
	}, {
		"internal/sim/stream_test.go", "			frame = append(frame, topics[i].events[0])\n", "			if topics[i].c.sent%17 != 16 {\n				frame = append(frame, topics[i].events[0])\n			}\n",
	}}},
	{"upstream: what comes twice is handed over twice", []edit{{
		"upstream/table.go", "	case ev.Seq <= t.seq:\n		return notes, eventDuplicate, false\n", "	case ev.Seq <= t.seq:\n		return append(notes, note{kind: noteEvent, event: ev}), eventDuplicate, false\n",
	}}},
	{"upstream: after a break topics are followed from now on", []edit{{
		"upstream/table.go", "	case t.told && t.counted:\n		seq := t.seq\n		ts.Seq = &seq\n", "	case t.told && t.counted:\n",
	}}},
	{"upstream: it is live before everything that was missed has come", []edit{{
		"upstream/stream.go", "	return s.u.table.recovering == 0\n", "	return true\n",
	}}},
	{"edge: live events do not wait for the boot", []edit{{
		"edge/write.go", "	if live && s.held {", "	if live && s.held && false {",
	}}},
	{"edge: answers to writes do not wait for their effect", []edit{{
		"edge/http.go", "	if err != nil || reply.Position == 0 || reply.Position <= e.doors.Queries.Applied() {", "	if true {",
	}}},
	{"edge: the token of a pong is ahead of what was delivered", []edit{{
		"node/attach.go", "	return protocol.ResumeToken{User: s.User(), Position: n.hub.Behind(receiver{s}, p)}.String()\n",
		"	return protocol.ResumeToken{User: s.User(), Position: p + 2}.String()\n",
	}}},
	{"edge: objects go before events unseen by the rules of visibility", []edit{{
		"query/peek.go", "			if full && r.ofOurs(o.Visibility.Workspaces) || s.allows(u, &o) {", "			if _ = full; r.id != nil {",
	}}},
}
