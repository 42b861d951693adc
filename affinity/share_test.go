package affinity

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// When a workspace grows from k to 2k shares, a user stays in their share or goes to the new one made of it.
func TestShare_GrowingCutsSharesInTwo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		user := rapid.String().Draw(t, "user")
		k := 1 << rapid.IntRange(0, 5).Draw(t, "log")
		before, after := Share(user, k), Share(user, 2*k)
		if before < 0 || before >= k || after != before && after != before+k {
			t.Fatalf("share %d of %d, then %d of %d", before, k, after, 2*k)
		}
	})
}

// The number of owners is a power of two within the limit, leaves no share above the threshold if the limit allows, and
// does not change again while the sessions do not.
func TestOwners_EnoughAndSteady(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sessions := rapid.IntRange(0, 200_000).Draw(t, "sessions")
		at := rapid.IntRange(1, 5000).Draw(t, "at")
		most := 1 << rapid.IntRange(0, 6).Draw(t, "most")
		k := min(most, 1<<rapid.IntRange(0, 6).Draw(t, "k"))
		for range 8 { // It shrinks one step at a time.
			k = owners(sessions, at, k, most)
			if k < 1 || k > most || k&(k-1) != 0 {
				t.Fatalf("%d owners of at most %d", k, most)
			}
			if k < most && sessions > k*at {
				t.Fatalf("%d sessions over %d owners, at %d", sessions, k, at)
			}
		}
		if next := owners(sessions, at, k, most); next != k {
			t.Fatalf("%d owners, then %d", k, next)
		}
		if k > 1 && sessions*4 < k*at {
			t.Fatalf("%d owners for %d sessions at %d", k, sessions, at)
		}
	})
}

// A spread workspace is on as many nodes as it has shares, or on all of them evenly; and when one of them leaves, the
// others stay, and one comes in its place.
func TestDeal_DifferentNodesThatStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have := names(t, 2, 20)
		k := 1 << rapid.IntRange(1, 6).Draw(t, "log")
		workspace := rapid.StringMatching(`T[0-9A-Z]{8}`).Draw(t, "workspace")
		with := NewRing(have)
		before := with.Deal(workspace, k)

		shares := make(map[string]int)
		for _, name := range before {
			shares[name]++
		}
		if len(before) != k || before[0] != with.Owner(Partition(workspace)) {
			t.Fatalf("%d owners of %d shares, the first is %q", len(before), k, before[0])
		}
		for name, n := range shares {
			if most := (k + len(have) - 1) / len(have); n > most {
				t.Fatalf("%q has %d of %d shares", name, n, k)
			}
		}
		if k >= len(have) {
			return
		}
		gone := rapid.SampledFrom(have).Draw(t, "gone")
		after := NewRing(slices.DeleteFunc(slices.Clone(have), func(n string) bool { return n == gone })).Deal(workspace, k)
		for _, name := range before {
			if name != gone && !slices.Contains(after, name) {
				t.Fatalf("%q lost the workspace when %q left: %q, then %q", name, gone, before, after)
			}
		}
		if !slices.Contains(before, gone) && !slices.Equal(before, after) {
			t.Fatalf("%q had no share and left: %q, then %q", gone, before, after)
		}
	})
}
