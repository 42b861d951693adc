package load

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// state is how far a connection is.
type state uint8

const (
	stateDialing   state = iota
	stateUpgrading       // the request is out
	stateWelcoming       // frames come, but not yet the one that says: you are in
	stateIn
	stateWaiting // to come back
	stateEnded
)

// conn is one connection.
type conn struct {
	fd       int
	number   int
	state    state
	language string
	began    int64 // when it should have been opened
	again    int64 // when it comes back, while it waits for that
	mask     uint32
	rest     []byte // what was read of a frame that is not whole yet
	out      []byte // what the socket did not take
	last     int64  // number of the last message
	slots    []slot // questions
	head     int    // the slot that is answered next, where answers have no name
	busy     int    // slots in use
}

// opening is a DoConnect under way.
type opening struct {
	*Connect
	remote unix.Sockaddr
	local  unix.Sockaddr
	family int
	until  []byte

	began   int64
	started int // connections that were begun
	ended   int // and those that came to something
	air     int
	oldest  int     // of those in the air, by number
	waiting []*conn // those that come back, the next one first
}

// handshakeKey may be the same for all: it proves to a client that a server speaks the protocol, once.
var handshakeKey = base64.StdEncoding.EncodeToString([]byte("flannel-bench-16"))

// next is when the next connection is to be begun.
func (o *opening) next() int64 {
	next := o.began + int64(time.Hour)*24
	if len(o.waiting) > 0 {
		next = o.waiting[0].again
	}
	if o.Rate > 0 && o.started < o.Count {
		next = min(next, o.at(o.started))
	}
	return next
}

// at is when a connection should be begun.
func (o *opening) at(n int) int64 { return o.began + int64(float64(n)*1e9/o.Rate) }

func (l *loop) connect(order *Connect) error {
	o := &opening{Connect: order, began: now(), until: []byte(order.Until), oldest: len(l.conns)}
	var err error
	if o.remote, o.family, err = sockaddr(order.Address); err != nil {
		return err
	}
	if order.Local != "" {
		if o.local, _, err = sockaddr(net.JoinHostPort(order.Local, "0")); err != nil {
			return err
		}
	}
	if o.Parallel <= 0 {
		o.Parallel = 1
	}
	l.opening, l.closing = o, false
	l.openMore(o.began)
	return nil
}

func sockaddr(address string) (unix.Sockaddr, int, error) {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, 0, err
	}
	if four := a.IP.To4(); four != nil {
		return &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(four)}, unix.AF_INET, nil
	}
	return &unix.SockaddrInet6{Port: a.Port, Addr: [16]byte(a.IP.To16())}, unix.AF_INET6, nil
}

// openMore begins what is due, and gives up on what has been on its way for too long.
func (l *loop) openMore(at int64) {
	o := l.opening
	patience := int64(o.PatienceMS) * int64(time.Millisecond)
	for o.oldest < len(l.conns) {
		c := l.conns[o.oldest]
		if c.state < stateIn || c.state == stateWaiting {
			if at-c.began < patience {
				break
			}
			l.giveUp(o, c, "not in after %v", time.Duration(patience))
		}
		o.oldest++
	}
	for o.started < o.Count && (o.Rate > 0 && o.at(o.started) <= at || o.Rate <= 0 && o.air < o.Parallel) {
		began := at
		if o.Rate > 0 {
			began = o.at(o.started)
		}
		l.begin(o, began)
	}
	for len(o.waiting) > 0 && o.waiting[0].again <= at {
		c := o.waiting[0]
		o.waiting = o.waiting[1:]
		c.state = stateDialing
		o.air++
		if err := l.dial(o, c); err != nil {
			l.end(c, "connect: %v", err)
		}
	}
	if o.ended == o.Count {
		l.opening = nil
		l.done(DoConnect)
	}
}

func (l *loop) begin(o *opening, began int64) {
	c := &conn{fd: -1, number: o.started, state: stateDialing, language: o.Language, began: began, mask: mask()}
	l.conns = append(l.conns, c)
	o.started++
	o.air++
	if err := l.dial(o, c); err != nil {
		l.end(c, "connect: %v", err)
	}
}

func (l *loop) dial(o *opening, c *conn) error {
	fd, err := unix.Socket(o.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	c.fd = fd
	l.byFD[fd] = c
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	if o.local != nil {
		// The port is chosen at connect, when the other end is known: each pair of addresses has all ports.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return err
		}
		if err := unix.Bind(fd, o.local); err != nil {
			return err
		}
	}
	if err := unix.Connect(fd, o.remote); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	return unix.EpollCtl(l.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT, Fd: int32(fd)})
}

// ready is what epoll says of a connection.
func (l *loop) ready(c *conn, events uint32) {
	if c.state == stateDialing && events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		if code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			l.refused(c, 0, "connect: %v", errors.Join(err, unix.Errno(code)))
			return
		}
		if c.language == "" || c.language == Websocket {
			c.state = stateUpgrading
			l.write(c, l.request(c))
		} else {
			l.in(c)
		}
		if c.fd >= 0 && len(c.out) == 0 {
			l.watch(c, unix.EPOLLIN)
		}
		return
	}
	if events&unix.EPOLLOUT != 0 && len(c.out) > 0 {
		pending := c.out
		c.out = nil
		l.write(c, pending)
		if c.fd >= 0 && len(c.out) == 0 {
			l.watch(c, unix.EPOLLIN)
		}
	}
	if c.fd >= 0 && events&(unix.EPOLLIN|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		l.read(c)
	}
}

func (l *loop) request(c *conn) []byte {
	o := l.opening
	path := "/"
	if len(o.Paths) > 0 {
		path = o.Paths[c.number%len(o.Paths)]
	}
	offer := ""
	if o.Compression {
		offer = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
	}
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s\r\n",
		path, o.Address, handshakeKey, offer)
}

