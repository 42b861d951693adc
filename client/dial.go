package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fasthttp/websocket"

	"flannel/protocol"
)

// handshakeTimeout bounds the opening of a socket up to its hello: a node that boots under load takes some seconds.
const handshakeTimeout = 30 * time.Second

// opening is what a socket's address says.
type opening struct {
	at     base
	token  string
	resume string
	view   []protocol.ChannelID
	boot   bool
}

// address returns the socket's address. The token is not in it.
func (o *opening) address(exclude []string) string {
	q := url.Values{
		"flannel": {protocol.ThinVersion}, "lazy_channels": {"1"}, "batch_presence_aware": {"1"},
	}
	if o.boot {
		q.Set("boot", "1")
	}
	if o.resume != "" {
		q.Set("resume", o.resume)
	}
	if len(o.view) > 0 {
		ids := make([]string, len(o.view))
		for i, id := range o.view {
			ids[i] = string(id)
		}
		q.Set("view", strings.Join(ids, ","))
	}
	if len(exclude) > 0 {
		q.Set("exclude_events", strings.Join(exclude, ","))
	}
	return o.at.address("ws") + "/?" + q.Encode()
}

// dial opens a socket. A refusal is a *HandshakeError.
func (c *Client) dial(ctx context.Context, o *opening) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	header := http.Header{"Authorization": {"Bearer " + o.token}}
	ws, resp, err := c.dialer.DialContext(ctx, o.address(c.opt.Exclude), header)
	if err == nil {
		return ws, nil
	}
	if resp != nil {
		body, readErr := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // The dialer keeps no more than 1 KiB.
		if readErr == nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, handshakeError(resp, body)
		}
	}
	return nil, fmt.Errorf("open socket at %s: %w", o.at.host, err)
}
