package upstream

import (
	"time"

	"flannel/protocol"
)

// topicState is how far a topic is followed on the present connection.
type topicState uint8

const (
	wanted      topicState = iota // to be subscribed
	subscribing                   // asked for; the answer has not come
	followed                      // answered: its events come
)

func (s topicState) String() string {
	return [...]string{"wanted", "subscribing", "followed"}[s]
}

// topic is one row of the table.
type topic struct {
	name  protocol.Topic
	refs  int
	state topicState
	// told: the sink knows it as followed. A topic that is told and not followed is being recovered: after a break, or
	// after a hole.
	told bool
	// from is where the callers want it from, while it is not told; nil for "from now on".
	from *protocol.TopicState
	// seq of the last event that was handed over, or of the start; counted is false if the backend named none. position
	// belongs to it.
	seq      protocol.Seq
	counted  bool
	position protocol.Position
	// answers that the backend still owes on this connection. Only the last one counts: what came for an earlier
	// subscription will come again.
	answers int
	asked   time.Time
	// sent: it was asked for on this connection, so that giving it up must be said.
	sent bool
	// hole: what came after seq left a hole, and was asked for again.
	hole bool
	// queued: in table.want. idling: in table.idle.
	queued, idling bool
	// until is when the topic is given up, if it has no references.
	until time.Time
	// ready is closed when the sink is told; nil if nobody waits.
	ready chan struct{}
}

// table is what is followed and what should be. It does no I/O, has no clock and calls nobody: what the sink must hear
// comes back as notes. Guarded by Upstream.mu.
type table struct {
	topics map[protocol.Topic]*topic
	// want are the topics to be subscribed, in order; entries that are no longer wanted are skipped.
	want []*topic
	// drop are the topics to be unsubscribed. They are sent before want.
	drop []protocol.Topic
	// idle are the topics without references in about the order in which they are given up.
	idle []*topic
	// asked are the subscriptions that were sent, oldest first, to notice those that get no answer.
	asked []ask
	// count is the number of topics by state.
	count [3]int
	// recovering is the number of topics that are told but not followed.
	recovering int
	// newest is the highest position that the backend has named.
	newest protocol.Position
}

// ask is one subscription that was sent.
type ask struct {
	t  *topic
	at time.Time
}

// note is something that the sink must hear.
type note struct {
	kind     noteKind
	topic    protocol.Topic
	seq      protocol.Seq
	position protocol.Position
	event    *protocol.Event
	row      *topic // followed, reset: whom the sink must know
}

type noteKind uint8

const (
	noteEvent noteKind = iota
	noteFollowed
	noteReset
	noteUnfollowed
)

func newTable() *table { return &table{topics: make(map[protocol.Topic]*topic)} }

// shift changes a topic's state or told flag and keeps the counts.
func (tb *table) shift(t *topic, s topicState, told bool) {
	if t.told && t.state != followed {
		tb.recovering--
	}
	tb.count[t.state]--
	t.state, t.told = s, told
	tb.count[s]++
	if t.told && t.state != followed {
		tb.recovering++
	}
}

// add takes a reference. It returns the row.
func (tb *table) add(ts protocol.TopicState) *topic {
	t := tb.topics[ts.Topic]
	if t == nil {
		t = &topic{name: ts.Topic, from: startOf(ts)}
		tb.topics[ts.Topic] = t
		tb.count[wanted]++
		tb.enqueue(t)
	} else if !t.told && earlier(ts, t.from) {
		// Two callers, and the second needs more. If the first's subscription is on its way it is asked for again: what
		// comes for the first one is not looked at. Nor is it if it was answered, and the sink is just about to be told.
		t.from = startOf(ts)
		if t.state != wanted {
			tb.shift(t, wanted, false)
			tb.enqueue(t)
		}
	}
	t.refs++
	return t
}

// startOf is the state to subscribe from, nil for "from now on".
func startOf(ts protocol.TopicState) *protocol.TopicState {
	if _, presence := protocol.PresenceOf(ts.Topic); presence || ts.Seq == nil && ts.Position == nil {
		return nil // A presence topic has no past.
	}
	return &ts
}

// earlier reports whether ts begins before from. A seq and a position cannot be compared; then the position counts as
// earlier, because it comes from a load.
func earlier(ts protocol.TopicState, from *protocol.TopicState) bool {
	start := startOf(ts)
	switch {
	case start == nil:
		return false
	case from == nil:
		return true
	case start.Position != nil && from.Position != nil:
		return *start.Position < *from.Position
	case start.Seq != nil && from.Seq != nil:
		return *start.Seq < *from.Seq
	default:
		return start.Position != nil
	}
}

