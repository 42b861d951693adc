package upstream

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"flannel/protocol"
)

// world is a table, a backend and the line between them, all under the hand of rapid.
type world struct {
	t     *rapid.T
	table *table
	now   time.Time
	lossy bool // the backend loses and repeats events
	lied  bool // it has been lossy, so its watermarks were not true

	// the backend
	log       map[protocol.Topic][]protocol.Position
	forgotten map[protocol.Topic]int
	position  protocol.Position
	subs      map[protocol.Topic]bool
	line      []protocol.StreamFrame
	up        bool

	// what the callers hold, and what the sink knows
	refs map[protocol.Topic]int
	sink map[protocol.Topic]*checked
	// the earliest position that somebody wants a topic from whom the sink has not been told of
	since map[protocol.Topic]protocol.Position
}

const worldLinger = 3 * time.Second

var worldTopics = []protocol.Topic{"C1", "C2", "C3", "U1"}

func (w *world) topic() protocol.Topic { return rapid.SampledFrom(worldTopics).Draw(w.t, "topic") }

func (w *world) publish(t protocol.Topic) {
	w.position++
	w.log[t] = append(w.log[t], w.position)
	if !w.subs[t] {
		return
	}
	copies := 1
	if w.lossy {
		copies = rapid.SampledFrom([]int{1, 1, 1, 0, 2}).Draw(w.t, "copies")
	}
	for range copies {
		w.sendEvents(t, len(w.log[t])-1)
	}
}

// sendEvents sends the events of t from an index on, one frame each.
func (w *world) sendEvents(t protocol.Topic, from int) {
	for i := from; i < len(w.log[t]); i++ {
		w.line = append(w.line, protocol.StreamFrame{Type: protocol.StreamEvents, Events: []*protocol.Event{{Topic: t, Seq: protocol.Seq(i + 1), Position: w.log[t][i]}}})
	}
}

// take moves what the table wants to send to the backend.
func (w *world) take(limit int) bool {
	drop, subscribe := w.table.take(w.now, limit)
	for _, ts := range drop {
		if !w.subs[ts.Topic] {
			w.t.Fatalf("%s was dropped without having been asked for", ts.Topic)
		}
		delete(w.subs, ts.Topic)
	}
	for _, ts := range subscribe {
		log := w.log[ts.Topic]
		from := len(log)
		switch {
		case ts.Seq != nil:
			from = int(*ts.Seq)
		case ts.Position != nil:
			for from = 0; from < len(log) && log[from] <= *ts.Position; from++ {
			}
		}
		kind := protocol.StreamSubscribed
		if from < w.forgotten[ts.Topic] {
			kind, from = protocol.StreamReset, len(log)
		}
		position := w.position
		if from < len(log) {
			position = log[from] - 1
		}
		w.line = append(w.line, protocol.StreamFrame{Type: kind, Topics: []protocol.TopicState{{Topic: ts.Topic, Seq: new(protocol.Seq(from)), Position: &position}}})
		w.sendEvents(ts.Topic, from)
		w.subs[ts.Topic] = true
	}
	return len(drop)+len(subscribe) > 0
}

// receive takes one frame off the line.
func (w *world) receive() bool {
	if len(w.line) == 0 {
		return false
	}
	f := w.line[0]
	w.line = w.line[1:]
	var notes []note
	switch f.Type {
	case protocol.StreamEvents:
		notes, _, _ = w.table.event(f.Events[0], nil)
	case protocol.StreamSubscribed:
		notes, _ = w.table.answered(f.Topics[0], nil)
	case protocol.StreamReset:
		notes, _ = w.table.reset(f.Topics[0], nil)
	case protocol.StreamWatermark:
		if w.table.recovering == 0 {
			w.watermark(f.Position)
		}
	}
	w.tell(notes)
	return true
}

// tell is what stream.deliver does, with other callers in between.
func (w *world) tell(notes []note) {
	for i, n := range notes {
		switch n.kind {
		case noteFollowed:
			if w.sink[n.topic] == nil && rapid.Bool().Draw(w.t, "somebody comes before the sink is told") {
				w.follow(n.topic)
			}
			if !w.table.confirm(n.row) {
				continue
			}
			s := w.sink[n.topic]
			reset := i+1 < len(notes) && notes[i+1].kind == noteReset
			if since, ok := w.since[n.topic]; ok && n.position > since && !reset {
				w.t.Fatalf("%s is followed from %d, and was wanted from %d", n.topic, n.position, since)
			}
			delete(w.since, n.topic)
			if s == nil {
				w.sink[n.topic] = &checked{seq: n.seq, position: n.position}
			} else if s.seq != n.seq {
				s.seq, s.anySeq = n.seq, true // Only before a reset.
			}
			w.table.tell(n.row)
		case noteReset:
			if !n.row.told {
				continue
			}
			if s := w.sink[n.topic]; s == nil {
				w.t.Fatalf("reset of %s, which is not followed", n.topic)
			} else {
				s.anySeq = true
			}
		case noteUnfollowed:
			if w.sink[n.topic] == nil || w.refs[n.topic] > 0 {
				w.t.Fatalf("%s was given up with %d references", n.topic, w.refs[n.topic])
			}
			delete(w.sink, n.topic)
		case noteEvent:
			s := w.sink[n.event.Topic]
			switch {
			case s == nil:
				w.t.Fatalf("event of %s, which is not followed", n.event.Topic)
			case n.event.Seq != s.seq+1 && (!s.anySeq || n.event.Seq <= s.seq):
				w.t.Fatalf("event %d of %s after %d", n.event.Seq, n.event.Topic, s.seq)
			}
			s.seq, s.anySeq = n.event.Seq, false
		}
	}
}

