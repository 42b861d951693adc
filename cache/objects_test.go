package cache

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/protocol"
)

func TestFill_KeepsWhatNothingHasTouched(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)

	served, again := f.Fill(answer(10, object("U1", 3)))

	if len(served) != 1 || served[0].Version != 3 || len(again) != 0 {
		t.Fatalf("served %v, again %v", served, again)
	}
	f.want(t, "U1", 0, Fresh, 3)
	f.want(t, "U2", 0, Missing, 0)
	if got := f.metric("flannel_cache_lookups_total", prometheus.Labels{"kind": "user", "result": "hit"}); got != 1 {
		t.Errorf("%v hits", got)
	}
	if got := f.metric("flannel_cache_lookups_total", prometheus.Labels{"kind": "user", "result": "miss"}); got != 1 {
		t.Errorf("%v misses", got)
	}
	if f.metric("flannel_cache_bytes", nil) <= 0 {
		t.Error("an object has no bytes")
	}
}

// A fill is readable before ristretto has taken it in.
func TestFill_IsReadableAtOnce(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	for i := range 1000 {
		id := protocol.ObjectID(fmt.Sprint("U", i))
		f.Fill(answer(10, object(id, 1)))
		if _, got := f.Get(id, 0); got != Fresh {
			t.Fatalf("%s is %s right after its fill", id, got)
		}
	}
}

func TestFill_ServesAndDoesNotKeep(t *testing.T) {
	cases := map[string]func(f *fixture){
		"topic not followed":                           func(*fixture) {},
		"topic followed from later":                    func(f *fixture) { f.follow(11, ws) },
		"topic reset meanwhile":                        func(f *fixture) { f.follow(5, ws); f.Reset(ws, 12) },
		"topic unfollowed":                             func(f *fixture) { f.follow(5, ws); f.Unfollowed(ws) },
		"below the watermark at which it was followed": func(f *fixture) { f.Watermark(11); f.follow(5, ws) },
		"topic followed again from then":               func(f *fixture) { f.follow(5, ws); f.Unfollowed(ws); f.follow(11, ws) },
	}
	for name, given := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			given(f)

			served, again := f.Fill(answer(10, object("U1", 3)))

			if len(served) != 1 || served[0].Version != 3 || len(again) != 0 {
				t.Errorf("served %v, again %v", served, again)
			}
			f.want(t, "U1", 0, Missing, 0)
			if f.metric("flannel_cache_fill_discarded_total", nil) != 1 {
				t.Error("the discarded fill is not counted")
			}
		})
	}
}

func TestFill_OutrunByAnEvent(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	f.event(ws, 12, upsert(object("U1", 5)))

	// The newer object is there: it is served.
	served, again := f.Fill(answer(11, object("U1", 4), object("U2", 1)))
	if len(served) != 2 || served[0].Version != 5 || len(again) != 0 {
		t.Fatalf("served %v, again %v", served, again)
	}
	f.want(t, "U1", 0, Fresh, 5)
	f.want(t, "U2", 0, Fresh, 1) // The log reaches back and does not name it.

	// The newer object is lost: the log names it.
	f.evict("U1")
	served, again = f.Fill(answer(11, object("U1", 4)))
	if len(served) != 0 || len(again) != 1 || again[0] != "U1" {
		t.Fatalf("served %v, again %v", served, again)
	}
	if f.metric("flannel_cache_fill_outrun_total", nil) != 1 {
		t.Error("the outrun fill is not counted")
	}
	if served, again = f.Fill(answer(12, object("U1", 5))); len(served) != 1 || len(again) != 0 {
		t.Fatalf("served %v, again %v", served, again)
	}
	f.want(t, "U1", 0, Fresh, 5)
}

