package gateway

import (
	"context"
	"encoding/json"

	"flannel/backend/channels"
	"flannel/protocol"
)

// replayBytes bounds the events of one answer, as the hub counts them, which is about twice their JSON. Beyond it a
// client that loads again is better off.
const replayBytes = 64 << 20

// replayAnswer is protocol.ReplayAnswer with events that are encoded already: the same ones go to many.
type replayAnswer struct {
	Events   []json.RawMessage `json:"events"`
	Gone     []protocol.Topic  `json:"gone,omitempty"`
	Position protocol.Position `json:"position"`
}

// replay answers from the hub: memory first, then the store's log.
func (g *Gateway) replay(ctx context.Context, body []byte) (any, error) {
	var req protocol.ReplayRequest
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	if err := within("topics", len(req.Topics), protocol.MaxReplayTopics); err != nil {
		return nil, err
	}
	if req.Limit < 0 || req.Limit > protocol.MaxReplayEvents {
		return nil, protocol.Errorf(protocol.CodeInvalidLimit, "limit is %d; choose between 1 and %d", req.Limit, protocol.MaxReplayEvents)
	}
	if req.Limit == 0 {
		req.Limit = protocol.MaxReplayEvents
	}
	topics, err := replayTopics(req.Topics)
	if err != nil {
		return nil, err
	}
	if err := g.reach(ctx, req.AtLeast); err != nil {
		return nil, err
	}
	r, err := g.hub.Replay(ctx, topics, channels.Limits{Items: req.Limit, Bytes: replayBytes})
	if err != nil {
		return nil, err
	}
	answer := &replayAnswer{Events: make([]json.RawMessage, len(r.Events)), Gone: r.Gone, Position: r.Position}
	for i, e := range r.Events {
		answer.Events[i] = e.JSON()
	}
	return answer, nil
}

// replayTopics checks what is asked for. A topic that is named twice counts once, from its lower position.
func replayTopics(asked []protocol.TopicState) ([]protocol.TopicState, error) {
	topics := make([]protocol.TopicState, 0, len(asked))
	at := make(map[protocol.Topic]int, len(asked))
	for _, want := range asked {
		if !protocol.ValidID(string(want.Topic)) {
			return nil, protocol.Errorf(protocol.CodeInvalidArgs, "%q has no log; name a channel, a user or a workspace", want.Topic)
		}
		if want.Position == nil {
			return nil, protocol.Errorf(protocol.CodeInvalidArgs, "topic %q lacks the position", want.Topic)
		}
		if i, twice := at[want.Topic]; twice {
			lower := min(*topics[i].Position, *want.Position)
			topics[i].Position = &lower
			continue
		}
		at[want.Topic] = len(topics)
		topics = append(topics, protocol.TopicState{Topic: want.Topic, Position: want.Position})
	}
	return topics, nil
}

// reach waits until the hub has reached a position, as long as the contract allows.
func (g *Gateway) reach(ctx context.Context, position protocol.Position) error {
	wait, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	if g.hub.Wait(wait, position) != nil {
		return errBehind
	}
	return nil
}
