package cache

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"flannel/protocol"
)

// person is a user with names.
func person(id protocol.UserID, v protocol.Version, name, display string) *protocol.User {
	u := &protocol.User{ID: id, TeamID: "T1", Name: name, Updated: v}
	u.Profile.DisplayName = display
	return u
}

func page(p protocol.Position, shapes ...protocol.Shape) *protocol.ListAnswer {
	a := &protocol.ListAnswer{Position: p}
	for _, s := range shapes {
		a.Entries = append(a.Entries, s.Entry())
	}
	return a
}

func (f *fixture) fillDirectory(t testing.TB, kind protocol.Kind, pages ...*protocol.ListAnswer) *Directory {
	t.Helper()
	l := f.LoadDirectory("T1", kind)
	for _, p := range pages {
		l.Add(p)
	}
	d, err := f.FillDirectory(l)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// find searches without hints.
func find(d *Directory, words ...string) string {
	ids := search(d.state.Load(), &Query{Words: words, Kinds: KindsOf(func(Traits) bool { return true }), Limit: 100})
	return fmt.Sprint(ids)
}

func TestDirectory_KeptByTheRules(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.RecentEvents = 1 })
	if f.fillDirectory(t, protocol.KindUser, page(10)) != nil {
		t.Error("kept though the topic is not followed")
	}
	f.follow(12, ws)
	if f.fillDirectory(t, protocol.KindUser, page(11)) != nil {
		t.Error("kept though followed from later")
	}
	f.event(ws, 13, upsert(person("U1", 1, "ann", "").Object()))
	f.event(ws, 14, upsert(person("U2", 1, "bob", "").Object()))
	l := f.LoadDirectory("T1", protocol.KindUser)
	l.Add(page(12))
	if _, err := f.FillDirectory(l); !errors.Is(err, ErrOutrun) {
		t.Errorf("outrun: %v", err)
	}

	d := f.fillDirectory(t, protocol.KindUser, page(13, person("U1", 1, "ann", "")))

	if got, freshness := f.Directory("T1", protocol.KindUser); got != d || freshness != Fresh || d.Len() != 2 {
		t.Errorf("%v %s, %d", got, freshness, d.Len())
	}
	if _, freshness := f.Directory("T1", protocol.KindChannel); freshness != Missing {
		t.Errorf("channels are %s", freshness)
	}
	f.Live(false)
	if _, freshness := f.Directory("T1", protocol.KindUser); freshness != Stale {
		t.Errorf("%s while the stream is down", freshness)
	}
	f.advance(11 * time.Minute)
	if _, freshness := f.Directory("T1", protocol.KindUser); freshness != Missing {
		t.Errorf("%s after 11 minutes", freshness)
	}
	f.Live(true)
	f.Reset(ws, 20)
	if _, freshness := f.Directory("T1", protocol.KindUser); freshness != Missing || f.directories.len() != 0 {
		t.Errorf("%s after a reset", freshness)
	}
	f.fillDirectory(t, protocol.KindUser, page(20))
	f.Unfollowed(ws)
	if _, freshness := f.Directory("T1", protocol.KindUser); freshness != Missing {
		t.Errorf("%s after it was unfollowed", freshness)
	}
	for result, want := range map[string]float64{"hit": 1, "miss": 4, "stale": 1} {
		if got := f.metric("flannel_cache_lookups_total", prometheus.Labels{"kind": "directory", "result": result}); got != want {
			t.Errorf("%v %s, want %v", got, result, want)
		}
	}
}

