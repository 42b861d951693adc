package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/fasthttp/websocket"

	"flannel/protocol"
)

// defaultHeartbeat is for a backend that names none.
const defaultHeartbeat = 10 * time.Second

// minHeartbeat keeps a backend from making this node busy with pings.
const minHeartbeat = 100 * time.Millisecond

// link is one websocket to the backend: a reader that decodes ahead of the stream's loop, and a writer.
type link struct {
	conn      *websocket.Conn
	hello     protocol.StreamFrame
	heartbeat time.Duration
	timeout   time.Duration // of one write

	arrived *inbox // what was read, for the loop
	// failed carries why the reader and the writer ended. Capacity 2: one each. Never closed.
	failed chan ending
	// pongs carries ids to the writer. Capacity 16: the backend pings once per heartbeat; more are not answered.
	pongs chan int64
	// pings carries the ids of barriers to the writer. Capacity 1: one is out at a time. Never closed.
	pings chan int64
	// ended is closed by stop.
	ended chan struct{}
	wg    sync.WaitGroup
}

// connect opens the stream and reads the backend's hello. The link is nil if that fails.
func (u *Upstream) connect(ctx context.Context) (*link, ending) {
	opening, cancel := context.WithTimeout(ctx, u.cfg.HelloTimeout)
	defer cancel()
	// Reading does not look at contexts; closing the connection does for it.
	var guards []func() bool
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		raw, err := u.dial(ctx, network, address)
		if err == nil {
			guards = append(guards, context.AfterFunc(opening, func() { _ = raw.Close() }))
		}
		return raw, err
	}
	// No compression: between a node and its backend bandwidth is cheaper than the work.
	dialer := websocket.Dialer{NetDialContext: dial, NetDialTLSContext: dial, HandshakeTimeout: u.cfg.HelloTimeout, ReadBufferSize: 64 << 10, WriteBufferSize: 16 << 10}
	conn, resp, err := dialer.DialContext(opening, u.streamURL, http.Header{"Authorization": {"Bearer " + u.cfg.Key}, "User-Agent": {"flannel"}})
	if err != nil {
		if resp != nil && (resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden) {
			u.log.Error("the backend refuses this node's key", "status", resp.StatusCode)
		}
		return nil, ending{endDial, err}
	}
	c := &link{
		conn: conn, timeout: u.cfg.WriteTimeout,
		arrived: newInbox(), failed: make(chan ending, 2),
		pongs: make(chan int64, 16), pings: make(chan int64, 1), ended: make(chan struct{}),
	}
	conn.SetReadLimit(int64(u.cfg.MaxFrameBytes))
	_ = conn.SetReadDeadline(time.Now().Add(u.cfg.HelloTimeout))
	_, end := c.read(&c.hello)
	switch {
	case end.err != nil:
	case c.hello.Type != protocol.StreamHello:
		end.err = fmt.Errorf("the first frame is %q", c.hello.Type)
	case c.hello.Version != protocol.UpstreamVersion && c.hello.Version != 0:
		end.err = fmt.Errorf("the backend speaks version %d, this node %d", c.hello.Version, protocol.UpstreamVersion)
	}
	for _, stop := range guards {
		if !stop() && end.err == nil {
			end.err = context.Cause(opening)
		}
	}
	if end.err != nil {
		_ = conn.Close()
		return nil, ending{endHello, end.err}
	}
	countFrame(u.metrics.framesIn, protocol.StreamHello)
	u.replayFrom.Store(uint64(c.hello.ReplayFrom))
	c.heartbeat = time.Duration(c.hello.HeartbeatMS) * time.Millisecond
	if c.heartbeat <= 0 {
		c.heartbeat = defaultHeartbeat
	}
	c.heartbeat = min(max(c.heartbeat, minHeartbeat), u.cfg.HeartbeatMax)
	return c, ending{}
}

// start begins reading and writing.
func (c *link) start(u *Upstream) {
	c.wg.Go(c.readLoop)
	c.wg.Go(func() { c.writeLoop(u) })
}

// stop says goodbye, closes the connection and waits for reader and writer.
func (c *link) stop() {
	close(c.ended)
	goodbye := websocket.FormatCloseMessage(websocket.CloseGoingAway, "")
	// The peer may be gone or stuck; it gets a moment, no more.
	_ = c.conn.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(100*time.Millisecond))
	_ = c.conn.Close()
	c.wg.Wait()
}

func (c *link) readLoop() {
	// Three heartbeats of silence are the end, whether the peer is gone or only the network between.
	patience := 3 * c.heartbeat
	for {
		_ = c.conn.SetReadDeadline(time.Now().Add(patience))
		var f protocol.StreamFrame
		size, end := c.read(&f)
		if end.err != nil {
			c.failed <- end
			return
		}
		if !c.arrived.put(&f, size, c.ended) {
			return
		}
	}
}

