package cache

import (
	"unicode/utf8"
)

const (
	// maxFuzzyRows bounds the work of one word with typing errors: each row of the table of distances is one letter of
	// one word of the index that was looked at. The largest index that is known takes less for one error; with two, what
	// begins like the query is looked at first.
	maxFuzzyRows = 12_000
	// maxFuzzyWord bounds the letters of a word that may have typing errors.
	maxFuzzyWord = 24
)

// errorsIn returns how many typing errors are forgiven in a word of so many letters: none in short ones, where every
// other word would match.
func errorsIn(letters int) int {
	switch {
	case letters < 3 || letters > maxFuzzyWord:
		return 0
	case letters < 8:
		return 1
	default:
		return 2
	}
}

// fuzzy finds the words of an index that begin like a query with typing errors: letters that are wrong, missing, too
// many, or two that changed places. It goes along the words in order and keeps the rows of the table of distances for
// the letters that a word has in common with the one before.
type fuzzy struct {
	query   []rune
	errors  int
	rows    [maxFuzzyWord + 4][maxFuzzyWord + 1]uint8 // by letters of the word: distances of its beginning to those of the query
	least   [maxFuzzyWord + 4]uint8                   // the smallest of each row
	letters [maxFuzzyWord + 4]rune
	ends    [maxFuzzyWord + 4]int // by letters: in bytes
	depth   int                   // rows that are valid, besides the first
	budget  int
}

// newFuzzy returns nil if no errors are forgiven.
func newFuzzy(word string) *fuzzy {
	f := &fuzzy{query: []rune(word), budget: maxFuzzyRows}
	if f.errors = errorsIn(len(f.query)); f.errors == 0 {
		return nil
	}
	for j := range len(f.query) + 1 {
		f.rows[0][j] = uint8(j)
	}
	return f
}

// outcomes of looking at a word.
const (
	fuzzyMatch = iota // it begins so after some letters
	fuzzyNever        // no word that begins like its first letters does
	fuzzyShort        // it is too short; others that begin like it may
)

// look computes the rows of a word, which has common bytes in common with the last one. It returns how many bytes of
// the word decide.
func (f *fuzzy) look(word []byte, common int) (outcome, decides int) {
	for f.depth > 0 && f.ends[f.depth] > common {
		f.depth--
	}
	for {
		d := f.depth
		if d > 0 && f.rows[d][len(f.query)] <= uint8(f.errors) {
			return fuzzyMatch, f.ends[d]
		}
		// A row depends on the two before it, because two letters may have changed places.
		if d > 0 && f.least[d] > uint8(f.errors) && f.least[d-1] >= uint8(f.errors) {
			return fuzzyNever, f.ends[d]
		}
		if f.ends[d] == len(word) {
			return fuzzyShort, len(word)
		}
		r, size := rune(word[f.ends[d]]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(word[f.ends[d]:])
		}
		f.step(r, size)
	}
}

// step computes the row of one more letter. Rows end where no match is possible any more, so that there are never more
// than the query has letters and errors.
func (f *fuzzy) step(r rune, size int) {
	f.budget--
	d := f.depth + 1
	f.depth = d
	f.letters[d], f.ends[d] = r, f.ends[d-1]+size
	row, above := &f.rows[d], &f.rows[d-1]
	row[0] = above[0] + 1
	least := row[0]
	for j, q := range f.query {
		n := above[j]
		if q != r {
			n = min(n, above[j+1], row[j]) + 1
			if j > 0 && d > 1 && q == f.letters[d-1] && f.query[j-1] == r {
				n = min(n, f.rows[d-2][j-1]+1)
			}
		}
		row[j+1] = n
		least = min(least, n)
	}
	f.least[d] = least
}

// run calls found for runs of words in [from, to) that match, until the budget is used up.
func (f *fuzzy) run(x *wordIndex, from, to int, found func(from, to int)) {
	f.depth = 0
	var last []byte
	for i := from; i < to && f.budget > 0; {
		word := x.words.at(i)
		outcome, decides := f.look(word, commonPrefix(last, word))
		last = word
		next := i + 1
		if outcome != fuzzyShort {
			next = behind(x, i, to, word[:decides])
		}
		if outcome == fuzzyMatch {
			found(i, next)
		}
		i = next
	}
}

// behind returns the first word from i on that does not begin with p, as i does: nearby ones are found fast.
func behind(x *wordIndex, i, to int, p []byte) int {
	begins := func(i int) bool {
		w := x.words.at(i)
		return len(w) >= len(p) && string(w[:len(p)]) == string(p)
	}
	step := 1
	for i+step < to && begins(i+step) {
		i += step
		step *= 2
	}
	lo, hi := i, min(i+step, to) // lo begins so, hi does not or is the end
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; begins(mid) {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}

func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// all looks through an index: first the words that begin with the first letter of the query, or with its second,
// because most errors come later, then the others.
func (f *fuzzy) all(x *wordIndex, found func(from, to int)) {
	n := len(x.ends)
	a, b := x.prefix(string(f.query[:1]))
	c, d := x.prefix(string(f.query[1:2]))
	if c < a {
		a, b, c, d = c, d, a, b
	}
	if a == c {
		c, d = b, b
	}
	first, second := [2]int{a, b}, [2]int{c, d}
	if w, _ := utf8.DecodeRune(x.first(c, d)); w == f.query[0] {
		first, second = second, first
	}
	for _, run := range [...][2]int{first, second, {0, a}, {b, c}, {d, n}} {
		f.run(x, run[0], run[1], found)
	}
}

// first returns the first word of a run, nil if it is empty.
func (x *wordIndex) first(from, to int) []byte {
	if from >= to {
		return nil
	}
	return x.words.at(from)
}

// matches reports whether a single word begins like the query.
func (f *fuzzy) matches(word string) bool {
	f.depth = 0
	outcome, _ := f.look([]byte(word), 0)
	return outcome == fuzzyMatch
}