// Pages stand at different positions. What an event says that is older than a page never replaces what the page says,
// whether it came before the load was done or comes after.
func TestDirectory_PagesAndEvents(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	f.event(ws, 12, upsert(person("U1", 2, "second", "").Object()), upsert(person("U3", 1, "third", "").Object()))
	d := f.fillDirectory(t, protocol.KindUser,
		page(11, person("U1", 1, "first", "")), page(14, person("U2", 4, "fourth", "")), page(15, person("U3", 1, "third", "")))
	for words, want := range map[string]string{"first": "[]", "second": "[U1]", "fourth": "[U2]", "third": "[U3]"} {
		if got := find(d, words); got != want {
			t.Errorf("%s: %s, want %s", words, got, want)
		}
	}
	f.event(ws, 13, upsert(person("U2", 3, "older", "").Object())) // The page at 14 has it.
	f.event(ws, 14, upsert(person("U2", 4, "fourth", "").Object()))
	if got := find(d, "older") + find(d, "fourth"); got != "[][U2]" {
		t.Errorf("after older events: %s", got)
	}
	f.event(ws, 16, upsert(person("U2", 5, "newest", "").Object()), bury("U3", 9))
	if got := find(d, "fourth") + find(d, "newest") + find(d, "third"); got != "[][U2][]" || d.Has("U3") || !d.Has("U2") || d.Has("U9") {
		t.Errorf("after newer events: %s", got)
	}
	moved := person("U2", 6, "newest", "")
	moved.TeamID = "T2"
	f.event(ws, 17, upsert(moved.Object()), bury("U77", 1))
	if got := find(d, "newest"); got != "[]" || d.Len() != 1 {
		t.Errorf("after moving away: %s, %d", got, d.Len())
	}
}

// Events that change nothing that is searched cost no room.
func TestDirectory_StatusesCostNothing(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	u := person("U1", 1, "ann", "")
	d := f.fillDirectory(t, protocol.KindUser, page(10, u))
	for i := range 10 {
		u.Updated++
		u.Profile.StatusText = fmt.Sprint("lunch ", i)
		f.event(ws, protocol.Position(11+i), upsert(u.Object()))
	}
	if n := len(d.state.Load().changed); n != 0 {
		t.Errorf("%d changes", n)
	}
}

func TestDirectory_Channels(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws, "C3")
	channel := func(id protocol.ChannelID, name string, v protocol.Version, teams ...protocol.WorkspaceID) *protocol.Channel {
		return &protocol.Channel{ID: id, Name: name, ContextTeamID: "T1", Updated: v, IsShared: len(teams) > 0, SharedTeamIDs: teams}
	}
	d := f.fillDirectory(t, protocol.KindChannel, page(10, channel("C1", "general", 1), channel("C3", "joint", 1, "T1", "T2")))
	f.event("C3", 11, upsert(channel("C3", "venture", 2, "T1", "T2").Object())) // Shared: its own topic tells.
	f.event(ws, 12, upsert(channel("C4", "off-topic", 2).Object()))
	private := channel("C5", "secret", 2)
	private.IsPrivate = true
	f.event(ws, 13, upsert(private.Object()), upsert(person("U1", 1, "general", "").Object()))
	for words, want := range map[string]string{"gen": "[C1]", "joint": "[]", "vent": "[C3]", "topic": "[C4]", "secret": "[]"} {
		if got := find(d, words); got != want {
			t.Errorf("%s: %s, want %s", words, got, want)
		}
	}
}

