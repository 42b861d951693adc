package channels

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"flannel/backend/store"
	"flannel/protocol"
)

const (
	// roundTopics is how many topics are answered in one step: enough to share a transaction, few enough that the hub's
	// lock is not held for long.
	roundTopics = 100
	// attempts to hand over from a snapshot to memory: one fails only if memory forgot a snapshot's worth of events in
	// the moment after it was taken.
	attempts = 3
	// page is how many events are read from the store at a time.
	page = 500
)

// start is where and with what a subscription begins.
type start struct {
	seq      protocol.Seq
	position protocol.Position
	reset    bool
	events   []*Entry
}

// plan is what the store says about topics as of one snapshot.
type plan struct {
	at     protocol.Position
	starts []start // of the first topics of the round
	heads  []head
}

type head struct {
	seq protocol.Seq
	at  protocol.Position
}

// Subscribe follows topics, each from the place that it names: above a position, above a seq, or from now. Topics that
// are followed already begin anew. It puts the answers and the replay into the queue, waiting for room for them unless
// the subscriber is quiet (then its owner may call it from where it drains).
func (s *Subscriber) Subscribe(ctx context.Context, topics []protocol.TopicState) error {
	for len(topics) > 0 {
		if !s.quiet {
			if err := s.waitForRoom(ctx); err != nil {
				return err
			}
		}
		n, err := s.subscribeSome(ctx, topics[:min(len(topics), roundTopics)])
		if err != nil {
			return err
		}
		topics = topics[n:]
	}
	return nil
}

// subscribeSome follows the first topics, at least one, and returns how many.
func (s *Subscriber) subscribeSome(ctx context.Context, topics []protocol.TopicState) (int, error) {
	if n, err := s.begin(topics, nil); n > 0 || err != nil {
		return n, err
	}
	for range attempts {
		p, err := s.hub.plan(ctx, topics, s.limits)
		if err != nil {
			return 0, err
		}
		if n, err := s.begin(topics[:len(p.starts)], p); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, errors.New("the log moves faster than it can be read")
}

// begin is the handover. In one step under the hub's lock it works out where each topic starts, attaches to it, and
// queues the answer and the replay. Without a plan it stops at the first topic that memory cannot answer.
func (s *Subscriber) begin(topics []protocol.TopicState, p *plan) (int, error) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if p != nil && h.memory.floor > p.at {
		return 0, nil // Events between the snapshot and memory are gone from memory.
	}
	after := h.position
	if p != nil {
		after = max(after, p.at)
	}
	var (
		n, bytes           int
		subscribed, resets []protocol.TopicState
		replay             []Item
	)
	for i, want := range topics {
		st := start{position: h.position}
		_, presence := protocol.PresenceOf(want.Topic)
		if !presence {
			var ok bool
			if p != nil {
				st = h.fromPlanLocked(want.Topic, p, i)
			} else if st, ok = h.fromMemoryLocked(want, s.quiet); !ok {
				break
			}
			if !st.reset && !s.limits.half().hold(st.events) {
				st = start{seq: st.events[len(st.events)-1].Seq, position: after, reset: true}
			}
			if n > 0 && (len(replay)+len(st.events) > s.limits.Items/2 || bytes > s.limits.Bytes/2) {
				break
			}
		}
		if s.follows[want.Topic] == nil && len(s.follows) >= s.limits.Topics {
			return n, ErrTooMany
		}
		f := s.attachLocked(want.Topic, after)
		state := protocol.TopicState{Topic: want.Topic, Seq: &st.seq, Position: &st.position}
		switch {
		case st.reset:
			resets = append(resets, state)
			h.metrics.resets.Inc()
		default:
			subscribed = append(subscribed, state)
		}
		if presence {
			if e := h.stateLocked(want.Topic); e != nil {
				replay = append(replay, Item{Kind: ItemEvent, Entry: e, follow: f})
			}
		}
		for _, e := range st.events {
			replay = append(replay, Item{Kind: ItemEvent, Entry: e, follow: f})
			bytes += e.size
		}
		n++
	}
	h.metrics.replayed.Add(float64(len(replay)))
	// In commit order across topics too, which nobody is promised but which reads better.
	slices.SortStableFunc(replay, func(a, b Item) int { return byPosition(a.Entry, b.Entry) })
	var items []Item
	if !s.quiet {
		if len(subscribed) > 0 {
			items = append(items, Item{Kind: ItemSubscribed, Topics: subscribed})
		}
		if len(resets) > 0 {
			items = append(items, Item{Kind: ItemReset, Topics: resets})
		}
	}
	s.pushAll(append(items, replay...), h.position)
	return n, nil
}

// attachLocked makes the subscription, in place of one that there was.
func (s *Subscriber) attachLocked(id protocol.Topic, after protocol.Position) *follow {
	if old := s.follows[id]; old != nil {
		old.dead.Store(true)
	}
	f := &follow{after: after}
	s.follows[id] = f
	s.hub.topicLocked(id).follows[s] = f
	return f
}

// stateLocked returns the state event of a topic that has state.
func (h *Hub) stateLocked(id protocol.Topic) *Entry {
	if e := h.states[id]; e != nil {
		return e
	}
	if ev := h.initial(id); ev != nil {
		return newEntry(ev, h.now())
	}
	return nil
}

