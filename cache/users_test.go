package cache

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/protocol"
)

func place(ch protocol.ChannelID) protocol.Membership {
	return protocol.Membership{Channel: ch, Owner: "T1", Type: protocol.TypePublic, Updated: 1}
}

func bootOf(user protocol.UserID, channels ...protocol.ChannelID) *protocol.UserBoot {
	self := object(protocol.ObjectID(user), 1)
	b := &protocol.UserBoot{User: user, Workspace: "T1", Role: protocol.RoleMember, Self: &self, Prefs: []byte(`{"a":1}`)}
	for _, ch := range channels {
		b.Memberships = append(b.Memberships, place(ch))
	}
	return b
}

func (f *fixture) fillUser(t testing.TB, b *protocol.UserBoot, at protocol.Position) *User {
	t.Helper()
	u, err := f.FillUser(b, at)
	if err != nil {
		t.Fatalf("fill %s as of %d: %v", b.User, at, err)
	}
	return u
}

func (f *fixture) wantUser(t testing.TB, id protocol.UserID, want Freshness) *User {
	t.Helper()
	u, got := f.User(id)
	if got != want {
		t.Errorf("%s is %s, want %s", id, got, want)
	}
	return u
}

func wantPlace(t testing.TB, u *User, ch protocol.ChannelID, read, latest protocol.TS, mentions int) {
	t.Helper()
	m, ok := u.Membership(ch)
	if !ok || m.LastRead != read || m.Latest != latest || m.MentionCount != mentions {
		t.Errorf("%s in %s: read %q, latest %q, %d mentions (%v); want %q, %q, %d", u.ID(), ch, m.LastRead, m.Latest, m.MentionCount, ok, read, latest, mentions)
	}
}

func said(ch protocol.ChannelID, author protocol.UserID, ts protocol.TS, mentions ...protocol.UserID) protocol.Effect {
	return protocol.Effect{Op: protocol.OpMessageAdded, Channel: ch, User: author, TS: ts, Latest: ts, Mentions: mentions}
}

func marked(ch protocol.ChannelID, ts protocol.TS, mentions int) protocol.Effect {
	return protocol.Effect{Op: protocol.OpRead, Channel: ch, TS: ts, MentionCount: mentions}
}

func joined(ch protocol.ChannelID, user protocol.UserID) protocol.Effect {
	m := place(ch)
	return protocol.Effect{Op: protocol.OpMemberAdded, Channel: ch, User: user, Membership: &m}
}

func added(ch protocol.ChannelID, user protocol.UserID) protocol.Effect {
	return protocol.Effect{Op: protocol.OpMemberAdded, Channel: ch, User: user}
}

func removed(ch protocol.ChannelID, user protocol.UserID) protocol.Effect {
	return protocol.Effect{Op: protocol.OpMemberRemoved, Channel: ch, User: user}
}

func TestUser_Reads(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws, "UA", "C1", "C2")
	b := bootOf("UA", "C2", "C1")
	b.Usergroups = []protocol.ObjectID{"S2", "S1"}
	u := f.fillUser(t, b, 10)

	if u.ID() != "UA" || u.Workspace() != "T1" || u.Role() != protocol.RoleMember || u.Version() != 1 || string(u.Prefs()) != `{"a":1}` {
		t.Errorf("%s %s %s %v %s", u.ID(), u.Workspace(), u.Role(), u.Version(), u.Prefs())
	}
	if got := u.Channels(); !slices.Equal(got, []protocol.ChannelID{"C1", "C2"}) {
		t.Errorf("channels %v", got)
	}
	if got := u.Topics(); !slices.Equal(got, []protocol.Topic{"UA", "C1", "C2"}) {
		t.Errorf("topics %v", got)
	}
	if got := u.Usergroups(); !slices.Equal(got, []protocol.ObjectID{"S1", "S2"}) {
		t.Errorf("groups %v", got)
	}
	if _, ok := u.Membership("C9"); ok {
		t.Error("in a channel that nobody said")
	}
	if f.wantUser(t, "UA", Fresh) != u {
		t.Error("another state")
	}
	if u, got := f.User("UB"); u != nil || got != Missing {
		t.Errorf("%v %s", u, got)
	}
	for result, want := range map[string]float64{"hit": 1, "miss": 1} {
		if got := f.metric("flannel_cache_lookups_total", prometheus.Labels{"kind": "user_state", "result": result}); got != want {
			t.Errorf("%v %s", got, result)
		}
	}
	// What is returned are copies.
	list := u.Memberships()
	list[0].LastRead = "x"
	wantPlace(t, u, "C1", "", "", 0)
	u.RaiseFloor(7)
	u.RaiseFloor(3)
	if u.Floor() != 7 {
		t.Errorf("floor %d", u.Floor())
	}
}

