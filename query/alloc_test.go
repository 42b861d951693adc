//go:build !race

package query

import "testing"

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
