package cache

import (
	"time"

	"flannel/protocol"
)

// Freshness says what an answer of the cache is worth.
type Freshness int

// The freshnesses.
const (
	// Missing: nothing that may be served is known; load it.
	Missing Freshness = iota
	// Fresh: served within the staleness bound.
	Fresh
	// Stale: the stream is down or events were lost; it was right when Age says.
	Stale
	// Absent: it is known that there is no such object.
	Absent
)

// String implements fmt.Stringer.
func (f Freshness) String() string {
	switch f {
	case Missing:
		return "missing"
	case Fresh:
		return "fresh"
	case Stale:
		return "stale"
	default:
		return "absent"
	}
}

// Get returns an object as of a position at or above floor. It does not block.
//
// It keeps nothing of id, which may be a view of a buffer.
//
// While the stream is down objects are Stale until they are Config.StaleFor old, and nothing is Absent.
func (c *Cache) Get(id protocol.ObjectID, floor protocol.Position) (protocol.Object, Freshness) {
	// First: the entry has all events up to here in it only if it is looked up after them.
	applied := c.Applied()
	e := c.objects.lookup(id)
	f := c.freshness(e, floor, applied)
	kind := protocol.KindOf(id)
	switch f {
	case Fresh:
		c.metrics.looked(kind, resultHit)
	case Stale:
		c.metrics.looked(kind, resultStale)
	case Absent:
		c.metrics.looked(kind, resultNegative)
		return protocol.Object{}, Absent
	default:
		c.metrics.looked(kind, resultMiss)
		return protocol.Object{}, Missing
	}
	c.sampleServed(e.object.ID)
	return e.object, f
}

// freshness judges an entry that was looked up when all events up to applied had come.
func (c *Cache) freshness(e *entry, floor, applied protocol.Position) Freshness {
	if e == nil {
		return Missing
	}
	down := c.down.Load()
	if e.expires != 0 {
		// The topic that will tell of the object's creation is not known, so the watermark says nothing about it.
		if down != 0 || e.asOf < floor || c.now().UnixNano() >= e.expires {
			return Missing
		}
		return Absent
	}
	if !e.link.valid() {
		return Missing
	}
	switch {
	// Nothing hangs on a topic that is older than the watermark at which the topic was followed. A later watermark
	// counts for it.
	case max(e.asOf, applied) < floor:
		return Missing
	case e.gone && down == 0:
		return Absent
	case e.gone:
		return Missing
	case down == 0:
		return Fresh
	case c.now().UnixNano()-max(down, e.at) <= int64(c.config.StaleFor):
		return Stale
	default:
		return Missing
	}
}

// Age returns how long the stream has been down, 0 while it is up: the age of what is Stale.
func (c *Cache) Age() time.Duration {
	down := c.down.Load()
	if down == 0 {
		return 0
	}
	return max(1, time.Duration(c.now().UnixNano()-down))
}

// stalenessEvery is how many served look-ups there are for one that is measured, and that the auditor may look at: reading
// the clock each time would cost as much as the look-up.
const stalenessEvery = 64

func (c *Cache) sampleServed(id protocol.ObjectID) {
	if c.served.Add(1)%stalenessEvery == 0 {
		c.objects.candidate(id)
		c.metrics.staleness.Observe(time.Duration(c.now().UnixNano() - c.heard.Load()).Seconds())
	}
}