func TestUser_EmptyPrefs(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA")
	u := f.fillUser(t, &protocol.UserBoot{User: "UA"}, 10)
	f.event("UA", 11, protocol.Effect{Op: protocol.OpPref, Name: "x", Value: []byte(`true`)})
	f.event("UA", 12, protocol.Effect{Op: protocol.OpPref, Name: "y"})
	f.event("UA", 13, protocol.Effect{Op: protocol.OpPref, Name: "x", Value: []byte(`2`)})
	if got := string(u.Prefs()); got != `{"x":2,"y":null}` {
		t.Errorf("prefs %s", got)
	}
}

func TestFillUser_Errors(t *testing.T) {
	f := newFixture(t)
	if _, err := f.FillUser(&protocol.UserBoot{User: "UA", Error: protocol.CodeUserNotFound}, 10); !errors.Is(err, &protocol.Error{Code: protocol.CodeUserNotFound}) {
		t.Errorf("%v", err)
	}
	// Not followed: returned, not kept.
	b := bootOf("UA", "C2", "C1")
	u := f.fillUser(t, b, 10)
	if got := u.Channels(); !slices.Equal(got, []protocol.ChannelID{"C1", "C2"}) {
		t.Errorf("channels %v", got)
	}
	wantPlace(t, u, "C1", "", "", 0)
	f.wantUser(t, "UA", Missing)
	f.Hold("UA")
	f.fillUser(t, b, 10).RaiseFloor(5)
	if f.fillUser(t, b, 10).Floor() != 5 {
		t.Error("the floor of a held user is lost")
	}
	// Followed from later than the boot, in every place that matters.
	f.follow(11, "UA")
	outrun := func(name string, at protocol.Position) {
		t.Helper()
		if _, err := f.FillUser(b, at); !errors.Is(err, ErrOutrun) {
			t.Errorf("%s: %v", name, err)
		}
	}
	outrun("user", 10)
	f.follow(12, "C1")
	outrun("channel", 11)
	f.follow(13, ws)
	outrun("workspace", 12)
	f.fillUser(t, b, 13)
	f.wantUser(t, "UA", Fresh)
	if got := f.metric("flannel_cache_fill_outrun_total", nil); got != 3 {
		t.Errorf("%v outrun", got)
	}
}

func TestFillUser_JoinedSinceAndTheChannelIsNotKnownFromThere(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA")
	f.event("UA", 12, joined("C1", "UA"))
	f.follow(13, "C1")
	if _, err := f.FillUser(bootOf("UA"), 10); !errors.Is(err, ErrOutrun) {
		t.Errorf("%v", err)
	}
	if _, err := f.FillUser(bootOf("UA", "C1"), 13); err != nil {
		t.Error(err)
	}
}

func TestFillUser_ReplaysTheLog(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws, "UA", "C1", "C2", "C3")
	f.event("UA", 11, marked("C1", "2", 1))
	f.event("C1", 12, said("C1", "UB", "3", "UA"))
	f.event("UA", 13, joined("C2", "UA"))
	f.event("C2", 13, added("C2", "UA"))
	f.event("C2", 14, said("C2", "UB", "4", "UA"))
	f.event("C3", 15, removed("C3", "UA"))
	self := object("UA", 2)
	self.Body = []byte(`{"is_admin":true}`)
	f.event(ws, 16, upsert(self))
	renamed := object("C1", 9)
	renamed.Body = []byte(`{"is_archived":true}`)
	f.event(ws, 17, upsert(renamed))
	group := object("S1", 2)
	group.Body = []byte(`{"users":["UB","UA"]}`)
	f.event(ws, 18, upsert(group))
	f.event("UA", 19, protocol.Effect{Op: protocol.OpPref, Name: "b", Value: []byte(`2`)}, protocol.Effect{Op: protocol.OpOpen, Channel: "C1", Open: true})
	b := bootOf("UA", "C1", "C3")

	u := f.fillUser(t, b, 10)

	f.wantUser(t, "UA", Fresh)
	if got := u.Channels(); !slices.Equal(got, []protocol.ChannelID{"C1", "C2"}) {
		t.Errorf("channels %v", got)
	}
	wantPlace(t, u, "C1", "2", "3", 2)
	wantPlace(t, u, "C2", "", "4", 1)
	if m, _ := u.Membership("C1"); !m.Archived || m.Updated != 9 || !m.Open {
		t.Errorf("%+v", m)
	}
	if u.Role() != protocol.RoleAdmin || u.Version() != 2 || !slices.Equal(u.Usergroups(), []protocol.ObjectID{"S1"}) || string(u.Prefs()) != `{"a":1,"b":2}` {
		t.Errorf("%s %d %v %s", u.Role(), u.Version(), u.Usergroups(), u.Prefs())
	}
}

