package cache

import (
	"flannel/protocol"
)

// record is what is kept of an event for loads that are older than it: its effects, not its payload.
type record struct {
	topic    *topic
	seq      protocol.Seq
	position protocol.Position
	effects  []protocol.Effect
	at       int64 // when it came, Unix nanoseconds
	bytes    int
}

// recordOverhead is what a record costs besides texts and bodies: itself, an effect, and its places in two queues.
const recordOverhead = 500

func newRecord(t *topic, ev *protocol.Event, now int64) *record {
	r := &record{topic: t, seq: ev.Seq, position: ev.Position, effects: ev.Effects, at: now, bytes: recordOverhead}
	for i := range ev.Effects {
		e := &ev.Effects[i]
		r.bytes += 16*len(e.Mentions) + len(e.Value)
		if e.Object != nil {
			r.bytes += len(e.Object.Body)
		}
	}
	return r
}

// recent is the log of recent events of all topics, oldest first. Guarded by Cache.mu.
type recent struct {
	records []*record // from head on
	head    int
	bytes   int
}

func (l *recent) len() int { return len(l.records) - l.head }

func (l *recent) push(r *record) {
	if l.head > 1024 && l.head > len(l.records)/2 {
		n := copy(l.records, l.records[l.head:])
		clear(l.records[n:])
		l.records, l.head = l.records[:n], 0
	}
	l.records = append(l.records, r)
	l.bytes += r.bytes
}

func (l *recent) oldest() *record {
	if l.len() == 0 {
		return nil
	}
	return l.records[l.head]
}

func (l *recent) pop() *record {
	r := l.records[l.head]
	l.records[l.head] = nil
	l.head++
	l.bytes -= r.bytes
	return r
}

// rememberLocked puts an event into the log of its topic.
func (c *Cache) rememberLocked(t *topic, ev *protocol.Event, now int64) {
	r := newRecord(t, ev, now)
	t.log = append(t.log, r)
	c.recent.push(r)
	c.trimLocked(now)
}

// trimLocked forgets the oldest events until the log is within its bounds.
func (c *Cache) trimLocked(now int64) {
	for r := c.recent.oldest(); r != nil; r = c.recent.oldest() {
		if c.recent.len() <= c.config.RecentEvents && c.recent.bytes <= c.config.RecentBytes && now-r.at <= int64(c.config.RecentFor) {
			return
		}
		c.recent.pop()
		// A topic that was reset or unfollowed has another log, or none.
		if t := r.topic; len(t.log) > 0 && t.log[0] == r {
			t.log[0] = nil
			t.log = t.log[1:]
			t.logFrom = max(t.logFrom, r.position)
		}
		c.objects.forget(r)
	}
}
