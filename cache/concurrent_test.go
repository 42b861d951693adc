package cache

import (
	"sync"
	"sync/atomic"
	"testing"

	"flannel/protocol"
)

// concurrently calls apply for 0…n-1 from one goroutine while several readers call read until it is done. Each reader
// has its own map, and is told a position that had been applied before the call.
func concurrently[K comparable, V any](t *testing.T, n int, apply func(i int), read func(i int, applied protocol.Position, seen map[K]V), applied func() protocol.Position) {
	t.Helper()
	var done atomic.Bool
	var readers sync.WaitGroup
	for r := range 4 {
		readers.Go(func() {
			seen := make(map[K]V)
			for i := r * 1000; !done.Load() && !t.Failed(); i++ {
				read(i, applied(), seen)
			}
		})
	}
	for i := range n {
		apply(i)
	}
	done.Store(true)
	readers.Wait()
}
