package load

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // RFC 6455 wants it.
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Bare is a server that does nothing but what generators wait for, as cheaply as can be: one epoll loop, answers that were
// made beforehand, and one write for all that waits for a connection. What a generator measures here is itself.
type Bare struct {
	poll, listener, wake int
	address              string
	object               []byte // an object without its id
	conns                map[int]*bareConn
	buf, out             []byte
	done                 chan struct{}

	mu      sync.Mutex
	pending []byte // frames for everybody
	stopped bool
}

// bareConn is one connection.
type bareConn struct {
	fd   int
	in   bool
	rest []byte
	out  []byte
}

// NewBare listens on a free port of loopback and serves objects of so many bytes until Close.
func NewBare(objectBytes int) (b *Bare, err error) {
	b = &Bare{conns: make(map[int]*bareConn), buf: make([]byte, readBuffer), done: make(chan struct{}), object: []byte(`","filler":"` + strings.Repeat("o", max(objectBytes-32, 0)) + `"}`)}
	if b.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, err
	}
	if b.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		b.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	}
	if err == nil {
		err = unix.Bind(b.listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		err = unix.Listen(b.listener, 4096)
	}
	for _, fd := range []int{b.listener, b.wake} {
		if err == nil {
			err = unix.EpollCtl(b.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("start a bare server: %w", err)
	}
	name, err := unix.Getsockname(b.listener)
	if err != nil {
		return nil, err
	}
	b.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*unix.SockaddrInet4).Port))
	go b.run()
	return b, nil
}

// Address is host:port.
func (b *Bare) Address() string { return b.address }

// Publish says a message to everybody, soon.
func (b *Bare) Publish(payload []byte) {
	b.mu.Lock()
	b.pending = appendBare(b.pending, payload)
	b.mu.Unlock()
	b.nudge()
}

// Close ends everything and waits for it.
func (b *Bare) Close() {
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	b.nudge()
	<-b.done
}

func (b *Bare) nudge() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(b.wake, one[:]) //nolint:errcheck // Full means that it is awake.
}

// appendBare appends a text frame of a server.
func appendBare(dst, payload []byte) []byte {
	dst = append(dst, 0x80|opText)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, byte(n))
	case n <= 0xffff:
		dst = binary.BigEndian.AppendUint16(append(dst, 126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 127), uint64(n))
	}
	return append(dst, payload...)
}

func (b *Bare) run() {
	defer close(b.done)
	defer func() {
		for fd := range b.conns {
			unix.Close(fd) //nolint:errcheck // All ends.
		}
		for _, fd := range []int{b.listener, b.poll, b.wake} {
			unix.Close(fd) //nolint:errcheck // As above.
		}
	}()
	events := make([]unix.EpollEvent, maxEvents)
	var drain [8]byte
	for {
		n, err := unix.EpollWait(b.poll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		for i := range max(n, 0) {
			switch fd := int(events[i].Fd); fd {
			case b.wake:
				unix.Read(b.wake, drain[:]) //nolint:errcheck // It only says that there is something.
			case b.listener:
				b.accept()
			default:
				if c := b.conns[fd]; c != nil {
					b.ready(c, events[i].Events)
				}
			}
		}
		b.mu.Lock()
		all, stopped := b.pending, b.stopped
		b.pending = nil
		b.mu.Unlock()
		if stopped {
			return
		}
		if len(all) > 0 {
			for _, c := range b.conns {
				if c.in {
					b.write(c, all)
				}
			}
		}
	}
}

func (b *Bare) accept() {
	for {
		fd, _, err := unix.Accept4(b.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		b.conns[fd] = &bareConn{fd: fd}
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)                                        //nolint:errcheck // Then it is slower.
		unix.EpollCtl(b.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}) //nolint:errcheck // It is never heard of, which the generator tells.
	}
}

