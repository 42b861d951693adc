// Package numset has what takes the place of maps where there are very many small ones: numbers for things, and sets of
// numbers. A member of a large Set costs 2 bytes, of a small one 4, of a List 1 or 2; in a Go map it is 20 and more.
// What changes here may not be used by several goroutines at once.
package numset

import (
	"iter"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

// Slots gives values numbers, as small as can be: those of values that are gone are given again. The zero value has none.
type Slots[T any] struct {
	values []T
	free   []uint32
}

// Add returns a number for a value.
func (s *Slots[T]) Add(v T) uint32 {
	if last := len(s.free) - 1; last >= 0 {
		x := s.free[last]
		s.free = s.free[:last]
		s.values[x] = v
		return x
	}
	s.values = append(s.values, v)
	return uint32(len(s.values) - 1)
}

// At returns the value with a number.
func (s *Slots[T]) At(x uint32) T { return s.values[x] }

// Set gives a number another value.
func (s *Slots[T]) Set(x uint32, v T) { s.values[x] = v }

// Free takes a number back. Its value is forgotten.
func (s *Slots[T]) Free(x uint32) {
	var none T
	s.values[x] = none
	s.free = append(s.free, x)
}

// Len returns how many numbers are given.
func (s *Slots[T]) Len() int { return len(s.values) - len(s.free) }

// fewest is up to how many numbers are a sorted list. A bitmap costs some 300 bytes before the first one.
const fewest = 128

// Set is a set of numbers. The zero Set is empty.
type Set struct {
	few  []uint32 // sorted
	many *roaring.Bitmap
}

// Add puts x in, and reports whether it was not there.
func (s *Set) Add(x uint32) bool {
	if s.many != nil {
		return s.many.CheckedAdd(x)
	}
	var added bool
	if s.few, added = insert(s.few, x); added && len(s.few) > fewest {
		s.many = roaring.BitmapOf(s.few...)
		s.few = nil
	}
	return added
}

// Remove takes x out, and reports whether it was there.
func (s *Set) Remove(x uint32) bool {
	if s.many == nil {
		var removed bool
		s.few, removed = remove(s.few, x)
		return removed
	}
	removed := s.many.CheckedRemove(x)
	if removed && s.many.IsEmpty() {
		s.many = nil
	}
	return removed
}

// Has reports whether x is in the set.
func (s *Set) Has(x uint32) bool {
	if s.many != nil {
		return s.many.Contains(x)
	}
	_, ok := slices.BinarySearch(s.few, x)
	return ok
}

// Len returns how many numbers are in the set.
func (s *Set) Len() int {
	if s.many != nil {
		return int(s.many.GetCardinality())
	}
	return len(s.few)
}

// Empty reports whether the set has none.
func (s *Set) Empty() bool { return s.many == nil && len(s.few) == 0 }

// All goes through the numbers in order. The set must not be changed meanwhile.
func (s *Set) All() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		if s.many != nil {
			s.many.Iterate(yield)
			return
		}
		for _, x := range s.few {
			if !yield(x) {
				return
			}
		}
	}
}

// List returns the numbers in order, in a slice of the caller's.
func (s *Set) List() []uint32 {
	if s.many != nil {
		return s.many.ToArray()
	}
	return slices.Clone(s.few)
}

// insert puts x into a sorted list, and reports whether it was not there.
func insert(list []uint32, x uint32) ([]uint32, bool) {
	i, ok := slices.BinarySearch(list, x)
	if ok {
		return list, false
	}
	return slices.Insert(list, i, x), true
}

// remove takes x out of a sorted list, and reports whether it was there.
func remove(list []uint32, x uint32) ([]uint32, bool) {
	i, ok := slices.BinarySearch(list, x)
	if !ok {
		return list, false
	}
	return slices.Delete(list, i, i+1), true
}
