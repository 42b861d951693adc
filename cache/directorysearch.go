package cache

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"
	"sync"

	"flannel/protocol"
)

// Query is what is searched in a directory.
type Query struct {
	// Words are folded (protocol.SearchWords); each must begin a word of what is found. Without words all is found.
	Words []string
	// Email: the words of e-mail addresses count too.
	Email bool
	// Fuzz: if too little begins so, words are also found that do with typing errors.
	Fuzz bool
	// Kinds are the ones that are wanted.
	Kinds Kinds
	// Top are first among what is found, in this order.
	Top []protocol.ObjectID
	// Near come next; nil: nobody.
	Near *People
	// Among: only these are found; nil: all.
	Among *People
	// Extra is searched besides: entries that are not in the directory.
	Extra []protocol.ListEntry
	// Limit is how many are wanted.
	Limit int
}

// Ranks of what is found, best first. Whom the client thinks of (Top), and who is near, come before others also if only
// the beginning of a word fits; but nobody whose name does not fit comes before somebody whose name does.
const (
	rankTop = iota
	rankNearExact
	rankNear
	rankExact
	rankPrefix
	rankFuzzy // and so on: top, near, others
	rankFuzzyNear
	rankFuzzyRest
)

// hit is one thing found.
type hit struct {
	rank   int
	top    int // place in Top
	heard  uint32
	name   []byte
	id     []byte
	change *change // nil for a document of the segment
}

func (a *hit) compare(b *hit) int {
	if c := cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.top, b.top), cmp.Compare(b.heard, a.heard)); c != 0 {
		return c
	}
	return cmp.Or(slices.Compare(a.name, b.name), slices.Compare(a.id, b.id))
}

// searching is the scratch space of one search.
type searching struct {
	q       *Query
	s       *dirState
	ids     numberView
	heard   heardView
	all     bitset // what fits
	exact   bitset // of that, where every word is whole
	found   bitset // what fitted without typing errors
	one     bitset
	near    bitset
	among   bitset
	best    []ranked
	hits    []hit
	top     []uint32 // documents of Query.Top, and noDoc
	fuzzies []*fuzzy
	changed []*change
	nearby  *People // Query.Near, by the numbers of the segment
	only    *People // Query.Among too, if there are many; else they are in among
	few     bool
}

// noDoc stands for what is not in the segment, or has no number.
const noDoc = ^uint32(0)

// ranked is a document that fits, and when it was heard of.
type ranked struct{ doc, heard uint32 }

var searchings = sync.Pool{New: func() any { return new(searching) }}

// Search returns the ids of what fits best in a directory, which may be nil, and in Query.Extra, best first: whole words
// before beginnings, those before words with typing errors, and within each as Query says, then those who spoke last, or
// were spoken in, as far as the cache has heard, then by name.
func (c *Cache) Search(d *Directory, q *Query) []protocol.ObjectID {
	if d == nil {
		return search(&dirState{base: newRows(c.numbers.Load()).segment()}, q)
	}
	return search(d.state.Load(), q)
}

func search(s *dirState, q *Query) []protocol.ObjectID {
	x := searchings.Get().(*searching)
	defer func() {
		clear(x.hits)
		clear(x.changed)
		x.hits, x.changed = x.hits[:0], x.changed[:0]
		x.q, x.s, x.ids, x.heard, x.fuzzies, x.nearby, x.only, x.few = nil, nil, numberView{}, nil, nil, nil, nil, false
		searchings.Put(x)
	}()
	x.q, x.s = q, s
	x.begin()
	x.match()
	x.collect(rankTop, rankNearExact, rankNear, rankExact, rankPrefix)
	x.changes(false)
	if q.Fuzz && len(x.hits) < q.Limit && len(q.Words) > 0 {
		x.fuzz()
		x.collect(rankFuzzy, rankFuzzyNear, rankFuzzyNear, rankFuzzyRest, rankFuzzyRest)
		x.changes(true)
	}
	slices.SortFunc(x.hits, func(a, b hit) int { return a.compare(&b) })
	n := min(len(x.hits), q.Limit)
	found := make([]protocol.ObjectID, n)
	for i := range n {
		found[i] = protocol.ObjectID(x.hits[i].id)
	}
	return found
}

