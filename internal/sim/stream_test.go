package sim_test

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/fasthttp/websocket"

	"flannel/protocol"
)

// heartbeat of the streams.
const heartbeat = 5 * time.Second

// stream is one edge's event stream. Within a topic events come in order, at least once; topics overtake each other.
type stream struct {
	b      *backend
	conn   *websocket.Conn
	wire   *end
	faults *faults
	rnd    *rand.Rand // the writer's
	wake   chan struct{}
	ended  chan struct{}
	marks  func(mark)

	// Guarded by backend.mu.
	cursors map[protocol.Topic]*cursor
	answers []protocol.StreamFrame
	aside   []protocol.TopicState // subscriptions that wait; no ping is answered meanwhile
}

// cursor is where a subscription stands: the next event to be taken is topics[topic][next]; it began at first, and what
// is before sent was sent.
type cursor struct{ first, sent, next int }

// batch is what was taken of a topic and not sent yet.
type batch struct {
	c      *cursor
	events []*protocol.Event
}

// mark is a watermark on its way to a node.
type mark struct {
	due      time.Time
	position protocol.Position
	wire     *end
	opened   time.Time // the stream
}

func (g *gateway) serveStream(conn *websocket.Conn) {
	raw := conn.NetConn()
	if h, ok := raw.(interface{ UnsafeConn() net.Conn }); ok {
		raw = h.UnsafeConn()
	}
	wire := raw.(*end)
	g.mu.Lock()
	g.streams++
	n := uint64(g.streams)
	g.mu.Unlock()
	s := &stream{
		b: g.b, conn: conn, wire: wire, faults: g.faults, rnd: rand.New(rand.NewPCG(n, 5)), wake: make(chan struct{}, 1), ended: make(chan struct{}),
		cursors: make(map[protocol.Topic]*cursor), marks: g.marks[wire.pipe.from],
	}
	g.b.mu.Lock()
	g.b.streams[s] = struct{}{}
	hello := protocol.StreamFrame{
		Type: protocol.StreamHello, Version: protocol.UpstreamVersion, Position: g.b.position, ReplayFrom: g.b.replayFrom, HeartbeatMS: int(heartbeat.Milliseconds()),
	}
	g.b.mu.Unlock()
	var wg sync.WaitGroup
	if s.send(hello) == nil {
		wg.Go(s.write)
		s.read()
	}
	close(s.ended)
	_ = conn.Close()
	wg.Wait()
	g.b.mu.Lock()
	delete(g.b.streams, s)
	g.b.mu.Unlock()
}

func (s *stream) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *stream) send(f protocol.StreamFrame) error {
	return s.conn.WriteMessage(websocket.TextMessage, protocol.MustMarshal(f))
}

// read handles the edge's frames in order.
func (s *stream) read() {
	for {
		_, raw, err := s.conn.ReadMessage()
		if err != nil {
			return
		}
		var f protocol.StreamFrame
		if json.Unmarshal(raw, &f) != nil {
			return
		}
		s.b.mu.Lock()
		switch f.Type {
		case protocol.StreamSubscribe:
			for _, ts := range f.Topics {
				if ts.Topic == s.b.trouble.aside {
					s.aside = append(s.aside, ts)
					continue
				}
				s.subscribe(ts)
			}
		case protocol.StreamUnsubscribe:
			for _, ts := range f.Topics {
				delete(s.cursors, ts.Topic)
			}
		case protocol.StreamPing:
			if len(s.aside) == 0 {
				s.answers = append(s.answers, protocol.StreamFrame{Type: protocol.StreamPong, ID: f.ID})
			}
		case protocol.StreamPublish:
			for _, ev := range f.Events {
				for other := range s.b.streams {
					if other.cursors[ev.Topic] != nil {
						other.answers = append(other.answers, protocol.StreamFrame{Type: protocol.StreamEvents, Events: []*protocol.Event{ev}})
						other.nudge()
					}
				}
			}
		}
		s.b.mu.Unlock()
		s.nudge()
	}
}

