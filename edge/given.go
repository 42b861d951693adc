package edge

import (
	"hash/maphash"
	"slices"
	"sync"

	"flannel/protocol"
)

// maxGiven is how many objects a session is remembered to have been given: the people and channels of a few busy screens.
const maxGiven = 256

var givenSeed = maphash.MakeSeed()

// given are the objects that a session was given lately, as hashes of their ids: 4 bytes each. Two ids with one hash are
// one in four billion; then an object is not sent that the client can ask for. The zero value is ready to use.
type given struct {
	mu   sync.Mutex
	ring []uint32
	next int
}

func hashID(id protocol.ObjectID) uint32 { return uint32(maphash.String(givenSeed, string(id))) }

func (g *given) has(id protocol.ObjectID) bool {
	h := hashID(id)
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Contains(g.ring, h)
}

// add remembers an object; the oldest is forgotten for it.
func (g *given) add(id protocol.ObjectID) {
	h := hashID(id)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case slices.Contains(g.ring, h):
	case len(g.ring) < maxGiven:
		g.ring = append(g.ring, h)
	default:
		g.ring[g.next] = h
		g.next = (g.next + 1) % maxGiven
	}
}

// asked remembers the ids in the updated_ids of a query: what the client has now, or is given with the answer.
func (g *given) asked(args []byte) {
	n := 0
	protocol.EachField(protocol.Field(args, "updated_ids"), func(name, _ []byte) bool {
		g.add(protocol.ObjectID(name))
		n++
		return n < maxGiven
	})
}
