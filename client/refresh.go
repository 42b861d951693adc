package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"flannel/protocol"
)

// A token has two ways to be replaced. The server asks for another one before it ends, and the connection goes on with that
// (refresh). If that does not come off, the server ends the connection with the token, and the next one begins with another
// (renewToken). Both ask TokenSource, one at a time, and neither asks it again for what the other has just been given.

const (
	// refreshTries is how often a new token is tried to be got and handed over before its predecessor ends: a server asks a
	// minute before, and sources that keep a token until it is nearly over give another one only then.
	refreshTries = 4
	// refreshPause is how long after a failure the next try is.
	refreshPause = 10 * time.Second
)

// asked hears that the server wants a new token. What it takes is done beside the reader.
func (c *Client) asked(socket *conn) {
	if c.opt.TokenSource == nil || !socket.refreshing.CompareAndSwap(false, true) {
		return // At the end of its token the connection ends, and Err says why.
	}
	c.work.Go(func() {
		defer socket.refreshing.Store(false)
		for try := 1; ; try++ {
			err := c.refresh(socket)
			if err == nil || socket.over() {
				return
			}
			c.opt.Log.Debug("token not refreshed", "err", err, "try", try)
			if try == refreshTries {
				return
			}
			pause := refreshPause
			if e, ok := errors.AsType[*protocol.Error](err); ok {
				pause = max(pause, e.Retry)
			}
			select {
			case <-time.After(pause + rand.N(pause/4)):
			case <-socket.done:
				return
			}
		}
	})
}

// refresh gets a new token and hands it over.
func (c *Client) refresh(socket *conn) error {
	c.renewing <- struct{}{} // Whoever has it ends with the life of the client.
	defer func() { <-c.renewing }()
	if socket.over() {
		return errLost // renewToken gets one.
	}
	token, err := c.anotherToken()
	if err != nil {
		return err
	}
	id := c.lastID.Add(1)
	frame, err := socketFrame(map[string]any{"id": id, "type": protocol.FrameRefresh, "token": token})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.life, handshakeTimeout)
	defer cancel()
	answer, err := socket.request(ctx, id, frame)
	if err == nil {
		err = errorOf(answer.raw)
	}
	if err != nil && !errors.Is(err, errLost) {
		return fmt.Errorf("refresh token: %w", err)
	}
	// If the connection was lost meanwhile, nobody has refused it: the next one begins with it.
	c.setToken(token)
	if err == nil {
		socket.token.Store(&token)
	}
	return err
}

// anotherToken asks for a token other than the present one. It wants renewing.
func (c *Client) anotherToken() (string, error) {
	token, err := c.opt.TokenSource(c.life)
	switch {
	case err != nil:
		return "", fmt.Errorf("get token: %w", err)
	case token == c.currentToken() || token == "":
		return "", ErrToken
	}
	return token, nil
}

func (c *Client) currentToken() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.token
}

func (c *Client) setToken(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = token
}

// renewToken gets a token if there is none, or the last one is dead.
func (c *Client) renewToken(j *journey) error {
	c.renewing <- struct{}{}
	defer func() { <-c.renewing }()
	if now := c.currentToken(); now != "" && now != j.dead {
		return nil
	}
	if c.opt.TokenSource == nil {
		return ErrToken
	}
	token, err := c.anotherToken()
	if err != nil {
		return err
	}
	c.setToken(token)
	return nil
}
