package edge

import (
	"errors"
	"fmt"
	"time"
)

// Config is the front door's.
type Config struct {
	// Listen is the address for clients.
	Listen string `koanf:"listen"`
	// Region is told to clients in hello.
	Region string `koanf:"region"`
	// Origins are the web pages that may open sockets, as scheme://host; programs send none, or one of the dialect's.
	Origins []string `koanf:"origins"`
	// DebugEcho opens /debug/echo, a raw echo over the same websocket stack, for protocol conformance suites.
	DebugEcho bool `koanf:"debug_echo"`

	// RateLimits limits the calls that the edge answers itself, per user and method.
	RateLimits bool `koanf:"rate_limits"`

	// MaxConnections bounds the connections that are no session: HTTP calls, those that are kept open between calls, and sockets
	// before their upgrade. More are refused with a retry time.
	MaxConnections int `koanf:"max_connections"`
	// MaxSessions bounds the websockets; more are refused with a retry time.
	MaxSessions int `koanf:"max_sessions"`
	// MaxHandshakes bounds the sockets between upgrade and boot. Most of them wait for a batched load of new users, so it is
	// some seconds' worth of arrivals.
	MaxHandshakes int `koanf:"max_handshakes"`
	// OpenRate is how many sockets may open a second, a second's worth of them at once; 0: 1000 for each core, which leaves
	// half of it to those who are in. More are refused with a retry time.
	OpenRate int `koanf:"open_rate"`
	// MaxCalls bounds the HTTP calls under way.
	MaxCalls int `koanf:"max_calls"`
	// CallTimeout bounds one call; a large answer may take longer once it has begun.
	CallTimeout time.Duration `koanf:"call_timeout"`
	// IdleTimeout is how long an HTTP connection without a request is kept.
	IdleTimeout time.Duration `koanf:"idle_timeout"`

	// PingInterval is how often the server pings a socket; the dialect wants at least every 30 s.
	PingInterval time.Duration `koanf:"ping_interval"`
	// PongWait is how long after a ping a client must have been heard of.
	PongWait time.Duration `koanf:"pong_wait"`
	// MaxLifetime is how long a session may last, 20 % more or less so that those who came together do not go together; its
	// client is told to come back at once. It brings long-lived clients to newer nodes. 0: as long as the client likes.
	MaxLifetime time.Duration `koanf:"max_lifetime"`
	// RefreshAhead is how long before its token ends a thin session is asked for a new one, a quarter more or less. A session
	// ends with its token.
	RefreshAhead time.Duration `koanf:"refresh_ahead"`
	// RefreshRate is how many new tokens the sessions of one user may send in a minute, a quarter of them at once.
	RefreshRate int `koanf:"refresh_rate"`
	// WriteTimeout bounds one write to a socket; a client that takes longer is closed.
	WriteTimeout time.Duration `koanf:"write_timeout"`
	// Compression is agreed on with clients that offer it (permessage-deflate, without context takeover). An event is compressed
	// once for all of them.
	Compression bool `koanf:"compression"`
	// CompressionLevel is from 1, the fastest, to 9.
	CompressionLevel int `koanf:"compression_level"`
	// CompressionThreshold is how many bytes a message has at least that is compressed.
	CompressionThreshold int `koanf:"compression_threshold"`
	// CompressionParallel is how many messages that are for one session only, boots and answers, are compressed at once; others
	// go as they are meanwhile. 0: half as many as there are cores.
	CompressionParallel int `koanf:"compression_parallel"`
	// OutboxFrames and OutboxBytes bound what waits for one session.
	OutboxFrames int `koanf:"outbox_frames"`
	OutboxBytes  int `koanf:"outbox_bytes"`
	// SessionQueries bounds the queries and messages of one session under way; a session with more is not read on.
	SessionQueries int `koanf:"session_queries"`
	// FrameRate is how many frames a client may send a second, whatever they are, and FrameBurst how many at once: far above
	// what programs send, far below what hurts.
	FrameRate  int `koanf:"frame_rate"`
	FrameBurst int `koanf:"frame_burst"`
	// MessageBurst is how many messages a session may send at once; one a second is the sustained rate.
	MessageBurst int `koanf:"message_burst"`

	// Presence is told to clients that ask for it. It can be switched while the node runs: POST /presence/off on the admin
	// listener.
	Presence bool `koanf:"presence"`
	// StormOpens is how many sockets opened in one second are a storm: changes of presence wait until it is over.
	StormOpens int `koanf:"storm_opens"`

	// TicketLife is how long the address of rtm.connect may be used.
	TicketLife time.Duration `koanf:"ticket_life"`
	// MaxTickets bounds the addresses that wait to be used.
	MaxTickets int `koanf:"max_tickets"`
	// WriteVisible is how long the answer to a write is held back until the node has seen its effect.
	WriteVisible time.Duration `koanf:"write_visible"`

	// ReconnectMin, ReconnectMax and ReconnectStable are the policy that hello tells clients.
	ReconnectMin    time.Duration `koanf:"reconnect_min"`
	ReconnectMax    time.Duration `koanf:"reconnect_max"`
	ReconnectStable time.Duration `koanf:"reconnect_stable"`
	// DrainDelay is how long new clients are still served after readiness is gone: balancers need time to notice.
	DrainDelay time.Duration `koanf:"drain_delay"`
	// DrainTime is how long saying goodbye to all sessions takes: they go in random order at an even pace.
	DrainTime time.Duration `koanf:"drain_time"`
}