func TestFillUser_AsGoodIsHeld(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA")
	u := f.fillUser(t, bootOf("UA"), 10)
	f.Watermark(20)
	if f.fillUser(t, bootOf("UA"), 20) != u {
		t.Error("a state that is as good was replaced")
	}
	newer := f.fillUser(t, bootOf("UA"), 21)
	if newer == u {
		t.Error("a newer boot was not taken")
	}
	u.RaiseFloor(99)
	if newer.Floor() != 99 {
		t.Error("the floor did not survive the reload")
	}
}

// A mark on the user topic carries the count as of its position. The channel's topic may be behind it or ahead of it.
func TestMentions_MarkAndMessagesInEveryOrder(t *testing.T) {
	type step struct {
		topic    protocol.Topic
		position protocol.Position
		effect   protocol.Effect
	}
	// As of 11 one mention, at 12 read up to "2" with one mention left, at 13 one more, at 14 one taken back.
	taken := said("C1", "UB", "4", "UA")
	taken.Op, taken.Latest = protocol.OpMessageRemoved, "5"
	channel := []step{
		{"C1", 11, said("C1", "UB", "2", "UA")},
		{"C1", 13, said("C1", "UB", "4", "UA")},
		{"C1", 14, said("C1", "UC", "5", "UB", "UA")},
		{"C1", 15, taken},
		{"C1", 17, said("C1", "UA", "6")},
		{"C1", 18, protocol.Effect{Op: protocol.OpMessageAdded, Channel: "C1", User: "UB", TS: "7", Latest: "7", Everyone: true}},
	}
	user := []step{
		{"UA", 12, marked("C1", "1", 1)},
		{"UA", 16, marked("C1", "2", 1)},
	}
	// Every way to merge the two in which each keeps its order.
	var run func(done []step, c, u []step)
	n := 0
	run = func(done, c, u []step) {
		if len(c)+len(u) == 0 {
			n++
			f := newFixture(t)
			defer f.Close()
			f.follow(10, "UA", "C1")
			state := f.fillUser(t, bootOf("UA", "C1"), 10)
			for _, s := range done {
				f.event(s.topic, s.position, s.effect)
			}
			f.wantUser(t, "UA", Fresh)
			wantPlace(t, state, "C1", "6", "7", 1)
			// And a load that finds all of it in the log.
			f.Reset("C9", 0)
			f.users.remove("UA")
			wantPlace(t, f.fillUser(t, bootOf("UA", "C1"), 10), "C1", "6", "7", 1)
			return
		}
		if len(c) > 0 {
			run(append(slices.Clip(done), c[0]), c[1:], u)
		}
		if len(u) > 0 {
			run(append(slices.Clip(done), u[0]), c, u[1:])
		}
	}
	run(nil, channel, user)
	if n != 28 {
		t.Errorf("%d orders", n)
	}
}

// The channel's topic is behind the mark: its older messages are in the count that the mark brought.
func TestMentions_MarkIsAheadOfTheChannel(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA", "C1")
	u := f.fillUser(t, bootOf("UA", "C1"), 10)
	f.event("UA", 15, marked("C1", "1", 2))
	f.event("C1", 11, said("C1", "UB", "2", "UA"))
	f.event("C1", 12, said("C1", "UA", "3"))
	wantPlace(t, u, "C1", "1", "3", 2)
	f.event("UA", 14, marked("C1", "0", 9)) // A mark of long ago, which no topic in order brings.
	f.event("C1", 16, said("C1", "UB", "4", "UA"))
	wantPlace(t, u, "C1", "1", "4", 3)
}

