package fanout

import (
	"fmt"
	"testing"

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
				f.Attach(&null{user: user}, protocol.Identity{User: user, Workspace: "T1", Role: protocol.RoleMember}, func() ([]protocol.ChannelID, protocol.Role, bool) {
					return []protocol.ChannelID{"C1"}, protocol.RoleMember, true
				})
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
		f.Attach(r, protocol.Identity{User: "UA", Workspace: "T1", Role: protocol.RoleMember}, func() ([]protocol.ChannelID, protocol.Role, bool) { return channels, protocol.RoleMember, true })
		f.Detach(r)
	}
}
