package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"flannel/backend/channels"
	"flannel/backend/presence"
	"flannel/backend/store"
	"flannel/protocol"
)

const (
	// maxStreamFrame bounds a frame of an edge, in bytes: a subscription of 1000 topics has about 100 KB, a report of
	// 50,000 users 700 KB.
	maxStreamFrame = 4 << 20
	// frameBytes is where a frame of events is closed and the next one begun: large enough to share the overhead, small
	// enough that a slow line gets it through within the write timeout.
	frameBytes = 256 << 10
	// maxEphemeral bounds a published event's payload, in bytes: a user_typing has about 100.
	maxEphemeral = 4 << 10
)

var upgrader = websocket.FastHTTPUpgrader{
	ReadBufferSize: 16 << 10, WriteBufferSize: 16 << 10, WriteBufferPool: &sync.Pool{},
	// Edges are programs. A page in somebody's browser has no business here, whatever it knows.
	CheckOrigin: func(ctx *fasthttp.RequestCtx) bool { return len(ctx.Request.Header.Peek(fasthttp.HeaderOrigin)) == 0 },
}

// stream is one edge's stream.
type stream struct {
	g    *Gateway
	conn *websocket.Conn
	sub  *channels.Subscriber
	here *presence.Source
	// life ends with the stream; the cause says why.
	life context.Context
	end  context.CancelCauseFunc
	// pongs, capacity 8: ids of pings to be answered, from the reader to the writer. The reader waits when it is full: an
	// edge that pings faster than it reads is not heard until it has read. Never closed.
	pongs chan int64
}

// ending is why this side ends a stream: it is told in the close frame.
type ending struct {
	code   protocol.CloseCode
	reason string
}

func (e *ending) Error() string { return fmt.Sprintf("%s: %s", e.code, e.reason) }

func (g *Gateway) serveStream(ctx *fasthttp.RequestCtx) {
	err := upgrader.Upgrade(ctx, func(conn *websocket.Conn) {
		s := &stream{g: g, conn: conn, pongs: make(chan int64, 8)}
		s.life, s.end = context.WithCancelCause(context.Background())
		defer s.end(nil)
		if !g.admit(s) {
			s.close(&ending{protocol.CloseOverloaded, "too many streams, or stopping"})
			return
		}
		defer g.release(s)
		s.run()
	})
	if err != nil {
		writeJSON(ctx, fasthttp.StatusBadRequest, &protocol.ErrorAnswer{Error: protocol.CodeInvalidArgs, Message: err.Error()})
	}
}

// admit makes a stream one of those that Stop waits for.
func (g *Gateway) admit(s *stream) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopping || len(g.streams) >= g.config.Streams {
		return false
	}
	g.streams[s] = struct{}{}
	g.running.Add(1)
	g.metrics.streams.Inc()
	return true
}

func (g *Gateway) release(s *stream) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.streams, s)
	g.metrics.streams.Dec()
	g.running.Done()
}

// Stop ends every stream and takes no more. It returns when their goroutines are gone, or with the context's error.
func (g *Gateway) Stop(ctx context.Context) error {
	g.mu.Lock()
	g.stopping = true
	for s := range g.streams {
		s.end(&ending{protocol.CloseGoingAway, "the backend stops"})
	}
	g.mu.Unlock()
	gone := make(chan struct{})
	go func() { g.running.Wait(); close(gone) }() // Ends with the last stream, which has a deadline for everything.
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop streams: %w", ctx.Err())
	}
}

// run is the stream's life. Both of its goroutines are gone when it returns.
func (s *stream) run() {
	g := s.g
	limits := channels.Limits{Items: g.config.QueueEvents, Bytes: g.config.QueueBytes, Topics: g.config.Topics}
	s.sub = g.hub.Attach(limits, false, func() { s.end(&ending{protocol.CloseSlow, "the stream was not read"}) })
	defer s.sub.Close()
	s.here = g.presence.Source()
	defer s.here.Close()
	g.log.Info("stream opened", "remote", s.conn.RemoteAddr().String())
	// Whatever ends the stream must also end a read and a write that are under way.
	// It is waited for, because fasthttp uses the connection's struct again.
	interrupted := make(chan struct{})
	context.AfterFunc(s.life, func() {
		defer close(interrupted)
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
		// A second for what is being written to a healthy edge, so that the close frame is not put into its middle.
		_ = s.conn.NetConn().SetWriteDeadline(time.Now().Add(time.Second))
	})
	var writing sync.WaitGroup
	writing.Go(func() { s.end(s.guard(s.write)) })
	s.end(s.guard(s.read))
	writing.Wait()
	<-interrupted
	cause := context.Cause(s.life)
	if told, ok := errors.AsType[*ending](cause); ok {
		s.close(told)
		g.metrics.closed(told.code)
	} else {
		g.metrics.closed(protocol.CloseNormal)
	}
	g.log.Info("stream closed", "remote", s.conn.RemoteAddr().String(), "err", cause)
}