func TestMentions_Rules(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA", "UB", "C1")
	a, b := f.fillUser(t, bootOf("UA", "C1"), 10), f.fillUser(t, bootOf("UB", "C1"), 10)

	f.event("C1", 11, said("C1", "UA", "1", "UA", "UB")) // The author is not mentioned.
	wantPlace(t, a, "C1", "1", "1", 0)
	wantPlace(t, b, "C1", "", "1", 1)
	everyone := said("C1", "UX", "2")
	everyone.Everyone = true
	f.event("C1", 12, everyone)
	wantPlace(t, a, "C1", "1", "2", 1)
	wantPlace(t, b, "C1", "", "2", 2)
	everyone.Op, everyone.Latest = protocol.OpMessageRemoved, "1"
	f.event("C1", 13, everyone)
	wantPlace(t, a, "C1", "1", "1", 0)
	wantPlace(t, b, "C1", "", "1", 1)
	f.event("UB", 14, marked("C1", "1", 0))
	f.event("C1", 15, protocol.Effect{Op: protocol.OpMessageRemoved, Channel: "C1", User: "UA", TS: "1", Mentions: []protocol.UserID{"UB"}})
	wantPlace(t, b, "C1", "1", "", 0) // It was read: nothing to take back.
	f.event("C1", 16, said("C9", "UA", "1"))
	f.event("UB", 17, marked("C9", "1", 3), protocol.Effect{Op: protocol.OpOpen, Channel: "C9", Open: true})
}

func TestMentions_LogDoesNotReachBackToTheMark(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.RecentEvents = 1 })
	f.follow(10, "UA", "C1")
	f.fillUser(t, bootOf("UA", "C1"), 10)
	f.event("C1", 20, said("C1", "UB", "2", "UA"))
	f.event("C1", 21, said("C1", "UB", "3", "UA"))
	f.event("UA", 15, marked("C1", "1", 0))
	f.wantUser(t, "UA", Stale)
}

// A boot ahead of what the channel's topic has told: its older messages neither count nor turn latest back.
func TestMessage_InTheLoadAlready(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA", "UB", "C1")
	b := bootOf("UA", "C1")
	b.Memberships[0].Latest, b.Memberships[0].MentionCount = "9", 2
	u := f.fillUser(t, b, 20)
	f.event("C1", 15, said("C1", "UX", "5", "UA"))
	wantPlace(t, u, "C1", "", "9", 2)
	// Nor does an older boot of somebody else.
	other := f.fillUser(t, bootOf("UB", "C1"), 11)
	wantPlace(t, u, "C1", "", "9", 2)
	wantPlace(t, other, "C1", "", "9", 0)
	f.event("C1", 21, said("C1", "UX", "A", "UA"))
	wantPlace(t, u, "C1", "", "A", 3)
	f.event("UA", 12, marked("C1", "1", 0)) // In the load too.
	wantPlace(t, u, "C1", "", "A", 3)
}

func TestMembership_TransitionsAndTombstones(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA", "C1", "C2")
	u := f.fillUser(t, bootOf("UA", "C1"), 10)
	none := func(c Change, why string) {
		t.Helper()
		if len(c.Joined)+len(c.Left)+len(c.Revoked)+len(c.Roles) > 0 {
			t.Errorf("%s: %+v", why, c)
		}
	}

	none(f.event("UA", 11, joined("C1", "UA")), "in it already")
	c := f.event("C1", 12, removed("C1", "UA"))
	if !slices.Equal(c.Left, []Move{{"UA", "C1"}}) {
		t.Errorf("%+v", c)
	}
	none(f.event("UA", 12, removed("C1", "UA")), "the same removal on the user's topic")
	none(f.event("C1", 13, added("C1", "UA")), "what membership it is comes on the user's topic")
	c = f.event("UA", 13, joined("C1", "UA"))
	if !slices.Equal(c.Joined, []Move{{"UA", "C1"}}) {
		t.Errorf("%+v", c)
	}
	// Out of order across topics: the channel tells of the removal before the user's topic tells of the adding.
	none(f.event("C2", 21, added("C2", "UA")), "not yet")
	none(f.event("C2", 22, removed("C2", "UA")), "never seen in it")
	none(f.event("UA", 21, joined("C2", "UA")), "removed since")
	none(f.event("UA", 22, removed("C2", "UA")), "removed before")
	none(f.event("UA", 22, removed("C2", "UB"), joined("C2", "UB")), "nobody we hold")
	if got := u.Channels(); !slices.Equal(got, []protocol.ChannelID{"C1"}) {
		t.Errorf("channels %v", got)
	}
	// The same with a log that has forgotten the removal: the tombstone stays.
	g := newFixture(t, func(c *Config) { c.RecentEvents = 1 })
	g.follow(10, "UA", "C2", ws)
	v := g.fillUser(t, bootOf("UA"), 10)
	g.event("C2", 22, removed("C2", "UA"))
	g.event(ws, 23, upsert(object("U9", 1)))
	g.event(ws, 24, upsert(object("U9", 2)))
	none(g.event("UA", 21, joined("C2", "UA")), "removed since")
	if got := v.Channels(); len(got) > 0 {
		t.Errorf("channels %v", got)
	}
	none(f.event("C1", 9, removed("C1", "UA")), "before the load")
	if c = f.event("UA", 30, joined("C3", "UA"), removed("C3", "UA")); len(c.Joined) != 1 || len(c.Left) != 0 {
		// Added and removed in one commit: the adding stands.
		t.Errorf("%+v", c)
	}
}

