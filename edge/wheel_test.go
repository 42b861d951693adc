package edge

import (
	"maps"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestWheel_WhoIsDueIsTakenThen: against a table of who is due when. Nobody is taken early, or late, or twice; whoever is
// in the wheel, looked at or not, is among all of them.
func TestWheel_WhoIsDueIsTakenThen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w wheel
		now := tick(rapid.IntRange(0, 3*slots).Draw(t, "since"))
		w.take(now, nil)
		dueAt := make(map[*Session]tick) // 0: it is being looked at
		within := func(at tick) tick { return max(min(at, now+slots-1), now+1) }
		someone := func(t *rapid.T) *Session {
			return rapid.SampledFrom(slices.SortedFunc(maps.Keys(dueAt), func(a, b *Session) int { return int(a.number) - int(b.number) })).Draw(t, "session")
		}
		at := func(t *rapid.T) tick {
			return rapid.OneOf(rapid.Just(now), rapid.Just(tick(0)), rapid.Just(tick(math.MaxUint32-1)), rapid.Custom(func(t *rapid.T) tick { return now + tick(rapid.IntRange(0, 2*slots).Draw(t, "after")) })).Draw(t, "at")
		}
		number := uint32(0)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				s, at := &Session{number: number}, at(t)
				number++
				w.add(s, at)
				dueAt[s] = within(at)
			},
			"remove": func(t *rapid.T) {
				if len(dueAt) == 0 {
					t.Skip()
				}
				s := someone(t)
				w.remove(s)
				w.remove(s) // as if it had never been there
				w.need(s, now+1)
				delete(dueAt, s)
			},
			"need": func(t *rapid.T) {
				if len(dueAt) == 0 {
					t.Skip()
				}
				s, at := someone(t), at(t)
				w.need(s, at)
				if was := dueAt[s]; was == 0 || within(at) < was {
					dueAt[s] = within(at)
				}
			},
			"take": func(t *rapid.T) {
				now += tick(rapid.OneOf(rapid.IntRange(0, 3), rapid.IntRange(0, 3*slots)).Draw(t, "later"))
				for _, d := range w.take(now, nil) {
					if was := dueAt[d.session]; was == 0 || was > now || was != d.since {
						t.Fatalf("at %d session %d is taken, which stood there for %d, as if for %d", now, d.session.number, was, d.since)
					}
					dueAt[d.session] = 0
				}
				for s, at := range dueAt {
					if at != 0 && at <= now {
						t.Fatalf("at %d session %d has not been taken, which was due at %d", now, s.number, at)
					}
				}
			},
			"": func(t *rapid.T) {
				all := make(map[*Session]bool)
				for _, s := range w.all() {
					if _, in := dueAt[s]; !in || all[s] {
						t.Fatalf("session %d is there, or there twice", s.number)
					}
					all[s] = true
				}
				if len(all) != len(dueAt) || w.len() != len(dueAt) {
					t.Fatalf("%d of %d are there, %d are counted", len(all), len(dueAt), w.len())
				}
			},
		})
	})
}

// TestWheel_TurnsAreSpread: of sessions that come one after the other each has its turn once a round, and no tick has many.
func TestWheel_TurnsAreSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		every := tick(rapid.IntRange(1, slots).Draw(t, "every"))
		first := rapid.Uint32().Draw(t, "first")
		n := rapid.IntRange(1, 3000).Draw(t, "sessions")
		since := tick(rapid.Uint32Range(0, math.MaxUint32/2).Draw(t, "since"))
		in := make(map[tick]int)
		for i := range n {
			s := &Session{number: first + uint32(i)}
			at := s.round(since, every)
			if at <= since || at > since+every || s.round(at, every) != at+every || s.round(at-1, every) != at {
				t.Fatalf("the turns after %d, once in %d, are at %d and %d", since, every, at, s.round(at, every))
			}
			in[at]++
		}
		// Three to a place: the fractional parts of n multiples of the golden ratio have gaps of three sizes.
		if most := slices.Max(slices.Collect(maps.Values(in))); most > n/int(every)+3 {
			t.Errorf("%d of %d sessions have their turn at once, of %d", most, n, every)
		}
	})
}

func TestWheel_ATimeIsNeverShorter(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want tick
	}{
		{-time.Second, 0}, {0, 0}, {1, 1}, {tickLength, 1}, {tickLength + 1, 2}, {25 * time.Second, 500}, {math.MaxInt64, 1 << 30},
	} {
		if got := ticks(c.d); got != c.want {
			t.Errorf("%v is %d ticks", c.d, got)
		}
	}
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