// guard ends this stream alone if fn panics.
func (s *stream) guard(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.g.log.Error("stream panicked", "panic", p, "stack", string(debug.Stack()))
			err = &ending{protocol.CloseReconnect, "internal_error"}
		}
	}()
	return fn()
}

// close sends the close frame and waits a moment for the edge to take it: closing a socket with unread data in it would
// take the frame back.
func (s *stream) close(e *ending) {
	reason := protocol.MustMarshal(protocol.CloseReason{Reason: e.reason})
	_ = s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(int(e.code), string(reason)), time.Now().Add(time.Second))
	_ = s.conn.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.CopyN(io.Discard, s.conn.NetConn(), 4*maxStreamFrame)
}

// read handles what the edge says until the stream is over, and returns why.
func (s *stream) read() error {
	silence := 3 * s.g.config.Heartbeat
	s.conn.SetReadLimit(maxStreamFrame)
	alive := func() error {
		err := s.conn.SetReadDeadline(time.Now().Add(silence))
		// Looked at after the deadline is set, because the end of life sets another, which must stay.
		if s.life.Err() != nil {
			return context.Cause(s.life)
		}
		return err
	}
	s.conn.SetPongHandler(func(string) error { return alive() })
	s.conn.SetPingHandler(func(data string) error {
		_ = s.conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(s.g.config.WriteTimeout))
		return alive()
	})
	for {
		if err := alive(); err != nil {
			return err
		}
		kind, raw, err := s.conn.ReadMessage()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return &ending{protocol.ClosePingTimeout, "silent for three heartbeats"}
		}
		if errors.Is(err, websocket.ErrReadLimit) {
			return &ending{protocol.CloseTooBig, "a frame is over the limit"} // The library has sent the close frame.
		}
		if err != nil {
			return err
		}
		if kind != websocket.TextMessage {
			return &ending{protocol.CloseUnsupported, "frames are text"}
		}
		var f protocol.StreamFrame
		if err := json.Unmarshal(raw, &f); err != nil {
			return &ending{protocol.CloseProtocol, "a frame is not what the contract says"}
		}
		if err := s.handle(&f); err != nil {
			return err
		}
	}
}

func (s *stream) handle(f *protocol.StreamFrame) error {
	s.g.metrics.frame(f.Type)
	if len(f.Topics) > protocol.MaxStreamTopics {
		return &ending{protocol.CloseProtocol, fmt.Sprintf("more than %d topics in a frame", protocol.MaxStreamTopics)}
	}
	switch f.Type {
	case protocol.StreamSubscribe:
		for i := range f.Topics {
			if !validTopic(f.Topics[i].Topic) {
				return &ending{protocol.CloseProtocol, "subscribe names no topic"}
			}
		}
		err := s.sub.Subscribe(s.life, f.Topics)
		if errors.Is(err, channels.ErrTooMany) {
			return &ending{protocol.CloseProtocol, fmt.Sprintf("more than %d topics", s.g.config.Topics)}
		}
		return err
	case protocol.StreamUnsubscribe:
		for _, t := range f.Topics {
			s.sub.Unsubscribe(t.Topic)
		}
	case protocol.StreamReport:
		return s.here.Report(s.life, f.Present, f.Absent)
	case protocol.StreamPublish:
		for _, ev := range f.Events {
			if ev == nil || !publishable(ev) {
				s.g.metrics.refused.Inc()
				continue
			}
			s.g.hub.Publish(ev)
			s.g.presence.Touch(ev.Except) // the typist
		}
	case protocol.StreamPing:
		select {
		case s.pongs <- f.ID:
		case <-s.life.Done():
			return context.Cause(s.life)
		}
	case protocol.StreamPong:
	default:
		// A newer edge may say more than this backend knows.
		s.g.log.Debug("unknown stream frame", "type", f.Type)
	}
	return nil
}

// validTopic reports whether t can be a topic: an id, or the presence of a user.
func validTopic(t protocol.Topic) bool {
	if user, ok := protocol.PresenceOf(t); ok {
		return protocol.KindOf(protocol.ObjectID(user)) == protocol.KindUser
	}
	return protocol.ValidID(string(t))
}