func TestMembership_TombstonesAreForgotten(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA")
	u := f.fillUser(t, bootOf("UA"), 10)
	for i := range 1000 {
		p := protocol.Position(11 + i)
		f.event("UA", p, removed(protocol.ChannelID(fmt.Sprint("C", i)), "UA"))
		f.Watermark(p)
	}
	if len(u.left) > maxLeft {
		t.Errorf("%d tombstones", len(u.left))
	}
}

func TestJoin_ReplaysWhatTheChannelSaidSince(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws, "UA", "UB", "C1", "C2")
	u := f.fillUser(t, bootOf("UA"), 10)
	f.event("C1", 12, said("C1", "UX", "5", "UA"))
	renamed := object("C1", 9)
	renamed.Body = []byte(`{"is_archived":true}`)
	f.event(ws, 13, upsert(renamed))

	f.event("UA", 11, joined("C1", "UA"))

	wantPlace(t, u, "C1", "", "5", 1)
	if m, _ := u.Membership("C1"); !m.Archived || m.Updated != 9 {
		t.Errorf("%+v", m)
	}
	f.event("C2", 22, removed("C2", "UA"))
	if c := f.event("UA", 23, joined("C2", "UA")); len(c.Joined) != 1 {
		t.Errorf("%+v", c)
	}
	// A second adding without a removal in between replaces the place and is no transition.
	if c := f.event("UA", 24, joined("C2", "UA")); len(c.Joined) != 0 {
		t.Errorf("%+v", c)
	}
	if at, _ := u.enteredAt("C2"); at != 24 || u.pending != 0 {
		t.Errorf("at %d, %d pending", at, u.pending)
	}
	f.wantUser(t, "UA", Fresh)
	f.event(ws, 25, upsert(object("C1", 10)))
	if m, _ := u.Membership("C1"); m.Archived || m.Updated != 10 {
		t.Errorf("%+v", m)
	}
}

func TestJoin_LogDoesNotReachBack(t *testing.T) {
	t.Run("channel", func(t *testing.T) {
		f := newFixture(t)
		f.follow(10, "UA")
		f.follow(12, "C1")
		f.fillUser(t, bootOf("UA"), 10)
		f.event("UA", 11, joined("C1", "UA"))
		f.wantUser(t, "UA", Stale)
	})
	t.Run("workspace", func(t *testing.T) {
		f := newFixture(t)
		f.follow(10, "UA", "C1")
		f.fillUser(t, bootOf("UA"), 10)
		f.follow(12, ws)
		f.event("UA", 11, joined("C1", "UA"))
		f.wantUser(t, "UA", Stale)
	})
	t.Run("the others are not harmed", func(t *testing.T) {
		f := newFixture(t, func(c *Config) { c.RecentEvents = 1 })
		f.follow(10, "UA", "UB", "C1")
		u := f.fillUser(t, bootOf("UA", "C1"), 10)
		f.fillUser(t, bootOf("UB"), 10)
		f.event("C1", 12, said("C1", "UX", "5"))
		f.event("C1", 13, said("C1", "UX", "6"))
		f.event("UB", 11, joined("C1", "UB"))
		f.wantUser(t, "UB", Stale)
		f.wantUser(t, "UA", Fresh)
		wantPlace(t, u, "C1", "", "6", 0)
	})
}

