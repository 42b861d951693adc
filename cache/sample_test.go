package cache

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/protocol"
)

// corrupt puts a wrong body in the place of a cached object's, as no event would.
func (f *fixture) corrupt(t testing.TB, id protocol.ObjectID, body string) {
	t.Helper()
	f.settle()
	sh := f.objects.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	old := f.objects.entryLocked(sh, id)
	if old == nil {
		t.Fatalf("%s is not cached", id)
	}
	wrong := *old
	wrong.object.Body = []byte(body)
	f.objects.putLocked(sh, id, &wrong)
}

func TestSample_EverythingOfASmallWorkspace(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	for i := range 30 {
		f.Fill(answer(10, object(protocol.ObjectID(fmt.Sprint("U", i)), 1)))
	}
	f.advance(time.Minute)
	f.event(ws, 11, bury("U7", 2)) // What is gone is not sampled.

	seen := make(map[protocol.ObjectID]bool)
	for range 2 { // Samples come back.
		for _, s := range f.Sample(100) {
			seen[s.Object.ID] = true
			if s.AsOf != 10 || s.Age != time.Minute || s.Object.Version != 1 {
				t.Errorf("sampled %s as of %d, %s old", s.Object.ID, s.AsOf, s.Age)
			}
		}
	}
	if len(seen) != 29 {
		t.Errorf("%d objects in all samples, want 29", len(seen))
	}
	if got := len(f.Sample(5)); got != 5 {
		t.Errorf("%d samples, want 5", got)
	}
	f.Live(false)
	if got := f.Sample(5); len(got) != 0 {
		t.Errorf("%d samples while the stream is down", len(got))
	}
}

// In a large workspace what is served is sampled, though much was put since.
func TestSample_WhatIsServed(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Bytes = 256 << 20 }) // Room for all of them: nothing is evicted.
	f.follow(10, ws)
	f.Fill(answer(10, object("USERVED", 1)))
	for i := range 20_000 {
		f.Fill(answer(10, object(protocol.ObjectID(fmt.Sprint("U", i)), 1)))
	}
	f.settle()
	if _, got := f.Get("USERVED", 0); got != Fresh {
		t.Fatal("it is not there")
	}
	for range 2 * stalenessEvery {
		f.Get("USERVED", 0)
	}
	for _, s := range f.Sample(numShards * numCandidates) {
		if s.Object.ID == "USERVED" {
			return
		}
	}
	t.Error("not sampled")
}

func TestVerify(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	f.Watermark(10)
	right := object("U1", 1)
	f.Fill(answer(10, right))
	verify := func(id protocol.ObjectID, o *protocol.Object, p protocol.Position, want Verdict) {
		t.Helper()
		if got := f.Verify(id, o, p); got.Verdict != want {
			t.Errorf("%s as of %d: %+v, want verdict %d", id, p, got, want)
		}
	}
	newer := object("U1", 2)

	verify("U1", &right, 10, Match)
	verify("U1", &right, 12, Match)
	verify("U1", &newer, 12, Early) // The event of 11 or 12 is still to come.
	verify("U1", &newer, 9, Moved)  // What is kept is later.
	verify("U2", &newer, 10, Moved) // Not cached.
	spaced := right
	spaced.Body = append([]byte(" "), right.Body...)
	verify("U1", &spaced, 10, Match)
	f.Live(false)
	verify("U1", nil, 10, Moved)
	f.Live(true)

	f.event(ws, 12, upsert(newer))
	f.Watermark(12)
	verify("U1", &newer, 12, Match)
	f.event(ws, 13, bury("U1", 3))
	f.Watermark(13)
	verify("U1", nil, 13, Match)
}

