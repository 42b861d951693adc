package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"flannel/protocol"
)

// Whatever happens, there are at most burst + T/every tokens in any T, nobody is told to wait longer than every, and a
// bucket that was left alone is full.
func TestPacer_Property(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		burst, every := 1+rng.IntN(5), time.Duration(1+rng.IntN(1000))*time.Millisecond
		p := newPacer(burst, every)
		now := time.Unix(1_800_000_000, 0)
		var taken []time.Time
		for range 300 {
			now = now.Add(time.Duration(rng.Int64N(int64(every))))
			switch {
			case rng.IntN(10) == 0:
				p.spend(now)
			case rng.IntN(50) == 0:
				now = now.Add(time.Duration(burst) * every)
				if !p.idle(now) {
					t.Fatalf("seed %d: not full after %d intervals", seed, burst)
				}
			default:
				wait := p.take(now)
				if wait > every {
					t.Fatalf("seed %d: wait %v, the interval is %v", seed, wait, every)
				}
				if wait > 0 {
					if !p.storm(now) || p.idle(now) {
						t.Fatalf("seed %d: to wait in peace", seed)
					}
					now = now.Add(wait)
					if p.take(now) != 0 {
						t.Fatalf("seed %d: no token when there was to be one", seed)
					}
				}
				taken = append(taken, now)
			}
		}
		for i := range taken {
			for j := i; j < len(taken); j++ {
				if most := burst + int(taken[j].Sub(taken[i])/every); j-i+1 > most {
					t.Fatalf("seed %d: %d tokens in %v", seed, j-i+1, taken[j].Sub(taken[i]))
				}
			}
		}
	}
	var none *pacer
	none.spend(time.Time{})
	none.press(time.Time{})
	if newPacer(3, 0) != nil || none.take(time.Time{}) != 0 || none.storm(time.Time{}) || !none.idle(time.Time{}) {
		t.Error("nothing to pace by, and yet")
	}
}

// A cold morning: n users come within some seconds; each is identified, booted, and loads a few objects, as sessions do.
// The bound is the one that operators are promised, for all kinds of load together. The load of a batch takes its time.
func TestPace_AColdMorning(t *testing.T) {
	tests := []struct {
		n      int
		spread time.Duration
		took   time.Duration // by a load
	}{
		{1, time.Second, 100 * time.Millisecond},
		{100, time.Second, 100 * time.Millisecond}, {100, 2 * time.Second, 100 * time.Millisecond}, {100, 3 * time.Second, 100 * time.Millisecond},
		{1000, time.Second, 100 * time.Millisecond}, {1000, 3 * time.Second, 100 * time.Millisecond},
		{4000, time.Second, 100 * time.Millisecond}, {4000, 4 * time.Second, 100 * time.Millisecond}, {4000, 8 * time.Second, 100 * time.Millisecond},
		{4000, 20 * time.Second, 3 * time.Second}, // Everything is slow, and so they come slowly.
		{15000, 5 * time.Second, 100 * time.Millisecond}, {15000, 15 * time.Second, 100 * time.Millisecond},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprintf("%d in %v, %v each", tt.n, tt.spread, tt.took), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t)
				f.load = func(name string, body []byte) (int, any) {
					time.Sleep(tt.took)
					return f.answer(name, body)
				}
				u := f.open(nil)
				rng := rand.New(rand.NewPCG(uint64(i), 7))
				// The window, those before, a token, the load.
				longest := 2*u.cfg.BatchWindowMax + min(tt.took, 2*u.cfg.BatchEvery) + u.cfg.BatchEvery + tt.took
				var wg sync.WaitGroup
				timed := func(what string, load func() error) {
					began := time.Now()
					if err := load(); err != nil {
						t.Errorf("%s: %v", what, err)
					}
					if waited := time.Since(began); waited > longest {
						t.Errorf("%s took %v", what, waited)
					}
				}
				for user := range tt.n {
					at := time.Duration(rng.Int64N(int64(tt.spread)))
					// Their own group's channel, one of many private ones, and some of everybody's.
					own := []protocol.ObjectID{protocol.ObjectID(fmt.Sprintf("C8%d1", user/3)), protocol.ObjectID(fmt.Sprintf("C9%d1", rng.IntN(tt.n/10+1)))}
					wg.Go(func() {
						time.Sleep(at)
						timed("identify", func() error { _, _, err := u.Identify(t.Context(), fmt.Sprintf("T%d", user)); return err })
						timed("boot", func() error {
							_, _, err := u.Boot(t.Context(), protocol.UserID(fmt.Sprintf("U%d", user)), 0)
							return err
						})
						timed("objects", func() error { _, err := objects(t.Context(), u, "T1", own, 0); return err })
					})
				}
				wg.Wait()
				total := 0
				for _, call := range protocol.Calls {
					total += f.count(call)
				}
				t.Logf("identify %d, boot %d, objects %d", f.count(protocol.CallIdentify), f.count(protocol.CallBoot), f.count(protocol.CallObjects))
				if most := tt.n/200 + 20; total > most {
					t.Errorf("%d calls, at most %d are allowed", total, most)
				}
			})
		})
	}
}

// A quiet node pays for nothing but the window.
func TestPace_AQuietNodeDoesNotWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u := f.open(nil)
		for i := range 10 {
			began := time.Now()
			if _, _, err := u.Identify(t.Context(), fmt.Sprintf("T%d", i)); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(began); waited != u.cfg.BatchWindow {
				t.Errorf("%d: waited %v", i, waited)
			}
			time.Sleep(2 * u.cfg.BatchEvery)
		}
	})
}

