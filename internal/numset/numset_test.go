package numset

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A set is a map without values, however large it grows and shrinks.
func TestSet_IsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Set
		want := map[uint32]bool{}
		most := rapid.SampledFrom([]uint32{8, 2 * fewest, 1 << 20}).Draw(t, "most")
		number := rapid.Uint32Range(0, most)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				x := number.Draw(t, "number")
				if s.Add(x) == want[x] {
					t.Fatalf("adding %d", x)
				}
				want[x] = true
			},
			"add many": func(t *rapid.T) {
				for x := range uint32(2 * fewest) {
					s.Add(x)
					want[x] = true
				}
			},
			"remove": func(t *rapid.T) {
				x := number.Draw(t, "number")
				if s.Remove(x) != want[x] {
					t.Fatalf("removing %d", x)
				}
				delete(want, x)
			},
			"remove all": func(t *rapid.T) {
				for _, x := range s.List() {
					s.Remove(x)
				}
				clear(want)
			},
			"": func(t *rapid.T) {
				x := number.Draw(t, "number")
				sorted := slices.Sorted(maps.Keys(want))
				if s.Has(x) != want[x] || s.Len() != len(want) || s.Empty() != (len(want) == 0) {
					t.Fatalf("%d numbers, want %d", s.Len(), len(want))
				}
				if !slices.Equal(slices.Collect(s.All()), sorted) || !slices.Equal(s.List(), sorted) {
					t.Fatalf("has %v, want %v", s.List(), sorted)
				}
				for first := range s.All() {
					if first != sorted[0] {
						t.Fatalf("begins with %d", first)
					}
					break
				}
			},
		})
	})
}

func TestSlots_NumbersAreUsedAgain(t *testing.T) {
	var s Slots[string]
	a, b := s.Add("a"), s.Add("b")
	s.Free(a)
	c := s.Add("c")

	if c != a || s.At(b) != "b" || s.At(c) != "c" || s.Len() != 2 {
		t.Errorf("%d is %q, %d is %q, %d in all", b, s.At(b), c, s.At(c), s.Len())
	}
	s.Set(b, "d")
	if s.At(b) != "d" {
		t.Errorf("%d is %q", b, s.At(b))
	}
}
