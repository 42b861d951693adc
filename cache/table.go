package cache

import (
	"sync"
)

// table is a map for many readers, whose oldest values can be found roughly.
type table[K comparable, V interface{ lastUse() int64 }] struct {
	mu sync.RWMutex
	m  map[K]V
}

func newTable[K comparable, V interface{ lastUse() int64 }]() table[K, V] {
	return table[K, V]{m: make(map[K]V)}
}

func (t *table[K, V]) get(k K) (V, bool) {
	t.mu.RLock()
	v, ok := t.m[k]
	t.mu.RUnlock()
	return v, ok
}

func (t *table[K, V]) put(k K, v V) {
	t.mu.Lock()
	t.m[k] = v
	t.mu.Unlock()
}

func (t *table[K, V]) remove(k K) {
	t.mu.Lock()
	delete(t.m, k)
	t.mu.Unlock()
}

func (t *table[K, V]) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.m)
}

// each calls fn for every value, with the lock held for reading.
func (t *table[K, V]) each(fn func(K, V)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for k, v := range t.m {
		fn(k, v)
	}
}

// sampleSize is how many values are looked at to find an old one: with 32, what goes is among the oldest tenth with a
// probability of 97 %, at a cost that does not grow with the table.
const sampleSize = 32

// oldest returns the value used least recently of a sample, one that is not pinned if there is any. Go begins each walk
// over a map at a random place.
func (t *table[K, V]) oldest(pinned func(V) bool) (key K, value V, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var oldest int64
	var oldestPinned bool
	seen := 0
	for k, v := range t.m {
		if pin := pinned(v); !ok || oldestPinned && !pin || pin == oldestPinned && v.lastUse() < oldest {
			key, value, ok, oldest, oldestPinned = k, v, true, v.lastUse(), pin
		}
		if seen++; seen == sampleSize {
			break
		}
	}
	return key, value, ok
}