func TestJoin_WaitsForTheTopic(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA", "UB", "UC")
	a, _, _ := f.fillUser(t, bootOf("UA"), 10), f.fillUser(t, bootOf("UB"), 10), f.fillUser(t, bootOf("UC"), 10)
	f.event("UA", 11, joined("C1", "UA"))
	f.event("UB", 11, joined("C1", "UB"), joined("C2", "UB"))
	f.event("UC", 11, joined("C2", "UC"))
	f.wantUser(t, "UA", Fresh)

	f.follow(11, "C1")
	f.follow(12, "C2") // Too late: something may be missed.

	if a.pending != 0 || a.waiting.Load() != 0 {
		t.Errorf("%d pending since %d", a.pending, a.waiting.Load())
	}
	f.wantUser(t, "UA", Fresh)
	f.wantUser(t, "UB", Stale)
	f.wantUser(t, "UC", Stale)
	f.event("C1", 12, said("C1", "UX", "5", "UA"))
	wantPlace(t, a, "C1", "", "5", 1)
	f.event("UA", 13, joined("C3", "UA"))
	f.advance(followGrace + 1)
	f.wantUser(t, "UA", Stale) // Nobody follows C3.
	f.event("UA", 14, removed("C3", "UA"))
	f.wantUser(t, "UA", Fresh)
}

func TestSettled(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA")
	f.fillUser(t, bootOf("UA"), 10)
	want := func(want protocol.Position, wantOK bool) {
		t.Helper()
		if p, ok := f.Settled("UA"); p != want || ok != wantOK {
			t.Errorf("settled up to %d, %v; want %d, %v", p, ok, want, wantOK)
		}
	}
	want(0, false)
	f.event("UA", 12, joined("C2", "UA"))
	f.event("UA", 13, joined("C1", "UA"))
	want(11, true)
	f.follow(11, "C2")
	want(12, true)
	f.follow(12, "C1")
	want(0, false)
	if _, ok := f.Settled("UX"); ok {
		t.Error("somebody who is not held waits for something")
	}
}

// TestRaiseFloor_BeforeTheStateIsHeld: somebody writes whose state has expired. The next read, which loads it, must know.
func TestRaiseFloor_BeforeTheStateIsHeld(t *testing.T) {
	f := newFixture(t)
	f.follow(5, ws, "UA")
	f.RaiseFloor("UA", 9)
	f.RaiseFloor("UB", 9)
	f.Expire(f.now().Add(f.config.Grace + f.config.StaleFor)) // It has not come back.
	if u := f.fillUser(t, bootOf("UA"), 5); u.Floor() != 9 {
		t.Errorf("the floor is %d", u.Floor())
	}
	f.Expire(f.now().Add(f.config.Grace + f.config.StaleFor + 1)) // Nor will it.
	if f.seats.peek("UB") != nil {
		t.Error("a floor that is never reached is kept for ever")
	}
}

func TestLeftSince(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA", "C1", "C2")
	f.fillUser(t, bootOf("UA", "C1", "C2"), 10)
	f.event("C1", 11, removed("C1", "UA"))
	f.event("UA", 12, removed("C2", "UA"))
	for since, want := range map[protocol.Position][]protocol.ChannelID{10: {"C1", "C2"}, 11: {"C2"}, 12: nil} {
		got := f.LeftSince("UA", since)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("left since %d: %v, want %v", since, got, want)
		}
	}
	if got := f.LeftSince("UX", 0); got != nil {
		t.Errorf("somebody who is not held left %v", got)
	}
}

func TestLoss_VoidsWhatHangsOnTheTopic(t *testing.T) {
	lose := map[string]func(f *fixture, t protocol.Topic){
		"reset":    func(f *fixture, t protocol.Topic) { f.Reset(t, 20) },
		"unfollow": func(f *fixture, t protocol.Topic) { f.Unfollowed(t) },
	}
	for name, fn := range lose {
		for _, topic := range []protocol.Topic{"UA", "C1", "C2", "T1", "T2", "T3"} {
			t.Run(name+" "+string(topic), func(t *testing.T) {
				f := newFixture(t)
				f.follow(10, "UA", "UB", "C1", "C2", "T1", "T2", "T3")
				b := bootOf("UA", "C1", "C2")
				b.Memberships[1].Owner = "T2"
				f.fillUser(t, b, 10)
				other := bootOf("UB")
				other.Workspace = "T3"
				f.fillUser(t, other, 10)

				fn(f, topic)

				want := Stale
				if topic == "T3" {
					want = Fresh
				}
				f.wantUser(t, "UA", want)
				if topic == "T3" {
					f.wantUser(t, "UB", Stale)
				} else {
					f.wantUser(t, "UB", Fresh)
				}
				// It can be loaded again.
				f.follow(21, topic)
				f.fillUser(t, b, 21)
				f.wantUser(t, "UA", Fresh)
			})
		}
	}
}

