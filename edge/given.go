package edge

import (
	"hash/maphash"
	"slices"
	"sync"

	"flannel/protocol"
)

// maxGiven is about how many objects a session is remembered to have been given: the people and channels of a few busy
// screens.
const maxGiven = 256

var idSeed = maphash.MakeSeed()

// hashID stands for an id where many are kept or compared: 4 bytes, and never 0. Two ids with one hash are one in four
// billion; then an object is not sent that the client can ask for, or an event that a badge would have stood for.
func hashID[S ~string](id S) uint32 { return max(1, uint32(maphash.String(idSeed, string(id)))) }

// given are the objects that a session was given lately, as hashes of their ids. The zero value is ready to use.
//
// It is a set of small buckets, so that a look reads one line of memory, whoever's session it is: events are delivered to
// thousands of sessions one after the other, and each line that is not in the processor's cache costs as much as all the
// rest. A bucket that is full makes the table larger up to maxGiven; then it forgets its oldest.
type given struct {
	mu    sync.Mutex
	table []uint32 // buckets of givenWays, the newest first; 0: free
}

const givenWays = 8

func (g *given) bucketLocked(h uint32) []uint32 {
	if len(g.table) == 0 {
		return nil
	}
	at := int(h>>8) % (len(g.table) / givenWays) * givenWays
	return g.table[at : at+givenWays]
}

func (g *given) hasLocked(h uint32) bool { return slices.Contains(g.bucketLocked(h), h) }

func (g *given) has(id protocol.ObjectID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.hasLocked(hashID(id))
}

// without returns those of ids, whose hashes are given, that it does not have, and that are not self.
func (g *given) without(ids []protocol.ObjectID, hashes []uint32, self uint32) (left []protocol.ObjectID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, id := range ids {
		if h := hashes[i]; h != self && !g.hasLocked(h) {
			left = append(left, id)
		}
	}
	return left
}

// add remembers an object.
func (g *given) add(id protocol.ObjectID) { g.addHash(hashID(id)) }

// addName is add for an id in a buffer.
func (g *given) addName(id []byte) { g.addHash(max(1, uint32(maphash.Bytes(idSeed, id)))) }

func (g *given) addHash(h uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.addLocked(h)
}

func (g *given) addLocked(h uint32) {
	for {
		bucket := g.bucketLocked(h)
		switch {
		case slices.Contains(bucket, h):
			return
		case bucket != nil && (bucket[givenWays-1] == 0 || len(g.table) >= maxGiven):
			copy(bucket[1:], bucket)
			bucket[0] = h
			return
		}
		old := g.table
		g.table = make([]uint32, max(givenWays, 2*len(old)))
		for _, h := range slices.Backward(old) { // The oldest of a bucket first.
			if h != 0 {
				g.addLocked(h)
			}
		}
	}
}

// join remembers what another one does, which nobody else uses.
func (g *given) join(other *given) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, h := range other.table {
		if h != 0 {
			g.addLocked(h)
		}
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
