package cache

import (
	"slices"
	"sync"
	"sync/atomic"

	"flannel/protocol"
)

// Set is all members of one channel, kept up to date by events for as long as the cache has it. Its methods may be
// called from any goroutine.
type Set struct {
	// Static after construction.
	id   protocol.ChannelID
	at   protocol.Position // events up to here are in the load
	link link

	used  atomic.Int64
	bytes int // guarded by Cache.mu

	// mu guards users, which is in order; writers hold Cache.mu too.
	mu    sync.RWMutex
	users []protocol.UserID
}

const (
	setOverhead    = 200 // the Set and its place in the table
	memberOverhead = 32  // a string's header and the allocation of a short id
)

// Contains reports whether user is a member.
func (s *Set) Contains(user protocol.UserID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := slices.BinarySearch(s.users, user)
	return ok
}

// Len returns the number of members.
func (s *Set) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.users)
}

// Page returns up to limit members after a user id in id order, and whether there are more.
func (s *Set) Page(after protocol.UserID, limit int) (users []protocol.UserID, more bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, found := slices.BinarySearch(s.users, after)
	if found {
		i++
	}
	end := min(len(s.users), i+max(0, limit))
	return slices.Clone(s.users[i:end]), end < len(s.users)
}

func (s *Set) lastUse() int64 { return s.used.Load() }

func newSet(ch protocol.ChannelID, users []protocol.UserID, at protocol.Position, now int64) *Set {
	s := &Set{id: ch, at: at, users: slices.Clone(users)}
	slices.Sort(s.users)
	s.users = slices.Compact(s.users)
	s.bytes = setOverhead + memberOverhead*len(s.users)
	s.used.Store(now)
	return s
}

// set puts a user in or takes them out. It reports whether that changed anything.
func (s *Set) set(user protocol.UserID, in bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, was := slices.BinarySearch(s.users, user)
	switch {
	case in == was:
		return false
	case in:
		s.users = slices.Insert(s.users, i, user)
	default:
		s.users = slices.Delete(s.users, i, i+1)
	}
	return true
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
	s := newSet(ch, users, at, now)
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
	s.bytes = setOverhead + memberOverhead*len(s.users)
	if s.bytes > c.config.SetBytes {
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
		s.bytes += memberOverhead
		c.setBytes += memberOverhead
		for c.setBytes > c.config.SetBytes {
			id, _, _ := c.sets.oldest(func(*Set) bool { return false })
			c.dropSet(id)
			c.metrics.evictions[evictBound].Inc()
		}
	}
}

func (c *Cache) setRemove(ch protocol.ChannelID, user protocol.UserID, p protocol.Position) {
	if s, ok := c.sets.get(ch); ok && p > s.at && s.set(user, false) {
		s.bytes -= memberOverhead
		c.setBytes -= memberOverhead
	}
}

// dropSet gives a set up. It wants mu.
func (c *Cache) dropSet(ch protocol.ChannelID) {
	if s, ok := c.sets.get(ch); ok {
		c.setBytes -= s.bytes
		c.sets.remove(ch)
	}
}
