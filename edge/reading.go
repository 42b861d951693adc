package edge

import (
	"context"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"flannel/protocol"
)

// Reading has two ways. A plain socket is parked once its session has begun: it costs no goroutine and no buffer, and the
// reactor calls Readable when there is something. Every other one, TLS for instance, has a goroutine in readLoop. Both
// hand what they read to consume.

// longAgo is a deadline that is over.
var longAgo = time.Unix(1, 0)

// early takes the bytes that the client sent right behind its handshake, which sit in the HTTP server's reader: nobody
// tells of them once the socket is parked. They are bounded by that reader's buffer.
func early(conn net.Conn) (sent []byte) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	conn.SetReadDeadline(longAgo) //nolint:errcheck // The read says it.
	for {
		n, err := conn.Read((*buf)[:cap(*buf)]) // A reader that has some gives them at once; one that has none asks the socket.
		sent = append(sent, (*buf)[:n]...)
		if err != nil {
			break
		}
	}
	conn.SetReadDeadline(time.Time{}) //nolint:errcheck // The next read says it.
	return sent
}

// park leaves the socket to the reactor. It reports whether it did.
func (s *Session) park() bool {
	if s.direct == nil {
		return false
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending { // It ends by a deadline of its reader.
		return false
	}
	socket, err := s.edge.reactor.poller.Add(s.raw.(syscall.Conn), s)
	if err != nil {
		return false // It has gone: the reader says it.
	}
	s.socket, s.parked = socket, true
	s.edge.work.Add(1) // Until finish: run, which returns now, is counted itself.
	return true
}

// Readable implements poll.Handler.
func (s *Session) Readable(buf []byte) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.done {
		return
	}
	rearm := false
	defer func() { // Also after a fault, which guard has dealt with.
		if rearm {
			s.socket.Rearm() //nolint:errcheck // It has gone, and hangUp ends the session.
		}
	}()
	defer s.guard()
	have := copy(buf, s.rest())
	n, err := s.raw.Read(buf[have:]) // which does not wait: there is something, and nobody else reads
	if err != nil {
		s.endReadingLocked(err)
		return
	}
	rearm = s.handOver(buf[:have+n])
}

// handOver consumes what was read, and finishes the session if that ends it. It reports whether the session wants more. It
// wants reading.
func (s *Session) handOver(data []byte) (more bool) {
	more, err := s.took(data)
	if err != nil { // Now that the close frame is on its way: finish waits for that.
		s.endReadingLocked(err)
	}
	return more
}

// took consumes bytes and keeps what is left of them. It reports whether the session wants more. It wants reading.
func (s *Session) took(data []byte) (more bool, err error) {
	s.cork()
	defer s.uncork()
	n, _, stalled, err := s.consume(data)
	h := s.half
	if h.rest = nil; n < len(data) {
		h.rest = slices.Clone(data[n:])
	}
	if h.rest == nil && h.heldBack == nil && h.intake.kind == 0 {
		s.half = nil
		halves.Put(h)
	}
	return !stalled && err == nil, err
}

// half is what has been read of a session in part.
type half struct {
	intake   intake
	rest     []byte // read, and not handled yet: the beginning of a frame, or what stands behind heldBack
	heldBack []byte // a query that waits for a place
}

// halves are lent while frames are handled, and for longer only if something is left over: an idle session has none.
var halves = sync.Pool{New: func() any { return new(half) }}

// halfway returns what is read in part, made if there is none.
func (s *Session) halfway() *half {
	if s.half == nil {
		s.half = halves.Get().(*half)
		s.half.intake = intake{limit: protocol.MaxFrame, deflate: s.window > 0}
	}
	return s.half
}

// rest returns what was read and not handled.
func (s *Session) rest() []byte {
	if s.half == nil {
		return nil
	}
	return s.half.rest
}

// goOn handles what the client sent before the socket was parked.
func (s *Session) goOn() {
	s.reading.Lock()
	defer s.reading.Unlock()
	if rest := s.rest(); len(rest) > 0 && !s.done {
		s.handOver(rest) // The reactor has it, and may not do more than wait for reading.
	}
}

// resume goes on reading once there is room for a query.
func (s *Session) resume() {
	defer s.work.Done()
	s.reading.Lock()
	defer s.reading.Unlock()
	defer s.guard()
	if !s.done && s.handOver(s.rest()) {
		s.socket.Rearm() //nolint:errcheck // It has gone, and hangUp ends the session.
	}
}

// endReadingLocked finishes a parked session, beside the caller. It wants reading.
func (s *Session) endReadingLocked(ended error) {
	if s.done {
		return
	}
	s.done = true
	s.socket.Remove()
	go func() {
		defer s.edge.work.Done()
		s.finish(ended)
	}()
}

