package reference

import (
	"hash/maphash"
	"sync"
)

// objects is a map in shards, so that readers rarely meet.
type objects struct{ shards [64]shard }

type shard struct {
	mu sync.RWMutex
	m  map[string][]byte
}

var seed = maphash.MakeSeed()

func (o *objects) of(id string) *shard {
	return &o.shards[maphash.String(seed, id)%uint64(len(o.shards))]
}

func (o *objects) put(id string, body []byte) {
	s := o.of(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = make(map[string][]byte)
	}
	s.m[id] = body
}

func (o *objects) get(id string) []byte {
	s := o.of(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[id]
}