// subscribe begins a topic where it is wanted from, or resets it. It wants backend.mu.
func (s *stream) subscribe(ts protocol.TopicState) {
	b := s.b
	events := b.topics[ts.Topic]
	head := protocol.Seq(len(events))
	state := protocol.TopicState{Topic: ts.Topic, Seq: &head, Position: new(protocol.Position)}
	*state.Position = b.position
	kind := protocol.StreamSubscribed
	next := len(events)
	switch {
	case ts.Seq != nil:
		next = int(*ts.Seq)
		if next > len(events) || next < len(events) && events[next].Position <= b.replayFrom {
			kind, next = protocol.StreamReset, len(events)
			break
		}
		if next < len(events) {
			*state.Position = events[next].Position - 1
		} else if next > 0 {
			*state.Position = events[next-1].Position
		}
	case ts.Position != nil:
		if *ts.Position < b.replayFrom || *ts.Position > b.position {
			kind = protocol.StreamReset
			break
		}
		next = slices.IndexFunc(events, func(ev *protocol.Event) bool { return ev.Position > *ts.Position })
		if next < 0 {
			next = len(events)
		}
		*state.Position = *ts.Position
	}
	*state.Seq = protocol.Seq(next)
	s.cursors[ts.Topic] = &cursor{next, next, next}
	s.answers = append(s.answers, protocol.StreamFrame{Type: kind, Topics: []protocol.TopicState{state}})
}

// write sends what there is, and then the watermark, until the stream ends.
func (s *stream) write() {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	var said protocol.Position
	opened := time.Now()
	for id := int64(1); ; id++ {
		select {
		case <-s.ended:
			return
		case <-tick.C:
			if s.send(protocol.StreamFrame{Type: protocol.StreamPing, ID: id}) != nil {
				return
			}
			continue
		case <-s.wake:
		}
		answers, events, at := s.take()
		for _, f := range answers {
			if s.send(f) != nil {
				return
			}
		}
		wait := time.Duration(0)
		if len(answers) > 0 {
			wait = s.b.replayTime()
		}
		if !s.sendEvents(events, wait) {
			return
		}
		if at > said || len(answers) > 0 {
			if s.send(protocol.StreamFrame{Type: protocol.StreamWatermark, Position: at}) != nil {
				return
			}
			said = at
			s.marks(mark{s.wire.due(), at, s.wire, opened})
		}
	}
}

// take returns the answers that wait, the events of each topic that have not been sent, and the position up to which
// these are all.
func (s *stream) take() (answers []protocol.StreamFrame, events []batch, at protocol.Position) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	answers, s.answers = s.answers, nil
	held := s.b.position
	for _, topic := range slices.Sorted(maps.Keys(s.cursors)) {
		c, log := s.cursors[topic], s.b.topics[topic]
		if topic == s.b.trouble.late {
			if i := slices.IndexFunc(log[c.next:], func(ev *protocol.Event) bool { return ev.Position > s.b.trouble.lateAt }); i >= 0 {
				log = log[:c.next+i]
				held = min(held, s.b.topics[topic][len(log)].Position-1)
			}
		}
		if c.next < len(log) {
			events = append(events, batch{c, log[c.next:]})
			c.next = len(log)
		}
	}
	return answers, events, held
}

// sendEvents sends the events of several topics, mixed, in frames of a few; if it is to wait, each by itself and after a
// while.
func (s *stream) sendEvents(topics []batch, wait time.Duration) bool {
	repeats, shuffle := s.faults.stream()
	for len(topics) > 0 {
		var frame []*protocol.Event
		var from []*cursor
		n := 1 + s.rnd.IntN(4)
		if wait > 0 {
			time.Sleep(wait)
			n = 1
		}
		for ; n > 0 && len(topics) > 0; n-- {
			i := 0
			if shuffle {
				i = s.rnd.IntN(len(topics))
			} else { // in the order of commits
				for j := range topics {
					if topics[j].events[0].Position < topics[i].events[0].Position {
						i = j
					}
				}
			}
			frame = append(frame, topics[i].events[0])
			from = append(from, topics[i].c)
			if topics[i].events = topics[i].events[1:]; len(topics[i].events) == 0 {
				topics = slices.Delete(topics, i, i+1)
			}
		}
		if s.send(protocol.StreamFrame{Type: protocol.StreamEvents, Events: frame}) != nil {
			return false
		}
		s.b.mu.Lock()
		for _, c := range from {
			c.sent++
		}
		s.b.mu.Unlock()
		if s.rnd.IntN(100) < repeats {
			if ev := s.old(); ev != nil && s.send(protocol.StreamFrame{Type: protocol.StreamEvents, Events: []*protocol.Event{ev}}) != nil {
				return false
			}
		}
		if d := s.faults.think(s.rnd); d > 0 && shuffle {
			time.Sleep(d / 2)
		}
	}
	return true
}

// old is an event that was sent before: at most once is nobody's promise.
func (s *stream) old() *protocol.Event {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	topics := slices.Sorted(maps.Keys(s.cursors))
	if len(topics) == 0 {
		return nil
	}
	topic := topics[s.rnd.IntN(len(topics))]
	c := s.cursors[topic]
	n := c.sent - c.first
	if n <= 0 {
		return nil
	}
	return s.b.topics[topic][c.first+s.rnd.IntN(n)]
}
