package protocol

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestEachElement(t *testing.T) {
	for body, want := range map[string][]string{
		`[]`: nil, ` [ ] `: nil, `[1]`: {"1"}, ` [ "a]" , {"b":[1,2]} ,null, [[]] ] `: {`"a]"`, `{"b":[1,2]}`, "null", "[[]]"},
	} {
		var got []string
		if ok := EachElement([]byte(body), func(v []byte) bool { got = append(got, string(v)); return true }); !ok || !slices.Equal(got, want) {
			t.Errorf("%s has %q, %v", body, got, ok)
		}
	}
	for _, body := range []string{``, `{}`, `[`, `[1`, `[1,`, `[,1]`, `[1]x`, `["a]`, `1`, `[1 2]`} {
		if EachElement([]byte(body), func([]byte) bool { return true }) {
			t.Errorf("%s passes for an array", body)
		}
	}
	n := 0
	if !EachElement([]byte(`[1,2,3]`), func([]byte) bool { n++; return n < 2 }) || n != 2 {
		t.Errorf("it went on to element %d", n)
	}
}

// FuzzEachElement: what encoding/json takes for an array has as many elements here.
func FuzzEachElement(f *testing.F) {
	for _, body := range []string{`[1,"a",{},[2]]`, `[]`, `{"a":1}`, `["\"]",[[[`, "[1,\xff]"} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		n := 0
		ok := EachElement(body, func([]byte) bool { n++; return true })
		var list []json.RawMessage
		if json.Unmarshal(body, &list) == nil && list != nil && (!ok || n != len(list)) {
			t.Errorf("%q has %d elements here, %v, and %d there", body, n, ok, len(list))
		}
	})
}
