package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"
	"unicode/utf8"

	"flannel/protocol"
)

// Outgoing is a message to post. Channel and Text are required.
type Outgoing struct {
	Channel protocol.ChannelID
	// Text has at most 40,000 characters.
	Text string
	// ThreadTS makes it a reply; Broadcast shows the reply in the channel too.
	ThreadTS  protocol.TS
	Broadcast bool
	// Attachments and Blocks are JSON arrays in the dialect's form.
	Attachments json.RawMessage
	Blocks      json.RawMessage
	// ClientMsgID makes posting safe to repeat: of several posts with the same one in a channel there is one message. Send
	// makes one up if it is empty.
	ClientMsgID string
}

// Send posts a message and returns its timestamp, which is its id, when the message is on the server's disk. It waits for
// a connection, and sends again over the next one until there is an answer, but the message is posted once. Messages of
// one goroutine keep their order.
//
// If ctx ends first, the error is ErrUnacknowledged and the context's. A refusal is a *protocol.Error.
func (c *Client) Send(ctx context.Context, m Outgoing) (protocol.TS, error) {
	if m.ClientMsgID == "" {
		m.ClientMsgID = rand.Text()
	}
	if err := c.Err(); err != nil {
		return "", fmt.Errorf("send to %s: %w", m.Channel, err)
	}
	for {
		ts, err := c.sendOnce(ctx, &m)
		refusal, refused := errors.AsType[*protocol.Error](err)
		switch {
		case err == nil:
			return ts, nil
		case ctx.Err() != nil:
			return "", fmt.Errorf("send to %s: %w: %w", m.Channel, ErrUnacknowledged, ctx.Err())
		case c.Err() != nil:
			return "", fmt.Errorf("send to %s: %w: %w", m.Channel, ErrUnacknowledged, c.Err())
		case refused && !passing(refusal):
			return "", fmt.Errorf("send to %s: %w", m.Channel, err)
		}
		pause := time.Second
		if refused && refusal.Retry > 0 {
			pause = refusal.Retry
		}
		wait(ctx, pause+mathrand.N(pause)) // Those who were refused together do not come back together.
	}
}

// passing reports whether a refusal says nothing against the message.
func passing(e *protocol.Error) bool {
	switch e.Code {
	case protocol.CodeRateLimited, protocol.CodeUnavailable, protocol.CodeInternal, protocol.CodeBehind:
		return true
	}
	return false
}

// sendOnce sends over the socket, or over HTTP what the socket does not take.
func (c *Client) sendOnce(ctx context.Context, m *Outgoing) (protocol.TS, error) {
	var answer struct {
		TS protocol.TS `json:"ts"`
	}
	id := c.lastID.Add(1)
	f, err := socketFrame(struct {
		ID          int64              `json:"id"`
		Type        string             `json:"type"`
		Channel     protocol.ChannelID `json:"channel"`
		Text        string             `json:"text"`
		ThreadTS    protocol.TS        `json:"thread_ts,omitempty"`
		Broadcast   bool               `json:"reply_broadcast,omitempty"`
		ClientMsgID string             `json:"client_msg_id"`
		Attachments json.RawMessage    `json:"attachments,omitempty"`
		Blocks      json.RawMessage    `json:"blocks,omitempty"`
	}{id, protocol.FrameMessage, m.Channel, m.Text, m.ThreadTS, m.Broadcast, m.ClientMsgID, m.Attachments, m.Blocks})
	switch {
	case errors.Is(err, errTooLarge), err == nil && utf8.RuneCountInString(m.Text) > protocol.MaxText:
		err = c.Call(ctx, "chat.postMessage", m.args(), &answer)
		return answer.TS, err
	case err != nil:
		return "", protocol.Errorf(protocol.CodeInvalidArgs, "attachments or blocks are no JSON")
	}
	raw, err := c.request(ctx, id, f)
	if err == nil {
		err = errorOf(raw)
	}
	if err == nil {
		err = json.Unmarshal(raw, &answer)
	}
	return answer.TS, err
}

func (m *Outgoing) args() protocol.Args {
	args := protocol.Args{"channel": string(m.Channel), "text": m.Text, "client_msg_id": m.ClientMsgID}
	for name, v := range map[string]string{"thread_ts": string(m.ThreadTS), "attachments": string(m.Attachments), "blocks": string(m.Blocks)} {
		if v != "" {
			args[name] = v
		}
	}
	if m.Broadcast {
		args["reply_broadcast"] = "1"
	}
	return args
}

// typingEvery is how often the server passes typing on; more is not worth a frame.
const typingEvery = 3 * time.Second

// typist remembers when and where the user's typing was last told.
type typist struct {
	mu      sync.Mutex
	channel protocol.ChannelID
	at      time.Time
}

// Typing tells the others in a channel that the user types. It may be called with every key: what is too often is left
// out. It does not wait, and without a connection it does nothing.
func (c *Client) Typing(channel protocol.ChannelID) {
	c.typed.mu.Lock()
	defer c.typed.mu.Unlock()
	now := time.Now()
	if channel == c.typed.channel && now.Sub(c.typed.at) < typingEvery {
		return
	}
	c.typed.channel, c.typed.at = channel, now
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket != nil {
		c.socket.try(protocol.MustMarshal(struct {
			Type    string             `json:"type"`
			Channel protocol.ChannelID `json:"channel"`
		}{protocol.FrameTyping, channel}))
	}
}
