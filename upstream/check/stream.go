package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/fasthttp/websocket"

	"flannel/protocol"
)

func fromSeq(t protocol.Topic, seq protocol.Seq) protocol.TopicState {
	return protocol.TopicState{Topic: t, Seq: &seq}
}

func fromPosition(t protocol.Topic, p protocol.Position) protocol.TopicState {
	return protocol.TopicState{Topic: t, Position: &p}
}

// onStream runs fn on a fresh stream, with the suite's channel as topic.
func onStream(fn func(ctx context.Context, s *suite, st *stream, topic protocol.Topic) error) func(context.Context, *suite) error {
	return func(ctx context.Context, s *suite) error {
		if s.channel == "" {
			return errNoChannel
		}
		st, err := s.open(ctx)
		if err != nil {
			return err
		}
		defer st.close()
		return fn(ctx, s, st, protocol.Topic(s.channel))
	}
}

var streamClauses = []clause{
	{"stream: the service key is wanted", "answer the handshake with 401", func(ctx context.Context, s *suite) error {
		conn, resp, err := s.dial(ctx, "wrong")
		if conn != nil {
			conn.Close() //nolint:errcheck // It should not be there.
		}
		if err == nil || resp == nil || resp.StatusCode != http.StatusUnauthorized {
			return errors.New("a wrong key was not answered with 401")
		}
		return nil
	}},
	{"stream: hello comes first and names version, position, replay_from and heartbeat_ms", "position is the log's end; subscriptions at or above replay_from can be replayed", func(ctx context.Context, s *suite) error {
		seen := s.position
		st, err := s.open(ctx)
		if err != nil {
			return err
		}
		defer st.close()
		h := &st.hello
		switch {
		case h.Type != protocol.StreamHello:
			return fmt.Errorf("the first frame is %q", h.Type)
		case h.Version != protocol.UpstreamVersion:
			return fmt.Errorf("version %d, want %d", h.Version, protocol.UpstreamVersion)
		case h.Position < seen:
			return fmt.Errorf("position %d, but a write or a load had %d before", h.Position, seen)
		case h.ReplayFrom > h.Position:
			return fmt.Errorf("replay_from %d lies behind position %d", h.ReplayFrom, h.Position)
		case h.HeartbeatMS <= 0 || h.HeartbeatMS > 60_000:
			return fmt.Errorf("heartbeat_ms is %d; choose between 1 and 60000", h.HeartbeatMS)
		}
		return nil
	}},
	{"stream: a subscription from now gets what comes after \"subscribed\"", "subscribed names the topic's last seq; the next event has the next one", onStream(func(ctx context.Context, s *suite, st *stream, topic protocol.Topic) error {
		state, reset, err := st.subscribe(protocol.TopicState{Topic: topic})
		if err != nil || reset {
			return errors.Join(err, unless(!reset, "a reset came instead"))
		}
		a, text, err := s.post(ctx)
		if err != nil {
			return err
		}
		events, err := st.events(topic, *state.Seq, 1)
		if err != nil {
			return err
		}
		ev := events[0]
		var payload protocol.Message
		if err := json.Unmarshal(ev.Payload, &payload); err != nil {
			return fmt.Errorf("the payload is no message: %w", err)
		}
		switch {
		case ev.Position != a.position:
			return fmt.Errorf("the event has position %d, the write's answer said %d", ev.Position, a.position)
		case ev.Class != protocol.ClassMessage || ev.Type != "message":
			return fmt.Errorf("the event has class %q, type %q", ev.Class, ev.Type)
		case payload.Text != text || payload.TS != a.fields.TS || payload.Channel != s.channel || payload.User != s.identity.User:
			return fmt.Errorf("the payload is %.200s", ev.Payload)
		case !slices.Contains(ev.Refs, protocol.ObjectID(s.identity.User)):
			return fmt.Errorf("refs %v lack the author", ev.Refs)
		}
		return nil
	})},
	{"stream: a watermark passes each write, after its events", "send {\"type\":\"watermark\",\"position\":P} once everything up to P on the followed topics has been sent, within a second", onStream(func(ctx context.Context, s *suite, st *stream, topic protocol.Topic) error {
		if _, _, err := st.subscribe(protocol.TopicState{Topic: topic}); err != nil {
			return err
		}
		a, _, err := s.post(ctx)
		if err != nil {
			return err
		}
		began, seen := time.Now(), false
		err = st.until("the watermark of a write", func(f *protocol.StreamFrame) (bool, error) {
			for _, ev := range f.Events {
				seen = seen || ev.Position == a.position
			}
			return f.Type == protocol.StreamWatermark && f.Position >= a.position, nil
		})
		switch {
		case err != nil:
			return err
		case !seen:
			return errors.New("it came before the write's event")
		case time.Since(began) > time.Second:
			return fmt.Errorf("it came after %s; objects are to be fresh within a second", time.Since(began).Round(time.Millisecond))
		}
		return nil
	})},
	{"stream: watermarks pass writes on topics that are not followed", "a node waits for its own writes by them", onStream(func(ctx context.Context, s *suite, st *stream, _ protocol.Topic) error {
		a, _, err := s.post(ctx)
		if err != nil {
			return err
		}
		return st.reached(a.position)
	})},
	{"stream: a watermark follows the replay of each subscription, even if it stands", "it tells the node that the replay is through", onStream(func(_ context.Context, s *suite, st *stream, topic protocol.Topic) error {
		// A first subscription brings the watermark to the log's end, the second finds it there.
		if _, _, err := st.subscribe(protocol.TopicState{Topic: "T0CHECK"}); err != nil {
			return err
		}
		if err := st.reached(st.hello.Position); err != nil {
			return err
		}
		state, _, err := st.subscribe(fromSeq(topic, 0))
		if err != nil {
			return err
		}
		seq := *state.Seq
		err = st.until("a watermark after the replay", func(f *protocol.StreamFrame) (bool, error) {
			for _, ev := range f.Events {
				seq = max(seq, ev.Seq)
			}
			return f.Type == protocol.StreamWatermark && f.Position >= s.position, nil
		})
		return errors.Join(err, unless(err != nil || int(seq) >= s.posted, "it came before the events")) //nolint:gosec // Small.
	})},
	{"stream: a subscription with a seq gets every event above it", "replay first, then live, without a hole between", onStream(func(ctx context.Context, s *suite, st *stream, topic protocol.Topic) error {
		state, reset, err := st.subscribe(fromSeq(topic, 0))
		if err != nil || reset {
			return errors.Join(err, unless(!reset, "the topic is a minute old; its replay cannot be gone"))
		}
		if *state.Seq != 0 {
			return fmt.Errorf("subscribed says seq %d, the subscription 0", *state.Seq)
		}
		all, err := st.events(topic, 0, s.posted)
		if err != nil {
			return err
		}
		if _, _, err := s.post(ctx); err != nil {
			return err
		}
		more, err := st.events(topic, all[len(all)-1].Seq, 1)
		if err != nil {
			return err
		}
		// Again from the middle, on the same stream: that begins anew.
		middle := all[len(all)/2].Seq
		if _, _, err := st.subscribe(fromSeq(topic, middle)); err != nil {
			return err
		}
		_, err = st.events(topic, middle, int(more[0].Seq-middle)) //nolint:gosec // Small.
		return err
	})},
	{"stream: a subscription with a position gets every event above it", "events of one commit share its position; all of them are above the one before", onStream(func(ctx context.Context, s *suite, st *stream, topic protocol.Topic) error {
		_, _, err := s.post(ctx)
		if err != nil {
			return err
		}
		before := s.position
		var want []protocol.TS
		for range 3 {
			a, _, err := s.post(ctx)
			if err != nil {
				return err
			}
			want = append(want, a.fields.TS)
		}
		state, reset, err := st.subscribe(fromPosition(topic, before))
		if err != nil || reset {
			return errors.Join(err, unless(!reset, "a reset came instead"))
		}
		got, err := st.events(topic, *state.Seq, len(want))
		if err != nil {
			return err
		}
		for i, ev := range got {
			if !strings.Contains(string(ev.Payload), string(want[i])) || ev.Position <= before {
				return fmt.Errorf("event %d at position %d is %.100s; want the message %s", i, ev.Position, ev.Payload, want[i])
			}
		}
		return nil
	})},
	{"stream: what happened while no stream was open is replayed", "keep at least five minutes of events", func(ctx context.Context, s *suite) error {
		var seq protocol.Seq
		return errors.Join(
			onStream(func(_ context.Context, _ *suite, st *stream, topic protocol.Topic) error {
				state, _, err := st.subscribe(protocol.TopicState{Topic: topic})
				if err == nil {
					seq = *state.Seq
				}
				return err
			})(ctx, s),
			onStream(func(ctx context.Context, s *suite, st *stream, topic protocol.Topic) error {
				st.close()
				for range 5 {
					if _, _, err := s.post(ctx); err != nil {
						return err
					}
				}
				again, err := s.open(ctx)
				if err != nil {
					return err
				}
				defer again.close()
				if _, _, err := again.subscribe(fromSeq(topic, seq)); err != nil {
					return err
				}
				_, err = again.events(topic, seq, 5)
				return err
			})(ctx, s),
		)
	}},
	{"stream: a place that the log does not have is a reset", "a seq or a position beyond the end is from another log: send reset with the seq and position to go on from", onStream(func(ctx context.Context, s *suite, st *stream, topic protocol.Topic) error {
		for _, want := range []protocol.TopicState{fromSeq(topic, 1_000_000), fromPosition(topic, s.position+1_000_000)} {
			state, reset, err := st.subscribe(want)
			if err != nil {
				return err
			}
			if !reset {
				return errors.New("subscribed came instead")
			}
			if _, _, err := s.post(ctx); err != nil {
				return err
			}
			if _, err := st.events(topic, *state.Seq, 1); err != nil {
				return fmt.Errorf("after the reset: %w", err)
			}
		}
		return nil
	})},
	{"stream: nothing is lost between replay and live while writes go on", "take the replay's end and the first live event in one step", onStream(func(ctx context.Context, s *suite, st *stream, topic protocol.Topic) error {
		state, _, err := st.subscribe(protocol.TopicState{Topic: topic})
		if err != nil {
			return err
		}
		base := *state.Seq
		const writes = 40
		// The writer has its own notes.
		writer := *s
		writer.nonce += "w"
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
		// Each subscription that begins in between must see a whole run from the same base.
		for range 8 {
			other, err := s.open(ctx)
			if err != nil {
				return errors.Join(err, <-done)
			}
			_, _, err = other.subscribe(fromSeq(topic, base))
			if err == nil {
				_, err = other.events(topic, base, writes)
			}
			other.close()
			if err != nil {
				return errors.Join(err, <-done)
			}
		}
		if err := <-done; err != nil {
			return err
		}
		s.saw(writer.position)
		_, err = st.events(topic, base, writes)
		return err
	})},
	{"stream: 1000 topics are taken in one frame", "topics that nobody knows are subscribed to like others: they may come to be", onStream(func(_ context.Context, s *suite, st *stream, _ protocol.Topic) error {
		var topics []protocol.TopicState
		for i := range protocol.MaxStreamTopics {
			topics = append(topics, fromPosition(protocol.Topic(fmt.Sprintf("C0CHECK%d", i)), s.position))
		}
		if err := st.say(protocol.StreamFrame{Type: protocol.StreamSubscribe, Topics: topics}); err != nil {
			return err
		}
		n := 0
		return st.until("1000 topics subscribed", func(f *protocol.StreamFrame) (bool, error) {
			if f.Type == protocol.StreamReset {
				return false, fmt.Errorf("reset of %s, which has no events", f.Topics[0].Topic)
			}
			if f.Type == protocol.StreamSubscribed {
				n += len(f.Topics)
			}
			return n >= len(topics), nil
		})
	})},
	{"stream: after unsubscribe nothing more comes", "", onStream(func(ctx context.Context, s *suite, st *stream, topic protocol.Topic) error {
		if _, _, err := st.subscribe(protocol.TopicState{Topic: topic}); err != nil {
			return err
		}
		if err := st.say(protocol.StreamFrame{Type: protocol.StreamUnsubscribe, Topics: []protocol.TopicState{{Topic: topic}}}); err != nil {
			return err
		}
		// A pong comes after everything that was said before it was understood.
		if err := st.ping(77); err != nil {
			return err
		}
		a, _, err := s.post(ctx)
		if err != nil {
			return err
		}
		return st.until("the watermark of a write", func(f *protocol.StreamFrame) (bool, error) {
			for _, ev := range f.Events {
				if ev.Topic == topic {
					return false, errors.New("an event of the topic came")
				}
			}
			return f.Type == protocol.StreamWatermark && f.Position >= a.position, nil
		})
	})},
	{"stream: ping is answered with pong and the same id", "", onStream(func(_ context.Context, _ *suite, st *stream, _ protocol.Topic) error { return st.ping(4711) })},
	{"stream: a pong comes after the answers to what was sent before the ping", "handle an edge's frames in order, and put the pong behind the replays that they called for", onStream(func(_ context.Context, s *suite, st *stream, topic protocol.Topic) error {
		const rounds, burst = 40, 5
		for round := range rounds {
			// Several at once, so that the backend is busy when the ping comes.
			for i := range burst {
				asked := protocol.StreamFrame{Type: protocol.StreamSubscribe, Topics: []protocol.TopicState{fromSeq(topic, 0), {Topic: "T0CHECK"}}}
				ping := protocol.StreamFrame{Type: protocol.StreamPing, ID: int64(1000 + round*burst + i)}
				if err := errors.Join(st.say(asked), st.say(ping)); err != nil {
					return err
				}
			}
			var answered, replayed int
			for i := range burst {
				id := int64(1000 + round*burst + i)
				err := st.until("pong", func(f *protocol.StreamFrame) (bool, error) {
					if f.Type == protocol.StreamSubscribed {
						answered += len(f.Topics)
					}
					for _, ev := range f.Events {
						replayed = max(replayed, int(ev.Seq)) //nolint:gosec // Small.
					}
					return f.Type == protocol.StreamPong && f.ID == id, nil
				})
				if err != nil {
					return err
				}
				if answered < 2*(i+1) {
					return fmt.Errorf("pong %d came when %d of %d topics were answered", i+1, answered, 2*(i+1))
				}
			}
			if replayed < s.posted { // Of the last subscription; the ones before it were renewed.
				return fmt.Errorf("it came after the event with seq %d; %d messages were to be replayed", replayed, s.posted)
			}
		}
		return nil
	})},
	{"stream: frames of unknown type are ignored", "a newer edge may say more than a backend knows", onStream(func(_ context.Context, _ *suite, st *stream, _ protocol.Topic) error {
		if err := st.say(protocol.StreamFrame{Type: "nonsense"}); err != nil {
			return err
		}
		return st.ping(1)
	})},
	{"stream: the backend says something within each heartbeat", "send a ping or a watermark; both sides close a stream that was silent for three", onStream(func(_ context.Context, s *suite, st *stream, _ protocol.Topic) error {
		within := time.Duration(st.hello.HeartbeatMS)*time.Millisecond + s.target.Patience
		for range 2 {
			_ = st.conn.SetReadDeadline(time.Now().Add(within))
			if _, _, err := st.conn.ReadMessage(); err != nil {
				return fmt.Errorf("nothing came within %s: %w", within, err)
			}
		}
		return nil
	})},
	{"stream: published typing reaches the channel's followers, without seq", "hand ephemeral events to every stream that follows the topic, the publisher's own included", onStream(func(ctx context.Context, s *suite, st *stream, topic protocol.Topic) error {
		other, err := s.open(ctx)
		if err != nil {
			return err
		}
		defer other.close()
		for _, x := range []*stream{st, other} {
			if _, _, err := x.subscribe(protocol.TopicState{Topic: topic}); err != nil {
				return err
			}
		}
		typing := &protocol.Event{
			Topic: topic, Type: protocol.FrameUserTyping, Class: protocol.ClassEphemeral, Except: s.identity.User,
			Payload: protocol.MustMarshal(map[string]string{"type": protocol.FrameUserTyping, "channel": string(s.channel), "user": string(s.identity.User)}),
		}
		if err := st.say(protocol.StreamFrame{Type: protocol.StreamPublish, Events: []*protocol.Event{typing}}); err != nil {
			return err
		}
		for _, x := range []*stream{st, other} {
			err := x.until("the typing event", func(f *protocol.StreamFrame) (bool, error) {
				for _, ev := range f.Events {
					if ev.Type != protocol.FrameUserTyping {
						continue
					}
					if ev.Seq != 0 || ev.Class != protocol.ClassEphemeral || ev.Except != s.identity.User || !sameJSON(ev.Payload, typing.Payload) {
						return false, fmt.Errorf("it has seq %d, class %q, except %q, payload %s", ev.Seq, ev.Class, ev.Except, ev.Payload)
					}
					return true, nil
				}
				return false, nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})},
	{"stream: what edges may not publish is dropped", "events with a seq, with effects or of a lasting class come from the backend alone", onStream(func(ctx context.Context, s *suite, st *stream, topic protocol.Topic) error {
		if _, _, err := st.subscribe(protocol.TopicState{Topic: topic}); err != nil {
			return err
		}
		forged := []*protocol.Event{
			{Topic: topic, Type: "message", Class: protocol.ClassMessage, Payload: []byte(`{"type":"message","text":"forged"}`)},
			{Topic: topic, Type: protocol.FrameUserTyping, Class: protocol.ClassEphemeral, Seq: 1, Payload: []byte(`{"forged":1}`)},
			{Topic: topic, Type: protocol.FrameUserTyping, Class: protocol.ClassEphemeral, Payload: []byte(`{"forged":2}`), Effects: []protocol.Effect{{Op: protocol.OpMemberRemoved, Channel: s.channel, User: s.identity.User}}},
		}
		if err := st.say(protocol.StreamFrame{Type: protocol.StreamPublish, Events: forged}); err != nil {
			return err
		}
		a, _, err := s.post(ctx)
		if err != nil {
			return err
		}
		return st.until("the watermark of a write", func(f *protocol.StreamFrame) (bool, error) {
			for _, ev := range f.Events {
				if strings.Contains(string(ev.Payload), "forged") {
					return false, fmt.Errorf("came: %s", ev.Payload)
				}
			}
			return f.Type == protocol.StreamWatermark && f.Position >= a.position, nil
		})
	})},
	{"stream: a presence topic answers with the present state, and reports change it", "an event on presence:U with {\"type\":\"presence_change\",\"presence\":…,\"user\":…}", onStream(func(ctx context.Context, s *suite, st *stream, _ protocol.Topic) error {
		// Whoever comes to the topic is told what holds now: before a report, and after it.
		if _, err := st.presence(s.identity.User); err != nil {
			return err
		}
		if err := st.say(protocol.StreamFrame{Type: protocol.StreamReport, Present: []protocol.UserID{s.identity.User}}); err != nil {
			return err
		}
		if err := st.ping(5); err != nil {
			return err
		}
		other, err := s.open(ctx)
		if err != nil {
			return err
		}
		defer other.close()
		state, err := other.presence(s.identity.User)
		if err != nil {
			return err
		}
		a, err := s.forward(ctx, "users.getPresence", nil, nil)
		if err != nil {
			return err
		}
		var said struct {
			Presence protocol.Presence `json:"presence"`
			Manual   bool              `json:"manual_away"`
		}
		if err := json.Unmarshal(a.body, &said); err != nil {
			return err
		}
		if said.Presence != state || state != protocol.Active && !said.Manual {
			return fmt.Errorf("after the report the topic says %q, users.getPresence %q", state, said.Presence)
		}
		return nil
	})},
	{"stream: a frame that is not the contract's ends the stream", "close with 1002 for what is not JSON, 1003 for binary frames", onStream(func(_ context.Context, s *suite, st *stream, _ protocol.Topic) error {
		if err := st.conn.WriteMessage(websocket.TextMessage, []byte("nonsense")); err != nil {
			return err
		}
		for deadline := time.Now().Add(s.target.Patience); time.Now().Before(deadline); {
			_, err := st.next()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return nil //nolint:nilerr // This is what should happen.
			}
		}
		return errors.New("the stream goes on")
	})},
}

// presence subscribes to a user's presence and returns the state that it answers with.
func (st *stream) presence(user protocol.UserID) (state protocol.Presence, err error) {
	topic := protocol.PresenceTopic(user)
	if _, reset, err := st.subscribe(protocol.TopicState{Topic: topic}); err != nil || reset {
		return "", errors.Join(err, unless(!reset, "presence topics have no log that could be reset"))
	}
	err = st.until("the present state", func(f *protocol.StreamFrame) (bool, error) {
		for _, ev := range f.Events {
			if ev.Topic != topic {
				continue
			}
			var c protocol.PresenceChange
			if err := json.Unmarshal(ev.Payload, &c); err != nil || c.User != user || ev.Class != protocol.ClassEphemeral || ev.Seq != 0 {
				return false, fmt.Errorf("the event is class %q, seq %d, payload %s", ev.Class, ev.Seq, ev.Payload)
			}
			state = c.Presence
			return true, nil
		}
		return false, nil
	})
	return state, err
}

// ping waits for the answer to a ping.
func (st *stream) ping(id int64) error {
	if err := st.say(protocol.StreamFrame{Type: protocol.StreamPing, ID: id}); err != nil {
		return err
	}
	return st.until("pong", func(f *protocol.StreamFrame) (bool, error) {
		return f.Type == protocol.StreamPong && f.ID == id, nil
	})
}

func unless(ok bool, failure string) error {
	if ok {
		return nil
	}
	return errors.New(failure)
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && fmt.Sprint(x) == fmt.Sprint(y)
}
