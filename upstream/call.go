package upstream

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"

	"flannel/protocol"
)

// call is one kind of call of the contract with what protects the backend from it:
//
//	retry with budget ( circuit breaker ( boot gate ( adaptive limit ( timeout ( request )))))
//
// The timeout is the HTTP client's own, which also ends the request; the limit is taken by hand instead of as a
// failsafe policy, because a request that failed at once must not look like a fast backend to it.
type call struct {
	name    string
	wait    time.Duration // for a place under the limits
	breaker circuitbreaker.CircuitBreaker[any]
	limiter adaptivelimiter.AdaptiveLimiter[any]
	gate    *gate // boot and replay, else nil
	// repeat retries everything that may succeed later; once only what the backend has not seen.
	repeat, once failsafe.Policy[any]
	m            *callMetrics
}

func newCall(name string, cfg *Config, retries budget.Budget, m *callMetrics, log *slog.Logger) *call {
	c := &call{name: name, wait: cfg.QueueTimeout, m: m}
	c.breaker = circuitbreaker.NewBuilder[any]().
		HandleIf(func(_ any, err error) bool {
			var f *failure
			return errors.As(err, &f) && f.sick
		}).
		WithFailureRateThreshold(cfg.BreakerFailures, uint(cfg.BreakerCalls), cfg.BreakerWindow).
		WithSuccessThreshold(1).
		WithDelay(cfg.BreakerDelay).WithJitterFactor(0.25).
		OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
			m.breakerIn(e.NewState.String())
			if e.NewState == circuitbreaker.OpenState {
				log.Warn("circuit breaker opened", "call", name)
			} else if e.NewState == circuitbreaker.ClosedState {
				log.Info("circuit breaker closed", "call", name)
			}
		}).
		Build()
	initial := min(4*cfg.MinConcurrency, cfg.MaxConcurrency)
	c.limiter = adaptivelimiter.NewBuilder[any]().
		WithLimits(uint(cfg.MinConcurrency), uint(cfg.MaxConcurrency), uint(initial)).
		// Ten times what was in the air lately: a reconnect storm begins from a quiet state.
		WithMaxLimitFactor(10).
		// Beyond 16 waiting per place more and more are refused, at 64 all: they would wait longer than QueueTimeout.
		WithQueueing(16, 64).
		Build()
	policy := func(repeatable func(*failure) bool) failsafe.Policy[any] {
		return retrypolicy.NewBuilder[any]().
			HandleIf(func(_ any, err error) bool {
				var f *failure
				return errors.As(err, &f) && f.again && repeatable(f)
			}).
			WithMaxAttempts(cfg.Attempts).
			WithBackoff(cfg.RetryMin, max(cfg.RetryMax, cfg.RetryMin+1)).
			WithJitterFactor(0.5).
			WithBudget(retries).
			ReturnLastFailure().
			OnRetry(func(failsafe.ExecutionEvent[any]) { m.retries.Inc() }).
			Build()
	}
	c.repeat = policy(func(*failure) bool { return true })
	c.once = policy(func(f *failure) bool { return f.unsent })
	return c
}

// do runs send until it succeeds, cannot be tried again, or ctx ends. send returns nil or a *failure, and so does do.
func (c *call) do(ctx context.Context, policy failsafe.Policy[any], send func() error) error {
	var last error
	err := failsafe.With[any](policy, c.breaker).WithContext(ctx).Run(func() error {
		last = c.attempt(ctx, send)
		return last
	})
	if err == nil {
		return nil
	}
	f := c.explain(ctx, err, last)
	var counted *failure // Attempts are; refusals by the policies are not.
	if !errors.As(last, &counted) || counted != f {
		c.m.requests[f.code].Inc()
	}
	return f
}

// explain makes a failure of whatever ended a call.
func (c *call) explain(ctx context.Context, err, last error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	if ctx.Err() != nil {
		return abandoned()
	}
	if f = notSent(err, c.breaker.RemainingDelay()); f != nil {
		return f
	}
	if errors.Is(err, budget.ErrExceeded) && errors.As(last, &f) {
		refused := *f
		refused.code, refused.cause = codeBudget, errors.Join(err, f)
		return &refused
	}
	return &failure{code: codeBroken, public: unavailable(0, "the backend cannot be reached"), cause: err}
}

// attempt waits for a place under the limits and sends once.
func (c *call) attempt(ctx context.Context, send func() error) error {
	f := c.attemptUncounted(ctx, send)
	if f == nil {
		c.m.requests[codeOK].Inc()
		return nil
	}
	c.m.requests[f.code].Inc()
	return f
}

func (c *call) attemptUncounted(ctx context.Context, send func() error) *failure {
	if c.gate != nil {
		if err := c.gate.acquire(ctx, c.wait); err != nil {
			return c.explain(ctx, err, nil)
		}
		defer c.gate.release()
	}
	permit, err := c.limiter.AcquirePermitWithMaxWait(ctx, c.wait)
	if err != nil {
		return c.explain(ctx, err, nil)
	}
	start := time.Now()
	c.m.inflight.Inc()
	err = send()
	c.m.inflight.Dec()
	c.m.duration.Observe(time.Since(start).Seconds())
	if err == nil {
		permit.Record()
		return nil
	}
	f := &failure{}
	if !errors.As(err, &f) {
		f = sendFailed(err)
	}
	// Slow failures tell of an overloaded backend; fast ones tell nothing about its pace.
	if f.code == codeTimeout {
		permit.Record()
	} else {
		permit.Drop()
	}
	if ctx.Err() != nil {
		return abandoned() // Closing has cut it off; that is not the backend's fault.
	}
	return f
}

// revive lets one call through an open breaker: something else has shown that the backend lives.
func (c *call) revive() {
	if c.breaker.IsOpen() {
		c.breaker.HalfOpen()
	}
}

// callTimeout is how long one attempt may take.
func callTimeout(cfg *Config, name string) time.Duration {
	switch name {
	case protocol.CallBoot, protocol.CallReplay:
		return cfg.BootTimeout
	case protocol.CallForward:
		return cfg.ForwardTimeout
	default:
		return cfg.LoadTimeout
	}
}
