package poll

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns both ends of a TCP connection.
func pair(t testing.TB) (ours, theirs *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

// read reads what there is without waiting. 0 and no error: the stream has ended; EAGAIN: nothing.
func read(t testing.TB, c *net.TCPConn, buf []byte) (n int, err error) {
	raw, rerr := c.SyscallConn()
	if rerr != nil {
		return 0, rerr
	}
	if rerr := raw.Read(func(fd uintptr) bool { n, err = syscall.Read(int(fd), buf); return true }); rerr != nil {
		return 0, rerr
	}
	return n, err
}

func newPoller(t testing.TB) *Poller {
	t.Helper()
	p, err := New(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// handler is a function that handles.
type handler func(buf []byte)

func (h handler) Readable(buf []byte) { h(buf) }

// parked adds a socket whose handler needs it.
func parked(t testing.TB, p *Poller, c *net.TCPConn, handle func(s *Socket, buf []byte)) *Socket {
	t.Helper()
	s, known := new(Socket), make(chan struct{})
	got, err := p.Add(c, handler(func(buf []byte) {
		<-known
		handle(s, buf)
	}))
	if err != nil {
		t.Fatal(err)
	}
	*s = got
	close(known)
	t.Cleanup(s.Remove) // before the socket is closed
	return s
}

func rearm(t testing.TB, s *Socket) {
	t.Helper()
	if err := s.Rearm(); err != nil {
		t.Error(err)
	}
}

func TestPoller_TellsOfBytesAndOfTheEnd(t *testing.T) {
	p := newPoller(t)
	ours, theirs := pair(t)
	got := make(chan string)
	s := parked(t, p, ours, func(s *Socket, buf []byte) {
		n, err := read(t, ours, buf)
		got <- fmt.Sprint(string(buf[:max(n, 0)]), err)
		if n > 0 {
			rearm(t, s)
		}
	})
	for _, text := range []string{"one", "two"} {
		if _, err := theirs.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if g := <-got; g != text+"<nil>" {
			t.Errorf("read %q, want %q", g, text)
		}
	}
	theirs.Close()
	if g := <-got; g != "<nil>" {
		t.Errorf("the end reads %q", g)
	}
	s.Remove()
	s.Remove()
	if err := s.Rearm(); err != nil || p.Len() != 0 {
		t.Errorf("after Remove: %v, %d sockets", err, p.Len())
	}
}

// TestPoller_OneHandlerAtATime: bytes that come while a handler runs do not run another one, and are not forgotten.
func TestPoller_OneHandlerAtATime(t *testing.T) {
	p := newPoller(t)
	ours, theirs := pair(t)
	const total = 20_000
	var running, taken atomic.Int64
	done := make(chan struct{})
	parked(t, p, ours, func(s *Socket, buf []byte) {
		if running.Add(1) != 1 {
			t.Error("two handlers of one socket")
		}
		n, err := read(t, ours, buf[:7]) // Less than what there is: the rest has to be told of again.
		if err != nil {
			t.Error(err)
		}
		sum := taken.Add(int64(n))
		running.Add(-1)
		if sum == total {
			close(done)
			return
		}
		rearm(t, s)
	})
	for range total / 10 {
		if _, err := theirs.Write([]byte("0123456789")); err != nil {
			t.Fatal(err)
		}
	}
	<-done
}

// TestPoller_ManyAtOnce: more sockets than a worker takes at once are ready together, and each is told of every byte.
func TestPoller_ManyAtOnce(t *testing.T) {
	const sockets, rounds = 5 * batch, 50
	p := newPoller(t)
	told := make(chan int, sockets)
	writers := make([]*net.TCPConn, sockets)
	for i := range sockets {
		ours, theirs := pair(t)
		writers[i] = theirs
		parked(t, p, ours, func(s *Socket, buf []byte) {
			n, err := read(t, ours, buf)
			if err != nil || n != 1 {
				t.Errorf("socket %d: %d bytes, %v", i, n, err)
			}
			rearm(t, s)
			told <- i
		})
	}
	for range rounds {
		for _, w := range writers {
			if _, err := w.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		seen := make(map[int]bool)
		for range sockets {
			seen[<-told] = true
		}
		if len(seen) != sockets {
			t.Fatalf("%d sockets were told", len(seen))
		}
	}
	if p.Len() != sockets {
		t.Errorf("%d sockets", p.Len())
	}
}

// TestPoller_DescriptorsAreReused: a socket that was removed and closed is not told of what comes for the next socket
// that the kernel gives its descriptor to, and the poller its place.
func TestPoller_DescriptorsAreReused(t *testing.T) {
	p := newPoller(t)
	var wrong atomic.Int64
	for range 200 {
		ours, theirs := pair(t)
		s := parked(t, p, ours, func(*Socket, []byte) { wrong.Add(1) })
		s.Remove()
		ours.Close()
		theirs.Close()

		ours, theirs = pair(t)
		told := make(chan struct{})
		s = parked(t, p, ours, func(*Socket, []byte) { close(told) })
		theirs.Write([]byte("x"))
		<-told
		s.Remove()
		ours.Close()
		theirs.Close()
	}
	if wrong.Load() != 0 {
		t.Errorf("%d late calls", wrong.Load())
	}
}

func TestPoller_Closed(t *testing.T) {
	p, err := New(1)
	if err != nil {
		t.Fatal(err)
	}
	ours, _ := pair(t)
	s := parked(t, p, ours, func(*Socket, []byte) {})
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	s.Remove()
	rearm(t, s)
	if _, err := p.Add(ours, handler(nil)); err != os.ErrClosed { //nolint:errorlint // Add returns it bare.
		t.Errorf("Add after Close: %v", err)
	}
	if _, err := New(0); err == nil {
		t.Error("a poller without workers")
	}
	other, _ := pair(t)
	other.Close()
	if _, err := newPoller(t).Add(other, handler(nil)); err == nil {
		t.Error("a closed socket was parked")
	}
	var none Socket
	none.Remove()
	rearm(t, &none)
}

func BenchmarkPoller(b *testing.B) {
	p := newPoller(b)
	ours, theirs := pair(b)
	told := make(chan struct{}, 1)
	parked(b, p, ours, func(s *Socket, buf []byte) {
		if _, err := read(b, ours, buf); err == nil {
			told <- struct{}{}
		}
		rearm(b, s)
	})
	for b.Loop() {
		theirs.Write([]byte("x"))
		<-told
	}
}
