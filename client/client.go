package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fasthttp/websocket"

	"flannel/protocol"
)

// Client is one user's connection to a workspace, which mends itself. All methods may be called from any goroutine.
type Client struct {
	// Static after newClient.
	opt    Options
	base   base
	secure bool // the URL's connections are secret
	dialer *websocket.Dialer
	http   *http.Client
	idle   func()          // closes the connections of http, if it is ours
	life   context.Context // of the client: ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup // run, and the batches of lookups
	ready  chan struct{}  // closed when the first boot is there
	gone   chan struct{}  // closed when ended is set
	// savedFor is whose objects Options.Saved had.
	savedFor protocol.UserID

	states   *states
	queue    *queue
	wants    wants
	shelf    *shelf
	users    *lookup
	channels *lookup
	lastID   atomic.Int64
	typed    typist

	// renewing has whoever asks TokenSource, and hands over what it gives; capacity 1; never closed.
	renewing chan struct{}

	mu     sync.Mutex
	socket *conn         // nil while there is none
	joined chan struct{} // closed, and replaced, when there is one, or never will be
	token  string
	boot   *Boot
	counts *Counts
	ended  error
}

// Dial connects, and returns when the client knows who it is and what it is in: see Boot and Counts. It keeps trying, as
// the server says, until ctx ends; what no retry can mend, such as a token that is dead, it returns at once.
//
// ctx is for Dial alone: the client lives until Close.
func Dial(ctx context.Context, opt Options) (*Client, error) {
	c, j, err := newClient(ctx, opt)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	c.work.Go(func() { c.run(j) })
	select {
	case <-c.ready:
		return c, nil
	case <-c.gone:
		err = c.Err()
	case <-ctx.Done():
		err = ctx.Err()
		if reason := c.State().Reason; reason != nil {
			err = fmt.Errorf("%w; the last attempt: %w", err, reason)
		}
	}
	return nil, errors.Join(fmt.Errorf("connect to %s: %w", c.base.host, err), c.Close())
}

func newClient(ctx context.Context, opt Options) (*Client, *journey, error) {
	if err := opt.check(); err != nil {
		return nil, nil, err
	}
	opt = opt.withDefaults()
	where, err := parseBase(opt.URL)
	if err != nil {
		return nil, nil, err
	}
	c := &Client{
		opt: opt, base: where, secure: where.secure, token: opt.Token, ready: make(chan struct{}), gone: make(chan struct{}), states: newStates(),
		shelf: newShelf(opt.MaxObjects, opt.MaxObjectBytes, opt.MaxAge), joined: make(chan struct{}), renewing: make(chan struct{}, 1), http: opt.HTTPClient, idle: func() {},
	}
	c.dialer = &websocket.Dialer{
		Proxy: http.ProxyFromEnvironment, NetDialContext: opt.DialContext, TLSClientConfig: opt.TLS, HandshakeTimeout: handshakeTimeout,
		EnableCompression: opt.Compression,
		ReadBufferSize:    4 << 10, WriteBufferSize: 1 << 10, // Most frames of the server, and nearly all of ours, fit.
	}
	if c.http == nil {
		transport := &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: opt.DialContext, TLSClientConfig: opt.TLS, MaxIdleConnsPerHost: 4,
			IdleConnTimeout: 30 * time.Second, // below what balancers allow
		}
		if opt.DialContext == nil {
			transport.DialContext = (&net.Dialer{Timeout: handshakeTimeout}).DialContext
		}
		c.http, c.idle = &http.Client{Transport: transport}, transport.CloseIdleConnections
	}
	c.life, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.users = newLookup(c, protocol.KindUser, "users/info")
	c.channels = newLookup(c, protocol.KindChannel, "channels/info")
	if opt.View != nil {
		c.wants.setView(opt.View)
	}
	at := c.restore(opt.Saved)
	c.queue = newQueue(opt.MaxEvents, opt.MaxEventBytes, at.clone())
	return c, &journey{at: at, resume: at.Token != "", policy: defaultPolicy}, nil
}

// Close ends the client and waits for everything that it started. Events that were not taken are gone; a client that goes
// on from what Save wrote hears them again. It may be called more than once.
func (c *Client) Close() error {
	c.cancel()
	c.users.close()
	c.channels.close()
	c.work.Wait()
	c.idle()
	return nil
}

