package cache

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"flannel/protocol"
)

// The same for any number of objects. No allocation.
func BenchmarkGet(b *testing.B) {
	f := newFixture(b)
	f.follow(1, ws)
	ids := make([]protocol.ObjectID, 1000)
	for i := range ids {
		ids[i] = protocol.ObjectID(fmt.Sprint("U", i))
		f.Fill(answer(1, object(ids[i], 1)))
	}
	f.settle()
	b.Run("hit", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			if _, got := f.Get(ids[i%len(ids)], 0); got != Fresh {
				b.Fatal(got)
			}
			i++
		}
	})
	b.Run("miss", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f.Get("UNOBODY", 0)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				f.Get(ids[i%len(ids)], 0)
			}
		})
	})
}

// One load of 80 objects, a client's usual batch.
func BenchmarkFill(b *testing.B) {
	f := newFixture(b)
	f.follow(1, ws)
	a := &protocol.ObjectsAnswer{}
	for i := range 80 {
		a.Objects = append(a.Objects, object(protocol.ObjectID(fmt.Sprint("U", i)), 1))
	}
	b.ReportAllocs()
	for b.Loop() {
		a.Position++
		f.Fill(a)
	}
}

func BenchmarkApply(b *testing.B) {
	b.Run("upsert", func(b *testing.B) {
		f := newFixture(b)
		f.follow(1, ws)
		b.ReportAllocs()
		p := protocol.Position(2)
		for b.Loop() {
			f.event(ws, p, upsert(object("U1", protocol.Version(p))))
			p++
		}
	})
	// A message costs the same however many members of the channel are held, but for those whom it mentions.
	for _, n := range []int{1, 10_000} {
		f := newFixture(b)
		f.follow(1, "C1")
		for i := range n {
			user := protocol.UserID(fmt.Sprint("U", i))
			f.follow(1, protocol.Topic(user))
			f.fillUser(b, bootOf(user, "C1"), 1)
		}
		p := protocol.Position(2)
		for name, everyone := range map[string]bool{"one": false, "everyone": true} {
			b.Run(fmt.Sprintf("message/%d members/mentions %s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					e := said("C1", "UX", protocol.TS(fmt.Sprintf("%017d", p)), "U0")
					e.Everyone = everyone
					f.event("C1", p, e)
					p++
				}
			})
		}
	}
}

// A user in 100 channels. Grows with the channels, not with their members.
func BenchmarkUser(b *testing.B) {
	f := newFixture(b)
	f.follow(1, ws, "UA")
	boot := bootOf("UA")
	for i := range 100 {
		ch := protocol.ChannelID(fmt.Sprintf("C%03d", i))
		f.follow(1, protocol.Topic(ch))
		boot.Memberships = append(boot.Memberships, place(ch))
	}
	b.Run("fill", func(b *testing.B) {
		b.ReportAllocs()
		at := protocol.Position(1)
		for b.Loop() {
			at++ // Ahead of the watermark: the state is replaced.
			f.fillUser(b, boot, at)
		}
	})
	u := f.fillUser(b, boot, 1<<40)
	b.Run("memberships", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			u.Memberships()
		}
	})
	b.Run("lookup", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f.User("UA")
		}
	})
}

func BenchmarkIdentity(b *testing.B) {
	f := newFixture(b)
	f.follow(1, "UA")
	f.FillIdentity("xoxp-token", bearer("UA", "1"), 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := f.Identity("xoxp-token"); !ok {
			b.Fatal("lost")
		}
	}
}

// idleUsers, each in idlePlaces of idleChannels, are a full node whose clients are quiet.
const (
	idleUsers    = 15_000
	idleChannels = 2000
	idlePlaces   = 100
)

// What the states of a full node's users cost, each loaded for itself as from a backend, with topics and seats: some
// hundred bytes, and tens of bytes for each channel that a user is in.
func BenchmarkUser_Bytes(b *testing.B) {
	for b.Loop() {
		f := newFixture(b)
		f.follow(1, ws)
		for i := range idleChannels {
			f.follow(1, protocol.Topic(fmt.Sprintf("C%010d", i)))
		}
		rnd := rand.New(rand.NewPCG(1, 2))
		before := heapBytes()
		var spent time.Duration
		for i := range idleUsers {
			user := protocol.UserID(fmt.Sprintf("U%010d", i))
			boot := bootOf(user)
			for _, ch := range rnd.Perm(idleChannels)[:idlePlaces] {
				m := place(protocol.ChannelID(fmt.Sprintf("C%010d", ch)))
				m.LastRead, m.Latest, m.Updated = "1795457999.000100", "1795458000.000200", protocol.Version(1795457000000+ch)
				boot.Memberships = append(boot.Memberships, m)
			}
			raw := protocol.MustMarshal(boot)
			*boot = protocol.UserBoot{}
			if err := json.Unmarshal(raw, boot); err != nil { // Nothing is shared, as in an answer.
				b.Fatal(err)
			}
			f.follow(1, protocol.Topic(boot.User))
			f.Hold(boot.User)
			start := time.Now()
			f.fillUser(b, boot, 2)
			spent += time.Since(start)
		}
		b.ReportMetric(float64(heapBytes()-before)/idleUsers, "B/user")
		b.ReportMetric(float64(spent.Nanoseconds())/idleUsers, "ns/fill")
		runtime.KeepAlive(f)
	}
}

// heapBytes returns what is on the heap, without garbage.
func heapBytes() uint64 {
	runtime.GC()
	runtime.GC() // Once more for what had a finalizer, or was in a pool.
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
