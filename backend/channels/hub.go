package channels

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/backend/store"
	"flannel/protocol"
)

// Config is what the hub keeps in memory. Older events come from the store's log.
type Config struct {
	// Replay is how long events stay in memory.
	Replay time.Duration `koanf:"replay"`
	// Events and Bytes bound the replay in memory, whatever its age.
	Events int `koanf:"events"`
	Bytes  int `koanf:"bytes"`
}

// Default returns the defaults: the five minutes that the upstream contract promises, of about 650 events a second.
func Default() Config {
	return Config{Replay: 5 * time.Minute, Events: 200_000, Bytes: 256 << 20}
}

// Validate reports what is wrong with the configuration.
func (c *Config) Validate() error {
	var errs []error
	if c.Replay <= 0 {
		errs = append(errs, fmt.Errorf("replay is %s; it must be above 0", c.Replay))
	}
	if c.Events < 1 {
		errs = append(errs, fmt.Errorf("events is %d; it must be at least 1", c.Events))
	}
	if c.Bytes < 1<<20 {
		errs = append(errs, fmt.Errorf("bytes is %d; it must be at least %d", c.Bytes, 1<<20))
	}
	return errors.Join(errs...)
}

// Options are what a hub is made of. All are needed.
type Options struct {
	Config     Config
	Store      store.Store
	Log        *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
	// Initial returns the state event of a topic that has state (presence) but that SetState has none for; nil for
	// every other topic. It is called under the hub's lock and must not block.
	Initial func(protocol.Topic) *protocol.Event
}

// Hub is safe for concurrent use.
type Hub struct {
	config  Config
	store   store.Store
	log     *slog.Logger
	now     func() time.Time
	initial func(protocol.Topic) *protocol.Event
	metrics *metrics

	mu sync.Mutex
	// position of the last commit that the hub heard of.
	position protocol.Position
	memory   memory
	topics   map[protocol.Topic]*topic
	// states of topics that have one: the last event of every user who is not simply away.
	states map[protocol.Topic]*Entry
	// watchers are the subscribers that want watermarks.
	watchers map[*Subscriber]struct{}
	// moved is closed at the next commit; nil while nobody waits.
	moved chan struct{}
}

// topic is kept while somebody follows it or memory holds events of it.
type topic struct {
	follows map[*Subscriber]*follow
	// events in memory, oldest first.
	events []*Entry
	// seq and at are the topic's last event; true only if known.
	known bool
	seq   protocol.Seq
	at    protocol.Position
}

// New returns a hub that stands at the store's position and registers it for the store's commits.
func New(ctx context.Context, o Options) (*Hub, error) {
	h := &Hub{
		config: o.Config, store: o.Store, log: o.Log, now: o.Now, initial: o.Initial,
		topics: make(map[protocol.Topic]*topic), states: make(map[protocol.Topic]*Entry),
		watchers: make(map[*Subscriber]struct{}),
	}
	h.metrics = newMetrics(o.Registerer, h)
	err := o.Store.View(ctx, func(r store.Reader) (err error) {
		h.position, err = r.Position()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the log's end: %w", err)
	}
	h.memory.floor = h.position
	o.Store.OnCommit(h.commit)
	return h, nil
}

// commit is told of every commit that emitted events, in order. It does not block.
func (h *Hub) commit(position protocol.Position, events []*protocol.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	for _, ev := range events {
		e := newEntry(ev, now)
		t := h.topicLocked(ev.Topic)
		t.known, t.seq, t.at = true, ev.Seq, ev.Position
		t.events = append(t.events, e)
		h.memory.add(e)
		h.metrics.event(ev.Class)
		t.deliver(e)
	}
	h.position = position
	for s := range h.watchers {
		s.mark(position)
	}
	h.evictLocked(now)
	if h.moved != nil {
		close(h.moved)
		h.moved = nil
	}
}

// Publish hands an ephemeral event to those who follow its topic now. It does not block.
func (h *Hub) Publish(ev *protocol.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.metrics.event(ev.Class)
	if t := h.topics[ev.Topic]; t != nil {
		t.deliver(newEntry(ev, h.now()))
	}
}

// SetState publishes ev as the state of its topic: those who subscribe later get it first. keep says whether it must be
// remembered; otherwise Options.Initial tells the state from here on. It does not block.
func (h *Hub) SetState(ev *protocol.Event, keep bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.metrics.event(ev.Class)
	e := newEntry(ev, h.now())
	if keep {
		h.states[ev.Topic] = e
	} else {
		delete(h.states, ev.Topic)
	}
	if t := h.topics[ev.Topic]; t != nil {
		t.deliver(e)
	}
}

// Position returns the position of the last commit that subscribers were told of.
func (h *Hub) Position() protocol.Position {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.position
}

// Wait returns nil once the hub has reached the position, or the context's error.
func (h *Hub) Wait(ctx context.Context, position protocol.Position) error {
	for {
		h.mu.Lock()
		if h.position >= position {
			h.mu.Unlock()
			return nil
		}
		if h.moved == nil {
			h.moved = make(chan struct{})
		}
		moved := h.moved
		h.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Evict forgets events that are too old. Commits do so too; a quiet backend calls it from time to time.
func (h *Hub) Evict() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.evictLocked(h.now())
}

func (h *Hub) evictLocked(now time.Time) {
	oldest := now.Add(-h.config.Replay)
	for e := range h.memory.evict(oldest, h.config.Events, h.config.Bytes) {
		t := h.topics[e.Topic]
		t.events[0] = nil // Let go of it although the slice's array stays.
		t.events = t.events[1:]
		h.tidyLocked(e.Topic, t)
	}
}

// topicLocked returns the topic and makes it if there is none.
func (h *Hub) topicLocked(id protocol.Topic) *topic {
	t := h.topics[id]
	if t == nil {
		t = &topic{follows: make(map[*Subscriber]*follow)}
		h.topics[id] = t
	}
	return t
}

// tidyLocked forgets a topic that nobody follows and memory has no events of.
func (h *Hub) tidyLocked(id protocol.Topic, t *topic) {
	if len(t.follows) == 0 && len(t.events) == 0 {
		delete(h.topics, id)
	}
}

func (t *topic) deliver(e *Entry) {
	for s, f := range t.follows {
		// A follow that began from a snapshot which was ahead of the hub has had this one already.
		if e.Position > f.after || e.Position == 0 {
			s.push(Item{Kind: ItemEvent, Entry: e, follow: f})
		}
	}
}
