package cache

import (
	"errors"
	"testing"

	"flannel/protocol"
)

// The interleavings in this file were found by the model (docs/model). Each happens between two steps of one call, so the
// tests make the state in between by hand.

// A fill finds the topic; the topic is unfollowed; the fill ties the object to it. Nobody would ever void that.
func TestUnfollowed_NobodyTiesToATopicThatHasEnded(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	found := f.topic(ws)

	f.Unfollowed(ws)

	if tie, _ := found.tie(); tie.valid() {
		t.Error("a link to a topic that is not followed any more is valid")
	}
}

// A read finds an object; its event is applied and the watermark moves; the read looks whether its floor is reached. The
// object in its hand is older than the floor, whatever the watermark says now.
func TestGet_TheWatermarkCountsFromBeforeTheLookUp(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	f.Watermark(10)
	f.Fill(answer(10, object("U1", 1)))
	applied := f.Applied()
	found := f.objects.lookup("U1")

	f.event(ws, 11, upsert(object("U1", 2)))
	f.Watermark(11)

	if got := f.freshness(found, 11, applied); got != Missing {
		t.Errorf("version %d is %s for a floor of 11", found.object.Version, got)
	}
	f.want(t, "U1", 11, Fresh, 2)
}

// ristretto takes a cell out, and tells of it later. In between comes a load that was begun before the lost one, which was
// ahead of the watermark and has been served.
func TestEviction_WhatIsAheadIsKnownBeforeItsEndIsTold(t *testing.T) {
	f := newFixture(t)
	f.follow(5, ws)
	f.Watermark(5)
	f.Fill(answer(5, object("U1", 1)))
	f.Fill(answer(10, object("U1", 10)))
	f.settle()
	sh := f.objects.shard("U1")
	sh.mu.Lock()
	f.objects.sweepLocked(sh)
	sh.mu.Unlock()
	lost := f.objects.stored("U1")

	f.objects.store.Del("U1")
	f.settle()
	served, _ := f.Fill(answer(7, object("U1", 7)))
	f.objects.lost(lost, f.metrics.evictions[evictCost])

	for _, o := range served {
		if o.Version < 10 {
			t.Errorf("version %d served after version 10", o.Version)
		}
	}
	if o, got := f.Get("U1", 0); got == Fresh && o.Version < 10 {
		t.Errorf("version %d kept after version 10 was served", o.Version)
	}
}

// A load ahead of the watermark is served and not kept, because nobody follows the topic. Then it is followed, and a load
// comes that was begun before the first one.
func TestFill_WhatIsServedAndNotKeptIsRemembered(t *testing.T) {
	f := newFixture(t)
	f.Watermark(5)
	if served, _ := f.Fill(answer(10, object("U1", 10))); len(served) != 1 {
		t.Fatal("not served")
	}

	f.follow(6, ws)
	served, again := f.Fill(answer(7, object("U1", 7)))

	if len(served) != 0 || len(again) != 1 {
		t.Errorf("served %v after version 10; again %v", served, again)
	}
	f.event(ws, 10, upsert(object("U1", 10)))
	f.Watermark(10)
	f.want(t, "U1", 0, Fresh, 10)
}

// A channel that covers itself is served and lost, and its topic is given up. A load from before it was there comes last.
func TestUnfollowed_NothingIsAbsentThatWasServed(t *testing.T) {
	f := newFixture(t)
	o := object("C1", 8)
	o.Topic = "C1"
	f.follow(8, "C1")
	f.Fill(answer(8, o))
	f.evict("C1")
	f.Watermark(8)
	f.Unfollowed("C1")

	f.Fill(missing(7, "C1"))

	f.want(t, "C1", 0, Missing, 0)
}

// A user's state as of 12 is ahead of the watermark. A boot that is older comes from a replica that lags.
func TestFillUser_NothingOlderThanWhatWasShown(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws, "UA")
	f.Watermark(10)
	u := f.fillUser(t, bootOf("UA"), 12)

	if got := f.fillUser(t, bootOf("UA"), 11); got != u {
		t.Error("a usable state was replaced by an older one")
	}
	u.void.Store(true)
	if _, err := f.FillUser(bootOf("UA"), 11); !errors.Is(err, ErrOutrun) {
		t.Errorf("an older boot: %v", err)
	}
	if got := f.fillUser(t, bootOf("UA"), 12); got == u {
		t.Error("the void state came back")
	}
}

// Loads ask for what was served, also if it was ahead of the watermark.
func TestKnown(t *testing.T) {
	f := newFixture(t)
	f.Watermark(5)
	if got := f.Known(); got != 5 {
		t.Errorf("known %d, want 5", got)
	}
	f.Fill(answer(9, object("U1", 9)))
	f.Fill(answer(7, object("U2", 7)))
	if got := f.Known(); got != protocol.Position(9) {
		t.Errorf("known %d, want 9", got)
	}
}
