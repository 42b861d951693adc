package edge

import (
	"testing"
)

// furthest returns how far back a compressed message (RFC 1951) looks at most. Go's inflaters do not tell, and have the largest
// window; clients may not.
func furthest(t interface{ Fatalf(string, ...any) }, data []byte) (back int) {
	b := bits{data: append(append([]byte(nil), data...), tail...)}
	for last := 0; last == 0; {
		last = b.take(1)
		switch kind := b.take(2); kind {
		case 0:
			b.bit = (b.bit + 7) &^ 7
			n := b.take(16)
			b.take(16)
			b.bit += 8 * n
		case 1, 2:
			lengths, distances := b.codes(kind)
			for {
				sym := b.symbol(lengths)
				if sym < 0 || b.bit > 8*len(b.data) {
					t.Fatalf("no deflate stream")
				}
				if sym == 256 {
					break
				}
				if sym > 256 {
					b.take(lengthExtra[sym-257])
					sym = b.symbol(distances)
					back = max(back, distanceBase[sym]+b.take(distanceExtra[sym]))
				}
			}
		default:
			t.Fatalf("no deflate stream")
		}
	}
	return back
}

var (
	lengthExtra   = []int{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distanceBase  = []int{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distanceExtra = []int{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// bits is a deflate stream.
type bits struct {
	data []byte
	bit  int
}

func (b *bits) take(n int) (v int) {
	for i := range n {
		if b.bit>>3 < len(b.data) {
			v |= int(b.data[b.bit>>3]>>(b.bit&7)&1) << i
		}
		b.bit++
	}
	return v
}

// symbol reads a symbol of a code, which is given by the length of each; -1 if there is none.
func (b *bits) symbol(lengths []int) int {
	var count [16]int
	for _, n := range lengths {
		count[n]++
	}
	count[0] = 0
	code, first, index := 0, 0, 0
	for n := 1; n < 16; n++ {
		code |= b.take(1)
		if code-first < count[n] {
			index += code - first
			for at := 1; at < 16; at++ {
				for sym, length := range lengths {
					if length == at {
						if index == 0 {
							return sym
						}
						index--
					}
				}
			}
		}
		index += count[n]
		first = (first + count[n]) << 1
		code <<= 1
	}
	return -1
}

// codes returns the codes of a block: fixed ones, or those that it begins with.
func (b *bits) codes(kind int) (lengths, distances []int) {
	if kind == 1 {
		for sym := range 288 {
			switch {
			case sym < 144, sym > 279:
				lengths = append(lengths, 8)
			case sym < 256:
				lengths = append(lengths, 9)
			default:
				lengths = append(lengths, 7)
			}
		}
		for range 30 {
			distances = append(distances, 5)
		}
		return lengths, distances
	}
	nl, nd, nc := b.take(5)+257, b.take(5)+1, b.take(4)+4
	code := make([]int, 19)
	for _, at := range []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}[:nc] {
		code[at] = b.take(3)
	}
	var all []int
	for len(all) < nl+nd {
		sym, again, n := b.symbol(code), 0, 1
		switch sym {
		case -1:
			return nil, nil
		case 16:
			again, n = all[len(all)-1], 3+b.take(2)
		case 17:
			n = 3 + b.take(3)
		case 18:
			n = 11 + b.take(7)
		default:
			again = sym
		}
		for range n {
			all = append(all, again)
		}
	}
	return all[:nl], all[nl:]
}

// TestFurthest: the checker itself.
func TestFurthest(t *testing.T) {
	for _, distance := range []int{1, 3, 100, 600, 5000, 30_000} {
		body := []byte(noise(distance))
		for range 200/distance + 1 {
			body = append(body, body[:min(distance, 200)]...)
		}
		if got := furthest(t, deflated(body, 9, 1)); got < distance || got > max(2*distance, 200) {
			t.Errorf("it looks back %d, not %d", got, distance)
		}
	}
}
