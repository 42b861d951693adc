package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"testing"
)

func TestQuickQuery(t *testing.T) {
	for raw, want := range map[string]string{
		`{"id":7,"type":"query","method":"users/info","args":{"updated_ids":{"U1":0}}}`: `7 users/info {"updated_ids":{"U1":0}}`,
		` { "args" : { } , "method" : "users/info" , "type" : "query" } `:               ` users/info { }`,
		`{"id":"a1","type":"query","method":"T1/users/info","args":{"x":"}"}}`:          `"a1" T1/users/info {"x":"}"}`,
		`{"id":7,"type":"ping"}`:                                                                                "no",
		`{"id":7,"type":"query","method":"users/info"}`:                                                         "no",
		`{"id":7,"type":"query","type":"ping","method":"users/info","args":{}}`:                                 "no",
		`{"id":7,"Type":"query","method":"users/info","args":{}}`:                                               "no",
		`{"id":7.5,"type":"query","method":"users/info","args":{}}`:                                             "no",
		`{"id":07,"type":"query","method":"users/info","args":{}}`:                                              "no",
		`{"id":null,"type":"query","method":"users/info","args":{}}`:                                            "no",
		`{"id":7,"type":"query","method":"users\/info","args":{}}`:                                              "no",
		`{"id":7,"type":"query","method":"users/info","args":[]}`:                                               "no",
		`{"id":7,"type":"query","method":"users/info","args":{}} x`:                                             "no",
		`{"id":"` + string(bytes.Repeat([]byte("a"), MaxIDLength)) + `","type":"query","method":"m","args":{}}`: "no",
	} {
		id, method, args, ok := QuickQuery([]byte(raw))
		got := "no"
		if ok {
			got = fmt.Sprintf("%s %s %s", id, method, args)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
}

// FuzzQuick: what is read quickly is what the whole decoder reads.
func FuzzQuick(f *testing.F) {
	f.Add([]byte(`{"id":7,"type":"query","method":"users/info","args":{"updated_ids":{"U1":0,"U2":123}}}`))
	f.Add([]byte(`{"type":"query","method":"m","args":{"updated_ids":{"U1":0},"updated_ids":{"U1":1}}}`))
	f.Add([]byte(`{"type":"query","method":"m","args":{"updated_ids":{}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		id, method, args, ok := QuickQuery(raw)
		if !ok {
			return
		}
		versions := make(map[string]Version)
		quick := QuickVersions(args, func(id []byte, v Version) bool {
			versions[string(id)] = v
			return true
		})
		if !quick {
			return // args was not looked into.
		}
		frame, err := DecodeFrame(raw)
		if err != nil {
			t.Fatalf("%q is no frame: %v", raw, err)
		}
		var q QueryFrame
		if err := json.Unmarshal(raw, &q); err != nil || q.Method != string(method) || !bytes.Equal(frame.ID, id) || frame.Type != FrameQuery || !bytes.Equal(q.Args, args) {
			t.Errorf("%q: %q %q %q, decoded %+v %+v, %v", raw, id, method, args, frame, q, err)
		}
		var whole struct {
			IDs map[string]Version `json:"updated_ids"`
		}
		if err := json.Unmarshal(args, &whole); err != nil || !maps.Equal(whole.IDs, versions) {
			t.Errorf("%q: %v, decoded %v, %v", args, versions, whole.IDs, err)
		}
	})
}

func TestQuick_AllocatesNothing(t *testing.T) {
	raw := []byte(`{"id":7,"type":"query","method":"users/info","args":{"updated_ids":{"U1":0,"U2":123,"U3":1700000000000}}}`)
	sum := Version(0)
	if n := testing.AllocsPerRun(100, func() {
		_, _, args, _ := QuickQuery(raw)
		QuickVersions(args, func(_ []byte, v Version) bool { sum += v; return true })
	}); n != 0 || sum == 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkQuickQuery(b *testing.B) {
	raw := []byte(`{"id":7,"type":"query","method":"users/info","args":{"updated_ids":{"U00000001":1700000000000}}}`)
	b.ReportAllocs()
	for b.Loop() {
		_, _, args, _ := QuickQuery(raw)
		QuickVersions(args, func([]byte, Version) bool { return true })
	}
}
