package rtm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
	"golang.org/x/time/rate"

	"flannel/backend/channels"
	"flannel/backend/presence"
	"flannel/backend/token"
	"flannel/protocol"
)

const (
	// pingEvery is when the server pings, plus up to pingSpread: at least every 30 s, as clients insist.
	pingEvery  = 25 * time.Second
	pingSpread = 4 * time.Second
	// silence is how long a client may say nothing, not even pong: two pings and some more.
	silence = 75 * time.Second
	// reconnectEvery is how often reconnect_url is sent; seen in the wild.
	reconnectEvery = 180 * time.Second
	// writeTimeout bounds writing one frame.
	writeTimeout = 10 * time.Second
	// callTimeout bounds a write that a frame asks for.
	callTimeout = 30 * time.Second

	// messageBurst messages may come at once, then one a second: the dialect's rate.
	messageBurst = 30
	// A client may send frameRate frames a second, and frameBurst at once, whatever they are: far above what programs
	// send, far below what hurts.
	frameRate, frameBurst = 50, 500
	// typingBurst and typingEvery: the dialect's one in three seconds, for several channels.
	typingBurst = 3
	typingEvery = 3 * time.Second
)

// session is one client's socket.
type session struct {
	*Server
	api    API
	conn   *websocket.Conn
	ticket ticket
	batch  bool // presence changes of several users in one frame
	token  string
	remote string
	sub    *channels.Subscriber
	here   *presence.Source
	// life ends with the session; the cause says why.
	life context.Context
	end  context.CancelCauseFunc

	// Owned by the reader.
	messages, frames, typing *rate.Limiter
	watched                  map[protocol.UserID]struct{} // presence_sub

	// Owned by the writer.
	id protocol.Identity
	// scopes are the workspaces that are followed; true for those whose public things the user sees.
	scopes map[protocol.Topic]bool
}

// ending is why this side ends a session: it is told in the close frame.
type ending struct {
	code    protocol.CloseCode
	reason  string
	goodbye bool // said before
}

func (e *ending) Error() string { return fmt.Sprintf("%s: %s", e.code, e.reason) }

func newSession(s *Server, api API, conn *websocket.Conn, t ticket, remote string) *session {
	x := &session{
		Server: s, api: api, conn: conn, ticket: t, batch: t.batch, remote: remote, id: t.id,
		messages: rate.NewLimiter(1, messageBurst), frames: rate.NewLimiter(frameRate, frameBurst),
		typing:  rate.NewLimiter(rate.Every(typingEvery), typingBurst),
		watched: make(map[protocol.UserID]struct{}), scopes: make(map[protocol.Topic]bool),
	}
	x.life, x.end = context.WithCancelCause(context.Background())
	return x
}

// run is the session's life. Both of its goroutines are gone when it returns.
func (x *session) run() {
	limits := channels.Limits{Items: x.Config.QueueItems, Bytes: x.Config.QueueBytes, Topics: 1 << 20} // As many as the user has.
	x.sub = x.Hub.Attach(limits, true, func() { x.end(&ending{code: protocol.CloseSlow, reason: "the socket was not read"}) })
	defer x.sub.Close()
	x.here = x.Presence.Source()
	defer x.here.Close()
	// Whatever ends the session must also end a read and a write that are under way.
	// It is waited for, because fasthttp uses the connection's struct again.
	interrupted := make(chan struct{})
	context.AfterFunc(x.life, func() {
		defer close(interrupted)
		_ = x.conn.SetReadDeadline(time.Unix(1, 0))
		// A second for what is being written to a healthy client, so that the close frame is not put into its middle.
		_ = x.conn.NetConn().SetWriteDeadline(time.Now().Add(time.Second))
	})
	if x.id.Expires > 0 {
		left := time.Unix(x.id.Expires, 0).Sub(x.Now())
		expiry := time.AfterFunc(left, func() { x.end(&ending{code: protocol.CloseTokenExpired, reason: "the token has expired"}) })
		defer expiry.Stop()
	}
	if err := x.guard(x.begin); err != nil && x.life.Err() == nil {
		x.Log.Error("socket session could not begin", "err", err)
		x.end(&ending{code: protocol.CloseReconnect, reason: "internal_error"})
	}
	var writing sync.WaitGroup
	writing.Go(func() { x.end(x.guard(x.write)) })
	x.end(x.guard(x.read))
	writing.Wait()
	<-interrupted

	code := protocol.CloseNormal
	if told, ok := errors.AsType[*ending](context.Cause(x.life)); ok {
		code = told.code
		if told.goodbye {
			_ = x.send([]byte(`{"type":"goodbye"}`))
		}
		x.close(told)
	}
	x.metrics.closed(code)
	x.Log.Debug("socket closed", "user", x.id.User, "remote", x.remote, "code", code.String(), "err", context.Cause(x.life))
}

// guard ends this session alone if fn panics.
func (x *session) guard(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			x.Log.Error("socket session panicked", "panic", p, "stack", string(debug.Stack()))
			err = &ending{code: protocol.CloseReconnect, reason: "internal_error"}
		}
	}()
	return fn()
}

