package cache

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"flannel/protocol"
)

// Directory is the list of a workspace's users, or of its public channels, by name: what lists are paged from and what
// searches look through. It knows what protocol.ListEntry knows but for the sizes of channels, and is kept up to date by
// events for as long as the cache has it. Its methods may be called from any goroutine and do not wait for events.
//
// It has two parts: a segment, which is large and does not change, and what has changed since. Merge makes them one
// again; Due tells when it is time.
type Directory struct {
	// Static after construction.
	key     dirKey
	at      protocol.Position // events up to here are in the load
	until   protocol.Position // of the last page: events between at and here may be in it
	link    link
	numbers *numbers
	loaded  time.Time

	used  atomic.Int64
	bytes atomic.Int64
	// state is what readers see. Writers replace it, with mu held.
	mu    sync.Mutex
	state atomic.Pointer[dirState]
}

// dirKey names a directory.
type dirKey struct {
	workspace protocol.WorkspaceID
	kind      protocol.Kind // user or channel
}

// dirState does not change.
type dirState struct {
	base *segment
	// dead has the documents of base that changed tells of, in order.
	dead []uint32
	// changed is what has changed since base, in the order of names.
	changed []*change
}

// change is the newest state of one entry.
type change struct {
	number  uint32
	id      protocol.ObjectID
	version protocol.Version
	sum     uint64
	traits  Traits
	gone    bool
	name    string // folded
	words   []string
	mails   []string
}

const (
	// mergeAt is how many changes are merged: searches look at each of them, which takes 50 µs for so many.
	mergeAt = 512
	// maxChanged is how many changes a directory bears before it is given up: nobody merges them.
	maxChanged = 50_000
	// changeBytes is about what a change costs.
	changeBytes = 400
	// directoryOverhead is a Directory and its place in the table.
	directoryOverhead = 300
)

func newDirectory(key dirKey, base *segment, now int64) *Directory {
	d := &Directory{key: key, numbers: base.numbers}
	d.loaded = time.Unix(0, now)
	d.used.Store(now)
	d.put(&dirState{base: base})
	return d
}

func (d *Directory) lastUse() int64 { return d.used.Load() }

// put replaces the state. It wants mu, but in construction.
func (d *Directory) put(s *dirState) {
	d.state.Store(s)
	d.bytes.Store(int64(directoryOverhead + s.base.bytes() + changeBytes*len(s.changed)))
}

// Len returns how many users or channels there are.
func (d *Directory) Len() int {
	s := d.state.Load()
	n := s.base.len() - len(s.dead)
	for _, c := range s.changed {
		if !c.gone {
			n++
		}
	}
	return n
}

// Loaded tells when the load came.
func (d *Directory) Loaded() time.Time { return d.loaded }

// Due reports whether there are enough changes to be merged.
func (d *Directory) Due() bool { return len(d.state.Load().changed) >= mergeAt }

// Merge takes the changes into the large part, which takes a second for the largest workspaces. Searches and events go
// on meanwhile. It may be called by one goroutine at a time.
func (d *Directory) Merge() {
	old := d.state.Load()
	if len(old.changed) == 0 {
		return
	}
	r := rowsOf(old.base, old.dead)
	for _, c := range old.changed {
		if !c.gone {
			r.add(row{number: c.number, traits: c.traits, version: c.version, sum: c.sum}, []byte(c.name), c.words, c.mails)
		}
	}
	base := r.segment()
	d.mu.Lock()
	defer d.mu.Unlock()
	merged := make(map[*change]bool, len(old.changed))
	for _, c := range old.changed {
		merged[c] = true
	}
	s := &dirState{base: base}
	for _, c := range d.state.Load().changed {
		if merged[c] {
			continue
		}
		s.changed = append(s.changed, c)
		if doc, ok := base.docs.find(c.number); ok {
			s.dead = append(s.dead, uint32(doc))
		}
	}
	slices.Sort(s.dead)
	d.put(s)
}

// compare orders by sort name, then id.
func (c *change) compare(name string, id protocol.ObjectID) int {
	if c.name != name {
		if c.name < name {
			return -1
		}
		return 1
	}
	return compareText([]byte(c.id), string(id))
}

// sumOf is the sum of everything in an entry that a directory knows.
func sumOf(n *numbers, e *protocol.ListEntry) uint64 {
	var h maphash.Hash
	h.SetSeed(n.seed)
	for _, text := range [...]string{e.Name, e.RealName, e.DisplayName, e.SortName, e.Email} {
		h.WriteString(text)
		h.WriteByte(0)
	}
	h.WriteByte(byte(TraitsOf(e)))
	return h.Sum64()
}

// upsert brings the directory up to an event at p that made an entry so. Events that change nothing that a directory
// knows, as most do (a status, a picture), cost next to nothing.
func (d *Directory) upsert(e *protocol.ListEntry, p protocol.Position) {
	if p <= d.at {
		return
	}
	number := d.numbers.add(string(e.ID))
	sum := sumOf(d.numbers, e)
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.state.Load()
	version, was, known := s.find(number)
	if known && (version > e.Version || p <= d.until && version == e.Version || was == sum && !s.gone(number)) {
		return
	}
	names, mails := wordsOf(e, nil)
	d.replace(s, &change{number: number, id: e.ID, version: e.Version, sum: sum, traits: TraitsOf(e), name: e.SortName, words: names, mails: mails})
}

// remove takes an entry out as of an event at p.
func (d *Directory) remove(id protocol.ObjectID, v protocol.Version, p protocol.Position) {
	number, ok := d.numbers.find(string(id))
	if !ok || p <= d.at {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.state.Load()
	version, _, known := s.find(number)
	if !known || s.gone(number) || version > v {
		return
	}
	d.replace(s, &change{number: number, id: id, version: v, gone: true})
}

// find returns what is known of an entry.
func (s *dirState) find(number uint32) (version protocol.Version, sum uint64, known bool) {
	for _, c := range s.changed {
		if c.number == number {
			return c.version, c.sum, true
		}
	}
	if doc, ok := s.base.docs.find(number); ok {
		return s.base.versions[doc], s.base.sums[doc], true
	}
	return 0, 0, false
}

// gone reports whether an entry was taken out.
func (s *dirState) gone(number uint32) bool {
	return slices.ContainsFunc(s.changed, func(c *change) bool { return c.number == number && c.gone })
}

// replace puts a change in, instead of what was known before. It wants mu.
func (d *Directory) replace(s *dirState, n *change) {
	next := &dirState{base: s.base, dead: s.dead, changed: make([]*change, 0, len(s.changed)+1)}
	placed := false
	for _, c := range s.changed {
		if c.number == n.number {
			continue
		}
		if !placed && c.compare(n.name, n.id) > 0 {
			next.changed = append(next.changed, n)
			placed = true
		}
		next.changed = append(next.changed, c)
	}
	if !placed {
		next.changed = append(next.changed, n)
	}
	if doc, ok := s.base.docs.find(n.number); ok {
		if i, dead := slices.BinarySearch(s.dead, uint32(doc)); !dead {
			next.dead = slices.Insert(slices.Clone(s.dead), i, uint32(doc))
		}
	}
	d.state.Store(next)
	d.bytes.Add(changeBytes * int64(len(next.changed)-len(s.changed)))
}

// overfull reports whether changes came that nobody merged.
func (d *Directory) overfull() bool { return len(d.state.Load().changed) > maxChanged }