func TestFill_OutrunByATombstone(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	f.Fill(answer(10, object("S1", 4)))
	f.event(ws, 12, bury("S1", 5))
	f.want(t, "S1", 0, Absent, 0)

	served, again := f.Fill(answer(11, object("S1", 4)))
	if len(served)+len(again) != 0 {
		t.Errorf("served %v, again %v; want neither: it is known to be gone", served, again)
	}
	f.evict("S1")
	if served, again = f.Fill(answer(11, object("S1", 4))); len(served) != 0 || len(again) != 1 {
		t.Errorf("served %v, again %v; want it again: the tombstone is in the log only", served, again)
	}
	f.event(ws, 13, upsert(object("S1", 6)))
	f.want(t, "S1", 0, Fresh, 6)
}

func TestFill_LogDoesNotReachBack(t *testing.T) {
	bounds := map[string]func(f *fixture){
		"items": func(*fixture) {},
		"age":   func(f *fixture) { f.advance(6 * time.Minute); f.Watermark(30) },
	}
	for name, then := range bounds {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *Config) { c.RecentEvents = 3 })
			f.follow(10, ws)
			for i := range 5 {
				f.event(ws, protocol.Position(20+i), upsert(object(protocol.ObjectID(fmt.Sprint("U1", i)), 1)))
			}
			then(f)

			if served, again := f.Fill(answer(20, object("U9", 1))); len(served) != 0 || len(again) != 1 {
				t.Errorf("served %v, again %v", served, again)
			}
			if _, again := f.Fill(missing(20, "U8")); len(again) != 1 {
				t.Errorf("again %v", again)
			}
			f.want(t, "U9", 0, Missing, 0)
			if served, again := f.Fill(answer(24, object("U9", 1))); len(served) != 1 || len(again) != 0 {
				t.Errorf("served %v, again %v", served, again)
			}
			f.want(t, "U9", 0, Fresh, 1)
		})
	}
}

func TestRecent_BoundedByBytesAndForgotten(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.RecentBytes = 10 * (recordOverhead + 200); c.RecentEvents = 1 << 20 })
	f.follow(1, ws)
	for i := range 5000 {
		f.event(ws, protocol.Position(2+i), upsert(object(protocol.ObjectID(fmt.Sprint("U", i)), 1)))
	}
	if n := f.metric("flannel_cache_items", prometheus.Labels{"kind": "recent_event"}); n < 5 || n > 20 {
		t.Errorf("%v events are remembered", n)
	}
	touched := 0
	for i := range f.objects.shards {
		touched += len(f.objects.shards[i].touched)
	}
	if touched > 20 {
		t.Errorf("%d touches are remembered", touched)
	}
	if tp := f.topic(ws); len(tp.log) > 20 || tp.logFrom == 1 {
		t.Errorf("the topic remembers %d events, from %d on", len(tp.log), tp.logFrom)
	}
	// An event that is larger than the whole log is not remembered, and nothing older is believed.
	big := object("U1", 2)
	big.Body = make([]byte, 1<<20)
	f.event(ws, 9000, upsert(big))
	if n := f.numRecent(); n != 0 {
		t.Errorf("%d events are remembered", n)
	}
	if _, again := f.Fill(answer(8999, object("UX", 1))); len(again) != 1 {
		t.Error("a load below the log's end is kept")
	}
}

func TestApply_EventsUpToTheFillChangeNothing(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	f.Fill(answer(20, object("U1", 7)))
	f.Fill(missing(20, "S1"))

	f.event(ws, 15, upsert(object("U1", 6)))
	f.event(ws, 16, upsert(object("S1", 1)))
	f.event(ws, 17, bury("S1", 2))

	f.want(t, "U1", 0, Fresh, 7)
	f.want(t, "S1", 0, Absent, 0)
}

func TestApply_LaterEventOfAnotherTopicCameFirst(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws, "C1")
	shared := object("C1", 8)
	shared.Topic = "C1"
	f.event("C1", 20, upsert(shared))
	f.evict("C1")

	f.event(ws, 15, upsert(object("C1", 7)))

	f.want(t, "C1", 0, Missing, 0) // Version 7 must not come after 8 was served.
	if _, again := f.Fill(answer(16, object("C1", 7))); len(again) != 1 {
		t.Errorf("again %v", again)
	}
}

