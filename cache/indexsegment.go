package cache

import (
	"bytes"
	"cmp"
	"slices"
	"sort"
	"strings"
	"unsafe"

	"github.com/RoaringBitmap/roaring/v2"

	"flannel/protocol"
)

// segment is the large part of a directory: it does not change. Its documents, the users or channels, are numbered in
// the order of their names, so that a list of documents in order is a list of names in order. It holds no pointer for
// each document, and no string: only a few arrays.
type segment struct {
	numbers  *numbers
	of       []uint32 // by document: the number of its id
	versions []protocol.Version
	sums     []uint64 // of all that is searched and listed by
	traits   []Traits
	names    texts    // folded sort names
	byID     []uint32 // documents in the order of their ids
	docs     docTable
	known    *roaring.Bitmap // numbers of all documents
	// kinds parts known by traits; nil where there is none.
	kinds [numTraits]*roaring.Bitmap
	words wordIndex // of names
	mails wordIndex // of e-mail addresses, words that are not in the document's names
}

func (s *segment) len() int { return len(s.of) }

// bytes returns about what the segment costs, without the numbering.
func (s *segment) bytes() int {
	n := int(unsafe.Sizeof(*s)) + 4*cap(s.of) + 8*cap(s.versions) + 8*cap(s.sums) + cap(s.traits) + 4*cap(s.byID) +
		s.names.bytes() + s.docs.bytes() + s.words.bytes() + s.mails.bytes() + bitmapBytes(s.known)
	for _, k := range s.kinds {
		if k != nil {
			n += bitmapBytes(k)
		}
	}
	return n
}

// place returns the first document at or behind a sort name and id.
func (s *segment) place(name string, id protocol.ObjectID) int {
	v := s.numbers.view()
	return sort.Search(s.len(), func(doc int) bool {
		if c := compareText(s.names.at(doc), name); c != 0 {
			return c > 0
		}
		return compareText(v.id(s.of[doc]), string(id)) >= 0
	})
}

// placeID returns the first place in byID at or behind an id.
func (s *segment) placeID(id protocol.ObjectID) int {
	v := s.numbers.view()
	return sort.Search(s.len(), func(i int) bool { return compareText(v.id(s.of[s.byID[i]]), string(id)) >= 0 })
}

// compareText is strings.Compare of bytes and a string, without a copy.
func compareText(a []byte, b string) int {
	switch {
	case string(a) < b:
		return -1
	case string(a) == b:
		return 0
	default:
		return 1
	}
}

// texts is a list of short texts in one piece.
type texts struct {
	arena []byte
	ends  []uint32
}

func (t *texts) at(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = t.ends[i-1]
	}
	return t.arena[start:t.ends[i]]
}

func (t *texts) add(text []byte) {
	t.arena = append(t.arena, text...)
	t.ends = append(t.ends, uint32(len(t.arena)))
}

func (t *texts) bytes() int { return cap(t.arena) + 4*cap(t.ends) }

// clip gives back what was allocated too much.
func (t *texts) clip() { t.arena, t.ends = exact(t.arena), exact(t.ends) }

// exact returns a copy without spare room, if there is much of it.
func exact[T any](s []T) []T {
	if cap(s)-len(s) <= len(s)/16 {
		return s
	}
	return append(make([]T, 0, len(s)), s...)
}

// docBlock is how many numbers one block of a docTable has: those of one workspace are given in runs.
const docBlock = 1024

// docTable finds the document that has a number.
type docTable [][]uint32 // blocks of documents and 1; nil where there are none

func (t docTable) find(number uint32) (doc int, ok bool) {
	b := int(number / docBlock)
	if b >= len(t) || t[b] == nil {
		return 0, false
	}
	d := t[b][number%docBlock]
	return int(d) - 1, d != 0
}

func newDocTable(of []uint32) docTable {
	if len(of) == 0 {
		return nil
	}
	t := make(docTable, slices.Max(of)/docBlock+1)
	for doc, number := range of {
		b := number / docBlock
		if t[b] == nil {
			t[b] = make([]uint32, docBlock)
		}
		t[b][number%docBlock] = uint32(doc + 1)
	}
	return t
}

