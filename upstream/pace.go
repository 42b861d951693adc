package upstream

import (
	"sync"
	"time"
)

// pacer is a token bucket: burst at once, and one each interval. A nil pacer paces nothing. It is for loads whose
// callers gather while they wait: what it costs them is at most an interval.
type pacer struct {
	every time.Duration
	burst int

	// mu guards what follows. spent is when the bucket will be full again: at most burst intervals ahead, when it is
	// empty. pressed is when somebody last found no token, or had so many with them that they needed none.
	mu             sync.Mutex
	spent, pressed time.Time
}

// stormFor is how many intervals after the last press there is still a storm: those who were served are on their way
// through the node, which has much to do. A node with too little processor was seen to need that long for 4,000.
const stormFor = 10

// newPacer returns nil if every is 0.
func newPacer(burst int, every time.Duration) *pacer {
	if every <= 0 {
		return nil
	}
	return &pacer{every: every, burst: burst}
}

// take takes a token and returns 0, or returns when there will be one.
func (p *pacer) take(now time.Time) time.Duration {
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	wait := p.waitLocked(now)
	if wait > 0 {
		p.pressed = now
	} else {
		p.spent = p.fullLocked(now).Add(p.every)
	}
	return max(wait, 0)
}

// press is spend for a batch that is full.
func (p *pacer) press(now time.Time) {
	if p == nil {
		return
	}
	p.spend(now)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pressed = now
}

// spend takes a token for what does not wait for one, or the part of it that is there.
func (p *pacer) spend(now time.Time) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spent = p.fullLocked(now).Add(p.every)
	if empty := now.Add(time.Duration(p.burst) * p.every); p.spent.After(empty) {
		p.spent = empty
	}
}

// idle reports whether all tokens are there.
func (p *pacer) idle(now time.Time) bool {
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.spent.After(now)
}

// storm reports whether more come than there are tokens for, or did until lately.
func (p *pacer) storm(now time.Time) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.pressed.IsZero() && now.Sub(p.pressed) < stormFor*p.every
}

// fullLocked is when the bucket is full: now at the earliest.
func (p *pacer) fullLocked(now time.Time) time.Time {
	if p.spent.Before(now) {
		return now
	}
	return p.spent
}

func (p *pacer) waitLocked(now time.Time) time.Duration {
	return p.fullLocked(now).Sub(now) - time.Duration(p.burst-1)*p.every
}
