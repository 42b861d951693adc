package cache

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"flannel/protocol"
)

// largest is the number of users of the largest workspace that is known.
const largest = 148_170

// crowd makes list entries of people with names that are as common as names are: a few are, most are not.
func crowd(n int) []protocol.ListEntry {
	rng := rand.New(rand.NewPCG(1, 2))
	syllables := strings.Fields("an el jo ma ri ka lu be so ta ni mo ra de le vi sa no pe mi zo gu ha fi ce do wi ty ba ro")
	makeName := func(parts int) string {
		var b strings.Builder
		for range parts {
			b.WriteString(syllables[rng.IntN(len(syllables))])
		}
		name := b.String()
		return strings.ToUpper(name[:1]) + name[1:]
	}
	names := func(n, parts int) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = makeName(parts + i%2)
		}
		return list
	}
	first, last := names(2500, 2), names(12_000, 3)
	zipfFirst, zipfLast := rand.NewZipf(rng, 1.1, 20, uint64(len(first)-1)), rand.NewZipf(rng, 1.05, 50, uint64(len(last)-1))
	entries := make([]protocol.ListEntry, n)
	for i := range entries {
		f, l := first[zipfFirst.Uint64()], last[zipfLast.Uint64()]
		if rng.IntN(50) == 0 {
			f = strings.Replace(f, "e", "é", 1)
		}
		u := protocol.User{
			ID: protocol.UserID(fmt.Sprintf("U%09d", i*7)), TeamID: "T1", Name: fmt.Sprintf("%s.%s%d", strings.ToLower(f), strings.ToLower(l), i%100),
			RealName: f + " " + l, Updated: 1_500_000_000 + protocol.Version(i), Deleted: rng.IntN(10) == 0, IsRestricted: rng.IntN(30) == 0, IsBot: rng.IntN(200) == 0,
		}
		u.Profile.DisplayName = f
		if rng.IntN(3) == 0 {
			u.Profile.DisplayName = f + l[:1]
		}
		u.Profile.Email = u.Name + "@example.com"
		entries[i] = u.Entry()
	}
	return entries
}

