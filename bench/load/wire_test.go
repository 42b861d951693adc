package load

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

func TestNextFrame_WholeOrNot(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 1000, 0xffff, 0x10000, 100_000} {
		payload := bytes.Repeat([]byte("p"), n)
		masked := appendFrame(nil, opText, 0x01020304, payload)
		// A server's frame is the same without the mask.
		head := len(masked) - n - 4
		frame := append(append([]byte(nil), masked[:head]...), payload...)
		frame[1] &= 0x7f
		for cut := range head + 1 {
			if _, _, size := nextFrame(frame[:cut]); size != 0 && n > 0 {
				t.Errorf("%d bytes, cut after %d: size %d", n, cut, size)
			}
		}
		op, got, size := nextFrame(append(frame, "more"...))
		if op != opText || size != len(frame) || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes: op %d, size %d, %d bytes", n, op, size, len(got))
		}
		if _, _, size := nextFrame(masked); size >= 0 {
			t.Errorf("a masked frame of %d bytes has size %d", n, size)
		}
		// Unmasked by the book.
		key := []byte{1, 2, 3, 4}
		for i, c := range masked[head+4:] {
			if c^key[i&3] != 'p' {
				t.Fatalf("byte %d of %d is masked wrongly", i, n)
			}
		}
	}
}

func FuzzNextFrame(f *testing.F) {
	f.Add([]byte("\x81\x02hi"))
	f.Add([]byte("\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, payload, size := nextFrame(b); size > len(b) || size > 0 && len(payload) > size {
			t.Errorf("size %d of %d", size, len(b))
		}
	})
}

func TestStamp_WhereverItStands(t *testing.T) {
	at := time.Unix(1767603600, 123456789)
	hint := 0
	for _, before := range []string{"", "abc", "abc", `{"type":"message","text":"`, ""} {
		n, sent, ok := readStamp([]byte(before+Stamp(42, at)+" and more"), &hint)
		if n != 42 || sent != at.UnixNano() || !ok {
			t.Errorf("behind %q: %d, %d, %v", before, n, sent, ok)
		}
	}
	for _, none := range []string{"", "flannel-bench 1", "hello"} {
		if _, _, ok := readStamp([]byte(none), &hint); ok {
			t.Errorf("%q has a stamp", none)
		}
	}
}

func TestTracker_EveryoneHasIt(t *testing.T) {
	var tr tracker
	var heard []int64
	tell := func(n int64) {
		if tr.had(n, 3) {
			heard = append(heard, n)
		}
	}
	for _, n := range []int64{1, 2, 1, 1, 2, 3} { // 1 by all, 2 by two
		tell(n)
	}
	if fmt.Sprint(heard) != "[1]" {
		t.Errorf("heard %v", heard)
	}
	// The third ends, which had 1 only: 2 is complete, of 3 two are still to come.
	heard = tr.lost(1, heard)
	if fmt.Sprint(heard) != "[1 2]" {
		t.Errorf("heard %v", heard)
	}
	if tr.had(3, 2) {
		heard = append(heard, 3)
	}
	if fmt.Sprint(heard) != "[1 2 3]" || len(tr.left) != 0 {
		t.Errorf("heard %v, waits for %v", heard, tr.left)
	}
}

func TestNextAnswer_RedisAndMemcached(t *testing.T) {
	for _, c := range []struct {
		language, text string
		objects        int
	}{
		{Redis, "+OK\r\n", 1},
		{Redis, "$3\r\nabc\r\n", 1},
		{Redis, "$-1\r\n", 0},
		{Redis, "*3\r\n$1\r\na\r\n$-1\r\n$0\r\n\r\n", 2},
		{Redis, "-ERR no\r\n", 0},
		{Memcached, "STORED\r\n", 1},
		{Memcached, "END\r\n", 0},
		{Memcached, "VALUE k 0 3\r\nabc\r\nVALUE l 0 5\r\nEND\r\n\r\nEND\r\n", 2},
		{Memcached, "ERROR\r\n", 0},
	} {
		objects, size := nextAnswer(c.language, []byte(c.text+"x"))
		if objects != c.objects || size != len(c.text) {
			t.Errorf("%q: %d objects, size %d", c.text, objects, size)
		}
		for cut := range len(c.text) {
			if _, size := nextAnswer(c.language, []byte(c.text[:cut])); size != 0 {
				t.Errorf("%q cut after %d has size %d", c.text, cut, size)
			}
		}
	}
	if got := string(appendGet(nil, Redis, []string{"a", "bc"})); got != "*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$2\r\nbc\r\n" {
		t.Errorf("%q", got)
	}
	if got := string(appendSet(nil, Memcached, "a", []byte("bc"))); got != "set a 0 0 2\r\nbc\r\n" {
		t.Errorf("%q", got)
	}
}
