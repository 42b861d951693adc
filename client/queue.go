package client

import (
	"context"
	"sync"
)

// queue holds the events that wait for the application, and where it stands. It is bounded in items and bytes: when it is
// full, ephemeral events make room, and then the client falls behind. From there on it takes nothing until it is empty;
// what it did not take, the server says again.
type queue struct {
	maxItems, maxBytes int

	mu     sync.Mutex
	items  []item // from head on
	head   int
	count  int // events among items
	soft   int // ephemeral ones
	bytes  int
	behind bool
	err    error         // why no more events come
	wake   chan struct{} // closed, and replaced, when there is something for a waiting Next
	at     cursor        // up to where Next has given events
}

// item is a step with its size in bytes; 0 for one without an event.
type item struct {
	step
	size int
}

// itemCost is what an event costs besides its bytes.
const itemCost = 200

func newQueue(maxItems, maxBytes int, at cursor) *queue {
	return &queue{maxItems: maxItems, maxBytes: maxBytes, at: at, wake: make(chan struct{})}
}

// put adds a step. It returns false if the queue has fallen behind and did not take it.
func (q *queue) put(s step) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.behind || q.err != nil {
		return false
	}
	it := item{step: s}
	if s.event == nil {
		if n := len(q.items); n > q.head && q.items[n-1].event == nil && !s.keep && !q.items[n-1].keep {
			s.fresh = s.fresh || q.items[n-1].fresh
			q.items[n-1].step = s // Only the last of several tokens counts, so tokens alone do not fill the queue.
			return true
		}
		q.items = append(q.items, it)
		return true
	}
	it.size = len(s.event.Raw) + itemCost
	if !s.must && q.fullLocked(it.size) {
		q.dropEphemeralLocked()
		if q.fullLocked(it.size) {
			if s.event.ephemeral() {
				return true // It is worth nothing later.
			}
			q.behind = true
			return false
		}
	}
	q.count++
	if s.event.ephemeral() {
		q.soft++
	}
	q.bytes += it.size
	q.compactLocked()
	q.items = append(q.items, it)
	q.wakeLocked()
	return true
}

// compactLocked keeps a queue that is never empty from growing at its end for ever.
func (q *queue) compactLocked() {
	if q.head < 64 || q.head < len(q.items)/2 {
		return
	}
	n := copy(q.items, q.items[q.head:])
	clear(q.items[n:])
	q.items, q.head = q.items[:n], 0
}

// fullLocked allows one event of any size in an empty queue.
func (q *queue) fullLocked(size int) bool {
	return q.count > 0 && (q.count >= q.maxItems || q.bytes+size > q.maxBytes)
}

func (q *queue) dropEphemeralLocked() {
	if q.soft == 0 {
		return
	}
	kept := q.items[:0]
	for _, it := range q.items[q.head:] {
		if it.event != nil && it.event.ephemeral() {
			q.bytes -= it.size
			q.count--
			continue
		}
		kept = append(kept, it)
	}
	clear(q.items[len(kept):])
	q.items, q.head, q.soft = kept, 0, 0
}

// next waits for an event. drained: the queue is empty and has fallen behind.
func (q *queue) next(ctx context.Context) (ev Event, drained bool, err error) {
	for {
		q.mu.Lock()
		q.passLocked()
		if q.head < len(q.items) {
			it := q.popLocked()
			q.at.admit(&it.step)
			ev = *it.event
		}
		drained = q.behind && q.count == 0
		wake, over := q.wake, q.err
		q.mu.Unlock()
		switch {
		case ev.Raw != nil:
			return ev, drained, nil
		case over != nil:
			return Event{}, false, over
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return Event{}, false, ctx.Err()
		}
	}
}

// passLocked moves past what stands in front of the next event.
func (q *queue) passLocked() {
	for q.head < len(q.items) && q.items[q.head].event == nil {
		it := q.popLocked()
		q.at.admit(&it.step)
	}
}

func (q *queue) popLocked() item {
	it := q.items[q.head]
	q.items[q.head] = item{}
	q.head++
	if it.event != nil {
		q.bytes -= it.size
		q.count--
		if it.event.ephemeral() {
			q.soft--
		}
	}
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return it
}

func (q *queue) wakeLocked() {
	close(q.wake)
	q.wake = make(chan struct{})
}

// catchUp lets the queue take events again: a new connection replays those that it did not take.
func (q *queue) catchUp() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.behind = false
}

// lagging reports whether the queue has fallen behind.
func (q *queue) lagging() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.behind
}

// drained reports whether the queue has fallen behind and nothing waits any more.
func (q *queue) drained() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.behind && q.count == 0
}

// end lets next return err when what waits has been taken, or at once.
func (q *queue) end(err error, now bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return
	}
	q.err = err
	if now {
		q.items, q.head, q.bytes, q.count, q.soft = nil, 0, 0, 0, 0
	}
	q.wakeLocked()
}

// position returns up to where events have been given.
func (q *queue) position() cursor {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.passLocked()
	return q.at.clone()
}