func (x *searching) begin() {
	base, q := x.s.base, x.q
	n := base.numbers
	x.ids, x.heard = n.view(), n.heard.view()
	if base.len() > 0 && q.Near != nil {
		x.nearby = q.Near.in(n)
	}
	if base.len() > 0 && q.Among != nil {
		if x.only = q.Among.in(n); x.only.Len() <= smallPeople {
			x.among.of(base, x.only)
			x.only = nil
			x.few = true
		}
	}
	x.changed = append(x.changed[:0], x.s.changed...)
	for i := range q.Extra {
		e := &q.Extra[i]
		names, mails := wordsOf(e, nil)
		number, ok := n.find(string(e.ID))
		if !ok {
			number = noDoc
		}
		x.changed = append(x.changed, &change{number: number, id: e.ID, traits: TraitsOf(e), name: e.SortName, words: names, mails: mails})
	}
	x.top = x.top[:0]
	for _, id := range q.Top {
		doc := noDoc
		if number, ok := n.find(string(id)); ok {
			if at, ok := base.docs.find(number); ok {
				doc = uint32(at)
			}
		}
		x.top = append(x.top, doc)
	}
}

// match finds the documents whose words begin with those of the query.
func (x *searching) match() {
	base, q := x.s.base, x.q
	n := base.len()
	x.all.fill(n)
	x.exact.fill(n)
	for _, w := range q.Words {
		x.one.clear(n)
		exactly := [2][]uint32{}
		for k, index := range x.indexes() {
			from, to := index.prefix(w)
			x.one.set(index.posting(from, to))
			if from < to && string(index.words.at(from)) == w {
				exactly[k] = index.posting(from, from+1)
			}
		}
		x.all.and(x.one)
		x.one.clear(n)
		x.one.set(exactly[0])
		x.one.set(exactly[1])
		x.exact.and(x.one)
	}
	if len(q.Words) == 0 {
		x.exact.clear(n)
	}
	x.narrow()
	x.found.clear(n)
	x.found.or(x.all)
}

// narrow leaves out what must not be found.
func (x *searching) narrow() {
	if x.few {
		x.all.and(x.among)
	}
	for _, doc := range x.s.dead {
		x.all.unset(doc)
	}
	x.exact.and(x.all)
}

func (x *searching) indexes() []*wordIndex {
	if x.q.Email {
		return []*wordIndex{&x.s.base.words, &x.s.base.mails}
	}
	return []*wordIndex{&x.s.base.words}
}

// fuzz finds the documents whose words begin with those of the query with typing errors, and were not found yet.
func (x *searching) fuzz() {
	n := x.s.base.len()
	x.all.fill(n)
	for _, w := range x.q.Words {
		f := newFuzzy(w)
		x.fuzzies = append(x.fuzzies, f)
		x.one.clear(n)
		for _, index := range x.indexes() {
			from, to := index.prefix(w)
			x.one.set(index.posting(from, to))
			if f != nil {
				f.all(index, func(from, to int) { x.one.set(index.posting(from, to)) })
			}
		}
		x.all.and(x.one)
	}
	x.all.without(x.found)
	x.exact.clear(n)
	x.narrow()
}

// collect turns the best documents into hits, with these ranks. It stops when there are enough.
func (x *searching) collect(top, nearExact, near, exact, rest int) {
	q, base := x.q, x.s.base
	have := 0
	wanted := func(doc uint32) bool {
		return q.Kinds.Has(base.traits[doc]) && (x.only == nil || x.only.bits.Contains(base.of[doc]))
	}
	taken := func(doc uint32, rank, place int) {
		x.all.unset(doc)
		x.exact.unset(doc)
		number := base.of[doc]
		x.hits = append(x.hits, hit{rank: rank, top: place, heard: x.heard.at(number), name: base.names.at(int(doc)), id: x.ids.id(number)})
		have++
	}
	for i, doc := range x.top {
		if doc != noDoc && x.all.has(doc) && wanted(doc) {
			taken(doc, top, i)
		}
	}
	// walk takes those of set that were heard of last, then, as they come, by name. Of the first most it takes only whom
	// want wants, and looks no further; with want nil it looks further only if there are not enough yet.
	walk := func(set bitset, rank, most int, want func(doc uint32) bool) {
		best, room, looked := x.best[:0], q.Limit-have, 0
		if room <= 0 {
			return
		}
		set.each(func(doc uint32) bool {
			full := len(best) == room
			if looked == most && want != nil || full && (looked >= most || x.heard == nil) {
				return false
			}
			looked++
			r := ranked{doc, x.heard.at(base.of[doc])}
			if full && r.heard <= best[room-1].heard || !wanted(doc) || want != nil && !want(doc) {
				return true
			}
			if full {
				best = best[:room-1]
			}
			at := len(best)
			for at > 0 && best[at-1].heard < r.heard {
				at--
			}
			best = slices.Insert(best, at, r)
			return true
		})
		x.best = best
		for _, r := range best {
			taken(r.doc, rank, 0)
		}
	}
	if x.nearby != nil && !x.nearby.bits.IsEmpty() {
		if x.nearby.Len() <= smallPeople {
			x.near.of(base, x.nearby)
			walk(x.exact, nearExact, base.len(), x.near.has)
			walk(x.all, near, base.len(), x.near.has)
		} else {
			in := func(doc uint32) bool { return x.nearby.bits.Contains(base.of[doc]) }
			walk(x.exact, nearExact, maxNear, in)
			walk(x.all, near, maxNear, in)
		}
	}
	walk(x.exact, exact, maxHeard, nil)
	walk(x.all, rest, maxHeard, nil)
}

