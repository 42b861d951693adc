package backend_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"flannel/backend"
	"flannel/backend/store"
	"flannel/protocol"
)

// events reads the whole log.
func (s *server) events() (events []*protocol.Event, position, replayFrom protocol.Position) {
	s.t.Helper()
	err := s.Store().View(context.Background(), func(r store.Reader) (err error) {
		if position, err = r.Position(); err != nil {
			return err
		}
		if replayFrom, err = r.ReplayFrom(); err != nil {
			return err
		}
		events, err = r.Events(0, 1<<30)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return events, position, replayFrom
}

func place(topic protocol.Topic, p protocol.Position) protocol.TopicState {
	return protocol.TopicState{Topic: topic, Position: &p}
}

// Whatever people did, a replay is what the store's log says, whether memory or the store answers.
func TestReplay_IsTheStoresLog(t *testing.T) {
	s := start(t, func(c *backend.Config) { c.Hub.Events = 25 })
	people := map[protocol.UserID]string{ann: s.token(ann), bob: s.token(bob), eve: s.token(eve)}
	topics := []protocol.Topic{
		protocol.Topic(workspace), protocol.Topic(general), protocol.Topic(private), protocol.Topic(guests), protocol.Topic(shared), protocol.Topic(empty),
		protocol.Topic(ann), protocol.Topic(bob), protocol.Topic(eve), "C0NOBODY",
	}
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		for range rapid.IntRange(0, 8).Draw(rt, "writes") {
			n++
			channel := string(rapid.SampledFrom(topics[1:6]).Draw(rt, "channel"))
			tok := people[rapid.SampledFrom([]protocol.UserID{ann, bob, eve}).Draw(rt, "user")]
			switch rapid.IntRange(0, 5).Draw(rt, "what") {
			case 0:
				s.api(tok, "conversations.join", "channel", channel)
			case 1:
				s.api(tok, "conversations.leave", "channel", channel)
			case 2:
				s.api(tok, "users.prefs.set", "name", "n", "value", fmt.Sprint(n))
			case 3:
				s.api(tok, "conversations.setTopic", "channel", channel, "topic", fmt.Sprint(n))
			default:
				s.api(tok, "chat.postMessage", "channel", channel, "text", fmt.Sprint("message ", n))
			}
		}
		if rapid.IntRange(0, 9).Draw(rt, "prune") == 0 { // all that is a moment old
			if err := s.Store().Prune(context.Background(), time.Now().Add(-50*time.Millisecond)); err != nil {
				rt.Fatal(err)
			}
		}
		events, position, replayFrom := s.events()
		req := protocol.ReplayRequest{AtLeast: position, Limit: rapid.SampledFrom([]int{0, 1, 7, 50}).Draw(rt, "limit")}
		limit := req.Limit
		if limit == 0 {
			limit = protocol.MaxReplayEvents
		}
		from := make(map[protocol.Topic]protocol.Position)
		for _, topic := range rapid.SliceOfNDistinct(rapid.SampledFrom(topics), 1, len(topics), rapid.ID).Draw(rt, "topics") {
			from[topic] = protocol.Position(rapid.Uint64Range(0, uint64(position)).Draw(rt, "from"))
			req.Topics = append(req.Topics, place(topic, from[topic]))
		}

		var got protocol.ReplayAnswer
		if status, e := s.upstream(protocol.CallReplay, req, &got); status != http.StatusOK {
			rt.Fatalf("status %d, %+v", status, e)
		}

		if got.Position != position || len(got.Events) > limit {
			rt.Fatalf("as of %d, %d events; the log ends at %d", got.Position, len(got.Events), position)
		}
		last := protocol.Position(0)
		answered := make(map[protocol.Topic][]string)
		for _, ev := range got.Events {
			if ev.Position < last {
				rt.Fatalf("%s at %d comes after %d", protocol.EventID(ev), ev.Position, last)
			}
			last = ev.Position
			answered[ev.Topic] = append(answered[ev.Topic], string(protocol.MustMarshal(ev)))
		}
		// Does everything fit, nothing is gone. A topic that does not fit may take others with it: those of the store are
		// chosen before it is known how much memory has of the rest.
		wanted, all, fits := make(map[protocol.Topic][]string), 0, true
		for topic, p := range from {
			for _, ev := range events {
				if ev.Topic == topic && ev.Position > p {
					wanted[topic] = append(wanted[topic], string(protocol.MustMarshal(ev)))
				}
			}
			all += max(len(wanted[topic]), len(answered[topic]))
			if p < replayFrom && slices.Contains(got.Gone, topic) {
				fits = false // Memory may have more of it than the store, and too much.
			}
		}
		fits = fits && all <= limit
		for topic, p := range from {
			want, gone := wanted[topic], slices.Contains(got.Gone, topic)
			switch {
			case gone && len(answered[topic]) > 0:
				rt.Fatalf("%s is gone, but %d events came", topic, len(answered[topic]))
			case gone && p >= replayFrom && fits:
				rt.Fatalf("%s above %d is gone for no reason; the log begins at %d", topic, p, replayFrom)
			case !gone && p >= replayFrom && !slices.Equal(answered[topic], want):
				rt.Fatalf("%s above %d:\n%s\nthe store has\n%s", topic, p, strings.Join(answered[topic], "\n"), strings.Join(want, "\n"))
			case !gone && len(answered[topic]) < len(want): // memory may remember more than the store
				rt.Fatalf("%s above %d has %d events, the store %d", topic, p, len(answered[topic]), len(want))
			}
		}
	})
	if n < 50 {
		t.Errorf("only %d writes", n)
	}
}

