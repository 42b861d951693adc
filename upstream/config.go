package upstream

import (
	"errors"
	"fmt"
	"net/url"
	"time"
)

// Config says where the backend is and how it is treated.
type Config struct {
	// URL of the backend's upstream listener, http or https, without a path.
	URL string `koanf:"url"`
	// Key is the service key (the bearer token of the contract).
	Key string `koanf:"key"`

	// BatchWindow is how long nobody must have joined a load before it is sent.
	BatchWindow time.Duration `koanf:"batch_window"`
	// BatchWindowMax is how long those who keep joining can hold a load back; below BatchWindow it counts as that.
	BatchWindowMax time.Duration `koanf:"batch_window_max"`
	// BatchBurst is how many identify, boot and replay loads, of each kind, may be sent one after the other. Beyond that
	// there is one per BatchEvery, for which callers gather; a full one is sent at once. While users are held back
	// so, and for a moment after, loads of objects are too. So n users who come together cost n/500 loads of a kind and a few, not n.
	BatchBurst int `koanf:"batch_burst"`
	// BatchEvery is the time between such loads, and the most that a new user waits for one; twice that more if those
	// before have not come back. 0 holds nothing back.
	BatchEvery time.Duration `koanf:"batch_every"`
	// MaxPending bounds the keys (tokens, users, object ids) that wait or are in the air, per kind of load.
	MaxPending int `koanf:"max_pending"`

	// DialTimeout bounds opening a connection, TLS included.
	DialTimeout time.Duration `koanf:"dial_timeout"`
	// LoadTimeout bounds one attempt of a load.
	LoadTimeout time.Duration `koanf:"load_timeout"`
	// BootTimeout bounds one attempt of a boot or a replay load, which are the heaviest.
	BootTimeout time.Duration `koanf:"boot_timeout"`
	// ForwardTimeout bounds the wait for the first byte of a forwarded call's answer, and for each next part of it. The
	// whole of a large answer may take longer.
	ForwardTimeout time.Duration `koanf:"forward_timeout"`
	// QueueTimeout bounds the wait for a place under a concurrency limit or for a connection.
	QueueTimeout time.Duration `koanf:"queue_timeout"`
	// IdleTimeout is how long an idle connection is kept. It should be shorter than the backend's.
	IdleTimeout time.Duration `koanf:"idle_timeout"`

	// LoadConns bounds the connections for loads.
	LoadConns int `koanf:"load_conns"`
	// ForwardConns bounds the connections for forwarded calls.
	ForwardConns int `koanf:"forward_conns"`
	// BulkConns bounds the connections for rtm.start, whose answers are large and read slowly.
	BulkConns int `koanf:"bulk_conns"`

	// MaxAnswerBytes bounds the answer to a load.
	MaxAnswerBytes int `koanf:"max_answer_bytes"`
	// BufferBytes is the size up to which a forwarded call's answer is read whole; a larger one is streamed.
	BufferBytes int `koanf:"buffer_bytes"`

	// Attempts is how often a load or a repeatable call is tried in all.
	Attempts int `koanf:"attempts"`
	// RetryBudget is the largest share of calls in the air that may be second attempts.
	RetryBudget float64 `koanf:"retry_budget"`
	// RetryMin and RetryMax bound the wait between attempts; it doubles and is jittered.
	RetryMin time.Duration `koanf:"retry_min"`
	RetryMax time.Duration `koanf:"retry_max"`

	// MinConcurrency and MaxConcurrency bound the adaptive limit of calls in the air, per kind of load.
	MinConcurrency int `koanf:"min_concurrency"`
	MaxConcurrency int `koanf:"max_concurrency"`
	// BootConcurrency bounds the boot and replay loads in the air, together and below the adaptive limit. It can be
	// changed while running.
	BootConcurrency int `koanf:"boot_concurrency"`

	// BreakerFailures is the share of failed calls within BreakerWindow that opens the circuit breaker of a kind of call,
	// once there were BreakerCalls in the window.
	BreakerFailures float64       `koanf:"breaker_failures"`
	BreakerCalls    int           `koanf:"breaker_calls"`
	BreakerWindow   time.Duration `koanf:"breaker_window"`
	// BreakerDelay is how long an open breaker waits before it lets one call through.
	BreakerDelay time.Duration `koanf:"breaker_delay"`

	// ReconnectMin and ReconnectMax bound the wait before the stream is opened again: a random time between 0 and a
	// bound that starts at the minimum and doubles.
	ReconnectMin time.Duration `koanf:"reconnect_min"`
	ReconnectMax time.Duration `koanf:"reconnect_max"`
	// StableAfter is how long a stream must have been up for the wait to start over at the minimum.
	StableAfter time.Duration `koanf:"stable_after"`
	// HelloTimeout bounds the wait for the backend's hello.
	HelloTimeout time.Duration `koanf:"hello_timeout"`
	// SubscribeTimeout bounds the wait for the answer to a subscription; the stream is opened anew after it.
	SubscribeTimeout time.Duration `koanf:"subscribe_timeout"`
	// WriteTimeout bounds writing one frame.
	WriteTimeout time.Duration `koanf:"write_timeout"`
	// HeartbeatMax caps the heartbeat that the backend asks for. A stream that was silent for three heartbeats is closed.
	HeartbeatMax time.Duration `koanf:"heartbeat_max"`
	// MaxFrameBytes bounds a frame of the stream.
	MaxFrameBytes int `koanf:"max_frame_bytes"`
	// Linger is how long a topic stays followed after its last reference is gone.
	Linger time.Duration `koanf:"linger"`
	// MaxTopics bounds the topics that are followed.
	MaxTopics int `koanf:"max_topics"`
	// PublishQueue and PublishBytes bound the ephemeral events of clients that wait for the stream; more are dropped.
	PublishQueue int `koanf:"publish_queue"`
	PublishBytes int `koanf:"publish_bytes"`
}