// loadCrowd fills a directory by pages of 1,000.
func loadCrowd(tb testing.TB, f *fixture, entries []protocol.ListEntry, at protocol.Position) *Directory {
	tb.Helper()
	l := f.LoadDirectory("T1", protocol.KindUser)
	for page := range slices.Chunk(entries, protocol.MaxListLimit) {
		l.Add(&protocol.ListAnswer{Entries: page, Position: at})
	}
	d, err := f.FillDirectory(l)
	if err != nil || d == nil {
		tb.Fatalf("%v, %v", d, err)
	}
	return d
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkDirectory_Load makes the directory of the largest workspace. Required: under 40 MB, numbering included; the
// time is what the node adds to what the backend needs for 149 pages.
func BenchmarkDirectory_Load(b *testing.B) {
	entries := crowd(largest)
	for b.Loop() {
		b.StopTimer()
		f := newFixture(b)
		f.follow(10, ws)
		before := heap()
		b.StartTimer()
		d := loadCrowd(b, f, entries, 10)
		b.StopTimer()
		for number := range uint32(largest) { // Everybody has spoken.
			d.numbers.hear(number, 1)
		}
		b.ReportMetric(float64(heap()-before)/1e6, "MB")
		b.ReportMetric(float64(d.bytes.Load()+int64(d.numbers.bytes()))/1e6, "MB-counted")
		runtime.KeepAlive(d)
		f.Close()
		b.StartTimer()
	}
}

// BenchmarkDirectory_Search is queries as people type them: beginnings of names, one letter, two words, errors.
// Required: p99 under 2 ms in the node.
func BenchmarkDirectory_Search(b *testing.B) {
	f := newFixture(b)
	f.follow(10, ws)
	entries := crowd(largest)
	d := loadCrowd(b, f, entries, 10)
	general := make([]protocol.UserID, 0, largest)
	for i := range entries {
		if i%3 != 0 {
			general = append(general, protocol.UserID(entries[i].ID))
		}
	}
	f.follow(10, "C1", "C2")
	large, small := f.fillSet(b, "C1", 10, general...).People(), f.fillSet(b, "C2", 10, general[:300]...).People()
	some := KindsOf(func(t Traits) bool { return t&TraitDeactivated == 0 })
	rng := rand.New(rand.NewPCG(3, 4))
	minute := minuteOf("1790000000.000000", time.Unix(2e9, 0))
	for i := range entries { // Everybody has spoken within two months.
		number, _ := d.numbers.find(string(entries[i].ID))
		d.numbers.hear(number, minute-uint32(rng.IntN(60*24*60)))
	}
	pick := func() string { return strings.ToLower(protocol.FoldName(entries[rng.IntN(largest)].RealName)) }
	top := make([]protocol.ObjectID, 50)
	for i := range top {
		top[i] = entries[rng.IntN(largest)].ID
	}
	for _, c := range []struct {
		name  string
		query func() *Query
	}{
		{"letter", func() *Query { return &Query{Words: []string{pick()[:1]}} }},
		{"three", func() *Query { return &Query{Words: []string{pick()[:3]}} }},
		{"first", func() *Query { return &Query{Words: strings.Fields(pick())[:1]} }},
		{"both", func() *Query { return &Query{Words: strings.Fields(pick())} }},
		{"near", func() *Query { return &Query{Words: []string{pick()[:2]}, Near: small, Top: top} }},
		{"near-large", func() *Query { return &Query{Words: []string{pick()[:2]}, Near: large, Top: top} }},
		{"mail", func() *Query { return &Query{Words: []string{pick()[:3], "exam"}, Email: true} }},
		{"guest", func() *Query { return &Query{Words: []string{pick()[:1]}, Among: small} }},
		{"fuzzy-1", func() *Query {
			w := []byte(strings.Fields(pick())[0])
			w[len(w)-1] = 'x'
			return &Query{Words: []string{string(w)}, Fuzz: true, Top: top, Near: small}
		}},
		{"fuzzy-2", func() *Query {
			w := []byte(strings.Fields(pick())[1] + "xx")
			w[2] = 'x'
			return &Query{Words: []string{string(w)}, Fuzz: true}
		}},
		{"fuzzy-both", func() *Query {
			words := strings.Fields(pick())
			words[0] = words[0][1:]
			words[1] = words[1][:2] + words[1][3:]
			return &Query{Words: words, Fuzz: true, Email: true}
		}},
		{"nonsense", func() *Query { return &Query{Words: []string{"qqxyzzyw"}, Fuzz: true} }},
		{"none", func() *Query { return &Query{Top: top, Near: small} }},
		{"all", func() *Query { return &Query{} }},
	} {
		b.Run(c.name, func(b *testing.B) {
			times := make([]time.Duration, 0, 10_000)
			b.ReportAllocs()
			for b.Loop() {
				q := c.query()
				q.Kinds, q.Limit = some, 25
				start := time.Now()
				f.Search(d, q)
				times = append(times, time.Since(start))
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "µs-p99")
		})
	}
}

// BenchmarkDirectory_Merge takes changes into the directory of the largest workspace, beside searches.
func BenchmarkDirectory_Merge(b *testing.B) {
	f := newFixture(b)
	f.follow(10, ws)
	entries := crowd(largest)
	d := loadCrowd(b, f, entries, 10)
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		for i := range mergeAt {
			e := entries[i*100]
			e.Version += protocol.Version(n) + 1
			e.Name = fmt.Sprint("other", n, i)
			d.upsert(&e, 11)
		}
		b.StartTimer()
		d.Merge()
	}
}

// BenchmarkDirectory_Page is a page of 50 of a channel of 100,000 in the order of names.
func BenchmarkDirectory_Page(b *testing.B) {
	f := newFixture(b)
	f.follow(10, ws, "C1")
	entries := crowd(largest)
	d := loadCrowd(b, f, entries, 10)
	users := make([]protocol.UserID, 100_000)
	for i := range users {
		users[i] = protocol.UserID(entries[i].ID)
	}
	before := heap()
	set := f.fillSet(b, "C1", 10, users...)
	b.ReportMetric(float64(heap()-before)/1e3, "KB/100000-members")
	all := KindsOf(func(Traits) bool { return true })
	b.ReportAllocs()
	after := Listed{}
	for b.Loop() {
		page, more := d.Page(protocol.ByName, after, all, set.People(), 50)
		if after = page[len(page)-1]; !more {
			after = Listed{}
		}
	}
}