func TestReplay_RefusesWhatIsNotTheContract(t *testing.T) {
	s := start(t, nil)
	p := s.must(s.token(ann), "chat.postMessage", "channel", string(general), "text", "x")
	if p.str("ts") == "" {
		t.Fatal(p)
	}
	_, position, _ := s.events()
	seq := protocol.Seq(0)
	for name, c := range map[string]struct {
		req    any
		status int
		code   protocol.Code
	}{
		"no topics":         {protocol.ReplayRequest{}, 400, protocol.CodeInvalidArgs},
		"too many":          {protocol.ReplayRequest{Topics: slices.Repeat([]protocol.TopicState{place("C1", 0)}, protocol.MaxReplayTopics+1)}, 400, protocol.CodeInvalidArgs},
		"presence":          {protocol.ReplayRequest{Topics: []protocol.TopicState{place("C1", 0), place(protocol.PresenceTopic(ann), 0)}}, 400, protocol.CodeInvalidArgs},
		"no topic":          {protocol.ReplayRequest{Topics: []protocol.TopicState{place("", 0)}}, 400, protocol.CodeInvalidArgs},
		"not an id":         {protocol.ReplayRequest{Topics: []protocol.TopicState{place("nonsense", 0)}}, 400, protocol.CodeInvalidArgs},
		"no position":       {protocol.ReplayRequest{Topics: []protocol.TopicState{{Topic: "C1"}}}, 400, protocol.CodeInvalidArgs},
		"a seq":             {protocol.ReplayRequest{Topics: []protocol.TopicState{{Topic: "C1", Seq: &seq}}}, 400, protocol.CodeInvalidArgs},
		"limit below 0":     {protocol.ReplayRequest{Topics: []protocol.TopicState{place("C1", 0)}, Limit: -1}, 400, protocol.CodeInvalidLimit},
		"limit above 10000": {protocol.ReplayRequest{Topics: []protocol.TopicState{place("C1", 0)}, Limit: protocol.MaxReplayEvents + 1}, 400, protocol.CodeInvalidLimit},
		"far ahead":         {protocol.ReplayRequest{Topics: []protocol.TopicState{place("C1", 0)}, AtLeast: position + 1000}, 503, protocol.CodeBehind},
		"wrong types":       {map[string]any{"topics": []string{"C1"}}, 400, protocol.CodeInvalidArgs},
		"negative":          {map[string]any{"topics": []any{map[string]any{"topic": "C1", "position": -1}}}, 400, protocol.CodeInvalidArgs},
	} {
		if status, e := s.upstream(protocol.CallReplay, c.req, &protocol.ReplayAnswer{}); status != c.status || e.Error != c.code {
			t.Errorf("%s: status %d, %q; want %d, %q", name, status, e.Error, c.status, c.code)
		}
	}

	// A place of another log is gone; a topic that nobody knows is empty; the most topics are taken; named twice counts
	// once, from the lower place.
	many := make([]protocol.TopicState, protocol.MaxReplayTopics)
	for i := range many {
		many[i] = place(protocol.Topic(fmt.Sprintf("C0MANY%d", i)), position)
	}
	many[0], many[1], many[2] = place(protocol.Topic(general), position), place("C0FAR", position+5), place(protocol.Topic(general), position-1)
	var a protocol.ReplayAnswer
	if status, e := s.upstream(protocol.CallReplay, protocol.ReplayRequest{Topics: many}, &a); status != 200 {
		t.Fatalf("status %d, %+v", status, e)
	}
	if !slices.Equal(a.Gone, []protocol.Topic{"C0FAR"}) || len(a.Events) != 1 || a.Events[0].Topic != protocol.Topic(general) {
		t.Errorf("gone %v, %d events", a.Gone, len(a.Events))
	}
	_, body := s.upstreamRaw(http.MethodPost, protocol.CallReplay, "Bearer "+s.UpstreamKey(), []byte(`{"topics":[{"topic":"C0NONE","position":0}]}`))
	if want := fmt.Sprintf(`{"events":[],"position":%d}`, position); string(body) != want {
		t.Errorf("nothing is %s, want %s", body, want)
	}
}

// A restart forgets memory, not the log.
func TestReplay_AfterARestart(t *testing.T) {
	data := t.TempDir()
	furnish(t, data)
	s := startOn(t, data, nil)
	_, before, _ := s.events()
	for i := range 30 {
		s.must(s.token(ann), "chat.postMessage", "channel", string(general), "text", fmt.Sprint(i))
	}
	ask := protocol.ReplayRequest{Topics: []protocol.TopicState{place(protocol.Topic(general), before), place(protocol.Topic(ann), before)}}
	var live, again protocol.ReplayAnswer
	s.upstream(protocol.CallReplay, ask, &live)

	if err := s.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	s = startOn(t, data, nil)
	s.upstream(protocol.CallReplay, ask, &again)

	if len(live.Events) != 30 || string(protocol.MustMarshal(live)) != string(protocol.MustMarshal(again)) {
		t.Errorf("%d events before the restart, %d after it", len(live.Events), len(again.Events))
	}
}
