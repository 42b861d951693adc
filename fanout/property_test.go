package fanout

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"flannel/protocol"
)

// Against an oracle that says in one line who hears what: for a channel the users that its own events have put in it,
// for a workspace its full members and whom the rule allows, for a user themself. Each session hears exactly that, in
// order.
func TestHub_AgreesWithTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFixture(nil)
		users := []protocol.UserID{"UA", "UB", "UC"}
		channels := []protocol.ChannelID{"C1", "C2"}
		in := map[protocol.ChannelID]map[protocol.UserID]bool{"C1": {}, "C2": {}} // by the channels' own events
		roles := map[protocol.UserID]protocol.Role{"UA": protocol.RoleMember, "UB": protocol.RoleGuest, "UC": protocol.RoleBot}
		f.allow = func(_ protocol.UserID, ev *protocol.Event) bool { return ev.Payload[len(ev.Payload)-1]%2 == 0 }
		stamps := map[protocol.UserID]uint64{"UA": 1, "UB": 1, "UC": 0} // the last one's are told anew each time, until it moves
		want := map[*ear][]string{}
		var ears []*ear
		n := 0
		publish := func(topic protocol.Topic, except protocol.UserID, effects []protocol.Effect, hears func(protocol.UserID) bool) {
			n++
			text := fmt.Sprint(n)
			if n%7 == 0 {
				text = ""
			}
			for _, e := range ears {
				if text != "" && e.user != except && hears(e.user) {
					want[e] = append(want[e], text)
				}
			}
			ev := message(topic, text, effects...)
			ev.Except = except
			f.Publish(ev)
		}
		user := rapid.SampledFrom(users)
		channel := rapid.SampledFrom(channels)
		except := rapid.SampledFrom(append([]protocol.UserID{"", "", ""}, users...))
		t.Repeat(map[string]func(*rapid.T){
			"attach": func(t *rapid.T) {
				u := user.Draw(t, "user")
				e := &ear{user: u}
				f.Attach(e, protocol.Identity{User: u, Workspace: "T1", Role: roles[u]}, func() (Standing, bool) {
					list := slices.DeleteFunc(slices.Clone(channels), func(ch protocol.ChannelID) bool { return !in[ch][u] })
					return Standing{Role: roles[u], Stamp: stamps[u], Channels: func() []protocol.ChannelID { return list }}, true
				})
				ears = append(ears, e)
			},
			"detach": func(t *rapid.T) {
				if len(ears) == 0 {
					t.Skip("nobody is there")
				}
				i := rapid.IntRange(0, len(ears)-1).Draw(t, "session")
				f.Detach(ears[i])
				ears = slices.Delete(ears, i, i+1)
			},
			"message": func(t *rapid.T) {
				ch := channel.Draw(t, "channel")
				publish(protocol.Topic(ch), except.Draw(t, "except"), nil, func(u protocol.UserID) bool { return in[ch][u] })
			},
			"join": func(t *rapid.T) {
				ch, u := channel.Draw(t, "channel"), user.Draw(t, "user")
				if !in[ch][u] {
					in[ch][u] = true
					stamps[u]++
				}
				publish(protocol.Topic(ch), "", []protocol.Effect{added(ch, u)}, func(u protocol.UserID) bool { return in[ch][u] })
			},
			"leave": func(t *rapid.T) {
				ch, u := channel.Draw(t, "channel"), user.Draw(t, "user")
				publish(protocol.Topic(ch), "", []protocol.Effect{removed(ch, u)}, func(u protocol.UserID) bool { return in[ch][u] })
				if in[ch][u] {
					delete(in[ch], u)
					stamps[u]++
				}
			},
			"forget": func(t *rapid.T) { // the user's state, and its topic with it
				f.Forget(protocol.Topic(user.Draw(t, "user")), func(Receiver) {})
			},
			"follow": func(t *rapid.T) {
				f.Followed(protocol.Topic(user.Draw(t, "user")), 0, 0)
			},
			"workspace": func(t *rapid.T) {
				publish("T1", except.Draw(t, "except"), nil, func(u protocol.UserID) bool { return roles[u].Full() || n%2 == 0 })
			},
			"private": func(t *rapid.T) {
				u := user.Draw(t, "user")
				publish(protocol.Topic(u), "", nil, func(other protocol.UserID) bool { return other == u })
			},
			"role": func(t *rapid.T) {
				u := user.Draw(t, "user")
				roles[u] = rapid.SampledFrom([]protocol.Role{protocol.RoleMember, protocol.RoleGuest}).Draw(t, "role")
				f.SetRole(u, roles[u])
			},
			"": func(t *rapid.T) {
				for _, e := range ears {
					if got := e.heard(); !slices.Equal(got, want[e]) {
						t.Fatalf("%s heard %q, want %q", e.user, got, want[e])
					}
					delete(want, e)
				}
				for _, a := range f.users {
					if len(a.sessions) == 0 && f.log.topics[protocol.Topic(a.user)] == nil {
						t.Fatalf("%s has no session, and nobody says what becomes of them", a.user)
					}
				}
				if f.Len() != len(ears) {
					t.Fatalf("%d sessions, want %d", f.Len(), len(ears))
				}
			},
		})
	})
}