// hangUpLocked ends the reading, and with it the session, after a time at the latest. It wants mu, and does not wait.
func (s *Session) hangUpLocked(after time.Duration) {
	if !s.parked {
		s.raw.SetReadDeadline(time.Now().Add(after)) //nolint:errcheck // The reader says it.
		return
	}
	time.AfterFunc(after, func() {
		s.reading.Lock()
		defer s.reading.Unlock()
		s.endReadingLocked(os.ErrDeadlineExceeded)
	})
}

// cut closes the socket without a word.
func (s *Session) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.socket.Remove() // before it is closed: its descriptor may belong to another one then
	s.raw.Close()     //nolint:errcheck // Its reader ends by it.
	if s.parked {
		s.hangUpLocked(0)
	}
}

// hangUp is hangUpLocked for callers without mu.
func (s *Session) hangUp(after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hangUpLocked(after)
}

// readLoop handles frames until the socket ends, and returns why it did.
func (s *Session) readLoop(ctx context.Context) error {
	buf := make([]byte, 4<<10)
	h := s.halfway()
	have := copy(buf, h.rest) // which is no longer than the HTTP server's buffer
	if have < len(h.rest) {
		buf = slices.Clone(h.rest)
		have = len(buf)
	}
	h.rest = nil
	s.mu.Lock()
	s.roomy = make(chan struct{}, 1)
	s.mu.Unlock()
	for first := have > 0; ; first = false {
		if !first {
			n, err := s.raw.Read(buf[have:])
			if err != nil {
				return err
			}
			have += n
		}
		n, needs, stalled, err := s.consume(buf[:have])
		if err != nil {
			return err
		}
		for stalled {
			select {
			case <-s.roomy:
			case <-ctx.Done():
			}
			var m int
			m, needs, stalled, err = s.consume(buf[n:have])
			if n += m; err != nil {
				return err
			}
		}
		have = copy(buf, buf[n:have])
		if needs > len(buf) {
			buf = append(buf[:have], make([]byte, needs-have)...)
		}
	}
}

// consume handles the frames in data. n is how much of it they were; the one that begins there needs more bytes in all.
// stalled: there is no room for a query, which is kept; it goes on when there is. An error ends the session.
func (s *Session) consume(data []byte) (n, needs int, stalled bool, err error) {
	now := s.edge.now() // One for all: they came in one piece.
	h := s.halfway()
	if held := h.heldBack; held != nil {
		if !s.handle(opText, held, now) {
			return 0, 0, true, nil
		}
		h.heldBack = nil
	}
	for {
		op, payload, size, more, err := h.intake.next(data[n:])
		if err != nil {
			s.end(closeCodeOf(err), nil, true)
			return n, 0, false, err
		}
		if size == 0 {
			return n, more, false, nil
		}
		n += size
		switch op {
		case opContinue: // The message goes on.
		case opClose:
			code, err := closeIn(payload)
			if err != nil {
				s.end(closeCodeOf(err), nil, true)
				return n, 0, false, err
			}
			s.end(code, nil, false)
			return n, 0, false, errSaidClose
		default:
			taken, err := s.whole(op, payload, now)
			if err != nil {
				s.end(closeCodeOf(err), nil, true)
			}
			if err != nil || !taken {
				return n, 0, !taken, err
			}
		}
	}
}

// whole handles one whole message or ping. taken is false if it has to wait; then it is kept.
func (s *Session) whole(op byte, payload []byte, now time.Time) (taken bool, err error) {
	if in := &s.half.intake; op < opClose && in.packed {
		in, err := inflate(payload, in.limit)
		if err != nil {
			return true, err
		}
		defer in.giveBack()
		s.edge.metrics.compressedIn.count(len(in.body), len(payload))
		payload = in.body
	}
	if taken = s.handle(op, payload, now); !taken {
		s.half.heldBack = slices.Clone(payload)
	}
	return taken, nil
}

// place takes a place for a query, if there is one: else reading waits for it.
func (s *Session) place() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if int(s.asking.Load()) >= s.edge.cfg.SessionQueries {
		s.stalled = true
		return false
	}
	s.asking.Add(1)
	return true
}

// freeLocked gives the places of queries back. It wants mu.
func (s *Session) freeLocked(places int) {
	s.asking.Add(-int32(places))
	switch {
	case !s.stalled || places == 0 || s.gone:
	case s.parked:
		s.stalled = false
		s.work.Add(1)
		go s.resume()
	default:
		s.stalled = false
		select {
		case s.roomy <- struct{}{}:
		default: // It has been told, and has not looked yet.
		}
	}
}

// handle handles one message or ping, read now. It reports false if it has to wait.
func (s *Session) handle(op byte, payload []byte, now time.Time) bool {
	if s.over() {
		return true // until the client's close frame, or the deadline
	}
	s.alive(now)
	switch {
	case op == opPong:
	case s.half.heldBack == nil && !s.paced(now):
	case op == opPing:
		s.put(wire(opPong, payload), protocol.ClassControl)
	case op == opBinary:
		s.Close(protocol.CloseUnsupported, 0)
	default:
		return s.step(payload)
	}
	return true
}
