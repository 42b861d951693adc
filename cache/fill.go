package cache

import (
	"flannel/protocol"
)

// Fill takes the answer to a load and keeps of it what no later event can have touched. Of the ids in the answer,
// served has those that exist, each in the newest state known (which may be a newer one than the answer's); again names
// those that events outran and that have to be loaded again, as of Applied or later; those in neither do not exist.
//
// An object whose topic is not followed, or was followed or reset only after the answer's position, is served and not
// kept; so is one that is older than the watermark was then. Fill does not change the answer, and keeps its bodies.
func (c *Cache) Fill(ans *protocol.ObjectsAnswer) (served []protocol.Object, again []protocol.ObjectID) {
	now := c.now().UnixNano()
	raise(&c.filled, ans.Position)
	served = make([]protocol.Object, 0, len(ans.Objects))
	for i := range ans.Objects {
		o := &ans.Objects[i]
		switch newest, verdict := c.fillObject(o, ans.Position, now); verdict {
		case fillServe:
			served = append(served, newest)
		case fillAgain:
			again = append(again, o.ID)
		}
	}
	for _, id := range ans.Missing {
		switch newest, verdict := c.fillMissing(id, ans.Position, now); verdict {
		case fillServe:
			served = append(served, newest)
		case fillAgain:
			again = append(again, id)
		}
	}
	c.metrics.outrun.Add(float64(len(again)))
	return served, again
}

// verdict is what becomes of one id of an answer.
type verdict int

const (
	fillServe verdict = iota
	fillAbsent
	fillAgain
)

// outrunLocked decides whether a newer state than an object of that version as of p is or was known; if it is, it is
// returned. It wants the shard's lock. A load of nothing has no version.
func (c *Cache) outrunLocked(sh *shard, id protocol.ObjectID, version protocol.Version, p protocol.Position, now int64) (*entry, bool) {
	e := c.objects.entryLocked(sh, id)
	if e != nil && e.asOf >= p && e.valid(now) {
		return e, false
	}
	if sh.touched[id].outruns(version, p) || sh.ahead[id].outruns(version, p) || e != nil && e.newerThan(version, p) {
		return nil, true
	}
	return nil, false
}

// serveEntry turns what is known into an outcome.
func serveEntry(e *entry) (protocol.Object, verdict) {
	if e.gone {
		return protocol.Object{}, fillAbsent
	}
	return e.object, fillServe
}

func (c *Cache) fillObject(o *protocol.Object, p protocol.Position, now int64) (protocol.Object, verdict) {
	sh := c.objects.shard(o.ID)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	newest, outrun := c.outrunLocked(sh, o.ID, o.Version, p, now)
	switch {
	case newest != nil:
		return serveEntry(newest)
	case outrun:
		c.metrics.discarded.Inc()
		return protocol.Object{}, fillAgain
	}
	e := &entry{object: *o, asOf: p, at: now}
	if t := c.topic(o.Topic); t != nil {
		if e.link, _ = t.tie(); uint64(p) < t.trust.Load() {
			e.link = link{}
		}
	}
	switch {
	case e.link.topic == nil:
		c.discardLocked(sh, o.ID, e)
		return *o, fillServe
	case uint64(p) < c.objects.horizon.Load():
		c.metrics.discarded.Inc()
		return protocol.Object{}, fillAgain
	}
	c.objects.putLocked(sh, o.ID, e)
	return *o, fillServe
}

// discardLocked does not keep what is served. If something older is there, it must not be served after it: e, which is
// void, replaces it; nor may what was loaded before e came and comes after it. It wants the shard's lock.
func (c *Cache) discardLocked(sh *shard, id protocol.ObjectID, e *entry) {
	c.metrics.discarded.Inc()
	c.objects.noteAheadLocked(sh, id, e)
	if old := c.objects.entryLocked(sh, id); old != nil && old.asOf < e.asOf {
		c.objects.putLocked(sh, id, e)
	}
}

func (c *Cache) fillMissing(id protocol.ObjectID, p protocol.Position, now int64) (protocol.Object, verdict) {
	sh := c.objects.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	newest, outrun := c.outrunLocked(sh, id, -1, p, now)
	switch {
	case newest != nil:
		return serveEntry(newest)
	case outrun, uint64(p) < c.objects.horizon.Load():
		c.metrics.discarded.Inc()
		return protocol.Object{}, fillAgain
	}
	e := &entry{gone: true, expires: now + int64(c.config.NegativeFor), asOf: p, at: now}
	if p < c.negativeFrom(id) {
		c.metrics.discarded.Inc()
		e.expires = now // Over at once: it only stands in the way of what is older.
	}
	c.objects.putLocked(sh, id, e)
	return protocol.Object{}, fillAbsent
}

// negativeFrom returns the position from which every event that could create an object is known, as far as its topic is
// followed at all. Nobody says which topic covers what does not exist: it is that of some workspace, or its own.
func (c *Cache) negativeFrom(id protocol.ObjectID) protocol.Position {
	// The object's own topic first: if it has just gone, workspacesFrom says so by now.
	var from protocol.Position
	if t := c.topic(protocol.Topic(id)); t != nil {
		from = protocol.Position(t.trust.Load())
	}
	return max(from, protocol.Position(c.workspacesFrom.Load()))
}
