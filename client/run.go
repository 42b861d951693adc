package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flannel/protocol"
)

// journey is what a client keeps from one connection to the next. It is owned by run.
type journey struct {
	at        cursor             // up to where events have been received
	policy    protocol.Reconnect // of the last hello
	resume    bool               // at is worth presenting
	greeted   bool               // there was a hello
	token     string             // what the last connection went by
	dead      string             // a token that the server does not take any more; "" if there is none
	elsewhere *base              // where to go next, if not to the usual place

	failures int // connections that followed one another and did not last
}

// run connects, and again, until the client ends.
func (c *Client) run(j *journey) {
	for {
		lasted, err := c.connection(j)
		if c.life.Err() != nil {
			c.finish(ErrClosed)
			return
		}
		c.opt.Log.Debug("connection ended", "err", err, "lasted", lasted)
		v := judge(err, j.greeted)
		switch {
		case v.renew && c.opt.TokenSource == nil:
			c.finish(fmt.Errorf("%w: %w", ErrToken, err))
			return
		case v.fatal, errors.Is(err, ErrToken):
			c.finish(err)
			return
		}
		if v.renew {
			j.dead = j.token
		}
		j.heed(&v, lasted, c.secure)
		pause := v.pause(j.policy, j.failures)
		j.failures++
		phase := Reconnecting
		if !j.greeted {
			phase = Connecting
		}
		c.states.set(State{Phase: phase, Reason: err, Attempt: j.failures, NextAt: time.Now().Add(pause)})
		wait(c.life, pause)
	}
}

// heed takes over what the end of a connection means for the next.
func (j *journey) heed(v *verdict, lasted time.Duration, secure bool) {
	if lasted >= time.Duration(j.policy.StableMS)*time.Millisecond && lasted > 0 {
		j.failures = 0
	}
	if v.forget {
		j.at.Token = ""
	}
	j.elsewhere = nil
	if v.address != "" {
		// The token goes where the server says, but never from a secret connection to an open one.
		if b, err := parseBase(v.address); err == nil && (b.secure || !secure) {
			j.elsewhere = &b
		}
	}
}

// connection is one socket from its opening to its end. lasted counts from its hello.
func (c *Client) connection(j *journey) (lasted time.Duration, err error) {
	if err := c.renewToken(j); err != nil {
		return 0, err
	}
	j.token = c.currentToken()
	o := opening{at: c.base, token: j.token, boot: !c.booted(), resume: j.at.Token}
	if j.elsewhere != nil {
		o.at = *j.elsewhere
	}
	told := c.wants.snapshot()
	o.view = told.view
	ws, err := c.dial(c.life, &o)
	if err != nil {
		return 0, err
	}
	told.viewSent = len(o.view) > 0 || !told.viewSet
	socket := newConn(ws, c.opt.PingInterval, func() [][]byte { return c.wants.frames(&told) })
	socket.token.Store(&o.token)
	defer func() { j.token = *socket.token.Load() }()
	stop := context.AfterFunc(c.life, func() { socket.end(ErrClosed) })
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		socket.write(c.life)
	}()
	defer func() {
		c.unpublish(socket)
		socket.end(errLost)
		<-done
	}()
	hello, err := c.greeting(socket)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	c.welcome(j, hello)
	c.publish(socket)
	err = c.listen(j, socket)
	return time.Since(began), err
}

// greeting reads up to the hello.
func (c *Client) greeting(socket *conn) (*protocol.Hello, error) {
	var refusal error
	for {
		f, err := socket.read(handshakeTimeout)
		switch {
		case err != nil && refusal != nil:
			return nil, &refusedError{refusal, err}
		case err != nil:
			return nil, err
		case f.kind == protocol.FrameHello:
			return f.helloOf()
		case f.kind == protocol.FrameError:
			refusal = errorOf(f.raw) // The close frame behind it says what to do.
		default:
			socket.end(ErrMalformed)
		}
	}
}

// refusedError is a socket that was closed with an error frame in front.
type refusedError struct{ told, closed error }

func (e *refusedError) Error() string   { return e.told.Error() + ": " + e.closed.Error() }
func (e *refusedError) Unwrap() []error { return []error{e.told, e.closed} }

// welcome takes a hello in: where the stream goes on, and what was lost.
func (c *Client) welcome(j *journey, hello *protocol.Hello) {
	j.greeted = true
	j.policy = hello.Reconnect
	c.queue.catchUp()
	s, refetch := greet(hello, j.resume)
	j.resume = true
	j.at.admit(&s)
	if len(refetch) > 0 {
		c.doubt(refetch)
		// In front of the step: as long as it is not taken, Save writes the place before, where it would be told again.
		c.queue.put(step{event: resyncEvent(refetch, hello.Resume), must: true})
	}
	c.queue.put(s)
}
