package channels

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"flannel/protocol"
)

// Errors that end a subscriber.
var (
	// ErrSlow: the subscriber did not drain its queue in time and was cut off.
	ErrSlow = errors.New("subscriber is too slow")
	// ErrClosed: the subscriber was closed.
	ErrClosed = errors.New("subscriber is closed")
	// ErrTooMany: the subscriber follows as many topics as it may.
	ErrTooMany = errors.New("too many topics")
)

// ItemKind tells what an Item is.
type ItemKind uint8

// The kinds of items.
const (
	// ItemEvent is an event: Entry.
	ItemEvent ItemKind = iota
	// ItemSubscribed answers a subscription: Topics, each with the seq and position above which its events follow.
	ItemSubscribed
	// ItemReset says that the replay of Topics is gone; each goes on above the seq and position named.
	ItemReset
	// ItemFrame is what the subscriber's owner put between: Frame.
	ItemFrame
)

// Item is one thing in a subscriber's queue.
type Item struct {
	Kind   ItemKind
	Entry  *Entry
	Topics []protocol.TopicState
	Frame  []byte
	follow *follow
}

// Live reports whether the subscription that brought the event still stands. Events of one that was ended or renewed
// meanwhile are not for the subscriber any more.
func (it *Item) Live() bool { return it.follow == nil || !it.follow.dead.Load() }

// follow is one subscriber's subscription of one topic.
type follow struct {
	// after: events at or below this position have been queued or are not wanted.
	after protocol.Position
	dead  atomic.Bool
}

// Limits bound one subscriber.
type Limits struct {
	// Items and Bytes bound the queue. Half of them is what one replay may take, and where ephemeral events stop.
	Items, Bytes int
	// Topics bounds what it follows at once.
	Topics int
}

// half is what one replay may take of a queue.
func (l Limits) half() Limits {
	return Limits{Items: l.Items / 2, Bytes: l.Bytes / 2, Topics: l.Topics}
}

// without returns what is left of the limits beside events.
func (l Limits) without(events []*Entry) Limits {
	l.Items -= len(events)
	for _, e := range events {
		l.Bytes -= e.size
	}
	return l
}

// hold reports whether there is room for events.
func (l Limits) hold(events []*Entry) bool {
	left := l.without(events)
	return left.Items >= 0 && left.Bytes >= 0
}

// keepItems is the largest queue whose memory is used again: a burst must not stay with a subscriber for ever.
const keepItems = 1024

// Subscriber is a queue of what happens on the topics that it follows. Its owner drains it whenever Wake says so.
type Subscriber struct {
	hub    *Hub
	limits Limits
	// quiet subscribers get events only: no answers to subscriptions, no watermarks.
	quiet bool
	lost  func()
	// wake, capacity 1: something is in the queue. Never closed.
	wake chan struct{}
	// room, capacity 1: the queue was drained. Never closed.
	room chan struct{}

	// follows is guarded by the hub's lock.
	follows map[protocol.Topic]*follow

	mu        sync.Mutex
	queue     []Item
	bytes     int
	watermark protocol.Position
	err       error
}

