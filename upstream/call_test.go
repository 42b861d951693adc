package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"flannel/protocol"
)

func TestCall_RefusedConnectionsOpenTheBreakerAndItRecovers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u := f.open(func(c *Config) { c.BreakerCalls = 6 })
		m := u.metrics.calls[protocol.CallBoot]
		load := func() error { _, _, err := u.Boot(t.Context(), "U1", 0); return err }
		var fail *failure

		f.net.Refuse(true)
		for range 2 {
			if err := load(); !errors.As(err, &fail) || fail.code != codeRefused || protocol.AsError(err).Code != protocol.CodeUnavailable {
				t.Fatalf("backend away: %v", err)
			}
		}
		if err := load(); !errors.As(err, &fail) || fail.code != codeBreakerOpen || protocol.AsError(err).Retry == 0 {
			t.Fatalf("breaker: %v", err)
		}
		if got := testutil.ToFloat64(m.requests[codeRefused]); got != 6 {
			t.Errorf("%v refused connections counted", got)
		}
		if got := testutil.ToFloat64(m.requests[codeBreakerOpen]); got != 1 {
			t.Errorf("%v refusals by the breaker counted", got)
		}
		if testutil.ToFloat64(m.breaker["open"]) != 1 || testutil.ToFloat64(m.breaker["closed"]) != 0 {
			t.Error("the breaker's state is not shown")
		}
		// Another kind of call is not affected.
		f.net.Refuse(false)
		if _, err := u.Members(t.Context(), protocol.MembersRequest{Channel: "C1", Limit: 1}); protocol.AsError(err).Code == protocol.CodeUnavailable && errors.As(err, &fail) && fail.code == codeBreakerOpen {
			t.Error("the breaker of boot stops members")
		}

		time.Sleep(2 * time.Second)
		if err := load(); err != nil {
			t.Errorf("after the delay: %v", err)
		}
		if testutil.ToFloat64(m.breaker["closed"]) != 1 {
			t.Error("the breaker did not close")
		}
	})
}

func TestCall_TheStreamComingUpRevivesTheBreaker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u := f.open(func(c *Config) { c.BreakerCalls, c.BreakerDelay = 3, time.Hour })
		f.net.Refuse(true)
		_, _, _ = u.Boot(t.Context(), "U1", 0)
		f.net.Refuse(false)
		if _, _, err := u.Boot(t.Context(), "U1", 0); err == nil {
			t.Fatal("the breaker is not open")
		}
		run(t, u, newChecker(t, f))
		synctest.Wait()
		if _, _, err := u.Boot(t.Context(), "U1", 0); err != nil {
			t.Error(err)
		}
	})
}

func TestCall_TimesOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		release := make(chan struct{})
		f.load = func(string, []byte) (int, any) { <-release; return 200, nil }
		u := f.open(func(c *Config) { c.LoadTimeout, c.Attempts = 3*time.Second, 2 })
		start := time.Now()

		_, err := u.Members(t.Context(), protocol.MembersRequest{Channel: "C1", Limit: 1})

		var fail *failure
		if !errors.As(err, &fail) || fail.code != codeTimeout {
			t.Error(err)
		}
		if took := time.Since(start); took < 6*time.Second || took > 7*time.Second {
			t.Errorf("two attempts of 3 s took %v", took)
		}
		if got := testutil.ToFloat64(u.metrics.calls[protocol.CallMembers].requests[codeTimeout]); got != 2 {
			t.Errorf("%v timeouts counted", got)
		}
		close(release)
	})
}

func TestCall_OpeningAConnectionTimesOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		cfg := f.config()
		cfg.Attempts = 1
		u, err := New(cfg, Options{Log: testLog(t), Registerer: prometheus.NewRegistry(), Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		start := time.Now()
		_, forward := u.Forward(t.Context(), &protocol.Call{Method: "api.test"})
		_, _, boot := u.Boot(t.Context(), "U1", 0)
		for _, err := range []error{forward, boot} {
			var fail *failure
			if !errors.As(err, &fail) || fail.code != codeRefused {
				t.Error(err)
			}
		}
		if took := time.Since(start); took > 2*cfg.DialTimeout+time.Second {
			t.Errorf("twice took %v", took)
		}
	})
}

func TestCall_AConnectionThatDiedIdleIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u := f.open(nil)
		if _, _, err := u.Boot(t.Context(), "U1", 0); err != nil {
			t.Fatal(err)
		}
		f.net.Cut()
		if _, _, err := u.Boot(t.Context(), "U1", 0); err != nil {
			t.Error(err)
		}
		if got := testutil.ToFloat64(u.metrics.calls[protocol.CallBoot].requests[codeBroken]); got != 1 {
			t.Errorf("%v broken connections counted", got)
		}
	})
}

