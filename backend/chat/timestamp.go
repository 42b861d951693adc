package chat

import (
	"strings"

	"flannel/protocol"
)

// ParseTS reads a timestamp as clients write them: 10 digits, a dot, 6 digits; with the parts shorter or the fraction
// missing too, because programs pass numbers through. "" and 0 mean none.
func ParseTS(s string) (protocol.TS, bool) {
	s = strings.TrimSpace(s)
	if s == "" {
		return "", true
	}
	whole, frac, _ := strings.Cut(s, ".")
	if whole == "" || !digits(whole) || !digits(frac) {
		return "", false
	}
	if whole = strings.TrimLeft(whole, "0"); len(whole) > 10 {
		return "", false
	}
	frac = (frac + "000000")[:6] // finer than a microsecond is cut
	ts := protocol.TS(strings.Repeat("0", 10-len(whole)) + whole + "." + frac)
	if ts == protocol.ZeroTS {
		return "", true
	}
	return ts, true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// messageTS reads the name of a message: a timestamp that is there and not zero.
func messageTS(s string, code protocol.Code) (protocol.TS, error) {
	ts, ok := ParseTS(s)
	if !ok || ts == "" {
		return "", refuse(code)
	}
	return ts, nil
}
