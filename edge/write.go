package edge

import (
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"flannel/edge/poll"
	"flannel/protocol"
)

// wires are an event's frames, made once for all who receive it.
type wires struct {
	about       about
	alone       bool       // they are for one session
	press       sync.Mutex // held while one of them is compressed, so that it is once
	plain, thin lazy
	invalid     lazy                         // changes of users: for thin sessions that do not have the user
	objects     atomic.Pointer[objectsFrame] // what the last one lacked who lacked anything
}

// wiresOf returns the frames of an event, of which shared holds the one place.
func wiresOf(ev *protocol.Event, shared *atomic.Value) *wires {
	if w, ok := shared.Load().(*wires); ok {
		return w
	}
	shared.CompareAndSwap(nil, &wires{about: aboutEvent(ev)})
	return shared.Load().(*wires) // Nobody stores anything else.
}

// Deliver hands an event over. shared belongs to the event and holds its frames once somebody has made them. It does not
// block; it may be called from any goroutine.
func (s *Session) Deliver(ev *protocol.Event, shared *atomic.Value) {
	if len(ev.Payload) == 0 || s.exclude[ev.Type] || s.served(ev) || s.told(ev) {
		return
	}
	w := wiresOf(ev, shared)
	objects, frame := s.frame(ev, w, &s.given)
	if objects != nil {
		s.deliver(objects, protocol.ClassMessage, ev) // It is remembered as given, so it may not give way.
	}
	if frame != nil {
		s.deliver(frame, ev.Class, ev)
	}
}

// frame returns what the session gets of an event, nil if nothing, and what goes before.
func (s *Session) frame(ev *protocol.Event, w *wires, g *given) (objects, frame []byte) {
	if user, presence := protocol.PresenceOf(ev.Topic); presence {
		if s.learn(ev, user) {
			s.presenceLater(user, presenceIn(ev.Payload))
		}
		return nil, nil
	}
	if s.thin {
		return s.thinFrame(ev, w, g)
	}
	return nil, w.plain.get(s, w, func() []byte { return ev.Payload })
}

// say puts a frame of ours into the outbox.
func (s *Session) say(frame any) { s.put(wireText(protocol.MustMarshal(frame)), protocol.ClassControl) }

// deliver adds the frame of an event, or one of ours that stands for events (nil), behind the boot if that is not out yet.
func (s *Session) deliver(frame []byte, class protocol.Class, ev *protocol.Event) {
	s.add(frame, class, true, ev)
}

// put adds a frame to the outbox and sees to it that it is written.
func (s *Session) put(frame []byte, class protocol.Class) { s.add(frame, class, false, nil) }

func (s *Session) add(frame []byte, class protocol.Class, live bool, ev *protocol.Event) {
	m := s.edge.metrics
	s.mu.Lock()
	if s.ending {
		s.mu.Unlock()
		return
	}
	box, it := &s.out, item{frame: frame, class: class}
	if live && s.held {
		box, it.event = &s.early, ev
	}
	if live && class == protocol.ClassEphemeral && s.edge.Pressure() >= PressureEphemeral {
		s.mu.Unlock()
		m.dropped.ephemeral.Inc()
		return
	}
	verdict, pushed := box.put(it, s.edge.cfg.OutboxFrames, s.edge.cfg.OutboxBytes)
	if pushed > 0 {
		m.dropped.ephemeral.Add(float64(pushed))
	}
	switch verdict {
	case dropped:
		s.mu.Unlock()
		m.dropped.of(class).Inc()
		return
	case full:
		s.mu.Unlock()
		m.dropped.of(class).Inc()
		s.overflow()
		return
	case taken:
	}
	s.writeLocked()
	s.mu.Unlock()
	m.deliveries.of(class).Inc()
}

// resync is the frame for a client that has missed something: it has to fetch everything anew.
var resync = wireText([]byte(`{"type":"` + protocol.FrameResync + `","reason":"slow","refetch":["all"]}`))

// overflow ends a session that does not keep up: what waits is dropped, and the client is told to fetch everything anew.
func (s *Session) overflow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return
	}
	s.edge.metrics.slow.Inc()
	s.out, s.early = outbox{}, outbox{}
	s.out.add(item{frame: resync, class: protocol.ClassControl})
	s.endLocked(protocol.CloseSlow, closeReason(protocol.CloseSlow, 0), true)
	// It has had its time: what is being written now must not take all of WriteTimeout.
	s.raw.SetWriteDeadline(time.Now().Add(closeWait)) //nolint:errcheck // The write says it.
}