// Err returns why the client has ended: ErrClosed, or what made the server refuse it for good. Nil while it lives.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// Next returns the next event. It waits for one until ctx or the client ends; then its error is the context's or Err.
//
// Events of one topic come in order, and each of them once, across connections. What waits is bounded: if it is not taken
// in time, typing and presence are dropped first; then the client takes no more, and when all has been taken it has the
// server replay the rest. What cannot be replayed any more is told by a Resync event. Nothing else is ever lost.
func (c *Client) Next(ctx context.Context) (Event, error) {
	ev, drained, err := c.queue.next(ctx)
	if drained {
		c.mu.Lock()
		if c.socket != nil && c.queue.drained() { // Not yet by a new connection, which has let it take events again.
			c.socket.end(errBehind)
		}
		c.mu.Unlock()
	}
	return ev, err
}

// Events gives the events until ctx or the client ends. See Next.
func (c *Client) Events(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for {
			ev, err := c.Next(ctx)
			if err != nil || !yield(ev) {
				return
			}
		}
	}
}

// Boot returns what the client began with, or what Refresh has fetched since. It is nobody's to change.
func (c *Client) Boot() *Boot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.boot
}

// Counts returns the read markers and unread counts of the same moment.
func (c *Client) Counts() *Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts
}

// Self returns whose client it is.
func (c *Client) Self() protocol.UserID { return c.Boot().Self.ID }

// SetView says what is on the screen, the full list each time: these channels are heard in full, all others by Badge
// events only. It does not wait, and holds across connections.
func (c *Client) SetView(channels ...protocol.ChannelID) error {
	if err := checkView(channels); err != nil {
		return err
	}
	c.wants.setView(channels)
	c.tell()
	return nil
}

// WatchPresence says whose presence is to be heard of, the full list each time. It does not wait, and holds across
// connections: after a break those who are watched are told again.
func (c *Client) WatchPresence(users ...protocol.UserID) error {
	if len(users) > protocol.MaxPresenceIDs {
		return protocol.Errorf(protocol.CodeInvalidArgs, "%d users to watch; the limit is %d", len(users), protocol.MaxPresenceIDs)
	}
	c.wants.setPresence(users)
	c.tell()
	return nil
}

func (c *Client) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket != nil {
		c.socket.tell()
	}
}

// connected returns a socket, and waits for one.
func (c *Client) connected(ctx context.Context) (*conn, error) {
	for {
		c.mu.Lock()
		socket, joined, ended := c.socket, c.joined, c.ended
		c.mu.Unlock()
		switch {
		case ended != nil:
			return nil, ended
		case socket != nil && !socket.over():
			return socket, nil
		}
		select {
		case <-joined:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *Client) publish(socket *conn) {
	c.mu.Lock()
	c.socket = socket
	close(c.joined)
	c.joined = make(chan struct{})
	c.mu.Unlock()
	socket.tell()
	c.states.set(State{Phase: Connected})
}

func (c *Client) unpublish(socket *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket == socket {
		c.socket = nil
	}
}

// finish ends the client for good. It is called by run at its end. Web API calls under way go on until Close: one of them
// may be what ended it.
func (c *Client) finish(err error) {
	c.mu.Lock()
	c.ended = err
	close(c.joined)
	c.joined = make(chan struct{})
	c.mu.Unlock()
	c.queue.end(err, errors.Is(err, ErrClosed))
	c.states.set(State{Phase: Closed, Reason: err})
	close(c.gone)
}

// setBoot takes over what is not nil.
func (c *Client) setBoot(boot *Boot, counts *Counts) {
	if boot != nil {
		if c.savedFor != "" && c.savedFor != boot.Self.ID {
			c.shelf.clear() // It is none of this user's business.
		}
		if raw := protocol.Field(boot.Raw, "self"); raw != nil {
			c.keep(raw)
		}
		for i := range boot.Channels { // What was saved of those that have not changed need not be asked for.
			c.shelf.confirm(protocol.ObjectID(boot.Channels[i].ID), boot.Channels[i].Updated)
		}
		for _, dm := range boot.DMs {
			c.shelf.confirm(protocol.ObjectID(dm.ID), dm.Updated)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.boot != nil && c.counts != nil
	if boot != nil {
		c.boot = boot
	}
	if counts != nil {
		c.counts = counts
	}
	if !before && c.boot != nil && c.counts != nil {
		close(c.ready)
	}
}

// booted reports whether there was a boot. After that the socket need not bring one: Refresh does, where it is needed.
func (c *Client) booted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.boot != nil && c.counts != nil
}
