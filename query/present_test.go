package query

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"flannel/protocol"
)

// pages reads a list to its end; between runs after each page.
func (w *world) pages(tb testing.TB, who protocol.UserID, args string, between func(page int)) string {
	tb.Helper()
	var pages []string
	more := ""
	for {
		got := w.ask(tb, who, "users/list", args[:len(args)-1]+more+`}`)
		pages = append(pages, got.ids(tb, "results"))
		if got.fields["next_marker"] == nil || len(pages) > 100 {
			return strings.Join(pages, " > ")
		}
		more = `,"marker":` + string(got.fields["next_marker"])
		between(len(pages))
	}
}

func TestUsersList_PresentFirst(t *testing.T) {
	nothing := func(int) {}
	for _, ready := range []bool{false, true} {
		w := newWorld(t)
		if ready {
			w.ready(t)
		}
		for _, c := range []struct {
			who    protocol.UserID
			active string
			args   string
			want   string
		}{
			{ada, "", `{"present_first":true}`, "U1 U2 U5 U6 U3 U4"},
			{ada, "U0000004 U0000006 U0000008", `{"present_first":true}`, "U6 U4 U1 U2 U5 U3"},
			{ada, "U0000004 U0000006", `{"present_first":false}`, "U1 U2 U5 U6 U3 U4"},
			{ada, "U0000004 U0000006", `{"present_first":true,"count":3}`, "U6 U4 U1 > U2 U5 U3"},
			{ada, "U0000004 U0000006", `{"present_first":true,"count":2}`, "U6 U4 > U1 U2 > U5 U3"},
			{ada, "U0000004 U0000006 U0000003", `{"present_first":true,"count":2}`, "U6 U3 > U1 U2 > U5 U4"}, // No room for U4.
			{ada, "U0000006 U0000003", `{"present_first":true,"count":2,"index":"users_by_id"}`, "U3 U6 > U1 U2 > U4 U5"},
			{ada, "U0000004 U0000002", `{"present_first":true,"filter":"people"}`, "U2 U1 U5 U6 U3"},
			// All of them are: there is no page after the first.
			{ada, "U0000003", `{"present_first":true,"filter":"guests","count":1}`, "U3"},
			{ada, "U0000006", `{"present_first":1,"channels":["C0000001"],"count":3}`, "U6 U1 U2 > U5 U4"},
			{ada, "U0000006 U0000004 U0000003", `{"present_first":true,"channels":["C0000001"],"index":"users_by_id","count":2}`, "U4 U6 > U1 U2 > U5"},
			{ada, "U0000006 U0000004", `{"present_first":true,"channels":["C0000001"],"index":"users_by_id","filter":"bots"}`, "U4"},
			// Somebody of another workspace, in a channel that it shares.
			{ada, "U0000008 U0000009", `{"present_first":true,"channels":["C0000001","C0000005"],"count":4}`, "U8 U1 U2 U5 > U6 U4"},
			// A guest sees no more of those who are active than of the others.
			{gus, "U0000006 U0000003 U0000008", `{"present_first":true}`, "U3 U2"},
			{gus, "U0000006 U0000003", `{"present_first":true,"count":1}`, "U3 > U2"},
			{gus, "U0000006 U0000002", `{"present_first":true,"channels":["C0000006"]}`, "U2 U3"},
		} {
			var active []protocol.UserID
			for u := range strings.FieldsSeq(c.active) {
				active = append(active, protocol.UserID(u))
			}
			w.present(active...)
			if got := w.pages(t, c.who, c.args, nothing); got != c.want {
				t.Errorf("directory %v: %s with %q active asks %s: %s, want %s", ready, c.who, c.active, c.args, got, c.want)
			}
		}
	}
}

// TestUsersList_PresentFirstInPages: whoever comes and goes between two pages, everybody is listed once, and those whom a
// reader does not see are neither listed nor named in a marker.
func TestUsersList_PresentFirstInPages(t *testing.T) {
	w := newWorld(t)
	var everybody []protocol.UserID
	for i := range 40 {
		u := &protocol.User{ID: protocol.UserID(fmt.Sprintf("U8%05d", i)), TeamID: t1, Name: fmt.Sprintf("n%02d", (i*7)%40), IsBot: i%5 == 0, Updated: 5}
		w.put(u)
		everybody = append(everybody, u.ID)
		if i%2 == 0 {
			w.seat(&protocol.Channel{ID: general}, u.ID, nil)
		}
		if i%3 == 0 {
			w.seat(&protocol.Channel{ID: den}, u.ID, nil)
		}
	}
	everybody = append(everybody, ada, bob, gus, robo, eve, sam, zoe)
	w.ready(t)
	some := func(rt *rapid.T, label string) []protocol.UserID {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(everybody), 0, 30, rapid.ID[protocol.UserID]).Draw(rt, label)
	}
	rapid.Check(t, func(rt *rapid.T) {
		args := fmt.Sprintf(`"count":%d,"filter":%q,"index":%q`, rapid.IntRange(1, 12).Draw(rt, "count"),
			rapid.SampledFrom([]string{"", "people", "NOT bots AND NOT deactivated"}).Draw(rt, "filter"),
			rapid.SampledFrom([]string{"users_by_display_name", "users_by_id"}).Draw(rt, "index"))
		who := rapid.SampledFrom([]protocol.UserID{ada, gus}).Draw(rt, "who")
		switch rapid.IntRange(0, 2).Draw(rt, "channels") {
		case 1:
			args += map[protocol.UserID]string{ada: `,"channels":["C0000001"]`, gus: `,"channels":["C0000006"]`}[who]
		case 2:
			if who == ada {
				args += `,"channels":["C0000001","C0000005"]`
			}
		}
		all := sortedIDs(w.pages(t, who, `{`+args+`}`, func(int) {}))
		first := some(rt, "active")
		w.present(first...)

		got := w.pages(t, who, `{"present_first":true,`+args+`}`, func(int) {
			w.present(some(rt, "active then")...)
			if rapid.IntRange(0, 9).Draw(rt, "lost") == 0 { // The next page comes from the backend.
				w.cache.Reset(protocol.Topic(t1), w.at)
				w.cache.Followed(protocol.Topic(t1), 0, w.at)
			}
		})

		if listed := sortedIDs(got); !slices.Equal(listed, all) {
			rt.Fatalf("%s asks %s: %s, which are not %s", who, args, got, all)
		}
		page := strings.Fields(strings.SplitN(got, " > ", 2)[0])
		absent := false
		for _, id := range page {
			active := slices.ContainsFunc(first, func(u protocol.UserID) bool { return strings.Replace(string(u), "000000", "", 1) == id })
			if active && absent {
				rt.Fatalf("%s asks %s: on the first page %s comes too late: %s", who, args, id, page)
			}
			absent = absent || !active
		}
	})
}

