package query

import (
	"context"
	"sync"
)

// flights does one thing at a time for each key. What runs is detached from its callers: each of them may give up
// without failing the others.
type flights[K comparable, V any] struct {
	tasks *tasks

	// mu guards running: a key is there while its function runs.
	mu      sync.Mutex
	running map[K]*flight[V]
}

type flight[V any] struct {
	done  chan struct{} // closed when value and err are set
	value V
	err   error
}

func newFlights[K comparable, V any](t *tasks) *flights[K, V] {
	return &flights[K, V]{tasks: t, running: make(map[K]*flight[V])}
}

// do returns what fn returns for key, starting it unless it runs already. It waits no longer than ctx.
func (g *flights[K, V]) do(ctx context.Context, key K, fn func(context.Context) (V, error)) (V, error) {
	g.mu.Lock()
	f, running := g.running[key]
	if !running {
		f = &flight[V]{done: make(chan struct{})}
		g.running[key] = f
	}
	g.mu.Unlock()
	if !running {
		err := g.tasks.start(ctx, func(ctx context.Context) {
			f.value, f.err = fn(ctx)
			g.finish(key, f)
		})
		if err != nil {
			f.err = err
			g.finish(key, f)
		}
	}
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		var none V
		return none, unavailable("gave up waiting")
	}
}

func (g *flights[K, V]) finish(key K, f *flight[V]) {
	g.mu.Lock()
	delete(g.running, key)
	g.mu.Unlock()
	close(f.done)
}