// sayBoot puts a boot frame into the outbox.
func (s *Session) sayBoot(name string, body []byte) {
	l := loans.Get().(*loan)
	l.buf = s.edge.press.shrink(appendTyped(l.buf[:0], name, body), 0, s.window)
	s.putFree(item{frame: l.buf, class: protocol.ClassControl, loan: l})
}

// putFree adds a frame that may be larger than the outbox's bound and does not count: something else bounds it.
func (s *Session) putFree(it item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ending {
		it.free = true
		s.out.add(it)
		s.writeLocked()
	}
}

// answer puts the answer to a query into the outbox. The query's place is free when it is written, so a client that asks
// faster than it reads is not read on, but not closed either.
func (s *Session) answer(body []byte) {
	frame := s.edge.press.shrink(wireText(body), 0, s.window)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ending {
		s.out.add(item{frame: frame, class: protocol.ClassControl, free: true, slot: true})
		s.writeLocked()
	}
}

// release lets events out: those that came during the boot stand behind it.
func (s *Session) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = false
	if !s.ending && !s.early.empty() {
		for _, it := range s.early.items {
			if it.event != nil && s.told(it.event) { // It came before replayed was known.
				continue
			}
			it.event = nil
			s.out.add(it)
		}
		s.writeLocked()
	}
	s.early = outbox{}
}

// writeLocked sees to it that somebody writes if there is something to write. mu must be held.
func (s *Session) writeLocked() {
	if s.corked || !s.beginWriteLocked() {
		return
	}
	if s.direct != nil {
		s.writer().add(s)
	} else {
		go s.flush(nil)
	}
}

// beginWriteLocked reports whether the caller has to write: there is something, and nobody else does. mu must be held.
func (s *Session) beginWriteLocked() bool {
	if s.writing || s.gone || s.out.empty() {
		return false
	}
	s.writing = true
	s.out.since = s.edge.now().UnixNano()
	s.work.Add(1)
	return true
}

// writer returns the one who writes for the session.
func (s *Session) writer() *writer {
	writers := s.edge.reactor.writers
	return &writers[s.number%uint32(len(writers))]
}

// cork keeps back what is to be written until uncork writes it: the answers to several queries make one write. Whoever
// reads calls it, for a session that has a reactor.
func (s *Session) cork() {
	s.mu.Lock()
	s.corked = true
	s.mu.Unlock()
	s.pen = pens.Get().(*pen)
	s.pen.buf = s.pen.buf[:0]
}

// uncork writes what the pen has, and then what has come to wait.
func (s *Session) uncork() {
	p := s.pen
	s.pen = nil
	s.mu.Lock()
	s.corked = false
	answers := len(p.buf) > 0 && !s.gone
	if answers { // Then nobody writes: see clear.
		s.writing = true
		s.work.Add(1)
		if !s.out.empty() {
			if s.out.since = s.edge.now().UnixNano(); len(p.buf) < coalesce {
				p.buf = s.takeLocked(p.buf)
			}
		}
	}
	write := answers || s.beginWriteLocked()
	s.mu.Unlock()
	if write {
		p.buf = s.writeSafely(&p.try, p.buf, answers)
	}
	if cap(p.buf) <= maxPen {
		pens.Put(p)
	}
}

// pen is what it takes to write: the answers that are made while the session is corked, and are written first.
type pen struct {
	try poll.Attempt
	buf []byte
}

// maxPen keeps the buffers of unusually large answers out of the pool.
const maxPen = 4 * coalesce

var pens = sync.Pool{New: func() any { return new(pen) }}

// writeSafely is writeOut for those who write for many sessions: a fault of ours ends the one session.
func (s *Session) writeSafely(try *poll.Attempt, buf []byte, full bool) (grown []byte) {
	defer func() {
		if r := recover(); r != nil {
			s.faulted(r)
			s.writeFailed(os.ErrInvalid)
			s.work.Done() // which writeOut has not done
			grown = nil
		}
	}()
	return s.writeOut(try, buf, full)
}

