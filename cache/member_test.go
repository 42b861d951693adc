package cache

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"flannel/protocol"
)

// Whatever a load or an event says of a place is told again as it was, in what order it may come.
func TestMember_LosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := &User{id: "UA"}
		first := rapid.SampledFrom([]protocol.UserID{"", "UA", "UB", "UC"})
		ch := newChannel(rapid.SampledFrom([]protocol.UserID{"UA", "UB"}).Draw(t, "member"), &protocol.Membership{Channel: "D1", Peer: first.Draw(t, "peer")})
		ts := rapid.Custom(func(t *rapid.T) protocol.TS {
			return protocol.TS(rapid.OneOf(
				rapid.StringMatching(`[0-9]{10}\.[0-9]{6}`), rapid.StringMatching(`[09]{10}\.[09]{6}`), rapid.Just(""), rapid.String(),
			).Draw(t, "ts"))
		})
		mentions := rapid.OneOf(rapid.IntRange(-1, 300), rapid.Int())
		want := protocol.Membership{Channel: "D1", LastRead: ts.Draw(t, "marker"), MentionCount: mentions.Draw(t, "mentions"), Peer: first.Draw(t, "own peer"), Open: rapid.Bool().Draw(t, "open")}
		u.table = new(channelTable)
		u.table.add(new(channel))
		ch.number = u.table.add(ch)
		u.place(ch, &want)
		t.Repeat(map[string]func(*rapid.T){
			"mark": func(t *rapid.T) {
				want.LastRead, want.MentionCount = ts.Draw(t, "marker"), mentions.Draw(t, "mentions")
				u.setMark(&u.members[0], want.LastRead, want.MentionCount)
			},
			"mention": func(t *rapid.T) {
				want.MentionCount = rapid.IntRange(0, 300).Draw(t, "mentions")
				u.setMentions(&u.members[0], want.MentionCount)
			},
			"detach": func(*rapid.T) { u.detach() },
			"open": func(*rapid.T) {
				want.Open = !want.Open
				u.members[0].setOpen(want.Open)
			},
			"": func(t *rapid.T) {
				m := &u.members[0]
				if got, ok := u.Membership("D1"); !ok || got != want {
					t.Fatalf("got %+v, want %+v", got, want)
				}
				if got := u.Memberships(); got[0] != want || u.mentions(m) != want.MentionCount {
					t.Fatalf("got %+v, want %+v", got, want)
				}
				other := ts.Draw(t, "other")
				if got := u.compareRead(m, other); got < 0 != (want.LastRead < other) || got > 0 != (want.LastRead > other) {
					t.Fatalf("%q against %q is %d", want.LastRead, other, got)
				}
			},
		})
	})
}

// A state that somebody still has in hand when the cache gives it up, or has it loaded again, goes on saying where the
// user was, though other channels get the numbers of theirs.
func TestUser_GivenUpKeepsItsChannels(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Users = 1 })
	f.follow(10, "UA", "UB", "C1", "C2", "C3", "C4")
	want := func(u *User, channels ...protocol.ChannelID) {
		t.Helper()
		if got := u.Channels(); !slices.Equal(got, channels) {
			t.Errorf("%s is in %v, want %v", u.ID(), got, channels)
		}
		if m, in := u.Membership("C1"); !in || m.Channel != "C1" || m.Owner != "T1" {
			t.Errorf("%s in C1: %+v %v", u.ID(), m, in)
		}
	}
	first := f.fillUser(t, bootOf("UA", "C1", "C2"), 10)
	second := f.fillUser(t, bootOf("UA", "C3", "C1"), 11) // ahead of the watermark
	want(first, "C1", "C2")
	f.fillUser(t, bootOf("UB", "C2", "C4"), 11) // forces UA out
	want(first, "C1", "C2")
	want(second, "C1", "C3")
	if f.held.Len() != 1 || f.table.len() != 2 {
		t.Errorf("%d users, %d channels have numbers", f.held.Len(), f.table.len())
	}
}

// Under the race detector: channels come and go while those who have a state in hand read it.
func TestUser_ReadWhileNumbersAreUsedAgain(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Users = 2 })
	const users = 4
	for i := range users {
		f.follow(1, protocol.Topic(fmt.Sprint("U", i)))
	}
	concurrently(t, 3000, func(i int) {
		user := fmt.Sprint("U", i%users)
		boot := bootOf(protocol.UserID(user))
		for j := range 3 {
			boot.Memberships = append(boot.Memberships, place(protocol.ChannelID(fmt.Sprint("C", i%users, "X", i%7+j))))
		}
		f.fillUser(t, boot, protocol.Position(i+2))
		f.event(protocol.Topic(user), protocol.Position(i+3), removed(boot.Memberships[i%3].Channel, ""))
	}, func(i int, _ protocol.Position, seen map[int]*User) {
		user := i % users
		if u, _ := f.User(protocol.UserID(fmt.Sprint("U", user))); u != nil && i%3 == 0 {
			seen[user] = u // Kept beyond its time.
		}
		if u := seen[user]; u != nil {
			for _, m := range u.Memberships() {
				if !strings.HasPrefix(string(m.Channel), fmt.Sprint("C", user, "X")) {
					t.Errorf("%s is in %s", u.ID(), m.Channel)
				}
			}
		}
	}, f.Applied)
}
