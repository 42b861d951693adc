package visibility

import (
	"encoding/base64"
	"strings"
	"testing"
)

// TestMarkers_TellOfNobody: a guest goes through the lists of a large workspace. Neither the pages nor the markers between
// them tell of the hundreds whom the guest does not see, nor how many they are.
func TestMarkers_TellOfNobody(t *testing.T) {
	w := crowdedWorld(t, 700)
	for _, who := range []string{"U0GIL", "U0ZED"} {
		a := w.byUser["U0GIL"]
		if who != "U0GIL" {
			a = w.byUser["U0ZED"]
		}
		for _, c := range []struct {
			method string
			in     args
			field  string
			most   int // pages that what is visible needs
		}{
			{"users/list", args{"count": 2, "filter": "everyone"}, "results", 12},
			{"users/list", args{"count": 2, "filter": "everyone", "index": "users_by_id"}, "results", 12},
			{"users.list", args{"limit": 2}, "members", 12},
			{"emojis/list", args{"count": 2}, "results", 2},
			{"conversations.list", args{"limit": 2, "types": allTypes}, "channels", 8},
		} {
			pages := 0
			for ; pages < 2000; pages++ {
				r := w.ask(w.nodes[0], a, rowLists, c.method, c.in)
				if !r.ok() {
					t.Fatalf("%s: %v", c.method, r)
				}
				name, next := "marker", r.text("next_marker")
				if next == "" {
					name, next = "cursor", r.next()
				}
				if next == "" {
					break
				}
				if text, err := base64.RawURLEncoding.DecodeString(next); err == nil && strings.Contains(string(text), "U0X") {
					t.Fatalf("%s for %s: the marker tells of %s", c.method, a.id, text)
				}
				c.in[name] = next
			}
			if pages > c.most {
				t.Errorf("%s for %s has %d pages, which tells how much is hidden", c.method, a.id, pages)
			}
		}
	}
	w.finish()
}