func (l *loop) watch(c *conn, events uint32) {
	if err := unix.EpollCtl(l.poll, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: events, Fd: int32(c.fd)}); err != nil {
		l.end(c, "watch a socket: %v", err)
	}
}

// write sends, and keeps what the socket does not take.
func (l *loop) write(c *conn, b []byte) {
	if len(c.out) > 0 {
		c.out = append(c.out, b...)
		return
	}
	n, err := unix.Write(c.fd, b)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		l.end(c, "write: %v", err)
		return
	}
	if n = max(n, 0); n < len(b) {
		c.out = append([]byte(nil), b[n:]...)
		l.watch(c, unix.EPOLLIN|unix.EPOLLOUT)
	}
}

// read takes what is there, once: epoll says again if there is more.
func (l *loop) read(c *conn) {
	if len(c.rest) > len(l.buf)/2 { // A frame that is larger than the buffer.
		l.buf = make([]byte, 4*len(l.buf))
	}
	kept := copy(l.buf, c.rest)
	n, err := unix.Read(c.fd, l.buf[kept:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return
	case err != nil:
		l.refused(c, 0, "read: %v", err)
		return
	case n == 0:
		l.refused(c, 0, "the server has closed the connection")
		return
	}
	l.report.Counts.Bytes += int64(n)
	data := l.buf[:kept+n]
	used := l.take(c, data)
	if c.fd < 0 {
		return
	}
	if used == len(data) {
		c.rest = nil
		return
	}
	if used == 0 && kept > 0 && cap(c.rest) >= len(data) {
		c.rest = append(c.rest, data[kept:]...)
		return
	}
	c.rest = append(make([]byte, 0, 2*(len(data)-used)), data[used:]...)
}

// take handles whole things in data and returns how much of it they were.
func (l *loop) take(c *conn, data []byte) (used int) {
	at := now()
	if c.state == stateUpgrading {
		end := bytes.Index(data, []byte("\r\n\r\n"))
		if end < 0 {
			return 0
		}
		head := data[:end]
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 101")) {
			line, _, _ := bytes.Cut(head, []byte("\r\n"))
			l.refused(c, retryAfter(head), "open a websocket: %s", line)
			return 0
		}
		used = end + 4
		if c.state = stateWelcoming; l.opening == nil || len(l.opening.until) == 0 {
			l.in(c)
		}
	}
	if c.language != "" && c.language != Websocket {
		return l.takeAnswers(c, data, at)
	}
	for c.fd >= 0 {
		op, payload, size := nextFrame(data[used:])
		if size < 0 {
			l.end(c, "no server may send such a frame: % x", data[used:min(used+10, len(data))])
		}
		if size <= 0 {
			break
		}
		used += size
		switch op {
		case opPing:
			l.write(c, appendFrame(nil, opPong, c.mask, payload))
		case opClose:
			l.refused(c, retryMS(payload), "the server said goodbye: %s", closing(payload))
		case packed | opText:
			if body := l.unpacker.unpack(payload); body != nil {
				l.frame(c, body, at)
			} else {
				l.end(c, "a message is not compressed as it should be")
			}
		default:
			l.frame(c, payload, at)
		}
	}
	l.send(c)
	return used
}

// closing is what a close frame says.
func closing(payload []byte) string {
	if len(payload) < 2 {
		return "nothing"
	}
	return fmt.Sprintf("%d %s", int(payload[0])<<8|int(payload[1]), payload[2:])
}

func (l *loop) frame(c *conn, payload []byte, at int64) {
	switch {
	case c.state == stateWelcoming:
		if bytes.HasPrefix(payload, []byte(`{"type":"error"`)) {
			l.fail("not let in: %s", payload)
		}
		if l.opening != nil && bytes.HasPrefix(payload, l.opening.until) {
			l.in(c)
		}
	case l.asking != nil && l.answered(c, payload, at):
	case l.listening:
		l.deliver(c, payload, at)
	}
}

// in says that a connection is where it should be.
func (l *loop) in(c *conn) {
	c.state = stateIn
	l.open++
	l.report.Counts.Opened++
	if o := l.opening; o != nil {
		l.times.Record(now() - c.began)
		o.air--
		o.ended++
		if o.Leave {
			l.leave(c)
		}
	}
}

// leave ends a connection that has been in, as a lost network does.
func (l *loop) leave(c *conn) {
	unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) //nolint:errcheck // Then it lingers.
	was := l.closing
	l.closing = true
	l.end(c, "")
	l.closing = was
}

// end closes a connection. why is empty if we want it.
func (l *loop) end(c *conn, why string, args ...any) {
	if c.fd >= 0 {
		delete(l.byFD, c.fd)
		unix.Close(c.fd) //nolint:errcheck // It is gone either way.
		c.fd = -1
	}
	was := c.state
	c.state, c.rest, c.out = stateEnded, nil, nil
	if was == stateEnded {
		return
	}
	if !l.closing {
		l.fail(why, args...)
	}
	switch {
	case was == stateIn:
		l.open--
		if !l.closing {
			l.report.Counts.Dropped++
		}
		if a := l.asking; a != nil {
			a.air -= c.busy
			l.report.Counts.Wrong += int64(c.busy)
			if a.fill { // Whoever was to store the objects may be the one.
				l.asking = nil
				l.done(DoFill)
			}
		}
		l.report.Heard = l.heard.lost(c.last, l.report.Heard)
	case l.opening != nil:
		if was != stateWaiting { // Whoever waits is in no air.
			l.opening.air--
		}
		l.opening.ended++
		l.report.Counts.Refused++
	}
}
