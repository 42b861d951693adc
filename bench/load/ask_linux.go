package load

import (
	"bytes"
	"math/rand/v2"
	"slices"
)

// asking is a DoAsk or DoFill under way.
type asking struct {
	*Ask
	rng     *rand.Rand
	ids     []string // IDs, and the first of them again behind the last, so that every batch is a part of it
	air     int      // questions that are not answered
	resting bool     // no more are asked

	// With a rate.
	every   int64   // nanoseconds between questions; 0: no schedule
	due     int64   // when the next one is
	backlog []int64 // when those should have been asked for which no connection has room
	turn    int     // whose turn it is

	// Of DoFill.
	fill   bool
	body   []byte
	filled int // objects that were sent
}

// slot is a question in the air.
type slot struct {
	began int64
	first int // the first of its ids
	busy  bool
}

func (l *loop) ask(do string, order *Ask) {
	a := &asking{Ask: order, rng: rand.New(rand.NewPCG(order.Seed, uint64(len(l.conns)))), fill: do == DoFill} //nolint:gosec // A load, not a secret.
	a.Batch, a.Depth = max(a.Batch, 1), max(a.Depth, 1)
	if len(a.IDs) == 0 || a.Batch > len(a.IDs) || l.open == 0 {
		l.fail("nobody is there to ask, or nothing to ask for")
		l.done(do)
		return
	}
	a.ids = append(append([]string(nil), a.IDs...), a.IDs[:a.Batch-1]...)
	l.asking = a
	for _, c := range l.conns {
		c.slots, c.head, c.busy = make([]slot, a.Depth), 0, 0
	}
	at := now()
	switch {
	case a.fill:
		a.body = bytes.Repeat([]byte("x"), a.Bytes)
		c := l.conns[slices.IndexFunc(l.conns, func(c *conn) bool { return c.state == stateIn })]
		for range a.Depth {
			l.question(c, a, at)
		}
		l.send(c)
		return // It is done when all are stored.
	case a.Rate > 0:
		a.every, a.due = int64(1e9/a.Rate), at
		l.askMore(at)
	default:
		for _, c := range l.conns {
			for range a.Depth {
				l.question(c, a, at)
			}
			l.send(c)
		}
	}
	l.done(do)
}

// askMore asks what is due.
func (l *loop) askMore(at int64) {
	a := l.asking
	if a.every == 0 {
		return
	}
	for ; a.due <= at && !a.resting; a.due += a.every {
		a.backlog = append(a.backlog, a.due)
	}
	for range l.conns {
		if len(a.backlog) == 0 {
			return
		}
		c := l.conns[a.turn%len(l.conns)]
		a.turn++
		if c.state == stateIn && c.busy < a.Depth {
			l.question(c, a, a.backlog[0])
			a.backlog = a.backlog[1:]
			l.send(c)
		}
	}
}

// question puts one question into what is sent next.
func (l *loop) question(c *conn, a *asking, began int64) {
	if c.state != stateIn || a.resting && a.every == 0 || a.fill && a.filled == len(a.IDs) {
		return
	}
	i := (c.head + c.busy) % len(c.slots)
	if c.language == "" || c.language == Websocket {
		for c.slots[i].busy {
			i = (i + 1) % len(c.slots)
		}
	}
	first := a.filled
	if !a.fill {
		first = a.rng.IntN(len(a.IDs))
	}
	c.slots[i] = slot{began: began, first: first, busy: true}
	c.busy++
	a.air++
	ids := a.ids[first : first+a.Batch]
	switch {
	case a.fill:
		a.filled++
		l.asks = appendSet(l.asks, c.language, ids[0], a.body)
	case c.language == "" || c.language == Websocket:
		var room [4096]byte
		l.asks = appendFrame(l.asks, opText, c.mask, appendQuestion(room[:0], i+1, ids))
	default:
		l.asks = appendGet(l.asks, c.language, ids)
	}
}

// send writes the questions that were put.
func (l *loop) send(c *conn) {
	if len(l.asks) == 0 {
		return
	}
	if c.fd >= 0 {
		l.write(c, l.asks)
	}
	l.asks = l.asks[:0]
}

// answered takes a frame if it is an answer.
func (l *loop) answered(c *conn, frame []byte, at int64) bool {
	tag, ok := replyTo(frame)
	if !ok {
		return false
	}
	if tag < 1 || tag > len(c.slots) || !c.slots[tag-1].busy {
		l.report.Counts.Wrong++
		l.fail("an answer to no question: %.200s", frame)
		return true
	}
	a := l.asking
	if last := a.ids[c.slots[tag-1].first+a.Batch-1]; !right(frame, last) {
		l.fail("not the answer: %.200s", frame)
		l.settle(c, tag-1, 0, at)
		return true
	}
	l.settle(c, tag-1, a.Batch, at)
	return true
}

// takeAnswers handles the whole answers of Redis or memcached in data, which come in order.
func (l *loop) takeAnswers(c *conn, data []byte, at int64) (used int) {
	for c.fd >= 0 && l.asking != nil && c.busy > 0 {
		objects, size := nextAnswer(c.language, data[used:])
		if size == 0 {
			break
		}
		if objects == 0 {
			l.fail("not the answer: %.200s", data[used:used+size])
		}
		used += size
		i := c.head
		c.head = (c.head + 1) % len(c.slots)
		l.settle(c, i, objects, at)
	}
	l.send(c)
	return used
}

// settle counts an answer and asks the next question in its place.
func (l *loop) settle(c *conn, i, objects int, at int64) {
	a, s := l.asking, &c.slots[i]
	s.busy = false
	c.busy--
	a.air--
	if objects == a.Batch {
		l.report.Counts.Queries++
		l.report.Counts.Objects += int64(objects)
		l.times.Record(at - s.began)
	} else {
		l.report.Counts.Wrong++
	}
	switch {
	case a.every == 0:
		l.question(c, a, at)
		if a.fill && a.air == 0 {
			l.asking = nil
			l.done(DoFill)
		}
	case len(a.backlog) > 0:
		l.question(c, a, a.backlog[0])
		a.backlog = a.backlog[1:]
	}
}
