package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flannel/bench/load"
	"flannel/protocol"
)

// Person is somebody who connects.
type Person struct {
	ID    protocol.UserID
	Token string
}

// ReconnectTarget is one workspace behind an edge and its backend.
type ReconnectTarget struct {
	// People connect, one socket each.
	People []Person
	// Writer, one of People, writes to Channel, which most of them are in, while all are away.
	Writer  Person
	Channel protocol.ChannelID
	// Backend is the base URL of the backend.
	Backend string
	// FreshEdge starts an edge that has never seen anything, in place of the last one, and returns its base URL.
	FreshEdge func(ctx context.Context) (string, error)
	// BackendCalls returns how many loads and forwards of each kind the edge has sent to the backend since it was started.
	BackendCalls func() (map[string]int, error)
	// BootsAtOnce returns the most boot loads that were in the air at once since the edge was started; BootConcurrency is
	// the limit that is configured.
	BootsAtOnce     func() (int, error)
	BootConcurrency int
}

// ReconnectOptions says how the storm comes.
type ReconnectOptions struct {
	// Spread is the time within which everybody begins to come back: full jitter, each at a random moment of it.
	Spread time.Duration
	// Patience is how long everybody tries, counted from the end of the spread.
	Patience time.Duration
	// Direct is how many people come straight to the backend; 0 takes as many as come through in about DirectBudget.
	Direct       int
	DirectBudget time.Duration
	// Sample is how many people's badges are compared with the backend's after each storm.
	Sample int
	// Seed fixes who comes when.
	Seed uint64
	// Progress is told how many of a phase are done.
	Progress func(phase string, done, total int)
}

// DefaultReconnect returns the options for a number of people.
func DefaultReconnect(people int) ReconnectOptions {
	return ReconnectOptions{
		Spread:   max(time.Second, time.Duration(people)*time.Millisecond), // 1,000 a second, as the target says
		Patience: 2 * time.Minute,                                          // four times what clients are told to wait at most
		// A full boot of a large workspace takes the backend a second; so many are enough for a percentile.
		DirectBudget: 20 * time.Second,
		Sample:       20, Seed: 1,
	}
}

// Figures are one row of the scenario.
type Figures struct {
	Users int `json:"users"`
	// Errors counts people who were not back in time, or lost the new socket again.
	Errors int `json:"errors"`
	// Retries counts attempts that were turned away with a time to come back at.
	Retries             int     `json:"retries"`
	BackendCalls        int     `json:"backend_calls"`
	BackendCallsPerUser float64 `json:"backend_calls_per_user"`
	SecondsToLast       float64 `json:"seconds_to_last"` // from when the first may come back
	P50MS               float64 `json:"p50_ms"`          // of one person: from their first attempt to boot and counts
	P99MS               float64 `json:"p99_ms"`
	// Required is the most backend calls that are allowed; nil if there is no such bound.
	Required *int `json:"backend_calls_required,omitempty"`
	// Calls are BackendCalls by kind.
	Calls map[string]int `json:"calls,omitempty"`
	// BootsAtOnce is the most boot loads that were in the air at once, BootConcurrency the configured bound.
	BootsAtOnce     int `json:"boots_at_once,omitempty"`
	BootConcurrency int `json:"boot_concurrency,omitempty"`
	// BadgesChecked people's counts were compared with the backend's after the storm; BadgesWrong of them differ.
	BadgesChecked int `json:"badges_checked,omitempty"`
	BadgesWrong   int `json:"badges_wrong"`

	times *load.Times // how long each took
}

// Met reports whether the row is what is required of it.
func (f *Figures) Met() bool {
	return f.Errors == 0 && f.BadgesWrong == 0 && (f.Required == nil || f.BackendCalls <= *f.Required) && f.BootsAtOnce <= f.BootConcurrency
}

// ReconnectReport has the rows: warm is a storm on an edge that knows everybody, cold on one that was just started,
// direct on the backend itself.
type ReconnectReport struct {
	Warm   Figures `json:"warm"`
	Cold   Figures `json:"cold"`
	Direct Figures `json:"direct"`
}

