package bench

import (
	"bytes"
	"encoding/binary"
	"net"
	"strings"
	"sync"
)

// Kind groups the frames of a server for a table.
type Kind string

// The kinds.
const (
	KindMessages  Kind = "messages"
	KindReactions Kind = "reactions"
	KindTyping    Kind = "typing"
	KindPeople    Kind = "people" // user_change, user_invalidated
	KindPresence  Kind = "presence"
	KindObjects   Kind = "objects"
	KindBadge     Kind = "badges"
	KindMarks     Kind = "marks"
	KindAnswers   Kind = "answers"
	KindAlive     Kind = "keepalive" // pings and pongs of both layers
	KindOther     Kind = "other"
)

// Kinds lists them in the order of the report.
var Kinds = []Kind{
	KindMessages, KindReactions, KindTyping, KindPeople, KindPresence, KindMarks, KindObjects, KindBadge, KindAnswers, KindAlive, KindOther,
}

// kindOf reads the kind of a text frame from its beginning.
func kindOf(head []byte) Kind {
	_, rest, found := bytes.Cut(head, []byte(`"type":"`))
	if !found {
		return KindAnswers
	}
	name, _, _ := strings.Cut(string(rest), `"`)
	switch {
	case name == "message":
		return KindMessages
	case strings.HasPrefix(name, "reaction_"):
		return KindReactions
	case name == "user_typing":
		return KindTyping
	case name == "user_change", name == "user_invalidated":
		return KindPeople
	case name == "presence_change":
		return KindPresence
	case name == "objects":
		return KindObjects
	case name == "badge":
		return KindBadge
	case strings.HasSuffix(name, "_marked"):
		return KindMarks
	case name == "pong":
		return KindAlive
	}
	return KindOther
}

// tally counts what came and went.
type tally struct {
	bytes  map[Kind]int
	frames map[Kind]int
	sent   int // bytes of the client
	pings  int // of them keepalive
}

func newTally() tally { return tally{bytes: make(map[Kind]int), frames: make(map[Kind]int)} }

func (t *tally) add(o *tally) {
	for k, n := range o.bytes {
		t.bytes[k] += n
	}
	for k, n := range o.frames {
		t.frames[k] += n
	}
	t.sent += o.sent
	t.pings += o.pings
}

// events counts the frames of conversations that a view may leave out and a badge stands for.
func (t *tally) events() int {
	return t.frames[KindMessages] + t.frames[KindReactions]
}

// meter is a client's connection that counts the frames of the websocket on it. The bytes of the opening, and of HTTP,
// count as other.
type meter struct {
	net.Conn

	mu      sync.Mutex
	on      bool
	count   tally
	opening []byte // until it is over
	opened  bool
	head    []byte // the frame's header, and the beginning of its payload
	left    int    // of the payload
	size    int    // of the frame
	op      byte
}

func newMeter(c net.Conn) *meter { return &meter{Conn: c, count: newTally()} }

// start forgets what was counted, and counts from now on.
func (m *meter) start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.on, m.count = true, newTally()
}

func (m *meter) result() tally {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := newTally()
	out.add(&m.count)
	return out
}

// Read implements net.Conn.
func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.readLocked(p[:n])
	return n, err
}

// Write implements net.Conn. The library writes each frame with one call.
func (m *meter) Write(p []byte) (int, error) {
	n, err := m.Conn.Write(p)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.on {
		m.count.sent += n
		if len(p) > 0 && p[0]&0xF != 1 || n < 60 { // Our queries and messages are longer than pings.
			m.count.pings += n
		}
	}
	return n, err
}

// maxHead is as much of a payload as is needed to know its type.
const maxHead = 96

func (m *meter) readLocked(p []byte) {
	if !m.opened {
		m.opening = append(m.opening, p...)
		_, rest, over := bytes.Cut(m.opening, []byte("\r\n\r\n"))
		if !over {
			return
		}
		m.opened, p = true, rest
		defer func() { m.opening = nil }()
	}
	for len(p) > 0 {
		if m.left == 0 {
			m.head = append(m.head, p[0])
			p = p[1:]
			if need, size := header(m.head); need == len(m.head) {
				m.op, m.left, m.size = m.head[0]&0xF, size, need+size
				m.head = m.head[:0]
				m.endLocked()
			}
			continue
		}
		n := min(len(p), m.left)
		m.head = append(m.head, p[:min(n, maxHead-len(m.head))]...)
		m.left -= n
		p = p[n:]
		m.endLocked()
	}
}

// endLocked counts a frame that is complete.
func (m *meter) endLocked() {
	if m.left > 0 {
		return
	}
	kind := KindAlive
	if m.op == 1 {
		kind = kindOf(m.head)
	}
	if m.on {
		m.count.bytes[kind] += m.size
		m.count.frames[kind]++
	}
	m.head = m.head[:0]
}

// header returns how long a server's frame header is, and when it is all there, how long the payload.
func header(b []byte) (need, payload int) {
	if len(b) < 2 {
		return 2, 0
	}
	switch n := int(b[1] & 0x7F); n {
	case 126:
		if len(b) < 4 {
			return 4, 0
		}
		return 4, int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if len(b) < 10 {
			return 10, 0
		}
		return 10, int(binary.BigEndian.Uint64(b[2:])) //nolint:gosec // Of a server in this process.
	default:
		return 2, n
	}
}
