package visibility

import (
	"math/rand/v2"
	"slices"
	"strings"

	"flannel/protocol"
)

// everybody lists all user ids.
func (w *world) everybody() []string {
	ids := make([]string, len(w.people))
	for i, a := range w.people {
		ids[i] = string(a.id)
	}
	return ids
}

// fresh makes the argument of a conditional read by somebody who has nothing yet.
func fresh[S ~string](ids []S) map[string]int {
	m := make(map[string]int, len(ids))
	for _, id := range ids {
		m[string(id)] = 0
	}
	return m
}

// searchFor is a word of somebody's name that nobody else has.
func searchFor[S ~string](u S) string { return strings.ToLower(string(u)) }

const allTypes = "public_channel,private_channel,mpim,im"

// asker asks on behalf of somebody, over HTTP or a socket.
type asker func(row, method string, in args) reply

// anyRead asks one thing at random. What is right is for the judge to say.
func (w *world) anyRead(rng *rand.Rand, a *account, ask asker, rooms []protocol.ChannelID) {
	ch := pickOne(rooms, rng.Uint64())
	other := string(w.anybody(rng))
	reads := []func(){
		func() {
			ask(rowUsers, "users/info", args{"updated_ids": fresh(w.everybody()), "check_interaction": true})
		},
		func() { ask(rowUsers, "users.info", args{"user": other}) },
		func() { ask(rowUsers, "users.info", args{"users": strings.Join(w.everybody(), ",")}) },
		func() { ask(rowUsers, "users.profile.get", args{"user": other}) },
		func() {
			ask(rowChannels, "channels/info", args{"updated_ids": fresh(rooms), "check_membership": true})
		},
		func() { ask(rowUsers, "users.lookupByEmail", args{"email": other + "@example.com"}) },
		func() { ask(rowPresence, "users.getPresence", args{"user": other}) },
		func() { ask(rowChannels, "conversations.info", args{"channel": ch}) },
		func() { ask(rowLists, "conversations.list", args{"types": allTypes, "limit": 1 + rng.IntN(60)}) },
		func() { ask(rowLists, "users.conversations", args{"types": allTypes, "limit": 200}) },
		func() { ask(rowLists, "users.conversations", args{"types": allTypes, "limit": 200, "user": other}) },
		func() { ask(rowLists, "users.list", args{"limit": 1 + rng.IntN(30)}) },
		func() {
			ask(rowLists, "users/list", args{"count": 1 + rng.IntN(30), "filter": "everyone", "present_first": rng.IntN(2) == 0})
		},
		func() { ask(rowLists, "users/list", args{"count": 30, "channels": []any{ch}, "present_first": true}) },
		func() {
			ask(rowSearch, "users/search", args{"query": searchFor(other), "count": 20, "fuzz": rng.IntN(2) == 0, "search_email": true})
		},
		func() { ask(rowSearch, "users/search", args{"query": "us", "count": 30, "current_channel": ch}) },
		func() {
			ask(rowSearch, "channels/search", args{"query": "zz", "count": 30, "fuzz": rng.IntN(2) == 0, "check_membership": true})
		},
		func() { ask(rowMembership, "conversations.members", args{"channel": ch}) },
		func() {
			ask(rowMembership, "channels/membership", args{"channel": ch, "users": w.everybody()})
		},
		func() { ask(rowMembership, "users/counts", args{"channel": ch}) },
		func() { ask(rowBoot, "client.userBoot", args{"lazy_channels": rng.IntN(2) == 0}) },
		func() { ask(rowBoot, "client.counts", nil) },
		func() {
			ask(rowBoot, "client.dms", args{"include_channel": true, "include_closed": true, "count": 1 + rng.IntN(5)})
		},
		func() { ask(rowChannels, "conversations.genericInfo", args{"updated_channels": fresh(rooms)}) },
		func() { ask(rowHistory, "conversations.view", args{"channel": ch}) },
		func() { ask(rowHistory, "conversations.history", args{"channel": ch, "limit": 5}) },
		func() { ask(rowOther, "team.info", args{"team": pickOne(workspaces, rng.Uint64())}) },
		func() { ask(rowOther, "bots.info", args{"bots": "B0BOT,B0ZBO"}) },
		func() { ask(rowOther, "emoji.list", nil) },
		func() { ask(rowOther, "emojis/list", args{"count": 1}) },
		func() { ask(rowOther, "usergroups/info", args{"ids": groups()}) },
		func() { ask(rowOther, "usergroups.list", args{"include_users": true}) },
		func() { ask(rowOther, "users.prefs.get", nil) },
	}
	pickOne(reads, rng.Uint64())()
}

// groups lists the usergroups.
func groups() []string {
	var ids []string
	for _, team := range workspaces {
		ids = append(ids, "S0"+string(team[2:]))
	}
	return ids
}

// onlySocket lists the methods that a socket cannot ask for: those of the Web API.
func webAPI(method string) bool { return !strings.Contains(method, "/") }

// overHTTP asks a node.
func (w *world) overHTTP(n *edge, a *account) asker {
	return func(row, method string, in args) reply { return w.ask(n, a, row, method, in) }
}

// overSocket asks over a session; what a socket cannot be asked goes over HTTP to the same node.
func (s *session) asker() asker {
	return func(row, method string, in args) reply {
		if webAPI(method) {
			return s.w.ask(s.node, s.a, row, method, in)
		}
		if in == nil {
			in = args{}
		}
		return s.query(row, method, in)
	}
}

// patient asks again what a node could not answer in its bounded time: the machine may be busy.
func patient(ask asker) asker {
	return func(row, method string, in args) (r reply) {
		for range 20 {
			if r = ask(row, method, in); len(r.list("pending_ids")) == 0 && r.text("error") != string(protocol.CodeUnavailable) {
				break
			}
		}
		return r
	}
}

// paged reads all pages of a list and returns the ids in it.
func paged(ask asker, row, method, field string, in args) []string {
	var ids []string
	for range 100 {
		r := ask(row, method, in)
		ids = append(ids, r.ids(field)...)
		next, name := r.next(), "cursor"
		if marker := r.text("next_marker"); marker != "" {
			next, name = marker, "marker"
		}
		if next == "" {
			break
		}
		in[name] = next
	}
	slices.Sort(ids)
	return ids
}
