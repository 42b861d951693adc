package cache

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"time"

	"flannel/protocol"
)

// The auditor's doors: Sample and SampleUser say what to ask the backend about, Verify and VerifyUser compare its answer
// with what is known by then. ristretto cannot list what it has, so each shard keeps a few of its ids.

// Sample is an object as it stood when it was sampled. Object is immutable and shared.
type Sample struct {
	Object protocol.Object
	AsOf   protocol.Position
	// Age is how long ago it became known.
	Age time.Duration
}

// Verdict is what comparing with the backend says.
type Verdict int

// The verdicts.
const (
	// Match: both say the same.
	Match Verdict = iota
	// Mismatch: the cache was wrong. What was wrong is void now, so that it is loaded again.
	Mismatch
	// Moved: there is nothing to compare any more, or something newer than the answer: ask again.
	Moved
	// Early: the answer is ahead of the watermark. Compare again when Applied has reached it.
	Early
)

// Verification is the outcome of a comparison: both versions, 0 for what does not exist, and since when the cache knew its
// one.
type Verification struct {
	Verdict        Verdict
	Cached, Loaded protocol.Version
	Age            time.Duration
}

// numCandidates is how many ids a shard keeps for samples: with 64 shards, a small workspace is there as a whole, and of a
// large one about what a day of samples needs.
const numCandidates = 64

// candidates are ids that were put or served lately, some of them lost since.
type candidates struct {
	ids []protocol.ObjectID
}

// add takes an id in, in the place of any other if there are enough.
func (s *candidates) add(id protocol.ObjectID) {
	switch {
	case slices.Contains(s.ids, id):
	case len(s.ids) < numCandidates:
		s.ids = append(s.ids, id)
	default:
		s.ids[rand.IntN(numCandidates)] = id
	}
}

// take takes a random id out.
func (s *candidates) take() (protocol.ObjectID, bool) {
	if len(s.ids) == 0 {
		return "", false
	}
	i := rand.IntN(len(s.ids))
	id := s.ids[i]
	last := len(s.ids) - 1
	s.ids[i] = s.ids[last]
	s.ids[last] = ""
	s.ids = s.ids[:last]
	return id, true
}

// Sample returns up to n random objects that are served as fresh: the more often one is served, the more likely. It
// returns none while the stream is down.
func (c *Cache) Sample(n int) []Sample {
	if c.down.Load() != 0 {
		return nil
	}
	now := c.now().UnixNano()
	list := make([]Sample, 0, n)
	// One of each shard in turn. What is gone leaves the candidates; what is taken comes back below.
	first := rand.IntN(numShards)
	for more := true; more && len(list) < n; {
		more = false
		for i := 0; i < numShards && len(list) < n; i++ {
			sh := &c.objects.shards[(first+i)%numShards]
			sh.mu.Lock()
			if id, ok := sh.candidates.take(); ok {
				more = true
				if e := c.objects.entryLocked(sh, id); e != nil && !e.gone && e.link.valid() {
					list = append(list, Sample{Object: e.object, AsOf: e.asOf, Age: time.Duration(now - e.at)})
				}
			}
			sh.mu.Unlock()
		}
	}
	for i := range list {
		c.objects.candidate(list[i].Object.ID)
	}
	return list
}

// candidate lets an object be sampled.
func (o *objects) candidate(id protocol.ObjectID) {
	sh := o.shard(id)
	sh.mu.Lock()
	sh.candidates.add(id)
	sh.mu.Unlock()
}

// Verify compares what is known of an object with what a load as of p says of it; nil says that there is none. It changes
// nothing but to give up what is wrong.
//
// What is known at Applied was true at every position since the entry's own up to there. So the two must be equal if p lies
// in between, however many events are on their way.
func (c *Cache) Verify(id protocol.ObjectID, loaded *protocol.Object, p protocol.Position) Verification {
	v := Verification{Verdict: Moved}
	if loaded != nil {
		v.Loaded = loaded.Version
	}
	sh := c.objects.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	applied := c.Applied() // First, as in Get; the lock keeps the entry from changing anyway.
	e := c.objects.entryLocked(sh, id)
	if e == nil || c.down.Load() != 0 || e.expires != 0 || !e.link.valid() || e.asOf > p {
		return v
	}
	v.Age = time.Duration(c.now().UnixNano() - e.at)
	if !e.gone {
		v.Cached = e.object.Version
	}
	switch {
	case e.gone && loaded == nil, !e.gone && loaded != nil && equalObjects(&e.object, loaded):
		v.Verdict = Match
	case p > applied:
		v.Verdict = Early
	default:
		v.Verdict = Mismatch
		wrong := *e
		wrong.link = link{}
		c.objects.putLocked(sh, id, &wrong)
		c.metrics.invalidations[invalidAudit].Inc()
	}
	return v
}

// equalObjects reports whether two objects are the same to whoever is served them.
func equalObjects(a, b *protocol.Object) bool {
	return a.ID == b.ID && a.Version == b.Version && a.Kind == b.Kind && a.Owner == b.Owner && a.Topic == b.Topic &&
		slices.Equal(a.Visibility.Workspaces, b.Visibility.Workspaces) && a.Visibility.Channel == b.Visibility.Channel &&
		a.Visibility.Sharing == b.Visibility.Sharing && equalJSON(a.Body, b.Body)
}

// equalJSON compares texts, and only if they differ what they mean: a backend may write an event and an answer by
// different means.
func equalJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