func (tb *table) enqueue(t *topic) {
	if !t.queued {
		t.queued = true
		tb.want = append(tb.want, t)
	}
}

// release gives a reference back; the topic is given up at until if nobody takes one before.
func (tb *table) release(name protocol.Topic, until time.Time) {
	t := tb.topics[name]
	if t == nil || t.refs == 0 {
		return
	}
	t.refs--
	if t.refs > 0 {
		return
	}
	t.until = until
	if !t.idling {
		t.idling = true
		tb.idle = append(tb.idle, t)
	}
}

// expire gives up what has had no references for long enough.
func (tb *table) expire(now time.Time, notes []note) []note {
	for n := len(tb.idle); n > 0; n-- {
		t := tb.idle[0]
		if t.refs == 0 && t.until.After(now) {
			break
		}
		tb.idle[0] = nil
		tb.idle = tb.idle[1:]
		t.idling = false
		switch {
		case t.refs > 0: // Somebody came back.
		case t.answers > 0:
			// An answer is on its way; were the row gone, it could be taken for that of a later subscription.
			t.idling = true
			tb.idle = append(tb.idle, t)
		default:
			notes = tb.remove(t, notes)
		}
	}
	return notes
}

func (tb *table) remove(t *topic, notes []note) []note {
	if t.sent {
		tb.drop = append(tb.drop, t.name)
	}
	told := t.told
	tb.shift(t, wanted, false)
	tb.count[wanted]--
	delete(tb.topics, t.name)
	if told {
		notes = append(notes, note{kind: noteUnfollowed, topic: t.name})
	}
	return notes
}

// take returns what to send next: topics to drop, then topics to ask for, at most limit of each.
func (tb *table) take(now time.Time, limit int) (drop, subscribe []protocol.TopicState) {
	n := min(limit, len(tb.drop))
	for _, name := range tb.drop[:n] {
		drop = append(drop, protocol.TopicState{Topic: name})
	}
	if tb.drop = tb.drop[n:]; len(tb.drop) == 0 {
		tb.drop = nil
	} else {
		return drop, nil // All that is dropped is said before anything is asked for: it may be the same topic.
	}
	for len(tb.want) > 0 && len(subscribe) < limit {
		t := tb.want[0]
		tb.want[0] = nil
		tb.want = tb.want[1:]
		t.queued = false
		if tb.topics[t.name] != t || t.state != wanted {
			continue
		}
		tb.shift(t, subscribing, t.told)
		t.answers++
		t.sent, t.asked = true, now
		tb.asked = append(tb.asked, ask{t, now})
		subscribe = append(subscribe, t.start())
	}
	if len(tb.want) == 0 {
		tb.want = nil
	}
	return drop, subscribe
}

// start says where the next subscription begins.
func (t *topic) start() protocol.TopicState {
	ts := protocol.TopicState{Topic: t.name}
	_, presence := protocol.PresenceOf(t.name)
	switch {
	case presence:
	case t.told && t.counted:
		seq := t.seq
		ts.Seq = &seq
	case t.told:
		position := t.position
		ts.Position = &position
	case t.from != nil:
		ts.Seq, ts.Position = t.from.Seq, t.from.Position
	}
	return ts
}

// answered takes "subscribed" for one topic. The seq and position in it are where the backend goes on from.
func (tb *table) answered(ts protocol.TopicState, notes []note) ([]note, string) {
	tb.see(ts.Position)
	t := tb.topics[ts.Topic]
	if t == nil || t.answers == 0 {
		return notes, "" // Given up meanwhile, or an answer to nothing.
	}
	t.answers--
	if t.answers > 0 || t.state != subscribing {
		return notes, "" // A later subscription is on its way, or about to be.
	}
	if t.told {
		if t.counted && ts.Seq != nil && *ts.Seq < t.seq {
			// The backend counts from below what it has sent: its log is not the one it was. Events would be taken for
			// duplicates.
			return tb.restart(t, ts, notes), resetRewound
		}
		if !t.counted && ts.Seq != nil {
			t.seq, t.counted = *ts.Seq, true
		}
		tb.shift(t, followed, true)
		return append(notes, note{kind: noteFollowed, topic: t.name, seq: t.seq, position: t.position, row: t}), ""
	}
	t.startAt(ts, tb.newest)
	if t.from != nil && t.from.Position != nil {
		// Every event above the position that was asked for will come, whatever the backend names.
		t.position = *t.from.Position
	}
	if t.from != nil && t.from.Seq != nil {
		t.seq, t.counted = *t.from.Seq, true
	}
	tb.shift(t, followed, t.told)
	return append(notes, note{kind: noteFollowed, topic: t.name, seq: t.seq, position: t.position, row: t}), ""
}