// read reads one frame, of size bytes, and says why it cannot.
func (c *link) read(f *protocol.StreamFrame) (size int, end ending) {
	kind, raw, err := c.conn.ReadMessage()
	var silence net.Error
	switch {
	case err == nil && kind != websocket.TextMessage:
		return 0, ending{endFrame, errors.New("the frame is not text")}
	case err == nil:
		if err = json.Unmarshal(raw, f); err != nil {
			return 0, ending{endFrame, err}
		}
		return len(raw), ending{}
	case errors.Is(err, websocket.ErrReadLimit):
		return 0, ending{endFrame, err}
	case errors.As(err, &silence) && silence.Timeout():
		return 0, ending{endSilent, err}
	default:
		return 0, ending{endClosed, err}
	}
}

// pong answers a ping, or not if there are too many.
func (c *link) pong(id int64) {
	select {
	case c.pongs <- id:
	default:
	}
}

// ping sends a ping soon. A watermark may have overtaken the one before; then that one is not needed any more.
func (c *link) ping(id int64) {
	select {
	case <-c.pings:
	default:
	}
	c.pings <- id
}

func (c *link) writeLoop(u *Upstream) {
	beat := time.NewTicker(c.heartbeat)
	defer beat.Stop()
	beats := int64(0)
	// On a new stream everybody who is present is told at once.
	gather := time.NewTimer(0)
	defer gather.Stop()
	due := false
	for {
		for _, f := range u.outgoing(due) {
			if !c.write(u, f) {
				return
			}
		}
		due = false
		var f protocol.StreamFrame
		select {
		case <-u.wake:
			continue
		case <-u.report:
			gather.Reset(gatherFor)
			continue
		case <-gather.C:
			due = true
			continue
		case id := <-c.pongs:
			f = protocol.StreamFrame{Type: protocol.StreamPong, ID: id}
		case <-beat.C:
			beats++
			u.lag.sent(beats, time.Now())
			f = protocol.StreamFrame{Type: protocol.StreamPing, ID: beats}
		case id := <-c.pings:
			f = protocol.StreamFrame{Type: protocol.StreamPing, ID: id}
		case <-c.ended:
			return
		}
		if !c.write(u, f) {
			return
		}
	}
}

// outgoing takes what is to be sent next; more may be waiting, and then the writer has been reminded. Who is present is told
// when reports are due.
func (u *Upstream) outgoing(reports bool) []protocol.StreamFrame {
	var frames []protocol.StreamFrame
	u.mu.Lock()
	defer u.mu.Unlock()
	drop, subscribe := u.table.take(time.Now(), protocol.MaxStreamTopics)
	if len(drop) > 0 {
		frames = append(frames, protocol.StreamFrame{Type: protocol.StreamUnsubscribe, Topics: drop})
	}
	if len(subscribe) > 0 {
		frames = append(frames, protocol.StreamFrame{Type: protocol.StreamSubscribe, Topics: subscribe})
	}
	// A report has no limit in the contract; the one for topics keeps frames as small.
	if reports {
		present, absent := u.present.take(protocol.MaxStreamTopics)
		if u.gathering = len(present)+len(absent) == protocol.MaxStreamTopics; u.gathering { // There may be more.
			u.remind()
		}
		if len(present)+len(absent) > 0 {
			frames = append(frames, protocol.StreamFrame{Type: protocol.StreamReport, Present: present, Absent: absent})
		}
	}
	if events := u.outbox.take(); len(events) > 0 {
		frames = append(frames, protocol.StreamFrame{Type: protocol.StreamPublish, Events: events})
	}
	if len(frames) > 0 {
		u.nudge()
	}
	return frames
}

func (c *link) write(u *Upstream, f protocol.StreamFrame) bool {
	raw, err := protocol.Marshal(f)
	if err == nil {
		_ = c.conn.SetWriteDeadline(time.Now().Add(c.timeout))
		err = c.conn.WriteMessage(websocket.TextMessage, raw)
	}
	if err != nil {
		c.failed <- ending{endWrite, err}
		return false
	}
	countFrame(u.metrics.framesOut, f.Type)
	return true
}

// lag measures how long the stream's round trip takes: what is behind in the backend's queue or in this node's makes
// the answer to a ping late too.
type lag struct {
	mu     sync.Mutex
	id     int64 // of the ping that is out, 0 if none
	since  time.Time
	last   time.Duration
	isDown bool
	downAt time.Time
}

func (l *lag) sent(id int64, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id == 0 {
		l.id, l.since = id, now
	}
}

func (l *lag) back(id int64, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id != 0 && id >= l.id {
		l.last, l.id = now.Sub(l.since), 0
	}
}

func (l *lag) up() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isDown, l.id, l.last = false, 0, 0
}

func (l *lag) down(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isDown, l.downAt = true, now
}

// seconds is the last round trip, or how long the present one has been out if that is more; while the stream is down,
// how long it has been.
func (l *lag) seconds(now time.Time) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.isDown:
		return now.Sub(l.downAt).Seconds()
	case l.id != 0:
		return max(l.last, now.Sub(l.since)).Seconds()
	default:
		return l.last.Seconds()
	}
}