func TestDirectory_Bounds(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.DirectoryBytes = 40_000 })
	f.follow(10, ws, "T2", "T3", "C1")
	fill := func(w protocol.WorkspaceID, n int) *Directory {
		l := f.LoadDirectory(w, protocol.KindUser)
		var all []protocol.Shape
		for i := range n {
			all = append(all, person(protocol.UserID(fmt.Sprintf("U%s%05d", w, i)), 1, fmt.Sprint("name", i), ""))
		}
		l.Add(page(10, all...))
		d, err := f.FillDirectory(l)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if fill("T1", 5000) != nil {
		t.Error("kept one that is too large")
	}
	f.Expire(f.time()) // The numbering has become too large.
	fill("T1", 100)
	f.advance(1)
	fill("T2", 100)
	f.advance(1)
	f.Directory("T1", protocol.KindUser)
	f.advance(1)
	for n := 10; n < 1000; n += 10 { // Until there is no room for three.
		fill("T3", n)
		if _, ok := f.directories.get(dirKey{"T2", protocol.KindUser}); !ok {
			break
		}
	}
	if _, freshness := f.Directory("T2", protocol.KindUser); freshness != Missing {
		t.Errorf("T2 is %s, %d directories", freshness, f.directories.len())
	}
	f.mu.Lock()
	if n := f.directoryBytes(); n > f.config.DirectoryBytes {
		t.Errorf("%d bytes", n)
	}
	f.mu.Unlock()

	f.advance(29 * time.Minute)
	f.Directory("T1", protocol.KindUser)
	f.advance(2 * time.Minute)
	f.Expire(f.time())
	if _, freshness := f.Directory("T3", protocol.KindUser); freshness != Missing {
		t.Error("an idle directory is kept")
	}
	if _, freshness := f.Directory("T1", protocol.KindUser); freshness != Fresh {
		t.Error("one that was used is not")
	}

	// A new numbering: sets and directories go, and those that somebody still has work.
	old := f.fillSet(t, "C1", 10, "UT100001", "UT100002")
	d, _ := f.Directory("T1", protocol.KindUser)
	load := f.LoadDirectory("T1", protocol.KindUser)
	load.Add(page(10))
	many := make([]protocol.UserID, 2000)
	for i := range many {
		many[i] = protocol.UserID(fmt.Sprintf("W%08d", i))
	}
	f.fillSet(t, "C9", 10, many...) // not followed
	f.Expire(f.time())
	if f.numSets() != 0 || f.directories.len() != 0 {
		t.Errorf("%d sets, %d directories", f.numSets(), f.directories.len())
	}
	if _, err := f.FillDirectory(load); !errors.Is(err, ErrOutrun) {
		t.Errorf("a load with old numbers: %v", err)
	}
	again := f.fillSet(t, "C1", 10, "UT100002", "UT100003")
	if page, _ := d.Page(protocol.ByID, Listed{}, KindsOf(func(Traits) bool { return true }), again.People(), 10); len(page) != 2 {
		t.Errorf("%v", page)
	}
	if n := again.People().With(old.People()).Len(); n != 3 || f.People([]protocol.ObjectID{"UT100009"}, old, again).Len() != 4 {
		t.Errorf("%d together", n)
	}
}

// A directory whose changes nobody merges is given up.
func TestDirectory_Overfull(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws)
	d := f.fillDirectory(t, protocol.KindUser, page(10))
	s := &dirState{base: d.state.Load().base}
	for i := range maxChanged {
		s.changed = append(s.changed, &change{number: uint32(i + 1), id: "U0"})
	}
	d.mu.Lock()
	d.put(s)
	d.mu.Unlock()
	f.event(ws, 11, upsert(person("U1", 1, "ann", "").Object()))
	if _, freshness := f.Directory("T1", protocol.KindUser); freshness != Missing {
		t.Error("it is kept")
	}
}

// members of a channel by the hundred thousand are kilobytes, and pages of them come in id order.
func TestMembers_ManyAreCompact(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws, "C1")
	users := make([]protocol.UserID, 100_000)
	for i := range users {
		users[i] = protocol.UserID(fmt.Sprintf("U%08d", i*3))
	}
	f.fillSet(t, "C2", 10, users[50_000:]...) // Numbers are not in id order.
	s := f.fillSet(t, "C1", 10, users...)
	if s.bytes > 64<<10 || s.Len() != len(users) {
		t.Errorf("%d bytes for %d members", s.bytes, s.Len())
	}
	f.event("C1", 11, added("C1", "U00000001"), removed("C1", "U00000003"), added("C1", "Z1"))
	users = slices.Insert(slices.Delete(users, 1, 2), 1, "U00000001")
	users = append(users, "Z1")
	var all []protocol.UserID
	for after := protocol.UserID(""); ; {
		page, more := s.Page(after, 9999)
		if all = append(all, page...); !more {
			break
		}
		after = page[len(page)-1]
	}
	if !slices.Equal(all, users) {
		t.Errorf("%d paged, %d members", len(all), len(users))
	}
}