func sortedIDs(pages string) []string {
	ids := strings.Fields(strings.ReplaceAll(pages, ">", " "))
	slices.Sort(ids)
	return ids
}

// TestUsersList_PresentFirstBounds: a marker has room for a hundred, and others are in their places.
func TestUsersList_PresentFirstBounds(t *testing.T) {
	w := newWorld(t)
	var active []protocol.UserID
	for i := range 400 {
		id := protocol.UserID(fmt.Sprintf("U8%05d%s", i, strings.Repeat("X", i/200*100)))
		w.put(&protocol.User{ID: id, TeamID: t1, Name: fmt.Sprintf("n%06d", i), Updated: 5})
		if i%2 == 0 {
			active = append(active, id)
		}
	}
	w.ready(t)
	for half, want := range []int{maxFirst, maxFirstBytes / 110} {
		w.present(active[half*100 : half*100+100]...)
		if half == 0 {
			w.present(active...)
		}
		got := w.ask(t, ada, "users/list", `{"count":200,"present_first":true}`)
		var m marker
		var text string
		if err := json.Unmarshal(got.fields["next_marker"], &text); err != nil {
			t.Fatal(err)
		}
		m, err := parseMarker(text)
		if err != nil || len(m.First) != want || len(text) > maxMarker {
			t.Errorf("a marker of %d bytes for %d, want %d: %v", len(text), len(m.First), want, err)
		}
		all := sortedIDs(w.pages(t, ada, `{"count":200,"present_first":true}`, func(int) {}))
		if len(all) != 406 || len(slices.Compact(all)) != 406 {
			t.Errorf("%d listed", len(all))
		}
	}
	many := make(firsts, maxFirst+1)
	for i := range many {
		many[i] = protocol.ObjectID(fmt.Sprint("U", i))
	}
	for _, m := range []marker{{Order: protocol.ByName, First: many}, {Order: protocol.ByID, First: many[:1]}} {
		if got := w.ask(t, ada, "users/list", `{"marker":"`+m.String()+`"}`); got.code != protocol.CodeInvalidCursor {
			t.Errorf("%s: %q", m, got.code)
		}
	}
	if got := w.ask(t, ada, "emojis/list", `{"marker":"`+marker{Order: protocol.ByID, First: many[:1]}.String()+`"}`); got.code != protocol.CodeInvalidCursor {
		t.Errorf("emoji: %q", got.code)
	}
}

// TestUsersList_PresentFirstDoesNotWait: while the directory is loaded the list is in the order of names.
func TestUsersList_PresentFirstDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for i := range 3000 {
			w.put(&protocol.User{ID: protocol.UserID(fmt.Sprintf("U1%06d", i)), TeamID: t1, Name: fmt.Sprintf("n%06d", i), Updated: 5})
		}
		w.present(eve)
		w.ask(t, ada, "users/list", `{"count":2}`)
		w.set(func() { w.delay = 400 * time.Millisecond })
		started := time.Now()
		if got := w.ask(t, ada, "users/list", `{"count":2,"present_first":true}`).ids(t, "results"); got != "U1 U2" || time.Since(started) > 2*time.Second {
			t.Errorf("%s after %s", got, time.Since(started))
		}
		time.Sleep(5 * time.Second)
		if got := w.ask(t, ada, "users/list", `{"count":2,"present_first":true}`).ids(t, "results"); got != "U6 U1" {
			t.Errorf("then: %s", got)
		}
		// Who is active is looked at once a second.
		w.set(func() { w.active = []protocol.UserID{bob} })
		if got := w.ask(t, ada, "users/list", `{"count":2,"present_first":true}`).ids(t, "results"); got != "U6 U1" {
			t.Errorf("at once: %s", got)
		}
		time.Sleep(presentFor)
		if got := w.ask(t, ada, "users/list", `{"count":2,"present_first":true}`).ids(t, "results"); got != "U2 U1" {
			t.Errorf("later: %s", got)
		}
	})
}
