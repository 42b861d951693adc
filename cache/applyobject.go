package cache

import (
	"flannel/protocol"
)

// upsert replaces an object by what an event says, unless something later is known.
func (c *Cache) upsert(o *protocol.Object, p protocol.Position, now int64) {
	e := &entry{object: *o, asOf: p, at: now}
	// An event of another topic than the covering one (an object that has just got another owner) may come before that
	// one is followed, and an event that is replayed may be older than what was served before its topic was followed.
	// Then the entry is void, and stands only in the way of what is older.
	keep := false
	if t := c.topic(o.Topic); t != nil {
		e.link, _ = t.tie()
		keep = uint64(p) >= t.trust.Load()
	}
	c.touchObject(o.ID, touch{position: p, version: o.Version}, e, keep)
}

// tombstone says that an object is gone.
func (c *Cache) tombstone(t *topic, id protocol.ObjectID, version protocol.Version, p protocol.Position, now int64) {
	e := &entry{object: protocol.Object{Version: version}, gone: true, asOf: p, at: now}
	e.link, _ = t.tie()
	c.touchObject(id, touch{position: p, version: version, gone: true}, e, uint64(p) >= t.trust.Load())
}

// touchObject notes that an event touched an object and makes e what is known of it. If e may not be kept it only
// replaces what is older.
func (c *Cache) touchObject(id protocol.ObjectID, t touch, e *entry, keep bool) {
	sh := c.objects.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	last := sh.touched[id]
	if last.position <= t.position {
		sh.touched[id] = t
	}
	old := c.objects.entryLocked(sh, id)
	switch {
	case old != nil && old.asOf >= t.position:
		return // A load or an event that is later came before.
	case last.position > t.position, sh.ahead[id].position > t.position, uint64(t.position) < c.objects.horizon.Load():
		// Something later was known and is lost, or may be: the object is not known from this event.
		keep = false
	}
	if !keep {
		if old == nil {
			return
		}
		e.link = link{}
	}
	if old != nil {
		c.metrics.invalidations[invalidEvent].Inc()
	}
	c.objects.putLocked(sh, id, e)
}

// unabsent lets a "no such object" die when an event shows that there is one after all, though not what it is.
func (c *Cache) unabsent(id protocol.ObjectID, p protocol.Position) {
	sh := c.objects.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	old := c.objects.entryLocked(sh, id)
	if old == nil || !old.gone || old.expires == 0 || old.asOf >= p {
		return
	}
	c.metrics.invalidations[invalidEvent].Inc()
	c.objects.putLocked(sh, id, &entry{gone: true, expires: 1, asOf: old.asOf, at: old.at})
}
