package channels

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"flannel/backend/store"
	"flannel/protocol"
)

// Replayed is what a Replay found.
type Replayed struct {
	// Events of every topic that is not gone, above its position: in order of position, per topic in order of seq.
	Events []*Entry
	// Gone are the topics, in the order of the request, whose events cannot all be told: they are older than the log, the
	// place is beyond its end (from another log), or they are more than the limits allow. None of their events is there.
	Gone []protocol.Topic
	// Position up to which all this holds.
	Position protocol.Position
}

// Replay tells the events of topics above a position each (TopicState.Position, which must be set) without following
// them; the topics must be distinct. What memory does not have comes from the store. limits bound what is found, Items
// and Bytes together for all topics; a topic that does not fit is gone, and smaller ones behind it may still fit.
func (h *Hub) Replay(ctx context.Context, topics []protocol.TopicState, limits Limits) (Replayed, error) {
	for range attempts {
		older := h.olderThanMemory(topics)
		p := &replayPlan{}
		if len(older) > 0 {
			var err error
			if p, err = h.planReplay(ctx, older, limits); err != nil {
				return Replayed{}, err
			}
			// The store is ahead of what the hub has heard by the commits of this very moment.
			if err := h.Wait(ctx, p.at); err != nil {
				return Replayed{}, err
			}
		}
		if r, ok := h.join(topics, p, limits); ok {
			return r, nil
		}
	}
	return Replayed{}, errors.New("the log moves faster than it can be read")
}

// replayPlan is what the store says about topics as of one snapshot.
type replayPlan struct {
	at     protocol.Position
	starts map[protocol.Topic]start
}

// olderThanMemory returns the topics that memory cannot answer.
func (h *Hub) olderThanMemory(topics []protocol.TopicState) []protocol.TopicState {
	h.mu.Lock()
	defer h.mu.Unlock()
	var older []protocol.TopicState
	for _, want := range topics {
		if p := *want.Position; p < h.memory.floor || p > h.position {
			older = append(older, want)
		}
	}
	return older
}

// planReplay reads what the store has of topics. Together they stay within the limits.
func (h *Hub) planReplay(ctx context.Context, topics []protocol.TopicState, limits Limits) (*replayPlan, error) {
	p := &replayPlan{}
	err := h.store.View(ctx, func(r store.Reader) error {
		left := limits
		p.starts = make(map[protocol.Topic]start, len(topics))
		var err error
		if p.at, err = r.Position(); err != nil {
			return err
		}
		replayFrom, err := r.ReplayFrom()
		if err != nil {
			return err
		}
		for _, want := range topics {
			st, _, err := h.planOne(r, want, p.at, replayFrom, left)
			if err != nil {
				return fmt.Errorf("read topic %q: %w", want.Topic, err)
			}
			left = left.without(st.events)
			p.starts[want.Topic] = st
		}
		return nil
	})
	return p, err
}

// join puts together, as of the plan's position, what the store said and what memory has of the other topics; ok is
// false if memory has forgotten some of it meanwhile. An empty plan is as of now.
func (h *Hub) join(topics []protocol.TopicState, p *replayPlan, limits Limits) (r Replayed, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.Position = h.position
	if p.starts != nil {
		r.Position = p.at
	}
	for _, want := range topics {
		st, planned := p.starts[want.Topic]
		if !planned {
			from := *want.Position
			if from < h.memory.floor {
				return r, false
			}
			// It was not beyond the hub's position, which the plan's is not below.
			if t := h.topics[want.Topic]; t != nil {
				st.events = t.above(from)
				for len(st.events) > 0 && st.events[len(st.events)-1].Position > r.Position {
					st.events = st.events[:len(st.events)-1]
				}
			}
		}
		if st.reset || !limits.hold(st.events) {
			r.Gone = append(r.Gone, want.Topic)
			continue
		}
		limits = limits.without(st.events)
		r.Events = append(r.Events, st.events...)
	}
	// Stable, so that the events of one topic in one commit stay in their order.
	slices.SortStableFunc(r.Events, byPosition)
	h.metrics.replayed.Add(float64(len(r.Events)))
	return r, true
}

// firstAbove returns the seq before the first event of a topic that the log still has above a position; head is the
// topic's last seq, whose event is above the position. Positions rise with the seq, so a dozen look-ups find it, however
// much is retained.
func firstAbove(r store.Reader, topic protocol.Topic, head protocol.Seq, p protocol.Position) (protocol.Seq, error) {
	// What is retained of the topic up to low is at the position or below, from high on it is above.
	low, high := protocol.Seq(0), head
	for low+1 < high {
		middle := low + (high-low)/2
		events, err := r.TopicEvents(topic, middle-1, 1) // at middle, or the oldest that there is
		if err != nil {
			return 0, err
		}
		switch {
		case len(events) == 0: // All is pruned, the last one too.
			return head, nil
		case events[0].Position > p:
			high = middle
		default:
			low = events[0].Seq
		}
	}
	return low, nil
}