// publishable reports whether an edge may publish the event: what clients do that leaves no trace (typing), on a
// channel. Presence is told by reports.
func publishable(ev *protocol.Event) bool {
	return ev.Class == protocol.ClassEphemeral && ev.Seq == 0 && ev.Position == 0 && len(ev.Effects) == 0 &&
		protocol.KindOf(protocol.ObjectID(ev.Topic)) == protocol.KindChannel && ev.Type == protocol.FrameUserTyping &&
		len(ev.Payload) > 0 && len(ev.Payload) <= maxEphemeral && ev.Payload[0] == '{' && len(ev.Refs) <= 16 && len(ev.Except) <= protocol.MaxIDLength
}

// write sends what the hub queues, and something at least once per heartbeat, until the stream is over.
func (s *stream) write() error {
	if err := s.hello(); err != nil {
		return err
	}
	heartbeat := time.NewTicker(s.g.config.Heartbeat)
	defer heartbeat.Stop()
	var (
		queue drained
		pings int64
	)
	for {
		var err error
		select {
		case <-s.life.Done():
			return context.Cause(s.life)
		case id := <-s.pongs:
			// What was said before the ping has been done by now, and what it called for is in the queue.
			if err = s.sendQueued(&queue); err == nil {
				err = s.send(&protocol.StreamFrame{Type: protocol.StreamPong, ID: id})
			}
		case <-heartbeat.C:
			pings++
			err = s.send(&protocol.StreamFrame{Type: protocol.StreamPing, ID: pings})
		case <-s.sub.Wake():
			err = s.sendQueued(&queue)
		}
		if err != nil {
			return err
		}
	}
}

// drained is the writer's memory between two looks into the queue.
type drained struct {
	items []channels.Item   // used again
	said  protocol.Position // the last watermark
}

// sendQueued sends what the hub has queued, and the watermark that holds then.
func (s *stream) sendQueued(q *drained) error {
	items, watermark, err := s.sub.Drain(q.items)
	if err != nil {
		return err
	}
	q.items = items
	// After an answer to a subscription the watermark is said again, even if it stands: it tells that the replay is
	// through.
	again := slices.ContainsFunc(items, func(it channels.Item) bool { return it.Kind != channels.ItemEvent })
	if err := s.sendItems(items); err != nil {
		return err
	}
	if watermark <= q.said && !again {
		return nil
	}
	q.said = watermark
	return s.send(&protocol.StreamFrame{Type: protocol.StreamWatermark, Position: watermark})
}

// hello reads where the log begins and ends, and says so.
func (s *stream) hello() error {
	f := &protocol.StreamFrame{
		Type: protocol.StreamHello, Version: protocol.UpstreamVersion, HeartbeatMS: int(s.g.config.Heartbeat.Milliseconds()),
	}
	err := s.g.store.View(s.life, func(r store.Reader) (err error) {
		if f.Position, err = r.Position(); err != nil {
			return err
		}
		f.ReplayFrom, err = r.ReplayFrom()
		return err
	})
	if err != nil {
		return fmt.Errorf("read the log's ends: %w", err)
	}
	return s.send(f)
}

// sendItems sends items in order, runs of events in frames of up to frameBytes.
func (s *stream) sendItems(items []channels.Item) error {
	const open, shut = `{"type":"events","events":[`, `]}`
	var frame []byte
	flush := func() error {
		if len(frame) == 0 {
			return nil
		}
		err := s.sendRaw(append(frame, shut...))
		frame = frame[:0]
		return err
	}
	for i := range items {
		it := &items[i]
		var err error
		switch it.Kind {
		case channels.ItemEvent:
			if !it.Live() {
				continue
			}
			s.g.metrics.sent.Inc()
			if len(frame) == 0 {
				frame = append(frame, open...)
			} else {
				frame = append(frame, ',')
			}
			if frame = append(frame, it.Entry.JSON()...); len(frame) >= frameBytes {
				err = flush()
			}
		case channels.ItemSubscribed, channels.ItemReset:
			if err = flush(); err != nil {
				return err
			}
			kind := protocol.StreamSubscribed
			if it.Kind == channels.ItemReset {
				kind = protocol.StreamReset
			}
			err = s.send(&protocol.StreamFrame{Type: kind, Topics: it.Topics})
		}
		if err != nil {
			return err
		}
	}
	return flush()
}

func (s *stream) send(f *protocol.StreamFrame) error { return s.sendRaw(protocol.MustMarshal(f)) }

func (s *stream) sendRaw(frame []byte) error {
	if s.life.Err() != nil {
		return context.Cause(s.life)
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.g.config.WriteTimeout))
	return s.conn.WriteMessage(websocket.TextMessage, frame)
}
