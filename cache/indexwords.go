package cache

import (
	"slices"
	"strings"
	"unicode/utf8"

	"flannel/protocol"
)

// appendWords appends the words of a text as protocol.SearchWords has them, those that are not in words yet. Plain ASCII,
// which most names are, is not folded the long way: a directory of 148,170 users has a million texts.
func appendWords(words []string, text string) []string {
	if text == "" {
		return words
	}
	plain := true
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			plain = false
			break
		}
	}
	if !plain {
		for _, w := range protocol.SearchWords(text) {
			words = appendWord(words, w)
		}
		return words
	}
	for start, i := 0, 0; i <= len(text); i++ {
		if i < len(text) && isPlain(text[i]) {
			continue
		}
		if i > start {
			words = appendWord(words, strings.ToLower(text[start:i]))
		}
		start = i + 1
	}
	return words
}

func isPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func appendWord(words []string, w string) []string {
	if slices.Contains(words, w) {
		return words
	}
	return append(words, w)
}

// wordsOf returns the words of an entry's names, and those of its e-mail address that are not among them.
func wordsOf(e *protocol.ListEntry, buf []string) (names, mails []string) {
	words := buf[:0]
	for _, text := range [...]string{e.Name, e.RealName, e.DisplayName, e.SortName} {
		words = appendWords(words, text)
	}
	n := len(words)
	words = appendWords(words, e.Email)
	return words[:n:n], words[n:]
}
