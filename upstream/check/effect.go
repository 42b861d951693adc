package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"flannel/protocol"
)

// effectClauses: events say what they do to a cache, so that an edge need not ask again.
var effectClauses = []clause{
	{"effects: a message is message_added on the channel topic", "channel, user, ts and latest, which is the same for a new message", onStream(func(ctx context.Context, s *suite, st *stream, topic protocol.Topic) error {
		state, _, err := st.subscribe(protocol.TopicState{Topic: topic})
		if err != nil {
			return err
		}
		a, _, err := s.post(ctx)
		if err != nil {
			return err
		}
		e, _, err := st.effect(topic, *state.Seq, protocol.OpMessageAdded)
		switch {
		case err != nil:
			return err
		case e.Channel != s.channel || e.User != s.identity.User || e.TS != a.fields.TS || e.Latest != a.fields.TS:
			return fmt.Errorf("the effect is %s", protocol.MustMarshal(e))
		}
		return nil
	})},
	{"effects: a deleted message is message_removed", "latest is what is the newest then", onStream(func(ctx context.Context, s *suite, st *stream, topic protocol.Topic) error {
		before, _, err := s.post(ctx)
		if err != nil {
			return err
		}
		gone, _, err := s.post(ctx)
		if err != nil {
			return err
		}
		state, _, err := st.subscribe(protocol.TopicState{Topic: topic})
		if err != nil {
			return err
		}
		if _, err := s.must(ctx, "chat.delete", url.Values{"channel": {string(s.channel)}, "ts": {string(gone.fields.TS)}}); err != nil {
			return err
		}
		e, _, err := st.effect(topic, *state.Seq, protocol.OpMessageRemoved)
		if err == nil && (e.TS != gone.fields.TS || e.Latest != before.fields.TS) {
			err = fmt.Errorf("the effect is %s; want ts %s, latest %s", protocol.MustMarshal(e), gone.fields.TS, before.fields.TS)
		}
		return err
	})},
	{"effects: a change of an object is an upsert on its covering topic", "the whole new object, with a higher version, the same that a load at that position gives", onStream(func(ctx context.Context, s *suite, st *stream, _ protocol.Topic) error {
		id := protocol.ObjectID(s.channel)
		was, err := s.objects(ctx, id)
		if err != nil || len(was.Objects) != 1 {
			return errors.Join(err, unless(len(was.Objects) == 1, "the channel is missing"))
		}
		covering := was.Objects[0].Topic
		state, _, err := st.subscribe(fromPosition(covering, was.Position))
		if err != nil {
			return err
		}
		a, err := s.must(ctx, "conversations.setTopic", url.Values{"channel": {string(s.channel)}, "topic": {"checked by " + s.nonce}})
		if err != nil {
			return err
		}
		e, _, err := st.effectOf(covering, *state.Seq, func(e *protocol.Effect) bool {
			return e.Op == protocol.OpUpsert && e.Object != nil && e.Object.ID == id && e.Object.Version > was.Objects[0].Version
		})
		if err != nil {
			return err
		}
		var now protocol.ObjectsAnswer
		if err := s.load(ctx, protocol.CallObjects, protocol.ObjectsRequest{IDs: []protocol.ObjectID{id}, AtLeast: a.position}, &now); err != nil {
			return err
		}
		if len(now.Objects) != 1 {
			return errors.New("the channel is missing afterwards")
		}
		if now.Objects[0].Version == e.Object.Version && !sameJSON(now.Objects[0].Body, e.Object.Body) {
			return fmt.Errorf("the event's body and the loaded one differ at the same version %d", e.Object.Version)
		}
		return s.envelope(e.Object)
	})},
	{"effects: who makes a channel is member_added, on the user topic and on the channel topic", "with the membership on the user topic; both in the commit that makes the channel", onStream(func(ctx context.Context, s *suite, st *stream, topic protocol.Topic) error {
		self := protocol.Topic(s.identity.User)
		for _, t := range []protocol.Topic{self, topic} {
			state, reset, err := st.subscribe(fromPosition(t, s.created-1))
			if err != nil || reset {
				return errors.Join(err, unless(!reset, "the topic was reset; it cannot be gone yet"))
			}
			e, ev, err := st.effectOf(t, *state.Seq, func(e *protocol.Effect) bool {
				return e.Op == protocol.OpMemberAdded && (e.Channel == s.channel || e.Membership != nil && e.Membership.Channel == s.channel)
			})
			if err != nil {
				return err
			}
			switch {
			case ev.Position != s.created:
				return fmt.Errorf("on %s it is at position %d, the channel was made at %d", t, ev.Position, s.created)
			case t == self && e.Membership == nil:
				return fmt.Errorf("on %s it has no membership", t)
			case t == self:
				if err := wellFormed(e.Membership); err != nil {
					return err
				}
			case e.User != s.identity.User:
				return fmt.Errorf("on %s its user is %q", t, e.User)
			}
		}
		return nil
	})},
	{"effects: a moved read marker is read on the user topic, and boot has it", "channel, ts and the mentions that are unread then", onStream(func(ctx context.Context, s *suite, st *stream, _ protocol.Topic) error {
		a, _, err := s.post(ctx)
		if err != nil {
			return err
		}
		if _, _, err := s.post(ctx); err != nil {
			return err
		}
		self := protocol.Topic(s.identity.User)
		state, _, err := st.subscribe(protocol.TopicState{Topic: self})
		if err != nil {
			return err
		}
		m, err := s.must(ctx, "conversations.mark", url.Values{"channel": {string(s.channel)}, "ts": {string(a.fields.TS)}})
		if err != nil {
			return err
		}
		e, _, err := st.effect(self, *state.Seq, protocol.OpRead)
		if err != nil {
			return err
		}
		if e.Channel != s.channel || e.TS != a.fields.TS {
			return fmt.Errorf("the effect is %s; want channel %s, ts %s", protocol.MustMarshal(e), s.channel, a.fields.TS)
		}
		var boot protocol.BootAnswer
		if err := s.load(ctx, protocol.CallBoot, protocol.BootRequest{Users: []protocol.UserID{s.identity.User}, AtLeast: m.position}, &boot); err != nil {
			return err
		}
		for _, b := range boot.Users {
			for _, place := range b.Memberships {
				if place.Channel == s.channel && place.LastRead == a.fields.TS && place.MentionCount == e.MentionCount {
					return nil
				}
			}
		}
		return errors.New("boot at that position does not have the marker")
	})},
	{"effects: a changed preference is pref on the user topic", "name and JSON value", onStream(func(ctx context.Context, s *suite, st *stream, _ protocol.Topic) error {
		self := protocol.Topic(s.identity.User)
		state, _, err := st.subscribe(protocol.TopicState{Topic: self})
		if err != nil {
			return err
		}
		value, err := json.Marshal(s.nonce)
		if err != nil {
			return err
		}
		if _, err := s.must(ctx, "users.prefs.set", url.Values{"name": {"flannel_check"}, "value": {s.nonce}}); err != nil {
			return err
		}
		e, _, err := st.effect(self, *state.Seq, protocol.OpPref)
		if err == nil && (e.Name != "flannel_check" || !sameJSON(e.Value, value)) {
			err = fmt.Errorf("the effect is %s", protocol.MustMarshal(e))
		}
		return err
	})},
}

// effect waits for the first effect of a kind on a topic above a seq.
func (st *stream) effect(topic protocol.Topic, seq protocol.Seq, op protocol.Op) (*protocol.Effect, *protocol.Event, error) {
	e, ev, err := st.effectOf(topic, seq, func(e *protocol.Effect) bool { return e.Op == op })
	if err != nil {
		err = fmt.Errorf("effect %s: %w", op, err)
	}
	return e, ev, err
}

func (st *stream) effectOf(topic protocol.Topic, seq protocol.Seq, is func(*protocol.Effect) bool) (found *protocol.Effect, in *protocol.Event, err error) {
	err = st.until("the effect on "+string(topic), func(f *protocol.StreamFrame) (bool, error) {
		for _, ev := range f.Events {
			if ev.Topic != topic || ev.Seq <= seq {
				continue
			}
			for i := range ev.Effects {
				if is(&ev.Effects[i]) {
					found, in = &ev.Effects[i], ev
					return true, nil
				}
			}
		}
		return false, nil
	})
	return found, in, err
}