func TestVerify_WhatIsWrongIsGivenUp(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	f.Watermark(10)
	right := object("U1", 1)
	f.Fill(answer(10, right))
	f.advance(time.Minute)
	f.corrupt(t, "U1", `{"id":"U1","name":"mallory"}`)

	got := f.Verify("U1", &right, 10)

	if want := (Verification{Verdict: Mismatch, Cached: 1, Loaded: 1, Age: time.Minute}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	f.want(t, "U1", 0, Missing, 0)
	f.Fill(answer(10, right))
	f.want(t, "U1", 0, Fresh, 1)
	if n := f.metric("flannel_cache_invalidations_total", prometheus.Labels{"source": "audit"}); n != 1 {
		t.Errorf("%v invalidations", n)
	}
}

// What the backend does not have any more, and whose event did not come, is wrong too.
func TestVerify_WhatIsGoneIsGivenUp(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	f.Watermark(12)
	f.Fill(answer(12, object("U1", 1)))

	if got := f.Verify("U1", nil, 12); got.Verdict != Mismatch || got.Cached != 1 || got.Loaded != 0 {
		t.Errorf("got %+v", got)
	}
	f.want(t, "U1", 0, Missing, 0)
}

func TestVerifyUser(t *testing.T) {
	f := newFixture(t)
	boot := bootOf("UA", "C1")
	f.follow(10, ws, "UA", "C1")
	f.Watermark(10)
	if _, ok := f.SampleUser(); ok {
		t.Error("a user was sampled, and there is none")
	}
	f.fillUser(t, boot, 10)
	if got, ok := f.SampleUser(); !ok || got != "UA" {
		t.Errorf("sampled %q", got)
	}
	verify := func(p protocol.Position, want Verdict, wrong string, change func(*protocol.UserBoot)) {
		t.Helper()
		b := bootOf("UA", "C1")
		if change != nil {
			change(b)
		}
		if got := f.VerifyUser(b, p); got.Verdict != want || got.Wrong != wrong {
			t.Errorf("as of %d: %+v, want verdict %d for %q", p, got, want, wrong)
		}
	}
	none := func(b *protocol.UserBoot) { b.Memberships = nil }

	verify(10, Match, "", nil)
	verify(9, Moved, "", none)
	verify(11, Early, "", none)
	f.event("C1", 11, protocol.Effect{Op: protocol.OpMessageAdded, Channel: "C1", TS: "9", Latest: "9", User: "UB", Mentions: []protocol.UserID{"UA"}})
	f.Watermark(11)
	verify(10, Match, "", nil) // The channel has moved on: not compared.
	verify(11, Mismatch, "memberships", nil)

	if _, got := f.User("UA"); got != Stale {
		t.Errorf("what was wrong is %s", got)
	}
	if _, ok := f.SampleUser(); ok {
		t.Error("a void state was sampled")
	}
	for wrong, change := range map[string]func(*protocol.UserBoot){
		"memberships": none,
		"prefs":       func(b *protocol.UserBoot) { b.Prefs = []byte(`{"a":2}`) },
		"role":        func(b *protocol.UserBoot) { b.Role = protocol.RoleGuest },
		"usergroups":  func(b *protocol.UserBoot) { b.Usergroups = []protocol.ObjectID{"S1"} },
		"user":        func(b *protocol.UserBoot) { b.Error = protocol.CodeUserNotFound },
	} {
		f.fillUser(t, boot, 11)
		verify(11, Mismatch, wrong, change)
	}
}

// A deactivated user has no state at the backend: that is not wrong here, but gone.
func TestVerifyUser_Deactivated(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws, "UA", "C1")
	f.Watermark(10)
	f.fillUser(t, bootOf("UA", "C1"), 10)
	o := object("UA", 11)
	o.Body = []byte(`{"id":"UA","deleted":true}`)
	f.event(ws, 11, upsert(o))
	f.Watermark(11)

	if got := f.VerifyUser(&protocol.UserBoot{User: "UA", Error: protocol.CodeAccountInactive}, 11); got.Verdict == Mismatch {
		t.Errorf("got %+v", got)
	}
	if _, got := f.User("UA"); got == Fresh {
		t.Error("the permissions of a deactivated user are fresh")
	}
}