// watermark checks that everything up to p has come.
func (w *world) watermark(p protocol.Position) {
	if w.lied {
		return // A backend that loses events does not know it.
	}
	for t, s := range w.sink {
		for i, position := range w.log[t] {
			if position <= p && protocol.Seq(i+1) > s.seq && !s.anySeq {
				w.t.Fatalf("watermark %d, but event %d of %s at %d has not come", p, i+1, t, position)
			}
		}
	}
}

func (w *world) follow(t protocol.Topic) {
	ts := protocol.TopicState{Topic: t}
	if rapid.Bool().Draw(w.t, "from a position") {
		ts.Position = new(protocol.Position(rapid.Uint64Range(0, uint64(w.position)).Draw(w.t, "position")))
	}
	known := w.sink[t] != nil
	if since, ok := w.since[t]; !known && ts.Position != nil && (!ok || *ts.Position < since) {
		w.since[t] = *ts.Position
	}
	w.table.add(ts)
	w.refs[t]++
	if !known && w.table.topics[t].told {
		w.t.Fatalf("%s counts as told, but the sink does not know it", t)
	}
}

func (w *world) cut() {
	w.line, w.subs = nil, make(map[protocol.Topic]bool)
	w.table.down()
	w.up = false
}

func (w *world) open() {
	if !w.up {
		w.table.up(w.position)
		w.up = true
	}
}

// check holds after every step.
func (w *world) check() {
	for name := range w.since {
		if w.table.topics[name] == nil {
			delete(w.since, name) // Given up before the sink was told.
		}
	}
	var count [3]int
	recovering := 0
	for name, t := range w.table.topics {
		count[t.state]++
		if t.told && t.state != followed {
			recovering++
		}
		if t.refs != w.refs[name] {
			w.t.Fatalf("%s has %d references, want %d", name, t.refs, w.refs[name])
		}
		if t.told != (w.sink[name] != nil) {
			w.t.Fatalf("%s: told %v, the sink knows it: %v", name, t.told, w.sink[name] != nil)
		}
		if t.state == wanted && !t.queued && w.up {
			w.t.Fatalf("%s is wanted, but will not be asked for", name)
		}
		if t.refs == 0 && !t.idling {
			w.t.Fatalf("%s has no references and will never be given up", name)
		}
	}
	if count != w.table.count || recovering != w.table.recovering {
		w.t.Fatalf("counts %v and %d, want %v and %d", w.table.count, w.table.recovering, count, recovering)
	}
}

func TestTable_ExactlyOnceInOrderWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{
			t: t, table: newTable(), now: time.Unix(0, 0), lossy: rapid.Bool().Draw(t, "lossy"),
			log: make(map[protocol.Topic][]protocol.Position), forgotten: make(map[protocol.Topic]int),
			subs: make(map[protocol.Topic]bool), refs: make(map[protocol.Topic]int), sink: make(map[protocol.Topic]*checked),
			since: make(map[protocol.Topic]protocol.Position),
		}
		w.lied = w.lossy
		receive := func(t *rapid.T) {
			if !w.receive() {
				t.Skip("nothing on the line")
			}
		}
		t.Repeat(map[string]func(t *rapid.T){
			"":       func(*rapid.T) { w.check() },
			"follow": func(t *rapid.T) { w.follow(w.topic()) },
			"unfollow": func(t *rapid.T) {
				name := w.topic()
				w.table.release(name, w.now.Add(worldLinger))
				w.refs[name] = max(0, w.refs[name]-1)
			},
			"publish":  func(*rapid.T) { w.publish(w.topic()) },
			"publish2": func(*rapid.T) { w.publish(w.topic()) },
			"take": func(t *rapid.T) {
				if w.up {
					w.take(rapid.IntRange(1, 3).Draw(t, "limit"))
				}
			},
			"receive": receive, "receive2": receive, "receive3": receive,
			"wait": func(t *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 4).Draw(t, "seconds")) * time.Second)
				w.tell(w.table.expire(w.now, nil))
			},
			"watermark": func(*rapid.T) {
				if w.up {
					w.line = append(w.line, protocol.StreamFrame{Type: protocol.StreamWatermark, Position: w.position})
				}
			},
			"cut":  func(*rapid.T) { w.cut() },
			"open": func(*rapid.T) { w.open() },
			"forget": func(t *rapid.T) {
				name := w.topic()
				w.forgotten[name] = len(w.log[name])
			},
			"reset": func(t *rapid.T) {
				if name := w.topic(); w.subs[name] {
					w.line = append(w.line, protocol.StreamFrame{Type: protocol.StreamReset, Topics: []protocol.TopicState{{Topic: name, Seq: new(protocol.Seq(len(w.log[name]))), Position: &w.position}}})
				}
			},
		})

		// Then the world gets well: everything that is held must be followed and complete.
		w.lossy = false
		w.open()
		for _, name := range worldTopics {
			w.publish(name) // Shows a hole at the end.
		}
		for moved := true; moved; {
			moved = w.take(10)
			for w.receive() {
				moved = true
			}
			w.check()
		}
		for _, name := range worldTopics {
			s := w.sink[name]
			switch {
			case w.refs[name] == 0:
			case s == nil:
				t.Fatalf("%s is held, but not followed", name)
			case s.seq != protocol.Seq(len(w.log[name])) && !s.anySeq:
				t.Fatalf("%s ends at %d, the log at %d", name, s.seq, len(w.log[name]))
			}
		}
		if w.table.recovering != 0 || w.table.overdue(w.now.Add(time.Hour)) {
			t.Fatal("something is still to come")
		}
		for name := range w.refs {
			for w.refs[name] > 0 {
				w.refs[name]--
				w.table.release(name, w.now)
			}
		}
		w.now = w.now.Add(time.Hour)
		w.tell(w.table.expire(w.now, nil))
		w.take(10)
		if len(w.table.topics) != 0 || len(w.sink) != 0 || len(w.subs) != 0 {
			t.Fatalf("left: %d topics, %d in the sink, %d at the backend", len(w.table.topics), len(w.sink), len(w.subs))
		}
	})
}

