package visibility

import (
	"slices"
	"strings"
	"testing"

	"flannel/protocol"
)

// search looks for a few people and channels by what only they are called. Who is deactivated, and what is archived, is
// left out; strangers are found by guests, and by members in the channel that they have before them.
func (s *sweep) search() {
	for range 5 {
		u := pickOne(s.w.people, s.rng.Uint64()).id
		state, _ := s.l.user(u, s.l.head)
		in := args{"query": searchFor(u), "count": 20, "fuzz": s.rng.IntN(2) == 0}
		found := s.full() && state.team == s.a.team || !s.full()
		for _, ch := range s.l.in[s.a.id] {
			if s.isIn(ch, channelState{}) && s.l.member(ch, u, s.l.head) {
				in["current_channel"], found = ch, true
			}
		}
		r := s.ask(rowSearch, "users/search", in)
		if found && s.seesUser(u) && !state.deleted {
			s.t.expect(rowSearch, s.column(), slices.Contains(r.ids("results"), string(u)), "users/search of %v by %s finds %v %s", in, s.a.id, r, s.how)
		} else if !s.seesUser(u) {
			s.t.check(rowSearch, s.column(), !slices.Contains(r.ids("results"), string(u)), "users/search of %v by %s finds %v %s", in, s.a.id, r, s.how)
		}
	}
	for range 5 {
		name := pickOne(sortedKeys(s.l.named), s.rng.Uint64())
		ch := s.l.named[name]
		c, _ := s.l.channel(ch, s.l.head)
		if s.l.nameOf(ch) != name {
			continue
		}
		r := s.ask(rowSearch, "channels/search", args{"query": name, "count": 30, "check_membership": true})
		listed := s.isIn(ch, c) && (!s.full() || c.typ != protocol.TypePublic) || s.full() && c.typ == protocol.TypePublic && (c.owner == s.a.team || slices.Contains(c.shared, s.a.team))
		switch got := slices.Contains(r.ids("results"), string(ch)); {
		case !s.seesChannel(ch, c):
			s.t.check(rowSearch, s.column(), !got, "channels/search of %s by %s finds %v %s", name, s.a.id, r, s.how)
		case listed && !c.closed:
			s.t.expect(rowSearch, s.column(), got, "channels/search of %s by %s finds %v %s", name, s.a.id, r, s.how)
			s.t.expect(rowSearch, s.column(), slices.Contains(r.ids("member_channels"), string(ch)) == s.isIn(ch, c),
				"channels/search of %s by %s says of membership %v %s", name, s.a.id, r.ids("member_channels"), s.how)
		}
	}
}

// TestSearch_TellsNothingOfTheInvisible: whoever looks for somebody whom they do not see gets the very answer that they
// get for somebody who does not exist, whatever they ask for besides; the same for channels.
func TestSearch_TellsNothingOfTheInvisible(t *testing.T) {
	const crowd = 40
	w := crowdedWorld(t, crowd)
	channel := func(ch protocol.ChannelID) string { return strings.Trim(w.ledger.nameOf(ch), "z-") }
	for range 2 { // Before there is an index, and with it.
		for _, who := range []protocol.UserID{"U0GIL", "U0UMA", "U0ZED", "U0BGU", "U0BOB"} {
			a := w.of(who)
			for _, n := range w.nodes {
				for _, u := range sortedKeys(w.ledger.users) {
					if w.ledger.seesUser(who, u, w.ledger.head) {
						continue
					}
					sameAnswer(t, w, n, a, "users/search", searchFor(u), "u0nobody", "current_channel", "C0AGEN")
					sameAnswer(t, w, n, a, "users/search", string(u)+"@example.com", "U0NOBODY@example.com", "search_email", true)
					if strings.HasPrefix(string(u), "U0X") { // Unlike anybody else's name.
						sameAnswer(t, w, n, a, "users/search", searchFor(u[2:]), "x9876", "fuzz", true)
					}
				}
				for _, ch := range sortedKeys(w.ledger.channels) {
					if name := w.ledger.nameOf(ch); name != "" && !w.ledger.seesChannel(who, ch, w.ledger.head) {
						sameAnswer(t, w, n, a, "channels/search", channel(ch)+" zz", "987654 zz", "check_membership", true)
					}
				}
			}
		}
	}
	w.finish()
}

// sameAnswer compares what is answered to two queries, with and without another argument.
func sameAnswer(t *testing.T, w *world, n *edge, a *account, method, hidden, nobody, name string, value any) {
	t.Helper()
	tok, _ := a.credentials()
	for _, in := range []args{{"count": 20}, {"count": 20, name: value}} {
		var got [2]string
		for i, query := range []string{hidden, nobody} {
			in["query"] = query
			for range 20 {
				body, _, err := w.post(n.url()+pathOf(a, method), tok, protocol.MustMarshal(in))
				if err != nil {
					t.Fatal(err)
				}
				if got[i] = string(body); strings.Contains(got[i], `"ok":true`) {
					break
				}
			}
		}
		if got[0] != got[1] || !strings.Contains(got[0], `"ok":true`) {
			t.Fatalf("%s by %s of %q gets %.500s; of %q %.500s", method, a.id, hidden, got[0], nobody, got[1])
		}
	}
}