// coldAllowed is the most backend calls that a cold storm may cost.
func coldAllowed(people int) int { return people/200 + 20 }

// Reconnect connects everybody, lets all lose their connection at once and come back: to the same edge, to one that was
// started anew, and to the backend. While they are away messages with mentions are written, so that the badges after
// each storm are others than before.
func Reconnect(ctx context.Context, t ReconnectTarget, opt ReconnectOptions) (report ReconnectReport, err error) {
	c := newCrowd(t.People, opt)
	defer c.cut()
	edge, err := t.FreshEdge(ctx)
	if err != nil {
		return report, fmt.Errorf("start a fresh edge: %w", err)
	}
	if first := c.arrive(ctx, "connect", thinDoor(edge)); first.Errors > 0 {
		return report, fmt.Errorf("%d of %d could not connect at all: %w", first.Errors, first.Users, errors.Join(c.failure(), ctx.Err()))
	}

	none := 0
	before, err := t.BackendCalls()
	if err != nil {
		return report, err
	}
	if report.Warm, err = t.storm(ctx, c, "warm", edge, before, opt); err != nil {
		return report, err
	}
	report.Warm.Required = &none

	c.cut()
	if edge, err = t.FreshEdge(ctx); err != nil {
		return report, fmt.Errorf("start a fresh edge: %w", err)
	}
	if report.Cold, err = t.storm(ctx, c, "cold", edge, nil, opt); err != nil {
		return report, err
	}
	allowed := coldAllowed(len(t.People))
	report.Cold.Required = &allowed
	if report.Cold.BootsAtOnce, err = t.BootsAtOnce(); err != nil {
		return report, err
	}
	report.Cold.BootConcurrency = t.BootConcurrency

	c.cut()
	report.Direct, err = t.direct(ctx, opt)
	return report, err
}

// storm cuts all connections, lets somebody write meanwhile, and everybody come back.
func (t *ReconnectTarget) storm(ctx context.Context, c *crowd, phase, edge string, before map[string]int, opt ReconnectOptions) (Figures, error) {
	c.cut()
	sample := pickSample(t.People, opt.Sample, opt.Seed)
	if err := t.write(ctx, phase, sample); err != nil {
		return Figures{}, err
	}
	f := c.arrive(ctx, phase, thinDoor(edge))
	if err := ctx.Err(); err != nil {
		return f, err
	}
	after, err := t.BackendCalls()
	if err != nil {
		return f, err
	}
	f.Calls = make(map[string]int)
	for call, n := range after {
		if n -= before[call]; n > 0 {
			f.Calls[call] = n
			f.BackendCalls += n
		}
	}
	f.BackendCallsPerUser = float64(f.BackendCalls) / float64(max(f.Users, 1))
	f.BadgesChecked = len(sample)
	f.BadgesWrong, err = t.compareBadges(ctx, edge, sample)
	return f, err
}

// direct is the same storm without an edge: each client makes a full boot and opens a socket.
func (t *ReconnectTarget) direct(ctx context.Context, opt ReconnectOptions) (Figures, error) {
	n := opt.Direct
	if n == 0 {
		client := newCaller(t.People[0].Token)
		_, took, err := client.call(ctx, t.Backend, "rtm.start", nil)
		client.close()
		if err != nil {
			return Figures{}, err
		}
		n = max(10, int(opt.DirectBudget/max(took, time.Millisecond)))
	}
	n = min(n, len(t.People))
	c := newCrowd(t.People[:n], opt)
	defer c.cut()
	door := &fullDoor{base: t.Backend}
	f := c.arrive(ctx, "direct", door.open)
	f.BackendCalls = int(door.calls.Load())
	f.BackendCallsPerUser = float64(f.BackendCalls) / float64(n)
	starts := int(door.starts.Load())
	f.Calls = map[string]int{"rtm.start": starts, "websocket": f.BackendCalls - starts}
	return f, ctx.Err()
}