func TestPace_AFullBatchGoesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u := f.open(func(c *Config) { c.BatchBurst, c.BatchEvery = 1, time.Hour })
		if _, _, err := u.Boot(t.Context(), "U1", 0); err != nil { // The only token.
			t.Fatal(err)
		}
		began := time.Now()
		var wg sync.WaitGroup
		for i := range 3 * protocol.MaxBootUsers {
			wg.Go(func() {
				if _, _, err := u.Boot(t.Context(), protocol.UserID(fmt.Sprintf("U1%d", i)), 0); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if waited := time.Since(began); waited != 0 || f.count(protocol.CallBoot) != 4 {
			t.Errorf("%d loads, waited %v", f.count(protocol.CallBoot), waited)
		}
	})
}

// Those who leave while a batch waits for its token take nobody with them; those who came first are served first.
func TestPace_CancelledCallersAndOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u := f.open(func(c *Config) { c.BatchBurst, c.BatchEvery = 1, time.Second })
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 400 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 7 * time.Millisecond)
				c := t.Context()
				if i%3 == 1 {
					c = ctx
				}
				_, _, err := u.Identify(c, fmt.Sprintf("T%03d", i))
				if err != nil && (i%3 != 1 || !errors.Is(err, context.Canceled)) {
					t.Errorf("%d: %v", i, err)
				}
			})
		}
		time.Sleep(1500 * time.Millisecond)
		cancel()
		wg.Wait()
		synctest.Wait()

		var tokens []string
		f.mu.Lock()
		for _, body := range f.bodies {
			var req protocol.IdentifyRequest
			if err := json.Unmarshal([]byte(body), &req); err != nil {
				t.Error(err)
			}
			tokens = append(tokens, req.Tokens...)
		}
		f.mu.Unlock()
		if !slices.IsSorted(tokens) {
			t.Errorf("out of order: %v", tokens)
		}
		if n := f.count(protocol.CallIdentify); n > 5 {
			t.Errorf("%d loads", n)
		}
		b := u.batchers.identify
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.pending != 0 || len(b.coming) != 0 || len(b.open) != 0 {
			t.Errorf("left: %d pending, %d coming, %d open", b.pending, len(b.coming), len(b.open))
		}
	})
}

// Objects are gathered only while boots are held back.
func TestPace_ObjectsWaitOnlyInAStorm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u := f.open(nil)
		ask := func(i int) time.Duration {
			began := time.Now()
			if _, err := objects(t.Context(), u, "T1", []protocol.ObjectID{protocol.ObjectID(fmt.Sprintf("C%d", i))}, 0); err != nil {
				t.Error(err)
			}
			return time.Since(began)
		}
		for i := range 20 {
			if waited := ask(i); waited != u.cfg.BatchWindow {
				t.Errorf("%d: waited %v", i, waited)
			}
		}
		for i := range u.cfg.BatchBurst + 1 {
			if _, _, err := u.Boot(t.Context(), protocol.UserID(fmt.Sprintf("U%d", i)), 0); err != nil {
				t.Error(err)
			}
		}
		for i := range 5 {
			if waited := ask(100 + i); waited <= u.cfg.BatchWindow || waited > u.cfg.BatchWindowMax+u.cfg.BatchEvery {
				t.Errorf("in a storm: waited %v", waited)
			}
		}
		time.Sleep(stormFor * u.cfg.BatchEvery)
		if waited := ask(101); waited != u.cfg.BatchWindow {
			t.Errorf("after it: waited %v", waited)
		}
	})
}

func TestPace_CloseEndsTheWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u := f.open(func(c *Config) { c.BatchBurst, c.BatchEvery = 1, time.Hour })
		if _, _, err := u.Boot(t.Context(), "U1", 0); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _, err := u.Boot(t.Context(), "U2", 0)
			var fail *failure
			if !errors.As(err, &fail) || fail.code != codeAbandoned {
				t.Errorf("%v", err)
			}
		})
		time.Sleep(time.Second)
		began := time.Now()
		u.Close()
		wg.Wait()
		if waited := time.Since(began); waited > time.Second {
			t.Errorf("closing took %v", waited)
		}
	})
}

// The limit of boots in the air holds whatever comes, and can be read afterwards.
func TestPace_NeverMoreBootsAtOnceThanConfigured(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		var mu sync.Mutex
		now, most := 0, 0
		var waited, busy float64
		var u *Upstream
		f.load = func(name string, body []byte) (int, any) {
			mu.Lock()
			now++
			most = max(most, now)
			boots := u.calls[protocol.CallBoot]
			waited, busy = max(waited, float64(u.bootGate.queued())), max(busy, testutil.ToFloat64(boots.m.inflight))
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return f.answer(name, body)
		}
		u = f.open(func(c *Config) { c.BootConcurrency = 3 })
		var wg sync.WaitGroup
		for i := range 10 * protocol.MaxBootUsers {
			wg.Go(func() {
				if _, _, err := u.Boot(t.Context(), protocol.UserID(fmt.Sprintf("U%d", i)), 0); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most != 3 || u.bootGate.highest() != 3 {
			t.Errorf("%d at once, %d counted, the limit is 3", most, u.bootGate.highest())
		}
		if waited == 0 || busy != 3 || u.bootGate.queued() != 0 {
			t.Errorf("flannel_upstream_boot_waiting rose to %v, flannel_upstream_inflight to %v", waited, busy)
		}
	})
}