// names that people have here: short, so that they meet, some with accents.
var someNames = rapid.SampledFrom([]string{"", "ann", "Anna", "anne", "Ännä", "bob", "Bobby", "robert", "roberta", "Smith", "smithson", "jones-smith", "О́льга", "o'neil", "x y", "johnathan", "jonathan", "李 雷"})

// drawUser makes up a user.
func drawUser(t *rapid.T, id protocol.UserID, v protocol.Version) *protocol.User {
	u := person(id, v, someNames.Draw(t, "name"), someNames.Draw(t, "display"))
	u.RealName = someNames.Draw(t, "first") + " " + someNames.Draw(t, "last")
	u.Profile.Email = someNames.Draw(t, "email") + "@example.com"
	u.Deleted, u.IsBot, u.IsRestricted = rapid.IntRange(0, 4).Draw(t, "deleted") == 0, rapid.IntRange(0, 6).Draw(t, "bot") == 0, rapid.IntRange(0, 5).Draw(t, "guest") == 0
	return u
}

// naive does a search by looking at every entry.
func naive(entries map[protocol.ObjectID]protocol.ListEntry, heard map[protocol.ObjectID]uint32, q *Query) []protocol.ObjectID {
	type ranked struct {
		rank, top int
		heard     uint32
		name      string
		id        protocol.ObjectID
	}
	var found []ranked
	for _, e := range entries {
		if !q.Kinds.Has(TraitsOf(&e)) || q.Among != nil && !q.Among.Contains(e.ID) {
			continue
		}
		words := protocol.SearchWords(e.Name, e.RealName, e.DisplayName, e.SortName)
		if q.Email {
			words = append(words, protocol.SearchWords(e.Email)...)
		}
		begins, exact, near := true, len(q.Words) > 0, true
		for _, w := range q.Words {
			begins = begins && slices.ContainsFunc(words, func(have string) bool { return strings.HasPrefix(have, w) })
			exact = exact && slices.Contains(words, w)
			near = near && slices.ContainsFunc(words, func(have string) bool {
				return strings.HasPrefix(have, w) || beginsNearly([]rune(have), []rune(w), errorsIn(len([]rune(w))))
			})
		}
		close := q.Near != nil && q.Near.Contains(e.ID)
		r := ranked{name: e.SortName, id: e.ID, heard: heard[e.ID], top: slices.Index(q.Top, e.ID)}
		switch {
		case begins && r.top >= 0:
			r.rank = 1
		case begins && close && exact:
			r.rank = 2
		case begins && close:
			r.rank = 3
		case begins && exact:
			r.rank = 4
		case begins:
			r.rank = 5
		case near && q.Fuzz && r.top >= 0:
			r.rank = 6
		case near && q.Fuzz && close:
			r.rank = 7
		case near && q.Fuzz:
			r.rank = 8
		default:
			continue
		}
		found = append(found, r)
	}
	slices.SortFunc(found, func(a, b ranked) int {
		switch {
		case a.rank != b.rank:
			return a.rank - b.rank
		case a.top != b.top:
			return a.top - b.top
		case a.heard != b.heard:
			return int(b.heard) - int(a.heard)
		case a.name != b.name:
			return strings.Compare(a.name, b.name)
		}
		return strings.Compare(string(a.id), string(b.id))
	})
	ids := make([]protocol.ObjectID, 0, q.Limit)
	for _, r := range found[:min(len(found), q.Limit)] {
		ids = append(ids, r.id)
	}
	return ids
}

// beginsNearly reports whether some beginning of word is within errors of query: wrong, missing and surplus letters and
// swapped neighbours count one each.
func beginsNearly(word, query []rune, errors int) bool {
	if errors == 0 {
		return false
	}
	for n := range len(word) + 1 {
		if distance(word[:n], query) <= errors {
			return true
		}
	}
	return false
}

