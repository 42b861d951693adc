package cache

import (
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"

	"flannel/protocol"
)

const (
	// objectOverhead is what an object costs besides its body: entry, cell, ids, owner, topic and visibility. ristretto
	// adds its own item itself.
	objectOverhead = 300
	// countersPer is how many bytes of capacity there are for one counter of ristretto's: ten counters (its advice) for
	// each object of about 1,300 bytes.
	countersPer = 130
	// numShards is a power of two well above the number of cores, so that writers of different objects seldom meet.
	numShards = 64
)

// entry is what is known of one object. Entries do not change; a cell gets a new one.
type entry struct {
	object protocol.Object
	// gone: there is no such object. A load says so until expires; a tombstone of an event for as long as link is valid
	// (expires is 0 then).
	gone    bool
	expires int64
	// asOf is the position at which this was true. While link is valid no applied event above it touched the object.
	asOf protocol.Position
	at   int64 // when it became known, Unix nanoseconds
	link link
}

// valid reports whether the entry is still what the topic's events say, as far as they have come.
func (e *entry) valid(now int64) bool {
	if e.expires != 0 {
		return now < e.expires
	}
	return e.link.valid()
}

// newerThan reports whether e tells of a later state than an object of that version as of p.
func (e *entry) newerThan(version protocol.Version, p protocol.Position) bool {
	return e.asOf > p && (e.gone || e.object.Version > version)
}

// cell is the place of one object in ristretto. Of one id at most one cell is in ristretto or on its way into it, and
// whoever holds the shard's lock finds it. Thus a newer entry cannot be lost to an older one, whatever ristretto does
// with its queue: it is put into the same cell. (Two Sets of a key that is not in yet make ristretto keep the first.)
type cell struct {
	id    protocol.ObjectID
	cost  int64 // guarded by the shard's mu
	entry atomic.Pointer[entry]
}

// touch tells what a recent event did to an object.
type touch struct {
	position protocol.Position
	version  protocol.Version
	gone     bool
}

// outruns reports whether the touch is later than an object of that version as of p.
func (t touch) outruns(version protocol.Version, p protocol.Position) bool {
	return t.position > p && (t.gone || t.version > version)
}

type shard struct {
	// mu guards what follows, and every change of the entries of the shard's cells.
	mu sync.RWMutex
	// pending has the cells that are on their way into ristretto, and some that have arrived: among them all that are ahead
	// of the watermark. ristretto tells of a cell's end after it has taken it out, and what is ahead must not be missed in
	// between.
	pending map[protocol.ObjectID]*cell
	sweepAt int // length of pending at which those that have arrived are taken out
	// touched has the objects that events in the recent log touched, with the last touch of each.
	touched map[protocol.ObjectID]touch
	// ahead has objects that were loaded ahead of the watermark, may have been served, and were lost or never kept.
	ahead map[protocol.ObjectID]touch
	// candidates are for Sample.
	candidates candidates
}

// objects is the part of the cache that holds objects.
type objects struct {
	store    *ristretto.Cache[string, *cell]
	seed     maphash.Seed
	metrics  *metrics
	applied  *atomic.Uint64
	closed   atomic.Bool
	aheads   atomic.Int64 // entries of all ahead maps
	maxAhead int64
	shards   [numShards]shard

	// horizon is the position above which every touch is known. It is raised before touches are forgotten.
	horizon atomic.Uint64
}

func newObjects(cfg *Config, m *metrics, applied *atomic.Uint64) (*objects, error) {
	o := &objects{seed: maphash.MakeSeed(), metrics: m, applied: applied, maxAhead: int64(cfg.RecentEvents)}
	for i := range o.shards {
		o.shards[i].pending = make(map[protocol.ObjectID]*cell)
		o.shards[i].touched = make(map[protocol.ObjectID]touch)
		o.shards[i].ahead = make(map[protocol.ObjectID]touch)
		o.shards[i].sweepAt = 64
	}
	var err error
	o.store, err = ristretto.NewCache(&ristretto.Config[string, *cell]{
		NumCounters: max(1024, cfg.Bytes/countersPer), MaxCost: cfg.Bytes, BufferItems: 64, // 64 is ristretto's own advice
		OnEvict:  func(item *ristretto.Item[*cell]) { o.lost(item.Value, m.evictions[evictCost]) },
		OnReject: func(item *ristretto.Item[*cell]) { o.lost(item.Value, m.rejected) },
	})
	if err != nil {
		return nil, fmt.Errorf("open ristretto: %w", err)
	}
	return o, nil
}

// close waits for writers and ends ristretto's goroutines.
func (o *objects) close() {
	if o.closed.Swap(true) {
		return
	}
	for i := range o.shards { // Who holds a shard's lock may be about to write, which ristretto panics on once closed.
		o.shards[i].mu.Lock()
		o.shards[i].mu.Unlock() //nolint:staticcheck // An empty critical section is the point: it waits.
	}
	o.store.Close()
}

func (o *objects) bytes() int64 { return o.store.MaxCost() - o.store.RemainingCost() }

func (o *objects) shard(id protocol.ObjectID) *shard {
	return &o.shards[maphash.String(o.seed, string(id))%numShards]
}

