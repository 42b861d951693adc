package check

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"flannel/protocol"
)

// replayClauses: the past of topics for sessions that were elsewhere.
var replayClauses = []clause{
	{"replay: every event of each topic above its position, the same as on the stream", "events come in order of position, per topic in order of seq without a hole; none is at the place asked for or below", onStream(func(ctx context.Context, s *suite, st *stream, topic protocol.Topic) error {
		from := s.position
		for range 3 {
			if _, _, err := s.post(ctx); err != nil {
				return err
			}
		}
		self := protocol.Topic(s.identity.User)
		a, err := s.replay(ctx, 0, fromPosition(topic, from), fromPosition(self, s.created-1), fromPosition("C0NOSUCHCHANNEL", from))
		if err != nil {
			return err
		}
		if len(a.Gone) > 0 {
			return fmt.Errorf("gone %v, which are minutes old, or never had an event", a.Gone)
		}
		for _, want := range []protocol.TopicState{fromPosition(topic, from), fromPosition(self, s.created-1)} {
			got := of(a, want.Topic)
			state, reset, err := st.subscribe(want)
			if err != nil || reset {
				return errors.Join(err, unless(!reset, "the stream has a reset of what replay tells"))
			}
			live, err := st.events(want.Topic, *state.Seq, len(got))
			if err != nil {
				return err
			}
			if len(got) == 0 || want.Topic == topic && len(got) < 3 {
				return fmt.Errorf("%d events of %s", len(got), want.Topic)
			}
			for i, ev := range got {
				if !sameJSON(protocol.MustMarshal(ev), protocol.MustMarshal(live[i])) {
					return fmt.Errorf("seq %d of %s is\n%.300s\non the stream\n%.300s", ev.Seq, ev.Topic, protocol.MustMarshal(ev), protocol.MustMarshal(live[i]))
				}
			}
		}
		return nil
	})},
	{"replay: an answer is whole up to its position while writes go on", "read all topics as of one snapshot, and name its position", func(ctx context.Context, s *suite) error {
		if s.channel == "" {
			return errNoChannel
		}
		topic, from := protocol.Topic(s.channel), s.position
		const writes = 20
		writer := *s // The writer has its own notes.
		writer.nonce += "r"
		done := make(chan error, 1)
		go func() {
			for range writes {
				if _, _, err := writer.post(ctx); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		var answers []*protocol.ReplayAnswer
		for range 10 {
			a, err := s.replay(ctx, 0, fromPosition(topic, from))
			if err != nil {
				return errors.Join(err, <-done)
			}
			answers = append(answers, a)
		}
		if err := <-done; err != nil {
			return err
		}
		s.saw(writer.position)
		all, err := s.replay(ctx, 0, fromPosition(topic, from))
		if err != nil {
			return err
		}
		if n := len(of(all, topic)); n != writes {
			return fmt.Errorf("%d events for %d messages", n, writes)
		}
		for _, a := range answers {
			n := 0
			for _, ev := range of(all, topic) {
				if ev.Position <= a.Position {
					n++
				}
			}
			if len(of(a, topic)) != n || slices.Contains(a.Gone, topic) {
				return fmt.Errorf("an answer up to %d has %d events; %d were up to there", a.Position, len(of(a, topic)), n)
			}
		}
		return nil
	}},
	{"replay: what does not fit under the limit is gone whole", "a topic is either told to the end or not at all", func(ctx context.Context, s *suite) error {
		if s.channel == "" {
			return errNoChannel
		}
		topic, from := protocol.Topic(s.channel), s.position
		for range 4 {
			if _, _, err := s.post(ctx); err != nil {
				return err
			}
		}
		for limit, fits := range map[int]bool{1: false, 3: false, 4: true, 5: true} {
			a, err := s.replay(ctx, limit, fromPosition(topic, from))
			if err != nil {
				return err
			}
			if slices.Contains(a.Gone, topic) == fits || len(a.Events) != map[bool]int{true: 4}[fits] {
				return fmt.Errorf("4 events with limit %d: %d came, gone %v", limit, len(a.Events), a.Gone)
			}
		}
		return nil
	}},
	{"replay: a place beyond the log's end is gone", "it is from another log; say so as the stream does by a reset", func(ctx context.Context, s *suite) error {
		if s.channel == "" {
			return errNoChannel
		}
		a, err := s.replay(ctx, 0, fromPosition(protocol.Topic(s.channel), s.position+1_000_000))
		if err == nil && (len(a.Gone) != 1 || len(a.Events) > 0) {
			err = fmt.Errorf("gone %v, %d events", a.Gone, len(a.Events))
		}
		return err
	}},
	{"replay: what the stream's replay_from allows is there", "the same log serves both; keep at least five minutes of it", onStream(func(ctx context.Context, s *suite, st *stream, topic protocol.Topic) error {
		for _, from := range []protocol.Position{max(st.hello.ReplayFrom, s.created-1), st.hello.ReplayFrom} {
			a, err := s.replay(ctx, 0, fromPosition(topic, from))
			if err != nil {
				return err
			}
			if len(a.Gone) > 0 || len(a.Events) < s.posted {
				return fmt.Errorf("from %d: gone %v, %d events of %d messages", from, a.Gone, len(a.Events), s.posted)
			}
		}
		return nil
	})},
	{"replay: 1000 topics are taken at once, 1001 and none are refused", "topics that nobody knows have no events, and are not gone", func(ctx context.Context, s *suite) error {
		if s.identity.User == "" {
			return errNobody
		}
		var topics []protocol.TopicState
		for i := range protocol.MaxReplayTopics + 1 {
			topics = append(topics, fromPosition(protocol.Topic(fmt.Sprintf("C0NOSUCH%d", i)), s.position))
		}
		a, err := s.replay(ctx, 0, topics[1:]...)
		if err != nil {
			return err
		}
		if len(a.Gone) > 0 || len(a.Events) > 0 {
			return fmt.Errorf("%d of 1000 topics without events are gone, %d events came", len(a.Gone), len(a.Events))
		}
		return s.tooMany(ctx, protocol.CallReplay, protocol.ReplayRequest{Topics: topics}, protocol.ReplayRequest{Topics: []protocol.TopicState{}})
	}},
	{"replay: a topic that is named twice counts from the lower position", "", func(ctx context.Context, s *suite) error {
		if s.channel == "" {
			return errNoChannel
		}
		topic, from := protocol.Topic(s.channel), s.position
		if _, _, err := s.post(ctx); err != nil {
			return err
		}
		a, err := s.replay(ctx, 0, fromPosition(topic, s.position), fromPosition(topic, from), fromPosition(topic, s.position))
		if err == nil && (len(a.Gone) > 0 || len(a.Events) != 1) {
			err = fmt.Errorf("gone %v, %d events; want the one event between the two positions", a.Gone, len(a.Events))
		}
		return err
	}},
	{"replay: presence topics, topics without a position and bad limits are refused with 400", "presence has no log", func(ctx context.Context, s *suite) error {
		good := fromPosition("C0NOSUCHCHANNEL", 0)
		for name, bad := range map[string]protocol.ReplayRequest{
			"presence":    {Topics: []protocol.TopicState{good, fromPosition(protocol.PresenceTopic("U0NOSUCHUSER"), 0)}},
			"no position": {Topics: []protocol.TopicState{good, {Topic: "C0NOSUCHCHANNEL"}}},
			"no topic":    {Topics: []protocol.TopicState{good, fromPosition("", 0)}},
			"limit -1":    {Topics: []protocol.TopicState{good}, Limit: -1},
			"limit 10001": {Topics: []protocol.TopicState{good}, Limit: protocol.MaxReplayEvents + 1},
		} {
			if _, err := s.refused(ctx, protocol.CallReplay, s.target.Key, protocol.MustMarshal(bad), http.StatusBadRequest); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	}},
	{"replay: at_least that is far away is answered with 503 and code behind", "as in every load", func(ctx context.Context, s *suite) error {
		body := protocol.MustMarshal(protocol.ReplayRequest{Topics: []protocol.TopicState{fromPosition("C0NOSUCHCHANNEL", 0)}, AtLeast: s.position + 1_000_000})
		e, err := s.refused(ctx, protocol.CallReplay, s.target.Key, body, http.StatusServiceUnavailable)
		if err == nil && e.Error != protocol.CodeBehind {
			err = fmt.Errorf("error is %q, want %q", e.Error, protocol.CodeBehind)
		}
		return err
	}},
}

// replay asks for a replay at the highest position seen, and checks what holds for each answer.
func (s *suite) replay(ctx context.Context, limit int, topics ...protocol.TopicState) (*protocol.ReplayAnswer, error) {
	var a protocol.ReplayAnswer
	atLeast := s.position
	if err := s.load(ctx, protocol.CallReplay, protocol.ReplayRequest{Topics: topics, Limit: limit, AtLeast: atLeast}, &a); err != nil {
		return nil, err
	}
	s.saw(a.Position)
	if a.Position < atLeast {
		return nil, fmt.Errorf("replay answered as of %d, but at_least was %d", a.Position, atLeast)
	}
	if limit == 0 {
		limit = protocol.MaxReplayEvents
	}
	if len(a.Events) > limit {
		return nil, fmt.Errorf("%d events with limit %d", len(a.Events), limit)
	}
	from := make(map[protocol.Topic]protocol.Position, len(topics))
	for _, t := range topics {
		if p, twice := from[t.Topic]; !twice || *t.Position < p {
			from[t.Topic] = *t.Position
		}
	}
	for i, ev := range a.Events {
		if ev == nil {
			return nil, errors.New("an event is null")
		}
		p, asked := from[ev.Topic]
		switch {
		case !asked || slices.Contains(a.Gone, ev.Topic):
			return nil, fmt.Errorf("an event of %s came, which was not asked for, or is gone", ev.Topic)
		case ev.Position <= p || ev.Position > a.Position:
			return nil, fmt.Errorf("an event of %s is at %d; it was asked from %d, and the answer goes to %d", ev.Topic, ev.Position, p, a.Position)
		case i > 0 && a.Events[i-1].Position > ev.Position:
			return nil, fmt.Errorf("position %d comes after %d", ev.Position, a.Events[i-1].Position)
		}
	}
	for topic := range from {
		events := of(&a, topic)
		for i := 1; i < len(events); i++ {
			if events[i].Seq != events[i-1].Seq+1 {
				return nil, fmt.Errorf("seq %d of %s comes after %d", events[i].Seq, topic, events[i-1].Seq)
			}
		}
	}
	return &a, nil
}

// of returns the events of one topic.
func of(a *protocol.ReplayAnswer, topic protocol.Topic) (events []*protocol.Event) {
	for _, ev := range a.Events {
		if ev.Topic == topic {
			events = append(events, ev)
		}
	}
	return events
}
