package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/prometheus/client_golang/prometheus"

	"flannel/protocol"
)

// Sink hears of everything that the stream brings: in order, and from one goroutine. It must not block, and may call
// FollowAsync, Unfollow, Publish and Report, but none of the calls that wait.
type Sink interface {
	// Events hands over events, each exactly once per (topic, seq) and in seq order per topic. Ephemeral events have no seq
	// and may be lost. Events of a topic come only after Followed for it. Several at once are messages of one channel, with no
	// effect but their own, that came while the sink was busy. The slice is the caller's.
	Events(run []*protocol.Event)
	// Followed says that every event of t above p will arrive; seq is that of the last event before them. It comes again
	// once t is followed again after a break or a hole; then nothing was lost in between, and p and seq are those of the
	// last event that was handed over.
	Followed(t protocol.Topic, seq protocol.Seq, p protocol.Position)
	// Reset says that events of t were lost: what t covers is void if it is older than p. It goes on from p. A topic that
	// could not be followed from the position that was asked for gets Followed and then Reset. An event at p itself may
	// follow.
	Reset(t protocol.Topic, p protocol.Position)
	// Unfollowed says that no more events of t will come.
	Unfollowed(t protocol.Topic)
	// Watermark says that every event up to p of every topic that is followed was handed over. It never falls; it is
	// repeated for topics that were followed since, and withheld while a topic is being recovered after a break or a
	// hole.
	Watermark(p protocol.Position)
	// Live says whether the stream is up. Live(true) comes when it is also caught up: every topic that was followed
	// before the break is followed again (Followed was called), what was missed was handed over, and Watermark was
	// called. Live(false) comes as soon as the stream is known to be down. The calls alternate, beginning with true.
	Live(up bool)
}

