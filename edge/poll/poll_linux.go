package poll

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
)

// Supported reports whether New works on this system.
const Supported = true

const (
	// oneShot is EPOLLONESHOT, which package syscall does not have.
	oneShot = 1 << 30
	// events is what a parked socket waits for: bytes, or the end of the stream; once.
	events = syscall.EPOLLIN | syscall.EPOLLRDHUP | oneShot
	// batch is how many sockets a worker takes at once: few, so that the others have something to do too.
	batch = 32
	// bufferSize is the size of the buffer that a worker lends to handlers.
	bufferSize = 64 << 10
)

// Handler is told that its socket is readable or that its peer is gone.
type Handler interface {
	// Readable runs on a worker, once after Add or Rearm. It must not wait. buf is its own until it returns.
	Readable(buf []byte)
}

// Poller waits for sockets. It is safe for concurrent use.
type Poller struct {
	// Static after New.
	fd      int
	file    *os.File // of fd: Go's poller waits for it
	raw     syscall.RawConn
	workers sync.WaitGroup

	// mu guards what follows.
	mu     sync.Mutex
	closed bool
	slots  []slot
	free   []int32 // slots that are empty
	n      int
}

// slot is the place of a socket. Its number and generation are what the kernel knows of the socket: not the descriptor,
// which may belong to another one when a late event comes, nor the number alone.
type slot struct {
	handler    Handler
	generation int32
}

// Socket is a place in a poller. The zero value is none.
type Socket struct {
	poller     *Poller
	fd         int32
	slot       int32
	generation int32
}

// New returns a poller whose handlers run on workers goroutines. Close it.
func New(workers int) (*Poller, error) {
	if workers < 1 {
		return nil, errors.New("poll: at least one worker")
	}
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// Non-blocking, or Go's poller would not take it.
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl", err), syscall.Close(fd))
	}
	p := &Poller{fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("poll: %w", err), p.file.Close())
	}
	for range workers {
		p.workers.Go(p.work)
	}
	return p, nil
}

// Add parks a socket. The descriptor stays the caller's, who calls Remove before closing it.
func (p *Poller) Add(conn syscall.Conn, h Handler) (Socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Socket{}, fmt.Errorf("poll: %w", err)
	}
	var s Socket
	var addErr error
	if err := raw.Control(func(fd uintptr) { s, addErr = p.add(int32(fd), h) }); err != nil {
		return Socket{}, fmt.Errorf("poll: %w", err)
	}
	return s, addErr
}

func (p *Poller) add(fd int32, h Handler) (Socket, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return Socket{}, os.ErrClosed
	}
	if len(p.free) == 0 {
		p.slots = append(p.slots, slot{})
		p.free = append(p.free, int32(len(p.slots)-1))
	}
	i := p.free[len(p.free)-1]
	at := &p.slots[i]
	s := Socket{poller: p, fd: fd, slot: i, generation: at.generation}
	if err := s.control(syscall.EPOLL_CTL_ADD); err != nil {
		return Socket{}, err
	}
	p.free = p.free[:len(p.free)-1]
	at.handler = h
	p.n++
	return s, nil
}

func (s *Socket) control(op int) error {
	ev := syscall.EpollEvent{Events: events, Fd: s.slot, Pad: s.generation}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(s.poller.fd, op, int(s.fd), &ev))
}

// parkedLocked reports whether the socket still has its place.
func (s *Socket) parkedLocked() bool {
	p := s.poller
	return !p.closed && p.slots[s.slot].generation == s.generation && p.slots[s.slot].handler != nil
}

// Rearm parks the socket again. The handler runs at once if there is something to read. After Remove it does nothing.
func (s *Socket) Rearm() error {
	if s.poller == nil {
		return nil
	}
	s.poller.mu.Lock()
	defer s.poller.mu.Unlock()
	if !s.parkedLocked() {
		return nil
	}
	return s.control(syscall.EPOLL_CTL_MOD)
}

// Remove takes the socket away, before it is closed. A handler that has begun may still run.
func (s *Socket) Remove() {
	p := s.poller
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !s.parkedLocked() {
		return
	}
	p.slots[s.slot] = slot{generation: s.generation + 1}
	p.free = append(p.free, s.slot)
	p.n--
	s.control(syscall.EPOLL_CTL_DEL) //nolint:errcheck // Whoever closed it first did the same.
}

// Len returns the number of sockets.
func (p *Poller) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

// work takes turns with the other workers: RawConn.Read lets one in at a time.
func (p *Poller) work() {
	buf := make([]byte, bufferSize)
	var list [batch]syscall.EpollEvent
	var handlers [batch]Handler
	n := 0
	wait := func(fd uintptr) bool {
		var err error
		for {
			// Until there is nothing: only then does Go's poller tell of the next.
			if n, err = syscall.EpollWait(int(fd), list[:], 0); !errors.Is(err, syscall.EINTR) {
				return n > 0
			}
		}
	}
	for {
		if err := p.raw.Read(wait); err != nil {
			return // Closed.
		}
		p.mu.Lock()
		for i := range n {
			if number := int(list[i].Fd); number < len(p.slots) && p.slots[number].generation == list[i].Pad {
				handlers[i] = p.slots[number].handler
			}
		}
		p.mu.Unlock()
		for i := range n {
			if h := handlers[i]; h != nil {
				handlers[i] = nil
				h.Readable(buf)
			}
		}
		if n == batch {
			runtime.Gosched() // There is more, of which thousands may come at once: a storm. Others have work, too.
		}
	}
}

// Close ends the wait and returns when the handlers that had begun are over. Sockets stay open.
func (p *Poller) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.slots, p.n = nil, 0
	p.mu.Unlock()
	err := p.file.Close()
	p.workers.Wait()
	return err
}
