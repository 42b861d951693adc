package query

import (
	"encoding/json"
	"sync"

	"flannel/protocol"
)

// slims keeps what boots say of channels: the same bytes for everybody, and finding them in a body costs as much as ten
// look-ups. Bodies are shared and never change, so a body is known by where it is; it is kept with what was found, or its
// place might become another one's. The zero value is ready to use, by any goroutine.
type slims struct {
	mu    sync.RWMutex
	of    [2]map[*byte]slim // by lazy
	bytes int               // of all bodies and what was found in them
}

type slim struct{ body, found []byte }

// maxSlims bounds the bytes: 20,000 channels of a node's busy workspaces. When there are more, all are found anew.
const maxSlims = 32 << 20

func (s *slims) get(body json.RawMessage, lazy bool) []byte {
	which := 0
	if lazy {
		which = 1
	}
	s.mu.RLock()
	got, ok := s.of[which][&body[0]]
	s.mu.RUnlock()
	if ok && len(got.body) == len(body) {
		return got.found
	}
	found := protocol.AppendSlim(nil, body, lazy)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes += len(body) + cap(found); s.bytes > maxSlims {
		s.of, s.bytes = [2]map[*byte]slim{}, len(body)+cap(found)
	}
	if s.of[which] == nil {
		s.of[which] = make(map[*byte]slim)
	}
	s.of[which][&body[0]] = slim{body, found}
	return found
}
