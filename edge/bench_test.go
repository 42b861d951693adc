package edge

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/protocol"
)

// BenchmarkDeliver is one event of 300 bytes to n sessions over pipes whose other ends are read: it should grow with n
// alone, and allocate nothing per session but a writer's start.
func BenchmarkDeliver(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e := &Edge{cfg: Default(), now: time.Now, metrics: newMetrics(prometheus.NewRegistry())}
			var read sync.WaitGroup
			sessions := make([]*Session, n)
			for i := range sessions {
				client, server := net.Pipe()
				read.Go(func() { drain(client) })
				sessions[i] = &Session{edge: e, id: nobody, raw: server}
			}
			ev := messageEvent(0)
			ev.Payload = []byte(`{"type":"message","text":"` + strings.Repeat("x", 270) + `"}`)
			b.ReportAllocs()
			for b.Loop() {
				shared := new(atomic.Value)
				for _, s := range sessions {
					s.Deliver(ev, shared)
				}
				for _, s := range sessions { // what is timed is written
					s.work.Wait()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/session")
			for _, s := range sessions {
				s.raw.Close()
			}
			read.Wait()
		})
	}
}

func drain(conn net.Conn) {
	buf := make([]byte, 4<<10)
	for {
		if _, err := conn.Read(buf); err != nil {
			return
		}
	}
}

// BenchmarkIdleSessions tells the heap that an idle session costs on the node, over real sockets.
func BenchmarkIdleSessions(b *testing.B) {
	const n = 1000
	w := newWorld(b)
	for b.Loop() {
		before := heap()
		conns := make([]net.Conn, n)
		for i := range conns {
			conns[i] = w.rawSocket(w.thinURL("xoxp-ana", ""))
		}
		eventually(b, "all are in", func() bool { return w.hub.len() == n && w.edge.admission.handshakes.taken() == 0 })
		b.ReportMetric(float64(heap()-before)/n, "B/session")
		b.ReportMetric(float64(runtime.NumGoroutine())/n, "goroutines/session")
		for _, c := range conns {
			c.Close()
		}
		eventually(b, "all are gone", func() bool { return w.hub.len() == 0 && w.edge.Sessions() == 0 })
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestDeliver_SharesOneFrame: an event is framed once for all.
func TestDeliver_SharesOneFrame(t *testing.T) {
	e := &Edge{cfg: Default(), now: time.Now, metrics: newMetrics(prometheus.NewRegistry())}
	e.cfg.OutboxFrames = 1 << 20
	s := &Session{edge: e, id: nobody, held: true, writing: true} // nobody writes
	s.early.open()
	s.early.items = make([]item, 0, 300)
	ev, shared := messageEvent(1), new(atomic.Value)
	s.Deliver(ev, shared)
	if n := testing.AllocsPerRun(100, func() { s.Deliver(ev, shared) }); n != 0 {
		t.Errorf("another delivery allocates %v times", n)
	}
	for _, it := range s.early.items {
		if &it.frame[0] != &s.early.items[0].frame[0] || it.class != protocol.ClassMessage {
			t.Fatal("the frame was made again")
		}
	}
}

// BenchmarkOutbox is what an event costs for each thin session on its way into the outbox and out of it, without the
// socket: eight of them come before a writer takes them.
func BenchmarkOutbox(b *testing.B) {
	const n, burst = 1000, 8
	e := &Edge{cfg: Default(), now: time.Now, metrics: newMetrics(prometheus.NewRegistry()), doors: Doors{Queries: &fakeQueries{}}}
	sessions := make([]*Session, n)
	for i := range sessions {
		sessions[i] = &Session{edge: e, id: nobody, thin: true, writing: true}
		sessions[i].given.add("U1")
		sessions[i].given.add("C1")
	}
	ev := messageEvent(0)
	ev.Seq, ev.Position, ev.Refs = 1, 1, []protocol.ObjectID{"U1", "C1"}
	ev.Payload = []byte(`{"type":"message","text":"` + strings.Repeat("x", 170) + `"}`)
	buf := make([]byte, 0, coalesce)
	b.ReportAllocs()
	for b.Loop() {
		for range burst {
			shared := new(atomic.Value)
			for _, s := range sessions {
				s.Deliver(ev, shared)
			}
		}
		for _, s := range sessions {
			buf, _ = s.take(buf)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n/burst, "ns/delivery")
}