// lookup returns what is known of an object, or nil.
func (o *objects) lookup(id protocol.ObjectID) *entry {
	if c := o.stored(id); c != nil {
		return c.entry.Load()
	}
	sh := o.shard(id)
	sh.mu.RLock()
	c := sh.pending[id]
	sh.mu.RUnlock()
	if c == nil {
		return nil
	}
	return c.entry.Load()
}

// stored returns the cell in ristretto.
func (o *objects) stored(id protocol.ObjectID) *cell {
	if c, ok := o.store.Get(string(id)); ok && c != nil && c.id == id { // ristretto compares hashes
		return c
	}
	return nil
}

// entryLocked returns what is known of an object, or nil. It wants the shard's lock.
func (o *objects) entryLocked(sh *shard, id protocol.ObjectID) *entry {
	c := o.stored(id)
	if c == nil {
		c = sh.pending[id]
	}
	if c == nil {
		return nil
	}
	return c.entry.Load()
}

// putLocked makes e what is known of an object. It wants the shard's lock, and does not block.
func (o *objects) putLocked(sh *shard, id protocol.ObjectID, e *entry) {
	if o.closed.Load() {
		return
	}
	cost := int64(objectOverhead + len(id) + len(e.object.Body))
	if c := o.stored(id); c != nil {
		c.entry.Store(e)
		if o.isAhead(e) {
			sh.pending[id] = c
		}
		if cost <= c.cost+c.cost/4 && c.cost <= cost+cost/4 {
			return // The accounts are near enough.
		}
	} else if c = sh.pending[id]; c != nil {
		c.entry.Store(e)
		return
	}
	// Each cell is Set once: ristretto reports its end once. This one replaces the one in ristretto, if that is still
	// there, at once; otherwise it is queued.
	c := &cell{id: id, cost: cost}
	c.entry.Store(e)
	sh.pending[id] = c
	sh.candidates.add(id)
	if !o.store.Set(string(id), c, cost) {
		o.metrics.rejected.Inc()
		o.lostLocked(sh, c)
		return
	}
	if len(sh.pending) > sh.sweepAt {
		o.sweepLocked(sh)
	}
}

// sweepLocked takes the cells out of pending that have arrived in ristretto and that the watermark has passed.
func (o *objects) sweepLocked(sh *shard) {
	for id, c := range sh.pending {
		if o.stored(id) == c && !o.isAhead(c.entry.Load()) {
			delete(sh.pending, id)
		}
	}
	sh.sweepAt = max(64, 2*len(sh.pending))
}

// lost is called by ristretto for a cell that it has given up or not taken in.
func (o *objects) lost(c *cell, count interface{ Inc() }) {
	if c == nil || o.closed.Load() { // While closing, ristretto calls with a lock held that readers wait for.
		return
	}
	count.Inc()
	sh := o.shard(c.id)
	sh.mu.Lock()
	o.lostLocked(sh, c)
	sh.mu.Unlock()
}

func (o *objects) lostLocked(sh *shard, c *cell) {
	if sh.pending[c.id] == c {
		delete(sh.pending, c.id)
	}
	o.noteAheadLocked(sh, c.id, c.entry.Load())
}

// isAhead reports whether e was loaded ahead of the watermark.
func (o *objects) isAhead(e *entry) bool { return uint64(e.asOf) > o.applied.Load() }

// noteAheadLocked remembers an entry that is not there any more, or never was. If it is ahead of the watermark it may have
// been served already, and the events that made it so are still to come: a load between the two must not be taken for the
// newest.
func (o *objects) noteAheadLocked(sh *shard, id protocol.ObjectID, e *entry) {
	old, known := sh.ahead[id]
	if !o.isAhead(e) || old.position >= e.asOf {
		return
	}
	if !known {
		if o.aheads.Load() >= o.maxAhead {
			raise(&o.horizon, e.asOf) // Nothing below is believed then, whichever object it is.
			return
		}
		o.aheads.Add(1)
	}
	sh.ahead[id] = touch{position: e.asOf, version: e.object.Version, gone: e.gone}
}

// forgetAhead forgets the lost loads that the watermark has passed.
func (o *objects) forgetAhead(applied protocol.Position) {
	if o.aheads.Load() == 0 {
		return
	}
	for i := range o.shards {
		sh := &o.shards[i]
		sh.mu.Lock()
		for id, t := range sh.ahead {
			if t.position <= applied {
				delete(sh.ahead, id)
				o.aheads.Add(-1)
			}
		}
		sh.mu.Unlock()
	}
}

// raise makes a position at least p.
func raise(position *atomic.Uint64, p protocol.Position) {
	for {
		old := position.Load()
		if uint64(p) <= old || position.CompareAndSwap(old, uint64(p)) {
			return
		}
	}
}

// forget forgets the touches of an event that leaves the recent log.
func (o *objects) forget(r *record) {
	for i := range r.effects {
		id := r.effects[i].ID
		switch e := &r.effects[i]; {
		case e.Op == protocol.OpUpsert && e.Object != nil:
			id = e.Object.ID
		case e.Op != protocol.OpTombstone:
			continue
		}
		raise(&o.horizon, r.position)
		sh := o.shard(id)
		sh.mu.Lock()
		if t := sh.touched[id]; t.position == r.position {
			delete(sh.touched, id)
		}
		sh.mu.Unlock()
	}
}
