package protocol

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"

	"golang.org/x/text/runes"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"
)

// Marshal encodes v as the dialect wants it: without escaping < > & and without a trailing newline (an IRC gateway
// reconnects for ever when a text frame ends in one).
func Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// MustMarshal is Marshal for values that cannot fail: structs of ours, maps of strings. It panics otherwise.
func MustMarshal(v any) []byte {
	b, err := Marshal(v)
	if err != nil {
		panic("protocol: " + err.Error())
	}
	return b
}

// AppendFields appends to dst the JSON object body with the fields of extra added at its end, which is how what depends
// on the viewer (is_member, last_read, is_stranger) joins a cached body without decoding it. Both must be encoded JSON
// objects without surrounding space. Keys must not repeat.
func AppendFields(dst, body, extra []byte) []byte {
	switch {
	case len(extra) <= 2:
		return append(dst, body...)
	case len(body) <= 2:
		return append(dst, extra...)
	}
	dst = append(dst, body[:len(body)-1]...)
	dst = append(dst, ',')
	return append(dst, extra[1:]...)
}

// FoldName folds a name for sorting and prefix search: case and accents are removed, space at the ends too.
func FoldName(s string) string {
	t := transform.Chain(norm.NFD, runes.Remove(runes.In(unicode.Mn)), norm.NFC)
	folded, _, err := transform.String(t, s)
	if err != nil {
		folded = s
	}
	return strings.ToLower(strings.TrimSpace(folded))
}
