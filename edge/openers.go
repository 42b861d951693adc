package edge

import "sync"

// openers are the goroutines that open sessions. Opening needs a deep stack, and a new goroutine would grow it step by step,
// copying each time: so those that are done wait a moment for the next session.
type openers struct {
	mu   sync.Mutex
	idle []chan func() // the last one to have become idle is the next to work; at most maxIdleOpeners
}

// maxIdleOpeners is more than open at a time while the node knows everybody; who waits for the backend is no idle opener.
const maxIdleOpeners = 64

// open runs fn on a goroutine that Stop waits for. It reports whether it did: not after Stop.
func (e *Edge) openWith(fn func()) bool {
	o := &e.openers
	o.mu.Lock()
	if n := len(o.idle); n > 0 {
		opener := o.idle[n-1]
		o.idle = o.idle[:n-1]
		o.mu.Unlock()
		opener <- fn // It waits, and nobody else has it.
		return true
	}
	o.mu.Unlock()
	return e.begin(func() { o.work(e, fn) })
}

func (o *openers) work(e *Edge, fn func()) {
	next := make(chan func())
	for {
		fn()
		o.mu.Lock()
		if len(o.idle) >= maxIdleOpeners {
			o.mu.Unlock()
			return
		}
		o.idle = append(o.idle, next)
		o.mu.Unlock()
		select {
		case fn = <-next:
		case <-e.life.Done():
			if !o.gone(next) { // Somebody has taken it from the list, and is about to hand over.
				(<-next)()
			}
			return
		}
	}
}

// gone takes an opener from the list of the idle ones, and reports whether it was there.
func (o *openers) gone(opener chan func()) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.idle {
		if o.idle[i] == opener {
			o.idle[i] = o.idle[len(o.idle)-1]
			o.idle = o.idle[:len(o.idle)-1]
			return true
		}
	}
	return false
}
