package cache

import (
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