// Default returns the configuration that flannel.yaml shows. URL and Key are left to the operator.
func Default() Config {
	return Config{
		BatchWindow:    2 * time.Millisecond,  // Far below what a person notices, several times a local round trip.
		BatchWindowMax: 50 * time.Millisecond, // 500 users woken together take that long on a busy machine.
		BatchBurst:     2,                     // A quiet node never waits; a storm wastes little on its first users.
		BatchEvery:     time.Second,           // Connecting takes people about that long anyway.

		MaxPending: 100_000, // A reconnecting node of 50,000 users, twice.

		DialTimeout:    3 * time.Second,
		LoadTimeout:    5 * time.Second,
		BootTimeout:    15 * time.Second, // 500 users with a thousand channels each are a large answer.
		ForwardTimeout: 30 * time.Second, // As long as the dialect's clients wait.
		QueueTimeout:   5 * time.Second,
		IdleTimeout:    30 * time.Second, // Half of the minute after which many servers and balancers close.

		LoadConns:    64,
		ForwardConns: 512,
		BulkConns:    32,

		MaxAnswerBytes: 128 << 20, // 500 boots of a thousand channels are about 100 MB.
		BufferBytes:    256 << 10, // Every answer of the dialect but rtm.start and long lists.

		Attempts:    3,
		RetryBudget: 0.2,
		RetryMin:    50 * time.Millisecond,
		RetryMax:    time.Second,

		MinConcurrency:  4,
		MaxConcurrency:  256,
		BootConcurrency: 8, // 4,000 users in the air.

		BreakerFailures: 0.5,
		BreakerCalls:    20,
		BreakerWindow:   10 * time.Second,
		BreakerDelay:    time.Second,

		ReconnectMin:     100 * time.Millisecond,
		ReconnectMax:     5 * time.Second,
		StableAfter:      10 * time.Second,
		HelloTimeout:     5 * time.Second,
		SubscribeTimeout: 15 * time.Second,
		WriteTimeout:     10 * time.Second,
		HeartbeatMax:     30 * time.Second,
		MaxFrameBytes:    16 << 20, // A thousand events with the dialect's largest messages.
		Linger:           30 * time.Second,
		MaxTopics:        2_000_000,
		PublishQueue:     4096,
		PublishBytes:     1 << 20,
	}
}

// Validate reports everything that is wrong with the configuration.
func (c *Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("upstream: "+format, args...)) }

	u, err := url.Parse(c.URL)
	switch {
	case err != nil:
		fail("url: %w", err)
	case u.Scheme != "http" && u.Scheme != "https":
		fail("url: %q is neither http nor https", c.URL)
	case u.Host == "":
		fail("url: %q has no host", c.URL)
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.User != nil:
		fail("url: only a scheme and a host are wanted")
	}
	if c.Key == "" {
		fail("key: is empty")
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"dial_timeout", c.DialTimeout},
		{"load_timeout", c.LoadTimeout}, {"boot_timeout", c.BootTimeout}, {"forward_timeout", c.ForwardTimeout},
		{"queue_timeout", c.QueueTimeout}, {"idle_timeout", c.IdleTimeout}, {"retry_min", c.RetryMin},
		{"breaker_window", c.BreakerWindow}, {"breaker_delay", c.BreakerDelay}, {"reconnect_min", c.ReconnectMin},
		{"hello_timeout", c.HelloTimeout}, {"subscribe_timeout", c.SubscribeTimeout}, {"write_timeout", c.WriteTimeout},
		{"heartbeat_max", c.HeartbeatMax},
	} {
		if d.value <= 0 {
			fail("%s: must be above 0", d.name)
		}
	}
	for _, n := range []struct {
		name  string
		value int
	}{
		{"max_pending", c.MaxPending}, {"load_conns", c.LoadConns}, {"forward_conns", c.ForwardConns},
		{"bulk_conns", c.BulkConns}, {"max_answer_bytes", c.MaxAnswerBytes}, {"buffer_bytes", c.BufferBytes},
		{"attempts", c.Attempts}, {"min_concurrency", c.MinConcurrency}, {"boot_concurrency", c.BootConcurrency},
		{"breaker_calls", c.BreakerCalls}, {"max_frame_bytes", c.MaxFrameBytes}, {"max_topics", c.MaxTopics},
		{"publish_queue", c.PublishQueue}, {"publish_bytes", c.PublishBytes}, {"batch_burst", c.BatchBurst},
	} {
		if n.value <= 0 {
			fail("%s: must be above 0", n.name)
		}
	}
	if c.BatchWindowMax < 0 || c.BatchEvery < 0 {
		fail("batch_window_max and batch_every: must not be below 0")
	}
	if c.BatchWindow < 0 || c.Linger < 0 || c.StableAfter < 0 {
		fail("batch_window, linger and stable_after: must not be below 0")
	}
	if c.RetryMax < c.RetryMin {
		fail("retry_max: is below retry_min")
	}
	if c.ReconnectMax < c.ReconnectMin {
		fail("reconnect_max: is below reconnect_min")
	}
	if c.MaxConcurrency < c.MinConcurrency {
		fail("max_concurrency: is below min_concurrency")
	}
	if c.RetryBudget < 0 || c.RetryBudget > 1 {
		fail("retry_budget: must be between 0 and 1")
	}
	if c.BreakerFailures <= 0 || c.BreakerFailures > 1 {
		fail("breaker_failures: must be above 0 and at most 1")
	}
	return errors.Join(errs...)
}
