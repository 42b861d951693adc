package client

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fasthttp/websocket"
	"golang.org/x/time/rate"

	"flannel/protocol"
)

const (
	// writeWait bounds one write: a server that takes longer is gone.
	writeWait = 10 * time.Second
	// closeWait bounds the goodbye: the server that should hear it may be gone.
	closeWait = time.Second
	// The server takes 50 frames a second and 500 at once; a little less never meets that limit.
	frameRate, frameBurst = 40, 400
	// compressFrom is how long a frame is at least that is compressed, if that was agreed on: what is shorter does not win much.
	compressFrom = 1 << 10
	// maxRead bounds a frame of the server: the largest boot of 148,170 users has 1 MB.
	maxRead = 64 << 20
)

// conn is one socket. One goroutine reads, and one writes; everybody else asks with request or post.
type conn struct {
	ws   *websocket.Conn
	ping time.Duration
	// want returns the frames that tell the server what the client wants of it and what it was not told yet. It is called
	// by write only.
	want func() [][]byte
	out  chan []byte   // frames; 64, so that a burst of queries is handed over at once; never closed
	poke chan struct{} // want has something; capacity 1; never closed
	done chan struct{} // closed when the socket is over

	token      atomic.Pointer[string] // what the session goes by
	refreshing atomic.Bool            // a new token is on its way to the server

	mu      sync.Mutex
	cause   error                // why it is over; nil while it is not
	failed  error                // of the writer
	until   time.Time            // how long the reader may go on then
	waiting map[int64]chan frame // by id; each of capacity 1
}

func newConn(ws *websocket.Conn, ping time.Duration, want func() [][]byte) *conn {
	ws.SetReadLimit(maxRead)
	return &conn{
		ws: ws, ping: ping, want: want, out: make(chan []byte, 64), poke: make(chan struct{}, 1), done: make(chan struct{}),
		waiting: make(map[int64]chan frame),
	}
}

// end gives the socket up; the first cause counts. It does not block: the reader and the writer see it.
func (c *conn) end(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return
	}
	c.cause = cause
	close(c.done)
	c.ws.NetConn().SetReadDeadline(time.Now()) //nolint:errcheck // The reader sees it, or has gone.
}

func (c *conn) over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// unwritable is for the writer when it cannot go on. The server may have said why, which is worth more: the reader has a
// moment to get there.
func (c *conn) unwritable(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed, c.until = err, time.Now().Add(closeWait)
	if c.cause == nil {
		c.ws.SetReadDeadline(c.until) //nolint:errcheck // The reader sees it.
	}
}

// patience sets how long the next read may take.
func (c *conn) patience(silence time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.cause != nil:
		return c.cause
	case c.failed != nil:
		return nil // Its deadline stands.
	}
	return c.ws.SetReadDeadline(time.Now().Add(silence))
}

// read returns the next frame. silence is how long the server may say nothing. When the socket is over it returns why.
func (c *conn) read(silence time.Duration) (frame, error) {
	if err := c.patience(silence); err != nil {
		c.end(err)
		return frame{}, c.why()
	}
	kind, raw, err := c.ws.ReadMessage()
	switch {
	case err != nil:
		c.end(c.reason(err))
	case kind != websocket.TextMessage:
		c.end(ErrMalformed)
	default:
		f, err := parse(raw)
		if err == nil {
			return f, nil
		}
		c.end(err)
	}
	return frame{}, c.why()
}

// reason finds out why reading has ended.
func (c *conn) reason(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		if c.failed != nil {
			return c.failed
		}
		return errSilent
	}
	return closeError(err)
}

func (c *conn) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// write writes until the socket is over. It is the one place that does, but for the library's own control frames.
func (c *conn) write(ctx context.Context) {
	defer c.ws.Close() //nolint:errcheck // Whatever it says, the socket is over.
	pace := rate.NewLimiter(frameRate, frameBurst)
	tick := time.NewTicker(c.ping)
	defer tick.Stop()
	for n := 1; ; {
		var frames [][]byte
		select {
		case f := <-c.out:
			frames = append(frames, f)
		case <-c.poke:
			frames = c.want()
		case <-tick.C:
			frames = append(frames, strconv.AppendInt([]byte(`{"type":"ping","time":`), int64(n), 10))
			frames[0] = append(frames[0], '}')
			n++
		case <-c.done:
			c.bye()
			return
		}
		for _, f := range frames {
			if pace.Wait(ctx) != nil {
				break // The client ends, and with it the socket.
			}
			c.ws.SetWriteDeadline(time.Now().Add(writeWait)) //nolint:errcheck // The write says it.
			c.ws.EnableWriteCompression(len(f) >= compressFrom)
			if err := c.ws.WriteMessage(websocket.TextMessage, f); err != nil {
				c.unwritable(err)
				<-c.done
				return
			}
		}
	}
}

// bye says what ends the socket, if the server can still hear it.
func (c *conn) bye() {
	code := websocket.CloseNormalClosure
	if errors.Is(c.why(), ErrMalformed) {
		code = websocket.CloseProtocolError
	}
	c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(closeWait)) //nolint:errcheck // As above.
}

// post hands a frame to the writer.
func (c *conn) post(ctx context.Context, f []byte) error {
	select {
	case c.out <- f:
		return nil
	case <-c.done:
		return errLost
	case <-ctx.Done():
		return ctx.Err()
	}
}

// try hands a frame to the writer if there is room.
func (c *conn) try(f []byte) {
	select {
	case c.out <- f:
	default:
	}
}

// tell makes the writer look what is wanted.
func (c *conn) tell() {
	select {
	case c.poke <- struct{}{}:
	default: // It will look, and find the latest.
	}
}

// request sends a frame with that id and waits for its answer. errLost: there will be none on this socket.
func (c *conn) request(ctx context.Context, id int64, f []byte) (frame, error) {
	answer := make(chan frame, 1)
	c.mu.Lock()
	if c.cause != nil {
		c.mu.Unlock()
		return frame{}, errLost
	}
	c.waiting[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()
	if err := c.post(ctx, f); err != nil {
		return frame{}, err
	}
	select {
	case f := <-answer:
		return f, nil
	case <-c.done:
		select {
		case f := <-answer: // It came before the end.
			return f, nil
		default:
			return frame{}, errLost
		}
	case <-ctx.Done():
		return frame{}, ctx.Err()
	}
}

// answered passes an answer on. Nobody waits for answers to what was given up.
func (c *conn) answered(f frame) {
	c.mu.Lock()
	answer := c.waiting[f.reply]
	delete(c.waiting, f.reply)
	c.mu.Unlock()
	if answer != nil {
		answer <- f
	}
}

// socketFrame encodes a frame with an id. It fails for what is over the server's limit.
func socketFrame(v any) ([]byte, error) {
	b, err := protocol.Marshal(v)
	if err == nil && len(b) > protocol.MaxFrame {
		err = errTooLarge
	}
	return b, err
}
