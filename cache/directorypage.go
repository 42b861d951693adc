package cache

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"

	"flannel/protocol"
)

// Listed is one entry of a page. Entries are in the order of Name, then ID, or of ID alone.
type Listed struct {
	Name string // folded; empty in a page by id
	ID   protocol.ObjectID
}

// Page returns up to limit entries behind after, in an order, and whether there are more: of the kinds wanted, and of
// those in among if it is not nil.
func (d *Directory) Page(order protocol.ListOrder, after Listed, kinds Kinds, among *People, limit int) (page []Listed, more bool) {
	s := d.state.Load()
	w := pageWalk{s: s, ids: d.numbers.view(), order: order, kinds: kinds}
	if among != nil {
		w.among = among.in(d.numbers)
	}
	w.begin(after)
	page = make([]Listed, 0, min(limit, 1000))
	for {
		next, ok := w.next()
		if !ok {
			return page, false
		}
		if len(page) == limit {
			return page, true
		}
		page = append(page, next)
	}
}

// Has reports whether id is in the directory.
func (d *Directory) Has(id protocol.ObjectID) bool {
	number, ok := d.numbers.find(string(id))
	if !ok {
		return false
	}
	s := d.state.Load()
	_, _, known := s.find(number)
	return known && !s.gone(number)
}

// pageWalk goes along a directory: the segment and the changes, merged.
type pageWalk struct {
	s     *dirState
	ids   numberView
	order protocol.ListOrder
	kinds Kinds
	among *People

	few     bitset // of among, if there are few
	at      int    // place of the next document
	changed []*change
	doc     int // the next document that is wanted; -1 if it is to be looked for
}

// begin goes behind after.
func (w *pageWalk) begin(after Listed) {
	base := w.s.base
	w.doc = -1
	if w.among != nil && w.among.Len() <= smallPeople {
		w.few.of(base, w.among)
	}
	passed := func(c *change) bool { return after.ID != "" && c.compare(after.Name, after.ID) <= 0 }
	if w.order == protocol.ByID {
		passed = func(c *change) bool { return c.id <= after.ID }
	}
	for _, c := range w.s.changed {
		if !c.gone && w.kinds.Has(c.traits) && (w.among == nil || w.among.bits.Contains(c.number)) && !passed(c) {
			w.changed = append(w.changed, c)
		}
	}
	if w.order == protocol.ByID {
		slices.SortFunc(w.changed, func(a, b *change) int { return strings.Compare(string(a.id), string(b.id)) })
	}
	if after.ID == "" {
		return
	}
	if w.order == protocol.ByID {
		w.at = base.placeID(after.ID)
	} else {
		w.at = base.place(after.Name, after.ID)
	}
	if w.at < base.len() && string(w.ids.id(base.of[w.place(w.at)])) == string(after.ID) &&
		(w.order == protocol.ByID || string(base.names.at(w.at)) == after.Name) {
		w.at++
	}
}

// place returns the document at a place of the order.
func (w *pageWalk) place(i int) int {
	if w.order == protocol.ByID {
		return int(w.s.base.byID[i])
	}
	return i
}

func (w *pageWalk) next() (Listed, bool) {
	base := w.s.base
	if w.doc < 0 {
		w.doc = w.nextDoc()
	}
	if w.doc == base.len() && len(w.changed) == 0 {
		return Listed{}, false
	}
	if len(w.changed) > 0 && (w.doc == base.len() || w.compare(w.changed[0], w.doc) < 0) {
		c := w.changed[0]
		w.changed = w.changed[1:]
		return w.listed(c.name, string(c.id)), true
	}
	doc := w.doc
	w.doc = -1
	name := ""
	if w.order != protocol.ByID {
		name = string(base.names.at(doc))
	}
	return w.listed(name, string(w.ids.id(base.of[doc]))), true
}

func (w *pageWalk) listed(name, id string) Listed {
	if w.order == protocol.ByID {
		name = ""
	}
	return Listed{Name: name, ID: protocol.ObjectID(id)}
}

// compare orders a change and a document.
func (w *pageWalk) compare(c *change, doc int) int {
	base := w.s.base
	byID := -compareText(w.ids.id(base.of[doc]), string(c.id))
	if w.order == protocol.ByID {
		return byID
	}
	return cmp.Or(-compareText(base.names.at(doc), c.name), byID)
}

// nextDoc returns the next document that is wanted, or how many there are.
func (w *pageWalk) nextDoc() int {
	base := w.s.base
	for w.at < base.len() {
		if w.few != nil && w.order != protocol.ByID && !w.skip() {
			break
		}
		doc := w.place(w.at)
		w.at++
		if !w.kinds.Has(base.traits[doc]) {
			continue
		}
		if w.few != nil {
			if !w.few.has(uint32(doc)) {
				continue
			}
		} else if w.among != nil && !w.among.bits.Contains(base.of[doc]) {
			continue
		}
		if _, dead := slices.BinarySearch(w.s.dead, uint32(doc)); !dead {
			return doc
		}
	}
	return base.len()
}

// skip goes to the next of few; there may be none.
func (w *pageWalk) skip() bool {
	for i := w.at / 64; i < len(w.few); i++ {
		word := w.few[i]
		if i == w.at/64 {
			word &= ^uint64(0) << (w.at % 64)
		}
		if word != 0 {
			w.at = 64*i + bits.TrailingZeros64(word)
			return true
		}
	}
	return false
}

// Count returns how many of people are in the directory, by their traits.
func (d *Directory) Count(people *People) (by [numTraits]int) {
	s, p := d.state.Load(), people.in(d.numbers)
	for t, k := range s.base.kinds {
		if k != nil {
			by[t] = int(p.bits.AndCardinality(k))
		}
	}
	for _, doc := range s.dead {
		if p.bits.Contains(s.base.of[doc]) {
			by[s.base.traits[doc]]--
		}
	}
	for _, c := range s.changed {
		if !c.gone && p.bits.Contains(c.number) {
			by[c.traits]++
		}
	}
	return by
}

// Others returns those of people who are not in the directory: who belongs to another workspace.
func (d *Directory) Others(people *People) *People {
	s, p := d.state.Load(), people.in(d.numbers)
	left := roaring.AndNot(p.bits, s.base.known)
	for _, c := range s.changed {
		switch {
		case !c.gone:
			left.Remove(c.number)
		case p.bits.Contains(c.number):
			left.Add(c.number)
		}
	}
	return &People{numbers: d.numbers, bits: left}
}
