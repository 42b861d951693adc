package edge

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"flannel/protocol"
)

// maxRates bounds the buckets of a generation: 50,000 users who call two methods, about 120 bytes each.
const maxRates = 100_000

// burstShare: a quarter of a minute's calls may come at once, as protocol.Tier says.
const burstShare = 4

// rates limits the calls that the edge answers itself, per user and method; those that it forwards the backend limits.
// Buckets live in two generations, so that memory is bounded: what is forgotten is full again.
type rates struct {
	now func() time.Time

	mu         sync.Mutex
	young, old map[rateKey]*rate.Limiter // guarded by mu
}

type rateKey struct {
	user protocol.UserID
	what string // a method, or FrameRefresh
}

func newRates(now func() time.Time) *rates {
	return &rates{now: now, young: make(map[rateKey]*rate.Limiter)}
}

// take counts one call. It returns 0, or how long to wait.
func (r *rates) take(user protocol.UserID, method string) time.Duration {
	return r.takeOf(user, method, protocol.Methods[method].Tier.PerMinute())
}

// takeOf counts one of what is no method, of which a user has so many a minute.
func (r *rates) takeOf(user protocol.UserID, what string, perMinute int) time.Duration {
	now := r.now()
	res := r.bucket(rateKey{user, what}, perMinute).ReserveN(now, 1)
	wait := res.DelayFrom(now)
	if wait > 0 {
		res.CancelAt(now)
	}
	return wait
}

func (r *rates) bucket(key rateKey, perMinute int) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.young[key]; b != nil {
		return b
	}
	b := r.old[key]
	if b == nil {
		b = rate.NewLimiter(rate.Limit(float64(perMinute)/60), max(perMinute/burstShare, 1))
	}
	if len(r.young) >= maxRates {
		r.young, r.old = make(map[rateKey]*rate.Limiter), r.young
	}
	r.young[key] = b
	return b
}

// pace limits what one session may do, in 8 bytes: a limiter of the library is ten times that, for each of two, for each
// session. It is the generic cell rate algorithm (ITU-T I.371): the time at which the bucket will be full again.
type pace int64

// allow counts one at now, in nanoseconds. rate is how many a second may come, burst how many at once.
func (p *pace) allow(now int64, rate, burst int) bool {
	each := int64(time.Second) / int64(rate)
	full := max(int64(*p), now)
	if full-now > each*int64(burst-1) {
		return false
	}
	*p = pace(full + each)
	return true
}
