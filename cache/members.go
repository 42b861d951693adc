package cache

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"

	"flannel/protocol"
)

// Set is all members of one channel, kept up to date by events for as long as the cache has it. It is a bitmap of the
// numbers that ids have: 100,000 members cost kilobytes. Its methods may be called from any goroutine.
type Set struct {
	// Static after construction.
	id      protocol.ChannelID
	at      protocol.Position // events up to here are in the load
	link    link
	numbers *numbers

	used  atomic.Int64
	bytes int // guarded by Cache.mu

	// mu guards bits; writers hold Cache.mu too.
	mu   sync.RWMutex
	bits *roaring.Bitmap
}

// setOverhead is the Set and its place in the table.
const setOverhead = 200

// Contains reports whether user is a member. It does not allocate.
func (s *Set) Contains(user protocol.UserID) bool {
	x, ok := s.numbers.find(string(user))
	if !ok {
		return false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.bits.Contains(x)
}

// Len returns the number of members.
func (s *Set) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return int(s.bits.GetCardinality())
}

// People returns the members as they are now.
func (s *Set) People() *People {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return &People{numbers: s.numbers, bits: s.bits.Clone()}
}

// Page returns up to limit members after a user id in id order, and whether there are more.
func (s *Set) Page(after protocol.UserID, limit int) (users []protocol.UserID, more bool) {
	return s.People().page(after, max(0, limit))
}

func (s *Set) lastUse() int64 { return s.used.Load() }

func newSet(n *numbers, ch protocol.ChannelID, users []protocol.UserID, at protocol.Position, now int64) *Set {
	s := &Set{id: ch, at: at, numbers: n, bits: roaring.New()}
	members := numberAll(n, nil, users)
	slices.Sort(members)
	s.bits.AddMany(members)
	s.bits.RunOptimize()
	s.measure()
	s.used.Store(now)
	return s
}

// measure sets bytes. It wants Cache.mu, but in construction.
func (s *Set) measure() { s.bytes = setOverhead + bitmapBytes(s.bits) }

// set puts a user in or takes them out. It reports whether that changed anything.
func (s *Set) set(user protocol.UserID, in bool) bool {
	if in {
		x := s.numbers.add(string(user))
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.bits.CheckedAdd(x)
	}
	x, ok := s.numbers.find(string(user))
	if !ok {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bits.CheckedRemove(x)
}

// Members returns the member set of a channel, Fresh or Missing (nil): there is no stale permission.
func (c *Cache) Members(ch protocol.ChannelID) (*Set, Freshness) {
	s, ok := c.sets.get(ch)
	if !ok || !s.link.valid() || c.down.Load() != 0 {
		c.metrics.looked(memberSet, resultMiss)
		return nil, Missing
	}
	s.used.Store(c.now().UnixNano())
	c.metrics.looked(memberSet, resultHit)
	return s, Fresh
}

// FillMembers takes all members of a channel as of a position and brings them up to the events since. If they were
// loaded in several pages, at is the position of the first: what a later page knows more, the events say too. The set
// is returned also if it may not be kept (the channel's topic is not followed, or only from a later position); then it
// stays as it is. ErrOutrun says to load again.
func (c *Cache) FillMembers(ch protocol.ChannelID, users []protocol.UserID, at protocol.Position) (*Set, error) {
	now := c.now().UnixNano()
	s := newSet(c.numbers.Load(), ch, users, at, now)
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.sets.get(ch); ok && old.link.valid() && (at <= c.Applied() || at <= old.at) {
		return old, nil
	}
	t := c.topic(protocol.Topic(ch))
	if t == nil {
		c.metrics.discarded.Inc()
		return s, nil
	}
	tie, from := t.tie()
	switch {
	case at < from:
		c.metrics.discarded.Inc()
		return s, nil
	case !t.reaches(at):
		c.metrics.discarded.Inc()
		c.metrics.outrun.Inc()
		return nil, ErrOutrun
	}
	for _, r := range t.since(at) {
		for i := range r.effects {
			if e := &r.effects[i]; e.Op == protocol.OpMemberAdded || e.Op == protocol.OpMemberRemoved {
				s.set(e.User, e.Op == protocol.OpMemberAdded)
			}
		}
	}
	s.measure()
	if s.bytes > c.config.SetBytes || s.numbers != c.numbers.Load() { // A new numbering began meanwhile.
		c.metrics.discarded.Inc()
		return s, nil
	}
	s.link = tie
	c.dropSet(ch)
	for c.sets.len() >= c.config.Sets || c.setBytes+s.bytes > c.config.SetBytes {
		id, _, _ := c.sets.oldest(func(*Set) bool { return false })
		c.dropSet(id)
		c.metrics.evictions[evictBound].Inc()
	}
	c.sets.put(ch, s)
	c.setBytes += s.bytes
	return s, nil
}

// setAdd and setRemove bring a set up to an event of the channel's topic. They want mu.
func (c *Cache) setAdd(ch protocol.ChannelID, user protocol.UserID, p protocol.Position) {
	if s, ok := c.sets.get(ch); ok && p > s.at && s.set(user, true) {
		c.measureSet(s)
		for c.setBytes > c.config.SetBytes {
			id, _, _ := c.sets.oldest(func(*Set) bool { return false })
			c.dropSet(id)
			c.metrics.evictions[evictBound].Inc()
		}
	}
}

func (c *Cache) setRemove(ch protocol.ChannelID, user protocol.UserID, p protocol.Position) {
	if s, ok := c.sets.get(ch); ok && p > s.at && s.set(user, false) {
		c.measureSet(s)
	}
}

// measureSet notes the size of a set that has changed. It wants mu.
func (c *Cache) measureSet(s *Set) {
	c.setBytes -= s.bytes
	s.measure()
	c.setBytes += s.bytes
}

// dropSet gives a set up. It wants mu.
func (c *Cache) dropSet(ch protocol.ChannelID) {
	if s, ok := c.sets.get(ch); ok {
		c.setBytes -= s.bytes
		c.sets.remove(ch)
	}
}