func TestUser_StreamDown(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA")
	f.fillUser(t, bootOf("UA"), 10)
	f.Live(false)
	f.wantUser(t, "UA", Stale)
	if f.metric("flannel_cache_lookups_total", prometheus.Labels{"kind": "user_state", "result": "stale"}) != 1 {
		t.Error("not counted")
	}
	f.Live(true)
	f.wantUser(t, "UA", Fresh)
}

func TestUpsert_RolesAndGroups(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws, "UA")
	b := bootOf("UA")
	u := f.fillUser(t, b, 20)
	body := func(v protocol.Version, body string) protocol.Effect {
		o := object("UA", v)
		o.Body = []byte(body)
		return upsert(o)
	}
	for i, c := range []struct {
		body string
		role protocol.Role
	}{
		{`{"is_admin":true}`, protocol.RoleAdmin}, {`{"is_owner":true}`, protocol.RoleAdmin}, {`{"is_primary_owner":true}`, protocol.RoleAdmin},
		{`{"is_restricted":true}`, protocol.RoleGuest}, {`{"is_ultra_restricted":true,"is_admin":false}`, protocol.RoleGuest},
		{`{"is_bot":true}`, protocol.RoleBot}, {`{}`, protocol.RoleMember},
	} {
		change := f.event(ws, protocol.Position(21+i), body(protocol.Version(2+i), c.body))
		if u.Role() != c.role {
			t.Errorf("%s: %s", c.body, u.Role())
		}
		if len(change.Roles) != 1 || change.Roles[0] != (RoleChange{"UA", c.role}) {
			t.Errorf("%s: %+v", c.body, change)
		}
	}
	if c := f.event(ws, 30, body(1, `{"is_bot":true}`)); len(c.Roles) != 0 {
		t.Error("an older version changed the role")
	}
	// A session whose user's state was loaded before the event came, or is not held, hears of it all the same.
	if c := f.event(ws, 31, body(8, `{}`)); len(c.Roles) != 1 {
		t.Error("a role that the state knew from a load was not told")
	}
	other := object("UB", 1)
	other.Body = []byte(`{"is_restricted":true}`)
	if c := f.event(ws, 32, upsert(other)); len(c.Roles) != 1 || c.Roles[0] != (RoleChange{"UB", protocol.RoleGuest}) {
		t.Errorf("the role of a user whose state is not held was told as %+v", c.Roles)
	}
	// Groups in events that the load has already are the load's.
	group := object("S1", 1)
	group.Body = []byte(`{"users":["UA"]}`)
	f.event(ws, 19, upsert(group))
	if len(u.Usergroups()) != 0 {
		t.Errorf("groups %v", u.Usergroups())
	}
	f.event(ws, 31, upsert(group))
	if len(u.Usergroups()) != 1 {
		t.Errorf("groups %v", u.Usergroups())
	}
	group.Body = []byte(`{"users":12}`)
	f.event(ws, 32, upsert(group))
	if len(u.Usergroups()) != 0 {
		t.Errorf("groups %v", u.Usergroups())
	}
}

func TestExpire_GraceAndHolds(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA", "UB", "C1")
	f.Hold("UA")
	f.Hold("UA")
	a, b := f.fillUser(t, bootOf("UA", "C1"), 10), f.fillUser(t, bootOf("UB", "C1"), 10)
	expire := func(want ...*User) {
		t.Helper()
		if got := f.Expire(f.time()); !slices.Equal(got, want) {
			t.Errorf("dropped %v, want %v", got, want)
		}
	}
	grace := f.config.Grace

	f.advance(grace)
	expire()
	f.User("UB") // Use counts.
	f.advance(grace)
	expire()
	f.advance(1)
	expire(b)
	f.wantUser(t, "UB", Missing)
	b = f.fillUser(t, bootOf("UB", "C1"), 10)
	f.Release("UA")
	f.advance(grace + 1)
	expire(b)
	f.Release("UA")
	f.advance(grace)
	expire()
	f.advance(1)
	expire(a)
	if len(f.channels) != 0 || len(f.seats.of) != 0 || f.numUsers() != 0 || f.held.Len() != 0 || f.table.len() != 0 {
		t.Errorf("%d channels, %d seats, %d users, %d numbers are left", len(f.channels), len(f.seats.of), f.numUsers(), f.held.Len()+f.table.len())
	}
	if n := f.metric("flannel_cache_evictions_total", prometheus.Labels{"reason": "grace"}); n != 3 {
		t.Errorf("%v dropped for grace", n)
	}
	f.Release("UA") // Nobody there.
	f.Hold("UA")
	f.Release("UA")
	f.Release("UA")
	if f.seats.peek("UA").holds.Load() != 0 {
		t.Error("released below zero")
	}
}

