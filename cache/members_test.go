package cache

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/protocol"
)

func (f *fixture) fillSet(t testing.TB, ch protocol.ChannelID, at protocol.Position, users ...protocol.UserID) *Set {
	t.Helper()
	s, err := f.FillMembers(ch, users, at)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantMembers(t testing.TB, s *Set, want ...protocol.UserID) {
	t.Helper()
	got, more := s.Page("", 1000)
	if more || !slices.Equal(got, want) || s.Len() != len(want) {
		t.Errorf("members %v, want %v", got, want)
	}
}

func TestMembers_FollowsTheChannelsTopic(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "C1", "UB")
	f.event("C1", 11, added("C1", "UC"))
	f.event("C1", 12, removed("C1", "UA"))

	s := f.fillSet(t, "C1", 10, "UB", "UA", "UB")

	wantMembers(t, s, "UB", "UC")
	f.event("C1", 13, added("C1", "UA"))
	f.event("C1", 14, added("C1", "UA"))
	f.event("UB", 15, removed("C1", "UB")) // The user's own topic does not say who is in a channel.
	f.event("C1", 16, removed("C1", "UX"), removed("C1", "UC"))
	wantMembers(t, s, "UA", "UB")
	f.event("C1", 17, added("C1", "UC"))
	wantMembers(t, s, "UA", "UB", "UC")
	if got, freshness := f.Members("C1"); got != s || freshness != Fresh {
		t.Errorf("%v %s", got, freshness)
	}
	if !s.Contains("UA") || s.Contains("UX") {
		t.Error("Contains is wrong")
	}
	if f.setBytes != s.bytes || s.bytes != setOverhead+bitmapBytes(s.bits) {
		t.Errorf("%d bytes, of %d in all", s.bytes, f.setBytes)
	}
	f.Live(false)
	if got, freshness := f.Members("C1"); got != nil || freshness != Missing {
		t.Errorf("%v %s while the stream is down", got, freshness)
	}
	f.Live(true)
	f.Reset("C1", 20)
	if _, freshness := f.Members("C1"); freshness != Missing || f.setBytes != 0 {
		t.Errorf("%s after a reset, %d bytes", freshness, f.setBytes)
	}
	for result, want := range map[string]float64{"hit": 1, "miss": 2} {
		if got := f.metric("flannel_cache_lookups_total", prometheus.Labels{"kind": "member_set", "result": result}); got != want {
			t.Errorf("%v %s", got, result)
		}
	}
}

func TestMembers_Pages(t *testing.T) {
	f := newFixture(t)
	s := f.fillSet(t, "C1", 10, "UA", "UC", "UE")
	for _, c := range []struct {
		after protocol.UserID
		limit int
		want  []protocol.UserID
		more  bool
	}{
		{"", 2, []protocol.UserID{"UA", "UC"}, true}, {"UA", 1, []protocol.UserID{"UC"}, true}, {"UB", 2, []protocol.UserID{"UC", "UE"}, false},
		{"UE", 2, nil, false}, {"", 0, nil, true}, {"", -1, nil, true},
	} {
		if got, more := s.Page(c.after, c.limit); len(got)+len(c.want) > 0 && !slices.Equal(got, c.want) || more != c.more {
			t.Errorf("Page(%q, %d) = %v, %v", c.after, c.limit, got, more)
		}
	}
}

func TestFillMembers_KeepsByTheRules(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.RecentEvents = 1 })
	wantMembers(t, f.fillSet(t, "C1", 10, "UA"), "UA") // Not followed: returned, not kept.
	f.follow(12, "C1")
	f.fillSet(t, "C1", 11, "UA") // Followed from later.
	if _, freshness := f.Members("C1"); freshness != Missing {
		t.Error("kept")
	}
	f.event("C1", 13, added("C1", "UB"))
	f.event("C1", 14, added("C1", "UC"))
	if _, err := f.FillMembers("C1", nil, 12); !errors.Is(err, ErrOutrun) {
		t.Errorf("%v", err)
	}
	s := f.fillSet(t, "C1", 14, "UC")
	// What is held is at least as good, unless the load is ahead of everything.
	if f.fillSet(t, "C1", 13, "UX") != s {
		t.Error("an older load replaced the set")
	}
	f.Watermark(20)
	if f.fillSet(t, "C1", 20, "UX") != s {
		t.Error("a load up to the watermark replaced the set")
	}
	s = f.fillSet(t, "C1", 21, "UY")
	f.event("C1", 20, added("C1", "UZ")) // Both are in the load already.
	f.event("C1", 21, removed("C1", "UY"))
	wantMembers(t, s, "UY")
}

func TestFillMembers_Bounds(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Sets = 2; c.SetBytes = 10 * setOverhead })
	f.follow(10, "C1", "C2", "C3", "C4")
	f.fillSet(t, "C1", 10, "UA")
	f.advance(1)
	f.fillSet(t, "C2", 10, "UA")
	f.advance(1)
	f.Members("C1")
	f.advance(1)
	f.fillSet(t, "C3", 10, "UA")
	if _, freshness := f.Members("C2"); freshness != Missing || f.numSets() != 2 {
		t.Errorf("C2 is %s, %d sets", freshness, f.numSets())
	}
	// Too large to keep; too many bytes together; grown beyond the bound.
	// Every other of many, so that no run of numbers is one pair.
	all := make([]protocol.UserID, 4000)
	for i := range all {
		all[i] = protocol.UserID(fmt.Sprintf("U%04d", i))
	}
	f.fillSet(t, "C9", 10, all...) // Not followed: only numbered.
	var many []protocol.UserID
	for i := 0; i < len(all); i += 2 {
		many = append(many, all[i])
	}
	if s := f.fillSet(t, "C4", 10, many...); s.Len() != 2000 || f.numSets() != 2 {
		t.Errorf("%d members, %d sets", s.Len(), f.numSets())
	}
	f.advance(1)
	f.fillSet(t, "C4", 10, many[:600]...)
	if f.numSets() != 1 || f.setBytes > f.config.SetBytes {
		t.Errorf("%d sets, %d bytes", f.numSets(), f.setBytes)
	}
	for i := range many[600:] {
		f.event("C4", protocol.Position(11+i), added("C4", many[600+i]))
	}
	if f.numSets() != 0 || f.setBytes != 0 {
		t.Errorf("%d sets, %d bytes", f.numSets(), f.setBytes)
	}
	if n := f.metric("flannel_cache_evictions_total", prometheus.Labels{"reason": "bound"}); n != 4 {
		t.Errorf("%v evictions", n)
	}
}
