package upstream

import (
	"cmp"
	"context"
	"math/bits"
	"slices"

	"flannel/protocol"
)

// maxReplays is how often a topic is asked for that may be gone only because others asked with it, from further back or
// for too much: each time those who were served are out of the way.
const maxReplays = 3

// What makes an answer look as if its backend had left topics out: a quarter of the contract's events, or 1 MiB. Backends
// have bounds of their own that nobody tells; a wrong guess costs at most two calls.
const (
	crowdedEvents = protocol.MaxReplayEvents / 4
	crowdedBytes  = 1 << 20
)

// company is who asks together again. The first time that is everybody. Those whose topic is gone then ask with those who
// ask from about as far back: from 2^(n-1) to 2^n positions ago. So nobody who asked from less than half as far back as
// the backend remembers loses a topic to somebody whose past is gone.
type company int

// peers is the company of those who ask from a position, when p is the present one.
func peers(from, p protocol.Position) company {
	if from >= p {
		return 0
	}
	return company(bits.Len64(uint64(p - from)))
}

// past is what a replay says of one topic.
type past struct {
	events []placed // above from, in seq order
	gone   bool
	// from is the position that was asked for, the lowest of all callers'. crowded: others' topics may have left no room
	// for this one.
	from    protocol.Position
	crowded bool
}

// placed is an event and its place in the answer, which orders the events of one position.
type placed struct {
	ev    *protocol.Event
	place int
}

// Replay returns the events of topics above a position each (TopicState.Position, which must be set), as of a position
// at or above atLeast: of each topic that is not in Gone all events above its position and up to the answer's Position,
// in order of position, and in seq order per topic. Gone has the topics whose events the backend has no more, or that
// are too many: an answer has at most protocol.MaxReplayEvents. A topic that is named twice counts with the lower
// position.
//
// Calls within the batch window are one load, in which a topic is asked for once, from the lowest position; each caller
// gets what they asked for. A topic that is gone may have been so for the company's sake, and is asked for again in
// better company. Any number of topics may be asked for. Events are shared with other callers and must not be
// changed.
func (u *Upstream) Replay(ctx context.Context, topics []protocol.TopicState, atLeast protocol.Position) (*protocol.ReplayAnswer, error) {
	from := make(map[protocol.Topic]protocol.Position, len(topics))
	order := make([]protocol.Topic, 0, len(topics))
	for _, t := range topics {
		if t.Position == nil || !protocol.ValidID(string(t.Topic)) {
			return nil, protocol.Errorf(protocol.CodeInvalidArgs, "%q cannot be replayed, or not from nowhere", t.Topic)
		}
		p, again := from[t.Topic]
		if !again {
			order, p = append(order, t.Topic), *t.Position
		}
		from[t.Topic] = min(p, *t.Position)
	}
	answer := &protocol.ReplayAnswer{Position: atLeast}
	found := make(map[protocol.Topic]past, len(order))
	var asking []protocol.Topic
	for _, t := range order {
		if from[t] < protocol.Position(u.replayFrom.Load()) {
			found[t] = past{gone: true} // The backend said so when the stream began.
		} else {
			asking = append(asking, t)
		}
	}
	if len(asking) > 0 {
		var err error
		if answer.Position, err = u.replay(ctx, asking, from, found, atLeast); err != nil {
			return nil, told(err)
		}
	}
	composeReplay(answer, order, from, found)
	return answer, nil
}

// replay finds what happened to topics, and returns the lowest position of the loads that told it.
func (u *Upstream) replay(ctx context.Context, topics []protocol.Topic, from map[protocol.Topic]protocol.Position, found map[protocol.Topic]past, atLeast protocol.Position) (protocol.Position, error) {
	positions := func(topics []protocol.Topic) []protocol.Position {
		list := make([]protocol.Position, len(topics))
		for i, t := range topics {
			list[i] = from[t]
		}
		return list
	}
	again := make(map[company][]protocol.Topic)
	note := func(topics []protocol.Topic, answers map[protocol.Topic]past, p protocol.Position) {
		for _, t := range topics {
			a := answers[t]
			found[t] = a
			if a.gone && (a.from < from[t] || a.crowded) {
				with := peers(from[t], p)
				again[with] = append(again[with], t)
			}
		}
	}
	answers, lowest, err := u.batchers.replay.past(ctx, one{}, topics, positions(topics), atLeast)
	if err != nil {
		return 0, err
	}
	note(topics, answers, lowest)
	for i := 1; i < maxReplays && len(again) > 0; i++ {
		asking := again
		again = make(map[company][]protocol.Topic)
		for with, part := range asking {
			answers, p, err := u.batchers.peers.past(ctx, with, part, positions(part), atLeast)
			if err != nil {
				return 0, err
			}
			lowest = min(lowest, p)
			note(part, answers, p)
		}
	}
	return lowest, nil
}

