package protocol

import "unicode/utf8"

// What programs ask most is read here without allocation, if it is written the usual way: names in any order but each once,
// plain ASCII without escapes, whole numbers. Whatever else it is, valid or not, is left to DecodeFrame and the decoder of
// the method, which know it all: a quick read is right or says no.

// quickDigits bounds the digits of a quick number: it fits an int64.
const quickDigits = 18

// QuickQuery reads a query frame. The slices are parts of raw; id is nil if there is none. args is an object by its
// braces, and not looked into. ok is false if the frame is anything else.
func QuickQuery(raw []byte) (id, method, args []byte, ok bool) {
	query := false
	ok = quickFields(raw, func(name []byte, i int) (end int) {
		switch string(name) {
		case "type":
			text, end := quickText(raw, i)
			if query || string(text) != FrameQuery {
				return -1
			}
			query = true
			return end
		case "method":
			if method != nil {
				return -1
			}
			method, end = quickText(raw, i)
			return end
		case "id":
			if id != nil {
				return -1
			}
			if _, end = quickNumber(raw, i); end < 0 {
				if text, after := quickText(raw, i); len(text)+2 <= MaxIDLength {
					end = after
				}
			}
			if end > i {
				id = raw[i:end]
			}
			return end
		case "args":
			if args != nil || i >= len(raw) || raw[i] != '{' {
				return -1
			}
			if end = skipValue(raw, i); end > i {
				args = raw[i:end]
			}
			return end
		}
		return -1
	})
	return id, method, args, ok && query && len(method) > 0 && args != nil
}

// QuickVersions reads the arguments of a conditional read: {"updated_ids":{id:version,…}}. It calls fn for each id until fn
// returns false. It returns false if the arguments are anything else, perhaps after some calls; id is good during the call.
func QuickVersions(args []byte, fn func(id []byte, version Version) bool) bool {
	seen, more := false, true
	whole := quickFields(args, func(name []byte, i int) (end int) {
		if seen || string(name) != "updated_ids" {
			return -1
		}
		seen = true
		return quickObject(args, i, func(id []byte, j int) int {
			version, after := quickNumber(args, j)
			if after < 0 {
				return -1
			}
			if more = fn(id, Version(version)); !more {
				return -1
			}
			return after
		})
	})
	return whole && seen && more
}

// quickFields walks over the fields of an object, which is all of b. field is told the name of one and where its value begins, and
// returns where that ends, -1 if it is not as it should be.
func quickFields(b []byte, field func(name []byte, i int) (end int)) bool {
	end := quickObject(b, skipSpace(b, 0), field)
	return end >= 0 && skipSpace(b, end) == len(b)
}

// quickObject is quickFields for the object that begins at i; it returns where that ends, -1 if it is none.
func quickObject(b []byte, i int, field func(name []byte, i int) (end int)) (end int) {
	if i >= len(b) || b[i] != '{' {
		return -1
	}
	if i = skipSpace(b, i+1); i < len(b) && b[i] == '}' {
		return i + 1
	}
	for {
		name, end := quickText(b, i)
		if end < 0 {
			return -1
		}
		if i = skipSpace(b, end); i >= len(b) || b[i] != ':' {
			return -1
		}
		if i = field(name, skipSpace(b, i+1)); i < 0 {
			return -1
		}
		if i = skipSpace(b, i); i >= len(b) {
			return -1
		}
		switch b[i] {
		case ',':
			i = skipSpace(b, i+1)
		case '}':
			return i + 1
		default:
			return -1
		}
	}
}

// quickText reads a string of plain ASCII; end is -1 if there is none at i.
func quickText(b []byte, i int) (text []byte, end int) {
	if i >= len(b) || b[i] != '"' {
		return nil, -1
	}
	for j := i + 1; j < len(b); j++ {
		switch c := b[j]; {
		case c == '"':
			return b[i+1 : j], j + 1
		case c == '\\', c < ' ', c >= utf8.RuneSelf:
			return nil, -1
		}
	}
	return nil, -1
}

// quickNumber reads a whole number; end is -1 if there is none at i, or another one.
func quickNumber(b []byte, i int) (n int64, end int) {
	j := i
	for j < len(b) && b[j] >= '0' && b[j] <= '9' && j-i <= quickDigits {
		n = n*10 + int64(b[j]-'0')
		j++
	}
	if j == i || j-i > quickDigits || b[i] == '0' && j-i > 1 || j < len(b) && !endsScalar(b[j]) {
		return 0, -1
	}
	return n, j
}