// Options are what an Upstream needs besides its Config. Log and Registerer are required.
type Options struct {
	Log        *slog.Logger
	Registerer prometheus.Registerer
	// TLS is for https addresses; nil takes Go's defaults. Client certificates for mTLS go here.
	TLS *tls.Config
	// Dial opens connections to the backend; nil is net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Upstream is the relationship with one backend. Its methods may be called from any goroutine.
type Upstream struct {
	// static after construction

	cfg       Config
	log       *slog.Logger
	metrics   *metrics
	dial      dialFunc
	wire      *wire
	calls     map[string]*call
	bootGate  *gate
	batchers  batchers
	streamURL string
	// life ends with Close, and everything that is in the air with it.
	life context.Context
	end  context.CancelFunc
	// wake tells the writer that there is something to send. Capacity 1: one reminder is enough; never closed.
	wake chan struct{}
	// report tells the writer that reports have begun to be gathered. Capacity 1: one reminder is enough; never closed.
	report chan struct{}

	live atomic.Bool
	// replayFrom is the last hello's: there is no replay from below it.
	replayFrom atomic.Uint64
	lag        lag

	// mu guards what follows. It is never held while the sink is called or anything is sent.
	mu      sync.Mutex
	table   *table
	outbox  outbox
	present presentSet
	// gathering: the writer knows that there is something to report, or is about to.
	gathering bool

	// wg counts the goroutines of loads and forwarded calls; closing guards its Add against Close.
	closing sync.Mutex
	closed  bool
	wg      sync.WaitGroup
}

// New checks the configuration and returns an Upstream that can load and forward at once. Nothing is followed before
// Run. Whoever does not call Run calls Close.
func New(cfg Config, opts Options) (*Upstream, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if opts.Log == nil || opts.Registerer == nil {
		return nil, errors.New("upstream: Options.Log and Options.Registerer are required")
	}
	u := &Upstream{
		cfg:      cfg,
		log:      opts.Log,
		metrics:  newMetrics(opts.Registerer),
		dial:     opts.Dial,
		calls:    make(map[string]*call),
		bootGate: newGate(cfg.BootConcurrency),
		wake:     make(chan struct{}, 1),
		report:   make(chan struct{}, 1),
		table:    newTable(),
	}
	u.life, u.end = context.WithCancel(context.Background())
	if u.dial == nil {
		u.dial = (&net.Dialer{}).DialContext
	}
	base := strings.TrimSuffix(cfg.URL, "/")
	u.streamURL = "ws" + strings.TrimPrefix(base, "http") + protocol.UpstreamPath + protocol.CallStream
	if strings.HasPrefix(base, "https:") {
		u.dial = withTLS(u.dial, opts.TLS)
	}
	u.wire = newWire(u.life, cfg, u.dial)
	retries := budget.NewBuilder().WithMaxRate(cfg.RetryBudget).Build()
	for _, name := range requestCalls() {
		u.calls[name] = newCall(name, &cfg, retries, u.metrics.calls[name], u.log)
	}
	u.calls[protocol.CallBoot].gate, u.calls[protocol.CallReplay].gate = u.bootGate, u.bootGate
	u.batchers = u.newBatchers()
	u.outbox.m, u.outbox.cfg = u.metrics, &u.cfg
	u.registerGauges(opts.Registerer)
	return u, nil
}

// Run owns the stream and hands what it brings to sink. It returns nil when ctx ends, after every goroutine of u is
// gone; u is closed then. It may be called once.
func (u *Upstream) Run(ctx context.Context, sink Sink) error {
	defer u.Close()
	(&stream{u: u, sink: sink}).run(ctx)
	return nil
}

// Close ends whatever is in the air and waits for it. It may be called more than once; Run does it too.
func (u *Upstream) Close() {
	u.closing.Lock()
	u.closed = true
	u.closing.Unlock()
	u.end()
	u.wire.close()
	u.wg.Wait()
}

// start runs fn on a goroutine that Close waits for. It returns false if u is closed.
func (u *Upstream) start(fn func()) bool {
	u.closing.Lock()
	defer u.closing.Unlock()
	if u.closed {
		return false
	}
	u.wg.Go(fn)
	return true
}

// Live reports what Sink.Live was told last.
func (u *Upstream) Live() bool { return u.live.Load() }

// SetBootConcurrency changes Config.BootConcurrency while running. What is below 1 counts as 1.
func (u *Upstream) SetBootConcurrency(n int) { u.bootGate.set(n) }

// BootConcurrency is the limit that stands.
func (u *Upstream) BootConcurrency() int { return u.bootGate.size() }

// nudge reminds the writer to look for something to send.
func (u *Upstream) nudge() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// Follow adds one reference to each topic and waits until all are followed and the sink was told, or until ctx ends:
// then it returns an error and holds no reference. A topic that the sink was told of already does not wait, not even
// while the stream is down: it will be resumed from where it stood, or Reset.
//
// A topic is followed from the position or seq in its state, or from now on if it has neither. If it is already
// followed from a later position, the events in between do not come: whoever loaded as of an earlier position replays
// them from what the sink kept, or loads again. Sink.Followed told from where.
func (u *Upstream) Follow(ctx context.Context, topics []protocol.TopicState) error {
	for _, ts := range topics {
		if !validTopic(ts.Topic) {
			return protocol.Errorf(protocol.CodeInvalidArgs, "%q cannot be followed", ts.Topic)
		}
	}
	waits, err := u.follow(topics)
	if err != nil {
		return told(err)
	}
	for _, ready := range waits {
		select {
		case <-ready:
			continue
		case <-ctx.Done():
			err = gaveUp(ctx, "a topic to be followed")
		case <-u.life.Done():
			err = abandoned()
		}
		names := make([]protocol.Topic, len(topics))
		for i, ts := range topics {
			names[i] = ts.Topic
		}
		u.Unfollow(names...)
		return told(err)
	}
	return nil
}

// FollowAsync is Follow without waiting. It is safe to call from the sink. Topics that are not valid are left out, and
// so are those beyond Config.MaxTopics, with a metric.
func (u *Upstream) FollowAsync(topics []protocol.TopicState) {
	for len(topics) > 0 {
		n := min(len(topics), protocol.MaxStreamTopics)
		part := topics[:n]
		topics = topics[n:]
		valid := make([]protocol.TopicState, 0, len(part))
		for _, ts := range part {
			if validTopic(ts.Topic) {
				valid = append(valid, ts)
			}
		}
		if _, err := u.follow(valid); err != nil {
			u.log.Warn("topics not followed", "err", err)
			return
		}
	}
}

// follow takes a reference to each topic, or to none of them, and returns what to wait for.
func (u *Upstream) follow(topics []protocol.TopicState) ([]chan struct{}, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.table.topics)+len(topics) > u.cfg.MaxTopics {
		fresh := 0
		for _, ts := range topics {
			if u.table.topics[ts.Topic] == nil {
				fresh++
			}
		}
		if len(u.table.topics)+fresh > u.cfg.MaxTopics {
			u.metrics.topicsRefused.Add(float64(fresh))
			return nil, &failure{code: codeLimited, public: unavailable(0, "too many topics"), cause: fmt.Errorf("more than %d topics", u.cfg.MaxTopics), unsent: true}
		}
	}
	var waits []chan struct{}
	for _, ts := range topics {
		t := u.table.add(ts)
		if t.told && t.ready == nil {
			continue
		}
		if t.ready == nil {
			t.ready = make(chan struct{})
		}
		waits = append(waits, t.ready)
	}
	u.nudge()
	return waits, nil
}

// Unfollow takes one reference from each topic. A topic without references is given up after Config.Linger.
func (u *Upstream) Unfollow(topics ...protocol.Topic) {
	until := time.Now().Add(u.cfg.Linger)
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, t := range topics {
		u.table.release(t, until)
	}
}

// validTopic reports whether t can be a topic: the id of an object, or the presence of a user.
func validTopic(t protocol.Topic) bool {
	if user, ok := protocol.PresenceOf(t); ok {
		return protocol.ValidID(string(user))
	}
	return protocol.ValidID(string(t))
}