func distance(a, b []rune) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		for j := range d[i] {
			switch {
			case i == 0:
				d[i][j] = j
			case j == 0:
				d[i][j] = i
			default:
				cost := 1
				if a[i-1] == b[j-1] {
					cost = 0
				}
				d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
				if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
					d[i][j] = min(d[i][j], d[i-2][j-2]+1)
				}
			}
		}
	}
	return d[len(a)][len(b)]
}

// TestDirectory_Property: whatever events come, in whatever order with the load and with merges, searches, pages and
// counts say what a look at every entry says.
func TestDirectory_Property(tt *testing.T) {
	rapid.Check(tt, func(t *rapid.T) {
		f := newFixture(tt)
		defer f.Close()
		f.follow(1, ws, "C1")
		truth := make(map[protocol.ObjectID]protocol.ListEntry)
		at := protocol.Position(1)
		ids := make([]protocol.UserID, 30)
		for i := range ids {
			ids[i] = protocol.UserID(fmt.Sprintf("U%02d", i))
		}
		somebody := rapid.SampledFrom(ids)
		event := func() {
			at++
			u := drawUser(t, somebody.Draw(t, "user"), protocol.Version(at))
			if rapid.IntRange(0, 5).Draw(t, "gone") == 0 {
				delete(truth, protocol.ObjectID(u.ID))
				f.event(ws, at, bury(protocol.ObjectID(u.ID), protocol.Version(at)))
				return
			}
			truth[protocol.ObjectID(u.ID)] = u.Entry()
			f.event(ws, at, upsert(u.Object()))
		}
		for range rapid.IntRange(0, 20).Draw(t, "before") {
			event()
		}
		l := f.LoadDirectory("T1", protocol.KindUser)
		for part := range slices.Chunk(ids, 7) {
			a := &protocol.ListAnswer{Position: at}
			for _, id := range part {
				if e, ok := truth[protocol.ObjectID(id)]; ok {
					a.Entries = append(a.Entries, e)
				}
			}
			l.Add(a)
			for range rapid.IntRange(0, 3).Draw(t, "meanwhile") {
				event()
			}
		}
		d, err := f.FillDirectory(l)
		if err != nil || d == nil {
			t.Fatal(d, err)
		}
		members := rapid.SliceOfDistinct(somebody, rapid.ID).Draw(t, "members")
		members = append(members, "U99") // of another workspace
		set, err := f.FillMembers("C1", members, at)
		if err != nil {
			t.Fatal(err)
		}
		heard := make(map[protocol.ObjectID]uint32)
		for range 3 {
			for range rapid.IntRange(0, 10).Draw(t, "after") {
				event()
			}
			for range rapid.IntRange(0, 10).Draw(t, "messages") {
				who := protocol.ObjectID(rapid.SampledFrom(append(ids, "U99")).Draw(t, "author"))
				if number, ok := d.numbers.find(string(who)); ok {
					minute := uint32(rapid.IntRange(1, 5).Draw(t, "minute"))
					d.numbers.hear(number, minute)
					heard[who] = max(heard[who], minute)
				}
			}
			if rapid.Bool().Draw(t, "merge") {
				d.Merge()
			}
			sameSearch(t, d, truth, heard, set.People())
			samePages(t, d, truth, set.People())
		}
	})
}

