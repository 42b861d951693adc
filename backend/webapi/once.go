package webapi

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"flannel/protocol"
)

const (
	// onceLife is how long the answer to a forwarded write is kept: longer than any edge goes on trying.
	onceLife = 10 * time.Minute
	// maxOnce and maxOnceBytes bound what is kept; the oldest goes first.
	maxOnce      = 10_000
	maxOnceBytes = 32 << 20
)

// onceMap answers a write that is sent again, with the same idempotency key by the same user, as it was answered the
// first time, and makes the second wait while the first is under way. It forgets when the backend restarts; posting
// alone is safe across that too, because the store keeps its keys.
type onceMap struct {
	now      func() time.Time
	repeated func() // counts a write that was sent again

	// mu guards what follows.
	mu    sync.Mutex
	calls map[[32]byte]*onceCall
	order []*onceCall // those that are done, oldest first
	bytes int
}

type onceCall struct {
	key   [32]byte
	done  chan struct{} // closed when reply is there
	reply *protocol.Reply
	err   error
	at    time.Time
}

func newOnceMap(now func() time.Time, repeated func()) *onceMap {
	return &onceMap{now: now, repeated: repeated, calls: make(map[[32]byte]*onceCall)}
}

// onceKey names a call: its user, method and key, and its arguments, so that a key that is used twice by mistake does
// not answer the wrong question.
func onceKey(user protocol.UserID, call *protocol.Call) [32]byte {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(user), []byte(call.Method), []byte(call.IdempotencyKey), call.Query, call.Body} {
		h.Write(protocol.MustMarshal(len(part)))
		h.Write([]byte{':'})
		h.Write(part)
	}
	return [32]byte(h.Sum(nil))
}

// do runs fn, unless a call with the key has been answered or is under way. What could not be answered for reasons of
// ours is not kept: it may be tried again.
func (m *onceMap) do(ctx context.Context, key [32]byte, fn func() (*protocol.Reply, error)) (*protocol.Reply, error) {
	m.mu.Lock()
	m.expireLocked()
	if c := m.calls[key]; c != nil {
		m.mu.Unlock()
		m.repeated()
		select {
		case <-c.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if c.reply == nil && c.err == nil {
			return nil, &protocol.Error{Code: protocol.CodeUnavailable, Retry: time.Second} // the first one ended in a panic
		}
		return c.reply, c.err
	}
	c := &onceCall{key: key, done: make(chan struct{})}
	m.calls[key] = c
	m.mu.Unlock()

	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		close(c.done)
		if _, told := errors.AsType[*protocol.Error](c.err); (c.err != nil && !told) || (c.reply == nil && c.err == nil) {
			delete(m.calls, key)
			return
		}
		c.at = m.now()
		m.order = append(m.order, c)
		m.bytes += c.size()
	}()
	c.reply, c.err = fn()
	return c.reply, c.err
}

func (c *onceCall) size() int {
	if c.err != nil || c.reply == nil {
		return 0
	}
	return len(c.reply.Body)
}

func (m *onceMap) expireLocked() {
	now := m.now()
	for len(m.order) > 0 {
		c := m.order[0]
		if len(m.order) < maxOnce && m.bytes < maxOnceBytes && now.Sub(c.at) < onceLife {
			return
		}
		delete(m.calls, c.key)
		m.bytes -= c.size()
		m.order[0] = nil
		m.order = m.order[1:]
	}
}
