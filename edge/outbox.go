package edge

import (
	"encoding/binary"
	"slices"
	"sync"

	"flannel/protocol"
)

// wireText returns the websocket frame of a text message as a server sends it (RFC 6455, section 5.2): a header of 2 to
// 10 bytes and the payload, not masked. It is made once per event and shared by all receivers.
func wireText(payload []byte) []byte { return wire(opText, payload) }

func wire(opcode byte, payload []byte) []byte {
	return append(appendHeader(make([]byte, 0, len(payload)+10), opcode, len(payload)), payload...)
}

// appendTyped appends the frame of a body, an object that is not empty, with its type as the first field.
func appendTyped(buf []byte, name string, body []byte) []byte {
	n := len(`{"type":"",`) + len(name) + len(body) - 1
	buf = append(appendHeader(buf, opText, n), `{"type":"`...)
	buf = append(append(buf, name...), `",`...)
	return append(buf, body[1:]...)
}

// loan is a buffer that holds one large frame until that is written: boots come in thousands at a time, and each would take
// longer to allocate than to make.
type loan struct{ buf []byte }

var loans = sync.Pool{New: func() any { return new(loan) }}

// maxLoan keeps the buffers of unusually large frames out of the pool.
const maxLoan = 256 << 10

func (l *loan) giveBack() {
	if cap(l.buf) <= maxLoan {
		loans.Put(l)
	}
}

func appendHeader(buf []byte, opcode byte, n int) []byte {
	buf = append(buf, 0x80|opcode)
	switch {
	case n < 126:
		buf = append(buf, byte(n))
	case n <= 0xffff:
		buf = append(buf, 126)
		buf = binary.BigEndian.AppendUint16(buf, uint16(n))
	default:
		buf = append(buf, 127)
		buf = binary.BigEndian.AppendUint64(buf, uint64(n))
	}
	return buf
}

// wireClose returns a close frame. The reason is cut to what a control frame may carry.
func wireClose(code protocol.CloseCode, reason []byte) []byte {
	const maxReason = 123
	if len(reason) > maxReason {
		reason = nil
	}
	return wire(opClose, append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...))
}

// item is a frame that waits.
type item struct {
	frame []byte
	class protocol.Class
	free  bool            // its bytes do not count: a boot, or an answer that something else bounds
	slot  bool            // an answer that keeps the place of its query until it is written
	event *protocol.Event // that it tells, while the session begins
	loan  *loan           // of frame, to be given back when it is written; nil if it is no loan
}

func (it *item) size() int {
	if it.free {
		return 0
	}
	return len(it.frame)
}

// outbox is what waits for one session. Its owner guards it. Most sessions have nothing that waits, and then it is a nil pointer.
type outbox struct{ *queue }

// queue is what waits, of which there is something.
type queue struct {
	items []item
	bytes int
	// ephemeral counts the ephemeral items, so that a full outbox without any does not search for one.
	ephemeral int
	since     int64 // since when the first of items waits, in Unix nanoseconds; its writer's
	room      [room]item
}

// room is how many items a queue has room for at first.
const room = 16

// queues are lent to outboxes that have something in them: it is soon written.
var queues = sync.Pool{New: func() any { return new(queue) }}

// open makes sure that there is a queue.
func (o *outbox) open() {
	if o.queue == nil {
		o.queue = queues.Get().(*queue)
		o.items = o.room[:0]
	}
}

// empty reports whether nothing waits.
func (o *outbox) empty() bool { return o.queue == nil }

// size returns how many bytes wait that count.
func (o *outbox) size() int {
	if o.queue == nil {
		return 0
	}
	return o.bytes
}

// len returns how many items wait.
func (o *outbox) len() int {
	if o.queue == nil {
		return 0
	}
	return len(o.items)
}

// closed gives the queue back, of which no item is left. The items are zero.
func (o *outbox) closed() {
	q := o.queue
	o.queue = nil
	if cap(q.items) > room { // They moved, and what was copied still stands here.
		clear(q.room[:])
	}
	q.items, q.bytes, q.ephemeral, q.since = nil, 0, 0, 0
	queues.Put(q)
}

// verdict is what became of a frame.
type verdict int

const (
	taken   verdict = iota
	dropped         // ephemeral, and there was no room
	full            // control or message, and there was no room: the session must end
)

// put adds a frame. Ephemeral frames give way: the oldest first to make room for others, and they never push others out. It
// returns how many gave way.
func (o *outbox) put(it item, maxItems, maxBytes int) (v verdict, pushed int) {
	for o.len()+1 > maxItems || o.size()+len(it.frame) > maxBytes {
		if o.empty() || o.ephemeral == 0 || !o.dropOldest() {
			if it.class == protocol.ClassEphemeral {
				return dropped, pushed
			}
			// An empty outbox takes one frame of any size.
			if o.len() == 0 {
				break
			}
			return full, pushed
		}
		pushed++
	}
	o.add(it)
	return taken, pushed
}

// add adds a frame, whatever the bounds say.
func (o *outbox) add(it item) {
	o.open()
	o.items = append(o.items, it)
	o.bytes += it.size()
	if it.class == protocol.ClassEphemeral {
		o.ephemeral++
	}
}

// dropOldest removes the oldest ephemeral frame.
func (o *outbox) dropOldest() bool {
	for i := range o.items {
		if o.items[i].class == protocol.ClassEphemeral {
			o.bytes -= o.items[i].size()
			o.ephemeral--
			o.items = slices.Delete(o.items, i, i+1)
			return true
		}
	}
	return false
}

// coalesce bounds the bytes of one write: up to about 3 KB a write costs the same whatever its size, and a write of
// 64 KB is still one segment offload.
const coalesce = 64 << 10

// take moves frames for one write to buf: as many as fit, at least one. slots is how many places of queries that frees.
func (o *outbox) take(buf []byte) (frames []byte, slots int) {
	n := 0
	for n < len(o.items) && (n == 0 || len(buf)+len(o.items[n].frame) <= coalesce) {
		it := &o.items[n]
		buf = append(buf, it.frame...)
		o.bytes -= it.size()
		if it.class == protocol.ClassEphemeral {
			o.ephemeral--
		}
		if it.slot {
			slots++
		}
		if it.loan != nil {
			it.loan.giveBack()
		}
		*it = item{}
		n++
	}
	if n == len(o.items) {
		o.closed()
	} else {
		o.items = slices.Delete(o.items, 0, n)
	}
	return buf, slots
}
