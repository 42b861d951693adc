package fanout

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"flannel/protocol"
)

// null is a session that only takes the frame.
type null struct {
	user protocol.UserID
	n    int
}

func (n *null) User() protocol.UserID { return n.user }
func (n *null) Deliver(*Frame)        { n.n++ }

// Grows with the number of receivers; the cost of one must not grow with it by more than cache misses.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := newFixture(b)
			for i := range n {
				user := protocol.UserID(fmt.Sprint("U", i))
				f.Attach(&null{user: user}, protocol.Identity{User: user, Workspace: "T1", Role: protocol.RoleMember}, standing(protocol.RoleMember, []protocol.ChannelID{"C1"}))
			}
			ev := message("C1", `{"type":"message"}`)
			b.ReportAllocs()
			for b.Loop() {
				f.Publish(ev)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/receiver")
		})
	}
}

// One session of a user with 100 channels comes and goes.
func BenchmarkAttach(b *testing.B) {
	f := newFixture(b)
	channels := make([]protocol.ChannelID, 100)
	for i := range channels {
		channels[i] = protocol.ChannelID(fmt.Sprint("C", i))
	}
	r := &null{user: "UA"}
	b.ReportAllocs()
	for b.Loop() {
		f.Attach(r, protocol.Identity{User: "UA", Workspace: "T1", Role: protocol.RoleMember}, standing(protocol.RoleMember, channels))
		f.Detach(r)
	}
}

// idleSessions of as many users, each in idlePlaces of idleChannels, are a full node whose clients are quiet.
const (
	idleSessions = 15_000
	idleChannels = 2000
	idlePlaces   = 100
)

// What a full node's sessions cost the hub: some hundred bytes, and about ten for each channel that a user is in.
func BenchmarkAttach_Bytes(b *testing.B) {
	for b.Loop() {
		f := newFixture(b)
		rnd := rand.New(rand.NewPCG(1, 2))
		sessions := make([]null, idleSessions)
		names := make([]protocol.ChannelID, idleChannels)
		for i := range names {
			names[i] = protocol.ChannelID(fmt.Sprintf("C%010d", i))
		}
		channels := make([]protocol.ChannelID, idlePlaces)
		before := heapBytes()
		var spent, gone time.Duration
		for i := range sessions {
			user := protocol.UserID(fmt.Sprintf("U%010d", i))
			for j, ch := range rnd.Perm(idleChannels)[:idlePlaces] {
				channels[j] = names[ch]
			}
			sessions[i].user = user
			id := protocol.Identity{User: user, Workspace: "T1", Workspaces: []protocol.WorkspaceID{"T1"}, Role: protocol.RoleMember}
			start := time.Now()
			f.Attach(&sessions[i], id, standing(protocol.RoleMember, channels))
			spent += time.Since(start)
		}
		f.door.told()
		b.ReportMetric(float64(heapBytes()-before)/idleSessions, "B/session")
		b.ReportMetric(float64(spent.Nanoseconds())/idleSessions, "ns/attach")
		for i := range sessions {
			start := time.Now()
			f.Detach(&sessions[i])
			gone += time.Since(start)
		}
		b.ReportMetric(float64(gone.Nanoseconds())/idleSessions, "ns/detach")
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
