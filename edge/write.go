package edge

import (
	"sync"
	"sync/atomic"
	"time"

	"flannel/protocol"
)

// wires are an event's frames, made once for all who receive it.
type wires struct {
	plain []byte
	batch []byte // presence events: for sessions that are batch_presence_aware
}

// Deliver hands an event over. shared belongs to the event and holds its frames once somebody has made them. It does not
// block; it may be called from any goroutine.
func (s *Session) Deliver(ev *protocol.Event, shared *atomic.Value) {
	if len(ev.Payload) == 0 || s.exclude[ev.Type] {
		return
	}
	w, ok := shared.Load().(*wires)
	if !ok {
		w = &wires{plain: wireText(ev.Payload)}
		if user, is := protocol.PresenceOf(ev.Topic); is {
			w.batch = wireText(protocol.MustMarshal(protocol.PresenceChange{Type: protocol.FramePresenceChange, Presence: presenceIn(ev.Payload), Users: []protocol.UserID{user}}))
		}
		shared.Store(w)
	}
	frame := w.plain
	if w.batch != nil {
		s.learn(ev)
		if s.batch {
			frame = w.batch
		}
	}
	s.put(frame, ev.Class)
}

// say puts a frame of ours into the outbox.
func (s *Session) say(frame any) { s.put(wireText(protocol.MustMarshal(frame)), protocol.ClassControl) }

// put adds a frame to the outbox and sees to it that it is written.
func (s *Session) put(frame []byte, class protocol.Class) {
	m := s.edge.metrics
	s.mu.Lock()
	if s.ending {
		s.mu.Unlock()
		return
	}
	switch s.out.put(item{frame, class}, s.edge.cfg.OutboxFrames, s.edge.cfg.OutboxBytes) {
	case dropped:
		s.mu.Unlock()
		m.dropped[class].Inc()
		return
	case full:
		s.mu.Unlock()
		m.dropped[class].Inc()
		m.slow.Inc()
		s.overflow()
		return
	case taken:
	}
	if len(s.out.items) == 1 {
		s.waiting = s.edge.now()
	}
	s.writeLocked()
	s.mu.Unlock()
	m.deliveries[class].Inc()
}

// overflow ends a session that does not keep up: what waits is dropped, and the client is told to fetch everything anew.
func (s *Session) overflow() {
	s.mu.Lock()
	s.out = outbox{}
	s.mu.Unlock()
	s.say(struct {
		Type    string   `json:"type"`
		Reason  string   `json:"reason"`
		Refetch []string `json:"refetch"`
	}{protocol.FrameResync, "slow", []string{"all"}})
	s.Close(protocol.CloseSlow, 0)
}

// sayFirst puts messages before everything that is held back.
func (s *Session) sayFirst(bodies ...[]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := make([]item, 0, len(bodies)+len(s.out.items))
	for _, b := range bodies {
		frame := wireText(b)
		first = append(first, item{frame, protocol.ClassControl})
		s.out.bytes += len(frame)
	}
	s.out.items = append(first, s.out.items...)
}

// flushHeld writes what is in the outbox although it is held: hello does not wait for the boot.
func (s *Session) flushHeld() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = false
	s.writeLocked()
	s.held = true
}

// release lets events out.
func (s *Session) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = false
	s.writeLocked()
}

// writeLocked starts the writer if there is something to write and nobody writes. mu must be held.
func (s *Session) writeLocked() {
	if s.held && !s.ending || s.writing || s.gone || len(s.out.items) == 0 {
		return
	}
	s.writing = true
	s.work.Add(1)
	go s.flush()
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// flush writes until the outbox is empty, as many frames at once as there are.
func (s *Session) flush() {
	defer s.work.Done()
	buf := buffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= coalesce {
			buffers.Put(buf)
		}
	}()
	for {
		s.mu.Lock()
		if len(s.out.items) == 0 {
			s.writing = false
			ending := s.ending
			s.mu.Unlock()
			if ending { // The close frame is out: wait a moment for the client's.
				s.raw.SetReadDeadline(time.Now().Add(2 * time.Second)) //nolint:errcheck // The reader says it.
			}
			return
		}
		*buf = s.out.take((*buf)[:0])
		waited := s.edge.now().Sub(s.waiting)
		s.waiting = s.edge.now()
		s.mu.Unlock()
		s.edge.metrics.lag.Observe(waited.Seconds())
		s.raw.SetWriteDeadline(time.Now().Add(s.edge.cfg.WriteTimeout)) //nolint:errcheck // The write says it.
		if _, err := s.raw.Write(*buf); err != nil {
			s.mu.Lock()
			s.out, s.writing, s.ending = outbox{}, false, true
			s.mu.Unlock()
			s.raw.SetReadDeadline(time.Now()) //nolint:errcheck // The reader ends and closes.
			return
		}
	}
}

// Close sends a close frame behind what waits, and ends the session. retry, if positive, tells the client when to come
// back. It does not block, and may be called more than once: the first counts.
func (s *Session) Close(code protocol.CloseCode, retry time.Duration) {
	s.end(code, protocol.MustMarshal(protocol.CloseReason{Reason: code.String(), RetryMS: int(retry.Milliseconds())}), true)
}

// Goodbye tells the client that the server is about to close, and closes.
func (s *Session) Goodbye(code protocol.CloseCode, retry time.Duration) {
	s.say(struct {
		Type string `json:"type"`
	}{protocol.FrameGoodbye})
	s.Close(code, retry)
}

func (s *Session) end(code protocol.CloseCode, reason []byte, server bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return
	}
	s.ending, s.code, s.server = true, code, server
	if code == 1005 || code == 1006 { // not to be sent
		code = protocol.CloseNormal
	}
	frame := wireClose(code, reason)
	s.out.items = append(s.out.items, item{frame, protocol.ClassControl})
	s.out.bytes += len(frame)
	s.writeLocked()
}
