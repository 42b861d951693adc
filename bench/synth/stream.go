package synth

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"flannel/protocol"
)

// heartbeat is what streams are told; the edge says something at least that often.
const heartbeat = 5 * time.Second

var upgrader = websocket.FastHTTPUpgrader{ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10}

// stream is one edge's.
type stream struct {
	conn *websocket.Conn
	out  chan []byte // frames for the writer; capacity queued; never closed
	done chan struct{}
	once sync.Once

	follows map[protocol.Topic]bool // guarded by Backend.mu
}

// queued is more frames than a run has messages in the air. A stream that is so far behind is ended.
const queued = 1 << 16

func (s *stream) end() { s.once.Do(func() { close(s.done) }) }

// put queues a frame.
func (s *stream) put(f *protocol.StreamFrame) { s.putRaw(protocol.MustMarshal(f)) }

func (s *stream) putRaw(frame []byte) {
	select {
	case s.out <- frame:
	default:
		s.end()
	}
}

func (b *Backend) serveStream(ctx *fasthttp.RequestCtx) {
	err := upgrader.Upgrade(ctx, func(conn *websocket.Conn) {
		s := &stream{conn: conn, out: make(chan []byte, queued), done: make(chan struct{}), follows: make(map[protocol.Topic]bool)}
		b.mu.Lock()
		b.streams[s] = struct{}{}
		s.put(&protocol.StreamFrame{
			Type: protocol.StreamHello, Version: protocol.UpstreamVersion, Position: b.position, ReplayFrom: b.position, HeartbeatMS: int(heartbeat / time.Millisecond),
		})
		b.mu.Unlock()
		var writer sync.WaitGroup
		writer.Go(s.write)
		b.arriveOnce.Do(func() { close(b.arrived) })
		b.read(s)
		s.end()
		writer.Wait()
		b.mu.Lock()
		delete(b.streams, s)
		b.mu.Unlock()
	})
	if err != nil {
		refuse(ctx, fasthttp.StatusBadRequest, protocol.CodeInvalidArgs)
	}
}

// write sends what is queued, and pings.
func (s *stream) write() {
	defer s.conn.Close() //nolint:errcheck // So that the reader ends too.
	tick := time.NewTicker(heartbeat / 2)
	defer tick.Stop()
	for {
		var frame []byte
		select {
		case frame = <-s.out:
		case <-tick.C:
			frame = protocol.MustMarshal(&protocol.StreamFrame{Type: protocol.StreamPing, ID: 1})
		case <-s.done:
			return
		}
		if err := s.conn.WriteMessage(websocket.TextMessage, frame); err != nil {
			return
		}
	}
}

// read handles the edge's frames in order.
func (b *Backend) read(s *stream) {
	for {
		_, body, err := s.conn.ReadMessage()
		if err != nil {
			return
		}
		var f protocol.StreamFrame
		if err := json.Unmarshal(body, &f); err != nil {
			return
		}
		switch f.Type {
		case protocol.StreamSubscribe:
			b.subscribe(s, f.Topics)
		case protocol.StreamUnsubscribe:
			b.mu.Lock()
			for _, t := range f.Topics {
				delete(s.follows, t.Topic)
			}
			b.mu.Unlock()
		case protocol.StreamPing:
			b.mu.Lock()
			s.put(&protocol.StreamFrame{Type: protocol.StreamPong, ID: f.ID})
			b.mu.Unlock()
		}
	}
}

func (b *Backend) subscribe(s *stream, topics []protocol.TopicState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	answer := protocol.StreamFrame{Type: protocol.StreamSubscribed}
	reset := protocol.StreamFrame{Type: protocol.StreamReset}
	var away []*protocol.Event
	for _, t := range topics {
		s.follows[t.Topic] = true
		had := b.topics[t.Topic]
		to, place := &answer, b.position
		switch {
		case t.Seq != nil && *t.Seq != had.seq, t.Position != nil && (*t.Position < had.position || *t.Position > b.position):
			to = &reset
		case t.Position != nil:
			place = *t.Position
		}
		seq := had.seq
		to.Topics = append(to.Topics, protocol.TopicState{Topic: t.Topic, Seq: &seq, Position: &place})
		if user, ok := protocol.PresenceOf(t.Topic); ok {
			away = append(away, &protocol.Event{
				Topic: t.Topic, Type: protocol.FramePresenceChange, Class: protocol.ClassEphemeral,
				Payload: protocol.MustMarshal(protocol.PresenceChange{Type: protocol.FramePresenceChange, Presence: protocol.Away, User: user}),
			})
		}
	}
	for _, f := range []*protocol.StreamFrame{&answer, &reset} {
		if len(f.Topics) > 0 {
			s.put(f)
		}
	}
	if len(away) > 0 {
		s.put(&protocol.StreamFrame{Type: protocol.StreamEvents, Events: away})
	}
	s.put(&protocol.StreamFrame{Type: protocol.StreamWatermark, Position: b.position})
}

// PayloadLen is the size of a message that Publish sends.
const PayloadLen = 200

// Publish says something in channel 0: a message of PayloadLen bytes that begins with text.
func (b *Backend) Publish(text string) {
	channel := Channel(0)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.position++
	topic := protocol.Topic(channel)
	state := b.topics[topic]
	state.seq++
	state.position = b.position
	b.topics[topic] = state
	ts := messageTS(state.seq)
	ev := &protocol.Event{
		Topic: topic, Seq: state.seq, Position: b.position, Type: protocol.FrameMessage, Class: protocol.ClassMessage,
		Refs:    []protocol.ObjectID{protocol.ObjectID(User(0)), protocol.ObjectID(channel)},
		Effects: []protocol.Effect{{Op: protocol.OpMessageAdded, Channel: channel, User: User(0), TS: ts, Latest: ts}},
		Payload: Message(text, ts),
	}
	events := protocol.MustMarshal(&protocol.StreamFrame{Type: protocol.StreamEvents, Events: []*protocol.Event{ev}})
	mark := []byte(`{"type":"watermark","position":` + strconv.FormatUint(uint64(b.position), 10) + `}`)
	for s := range b.streams {
		if s.follows[topic] {
			s.putRaw(events)
		}
		s.putRaw(mark)
	}
}

// Message is the clients' JSON of a message in channel 0.
func Message(text string, ts protocol.TS) []byte {
	body := fmt.Sprintf(`{"type":"message","channel":%q,"user":%q,"text":%q,"ts":%q}`, Channel(0), User(0), text, ts)
	if more := PayloadLen - len(body); more > 0 {
		body = body[:strings.LastIndex(body, `","ts"`)] + strings.Repeat("m", more) + body[strings.LastIndex(body, `","ts"`):]
	}
	return []byte(body)
}

// Followed reports whether an edge follows channel 0.
func (b *Backend) Followed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.streams {
		if s.follows[protocol.Topic(Channel(0))] {
			return true
		}
	}
	return false
}
