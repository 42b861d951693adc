package protocol

import (
	"encoding/base64"
	"strings"
)

// EncodeCursor returns the dialect's cursor for "go on at id": base64 of "kind:id" (kind is user, channel, team,
// next_ts, …).
func EncodeCursor(kind, id string) string {
	return base64.StdEncoding.EncodeToString([]byte(kind + ":" + id))
}

// DecodeCursor returns the id in a cursor of that kind. An empty cursor gives an empty id.
func DecodeCursor(kind, cursor string) (id string, err error) {
	if cursor == "" {
		return "", nil
	}
	if len(cursor) > 4*MaxIDLength {
		return "", &Error{Code: CodeInvalidCursor}
	}
	raw, err := base64.StdEncoding.DecodeString(cursor)
	if err != nil {
		return "", &Error{Code: CodeInvalidCursor}
	}
	id, ok := strings.CutPrefix(string(raw), kind+":")
	if !ok || id == "" {
		return "", &Error{Code: CodeInvalidCursor}
	}
	return id, nil
}
