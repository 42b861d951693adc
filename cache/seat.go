package cache

import (
	"sync"
	"sync/atomic"
	"time"

	"flannel/protocol"
)

// seat is what outlives a reload of a user's state.
type seat struct {
	holds atomic.Int64
	used  atomic.Int64 // Unix nanoseconds
	floor atomic.Uint64
}

func newSeat(now int64) *seat {
	s := new(seat)
	s.used.Store(now)
	return s
}

type seats struct {
	mu sync.Mutex
	of map[protocol.UserID]*seat
}

func (s *seats) peek(user protocol.UserID) *seat {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[user]
}

// get returns the seat of a user, made if there is none, as used now.
func (s *seats) get(user protocol.UserID, now int64) *seat {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.of[user]
	if got == nil {
		got = newSeat(now)
		s.of[user] = got
	}
	got.used.Store(now)
	return got
}

// RaiseFloor is User.RaiseFloor for a user whose state need not be held: the floor is there when it is.
func (c *Cache) RaiseFloor(user protocol.UserID, p protocol.Position) {
	raise(&c.seats.get(user, c.now().UnixNano()).floor, p)
}

// Hold keeps a user's state from expiring until Release. Holds count, and the state need not be there yet.
func (c *Cache) Hold(user protocol.UserID) {
	now := c.now().UnixNano()
	s := &c.seats
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.of[user]
	if got == nil {
		got = newSeat(now)
		s.of[user] = got
	}
	got.used.Store(now)
	got.holds.Add(1)
}

// Release undoes one Hold. With the last one the grace time begins.
func (c *Cache) Release(user protocol.UserID) {
	s := c.seats.peek(user)
	if s == nil {
		return
	}
	s.used.Store(c.now().UnixNano())
	if s.holds.Add(-1) < 0 {
		s.holds.Add(1)
		c.log.Error("user released more often than held")
	}
}

// Expire drops what has outlived its time. It returns the user states that are gone since the last call: their grace
// is over, or Config.Users has forced them out. Their topics are to be unfollowed.
func (c *Cache) Expire(now time.Time) (dropped []*User) {
	ns := now.UnixNano()
	idle := func(s *seat) bool { return s.holds.Load() == 0 && ns-s.used.Load() > int64(c.config.Grace) }
	c.mu.Lock()
	defer c.mu.Unlock()
	dropped, c.forced = c.forced, nil
	grown := len(dropped)
	c.users.each(func(_ protocol.UserID, u *User) {
		if idle(u.seat) {
			dropped = append(dropped, u)
		}
	})
	for _, u := range dropped[grown:] {
		c.dropUser(u)
		c.metrics.evictions[evictGrace].Inc()
	}
	s := &c.seats
	s.mu.Lock()
	for user, got := range s.of {
		// What somebody wrote, and has not come back yet, is not forgotten with their state, unless nobody would serve what
		// is as old as that.
		over := got.floor.Load() <= c.applied.Load() || ns-got.used.Load() > int64(c.config.Grace+c.config.StaleFor)
		if _, held := c.users.get(user); !held && idle(got) && over {
			delete(s.of, user)
		}
	}
	s.mu.Unlock()
	c.metrics.evictions[evictExpiry].Add(float64(c.identities.expire(ns)))
	c.expireRefusals(ns)
	c.expireDirectories(ns)
	c.trimLocked(ns)
	return dropped
}
