package cache

import (
	"sync/atomic"
)

// channelTable gives channels numbers, so that a place in one is 12 bytes without a pointer. Readers of a user's state
// may look at the numbers that the state has while they hold User.mu: a number is taken back only when no state has it
// any more, and states that the cache gives up get a table of their own first (User.detach).
type channelTable struct {
	// all is replaced when it grows, and written only where nobody has the number; with Cache.mu, but in construction.
	all  atomic.Pointer[[]*channel]
	free []uint32 // guarded by Cache.mu
}

// at returns the channel with a number that is in use.
func (t *channelTable) at(x uint32) *channel { return (*t.all.Load())[x] }

// add gives a channel a number.
func (t *channelTable) add(ch *channel) uint32 {
	if last := len(t.free) - 1; last >= 0 {
		x := t.free[last]
		t.free = t.free[:last]
		(*t.all.Load())[x] = ch
		return x
	}
	var all []*channel
	if old := t.all.Load(); old != nil {
		all = *old
	}
	all = append(all, ch)
	t.all.Store(&all)
	return uint32(len(all) - 1)
}

// remove takes a number back.
func (t *channelTable) remove(x uint32) {
	(*t.all.Load())[x] = nil
	t.free = append(t.free, x)
}

// len returns how many numbers are in use.
func (t *channelTable) len() int {
	if all := t.all.Load(); all != nil {
		return len(*all) - len(t.free)
	}
	return 0
}