// A topic is answered, and before the sink is told of it somebody comes who needs it from earlier. It was told to start
// where the first had asked for, and the second was let go with a hole.
func TestTable_AnEarlierStartIsAskedForAfterTheAnswer(t *testing.T) {
	at := func(p protocol.Position) protocol.TopicState { return protocol.TopicState{Topic: "C1", Position: &p} }
	tb := newTable()
	tb.up(10)
	tb.add(at(8))
	tb.take(time.Time{}, 1)
	notes, _ := tb.answered(at(8), nil)
	tb.add(at(5))
	if tb.confirm(notes[0].row) {
		t.Fatal("the sink is told of a start that is too late")
	}
	if _, ask := tb.take(time.Time{}, 1); len(ask) != 1 || *ask[0].Position != 5 {
		t.Fatalf("asked for %+v", ask)
	}
	if notes, _ = tb.answered(at(5), nil); len(notes) != 1 || notes[0].position != 5 || !tb.confirm(notes[0].row) {
		t.Fatalf("%+v", notes)
	}
	// One who comes now is not told before the sink is.
	if row := tb.add(at(5)); !row.told || row.ready == nil {
		t.Errorf("%+v", row)
	}
}

func TestTable_OverdueSubscriptions(t *testing.T) {
	tb, now := newTable(), time.Unix(100, 0)
	for i := range 3 {
		tb.add(protocol.TopicState{Topic: protocol.Topic(fmt.Sprintf("C%d", i))})
	}
	tb.take(now, 2)
	tb.take(now.Add(time.Second), 2)
	if tb.overdue(now) || !tb.overdue(now.Add(time.Millisecond)) {
		t.Error("the oldest was not looked at")
	}
	for i := range 2 {
		notes, _ := tb.answered(protocol.TopicState{Topic: protocol.Topic(fmt.Sprintf("C%d", i))}, nil)
		if len(notes) != 1 {
			t.Errorf("%+v", notes)
		}
	}
	if tb.overdue(now.Add(time.Second)) || !tb.overdue(now.Add(time.Minute)) {
		t.Error("the answered ones count, or the other does not")
	}
}

func TestTable_ATopicWithoutASeqIsResumedByItsPosition(t *testing.T) {
	tb := newTable()
	tb.add(protocol.TopicState{Topic: "C1"})
	tb.take(time.Time{}, 1)
	notes, _ := tb.answered(protocol.TopicState{Topic: "C1", Position: new(protocol.Position(8))}, nil)
	if len(notes) != 1 || notes[0].position != 8 {
		t.Fatalf("%+v", notes)
	}
	tb.confirm(notes[0].row)
	tb.down()
	tb.up(9)
	if _, ask := tb.take(time.Time{}, 1); len(ask) != 1 || ask[0].Position == nil || *ask[0].Position != 8 {
		t.Fatalf("%+v", ask)
	}
	tb.answered(protocol.TopicState{Topic: "C1", Seq: new(protocol.Seq(4)), Position: new(protocol.Position(8))}, nil)
	if _, outcome, _ := tb.event(&protocol.Event{Topic: "C1", Seq: 6, Position: 10}, nil); outcome != eventHole {
		t.Errorf("event 6 after 4 is a %s", outcome)
	}
}
