package edge

import (
	"hash/maphash"
	"slices"
	"sync"

	"flannel/protocol"
)

// maxGiven is how many objects a session is remembered to have been given: the people and channels of a few busy screens.
const maxGiven = 256

var idSeed = maphash.MakeSeed()

// given are the objects that a session was given lately, as hashes of their ids: 4 bytes each. Two ids with one hash are
// one in four billion; then an object is not sent that the client can ask for. The zero value is ready to use.
type given struct {
	mu   sync.Mutex
	ring []uint32
	next int
}

func hashID(id protocol.ObjectID) uint32 { return uint32(maphash.String(idSeed, string(id))) }

// addName is add for an id in a buffer.
func (g *given) addName(id []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.addLocked(uint32(maphash.Bytes(idSeed, id)))
}

func (g *given) has(id protocol.ObjectID) bool {
	h := hashID(id)
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Contains(g.ring, h)
}

// without returns those of ids, whose hashes are given, that it does not have, and that are not self.
func (g *given) without(ids []protocol.ObjectID, hashes []uint32, self protocol.ObjectID) (left []protocol.ObjectID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, id := range ids {
		if id != self && !slices.Contains(g.ring, hashes[i]) {
			left = append(left, id)
		}
	}
	return left
}

// add remembers an object; the oldest is forgotten for it.
func (g *given) add(id protocol.ObjectID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.addLocked(hashID(id))
}

func (g *given) addLocked(h uint32) {
	switch {
	case slices.Contains(g.ring, h):
	case len(g.ring) < maxGiven:
		g.ring = append(g.ring, h)
	default:
		g.ring[g.next] = h
		g.next = (g.next + 1) % maxGiven
	}
}

// join remembers what another one does, which nobody else uses.
func (g *given) join(other *given) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, h := range other.ring {
		g.addLocked(h)
	}
}

// answered remembers what the client has with the answer to a query: the objects in it, and those that it asked about and
// that have not changed. Of an id that failed or is pending it has nothing.
func (g *given) answered(args, body []byte) {
	var without map[string]bool
	n := 0
	eachAnswered(body, func(id []byte, there bool) {
		switch {
		case !there:
			if without == nil {
				without = make(map[string]bool)
			}
			without[string(id)] = true
		case n < maxGiven:
			g.add(protocol.ObjectID(id))
			n++
		}
	})
	n = 0
	protocol.EachField(protocol.Field(args, "updated_ids"), func(id, _ []byte) bool {
		if !without[string(id)] {
			g.add(protocol.ObjectID(id))
			n++
		}
		return n < maxGiven
	})
}

// eachAnswered calls fn for the id of each object in a query's answer, there or not.
func eachAnswered(body []byte, fn func(id []byte, there bool)) {
	text := func(value []byte, there bool) {
		if len(value) > 2 && value[0] == '"' {
			fn(value[1:len(value)-1], there)
		}
	}
	protocol.EachField(body, func(name, list []byte) bool {
		switch string(name) {
		case "results":
			protocol.EachElement(list, func(object []byte) bool {
				text(protocol.Field(object, "id"), true)
				return true
			})
		case "failed_ids", "pending_ids":
			protocol.EachElement(list, func(id []byte) bool {
				text(id, false)
				return true
			})
		}
		return true
	})
}
