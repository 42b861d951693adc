package query

import (
	"context"
	"sync"
	"time"
)

// tasks runs functions apart from whoever asked for them, bounded in number and time, and can wait for all of them.
type tasks struct {
	timeout time.Duration
	limit   int
	closing context.Context // ends when Close begins
	cancel  context.CancelFunc

	// mu guards running, which never exceeds limit, and closed; nothing is added to group once closed is set.
	mu      sync.Mutex
	running int
	closed  bool
	group   sync.WaitGroup
}

func newTasks(timeout time.Duration, limit int) *tasks {
	t := &tasks{timeout: timeout, limit: limit}
	t.closing, t.cancel = context.WithCancel(context.Background())
	return t
}

// start runs fn in a goroutine with the values of ctx but not its end. It refuses when too many run or after close.
func (t *tasks) start(ctx context.Context, fn func(context.Context)) error {
	t.mu.Lock()
	if t.closed || t.running >= t.limit {
		t.mu.Unlock()
		return unavailable("too many loads are under way")
	}
	t.running++
	t.group.Add(1)
	t.mu.Unlock()
	go func() {
		defer t.group.Done()
		defer func() {
			t.mu.Lock()
			t.running--
			t.mu.Unlock()
		}()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.timeout)
		defer cancel()
		defer context.AfterFunc(t.closing, cancel)()
		fn(ctx)
	}()
	return nil
}

// close cancels what runs and waits for it.
func (t *tasks) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.group.Wait()
}
