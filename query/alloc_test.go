//go:build !race

package query

import (
	"bytes"
	"testing"
)

// TestQuery_WarmAllocations holds the cost of the commonest read, a warm users/info of one object: the id, the answer
// and its reply, and the reader. No decoding: it does not grow with the object. Left out under the race detector, which
// makes sync.Pool forget at random.
func TestQuery_WarmAllocations(t *testing.T) {
	w := crowd(t)
	for n, most := range map[int]float64{1: 8, 16: 24} {
		args, id := askFor(n), w.id(ada)
		ask := func() {
			if _, err := w.service.Query(t.Context(), id, "T0000001/users/info", args); err != nil {
				t.Fatal(err)
			}
		}
		ask()
		got := testing.AllocsPerRun(200, ask)
		t.Logf("users/info of %d: %.0f allocations", n, got)
		if got > most {
			t.Errorf("users/info of %d: %.0f allocations, want at most %.0f", n, got, most)
		}
	}
}

// TestReady_AllocatesNothing: what is at hand is copied from the cache to the socket's buffer.
func TestReady_AllocatesNothing(t *testing.T) {
	w := crowd(t)
	id, dst := w.id(ada), make([]byte, 0, 1<<20)
	for _, n := range []int{1, 16} {
		args := askFor(n)
		if _, err := w.service.Query(t.Context(), id, "users/info", args); err != nil {
			t.Fatal(err)
		}
		if got := testing.AllocsPerRun(200, func() {
			body, ok := w.service.Ready(&id, []byte("users/info"), args, dst)
			if !ok || bytes.Count(body, []byte(`"id":`)) < n {
				t.Fatalf("%d: %v %s", n, ok, body)
			}
		}); got != 0 {
			t.Errorf("users/info of %d: %.0f allocations", n, got)
		}
	}
}