// Attach returns a subscriber without topics. A quiet one gets events only. lost, if not nil, is called once if the
// subscriber is cut off for being slow: under the hub's lock, so it must not block. Close ends it.
func (h *Hub) Attach(limits Limits, quiet bool, lost func()) *Subscriber {
	s := &Subscriber{
		hub: h, limits: limits, quiet: quiet, lost: lost, wake: make(chan struct{}, 1), room: make(chan struct{}, 1),
		follows: make(map[protocol.Topic]*follow),
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.metrics.subscribers.Inc()
	if !quiet {
		h.watchers[s] = struct{}{}
		s.watermark = h.position
	}
	return s
}

// Wake returns the channel that says that there is something to drain.
func (s *Subscriber) Wake() <-chan struct{} { return s.wake }

// Drain returns what is in the queue and the watermark that holds once all of it is sent (0 for quiet subscribers). It
// reuses buf, whose items must not be used any more. An error means that the subscriber is over.
func (s *Subscriber) Drain(buf []Item) ([]Item, protocol.Position, error) {
	clear(buf)
	if cap(buf) > keepItems {
		buf = nil
	}
	s.mu.Lock()
	items := s.queue
	s.queue, s.bytes = buf[:0], 0
	watermark, err := s.watermark, s.err
	s.mu.Unlock()
	signal(s.room)
	if err != nil {
		return nil, 0, err
	}
	return items, watermark, nil
}

// Push puts a frame of the owner's into the queue, in order with the events.
func (s *Subscriber) Push(frame []byte) { s.push(Item{Kind: ItemFrame, Frame: frame}) }

// Follows reports whether the subscriber follows the topic.
func (s *Subscriber) Follows(t protocol.Topic) bool {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.follows[t] != nil
}

// Unsubscribe ends subscriptions. Their events that are in the queue are not Live any more.
func (s *Subscriber) Unsubscribe(topics ...protocol.Topic) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	for _, t := range topics {
		s.dropLocked(t)
	}
}

// Close ends the subscriber and its subscriptions. It may be called more than once.
func (s *Subscriber) Close() {
	s.mu.Lock()
	ended := errors.Is(s.err, ErrClosed)
	s.err, s.queue, s.bytes = ErrClosed, nil, 0
	s.mu.Unlock()
	signal(s.wake)
	signal(s.room)
	if ended {
		return
	}
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	for t := range s.follows {
		s.dropLocked(t)
	}
	delete(s.hub.watchers, s)
	s.hub.metrics.subscribers.Dec()
}

// dropLocked ends a subscription; the hub's lock is held.
func (s *Subscriber) dropLocked(id protocol.Topic) {
	f := s.follows[id]
	if f == nil {
		return
	}
	f.dead.Store(true)
	delete(s.follows, id)
	t := s.hub.topics[id]
	delete(t.follows, s)
	s.hub.tidyLocked(id, t)
}

// push adds one item, or cuts the subscriber off if it does not fit.
func (s *Subscriber) push(it Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	size := it.size()
	if it.Kind == ItemEvent && it.Entry.Class == protocol.ClassEphemeral && (len(s.queue) >= s.limits.Items/2 || s.bytes+size > s.limits.Bytes/2) {
		s.hub.metrics.dropped.Inc()
		return
	}
	if len(s.queue) >= s.limits.Items || s.bytes+size > s.limits.Bytes {
		s.err, s.queue, s.bytes = ErrSlow, nil, 0
		s.hub.metrics.slow.Inc()
		if s.lost != nil {
			s.lost()
		}
		signal(s.wake)
		signal(s.room)
		return
	}
	s.queue = append(s.queue, it)
	s.bytes += size
	signal(s.wake)
}

// pushAll adds the answer to a subscription, whose size Subscribe has bounded.
func (s *Subscriber) pushAll(items []Item, watermark protocol.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	for i := range items {
		s.queue = append(s.queue, items[i])
		s.bytes += items[i].size()
	}
	if !s.quiet {
		s.watermark = watermark
	}
	signal(s.wake)
}

// mark raises the watermark.
func (s *Subscriber) mark(position protocol.Position) {
	s.mu.Lock()
	s.watermark = position
	s.mu.Unlock()
	signal(s.wake)
}

// waitForRoom returns once the queue has room for a replay.
func (s *Subscriber) waitForRoom(ctx context.Context) error {
	for {
		s.mu.Lock()
		err, roomy := s.err, len(s.queue) <= s.limits.Items/4 && s.bytes <= s.limits.Bytes/4
		s.mu.Unlock()
		if err != nil || roomy {
			return err
		}
		select {
		case <-s.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (it *Item) size() int {
	switch it.Kind {
	case ItemEvent:
		return it.Entry.size
	case ItemFrame:
		return len(it.Frame) + 64 // the slice's header and the item
	default:
		return 64 * len(it.Topics) // a topic with its two numbers
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