func TestCall_BootConcurrencyIsCappedAndAdjustable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		release := make(chan struct{})
		f.load = func(name string, body []byte) (int, any) {
			<-release
			return f.answer(name, body)
		}
		u := f.open(func(c *Config) { c.BootConcurrency, c.QueueTimeout = 1, time.Hour })
		var wg sync.WaitGroup
		boot := func(n int) {
			wg.Go(func() {
				if _, _, err := u.Boot(t.Context(), protocol.UserID(fmt.Sprintf("U%d", n)), 0); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Second)
			synctest.Wait()
		}

		boot(1)
		boot(2)
		boot(3)
		if n := f.count(protocol.CallBoot); n != 1 {
			t.Fatalf("%d boot loads with a cap of 1", n)
		}
		u.SetBootConcurrency(2)
		synctest.Wait()
		if n := f.count(protocol.CallBoot); n != 2 {
			t.Fatalf("%d boot loads with a cap of 2", n)
		}
		if u.BootConcurrency() != 2 {
			t.Error("the cap is not told")
		}
		boot(4)
		u.SetBootConcurrency(0) // Counts as 1: nobody comes in until the others are done.
		boot(5)
		close(release)
		wg.Wait()
		// The second to go had gathered 2 and 3, the third 4 and 5.
		if n := f.count(protocol.CallBoot); n != 3 {
			t.Errorf("%d boot loads, want 3: who waits is put together", n)
		}
	})
}

func TestCall_WaitingForAPlaceEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		release := make(chan struct{})
		f.load = func(name string, body []byte) (int, any) {
			<-release
			return f.answer(name, body)
		}
		u := f.open(func(c *Config) {
			c.BootConcurrency, c.QueueTimeout = 1, time.Second
			c.MinConcurrency, c.MaxConcurrency = 1, 1
			c.BootTimeout, c.LoadTimeout = time.Minute, time.Minute
		})
		var wg sync.WaitGroup
		var fail *failure
		check := func(what string, err error) {
			if !errors.As(err, &fail) || fail.code != codeLimited || protocol.AsError(err).Retry == 0 {
				t.Errorf("%s: %v", what, err)
			}
		}
		wg.Go(func() { _, _, _ = u.Boot(t.Context(), "U1", 0) })
		wg.Go(func() { _, _ = objects(t.Context(), u, "T1", []protocol.ObjectID{"U1"}, 0) })
		time.Sleep(100 * time.Millisecond)
		_, _, err := u.Boot(t.Context(), "U2", 0)
		check("boot gate", err)
		_, err = objects(t.Context(), u, "T1", []protocol.ObjectID{"U2"}, 0)
		check("limit", err)
		close(release)
		wg.Wait()
		if testutil.ToFloat64(u.metrics.calls[protocol.CallObjects].requests[codeLimited]) != 1 {
			t.Error("not counted")
		}
	})
}

func TestCall_RetriesHaveABudget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		f.load = func(string, []byte) (int, any) {
			time.Sleep(time.Second)
			return 500, protocol.ErrorAnswer{Error: protocol.CodeInternal}
		}
		u := f.open(func(c *Config) {
			c.RetryBudget, c.Attempts, c.BreakerCalls = 0.1, 5, 10_000
			c.MinConcurrency, c.LoadConns = 200, 200
		})
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				_, err := u.Members(t.Context(), protocol.MembersRequest{Channel: protocol.ChannelID(fmt.Sprintf("C%d", i)), Limit: 1})
				if protocol.AsError(err).Code != protocol.CodeUnavailable {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := f.count(protocol.CallMembers); n > 250 {
			t.Errorf("%d attempts for 100 loads: the budget does not hold", n)
		}
		if testutil.ToFloat64(u.metrics.calls[protocol.CallMembers].requests[codeBudget]) == 0 {
			t.Error("no retry was refused")
		}
	})
}

func TestGate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGate(1)
		if err := g.acquire(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		if err := g.acquire(t.Context(), time.Second); !errors.Is(err, errGateWait) {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.acquire(ctx, time.Second); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		var order []int
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				if err := g.acquire(t.Context(), time.Hour); err == nil {
					order = append(order, i)
					g.release()
				}
			})
			synctest.Wait()
		}
		g.release()
		wg.Wait()
		if fmt.Sprint(order) != "[0 1 2]" {
			t.Errorf("let in as %v", order)
		}
		if len(g.waiting) != 0 || g.used != 0 {
			t.Errorf("left: %d waiting, %d used", len(g.waiting), g.used)
		}
	})
}

func TestTold_GivesEachCallerAnotherRetryTime(t *testing.T) {
	err := error(&failure{code: codeBroken, public: unavailable(time.Hour, "x")})
	a, b := protocol.AsError(told(err)), protocol.AsError(told(err))
	if a.Retry == b.Retry || a.Retry < time.Hour || a.Retry > 90*time.Minute {
		t.Errorf("%v and %v", a.Retry, b.Retry)
	}
	if plain := errors.New("x"); !errors.Is(told(plain), plain) {
		t.Error("another error was changed")
	}
}
