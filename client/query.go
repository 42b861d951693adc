package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"flannel/protocol"
)

// Query asks the edge query API, such as "users/search", and decodes the answer into answer, which may be nil. It goes
// over the socket: it waits for a connection, and is asked again if the connection is lost meanwhile. What the server
// refuses is a *protocol.Error.
func (c *Client) Query(ctx context.Context, method string, args, answer any) error {
	id := c.lastID.Add(1)
	f, err := socketFrame(struct {
		ID     int64  `json:"id"`
		Type   string `json:"type"`
		Method string `json:"method"`
		Args   any    `json:"args"`
	}{id, protocol.FrameQuery, method, args})
	var raw []byte
	switch {
	case errors.Is(err, errTooLarge):
		raw, err = c.queryHTTP(ctx, method, args)
	case err == nil:
		raw, err = c.request(ctx, id, f)
	}
	if err == nil {
		err = errorOf(raw)
	}
	if err == nil && answer != nil {
		err = json.Unmarshal(raw, answer)
	}
	if err != nil {
		return fmt.Errorf("query %s: %w", method, err)
	}
	return nil
}

// request sends a frame until it is answered. The frame must be safe to send again.
func (c *Client) request(ctx context.Context, id int64, f []byte) ([]byte, error) {
	for {
		socket, err := c.connected(ctx)
		if err != nil {
			return nil, err
		}
		answer, err := socket.request(ctx, id, f)
		if !errors.Is(err, errLost) {
			return answer.raw, err
		}
	}
}

// queryHTTP is for queries that do not fit into a frame.
func (c *Client) queryHTTP(ctx context.Context, method string, args any) ([]byte, error) {
	body, err := protocol.Marshal(args)
	if err != nil {
		return nil, err
	}
	return c.post(ctx, "/cache/"+method, "application/json", body)
}

// Call makes a Web API call, such as "conversations.history", and decodes the answer into answer, which may be nil. What
// the server refuses is a *protocol.Error, whose Retry says when to try again. Nothing is tried again here: a call may
// have been done though its answer is lost.
func (c *Client) Call(ctx context.Context, method string, args protocol.Args, answer any) error {
	form := make(url.Values, len(args))
	for name, v := range args {
		form.Set(name, v)
	}
	raw, err := c.post(ctx, "/api/"+method, "application/x-www-form-urlencoded", []byte(form.Encode()))
	if err == nil {
		err = errorOf(raw)
	}
	if err == nil && answer != nil {
		err = json.Unmarshal(raw, answer)
	}
	if err != nil {
		return fmt.Errorf("call %s: %w", method, err)
	}
	return nil
}

// post returns the body of an answer of the dialect.
func (c *Client) post(ctx context.Context, path, contentType string, body []byte) ([]byte, error) {
	if c.life.Err() != nil {
		return nil, ErrClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.life, func() { cancel(ErrClosed) })()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.address("http")+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.currentToken())
	req.Header.Set("Content-Type", contentType)
	resp, err := c.http.Do(req)
	if err != nil {
		if errors.Is(context.Cause(ctx), ErrClosed) {
			err = ErrClosed
		}
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // Read to the end, or given up.
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxRead))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK && json.Valid(raw) {
		if retry := retryAfter(resp.Header); retry > 0 {
			return nil, refused(raw, retry)
		}
		return raw, nil
	}
	if strings.Contains(resp.Header.Get("Content-Type"), "json") && json.Valid(raw) {
		return nil, refused(raw, retryAfter(resp.Header))
	}
	return nil, handshakeError(resp, raw)
}

// refused is an answer that says when to come back.
func refused(raw []byte, retry time.Duration) error {
	e, ok := errors.AsType[*protocol.Error](errorOf(raw))
	if !ok {
		e = &protocol.Error{Code: protocol.CodeInternal}
	}
	e.Retry = retry
	return e
}
