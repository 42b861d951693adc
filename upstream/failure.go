package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/valyala/fasthttp"

	"flannel/protocol"
)

// failure is one attempt that did not succeed: what it is called in metrics, what the caller is told, and what the
// policies may do about it.
type failure struct {
	code string // one of codes
	// public is what the caller gets.
	public *protocol.Error
	cause  error
	// again: a later attempt may succeed, if sending twice does no harm.
	again bool
	// unsent: the backend has not seen the request, so sending it again never does harm.
	unsent bool
	// sick: it counts against the backend's health.
	sick bool
}

func (f *failure) Error() string {
	if f.cause == nil {
		return f.code
	}
	return f.code + ": " + f.cause.Error()
}

func (f *failure) Unwrap() []error { return []error{f.public, f.cause} }

// defaultRetry is what clients are told to wait when the backend named no time: long enough for a restart, and spread.
const defaultRetry = 2 * time.Second

// jittered returns a random time between d and 1.5 d, so that those who were refused together do not come back so.
func jittered(d time.Duration) time.Duration {
	return d + time.Duration(rand.Int64N(int64(d)/2+1))
}

// unavailable is the public face of everything that is not the caller's fault. The retry time is not jittered yet.
func unavailable(retry time.Duration, format string, args ...any) *protocol.Error {
	if retry <= 0 {
		retry = defaultRetry
	}
	e := protocol.Errorf(protocol.CodeUnavailable, format, args...)
	e.Retry = retry
	return e
}

// told is err as one caller gets it: with a retry time of its own, because one failed load may have had hundreds of
// callers, and nothing but this tells them apart.
func told(err error) error {
	var f *failure
	if !errors.As(err, &f) || f.public.Retry <= 0 {
		return err
	}
	mine, public := *f, *f.public
	public.Retry = jittered(public.Retry)
	mine.public = &public
	return &mine
}

// dialError marks errors from before anything was sent.
type dialError struct{ err error }

func (e *dialError) Error() string { return "dial backend: " + e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// sendFailed classifies an error of the HTTP client.
func sendFailed(err error) *failure {
	var refused *dialError
	switch {
	case errors.As(err, &refused):
		return &failure{code: codeRefused, public: unavailable(0, "the backend cannot be reached"), cause: err, again: true, unsent: true, sick: true}
	case errors.Is(err, fasthttp.ErrNoFreeConns):
		return &failure{code: codeLimited, public: unavailable(0, "the backend is busy"), cause: err, unsent: true}
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		return &failure{code: codeTooLarge, public: protocol.Errorf(protocol.CodeInternal, "the backend's answer is over the limit"), cause: err}
	case isTimeout(err):
		return &failure{code: codeTimeout, public: unavailable(0, "the backend did not answer in time"), cause: err, again: true, sick: true}
	default:
		return &failure{code: codeBroken, public: unavailable(0, "the connection to the backend broke"), cause: err, again: true, sick: true}
	}
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.Is(err, fasthttp.ErrTimeout) || errors.As(err, &t) && t.Timeout()
}

// badAnswer is an answer that breaks the contract. Asking again helps when it was cut off on its way, so it is tried.
func badAnswer(format string, args ...any) *failure {
	return &failure{code: codeBadAnswer, public: unavailable(0, "the backend's answer cannot be used"), cause: fmt.Errorf(format, args...), again: true, sick: true}
}

// statusFailed classifies an answer whose status is an error; answer is its body, as far as it could be read.
func statusFailed(status int, retryAfter time.Duration, answer protocol.ErrorAnswer) *failure {
	if answer.RetryAfter > 0 {
		retryAfter = time.Duration(answer.RetryAfter) * time.Second
	}
	cause := fmt.Errorf("status %d, error %q: %s", status, answer.Error, answer.Message)
	switch {
	case answer.Error == protocol.CodeBehind:
		return &failure{code: codeBehind, public: unavailable(retryAfter, "the backend is behind"), cause: cause, again: true}
	case status == fasthttp.StatusTooManyRequests:
		return &failure{code: codeRateLimited, public: unavailable(retryAfter, "the backend is busy"), cause: cause}
	case status == fasthttp.StatusUnauthorized, status == fasthttp.StatusForbidden:
		return &failure{code: codeUnauthed, public: unavailable(retryAfter, "the backend refuses this node"), cause: cause, sick: true}
	case status >= 500:
		return &failure{code: codeUnavailable, public: unavailable(retryAfter, "the backend has trouble"), cause: cause, again: true, sick: true}
	case status >= 400 && answer.Error != "":
		return &failure{code: codeRejected, public: protocol.Errorf(answer.Error, "%s", answer.Message), cause: cause}
	default:
		f := badAnswer("status %d without an error", status)
		f.again = false
		return f
	}
}

// notSent classifies what the policies refused before anything was sent. It returns nil for other errors.
func notSent(err error, wait time.Duration) *failure {
	switch {
	case errors.Is(err, circuitbreaker.ErrOpen):
		return &failure{code: codeBreakerOpen, public: unavailable(wait, "the backend cannot be reached"), cause: err, unsent: true}
	case errors.Is(err, adaptivelimiter.ErrExceeded), errors.Is(err, errGateWait):
		return &failure{code: codeLimited, public: unavailable(wait, "the backend is busy"), cause: err, unsent: true}
	default:
		return nil
	}
}

// abandoned is the failure of whatever is asked of a closed Upstream, or is cut off by closing it.
func abandoned() *failure {
	return &failure{code: codeAbandoned, public: unavailable(0, "this node is stopping"), cause: net.ErrClosed, unsent: true}
}

// gaveUp is the error for a caller whose context ended while it waited.
func gaveUp(ctx context.Context, what string) error {
	cause := context.Cause(ctx)
	return &failure{code: codeTimeout, public: unavailable(0, "the backend did not answer in time"), cause: fmt.Errorf("wait for %s: %w", what, cause)}
}