const (
	// smallPeople is up to how many people are looked up one by one, rather than asked about each document that fits.
	smallPeople = 4096
	// maxNear bounds how many documents are asked whether they are near, where many are.
	maxNear = 8192
	// maxHeard bounds how many documents are asked when they were heard of: more than the largest workspace known has,
	// and a millisecond. Those behind are taken as they come, by name.
	maxHeard = 1 << 18
)

// changes looks at what has changed since the segment was made, and at Query.Extra.
func (x *searching) changes(fuzzy bool) {
	q := x.q
	for _, c := range x.changed {
		if c.gone || !q.Kinds.Has(c.traits) || q.Among != nil && !q.Among.Contains(c.id) {
			continue
		}
		all, exact := x.fits(c, false)
		if fuzzy {
			if all {
				continue // Found before.
			}
			all, exact = x.fits(c, true)
		}
		if !all {
			continue
		}
		h := hit{heard: x.heard.at(c.number), name: []byte(c.name), id: []byte(c.id), change: c}
		near := q.Near != nil && q.Near.Contains(c.id)
		place := slices.Index(q.Top, c.id)
		switch {
		case place >= 0:
			h.rank, h.top = rankTop, place
		case near && exact:
			h.rank = rankNearExact
		case near:
			h.rank = rankNear
		case exact:
			h.rank = rankExact
		default:
			h.rank = rankPrefix
		}
		if fuzzy {
			h.rank = map[int]int{rankTop: rankFuzzy, rankNear: rankFuzzyNear, rankPrefix: rankFuzzyRest}[h.rank]
		}
		x.hits = append(x.hits, h)
	}
}

// fits reports whether every word of the query begins a word of c, with or without typing errors, and whether every one
// of them is whole.
func (x *searching) fits(c *change, fuzzy bool) (all, exact bool) {
	exact = len(x.q.Words) > 0 && !fuzzy
	for i, w := range x.q.Words {
		begins, whole := false, false
		look := func(words []string) {
			for _, have := range words {
				if strings.HasPrefix(have, w) || fuzzy && x.fuzzies[i] != nil && x.fuzzies[i].matches(have) {
					begins = true
					whole = whole || len(have) == len(w)
				}
			}
		}
		look(c.words)
		if x.q.Email {
			look(c.mails)
		}
		if !begins {
			return false, false
		}
		exact = exact && whole
	}
	return true, exact
}

// bitset is a set of documents.
type bitset []uint64

// clear makes the set an empty one of n documents.
func (b *bitset) clear(n int) {
	words := (n + 63) / 64
	if cap(*b) < words {
		*b = make(bitset, words)
		return
	}
	*b = (*b)[:words]
	clear(*b)
}

// fill makes the set one of all n documents.
func (b *bitset) fill(n int) {
	b.clear(n)
	for i := range *b {
		(*b)[i] = ^uint64(0)
	}
	if n%64 != 0 {
		(*b)[len(*b)-1] = 1<<(n%64) - 1
	}
}

// of makes the set the documents of people.
func (b *bitset) of(s *segment, p *People) {
	b.clear(s.len())
	for it := p.bits.Iterator(); it.HasNext(); {
		if doc, ok := s.docs.find(it.Next()); ok {
			(*b)[doc/64] |= 1 << (doc % 64)
		}
	}
}

func (b bitset) set(docs []uint32) {
	for _, doc := range docs {
		b[doc/64] |= 1 << (doc % 64)
	}
}

func (b bitset) unset(doc uint32)    { b[doc/64] &^= 1 << (doc % 64) }
func (b bitset) has(doc uint32) bool { return b[doc/64]&(1<<(doc%64)) != 0 }

func (b bitset) and(c bitset) {
	for i := range b {
		b[i] &= c[i]
	}
}

func (b bitset) or(c bitset) {
	for i := range b {
		b[i] |= c[i]
	}
}

func (b bitset) without(c bitset) {
	for i := range b {
		b[i] &^= c[i]
	}
}

// each calls fn for every document in order until it returns false. fn may take out what it was called for.
func (b bitset) each(fn func(doc uint32) bool) {
	for i := range b {
		for w := b[i]; w != 0; w &= w - 1 {
			if !fn(uint32(64*i + bits.TrailingZeros64(w))) {
				return
			}
		}
	}
}