func TestApply_CoverMovesToATopicThatIsNotFollowed(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	f.Fill(answer(10, object("C1", 7)))
	shared := object("C1", 8)
	shared.Topic = "C1"

	f.event(ws, 15, upsert(shared))

	f.want(t, "C1", 0, Missing, 0)
	if served, again := f.Fill(answer(16, shared)); len(served) != 1 || len(again) != 0 {
		t.Errorf("served %v, again %v", served, again)
	}
	f.want(t, "C1", 0, Missing, 0)
}

// A load that is served and not kept must not be followed by what was kept before it.
func TestFill_ServedAndNotKeptVoidsWhatIsOlder(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	f.Fill(answer(10, object("C1", 7), object("C2", 7)))
	shared := object("C1", 8)
	shared.Topic = "C1"
	if served, _ := f.Fill(answer(15, shared)); len(served) != 1 {
		t.Fatalf("served %v", served)
	}
	f.want(t, "C1", 0, Missing, 0)
	f.follow(16, "T2")
	if served, again := f.Fill(missing(15, "C2")); len(served)+len(again) != 0 {
		t.Fatalf("served %v, again %v", served, again)
	}
	f.want(t, "C2", 0, Missing, 0)
	// The kept object is served where the load says that there is none, if it is as new.
	f.Fill(answer(20, object("C3", 1)))
	if served, _ := f.Fill(missing(19, "C3")); len(served) != 1 {
		t.Errorf("served %v", served)
	}
}

func TestApply_IgnoresDuplicatesAndStrangers(t *testing.T) {
	f := newFixture(t)
	f.Followed(ws, 5, 10)
	o := object("U1", 1)
	effects := []protocol.Effect{upsert(o)}
	f.Apply(&protocol.Event{Topic: ws, Seq: 5, Position: 11, Effects: effects})
	f.Apply(&protocol.Event{Topic: "T2", Seq: 1, Position: 11, Effects: effects})
	f.Apply(&protocol.Event{Topic: ws, Position: 11, Effects: effects})
	f.Apply(&protocol.Event{Topic: ws, Seq: 6, Position: 12})
	f.want(t, "U1", 0, Missing, 0)
	f.Apply(&protocol.Event{Topic: ws, Seq: 7, Position: 12, Effects: []protocol.Effect{{Op: protocol.OpUpsert}, upsert(o)}})
	f.want(t, "U1", 0, Fresh, 1)
}

func TestReset_VoidsAndGoesOn(t *testing.T) {
	f := newFixture(t)
	f.Followed(ws, 40, 10)
	f.Fill(answer(10, object("U1", 1)))

	f.Reset(ws, 30)

	f.want(t, "U1", 0, Missing, 0)
	f.Apply(&protocol.Event{Topic: ws, Seq: 3, Position: 31, Effects: []protocol.Effect{upsert(object("U1", 9))}})
	f.want(t, "U1", 0, Fresh, 9)
	if f.metric("flannel_cache_invalidations_total", prometheus.Labels{"source": "reset"}) != 1 {
		t.Error("the reset is not counted")
	}
	f.Reset("T9", 1) // Not followed: nothing happens.
	f.Unfollowed("T9")
	f.Unfollowed(ws)
	f.want(t, "U1", 0, Missing, 0)
	if f.metric("flannel_cache_invalidations_total", prometheus.Labels{"source": "unfollowed"}) != 1 {
		t.Error("unfollowing is not counted")
	}
	if f.metric("flannel_cache_items", prometheus.Labels{"kind": "topic"}) != 0 {
		t.Error("a topic is left")
	}
}