func (t docTable) bytes() int {
	n := 24 * cap(t)
	for _, b := range t {
		n += 4 * cap(b)
	}
	return n
}

// bitmapBytes is about what a bitmap costs in memory.
func bitmapBytes(b *roaring.Bitmap) int {
	return bitmapOverhead + int(b.GetSizeInBytes())*5/4
}

// bitmapOverhead is the Bitmap with the header of one container.
const bitmapOverhead = 150

// wordIndex tells which documents have which words.
type wordIndex struct {
	words texts // in order, each once
	// posts has the documents of each word, in order; those of word i end at ends[i].
	posts []uint32
	ends  []uint32
}

func (x *wordIndex) bytes() int { return x.words.bytes() + 4*(cap(x.posts)+cap(x.ends)) }

// posting returns the documents of a run of words.
func (x *wordIndex) posting(from, to int) []uint32 {
	start := uint32(0)
	if from > 0 {
		start = x.ends[from-1]
	}
	if to == 0 {
		return nil
	}
	return x.posts[start:x.ends[to-1]]
}

// prefix returns the run of words that begin so.
func (x *wordIndex) prefix(p string) (from, to int) {
	n := len(x.ends)
	from = sort.Search(n, func(i int) bool { return compareText(x.words.at(i), p) >= 0 })
	to = from + sort.Search(n-from, func(i int) bool {
		w := x.words.at(from + i)
		return len(w) < len(p) || string(w[:len(p)]) != p
	})
	return from, to
}

// row is one entry that goes into a segment.
type row struct {
	number   uint32
	traits   Traits
	version  protocol.Version
	sum      uint64
	name     [2]uint32 // where the sort name is in rows.names
	from, to uint32    // where the words are in rows.fwd
}

// rows are what a segment is made of, best in the order of ids.
type rows struct {
	numbers *numbers
	list    []row
	names   []byte
	words   []string // each once
	wordID  map[string]uint32
	fwd     []uint32 // places in words; twice that, and 1 if it is an e-mail word only
}

func newRows(n *numbers) *rows { return &rows{numbers: n, wordID: make(map[string]uint32)} }

// add takes a row in. It copies what it is given.
func (r *rows) add(w row, name []byte, names, mails []string) {
	w.name[0] = uint32(len(r.names))
	r.names = append(r.names, name...)
	w.name[1] = uint32(len(r.names))
	w.from = uint32(len(r.fwd))
	for _, word := range names {
		r.fwd = append(r.fwd, 2*r.word(word))
	}
	for _, word := range mails {
		r.fwd = append(r.fwd, 2*r.word(word)+1)
	}
	w.to = uint32(len(r.fwd))
	r.list = append(r.list, w)
}

func (r *rows) word(w string) uint32 {
	i, ok := r.wordID[w]
	if !ok {
		i = uint32(len(r.words))
		w = strings.Clone(w) // It may be a part of something large.
		r.words, r.wordID[w] = append(r.words, w), i
	}
	return i
}