func TestFillUser_BoundForcesOut(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Users = 3 })
	f.follow(10, "U1", "U2", "U3", "U4", "U5")
	f.Hold("U1")
	var states []*User
	for i := 1; i <= 3; i++ {
		states = append(states, f.fillUser(t, bootOf(protocol.UserID(fmt.Sprint("U", i))), 10))
		f.advance(time.Second)
	}
	f.User("U2")
	f.advance(time.Second)

	f.fillUser(t, bootOf("U4"), 10) // U1 is the oldest, but held; U3 is the next.
	f.fillUser(t, bootOf("U4"), 11)

	f.wantUser(t, "U3", Missing)
	f.wantUser(t, "U1", Fresh)
	if got := f.Expire(f.time()); !slices.Equal(got, []*User{states[2]}) {
		t.Errorf("dropped %v", got)
	}
	if got := f.Expire(f.time()); len(got) != 0 {
		t.Errorf("dropped twice: %v", got)
	}
	f.Hold("U2")
	f.Hold("U4")
	f.fillUser(t, bootOf("U5"), 10) // All are held: one has to go all the same.
	if f.numUsers() != 3 || len(f.Expire(f.time())) != 1 {
		t.Errorf("%d users", f.numUsers())
	}
	if n := f.metric("flannel_cache_evictions_total", prometheus.Labels{"reason": "bound"}); n != 2 {
		t.Errorf("%v forced out", n)
	}
}

func TestFillUser_WhatIsInTheLoadOrUndone(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Users = 100 })
	f.follow(10, "UA", "C1", "C2", "C3")
	// In and out and in again, then out by the channel's word alone.
	f.event("UA", 11, joined("C1", "UA"))
	f.event("UA", 12, removed("C1", "UA"))
	f.event("UA", 13, joined("C1", "UA"))
	f.event("UA", 14, joined("C2", "UA"))
	f.event("C2", 15, removed("C2", "UA"))
	f.event("UA", 13, joined("C1", "UA")) // The same commit again: no later than what is there.
	f.event("UA", 16, joined("C4", "UB")) // Somebody else's effect on this topic.
	f.event("UA", 16, removed("C1", "UB"))
	u := f.fillUser(t, bootOf("UA", "C3"), 10)
	if got := u.Channels(); !slices.Equal(got, []protocol.ChannelID{"C1", "C3"}) {
		t.Errorf("channels %v", got)
	}
	if at, _ := u.enteredAt("C1"); at != 13 {
		t.Errorf("in C1 as of %d", at)
	}
	if c := f.event("UA", 13, joined("C1", "UA")); len(c.Joined) > 0 {
		t.Errorf("%+v", c)
	}
	// More users than a sample.
	for i := range 120 {
		id := protocol.UserID(fmt.Sprint("U", i))
		f.follow(20, protocol.Topic(id))
		f.fillUser(t, bootOf(id), 20)
	}
	if f.numUsers() != 100 || len(f.Expire(f.time())) != 21 {
		t.Errorf("%d users", f.numUsers())
	}
}

// A removal that the channel told of stays known when the user is loaded again as of before it, though the channel is
// not followed any more.
func TestFillUser_RemovalSurvivesAReload(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA", "C1")
	f.fillUser(t, bootOf("UA", "C1"), 10)
	f.event("C1", 12, removed("C1", "UA"))
	f.Unfollowed("C1")
	f.Reset("UA", 11)
	u := f.fillUser(t, bootOf("UA", "C1"), 11)
	if got := u.Channels(); len(got) != 0 {
		t.Errorf("channels %v", got)
	}
}
