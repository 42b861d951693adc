package numset

import (
	"encoding/binary"
	"iter"
	"slices"
)

// List is a set of numbers that is small and changes little: the gaps between them, in as many bytes as each needs. With
// 100 numbers below 2,000 that is a byte for each. It does not change, but is replaced. The zero List is empty.
type List string

// usual is how many numbers are worked on without an allocation.
const usual = 256

// Pack returns a list of numbers, which are sorted and different.
func Pack(sorted []uint32) List {
	var room [2 * usual]byte
	gaps := room[:0]
	last := uint32(0)
	for _, x := range sorted {
		gaps = binary.AppendUvarint(gaps, uint64(x-last))
		last = x
	}
	return List(gaps)
}

// All goes through the numbers in order.
func (l List) All() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		x := uint32(0)
		for i := 0; i < len(l); {
			gap := uint32(l[i] & 0x7f)
			for shift := 7; l[i] >= 0x80; shift += 7 {
				i++
				gap |= uint32(l[i]&0x7f) << shift
			}
			i++
			x += gap
			if !yield(x) {
				return
			}
		}
	}
}

// Append appends the numbers in order.
func (l List) Append(dst []uint32) []uint32 {
	for x := range l.All() {
		dst = append(dst, x)
	}
	return dst
}

// With returns the list with x, and whether it was not there.
func (l List) With(x uint32) (List, bool) {
	var room [usual]uint32
	all, added := insert(l.Append(room[:0]), x)
	if !added {
		return l, false
	}
	return Pack(all), true
}

// Without returns the list without x, and whether it was there.
func (l List) Without(x uint32) (List, bool) {
	var room [usual]uint32
	all, removed := remove(l.Append(room[:0]), x)
	if !removed {
		return l, false
	}
	return Pack(all), true
}

// Has reports whether x is in the list.
func (l List) Has(x uint32) bool {
	for y := range l.All() {
		if y >= x {
			return y == x
		}
	}
	return false
}

// Added returns the list with numbers that are not in it, each once. They are sorted in place.
func (l List) Added(numbers []uint32) List {
	if len(numbers) == 0 {
		return l
	}
	if l != "" {
		numbers = l.Append(numbers)
	}
	slices.Sort(numbers)
	return Pack(numbers)
}
