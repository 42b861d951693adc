package presence

import (
	"time"

	"flannel/protocol"
)

// sweepEvery is how exactly idleness is told: a walk over everybody who is connected, which takes milliseconds.
const sweepEvery = time.Minute

// Touch says that the user did something: wrote, read on, typed. Users without a connection stay as they are.
func (p *Presence) Touch(id protocol.UserID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.users[id]; u != nil {
		p.touch(id, u)
	}
}

// touch is Touch with mu held.
func (p *Presence) touch(id protocol.UserID, u *user) {
	p.change(id, u, func() { u.idle, u.seen = false, p.now() })
}

// sweep makes away who has done nothing for too long.
func (p *Presence) sweep() {
	if p.idle <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	since := p.now().Add(-p.idle)
	for id, u := range p.users {
		if !u.idle && !u.seen.After(since) {
			p.change(id, u, func() { u.idle = true })
		}
	}
}
