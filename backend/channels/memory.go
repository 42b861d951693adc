package channels

import (
	"cmp"
	"iter"
	"sort"
	"sync"
	"time"

	"flannel/protocol"
)

// Entry is an event on its way out. It is immutable and shared.
type Entry struct {
	*protocol.Event
	at   time.Time
	size int

	encode  sync.Once
	encoded []byte
}

// byPosition orders entries as they were committed.
func byPosition(a, b *Entry) int { return cmp.Compare(a.Position, b.Position) }

// overhead is about what an event costs beside its payload and its objects: the struct, its strings, its places in
// slices, in bytes.
const overhead = 400

func newEntry(ev *protocol.Event, at time.Time) *Entry {
	size := overhead + len(ev.Payload)
	for i := range ev.Effects {
		size += overhead / 2
		if o := ev.Effects[i].Object; o != nil {
			size += len(o.Body)
		}
	}
	return &Entry{Event: ev, at: at, size: 2 * size} // Twice, because JSON keeps its result.
}

// JSON returns the event as the upstream contract writes it, encoded once however many streams it goes to.
func (e *Entry) JSON() []byte {
	e.encode.Do(func() { e.encoded = protocol.MustMarshal(e.Event) })
	return e.encoded
}

// memory holds the latest events in commit order.
type memory struct {
	entries []*Entry
	bytes   int
	// floor: every event above this position is in memory.
	floor protocol.Position
}

func (m *memory) add(e *Entry) {
	m.entries = append(m.entries, e)
	m.bytes += e.size
}

// evict yields and forgets whole commits from the old end until everything left is within the bounds.
func (m *memory) evict(oldest time.Time, events, bytes int) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for len(m.entries) > 0 {
			e := m.entries[0]
			// The rest of a commit that has begun to go must go too: floor stands at its position.
			if e.Position > m.floor && !e.at.Before(oldest) && len(m.entries) <= events && m.bytes <= bytes {
				return
			}
			m.floor = e.Position
			m.bytes -= e.size
			m.entries[0] = nil
			m.entries = m.entries[1:]
			if !yield(e) {
				return
			}
		}
	}
}

// above returns the topic's events in memory after a position.
func (t *topic) above(p protocol.Position) []*Entry {
	return t.events[sort.Search(len(t.events), func(i int) bool { return t.events[i].Position > p }):]
}

// after returns the topic's events in memory after a seq.
func (t *topic) after(seq protocol.Seq) []*Entry {
	return t.events[sort.Search(len(t.events), func(i int) bool { return t.events[i].Seq > seq }):]
}
