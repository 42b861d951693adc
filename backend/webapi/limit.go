package webapi

import (
	"sync"
	"time"

	"flannel/protocol"
)

const (
	// maxBuckets bounds the buckets in memory, about 100 bytes each: 100,000 users who call two methods.
	maxBuckets = 200_000
	// burstShare: a quarter of a minute's calls may come at once, as protocol.Tier.PerMinute says.
	burstShare = 4
)

// Limits says how many calls a user may make. The zero value is the dialect's.
type Limits struct {
	// Off switches limits off, for measuring.
	Off bool
	// PerMinute overrides the figure of a tier.
	PerMinute map[protocol.Tier]int
}

// limiter is a token bucket for each user and method. Memory is bounded by forgetting: buckets live in two
// generations, and when the young one is full it becomes the old one. A bucket that was forgotten is full again, which
// at worst lets a burst through.
type limiter struct {
	limits Limits
	now    func() time.Time

	// mu guards what follows.
	mu         sync.Mutex
	young, old map[bucketKey]*bucket
}

type bucketKey struct{ who, method string }

type bucket struct {
	left float64 // calls
	at   time.Time
}

func newLimiter(l Limits, now func() time.Time) *limiter {
	return &limiter{limits: l, now: now, young: make(map[bucketKey]*bucket)}
}

// take counts one call. It returns 0, or how long to wait until the next one is allowed.
func (l *limiter) take(who, method string) time.Duration {
	if l.limits.Off {
		return 0
	}
	tier := protocol.Methods[method].Tier
	perMinute, ok := l.limits.PerMinute[tier]
	if !ok {
		perMinute = tier.PerMinute()
	}
	rate := float64(max(perMinute, 1)) / 60
	burst := max(float64(perMinute)/burstShare, 1)

	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b := l.bucketLocked(bucketKey{who, method}, burst, now)
	b.left = min(burst, b.left+max(now.Sub(b.at), 0).Seconds()*rate)
	b.at = now
	if b.left >= 1 {
		b.left--
		return 0
	}
	return time.Duration((1 - b.left) / rate * float64(time.Second))
}

func (l *limiter) bucketLocked(key bucketKey, burst float64, now time.Time) *bucket {
	if b := l.young[key]; b != nil {
		return b
	}
	b := l.old[key]
	if b == nil {
		b = &bucket{left: burst, at: now}
	}
	if len(l.young) >= maxBuckets/2 {
		l.old, l.young = l.young, make(map[bucketKey]*bucket)
	}
	l.young[key] = b
	return b
}