// writeOut writes what waits as far as the socket takes it now, as many frames at once as there are. It does not wait:
// should there be no room it leaves the rest to a goroutine. If full, there is something in buf already. It returns buf,
// which may have grown.
func (s *Session) writeOut(try *poll.Attempt, buf []byte, full bool) []byte {
	for ; ; full = false {
		if !full {
			var ok bool
			if buf, ok = s.take(buf); !ok {
				s.work.Done()
				return buf
			}
		}
		n, err := try.Write(s.direct, buf)
		if err == nil && n == len(buf) {
			continue
		}
		if err != nil {
			s.writeFailed(err)
			s.work.Done()
		} else {
			go s.flush(slices.Clone(buf[n:]))
		}
		return buf
	}
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// take takes frames for one write into buf. ok is false if there are none: then nobody writes any more.
func (s *Session) take(buf []byte) (frames []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	buf = buf[:0]
	if s.out.empty() {
		s.writing = false
		if s.timed && !s.ending {
			s.raw.SetWriteDeadline(time.Time{}) //nolint:errcheck // The next write says it.
			s.timed = false
		}
		if s.ending { // The close frame is out: wait a moment for the client's.
			s.hangUpLocked(closeWait)
		}
		return buf, false
	}
	return s.takeLocked(buf), true
}

// takeLocked appends frames for one write to buf. There is one at least. mu must be held.
func (s *Session) takeLocked(buf []byte) []byte {
	s.edge.metrics.queued.Observe(float64(s.out.bytes))
	now := s.edge.now().UnixNano()
	s.edge.metrics.lag.Observe(time.Duration(now - s.out.since).Seconds())
	s.out.since = now
	buf, places := s.out.take(buf)
	s.freeLocked(places)
	return buf
}

// flush writes rest and then until the outbox is empty, and waits for the socket.
func (s *Session) flush(rest []byte) {
	defer s.work.Done()
	defer s.guard()
	buf := buffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= coalesce {
			buffers.Put(buf)
		}
	}()
	for {
		if len(rest) == 0 {
			var ok bool
			if *buf, ok = s.take(*buf); !ok {
				return
			}
			rest = *buf
		}
		s.mu.Lock()
		if !s.ending || s.code != protocol.CloseSlow { // overflow has set its own, which must stand
			s.raw.SetWriteDeadline(time.Now().Add(s.edge.cfg.WriteTimeout)) //nolint:errcheck // The write says it.
			s.timed = true
		}
		s.mu.Unlock()
		if _, err := s.raw.Write(rest); err != nil {
			s.writeFailed(err)
			return
		}
		rest = nil
	}
}

// writeFailed ends the session: the socket is of no use.
func (s *Session) writeFailed(err error) {
	s.mu.Lock()
	if !s.ending && errors.Is(err, os.ErrDeadlineExceeded) { // No close frame fits any more; it counts as one.
		s.code, s.server = protocol.CloseSlow, true
		s.edge.metrics.slow.Inc()
	}
	s.out, s.writing, s.ending = outbox{}, false, true
	s.hangUpLocked(0)
	s.cancelLocked()
	s.mu.Unlock()
}

// Close sends a close frame behind what waits, and ends the session. retry, if positive, tells the client when to come
// back. It does not block, and may be called more than once: the first counts.
func (s *Session) Close(code protocol.CloseCode, retry time.Duration) {
	s.end(code, closeReason(code, retry), true)
}

func closeReason(code protocol.CloseCode, retry time.Duration) []byte {
	return protocol.MustMarshal(protocol.CloseReason{Reason: code.String(), RetryMS: int(retry.Milliseconds())})
}

var goodbye = wireText([]byte(`{"type":"` + protocol.FrameGoodbye + `"}`))

// Goodbye tells the client that the server is about to close, and closes.
func (s *Session) Goodbye(code protocol.CloseCode, retry time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ending {
		s.out.add(item{frame: goodbye, class: protocol.ClassControl})
		s.endLocked(code, closeReason(code, retry), true)
	}
}

func (s *Session) end(code protocol.CloseCode, reason []byte, server bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(code, reason, server)
}

// endLocked puts a close frame behind what waits. mu must be held.
func (s *Session) endLocked(code protocol.CloseCode, reason []byte, server bool) {
	if s.ending {
		return
	}
	s.ending, s.code, s.server = true, code, server
	s.cancelLocked() // what queries still find nobody will hear
	s.out.add(item{frame: wireClose(sendable(code), reason), class: protocol.ClassControl})
	s.writeLocked()
}