// A load that was served ahead of the watermark and then lost must not be followed by an older one: only the events
// that are still to come would tell.
func TestFill_LostAheadOfTheWatermark(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	f.Watermark(10)
	f.Fill(answer(20, object("U1", 5)))
	f.Fill(missing(20, "U2"))
	f.evict("U1")
	f.evict("U2")

	served, again := f.Fill(answer(15, object("U1", 4), object("U2", 1)))
	if len(served) != 0 || len(again) != 2 {
		t.Fatalf("served %v, again %v", served, again)
	}
	f.event(ws, 16, upsert(object("U1", 5)))
	f.want(t, "U1", 0, Missing, 0)
	f.Watermark(20)
	if n := f.objects.aheads.Load(); n != 0 {
		t.Errorf("%d lost loads are remembered after the watermark", n)
	}
	if _, again = f.Fill(answer(20, object("U1", 5))); len(again) != 0 {
		t.Errorf("again %v", again)
	}
}

func TestGet_Floor(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	f.Fill(answer(10, object("U1", 1)))
	f.Fill(missing(10, "U2"))
	f.want(t, "U1", 10, Fresh, 1)
	f.want(t, "U1", 11, Missing, 0)

	f.Watermark(15)

	f.want(t, "U1", 15, Fresh, 1)
	f.want(t, "U1", 16, Missing, 0)
	f.want(t, "U2", 10, Absent, 0)
	f.want(t, "U2", 15, Missing, 0) // Whose topic tells of its creation is not known.
	f.event(ws, 16, bury("U1", 2))
	f.want(t, "U1", 16, Absent, 0)

	// A topic is followed from below the watermark: what it tells from before may be older than what was served.
	f.follow(11, "T2")
	o := object("U3", 1)
	o.Topic = "T2"
	f.event("T2", 12, upsert(o))
	f.event("T2", 13, bury("U4", 1))
	f.want(t, "U3", 0, Missing, 0)
	f.want(t, "U4", 0, Missing, 0)
	o.Version = 2
	f.event("T2", 16, upsert(o))
	f.want(t, "U3", 16, Fresh, 2)
	f.want(t, "U3", 17, Missing, 0)
	if f.Applied() != 15 {
		t.Errorf("applied %d", f.Applied())
	}
	f.Watermark(3)
	if f.Applied() != 15 {
		t.Error("the watermark went back")
	}
}

func TestGet_NegativeLife(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws, "UA")
	f.Fill(missing(10, "U1", "U2", "C1"))
	f.want(t, "U1", 0, Absent, 0)
	if f.metric("flannel_cache_lookups_total", prometheus.Labels{"kind": "user", "result": "negative"}) != 1 {
		t.Error("the negative look-up is not counted")
	}

	f.event(ws, 11, upsert(object("U1", 1)))
	f.want(t, "U1", 0, Fresh, 1)
	if f.metric("flannel_cache_invalidations_total", prometheus.Labels{"source": "event"}) != 1 {
		t.Error("the event's invalidation is not counted")
	}

	// Being added to a channel proves that it exists.
	f.want(t, "C1", 0, Absent, 0)
	f.event("UA", 12, protocol.Effect{Op: protocol.OpMemberAdded, Channel: "C1", User: "UA", Membership: &protocol.Membership{Channel: "C1"}})
	f.want(t, "C1", 0, Missing, 0)

	f.advance(5*time.Second - 1)
	f.want(t, "U2", 0, Absent, 0)
	f.advance(1)
	f.want(t, "U2", 0, Missing, 0)
}