// composeReplay puts one caller's answer together. What is above its position is left out: not every topic is known up
// to there.
func composeReplay(answer *protocol.ReplayAnswer, topics []protocol.Topic, from map[protocol.Topic]protocol.Position, found map[protocol.Topic]past) {
	var events []placed
	for _, t := range topics {
		a := found[t]
		if a.gone {
			answer.Gone = append(answer.Gone, t)
			continue
		}
		first, _ := slices.BinarySearchFunc(a.events, from[t]+1, byPosition)
		end, _ := slices.BinarySearchFunc(a.events, answer.Position+1, byPosition)
		if first >= end {
			continue
		}
		if len(events)+end-first > protocol.MaxReplayEvents {
			answer.Gone = append(answer.Gone, t)
			continue
		}
		events = append(events, a.events[first:end]...)
	}
	slices.SortFunc(events, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.ev.Position, b.ev.Position), cmp.Compare(a.place, b.place))
	})
	answer.Events = make([]*protocol.Event, len(events))
	for i := range events {
		answer.Events[i] = events[i].ev
	}
}

func byPosition(e placed, p protocol.Position) int { return cmp.Compare(e.ev.Position, p) }

func (u *Upstream) sendReplay(seal func() asked[protocol.Topic]) (map[protocol.Topic]past, protocol.Position, error) {
	var want asked[protocol.Topic]
	answer, err := load[protocol.ReplayAnswer](u, protocol.CallReplay, func() (any, int) {
		want = seal()
		req := protocol.ReplayRequest{AtLeast: want.atLeast, Limit: protocol.MaxReplayEvents, Topics: make([]protocol.TopicState, len(want.keys))}
		for i, t := range want.keys {
			p := want.from[t]
			req.Topics[i] = protocol.TopicState{Topic: t, Position: &p}
		}
		return req, len(want.keys)
	}, func(a *protocol.ReplayAnswer) error { return checkReplay(a, &want) })
	if err != nil {
		return nil, 0, err
	}
	bytes := 0
	for _, ev := range answer.Events {
		bytes += len(ev.Payload)
	}
	crowded := len(want.keys) > 1 && (len(answer.Events) >= crowdedEvents || bytes >= crowdedBytes)
	found := make(map[protocol.Topic]past, len(want.keys))
	for _, t := range want.keys {
		found[t] = past{from: want.from[t], crowded: crowded}
	}
	for i, ev := range answer.Events {
		a := found[ev.Topic]
		a.events = append(a.events, placed{ev, i})
		found[ev.Topic] = a
	}
	for _, t := range answer.Gone {
		a := found[t]
		a.gone = true
		found[t] = a
	}
	return found, answer.Position, nil
}

// checkReplay refuses an answer that is not what was asked for, whole and in order.
func checkReplay(a *protocol.ReplayAnswer, want *asked[protocol.Topic]) error {
	if len(a.Events) > protocol.MaxReplayEvents {
		return badAnswer("%d events are replayed", len(a.Events))
	}
	last := make(map[protocol.Topic]protocol.Seq)
	var position protocol.Position
	for _, ev := range a.Events {
		if ev == nil {
			return badAnswer("an event is null")
		}
		from, ours := want.from[ev.Topic]
		before, seen := last[ev.Topic]
		switch {
		case !ours:
			return badAnswer("an event is of a topic that was not asked for")
		case ev.Position <= from || ev.Position > a.Position:
			return badAnswer("an event is at %d, asked was for those above %d, and the answer stands at %d", ev.Position, from, a.Position)
		case ev.Position < position:
			return badAnswer("events are out of order: %d after %d", ev.Position, position)
		case ev.Seq == 0 || seen && ev.Seq != before+1:
			return badAnswer("an event has seq %d, the one before it %d", ev.Seq, before)
		}
		last[ev.Topic], position = ev.Seq, ev.Position
	}
	for _, t := range a.Gone {
		if _, ours := want.from[t]; !ours {
			return badAnswer("a topic is gone that was not asked for")
		}
		if _, told := last[t]; told {
			return badAnswer("a topic is gone and has events")
		}
	}
	return reached(a.Position, want.atLeast)
}
