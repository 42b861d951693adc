package webapi

import (
	"encoding/json"

	"flannel/protocol"
)

// answer builds the JSON of an answer field by field, so that the bodies of objects go in as they are.
type answer struct{ buf []byte }

// okAnswer begins {"ok":true.
func okAnswer() *answer { return &answer{buf: []byte(`{"ok":true`)} }

func errorAnswer(e *protocol.Error) *answer {
	body := protocol.ErrorBody(e)
	return &answer{buf: body[:len(body)-1]}
}

// raw adds a field that is JSON already. name needs no escaping.
func (a *answer) raw(name string, value []byte) *answer {
	a.key(name)
	a.buf = append(a.buf, value...)
	return a
}

// val adds a field. v is a value of ours that always encodes.
func (a *answer) val(name string, v any) *answer { return a.raw(name, protocol.MustMarshal(v)) }

// list adds an array whose elements are JSON already.
func (a *answer) list(name string, elements [][]byte) *answer {
	a.key(name)
	a.buf = append(a.buf, '[')
	for i, e := range elements {
		if i > 0 {
			a.buf = append(a.buf, ',')
		}
		a.buf = append(a.buf, e...)
	}
	a.buf = append(a.buf, ']')
	return a
}

// next adds the cursor of the next page, "" on the last one.
func (a *answer) next(cursor string) *answer {
	return a.val("response_metadata", struct {
		NextCursor string `json:"next_cursor"`
	}{cursor})
}

// warn says what was odd about a call that worked.
func (a *answer) warn(warning string) *answer {
	return a.val("warning", warning).val("response_metadata", struct {
		Warnings []string `json:"warnings"`
	}{[]string{warning}})
}

// bytes ends the answer.
func (a *answer) bytes() []byte { return append(a.buf, '}') }

func (a *answer) key(name string) {
	if a.buf[len(a.buf)-1] != '{' {
		a.buf = append(a.buf, ',')
	}
	a.buf = append(a.buf, '"')
	a.buf = append(a.buf, name...)
	a.buf = append(a.buf, `":`...)
}

// done is the answer of methods that have nothing to say.
func done() []byte { return []byte(`{"ok":true}`) }

// withField returns the object body with one more field.
func withField(body []byte, name string, v any) []byte {
	return protocol.AppendFields(nil, body, protocol.MustMarshal(map[string]any{name: v}))
}

// orEmpty makes a JSON array of what may be a nil slice.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// rawJSON reads an argument that is JSON, nil if it is absent or empty.
func rawJSON(args protocol.Args, name string) json.RawMessage {
	if v := args[name]; v != "" {
		return json.RawMessage(v)
	}
	return nil
}
