package cache

import (
	"bytes"
	"hash/maphash"
	"slices"
	"sync"
)

// numbers gives ids small numbers, in the order in which they come, so that a set of ids can be a bitmap. Numbers are
// never taken back: Cache begins a new numbering when this one has grown too large. Its methods may be called from any
// goroutine.
type numbers struct {
	seed  maphash.Seed
	heard heard

	// mu guards what follows. Of arena and ends, what is written does not change any more: a view needs no lock.
	mu     sync.RWMutex
	arena  []byte
	ends   []uint32 // by number: where its id ends in arena
	slots  []uint32 // hash table with linear probing: a number and 1, 0 where it is free; at most half full
	sorted []uint32 // the numbers below its length in the order of their ids; replaced, never changed
}

// numberView is what a numbering was at some moment.
type numberView struct {
	arena []byte
	ends  []uint32
}

func newNumbers() *numbers {
	return &numbers{seed: maphash.MakeSeed(), slots: make([]uint32, 64)}
}

func (n *numbers) view() numberView {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return numberView{n.arena, n.ends}
}

// id returns the id with a number.
func (v numberView) id(x uint32) []byte {
	start := uint32(0)
	if x > 0 {
		start = v.ends[x-1]
	}
	return v.arena[start:v.ends[x]]
}

func (v numberView) compare(a, b uint32) int { return bytes.Compare(v.id(a), v.id(b)) }

// find returns the number of an id. It does not allocate.
func (n *numbers) find(id string) (uint32, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	slot := n.slot(id)
	return n.slots[slot] - 1, n.slots[slot] != 0
}

// slot returns where an id is in the table, or would be. It wants mu.
func (n *numbers) slot(id string) int {
	mask := len(n.slots) - 1
	v := numberView{n.arena, n.ends}
	for i := int(maphash.String(n.seed, id)) & mask; ; i = (i + 1) & mask {
		if x := n.slots[i]; x == 0 || string(v.id(x-1)) == id {
			return i
		}
	}
}

// numberStep is how many ids are numbered in one go: readers wait for it.
const numberStep = 1000

// numberAll appends the numbers of ids, giving them where they have none.
func numberAll[S ~string](n *numbers, dst []uint32, ids []S) []uint32 {
	dst = slices.Grow(dst, len(ids))
	for part := range slices.Chunk(ids, numberStep) {
		n.mu.Lock()
		for _, id := range part {
			dst = append(dst, n.addLocked(string(id)))
		}
		n.mu.Unlock()
	}
	return dst
}

// add returns the number of an id, giving it one if it has none.
func (n *numbers) add(id string) uint32 {
	if x, ok := n.find(id); ok {
		return x
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addLocked(id)
}

func (n *numbers) addLocked(id string) uint32 {
	slot := n.slot(id)
	if x := n.slots[slot]; x != 0 {
		return x - 1
	}
	n.arena = append(n.arena, id...)
	n.ends = append(n.ends, uint32(len(n.arena)))
	x := uint32(len(n.ends))
	n.slots[slot] = x
	if 2*len(n.ends) > len(n.slots) {
		n.slots = make([]uint32, 2*len(n.slots))
		v := numberView{n.arena, n.ends}
		for i := range uint32(len(n.ends)) {
			n.slots[n.slot(string(v.id(i)))] = i + 1
		}
	}
	return x - 1
}

// maxTail is how many numbers may be out of sorted, besides a sixteenth of all.
const maxTail = 256

// order returns numbers in the order of their ids; those from its length on are missing, and are not many.
func (n *numbers) order() []uint32 {
	n.mu.RLock()
	sorted, v := n.sorted, numberView{n.arena, n.ends}
	n.mu.RUnlock()
	tail := len(v.ends) - len(sorted)
	if tail <= maxTail+len(v.ends)/16 {
		return sorted
	}
	late := make([]uint32, tail)
	for i := range late {
		late[i] = uint32(len(sorted) + i)
	}
	slices.SortFunc(late, v.compare)
	all := mergeSorted(make([]uint32, 0, len(v.ends)), sorted, late, v.compare)
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.sorted) < len(all) {
		n.sorted = all
	}
	return all
}

// mergeSorted appends what two sorted lists have, in order.
func mergeSorted(dst, a, b []uint32, compare func(x, y uint32) int) []uint32 {
	for len(a) > 0 && len(b) > 0 {
		if compare(a[0], b[0]) <= 0 {
			dst, a = append(dst, a[0]), a[1:]
		} else {
			dst, b = append(dst, b[0]), b[1:]
		}
	}
	return append(append(dst, a...), b...)
}

// bytes returns about what the numbering costs.
func (n *numbers) bytes() int {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return cap(n.arena) + 4*(cap(n.ends)+len(n.slots)+cap(n.sorted)) + int(n.heard.bytes.Load())
}