// Default returns the defaults.
func Default() Config {
	return Config{
		Listen: "127.0.0.1:8080", Region: "local", Origins: []string{}, RateLimits: true,
		MaxConnections: 4096, MaxSessions: 15_000, MaxHandshakes: 4096, MaxCalls: 4096, CallTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		PingInterval: 25 * time.Second, PongWait: 10 * time.Second, RefreshAhead: time.Minute, RefreshRate: 20, WriteTimeout: 10 * time.Second,
		Compression: true, CompressionLevel: 1, CompressionThreshold: 1 << 10,
		OutboxFrames: 4096, OutboxBytes: 256 << 10, SessionQueries: 16, FrameRate: 50, FrameBurst: 500, MessageBurst: 30,
		Presence: true, StormOpens: 200, // a morning of 15,000 people in an hour is 4 a second
		TicketLife: 30 * time.Second, MaxTickets: 50_000, WriteVisible: 500 * time.Millisecond,
		ReconnectMin: 500 * time.Millisecond, ReconnectMax: 30 * time.Second, ReconnectStable: time.Minute,
		DrainDelay: 0, DrainTime: 2 * time.Second,
	}
}

// Validate tells every mistake at once.
func (c *Config) Validate() error {
	var errs []error
	if c.Listen == "" {
		errs = append(errs, errors.New("listen: is empty"))
	}
	for name, n := range map[string]int{
		"max_connections": c.MaxConnections, "max_sessions": c.MaxSessions, "max_handshakes": c.MaxHandshakes, "max_calls": c.MaxCalls, "outbox_frames": c.OutboxFrames, "outbox_bytes": c.OutboxBytes,
		"session_queries": c.SessionQueries, "frame_rate": c.FrameRate, "frame_burst": c.FrameBurst, "message_burst": c.MessageBurst, "max_tickets": c.MaxTickets, "refresh_rate": c.RefreshRate, "compression_threshold": c.CompressionThreshold, "storm_opens": c.StormOpens,
	} {
		if n <= 0 {
			errs = append(errs, fmt.Errorf("%s: must be above 0", name))
		}
	}
	for name, d := range map[string]time.Duration{
		"call_timeout": c.CallTimeout, "idle_timeout": c.IdleTimeout, "ping_interval": c.PingInterval, "pong_wait": c.PongWait, "write_timeout": c.WriteTimeout,
		"ticket_life": c.TicketLife, "refresh_ahead": c.RefreshAhead, "reconnect_min": c.ReconnectMin, "reconnect_max": c.ReconnectMax,
	} {
		if d <= 0 {
			errs = append(errs, fmt.Errorf("%s: must be above 0", name))
		}
	}
	if c.CompressionLevel < 1 || c.CompressionLevel > 9 {
		errs = append(errs, errors.New("compression_level: must be from 1 to 9"))
	}
	if c.CompressionParallel < 0 {
		errs = append(errs, errors.New("compression_parallel: must not be below 0"))
	}
	if c.OpenRate < 0 {
		errs = append(errs, errors.New("open_rate: must not be below 0"))
	}
	if c.WriteVisible < 0 || c.DrainDelay < 0 || c.DrainTime < 0 || c.ReconnectStable < 0 {
		errs = append(errs, errors.New("write_visible, drain_delay, drain_time and reconnect_stable: must not be below 0"))
	}
	if c.MaxLifetime < 0 {
		errs = append(errs, errors.New("max_lifetime: must not be below 0, which is no bound"))
	}
	if c.PingInterval > 30*time.Second {
		errs = append(errs, errors.New("ping_interval: clients of the dialect want a ping at least every 30s"))
	}
	if c.ReconnectMax < c.ReconnectMin {
		errs = append(errs, errors.New("reconnect_max: is below reconnect_min"))
	}
	return errors.Join(errs...)
}
