package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"flannel/protocol"
)

// Options say where to connect, as whom, and what to hear. URL and one of Token and TokenSource are required.
type Options struct {
	// URL is the base address of an edge, such as "https://edge.example.com"; ws and wss are taken as well.
	URL string
	// Token is whose client this is. It is sent in a header, so that it stands in no log of addresses.
	Token string
	// TokenSource gives a token: the first one if Token is empty, and a new one when the server says that the last is dead, or
	// is about to end: then the connection goes on with the new one, and if the source has none yet it is asked again. If it
	// gives a dead one again, the client ends. It is called once at a time.
	TokenSource func(ctx context.Context) (string, error)

	// View is what is on the screen at first: see Client.SetView. nil gets everything; an empty list gets badges only.
	View []protocol.ChannelID
	// Exclude names types of events that are not wanted.
	Exclude []string
	// Saved is what Client.Save wrote in an earlier run: the client then asks only for what has changed since, and hears
	// what it has missed. What cannot be read is left out, with a line in the log. Nil starts from nothing.
	Saved io.Reader

	// Log hears of trouble that the client mends by itself; nil logs nothing.
	Log *slog.Logger

	// MaxEvents and MaxEventBytes bound what waits for Next (default 4,096 and 8 MiB).
	MaxEvents     int
	MaxEventBytes int
	// MaxObjects and MaxObjectBytes bound the lazy store (default 10,000 and 32 MiB); what was not used for longest goes.
	MaxObjects     int
	MaxObjectBytes int
	// MaxAge is how long an object counts as current without the server's word (default 10 minutes). Changes are told at
	// once, but for people of other workspaces, whose events do not come here.
	MaxAge time.Duration
	// PingInterval is how often the client pings (default 20 s): it keeps the place to resume from fresh, and finds a dead
	// connection within PingInterval and PongWait (default 10 s).
	PingInterval time.Duration
	PongWait     time.Duration

	// Compression is offered to the server: a boot has a sixth of its bytes then, and long messages about half. It costs some
	// processor time at both ends, and no memory between two messages.
	Compression bool

	// HTTPClient makes the Web API's calls; by default one that dials as the socket does.
	HTTPClient *http.Client
	// DialContext opens connections; nil is net.Dialer's.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS is used for https and wss; nil is the default.
	TLS *tls.Config
}

func (o Options) withDefaults() Options {
	o.MaxEvents = or(o.MaxEvents, 4096)                 // a minute of the busiest channel, 50 messages a second, and some
	o.MaxEventBytes = or(o.MaxEventBytes, 8<<20)        // the same with 2 KB each
	o.MaxObjects = or(o.MaxObjects, 10_000)             // all that a person meets in months
	o.MaxObjectBytes = or(o.MaxObjectBytes, 32<<20)     // at 3 KB each, three times what a profile was seen to have
	o.MaxAge = or(o.MaxAge, 10*time.Minute)             // what the edge itself allows to be stale
	o.PingInterval = or(o.PingInterval, 20*time.Second) // the dialect wants 10 to 30
	o.PongWait = or(o.PongWait, 10*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func or[T int | time.Duration](v, def T) T {
	if v > 0 {
		return v
	}
	return def
}

// check reports what makes no sense.
func (o *Options) check() error {
	if _, err := parseBase(o.URL); err != nil {
		return err
	}
	if o.Token == "" && o.TokenSource == nil {
		return errors.New("neither Token nor TokenSource is set")
	}
	return checkView(o.View)
}

func checkView(channels []protocol.ChannelID) error {
	if len(channels) > protocol.MaxView {
		return protocol.Errorf(protocol.CodeInvalidArgs, "%d channels in view; the limit is %d", len(channels), protocol.MaxView)
	}
	return nil
}

// base is where a server is: the same host for sockets and for calls.
type base struct {
	host   string
	path   string
	secure bool
}

func parseBase(address string) (base, error) {
	u, err := url.Parse(address)
	if err != nil {
		return base{}, fmt.Errorf("read URL: %w", err)
	}
	b := base{host: u.Host, path: strings.TrimSuffix(u.Path, "/")}
	switch u.Scheme {
	case "https", "wss":
		b.secure = true
	case "http", "ws":
	default:
		return base{}, fmt.Errorf("read URL %q: it begins with none of https, http, wss, ws", address)
	}
	if b.host == "" {
		return base{}, fmt.Errorf("read URL %q: it has no host", address)
	}
	return b, nil
}

func (b base) address(scheme string) string {
	if b.secure {
		scheme += "s"
	}
	return scheme + "://" + b.host + b.path
}