func (b *Bare) ready(c *bareConn, events uint32) {
	if events&unix.EPOLLOUT != 0 {
		out := c.out
		c.out = nil
		b.watch(c, unix.EPOLLIN)
		b.write(c, out)
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		return
	}
	kept := copy(b.buf, c.rest)
	n, err := unix.Read(c.fd, b.buf[kept:])
	if errors.Is(err, unix.EAGAIN) {
		return
	}
	if err != nil || n == 0 {
		delete(b.conns, c.fd)
		unix.Close(c.fd) //nolint:errcheck // It has ended.
		return
	}
	data := b.buf[:kept+n]
	c.rest = append(c.rest[:0], data[b.take(c, data):]...)
}

func (b *Bare) watch(c *bareConn, events uint32) {
	unix.EpollCtl(b.poll, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: events, Fd: int32(c.fd)}) //nolint:errcheck // As in accept.
}

func (b *Bare) write(c *bareConn, p []byte) {
	if len(c.out) > 0 {
		c.out = append(c.out, p...)
		return
	}
	n, err := unix.Write(c.fd, p)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		return // The reader sees it.
	}
	if n = max(n, 0); n < len(p) {
		c.out = append(c.out, p[n:]...)
		b.watch(c, unix.EPOLLIN|unix.EPOLLOUT)
	}
}

// take answers what is whole in data, in one write, and returns how much of it that was.
func (b *Bare) take(c *bareConn, data []byte) (used int) {
	out := b.out[:0]
	if !c.in {
		end := bytes.Index(data, []byte("\r\n\r\n"))
		if end < 0 {
			return 0
		}
		out = append(out, welcome(data[:end])...)
		c.in, used = true, end+4
	}
	for {
		frame := data[used:]
		if len(frame) < 6 {
			break
		}
		n, head := int(frame[1]&0x7f), 6
		if n == 126 {
			if len(frame) < 8 {
				break
			}
			n, head = int(binary.BigEndian.Uint16(frame[2:])), 8
		}
		if len(frame) < head+n {
			break
		}
		body := frame[head : head+n]
		unmask(body, frame[head-4:head])
		used += head + n
		out = b.answer(out, body)
	}
	if len(out) > 0 {
		b.write(c, out)
	}
	b.out = out[:0]
	return used
}

// unmask undoes a client's mask, eight bytes at a time.
func unmask(body, key []byte) {
	narrow := uint64(binary.BigEndian.Uint32(key))
	wide := narrow<<32 | narrow
	for len(body) >= 8 {
		binary.BigEndian.PutUint64(body, binary.BigEndian.Uint64(body)^wide)
		body = body[8:]
	}
	for i := range body {
		body[i] ^= key[i&3]
	}
}

// welcome answers an upgrade, with the frames that sessions wait for.
func welcome(head []byte) []byte {
	_, key, _ := bytes.Cut(head, []byte("Sec-WebSocket-Key: "))
	key, _, _ = bytes.Cut(key, []byte("\r\n"))
	sum := sha1.Sum(append(append([]byte(nil), key...), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...)) //nolint:gosec // RFC 6455 wants it.
	out := fmt.Appendf(nil, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	out = appendBare(out, []byte(`{"type":"hello"}`))
	return appendBare(out, []byte(`{"type":"counts"}`))
}

// answer appends the answer to a question: each id that it names, with the same body.
func (b *Bare) answer(out, question []byte) []byte {
	tag, rest, ok := bytes.Cut(question, []byte(","))
	if !ok || len(tag) < 7 {
		return out
	}
	_, ids, _ := bytes.Cut(rest, []byte(`"updated_ids":{`))
	at := len(out)
	out = append(out, 0x80|opText, 127, 0, 0, 0, 0, 0, 0, 0, 0)
	out = append(append(out, `{"reply_to":`...), tag[len(`{"id":`):]...)
	out = append(out, `,"ok":true,"results":[`...)
	for {
		_, after, ok := bytes.Cut(ids, []byte(`"`))
		if !ok {
			break
		}
		id, more, ok := bytes.Cut(after, []byte(`"`))
		if !ok {
			break
		}
		out = append(append(append(out, `{"id":"`...), id...), b.object...)
		if ids = more; bytes.IndexByte(ids, '"') >= 0 {
			out = append(out, ',')
		}
	}
	out = append(out, "]}"...)
	binary.BigEndian.PutUint64(out[at+2:], uint64(len(out)-at-10))
	return out
}
