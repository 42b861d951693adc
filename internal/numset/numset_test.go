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

// A list is a set too, wherever its numbers lie.
func TestList_IsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l List
		want := map[uint32]bool{}
		number := rapid.OneOf(rapid.Uint32Range(0, 20), rapid.Uint32())
		t.Repeat(map[string]func(*rapid.T){
			"with": func(t *rapid.T) {
				x := number.Draw(t, "number")
				var added bool
				if l, added = l.With(x); added == want[x] {
					t.Fatalf("adding %d", x)
				}
				want[x] = true
			},
			"without": func(t *rapid.T) {
				x := number.Draw(t, "number")
				var removed bool
				if l, removed = l.Without(x); removed != want[x] {
					t.Fatalf("removing %d", x)
				}
				delete(want, x)
			},
			"added": func(t *rapid.T) {
				numbers := rapid.SliceOfNDistinct(number.Filter(func(x uint32) bool { return !want[x] }), 0, 300, rapid.ID).Draw(t, "numbers")
				for _, x := range numbers {
					want[x] = true
				}
				l = l.Added(numbers)
			},
			"": func(t *rapid.T) {
				x := number.Draw(t, "number")
				sorted := slices.Sorted(maps.Keys(want))
				if l.Has(x) != want[x] || !slices.Equal(slices.Collect(l.All()), sorted) || !slices.Equal(l.Append(nil), sorted) {
					t.Fatalf("has %v, want %v", l.Append(nil), sorted)
				}
				for first := range l.All() {
					if first != sorted[0] {
						t.Fatalf("begins with %d", first)
					}
					break
				}
			},
		})
	})
}

// Channels that are not far apart cost a byte or two.
func TestList_IsSmall(t *testing.T) {
	var numbers []uint32
	for i := range uint32(100) {
		numbers = append(numbers, 20*i)
	}
	if l := Pack(numbers); len(l) != len(numbers) {
		t.Errorf("%d bytes", len(l))
	}
}
