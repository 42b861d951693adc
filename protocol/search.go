package protocol

import (
	"slices"
	"strings"
	"unicode"
)

// MaxQuery bounds ListRequest.Query, in bytes.
const MaxQuery = 200

// SearchWords returns the words of texts as searches know them, each once: folded by FoldName, and parted by everything
// that is neither a letter nor a digit. "Zoë O'Neil" and "zoe.oneil@example.com" are zoe, o, neil, oneil, example, com.
func SearchWords(texts ...string) []string {
	var words []string
	for _, w := range strings.FieldsFunc(FoldName(strings.Join(texts, " ")), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r)
	}) {
		if !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	return words
}

// Words returns what a query is held against: the words of all names and of the e-mail address.
func (e *ListEntry) Words() []string {
	return SearchWords(e.Name, e.RealName, e.DisplayName, e.SortName, e.Email)
}

// Matches reports whether each of a query's words (SearchWords of it) begins a word of the entry.
func (e *ListEntry) Matches(query []string) bool {
	words := e.Words()
	for _, q := range query {
		if !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, q) }) {
			return false
		}
	}
	return true
}
