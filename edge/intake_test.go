package edge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// masked is a client's frame.
func masked(first byte, mask [4]byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i&3])
	}
	return b
}

// takeAll reads a stream that comes in pieces, the way a session does, and says what it took.
func takeAll(limit int, deflate bool, pieces [][]byte) (said []string) {
	in := intake{limit: limit, deflate: deflate}
	var data []byte
	for _, piece := range pieces {
		data = append(data, piece...)
		for {
			op, payload, n, needs, err := in.next(data)
			if err != nil {
				return append(said, err.Error())
			}
			if n == 0 {
				if needs <= len(data) {
					return append(said, fmt.Sprintf("needs %d bytes of %d", needs, len(data)))
				}
				break
			}
			if in.packed && (op == opText || op == opBinary) {
				whole, err := inflate(payload, limit)
				if err != nil {
					return append(said, err.Error())
				}
				payload = slices.Clone(whole.body)
				whole.giveBack()
			}
			if op != opContinue {
				said = append(said, fmt.Sprintf("%x %q", op, payload))
			}
			data = data[n:]
		}
	}
	return said
}

// TestIntake_WhateverThePieces: messages in frames of any size, with pings among them, come whole and in order, whatever
// the reads that bring them.
func TestIntake_WhateverThePieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		var want []string
		mask := func() (m [4]byte) {
			copy(m[:], rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "mask"))
			return m
		}
		for range rapid.IntRange(0, 6).Draw(t, "messages") {
			kind := rapid.SampledFrom([]byte{opText, opBinary}).Draw(t, "kind")
			size := rapid.SampledFrom([]int{0, 1, 7, 8, 125, 126, 1000, 65535, 65536, 70_000}).Draw(t, "size")
			body := bytes.Repeat([]byte(rapid.StringN(1, 8, -1).Draw(t, "text")), size)[:size]
			rest, op := body, kind
			if rapid.Bool().Draw(t, "compressed") {
				rest, op = deflated(body, rapid.SampledFrom([]int{-2, 0, 1, 6}).Draw(t, "level"), rapid.IntRange(0, 3).Draw(t, "ending")), kind|compressed
			}
			for parts := rapid.IntRange(1, 4).Draw(t, "frames"); parts > 1; parts-- {
				n := rapid.IntRange(0, len(rest)).Draw(t, "part")
				stream = append(stream, masked(op, mask(), rest[:n])...)
				rest, op = rest[n:], opContinue
				if rapid.Bool().Draw(t, "ping") {
					stream = append(stream, masked(0x80|opPing, mask(), []byte("p"))...)
					want = append(want, fmt.Sprintf("%x %q", opPing, "p"))
				}
			}
			stream = append(stream, masked(0x80|op, mask(), rest)...)
			want = append(want, fmt.Sprintf("%x %q", kind, body))
		}
		var pieces [][]byte
		for len(stream) > 0 {
			n := rapid.IntRange(1, min(len(stream), 9000)).Draw(t, "piece")
			pieces = append(pieces, slices.Clone(stream[:n]))
			stream = stream[n:]
		}
		if got := takeAll(1<<20, true, pieces); !slices.Equal(got, want) {
			t.Errorf("got %.300q, want %.300q", got, want)
		}
	})
}

// FuzzIntake: what is taken from any bytes does not depend on how they come, and is never more than the limit.
func FuzzIntake(f *testing.F) {
	f.Add(masked(0x81, [4]byte{1, 2, 3, 4}, []byte("hello")), 3)
	f.Add(append(masked(0x01, [4]byte{}, []byte("a")), masked(0x80, [4]byte{9}, []byte("b"))...), 1)
	f.Add([]byte{0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 2)
	f.Add([]byte{0x88, 0x82, 0, 0, 0, 0, 3, 0xE8}, 1)
	f.Add(masked(0xC1, [4]byte{5}, deflated([]byte("hello hello hello"), 6, 0)), 4)
	f.Add(append(masked(0x41, [4]byte{}, deflated(make([]byte, 5000), 9, 1)[:5]), masked(0x80, [4]byte{9}, deflated(make([]byte, 5000), 9, 1)[5:])...), 7)
	f.Fuzz(func(t *testing.T, stream []byte, piece int) {
		const limit = 1000
		pieces := slices.Collect(slices.Chunk(slices.Clone(stream), max(1, piece%len(append(stream, 0)))))
		whole, parts := takeAll(limit, true, [][]byte{slices.Clone(stream)}), takeAll(limit, true, pieces)
		if !slices.Equal(whole, parts) {
			t.Errorf("at once %q, in pieces %q", whole, parts)
		}
		if _, err := closeIn(stream); err != nil && !errors.Is(err, errBadFrame) {
			t.Error(err)
		}
		in := intake{limit: limit, deflate: true}
		for data := stream; ; {
			_, payload, n, _, err := in.next(data)
			if err != nil || n == 0 {
				break
			}
			if len(payload) > limit+maxOverhead || len(in.parts) > limit+maxOverhead {
				t.Fatalf("%d and %d bytes", len(payload), len(in.parts))
			}
			data = data[n:]
		}
	})
}

func BenchmarkUnmask(b *testing.B) {
	payload := make([]byte, 200)
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		unmask(payload, [4]byte{1, 2, 3, 4})
	}
}