func sameSearch(t *rapid.T, d *Directory, truth map[protocol.ObjectID]protocol.ListEntry, heard map[protocol.ObjectID]uint32, members *People) {
	queries := rapid.SampledFrom([]string{"", "a", "an", "ann", "anna", "anan", "bo", "bbo", "smith", "smiht", "ann smith", "o neil", "rob x", "robretson", "jonhathan", "jonathna", "ольга", "ольгя", "exam", "li", "李", "anne bobby"})
	kinds := rapid.SampledFrom([]Kinds{KindsOf(func(Traits) bool { return true }), KindsOf(func(t Traits) bool { return t&TraitDeactivated == 0 }), KindsOf(func(t Traits) bool { return t&TraitBot != 0 })})
	q := &Query{Words: protocol.SearchWords(queries.Draw(t, "query")), Email: rapid.Bool().Draw(t, "email"), Fuzz: rapid.Bool().Draw(t, "fuzz"),
		Kinds: kinds.Draw(t, "kinds"), Limit: rapid.IntRange(1, 40).Draw(t, "limit")}
	for _, id := range rapid.SliceOfNDistinct(rapid.IntRange(0, 35), 0, 5, rapid.ID).Draw(t, "top") {
		q.Top = append(q.Top, protocol.ObjectID(fmt.Sprintf("U%02d", id)))
	}
	switch rapid.IntRange(0, 3).Draw(t, "members are") {
	case 0:
		q.Near = members
	case 1:
		q.Among = members
	}
	entries := truth
	if rapid.Bool().Draw(t, "extra") {
		e := drawUser(t, "U99", 1).Entry()
		q.Extra = []protocol.ListEntry{e}
		entries = make(map[protocol.ObjectID]protocol.ListEntry, len(truth)+1)
		maps.Copy(entries, truth)
		entries["U99"] = e
	}
	want := naive(entries, heard, q)
	if got := search(d.state.Load(), q); !slices.Equal(got, want) {
		t.Fatalf("%q, fuzz %v, email %v: %v, want %v", q.Words, q.Fuzz, q.Email, got, want)
	}
}

func samePages(t *rapid.T, d *Directory, truth map[protocol.ObjectID]protocol.ListEntry, members *People) {
	order := rapid.SampledFrom([]protocol.ListOrder{protocol.ByID, protocol.ByName}).Draw(t, "order")
	kinds := KindsOf(func(t Traits) bool { return t&TraitDeactivated == 0 })
	var among *People
	if rapid.Bool().Draw(t, "of members") {
		among = members
	}
	var want []Listed
	var count [numTraits]int
	strangers := members.Users()
	for id, e := range truth {
		if members.Contains(id) {
			count[TraitsOf(&e)]++
			strangers = slices.DeleteFunc(strangers, func(u protocol.UserID) bool { return protocol.ObjectID(u) == id })
		}
		if !kinds.Has(TraitsOf(&e)) || among != nil && !among.Contains(id) {
			continue
		}
		l := Listed{Name: e.SortName, ID: id}
		if order == protocol.ByID {
			l.Name = ""
		}
		want = append(want, l)
	}
	slices.SortFunc(want, func(a, b Listed) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	limit := rapid.IntRange(1, 10).Draw(t, "size")
	var got []Listed
	for after := (Listed{}); ; {
		page, more := d.Page(order, after, kinds, among, limit)
		if got = append(got, page...); !more {
			break
		}
		if len(page) != limit {
			t.Fatalf("a page of %d with more to come, limit %d", len(page), limit)
		}
		after = page[len(page)-1]
	}
	if !slices.Equal(got, want) {
		t.Fatalf("pages by %s: %v, want %v", order, got, want)
	}
	if got := d.Count(members); got != count {
		t.Fatalf("counts %v, want %v", got, count)
	}
	if got := d.Others(members).Users(); !slices.Equal(got, strangers) {
		t.Fatalf("others %v, want %v", got, strangers)
	}
	if d.Len() != len(truth) {
		t.Fatalf("%d entries, want %d", d.Len(), len(truth))
	}
}

// TestSearch_AmongMany: sets too large to be looked up one by one give the same answers.
func TestSearch_AmongMany(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws, "C1")
	entries := crowd(7000)
	d := loadCrowd(t, f, entries, 10)
	truth := make(map[protocol.ObjectID]protocol.ListEntry)
	var members []protocol.UserID
	for i, e := range entries {
		truth[e.ID] = e
		if i%7 != 3 {
			members = append(members, protocol.UserID(e.ID))
		}
	}
	many := f.fillSet(t, "C1", 10, members...).People()
	if many.Len() <= smallPeople {
		t.Fatal("too few")
	}
	changed := entries[1]
	changed.Version, changed.SortName, changed.Name = changed.Version+1, "aaa", "aaa"
	truth[changed.ID] = changed
	d.upsert(&changed, 11)
	active := KindsOf(func(t Traits) bool { return t&TraitDeactivated == 0 })
	heard := make(map[protocol.ObjectID]uint32)
	for i, e := range entries[:6000:6000] {
		if number, _ := d.numbers.find(string(e.ID)); i%11 == 2 {
			heard[e.ID] = uint32(i*7919%400 + 1)
			d.numbers.hear(number, heard[e.ID])
		}
	}
	for _, query := range []string{"", "a", "jo", "an j", "marika", "marijak", "aaa"} {
		for _, q := range []Query{{Among: many}, {Near: many}, {Near: many, Fuzz: true}, {Among: many, Fuzz: true, Top: []protocol.ObjectID{entries[3].ID, entries[9].ID}}} {
			q.Words, q.Kinds, q.Limit = protocol.SearchWords(query), active, 40
			if got, want := search(d.state.Load(), &q), naive(truth, heard, &q); !slices.Equal(got, want) {
				t.Errorf("%q: %v, want %v", query, got, want)
			}
		}
	}
	var all []Listed
	for after := (Listed{}); ; {
		page, more := d.Page(protocol.ByName, after, active, many, 1000)
		if all = append(all, page...); !more {
			break
		}
		after = page[len(page)-1]
	}
	want := 0
	for id, e := range truth {
		if many.Contains(id) && !e.Deleted {
			want++
		}
	}
	if len(all) != want || !slices.IsSortedFunc(all, func(a, b Listed) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("%d in pages, want %d in order", len(all), want)
	}
}