// segment puts the rows in order. No id may be in them twice.
func (r *rows) segment() *segment {
	v := r.numbers.view()
	slices.SortFunc(r.list, func(a, b row) int { return v.compare(a.number, b.number) })
	n := len(r.list)
	order := make([]uint32, n) // rows by name
	for i := range order {
		order[i] = uint32(i)
	}
	name := func(i uint32) []byte { return r.names[r.list[i].name[0]:r.list[i].name[1]] }
	slices.SortFunc(order, func(a, b uint32) int {
		if c := bytes.Compare(name(a), name(b)); c != 0 {
			return c
		}
		return cmp.Compare(a, b) // They are in the order of ids.
	})
	s := &segment{
		numbers: r.numbers, of: make([]uint32, n), versions: make([]protocol.Version, n), sums: make([]uint64, n), traits: make([]Traits, n),
		byID: make([]uint32, n), names: texts{arena: make([]byte, 0, len(r.names)), ends: make([]uint32, 0, n)},
		known: roaring.New(),
	}
	var byTraits [numTraits][]uint32
	for doc, i := range order {
		w := &r.list[i]
		s.of[doc], s.versions[doc], s.sums[doc], s.traits[doc], s.byID[i] = w.number, w.version, w.sum, w.traits, uint32(doc)
		s.names.add(name(i))
		byTraits[w.traits] = append(byTraits[w.traits], w.number)
	}
	for t, list := range byTraits {
		if len(list) > 0 {
			slices.Sort(list)
			s.kinds[t] = roaring.BitmapOf(list...)
			s.kinds[t].RunOptimize()
			s.known.Or(s.kinds[t])
		}
	}
	s.known.RunOptimize()
	s.docs = newDocTable(s.of)
	s.words, s.mails = r.index(order)
	return s
}

// index makes the indexes of names and of addresses. docs has the row of each document.
func (r *rows) index(docs []uint32) (names, mails wordIndex) {
	order := make([]uint32, len(r.words))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return strings.Compare(r.words[a], r.words[b]) })
	used := [2][]uint32{make([]uint32, len(r.words)), make([]uint32, len(r.words))}
	for i := range r.list {
		for _, f := range r.fwd[r.list[i].from:r.list[i].to] {
			used[f&1][f/2]++
		}
	}
	var x [2]wordIndex
	for k := range x {
		at := used[k] // From here on: where the next posting of a word goes.
		total := uint32(0)
		for _, i := range order {
			n := at[i]
			at[i] = total
			if n > 0 {
				total += n
				x[k].words.add([]byte(r.words[i]))
				x[k].ends = append(x[k].ends, total)
			}
		}
		x[k].words.clip()
		x[k].ends = exact(x[k].ends)
		x[k].posts = make([]uint32, total)
	}
	for doc, i := range docs {
		for _, f := range r.fwd[r.list[i].from:r.list[i].to] {
			k, at := f&1, &used[f&1][f/2]
			x[k].posts[*at] = uint32(doc)
			*at++
		}
	}
	return x[0], x[1]
}

// rowsOf makes rows of a segment's documents again, but for those that are left out.
func rowsOf(s *segment, leaveOut []uint32) *rows {
	n := s.len()
	r := newRows(s.numbers)
	r.list = make([]row, 0, n+n/16)
	r.names = append(make([]byte, 0, len(s.names.arena)+len(s.names.arena)/16), s.names.arena...)
	count := make([]uint32, n+1)
	for _, x := range [...]*wordIndex{&s.words, &s.mails} {
		for _, doc := range x.posts {
			count[doc+1]++
		}
	}
	for doc := range n {
		count[doc+1] += count[doc]
	}
	next := slices.Clone(count)
	r.fwd = make([]uint32, count[n], count[n]+count[n]/16)
	for k, x := range [...]*wordIndex{&s.words, &s.mails} {
		all := string(x.words.arena) // One piece for all words.
		for i := range x.ends {
			start := uint32(0)
			if i > 0 {
				start = x.words.ends[i-1]
			}
			w := all[start:x.words.ends[i]]
			id, ok := r.wordID[w]
			if !ok {
				id = uint32(len(r.words))
				r.words, r.wordID[w] = append(r.words, w), id
			}
			for _, doc := range x.posting(i, i+1) {
				r.fwd[next[doc]] = 2*id + uint32(k)
				next[doc]++
			}
		}
	}
	for _, doc := range s.byID {
		if _, out := slices.BinarySearch(leaveOut, doc); out {
			continue
		}
		start := uint32(0)
		if doc > 0 {
			start = s.names.ends[doc-1]
		}
		r.list = append(r.list, row{number: s.of[doc], traits: s.traits[doc], version: s.versions[doc], sum: s.sums[doc],
			name: [2]uint32{start, s.names.ends[doc]}, from: count[doc], to: count[doc+1]})
	}
	return r
}