func TestLive_StaleAndGone(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	f.Fill(answer(10, object("U1", 1)))
	f.Fill(missing(10, "U2"))
	f.event(ws, 11, bury("U3", 2))
	if f.Age() != 0 {
		t.Error("a live stream has an age")
	}

	f.Live(false)
	f.advance(time.Minute)
	f.Live(false) // Told twice: the first counts.

	f.want(t, "U1", 0, Stale, 1)
	f.want(t, "U2", 0, Missing, 0)
	f.want(t, "U3", 0, Missing, 0)
	if f.Age() != time.Minute {
		t.Errorf("age %v", f.Age())
	}
	if f.metric("flannel_cache_lookups_total", prometheus.Labels{"kind": "user", "result": "stale"}) != 1 {
		t.Error("the stale look-up is not counted")
	}
	// What is loaded meanwhile is younger.
	f.Fill(answer(12, object("U4", 1)))
	f.advance(9*time.Minute + time.Second)
	f.want(t, "U1", 0, Missing, 0)
	f.want(t, "U4", 0, Stale, 1)

	f.Live(true)
	f.want(t, "U1", 0, Fresh, 1)
}

func TestGet_StalenessIsSampled(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	f.Fill(answer(10, object("U1", 1)))
	for range 2 * stalenessEvery {
		f.Get("U1", 0)
	}
	if n := f.metric("flannel_cache_staleness_seconds", nil); n != 2 {
		t.Errorf("%v samples", n)
	}
}

func TestFreshness_String(t *testing.T) {
	for f, want := range map[Freshness]string{Missing: "missing", Fresh: "fresh", Stale: "stale", Absent: "absent"} {
		if f.String() != want {
			t.Errorf("%d is %s", f, f)
		}
	}
}

// evict makes ristretto lose an object, as it may at any time.
func (f *fixture) evict(id protocol.ObjectID) {
	f.settle()
	c := f.objects.stored(id)
	if c == nil {
		return
	}
	f.objects.store.Del(string(id))
	f.settle()
	f.objects.lost(c, f.metrics.evictions[evictCost])
}

func TestEviction_ByCost(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Bytes = 100_000 })
	f.follow(10, ws)
	for i := range 2000 {
		f.Fill(answer(10, object(protocol.ObjectID(fmt.Sprint("U", i)), 1)))
		if i%100 == 0 {
			f.settle()
		}
	}
	f.settle()
	if b := f.metric("flannel_cache_bytes", nil); b > 100_000 {
		t.Errorf("%v bytes", b)
	}
	if f.metric("flannel_cache_evictions_total", prometheus.Labels{"reason": "cost"})+f.metric("flannel_cache_rejected_sets_total", nil) < 1000 {
		t.Error("what did not fit is not counted")
	}
	pending := 0
	for i := range f.objects.shards {
		pending += len(f.objects.shards[i].pending)
	}
	if pending > numShards*70 {
		t.Errorf("%d cells are pending", pending)
	}
	// An object that is larger than the cache is served, and not kept.
	big := object("UBIG", 1)
	big.Body = make([]byte, 200_000)
	if served, _ := f.Fill(answer(10, big)); len(served) != 1 {
		t.Error("a large object is not served")
	}
	f.want(t, "UBIG", 0, Missing, 0)
}

// A body that grows is accounted anew, in a cell of its own.
func TestPut_CostFollowsTheBody(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	f.Fill(missing(10, "U1"))
	f.settle()
	before := f.objects.bytes()
	o := object("U1", 1)
	o.Body = make([]byte, 10_000)

	f.event(ws, 11, upsert(o))

	f.want(t, "U1", 0, Fresh, 1)
	if grown := f.objects.bytes() - before; grown < 9_000 {
		t.Errorf("the cost grew by %d", grown)
	}
	f.event(ws, 12, upsert(object("U1", 2)))
	f.want(t, "U1", 0, Fresh, 2)
	if left := f.objects.bytes() - before; left > 1_000 {
		t.Errorf("%d bytes are left", left)
	}
}

