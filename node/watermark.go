package node

import (
	"context"
	"sync"

	"flannel/protocol"
)

// watermark is a position that rises, and can be waited for.
type watermark struct {
	mu    sync.Mutex
	p     protocol.Position
	risen chan struct{} // closed and replaced when p rises; nil while nobody waits
}

func (w *watermark) raise(p protocol.Position) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p <= w.p {
		return
	}
	w.p = p
	if w.risen != nil {
		close(w.risen)
		w.risen = nil
	}
}

// wait reports whether the watermark reached p before ctx ended.
func (w *watermark) wait(ctx context.Context, p protocol.Position) bool {
	for {
		w.mu.Lock()
		if w.p >= p {
			w.mu.Unlock()
			return true
		}
		if w.risen == nil {
			w.risen = make(chan struct{})
		}
		risen := w.risen
		w.mu.Unlock()
		select {
		case <-risen:
		case <-ctx.Done():
			return false
		}
	}
}
