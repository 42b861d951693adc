package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fasthttp/websocket"

	"flannel/protocol"
)

// welcomeWithin bounds one attempt: opening a socket and all that is said first.
const welcomeWithin = 45 * time.Second

// dialer opens sockets with small buffers: there are thousands of them.
var dialer = websocket.Dialer{
	NetDialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, HandshakeTimeout: 20 * time.Second,
	ReadBufferSize: 1 << 10, WriteBufferSize: 256, WriteBufferPool: &sync.Pool{},
}

// thinDoor opens thin sockets at an edge with boot and counts in them.
func thinDoor(edge string) door {
	base := "ws" + strings.TrimPrefix(edge, "http") + "/?flannel=" + protocol.ThinVersion + "&boot=1&token="
	return func(ctx context.Context, p Person) (*websocket.Conn, time.Duration, error) {
		return welcomed(ctx, base+url.QueryEscape(p.Token), protocol.FrameCounts)
	}
}

// fullDoor opens sockets as clients without flannel do: a full boot, then the socket that it names.
type fullDoor struct {
	base          string
	calls, starts atomic.Int64
}

func (d *fullDoor) open(ctx context.Context, p Person) (*websocket.Conn, time.Duration, error) {
	client := newCaller(p.Token)
	defer client.close()
	d.calls.Add(1)
	d.starts.Add(1)
	body, _, err := client.call(ctx, d.base, "rtm.start", nil)
	if err != nil {
		return nil, 0, err
	}
	// The address comes first; the rest is the workspace.
	var head struct {
		URL string `json:"url"`
	}
	if end := bytes.IndexByte(body, ','); end > 0 {
		rest := bytes.IndexByte(body[end+1:], ',')
		if rest > 0 {
			json.Unmarshal(append(bytes.Clone(body[:end+1+rest]), '}'), &head) //nolint:errcheck // An empty address says it.
		}
	}
	if head.URL == "" {
		return nil, 0, errors.New("rtm.start has no url in front")
	}
	d.calls.Add(1)
	return welcomed(ctx, head.URL, protocol.FrameHello)
}

// welcomed opens a socket and reads until a frame of the type that says: you are back.
func welcomed(ctx context.Context, address, until string) (conn *websocket.Conn, wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, welcomeWithin)
	defer cancel()
	conn, resp, err := dialer.DialContext(ctx, address, nil)
	if err != nil {
		if resp != nil {
			resp.Body.Close() //nolint:errcheck // Only its header counts.
			seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
			return nil, time.Duration(seconds) * time.Second, fmt.Errorf("open a socket: status %d", resp.StatusCode)
		}
		return nil, 0, fmt.Errorf("open a socket: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.NetConn().Close() }) //nolint:errcheck // The reader sees it.
	defer stop()
	want := []byte(`{"type":"` + until + `"`)
	head := make([]byte, len(want))
	for {
		_, r, err := conn.NextReader()
		if err == nil {
			_, err = io.ReadFull(r, head)
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
				continue // a frame shorter than that
			}
		}
		if err != nil {
			conn.Close() //nolint:errcheck // It has ended.
			return nil, comeBack(err), fmt.Errorf("read a socket: %w", err)
		}
		if bytes.Equal(head, want) {
			if _, err := io.Copy(io.Discard, r); err != nil {
				conn.Close() //nolint:errcheck // It has ended.
				return nil, 0, fmt.Errorf("read a socket: %w", err)
			}
			return conn, 0, nil
		}
	}
}

// comeBack is when the close frame said.
func comeBack(err error) time.Duration {
	closed, ok := errors.AsType[*websocket.CloseError](err)
	if !ok {
		return 0
	}
	var reason protocol.CloseReason
	if json.Unmarshal([]byte(closed.Text), &reason) != nil {
		return 0
	}
	return time.Duration(reason.RetryMS) * time.Millisecond
}
