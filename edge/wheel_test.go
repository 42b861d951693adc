package edge

import (
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestWheel_EachOnceATurn: whoever is added stands in one spoke until they are removed, and spokes are alike.
func TestWheel_EachOnceATurn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w wheel
		in := make(map[*Session]bool)
		for number := range uint64(rapid.IntRange(0, 200).Draw(t, "sessions")) {
			s := &Session{number: number}
			w.add(s)
			in[s] = true
		}
		full := w.count
		for s := range in {
			if rapid.Bool().Draw(t, "goes") {
				w.remove(s)
				w.remove(s) // as if it had never been there
				delete(in, s)
			}
		}
		seen := make(map[*Session]int)
		for spoke := range spokes {
			some := w.at(spoke, nil)
			if len(some) > full/spokes+1 {
				t.Fatalf("%d of %d sessions are in one spoke", len(some), full)
			}
			for _, s := range some {
				seen[s]++
			}
		}
		for s := range in {
			if seen[s] != 1 {
				t.Fatalf("session %d is looked at %d times a turn", s.number, seen[s])
			}
		}
		if len(seen) != len(in) || w.count != len(in) {
			t.Fatalf("%d are there, %d are counted, %d are looked at", len(in), w.count, len(seen))
		}
	})
}

// TestFinish_ManyAtOnce: whoever ends does so beside the others, of whom only few run.
func TestFinish_ManyAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		var peers []*peer
		for range 100 {
			peers = append(peers, w.hello(w.thinURL("xoxp-ana", "")))
		}
		for range cap(w.edge.leaving) { // Whoever is on the way out takes their time.
			w.edge.leaving <- struct{}{}
		}
		for _, p := range peers[1:] {
			p.conn.Close()
		}
		synctest.Wait()
		if n := w.hub.len(); n != 100 {
			t.Errorf("%d sessions are attached while nobody may go", n)
		}
		peers[0].send(`{"type":"ping"}`)
		peers[0].until("pong")
		for range cap(w.edge.leaving) {
			<-w.edge.leaving
		}
		time.Sleep(time.Second)
		if n := w.hub.len(); n != 1 {
			t.Errorf("%d sessions are attached when all but one have gone", n)
		}
	})
}