// fromMemoryLocked works out the start of a topic from what memory has; ok is false if the store must be asked. Quiet
// subscribers do not care about the seq.
func (h *Hub) fromMemoryLocked(want protocol.TopicState, quiet bool) (st start, ok bool) {
	t := h.topics[want.Topic]
	if t == nil {
		t = &topic{}
	}
	switch {
	case want.Seq != nil:
		seq := *want.Seq
		if !t.known || seq > t.seq {
			return start{}, false
		}
		if seq == t.seq {
			return start{seq: seq, position: t.at}, true
		}
		events := t.after(seq)
		if len(events) == 0 || events[0].Seq != seq+1 {
			return start{}, false
		}
		return start{seq: seq, position: events[0].Position - 1, events: events}, true
	case want.Position != nil:
		p := *want.Position
		if p < h.memory.floor || p > h.position {
			return start{}, false
		}
		st = start{seq: t.seq, position: p, events: t.above(p)}
		if len(st.events) > 0 {
			st.seq = st.events[0].Seq - 1
			return st, true
		}
		return st, t.known || quiet
	default:
		return start{seq: t.seq, position: h.position}, t.known || quiet
	}
}

// fromPlanLocked joins what the store said as of the plan's snapshot with what memory has above it.
func (h *Hub) fromPlanLocked(id protocol.Topic, p *plan, i int) start {
	st := p.starts[i]
	t := h.topicLocked(id)
	if newer := t.above(p.at); len(newer) > 0 {
		st.events = append(slices.Clip(st.events), newer...)
	} else if !t.known && p.at <= h.position {
		t.known, t.seq, t.at = true, p.heads[i].seq, p.heads[i].at
	}
	return st
}

// plan reads from the store where the first topics start, as of one snapshot: as many as one replay may take.
func (h *Hub) plan(ctx context.Context, topics []protocol.TopicState, limits Limits) (*plan, error) {
	p := &plan{}
	err := h.store.View(ctx, func(r store.Reader) error {
		*p = plan{}
		var err error
		if p.at, err = r.Position(); err != nil {
			return err
		}
		replayFrom, err := r.ReplayFrom()
		if err != nil {
			return err
		}
		events := 0
		for _, want := range topics {
			var st start
			var hd head
			if _, presence := protocol.PresenceOf(want.Topic); !presence {
				if st, hd, err = h.planOne(r, want, p.at, replayFrom, limits.half()); err != nil {
					return fmt.Errorf("read topic %q: %w", want.Topic, err)
				}
			}
			p.starts, p.heads = append(p.starts, st), append(p.heads, hd)
			if events += len(st.events); events > limits.Items/2 {
				break
			}
		}
		return nil
	})
	return p, err
}

// planOne works out the start of one topic as of the snapshot at position at. A replay over the limits is a reset.
func (h *Hub) planOne(r store.Reader, want protocol.TopicState, at, replayFrom protocol.Position, limits Limits) (st start, hd head, err error) {
	if hd.seq, hd.at, err = r.Head(want.Topic); err != nil {
		return st, hd, err
	}
	gone := start{seq: hd.seq, position: at, reset: true}
	var after protocol.Seq
	switch {
	case want.Seq != nil:
		after = *want.Seq
		if after == hd.seq {
			return start{seq: hd.seq, position: hd.at}, hd, nil
		}
		if after > hd.seq { // from another log
			return gone, hd, nil
		}
	case want.Position != nil:
		p := *want.Position
		if p > at { // from another log
			return gone, hd, nil
		}
		if hd.at <= p {
			return start{seq: hd.seq, position: p}, hd, nil
		}
		if after, err = firstAbove(r, want.Topic, hd.seq, p); err != nil {
			return st, hd, err
		}
	default:
		return start{seq: hd.seq, position: at}, hd, nil
	}
	for first := true; ; first = false {
		events, err := r.TopicEvents(want.Topic, after, page)
		if err != nil {
			return st, hd, err
		}
		if first && pruned(want, events, replayFrom) {
			return gone, hd, nil
		}
		for _, ev := range events {
			after = ev.Seq
			if want.Position != nil && ev.Position <= *want.Position {
				continue
			}
			st.events = append(st.events, newEntry(ev, h.now()))
		}
		if !limits.hold(st.events) {
			return gone, hd, nil
		}
		if len(events) < page {
			break
		}
	}
	st.seq = st.events[0].Seq - 1
	st.position = st.events[0].Position - 1
	if want.Position != nil {
		st.position = *want.Position
	}
	return st, hd, nil
}

// pruned reports whether events that the subscription wants are gone. retained are the first that the log still has,
// after the seq if a seq is wanted; there is an event above the place.
func pruned(want protocol.TopicState, retained []*protocol.Event, replayFrom protocol.Position) bool {
	switch {
	case len(retained) == 0:
		return true
	case want.Seq != nil:
		return retained[0].Seq != *want.Seq+1
	default:
		return *want.Position < replayFrom && retained[0].Seq != 1 && retained[0].Position > *want.Position
	}
}