// begin makes the token for the session's calls, reads what the session has to follow, and follows it.
func (x *session) begin() error {
	claims := token.Claims{
		ID: x.id.Token, User: x.id.User, Workspace: x.id.Workspace, Enterprise: x.id.Enterprise, Role: x.id.Role,
		Issued: x.Now().Unix(), Expires: x.id.Expires,
	}
	var err error
	if x.token, err = x.Tokens.Issue(claims); err != nil {
		return err
	}
	x.sub.Push(protocol.MustMarshal(protocol.Hello{
		Type: protocol.FrameHello, Start: true, HostID: x.HostID,
		Reconnect: protocol.Reconnect{MinMS: 500, MaxMS: 30_000, StableMS: 10_000, Jitter: "full"}, // half a second to half a minute
	}))
	if err := x.followAll(); err != nil {
		return fmt.Errorf("follow topics of user %q: %w", x.id.User, err)
	}
	return x.here.Report(x.life, []protocol.UserID{x.id.User}, nil)
}

// refuse tells why there is no session.
func (x *session) refuse(code protocol.CloseCode, number int, msg string) {
	_ = x.send(protocol.MustMarshal(protocol.ErrorFrame{Type: protocol.FrameError, Error: protocol.SocketError{Code: number, Msg: msg}}))
	x.close(&ending{code: code, reason: msg})
}

// close sends the close frame and waits a moment for the client to take it: closing a socket with unread data in it
// would take the frame back.
func (x *session) close(e *ending) {
	reason := protocol.MustMarshal(protocol.CloseReason{Reason: e.reason})
	_ = x.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(int(e.code), string(reason)), x.deadline(time.Second))
	x.linger()
}

// linger reads what the client still says, for a second.
func (x *session) linger() {
	_ = x.conn.SetReadDeadline(x.deadline(time.Second))
	_, _ = io.CopyN(io.Discard, x.conn.NetConn(), 1<<20) // A client that goes on sending has had its chance.
}

// deadline is for the network, which knows no other clock.
func (x *session) deadline(d time.Duration) time.Time { return time.Now().Add(d) }

// read does what the client's frames ask until the session is over, and returns why.
func (x *session) read() error {
	x.conn.SetReadLimit(protocol.MaxFrame)
	alive := func() error {
		err := x.conn.SetReadDeadline(x.deadline(silence))
		// Looked at after the deadline is set, because the end of life sets another, which must stay.
		if x.life.Err() != nil {
			return context.Cause(x.life)
		}
		return err
	}
	x.conn.SetPongHandler(func(string) error { return alive() })
	x.conn.SetPingHandler(func(data string) error {
		_ = x.conn.WriteControl(websocket.PongMessage, []byte(data), x.deadline(writeTimeout))
		return alive()
	})
	for {
		if err := alive(); err != nil {
			return err
		}
		kind, raw, err := x.conn.ReadMessage()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return &ending{code: protocol.ClosePingTimeout, reason: "no answer to pings"}
		case errors.Is(err, websocket.ErrReadLimit):
			x.linger() // The library has sent the close frame.
			return &ending{code: protocol.CloseTooBig, reason: "frames have at most 16 KB"}
		case err != nil:
			return x.broken(err)
		case kind != websocket.TextMessage:
			return &ending{code: protocol.CloseUnsupported, reason: "frames are text"}
		}
		if !x.frames.AllowN(x.Now(), 1) {
			return &ending{code: protocol.CloseTooFast, reason: "too many frames"}
		}
		if err := x.handle(raw); err != nil {
			return err
		}
	}
}

// broken sorts out why reading failed. The library has answered bad frames itself, with the right code.
func (x *session) broken(err error) error {
	var closed *websocket.CloseError
	if errors.As(err, &closed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	x.linger()
	return err
}

// write sends what stands in the queue, and pings, until the session is over.
func (x *session) write() error {
	ping := time.NewTicker(pingEvery + rand.N(pingSpread))
	defer ping.Stop()
	reconnect := time.NewTicker(reconnectEvery)
	defer reconnect.Stop()
	var items []channels.Item
	for {
		var err error
		select {
		case <-x.life.Done():
			return context.Cause(x.life)
		case <-ping.C:
			err = x.conn.WriteControl(websocket.PingMessage, nil, x.deadline(writeTimeout))
		case <-reconnect.C:
			err = x.sendReconnectURL()
		case <-x.sub.Wake():
			if items, _, err = x.sub.Drain(items); err == nil {
				err = x.deliver(items)
			}
		}
		if err != nil {
			return err
		}
	}
}

func (x *session) sendReconnectURL() error {
	t := x.ticket
	t.fresh = true // By then the client has seen what happened until now.
	address, err := x.address(t, reconnectLife)
	if err != nil {
		return nil //nolint:nilerr // There is another one in three minutes.
	}
	return x.send(protocol.MustMarshal(struct {
		Type string `json:"type"`
		URL  string `json:"url"`
	}{protocol.FrameReconnectURL, address}))
}

// send writes one frame. Only the writer calls it, and run when there is no writer.
func (x *session) send(frame []byte) error {
	_ = x.conn.SetWriteDeadline(x.deadline(writeTimeout))
	return x.conn.WriteMessage(websocket.TextMessage, frame)
}
