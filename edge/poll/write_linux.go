package poll

import (
	"errors"
	"syscall"
)

// Attempt writes without waiting. It is reused, by one goroutine, because it costs an allocation. The zero value is ready
// to use.
type Attempt struct {
	buf []byte
	n   int
	err error
	fn  func(fd uintptr) bool
}

// Write writes as much of buf as the socket takes now, perhaps nothing.
func (a *Attempt) Write(conn syscall.RawConn, buf []byte) (n int, err error) {
	if a.fn == nil {
		a.fn = a.write
	}
	a.buf, a.n, a.err = buf, 0, nil
	err = conn.Write(a.fn)
	a.buf = nil
	if err == nil {
		err = a.err
	}
	return a.n, err
}

func (a *Attempt) write(fd uintptr) bool {
	for {
		n, err := syscall.Write(int(fd), a.buf)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
		case err != nil:
			a.err = err
		default:
			a.n = n
		}
		return true // or the caller would wait until there is room
	}
}
