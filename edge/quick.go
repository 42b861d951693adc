package edge

import (
	"encoding/binary"
	"slices"

	"flannel/protocol"
)

// quick answers a query in the reader itself, if the answer is at hand: nothing waits, and no goroutine is started. It
// reports whether it did. Order holds as with find: the answer is in the outbox, or before it, when an event can be that
// knows the client to have the objects. wait: it is for a query that has to wait for a place; nothing was done.
func (s *Session) quick(raw []byte) (done, wait bool) {
	id, method, args, ok := protocol.QuickQuery(raw)
	if !ok {
		return false, false
	}
	if s.pen != nil && s.clear() {
		if s.pen.buf, ok = s.appendAnswer(s.pen.buf, id, method, args); !ok {
			return false, false
		}
		if len(s.pen.buf) >= coalesce {
			s.uncork()
			s.cork()
		}
	} else {
		// Taken before the look: an event that comes behind it must not be told before the answer as if nobody had asked.
		if !s.place() {
			return false, true
		}
		frame, ok := s.appendAnswer(nil, id, method, args)
		s.mu.Lock()
		if ok && !s.ending {
			s.out.add(item{frame: frame, class: protocol.ClassControl, free: true, slot: true})
			s.writeLocked()
		} else {
			s.freeLocked(1)
		}
		s.mu.Unlock()
		if !ok {
			return false, false
		}
	}
	if s.thin {
		protocol.QuickVersions(args, func(id []byte, _ protocol.Version) bool {
			s.given.addName(id)
			return true
		})
	}
	return true, false
}

// clear reports whether nothing waits and nobody writes. While the session is corked that stays so for who writes, and
// what comes to wait is written behind what the pen has.
func (s *Session) clear() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.writing && s.out.empty()
}

// headRoom is the size of the header of most answers: those of 126 bytes to 64 KB.
const headRoom = 4

// appendAnswer appends the frame with the answer to a query, if it can be had at once.
func (s *Session) appendAnswer(dst, id, method, args []byte) ([]byte, bool) {
	start := len(dst)
	frame := append(dst, make([]byte, headRoom)...)
	if id != nil {
		frame = append(append(frame, `{"reply_to":`...), id...)
	}
	at := len(frame)
	frame, ok := s.edge.doors.Queries.Ready(s.id, method, args, frame)
	if !ok {
		return frame[:start], false
	}
	if id != nil {
		frame[at] = ',' // in place of the body's brace; no body is empty
	}
	if n := len(frame) - start - headRoom; n < 126 || n > 0xffff {
		frame = append(frame[:start], wireText(slices.Clone(frame[start+headRoom:]))...)
	} else {
		frame[start], frame[start+1] = 0x80|opText, 126
		binary.BigEndian.PutUint16(frame[start+2:], uint16(len(frame)-start-headRoom))
	}
	return s.edge.press.shrink(frame, start, s.window), true
}
