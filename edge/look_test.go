package edge

import (
	"testing"
	"time"
)

// TestLook_AnIdleSessionTwiceAPing: for the ping, and when an answer to it should have come. It used to be looked at each
// second.
func TestLook_AnIdleSessionTwiceAPing(t *testing.T) {
	e := &Edge{cfg: Default(), born: time.Unix(0, 0)}
	s := &Session{edge: e, id: nobody, number: 7, ending: true}
	e.sessions.add(s, 1)
	clock := func(now tick) time.Time { return e.born.Add(time.Duration(now-1) * tickLength) }
	looks, pings := 0, 0
	const minutes = 10
	for now := tick(1); now <= minutes*60*second; now++ {
		for _, d := range e.sessions.take(now, nil) {
			looks++
			if s.round(d.since-1, e.pings()) <= now {
				pings++
				s.alive(clock(now)) // as if it had answered at once
			}
			e.sessions.need(s, s.look(d.since, now, clock(now)))
		}
	}
	if pings != minutes*60/25 || looks > 2*pings+1 {
		t.Errorf("%d pings, and it is looked at %d times", pings, looks)
	}
}

// BenchmarkLook is what the wheel costs for each of 15,000 sessions that say nothing but pong, for a minute.
func BenchmarkLook(b *testing.B) {
	const n = 15_000
	e := &Edge{cfg: Default(), born: time.Unix(0, 0)}
	for i := range n {
		s := &Session{edge: e, id: nobody, number: uint32(i), ending: true}
		e.sessions.add(s, s.round(0, e.pings()))
	}
	b.ReportAllocs()
	looks, now := 0, tick(0)
	var some []due
	for b.Loop() {
		for range 60 * second {
			now++
			at := e.born.Add(time.Duration(now) * tickLength)
			some = e.sessions.take(now, some[:0])
			looks += len(some)
			for _, d := range some {
				d.session.alive(at)
				e.sessions.need(d.session, d.session.look(d.since, now, at))
			}
		}
	}
	b.ReportMetric(float64(looks)/float64(b.N)/n, "looks/session")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/session")
}
