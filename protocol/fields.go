package protocol

import (
	"encoding/json"
	"unicode/utf8"
)

// EachField calls fn for every field of the JSON object body in order, with the raw bytes of the name (between the
// quotes, escapes kept) and of the value, until fn returns false. It neither decodes nor allocates. It returns false if
// body is visibly not a JSON object; it checks structure only, not the inside of numbers and literals, because bodies
// were checked where they came in.
func EachField(body []byte, fn func(name, value []byte) bool) bool {
	i := skipSpace(body, 0)
	if i >= len(body) || body[i] != '{' {
		return false
	}
	if i = skipSpace(body, i+1); i < len(body) && body[i] == '}' {
		return skipSpace(body, i+1) == len(body)
	}
	for {
		start := i
		if i = skipString(body, i); i < 0 {
			return false
		}
		name := body[start+1 : i-1]
		if i = skipSpace(body, i); i >= len(body) || body[i] != ':' {
			return false
		}
		start = skipSpace(body, i+1)
		if i = skipValue(body, start); i < 0 {
			return false
		}
		if !fn(name, body[start:i]) {
			return true
		}
		if i = skipSpace(body, i); i >= len(body) {
			return false
		}
		switch body[i] {
		case ',':
			i = skipSpace(body, i+1)
		case '}':
			return skipSpace(body, i+1) == len(body)
		default:
			return false
		}
	}
}

// Field returns the raw value of one field of the JSON object body, nil if it has none.
func Field(body []byte, name string) (value []byte) {
	EachField(body, func(n, v []byte) bool {
		if string(n) == name {
			value = v
			return false
		}
		return true
	})
	return value
}

// AppendString appends s as a JSON string, escaped as Marshal does.
func AppendString[S ~string](dst []byte, s S) []byte {
	for i := 0; i < len(s); {
		if i+8 <= len(s) && plain8(string(s[i:i+8])) { // Ids and timestamps are most of what there is, and are plain.
			i += 8
			continue
		}
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return append(dst, MustMarshal(string(s))...)
		}
		i++
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// plain8 reports whether none of eight bytes needs an escape. It looks at all of them at once; a false alarm is possible.
func plain8(s string) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	x := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	zero := func(y uint64) uint64 { return y - ones } // has a high bit if a byte of y is 0; the caller knows that none had one
	return (x|(x-ones*' ')|zero(x^ones*'"')|zero(x^ones*'\\'))&highs == 0
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipString returns the index after the string that begins at i, -1 if none does.
func skipString(b []byte, i int) int {
	if i >= len(b) || b[i] != '"' {
		return -1
	}
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// skipValue returns the index after the value that begins at i, -1 if none does. Depth is counted, not recursed.
func skipValue(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			if i = skipString(b, i); i < 0 {
				return -1
			}
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			if depth == 0 {
				return -1
			}
			depth--
			i++
		case ',', ':', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return -1
			}
			i++
			continue
		default:
			for i < len(b) && !endsScalar(b[i]) {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
	return -1
}

func endsScalar(c byte) bool {
	switch c {
	case ',', ':', '}', ']', '{', '[', '"', ' ', '\n', '\t', '\r':
		return true
	}
	return false
}

// rawOr returns raw, or def where there is nothing.
func rawOr(raw json.RawMessage, def string) []byte {
	if len(raw) == 0 {
		return []byte(def)
	}
	return raw
}