// TestWords_AreThoseOfTheContract: the short way for plain text and the long way agree.
func TestWords_AreThoseOfTheContract(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[A-Za-z0-9 .,@_'-]{0,30}`)).Draw(t, "text")
		if got, want := appendWords(nil, text), protocol.SearchWords(text); !slices.Equal(got, want) {
			t.Fatalf("%q: %q, want %q", text, got, want)
		}
	})
}

// TestFuzzy_IsTheDistance: going along the words finds what the plain definition finds.
func TestFuzzy_IsTheDistance(t *testing.T) {
	letters := rapid.StringOfN(rapid.SampledFrom([]rune("abcdé")), 1, 10, -1)
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfNDistinct(letters, 1, 60, rapid.ID).Draw(t, "words")
		query := rapid.StringOfN(rapid.SampledFrom([]rune("abcdé")), 3, 10, -1).Draw(t, "query")
		slices.Sort(words)
		x := new(wordIndex)
		for range words {
			x.ends = append(x.ends, uint32(len(x.ends)))
		}
		var want, got []string
		for _, w := range words {
			x.words.add([]byte(w))
			if beginsNearly([]rune(w), []rune(query), errorsIn(len([]rune(query)))) {
				want = append(want, w)
			}
			if newFuzzy(query).matches(w) != slices.Contains(want, w) {
				t.Fatalf("%q alone against %q", w, query)
			}
		}
		newFuzzy(query).all(x, func(from, to int) { got = append(got, words[from:to]...) })
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("%q in %q: %q, want %q", query, words, got, want)
		}
	})
	if newFuzzy("ab") != nil || newFuzzy(strings.Repeat("a", maxFuzzyWord+1)) != nil {
		t.Error("errors are forgiven in very short or long words")
	}
	long := newFuzzy(strings.Repeat("ab", maxFuzzyWord/2))
	if long.matches(strings.Repeat("b", 200)) || !long.matches("x"+strings.Repeat("ab", 50)) {
		t.Error("long words")
	}
}

// TestFuzzy_WorkIsBounded: an index of nothing but near misses ends the search.
func TestFuzzy_WorkIsBounded(t *testing.T) {
	x := new(wordIndex)
	for i := range 100_000 {
		x.words.add(fmt.Appendf(nil, "abcd%06d", i))
		x.ends = append(x.ends, uint32(i))
	}
	f := newFuzzy("abcdefgh99")
	f.all(x, func(int, int) {})
	if f.budget < -maxFuzzyWord {
		t.Errorf("budget %d", f.budget)
	}
}
