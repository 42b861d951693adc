package edge

import (
	"math"
	"sync"
	"time"
)

// tick is a time of the wheel, counted in steps of tickLength from 1, which is when the edge was made. It does not follow the
// wall clock: setting that ends nobody's session.
type tick uint32

const (
	// tickLength: what all sessions may want at once, badges, pings, the end of their tokens, comes in bursts of one tick's
	// worth, which is what events have to wait for. Twenty a second keep p99 of a delivery far below 100 ms (decision 0010).
	tickLength = 50 * time.Millisecond
	// slots make a turn of 51 s, which is longer than any session is left alone: it is looked at for each ping, at least
	// every 30 s. What is due later than that is looked for again each time, so there is one level of slots and no cascade.
	slots = 1024
	// second is how many ticks it has.
	second = tick(time.Second / tickLength)
	// looking is the due time of a session that is being looked at: it stands in no slot then.
	looking tick = math.MaxUint32
)

// farAway is the longest time that is told apart from for ever: a year and a half.
const farAway = 1 << 30 * tickLength

// ticks returns how many ticks a time is, rounded up: nothing is to happen too early.
func ticks(d time.Duration) tick {
	return tick((min(max(d, 0), farAway) + tickLength - 1) / tickLength)
}

// tickAt returns the tick that a time is in.
func (e *Edge) tickAt(t time.Time) tick { return tick(max(t.Sub(e.born), 0)/tickLength) + 1 }

// timeOf returns when a tick began.
func (e *Edge) timeOf(t tick) time.Time { return e.born.Add(time.Duration(t-1) * tickLength) }

// seat is where a session stands in the wheel, whose lock guards it: three words, and no allocation, for each session.
type seat struct {
	next, prev *Session
	due        tick // 0: it does not stand in the wheel; looking; or the slot's
}

// wheel holds the sessions, each in the slot of the tick at which it is to be looked at. A session is looked at only when
// something is due for it. It is safe for concurrent use; the zero value is an empty one.
type wheel struct {
	mu     sync.Mutex
	slots  [slots]*Session // the first of each slot
	looked *Session        // the first of those that are being looked at
	at     tick            // up to there take has taken who was due
	count  int
}

// due is a session that is to be looked at, and the tick for which it stood in the wheel.
type due struct {
	session *Session
	since   tick
}

// add puts a session in, to be looked at at a tick.
func (w *wheel) add(s *Session, at tick) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.linkLocked(s, at)
	w.count++
}

// remove takes a session out; one that is not in the wheel stays so.
func (w *wheel) remove(s *Session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.seat.due == 0 {
		return
	}
	w.unlinkLocked(s)
	w.count--
}

// need sees to it that a session is looked at at a tick at the latest, if it is in the wheel.
func (w *wheel) need(s *Session, at tick) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.seat.due == 0 || s.seat.due <= at {
		return
	}
	w.unlinkLocked(s)
	w.linkLocked(s, at)
}

// take appends the sessions that are due by now. They stay in the wheel, in no slot: until need is called for one, nobody
// looks at it again.
func (w *wheel) take(now tick, some []due) []due {
	w.mu.Lock()
	defer w.mu.Unlock()
	for last := min(now, w.at+slots-1); w.at < last; {
		w.at++
		for s := w.slots[w.at%slots]; s != nil; s = w.slots[w.at%slots] {
			some = append(some, due{s, s.seat.due})
			w.unlinkLocked(s)
			w.linkLocked(s, looking)
		}
	}
	w.at = max(w.at, now)
	return some
}

// all returns the sessions of this moment.
func (w *wheel) all() []*Session {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]*Session, 0, w.count)
	for s := w.looked; s != nil; s = s.seat.next {
		all = append(all, s)
	}
	for _, s := range w.slots {
		for ; s != nil; s = s.seat.next {
			all = append(all, s)
		}
	}
	return all
}

func (w *wheel) len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

// firstLocked returns the list that a session with that due time stands in.
func (w *wheel) firstLocked(at tick) **Session {
	if at == looking {
		return &w.looked
	}
	return &w.slots[at%slots]
}

// linkLocked puts a session into the slot of a tick: the next one at the earliest, and within a turn.
func (w *wheel) linkLocked(s *Session, at tick) {
	if at != looking {
		at = max(min(at, w.at+slots-1), w.at+1)
	}
	first := w.firstLocked(at)
	s.seat = seat{next: *first, due: at}
	if *first != nil {
		(*first).seat.prev = s
	}
	*first = s
}

func (w *wheel) unlinkLocked(s *Session) {
	p := &s.seat
	if p.prev != nil {
		p.prev.seat.next = p.next
	} else {
		*w.firstLocked(p.due) = p.next
	}
	if p.next != nil {
		p.next.seat.prev = p.prev
	}
	*p = seat{}
}

// golden is 2^32 by the golden ratio: its multiples, modulo 2^32, are as far apart from each other as they can be, however
// many there are.
const golden = 0x9E3779B9

// share is a number in [0, 2^32) that is the session's own: those of sessions that came one after the other lie far apart.
func (s *Session) share() uint64 { return uint64(s.number * golden) }

// part returns the session's own part of a time: between none and all of it.
func (s *Session) part(d time.Duration) time.Duration {
	return time.Duration(uint64(d.Milliseconds())*s.share()>>32) * time.Millisecond
}

// round returns the first tick after t at which it is the session's turn, if everybody has one every so many ticks. Turns
// are spread evenly over those, whenever sessions came.
func (s *Session) round(t, every tick) tick {
	mine := tick(uint64(every) * s.share() >> 32)
	return t + 1 + (mine+every-(t+1)%every)%every
}
