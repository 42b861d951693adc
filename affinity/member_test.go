package affinity

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// What a member says of itself arrives as it was said, in no more than 512 bytes; spread workspaces that have no room are
// the least spread.
func TestAnnouncement_ArrivesAsItWasSaid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		said := Announcement{
			URL:     "https://" + rapid.StringMatching(`[a-z]{1,60}(\.[a-z]{1,60}){0,2}`).Draw(t, "host"),
			Region:  rapid.StringMatching(`[a-z0-9-]{0,40}`).Draw(t, "region"),
			Zone:    rapid.StringMatching(`[a-z0-9-]{0,40}`).Draw(t, "zone"),
			State:   rapid.SampledFrom([]State{Joining, Active, Draining}).Draw(t, "state"),
			Load:    rapid.IntRange(0, 1<<20).Draw(t, "load"),
			Version: rapid.StringMatching(`v[0-9.]{0,39}`).Draw(t, "version"),
			Spread:  make(map[string]int),
		}
		for _, w := range rapid.SliceOfNDistinct(rapid.StringMatching(`T[0-9A-Z]{1,20}`), 0, 60, rapid.ID[string]).Draw(t, "spread") {
			said.Spread[w] = 1 << rapid.IntRange(1, 6).Draw(t, "log")
		}
		b, err := said.encode()
		if err != nil || len(b) > maxMeta {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		heard, err := decode(b)
		if err != nil {
			t.Fatal(err)
		}
		least := MaxOwners
		for w, k := range heard.Spread {
			if said.Spread[w] != k {
				t.Fatalf("%s is spread over %d, heard %d", w, said.Spread[w], k)
			}
			least = min(least, k)
		}
		for w, k := range said.Spread {
			if heard.Spread[w] == 0 && k > least {
				t.Fatalf("%s over %d was left out, one over %d was not", w, k, least)
			}
		}
		heard.Spread, said.Spread = nil, nil
		if !reflect.DeepEqual(heard, said) {
			t.Fatalf("said %+v, heard %+v", said, heard)
		}
	})
}

func TestAnnouncement_BadOnesAreRefused(t *testing.T) {
	for _, bad := range []string{
		``, `{}`, `[]`, `{"u":"https://a","s":"dead"}`, `{"u":"ftp://a","s":"active"}`, `{"u":"https://a/path","s":"active"}`, `{"u":"https://u:p@a","s":"active"}`,
		`{"u":"https://a","s":"active","l":-1}`, `{"u":"https://a","s":"active","w":{"T1":3}}`, `{"u":"https://a","s":"active","w":{"T1":128}}`, `{"u":"https://a","s":"active","w":{"T1":1}}`,
		`{"u":"https://` + strings.Repeat("a", 300) + `","s":"active"}`,
	} {
		if a, err := decode([]byte(bad)); err == nil {
			t.Errorf("%s: %+v", bad, a)
		}
	}
	if a, err := decode([]byte(`{"u":"https://a:1","s":"active","new":[1]}`)); err != nil || a.URL != "https://a:1" {
		t.Errorf("a later version's: %+v, %v", a, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"u":"https://a:1","r":"eu","s":"active","l":12,"w":{"T1":4}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decode(b)
		if err != nil || len(b) > maxMeta {
			return
		}
		again, err := a.encode()
		if err != nil {
			return // It had fields in a shorter spelling than ours.
		}
		if _, err := decode(again); err != nil {
			t.Errorf("%q became %q: %v", b, again, err)
		}
	})
}