// startAt puts the topic where the backend says it goes on from.
func (t *topic) startAt(ts protocol.TopicState, newest protocol.Position) {
	t.seq, t.counted, t.position, t.hole = 0, ts.Seq != nil, newest, false
	if ts.Seq != nil {
		t.seq = *ts.Seq
	}
	if ts.Position != nil {
		t.position = *ts.Position
	}
}

// reset takes "reset" for one topic: instead of "subscribed", or at any time.
func (tb *table) reset(ts protocol.TopicState, notes []note) ([]note, bool) {
	tb.see(ts.Position)
	t := tb.topics[ts.Topic]
	if t == nil {
		return notes, false
	}
	if t.answers > 0 {
		t.answers--
	}
	if t.answers > 0 || t.state == wanted {
		return notes, false // It will be asked for again, and told again if it must be.
	}
	return tb.restart(t, ts, notes), true
}

func (tb *table) restart(t *topic, ts protocol.TopicState, notes []note) []note {
	t.startAt(ts, tb.newest)
	if !t.told || t.state != followed {
		tb.shift(t, followed, t.told)
		notes = append(notes, note{kind: noteFollowed, topic: t.name, seq: t.seq, position: t.position, row: t})
	}
	return append(notes, note{kind: noteReset, topic: t.name, position: t.position, row: t})
}

// event decides what becomes of an event: it is one of eventOutcomes. A reset is true if it came after a hole that
// could not be filled.
func (tb *table) event(ev *protocol.Event, notes []note) (_ []note, outcome string, reset bool) {
	tb.see(&ev.Position)
	t := tb.topics[ev.Topic]
	switch {
	case t == nil, t.state != followed && (ev.Seq != 0 || !t.told):
		return notes, eventUnwanted, false
	case ev.Seq == 0:
		return append(notes, note{kind: noteEvent, event: ev}), eventDelivered, false
	case !t.counted:
		// The backend named no seq to start from; the first event does.
	case ev.Seq <= t.seq:
		return notes, eventDuplicate, false
	case ev.Seq == t.seq+1:
	case !t.hole:
		t.hole = true
		tb.shift(t, wanted, true)
		tb.enqueue(t)
		return notes, eventHole, false
	default:
		// It was asked for again, and again it is not there. The position is the event's own: events of the same commit
		// may be among those that were lost.
		notes = append(notes, note{kind: noteReset, topic: t.name, position: ev.Position, row: t})
		reset = true
	}
	t.seq, t.counted, t.hole = ev.Seq, true, false
	t.position = max(t.position, ev.Position)
	return append(notes, note{kind: noteEvent, event: ev}), eventDelivered, reset
}

func (tb *table) see(p *protocol.Position) {
	if p != nil {
		tb.newest = max(tb.newest, *p)
	}
}

// confirm marks a topic as told just before the sink is, unless somebody has asked for an earlier start since it was
// answered: then it is asked for again, and the sink is told of that.
func (tb *table) confirm(t *topic) bool {
	if tb.topics[t.name] != t || t.state != followed {
		return false
	}
	tb.shift(t, followed, true)
	t.from = nil
	if t.ready == nil {
		t.ready = make(chan struct{}) // Who comes before the sink was told has to wait for that.
	}
	return true
}

// tell frees those who wait for a topic, once the sink was told of it.
func (tb *table) tell(t *topic) {
	if t.ready != nil {
		close(t.ready)
		t.ready = nil
	}
}

// up begins a connection after down: everything is to be asked for.
func (tb *table) up(newest protocol.Position) {
	tb.newest = max(tb.newest, newest)
	for _, t := range tb.topics {
		tb.enqueue(t)
	}
}

// down ends a connection: nothing is followed and no answer will come.
func (tb *table) down() {
	tb.drop, tb.asked = nil, nil
	for _, t := range tb.topics {
		tb.shift(t, wanted, t.told)
		t.answers, t.sent, t.hole = 0, false, false
	}
}

// overdue reports whether a subscription that was sent before cutoff has no answer.
func (tb *table) overdue(cutoff time.Time) bool {
	for len(tb.asked) > 0 {
		a := tb.asked[0]
		if a.t.answers > 0 && a.t.asked.Equal(a.at) {
			return a.at.Before(cutoff)
		}
		tb.asked[0].t = nil
		tb.asked = tb.asked[1:]
	}
	tb.asked = nil
	return false
}
