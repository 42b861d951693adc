package cache

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"flannel/protocol"
)

func spoke(ch protocol.ChannelID, user protocol.UserID, at time.Time) protocol.Effect {
	ts := protocol.TS(fmt.Sprintf("%010d.000100", at.Unix()))
	return protocol.Effect{Op: protocol.OpMessageAdded, Channel: ch, User: user, TS: ts, Latest: ts}
}

// TestSearch_ByWhoSpokeLast: after the client's hints those come first who spoke last, as far as that is everybody's
// business, then names.
func TestSearch_ByWhoSpokeLast(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws, "UA", "C1", "C2", "D1", "C9")
	f.fillUser(t, &protocol.UserBoot{User: "UA", Workspace: "T1", Memberships: []protocol.Membership{
		{Channel: "C1", Owner: "T1", Type: protocol.TypePublic}, {Channel: "C2", Owner: "T1", Type: protocol.TypePrivate},
		{Channel: "D1", Owner: "T1", Type: protocol.TypeDM, Peer: "UB"}}}, 10)
	d := f.fillDirectory(t, protocol.KindUser, page(10, person("UA", 1, "anna", ""), person("UB", 1, "anne", ""), person("UC", 1, "annie", ""), person("UD", 1, "ann", "")))
	channels := f.fillDirectory(t, protocol.KindChannel, page(10, &protocol.Channel{ID: "C1", Name: "ann-one"}, &protocol.Channel{ID: "C9", Name: "ann-nine"}))
	now, p := f.time(), protocol.Position(10)
	all := KindsOf(func(Traits) bool { return true })
	want := func(q Query, d *Directory, want string) {
		t.Helper()
		q.Words, q.Kinds = []string{"ann"}, all
		if q.Limit == 0 {
			q.Limit = 10
		}
		if got := fmt.Sprint(f.Search(d, &q)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	say := func(ch protocol.ChannelID, user protocol.UserID, at time.Time) {
		p++
		f.event(protocol.Topic(ch), p, spoke(ch, user, at))
	}
	want(Query{}, d, "[UD UA UB UC]") // A whole word comes before the beginnings.

	say("C1", "UC", now.Add(-time.Hour))
	want(Query{}, d, "[UD UC UA UB]")
	want(Query{Limit: 2}, d, "[UD UC]")
	say("C1", "UB", now.Add(-2*time.Hour))
	want(Query{}, d, "[UD UC UB UA]")
	want(Query{Top: []protocol.ObjectID{"UA"}}, d, "[UA UD UC UB]")
	want(Query{Near: f.People([]protocol.ObjectID{"UA", "UB"})}, d, "[UB UA UD UC]")

	// Nobody finds out who speaks in private, nor is put first by an older message, the same minute, or a wrong clock.
	say("C2", "UA", now)
	say("D1", "UB", now)
	say("C1", "UC", now.Add(-3*time.Hour))
	say("C1", "UB", now.Add(-time.Hour).Add(time.Second))
	want(Query{}, d, "[UD UB UC UA]")
	say("C1", "UC", now.Add(9999*time.Hour))
	say("C1", "UB", now)
	say("C1", "UA", now.Add(time.Minute))
	want(Query{}, d, "[UD UA UB UC]")

	// Nothing, and no time, is no reason to come first; what is taken back is no message.
	f.event("C1", p+1, protocol.Effect{Op: protocol.OpMessageAdded, Channel: "C1", User: "UZ", TS: "x"})
	p++
	f.advance(5 * time.Minute)
	removed := spoke("C1", "UC", f.time())
	removed.Op = protocol.OpMessageRemoved
	f.event("C1", p+1, removed)
	p++
	want(Query{}, d, "[UD UA UB UC]")

	// Changed names, merged or not, keep what is known.
	f.event(ws, p+1, upsert(person("UC", 9, "annika", "").Object()))
	p++
	say("C1", "UC", f.time())
	want(Query{}, d, "[UD UC UA UB]")
	d.Merge()
	want(Query{}, d, "[UD UC UA UB]")

	// Channels: by the last message, also of those that are in no directory.
	want(Query{}, channels, "[C1 C9]")
	say("C9", "UC", f.time().Add(time.Minute))
	f.advance(2 * time.Minute)
	say("C9", "UC", f.time())
	want(Query{}, channels, "[C9 C1]")
	mine := f.Places([]protocol.Membership{{Channel: "C2", Latest: protocol.TS(fmt.Sprintf("%010d.000000", f.time().Add(-time.Minute).Unix()))}, {Channel: "C8"}})
	extra := []protocol.ListEntry{{ID: "C8", SortName: "ann-a", Name: "ann-a"}, {ID: "C2", SortName: "ann-b", Name: "ann-b"}}
	want(Query{Extra: extra}, channels, "[C9 C2 C1 C8]")
	want(Query{Extra: extra}, nil, "[C2 C8]")
	want(Query{Extra: extra, Near: mine}, channels, "[C2 C8 C9 C1]")
}

// TestHeard_Bytes: what is heard is counted with the numbering, and only of those who have a number.
func TestHeard_Bytes(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws, "C1")
	loadCrowd(t, f, crowd(3000), 10)
	n := f.numbers.Load()
	before := n.bytes()
	f.event("C1", 11, spoke("C1", "U1", f.time()))
	if n.bytes() != before {
		t.Error("somebody without a number takes room")
	}
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for number := range uint32(3000) {
				n.hear(number, uint32(i+1))
			}
		})
	}
	group.Wait()
	if grown := n.bytes() - before; grown != 3*4096+3*8 {
		t.Errorf("%d bytes", grown)
	}
	for number := range uint32(3000) {
		if got := n.heard.view().at(number); got != 4 {
			t.Fatalf("%d was heard at %d", number, got)
		}
	}
}

func TestMinuteOf(t *testing.T) {
	now := time.Unix(6000, 0)
	for ts, want := range map[protocol.TS]uint32{
		"": 0, protocol.ZeroTS: 0, "0000000119.000001": 1, "0000006000.999999": 100, "9999999999.000000": 100, "x": 0,
		protocol.TS(strings.Repeat("-", 10) + ".000000"): 0,
	} {
		if got := minuteOf(ts, now); got != want {
			t.Errorf("%q: %d, want %d", ts, got, want)
		}
	}
}