// Thousands of objects whose cells wait for ristretto at the same time: none may come out older than it went in, though
// ristretto keeps the first of two Sets of a key that it has not taken in.
func TestPut_NewerIsNotLostInTheQueue(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Bytes = 64 << 20; c.RecentEvents = 100 })
	f.follow(10, ws)
	const n = 20_000
	for i := range n {
		id := protocol.ObjectID(fmt.Sprint("U", i))
		f.Fill(answer(10, object(id, 1)))
		f.event(ws, protocol.Position(11+i), upsert(object(id, 2)))
	}
	f.settle()
	for i := range n {
		if o, got := f.Get(protocol.ObjectID(fmt.Sprint("U", i)), 0); got == Fresh && o.Version != 2 {
			t.Fatalf("U%d has version %d", i, o.Version)
		}
	}
}

// While ristretto is stuck its queue runs full: what does not fit is served and not kept, and nobody waits.
func TestPut_QueueIsFull(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Bytes = 64 << 20 })
	f.follow(10, ws)
	f.Watermark(10)
	big := object("UBIG", 1)
	big.Body = make([]byte, 65<<20)
	stuck := f.objects.shard("UBIG")
	f.Fill(answer(10, big))
	stuck.mu.Lock() // ristretto refuses it, and waits for the lock to tell us.
	release := sync.OnceFunc(stuck.mu.Unlock)
	defer release() // Else Close would wait for ever after a failure.

	dropped := 0
	for i := range 40_000 {
		id := protocol.ObjectID(fmt.Sprint("U", i))
		if f.objects.shard(id) == stuck {
			continue
		}
		if served, _ := f.Fill(answer(11, object(id, 2))); len(served) != 1 {
			t.Fatalf("%s is not served", id)
		}
		if _, got := f.Get(id, 0); got == Missing {
			dropped++
			if _, again := f.Fill(answer(10, object(id, 1))); len(again) != 1 {
				t.Fatalf("%s: an older load is believed after a newer one was served and dropped", id)
			}
		}
	}
	release()

	if got := f.metric("flannel_cache_rejected_sets_total", nil); dropped < 1000 || got < float64(dropped) {
		t.Errorf("%d dropped, %v counted", dropped, got)
	}
}

// More lost loads than may be remembered: then nothing below the last of them is believed.
func TestFill_TooManyLostAhead(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.RecentEvents = 2 })
	f.follow(10, ws)
	for i := range 4 {
		id := protocol.ObjectID(fmt.Sprint("U", i))
		f.Fill(answer(protocol.Position(20+i), object(id, 2)))
		f.evict(id)
		f.Fill(answer(protocol.Position(20+i), object(id, 2))) // Again, which is no newer.
		f.evict(id)
	}
	for i := range 4 {
		if _, again := f.Fill(answer(15, object(protocol.ObjectID(fmt.Sprint("U", i)), 1))); len(again) != 1 {
			t.Errorf("U%d as of 15 is believed", i)
		}
	}
	if n := f.objects.aheads.Load(); n != 2 {
		t.Errorf("%d are remembered", n)
	}
}

// The topic of a private channel is the channel itself.
func TestFill_NegativeFromTheOwnTopic(t *testing.T) {
	f := newFixture(t)
	f.follow(20, "C1")
	f.Fill(missing(15, "C1", "C2"))
	f.want(t, "C1", 0, Missing, 0)
	f.want(t, "C2", 0, Absent, 0)
	f.Followed("presence:UA", 0, 5)
	f.Get("not an id", 0)
	if f.metric("flannel_cache_lookups_total", prometheus.Labels{"kind": "other", "result": "miss"}) != 1 || f.numTopics() != 1 {
		t.Errorf("%d topics", f.numTopics())
	}
}

func TestApply_CreationOutsideTheLogDoesNotRaiseTheDead(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.RecentEvents = 1 })
	f.follow(10, ws, "C1")
	f.event(ws, 30, upsert(object("U1", 1)))
	f.event(ws, 31, upsert(object("U2", 1)))
	old := object("C1", 1)
	old.Topic = "C1"
	f.event("C1", 15, upsert(old)) // What came after it may be forgotten.
	f.want(t, "C1", 0, Missing, 0)
}
