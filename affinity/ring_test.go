package affinity

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// names draws different node names as they are seen in the wild.
func names(t *rapid.T, least, most int) []string {
	one := rapid.OneOf(
		rapid.StringMatching(`[a-z]{1,8}-[0-9]{1,3}`), rapid.StringMatching(`ip-10-[0-9]{1,3}-[0-9]{1,3}-[0-9]{1,3}`), rapid.StringN(1, -1, 40),
	)
	return rapid.SliceOfNDistinct(one, least, most, rapid.ID[string]).Draw(t, "names")
}

// Every partition has one owner that is a node, the counts are true, and nobody is above the bound.
func TestRing_EveryPartitionHasAnOwnerWithinTheBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have := names(t, 1, 30)
		r := NewRing(have)
		counts := make(map[string]int)
		for p := range Partitions {
			counts[r.Owner(p)]++
		}
		for owner, n := range counts {
			if !slices.Contains(have, owner) {
				t.Fatalf("owner %q is no node", owner)
			}
			if n != r.Count(owner) || n > r.Most() {
				t.Fatalf("%q owns %d, count says %d, at most %d", owner, n, r.Count(owner), r.Most())
			}
		}
	})
}

// A node that leaves moves its own partitions and no other, to where Order said; one that comes takes only what it owns.
func TestRing_WhoLeavesMovesOnlyItsOwn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have := names(t, 2, 30)
		gone := rapid.SampledFrom(have).Draw(t, "gone")
		with := NewRing(have)
		without := NewRing(slices.DeleteFunc(slices.Clone(have), func(n string) bool { return n == gone }))
		step := rapid.IntRange(1, 97).Draw(t, "step") // Orders are slow to make: look at some.
		for p := range Partitions {
			before, after := with.Owner(p), without.Owner(p)
			if before != gone && after != before {
				t.Fatalf("partition %d went from %q to %q when %q left", p, before, after, gone)
			}
			if before == gone && p%step == 0 && after != with.Order(p)[1] {
				t.Fatalf("partition %d went to %q, not to the next, %q", p, after, with.Order(p)[1])
			}
		}
		if moved := without.Moved(with); moved != with.Count(gone) {
			t.Fatalf("%d partitions moved, %q had %d", moved, gone, with.Count(gone))
		}
	})
}

// Those who know the same names agree, however they came to know them.
func TestRing_AgreesWhateverTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have := names(t, 0, 20)
		other := rapid.Permutation(append(slices.Clone(have), have...)).Draw(t, "other")
		if a, b := NewRing(have), NewRing(other); !slices.Equal(a.owner, b.owner) || !slices.Equal(a.names, b.names) {
			t.Fatal("two tables of the same names differ")
		}
	})
}

// Two versions of flannel in one cluster must agree too: these owners may never change.
func TestRing_IsTheSameInEveryVersion(t *testing.T) {
	r := NewRing([]string{"flannel-0", "flannel-1", "flannel-2"})
	got := fmt.Sprint(r.Count("flannel-0"), r.Count("flannel-1"), r.Count("flannel-2"), Partition("T0123456789"))
	for _, w := range []string{"T0", "T1", "T2", "T3", "T4", "T5"} {
		got += " " + r.Owner(Partition(w))[len("flannel-"):]
	}
	const want = "21709 21892 21935 30496 1 2 1 1 0 0"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// The bound is kept where it binds, among as many nodes as there may be; and what it displaces is little.
func TestRing_BoundAmongMany(t *testing.T) {
	var have []string
	for i := range MaxMembers + 1 {
		have = append(have, fmt.Sprintf("node-%03d", i))
	}
	r := NewRing(have)
	displaced := 0
	for p := range Partitions {
		if r.order(p)[0] != int(r.owner[p]) {
			displaced++
		}
		if p > 4096 {
			break // enough to see the share
		}
	}
	for _, name := range have[:MaxMembers] {
		if n := r.Count(name); n == 0 || n > r.Most() {
			t.Errorf("%s owns %d of at most %d", name, n, r.Most())
		}
	}
	if displaced > 4096/50 {
		t.Errorf("the bound displaced %d of 4096", displaced)
	}
	if r.Count(have[MaxMembers]) != 0 {
		t.Error("there is a node above the limit")
	}
}

func BenchmarkNewRing(b *testing.B) {
	for _, n := range []int{3, 30, 100, 512} {
		var have []string
		for i := range n {
			have = append(have, fmt.Sprint("node-", i))
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				NewRing(have)
			}
		})
	}
}
