package fanout

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"flannel/protocol"
)

// say makes the next event of a topic, with the given seq as its position too unless told otherwise.
func say(t protocol.Topic, seq int, effects ...protocol.Effect) *protocol.Event {
	ev := message(t, fmt.Sprintf("%s %d", t, seq), effects...)
	ev.Seq, ev.Position = protocol.Seq(seq), protocol.Position(seq)
	return ev
}

func payloads(events []*protocol.Event) (list []string) {
	for _, ev := range events {
		list = append(list, string(ev.Payload))
	}
	return list
}

func (f *fixture) attachSince(user protocol.UserID, since protocol.Position, channels ...protocol.ChannelID) (*ear, map[protocol.Topic]Past) {
	e := &ear{user: user}
	pasts, _ := f.AttachSince(e, protocol.Identity{User: user, Workspace: "T1", Role: protocol.RoleMember}, standing(protocol.RoleMember, channels), since)
	byTopic := make(map[protocol.Topic]Past)
	for _, p := range pasts {
		byTopic[p.Topic] = p
	}
	return e, byTopic
}

// TestAttach_NotWithoutAStanding: whoever's channels are not known must not begin with those of before.
func TestAttach_NotWithoutAStanding(t *testing.T) {
	f := newFixture(t)
	f.Followed("C1", 0, 0)
	e := &ear{user: "UA"}
	unknown := func() (Standing, bool) {
		s, _ := standing(protocol.RoleMember, []protocol.ChannelID{"C1"})()
		return s, false
	}
	id := protocol.Identity{User: "UA", Workspace: "T1", Role: protocol.RoleMember}
	if f.Attach(e, id, unknown) {
		t.Error("attached")
	}
	if _, ok := f.AttachSince(e, id, unknown, 0); ok {
		t.Error("attached since")
	}
	f.Publish(say("C1", 1))
	f.Publish(say("T1", 1))
	wantHeard(t, e)
	if n := f.Len(); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

// TestPublishAfter_IsOneStep: the cache had applied an event that took somebody out of a channel, the hub was still to
// publish it. A session that was attached in between was not in the channel, and nobody told it that event.
func TestPublishAfter_IsOneStep(t *testing.T) {
	f := newFixture(t)
	f.Followed("C1", 0, 0)
	in := []protocol.ChannelID{"C1"}
	e, attached, done := &ear{user: "UA"}, make(chan bool, 1), make(chan bool)
	f.PublishAfter(func() {
		in = nil
		go func() {
			defer close(done)
			f.AttachSince(e, protocol.Identity{User: "UA", Workspace: "T1", Role: protocol.RoleMember}, func() (Standing, bool) {
				attached <- true
				return standing(protocol.RoleMember, in)()
			}, 0)
		}()
		select {
		case <-attached:
			t.Error("attached between the cache and the hub")
		case <-time.After(20 * time.Millisecond): // for it to come too early
		}
	}, say("C1", 1, removed("C1", "UA")))
	<-done
}

// TestForget_WhoCameAndWent: the user's own topic has told of a coming and a going, and then the channel's, which was still
// to tell of both, is reset. Nobody told the user that something was lost.
func TestForget_WhoCameAndWent(t *testing.T) {
	f := newFixture(t)
	f.Followed("UA", 0, 0)
	f.attachSince("UA", 0)
	for i, effect := range []protocol.Effect{added("C1", "UA"), removed("C1", "UA")} {
		f.Publish(say("UA", i+1, effect))
	}
	lost := 0
	f.Forget("C1", func(Receiver) { lost++ })
	if lost != 1 {
		t.Errorf("%d receivers were told", lost)
	}
}

func TestAttachSince_TellsThePastOfEachTopic(t *testing.T) {
	f := newFixture(t)
	f.Followed("C1", 0, 0)
	f.Followed("UA", 3, 3)
	for i := range 5 {
		f.Publish(say("C1", i+1))
	}
	e, pasts := f.attachSince("UA", 3, "C1", "C2")
	f.Publish(say("C1", 6))
	wantHeard(t, e, "C1 6")
	if p := pasts["C1"]; !p.Whole || p.Seq != 5 || p.Last != 5 || !slices.Equal(payloads(p.Events), []string{"C1 4", "C1 5"}) {
		t.Errorf("C1: %+v", p)
	}
	if p := pasts["UA"]; !p.Whole || p.Seq != 3 || len(p.Events) > 0 {
		t.Errorf("UA: %+v", p)
	}
	for _, topic := range []protocol.Topic{"C2", "T1"} {
		if p, ok := pasts[topic]; !ok || p.Whole || p.Seq != 0 {
			t.Errorf("%s: %+v, %v", topic, p, ok)
		}
	}
	if p := f.Past("UA", 2); p.Whole {
		t.Error("UA is known only from 3 on")
	}
	f.Forget("C1", nil)
	if p := f.Past("C1", 5); p.Whole {
		t.Error("C1 was forgotten")
	}
}

func TestReplay_Bounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixtureWith(t, Config{ReplayEvents: 3, ReplayBytes: 1 << 20, ReplayFor: time.Minute})
		f.Followed("C1", 0, 0)
		f.Followed("C2", 0, 0)
		for i := range 4 {
			f.Publish(say("C1", i+1))
		}
		f.Publish(say("C2", 1))
		if p := f.Past("C1", 2); !p.Whole || len(p.Events) != 2 {
			t.Errorf("the newest are gone: %+v", p)
		}
		if p := f.Past("C1", 1); p.Whole {
			t.Errorf("more is remembered than may be: %+v", p)
		}
		if p := f.Past("C2", 0); !p.Whole || len(p.Events) != 1 {
			t.Errorf("C2: %+v", p)
		}
		time.Sleep(time.Minute)
		f.Watermark(4)
		if p := f.Past("C2", 0); p.Whole {
			t.Errorf("C2 after a minute: %+v", p)
		}
		if p := f.Past("C2", 1); !p.Whole || len(p.Events) > 0 {
			t.Errorf("C2 from its last event: %+v", p)
		}
		if f.log.bytes != 0 {
			t.Errorf("%d bytes are counted when nothing is remembered", f.log.bytes)
		}
	})
}

func TestBehind_WaitsForTopicsThatCatchUp(t *testing.T) {
	f := newFixture(t)
	a, b := f.attach("UA", protocol.RoleMember, "C1"), f.attach("UB", protocol.RoleMember, "C2")
	f.Followed("C2", 0, 9)
	f.Watermark(10)
	f.Followed("C1", 5, 7)
	if p := f.Behind(a, f.Applied()); p != 7 {
		t.Errorf("the member of a topic that catches up was served up to %d", p)
	}
	if p := f.Behind(b, f.Applied()); p != 10 {
		t.Errorf("somebody else was served up to %d", p)
	}
	f.Watermark(10)
	if p := f.Behind(a, f.Applied()); p != 10 {
		t.Errorf("when it has caught up, %d", p)
	}
}

// TestBehind_WaitsForChannelsThatAreDue: UA's own topic has put UA into C1 at 6, and everything else up to 10 has come. C1 is
// followed only now and has told of nothing yet, so UA was not in its audience, and the token covered what UA had not heard.
func TestBehind_WaitsForChannelsThatAreDue(t *testing.T) {
	f := newFixture(t)
	f.Followed("UA", 0, 0)
	a := f.attach("UA", protocol.RoleMember)
	behind := func(when string, want protocol.Position) {
		t.Helper()
		if p := f.Behind(a, f.Applied()); p != want {
			t.Errorf("%s: served up to %d, want %d", when, p, want)
		}
	}
	f.Publish(say("UA", 6, added("C1", "UA")))
	f.Watermark(10)
	behind("C1 is not followed yet", 5)
	f.Followed("C1", 0, 5)
	behind("C1 is followed", 5)
	f.Publish(say("UA", 7, removed("C1", "UA")))
	f.Publish(say("UA", 8, added("C1", "UA")))
	behind("UA went and came again", 5)
	f.Publish(say("C1", 6, added("C1", "UA")))
	behind("C1 has told of the first coming", 5)
	f.Publish(say("C1", 7, removed("C1", "UA")))
	behind("C1 has told of the going", 5)
	f.Publish(say("C1", 8, added("C1", "UA")))
	behind("C1 has more to tell", 5)
	f.Watermark(10)
	behind("C1 has caught up", 10)
}

// TestPublish_JoinThatTheChannelToldFirst: C1's event that adds UA is published, then UA's first session attaches while
// the user state does not know of it, then UA's own event tells of it. The channel's event had put nobody into C1, so UA
// heard nothing of C1 for as long as the session lasted.
func TestPublish_JoinThatTheChannelToldFirst(t *testing.T) {
	f := newFixture(t)
	f.Followed("C1", 0, 0)
	f.Followed("UA", 0, 0)
	f.Publish(say("C1", 1))
	f.Publish(say("C1", 2, added("C1", "UA")))
	f.Publish(say("C1", 3))
	a := f.attach("UA", protocol.RoleMember)
	own := message("UA", "joined", added("C1", "UA"))
	own.Seq, own.Position = 1, 2
	f.Publish(own)
	wantHeard(t, a, "joined", "C1 2", "C1 3")
	f.Publish(say("C1", 4))
	wantHeard(t, a, "C1 4")
}

func TestPublish_JoinAndRemovalThatTheChannelToldFirst(t *testing.T) {
	f := newFixture(t)
	f.Followed("C1", 0, 0)
	f.Followed("UA", 0, 0)
	f.Publish(say("C1", 1, added("C1", "UA")))
	f.Publish(say("C1", 2))
	f.Publish(say("C1", 3, removed("C1", "UA")))
	f.Publish(say("C1", 4))
	a := f.attach("UA", protocol.RoleMember)
	own := message("UA", "joined", added("C1", "UA"))
	own.Seq, own.Position = 1, 1
	f.Publish(own)
	wantHeard(t, a, "joined", "C1 1", "C1 2", "C1 3")
	f.Publish(say("C1", 5))
	wantHeard(t, a)
}

// TestPublish_ComingAndGoingBeforeTheUserTopicTells: what the session heard from the channel is not told again when the
// user's own topic, which is late, tells of the coming.
func TestPublish_ComingAndGoingBeforeTheUserTopicTells(t *testing.T) {
	f := newFixture(t)
	f.Followed("C1", 0, 0)
	f.Followed("UA", 0, 0)
	e, _ := f.attachSince("UA", 0)
	f.Publish(say("C1", 1, added("C1", "UA")))
	f.Publish(say("C1", 2, removed("C1", "UA")))
	f.Publish(say("UA", 1, added("C1", "UA")))
	f.Publish(say("UA", 2, removed("C1", "UA")))
	f.Publish(say("C1", 3))
	wantHeard(t, e, "C1 1", "C1 2", "UA 1", "UA 2")
}

func TestForget_TellsThoseWhoseJoinWasOnItsWay(t *testing.T) {
	f := newFixture(t)
	f.Followed("UA", 0, 0)
	a := f.attach("UA", protocol.RoleMember)
	own := message("UA", "joined", added("C1", "UA"))
	own.Seq, own.Position = 1, 2
	f.Publish(own) // C1 is not followed yet
	var stale []Receiver
	f.Forget("C1", func(r Receiver) { stale = append(stale, r) })
	if !slices.Equal(stale, []Receiver{a}) {
		t.Errorf("%d receivers are told", len(stale))
	}
}

// TestPublish_MoreComingsAreDueThanRemembered: a user topic that puts its user into ever more channels which tell of none of
// it. What is forgotten of that is said: the session fetches everything again.
func TestPublish_MoreComingsAreDueThanRemembered(t *testing.T) {
	f := newFixture(t)
	f.Followed("UA", 0, 0)
	a := f.attach("UA", protocol.RoleMember)
	come := func(i int) {
		f.Publish(say("UA", i, added(protocol.ChannelID(fmt.Sprintf("C9%06d", i)), "UA")))
	}
	for i := range maxDue {
		come(i + 1)
	}
	if len(f.lost) > 0 {
		t.Fatalf("lost something with %d due", maxDue)
	}
	come(maxDue + 1)
	if !slices.Equal(f.lost, []Receiver{a}) {
		t.Errorf("%d receivers are told", len(f.lost))
	}
}

// TestPublish_MoreComingsThanTheUserTopicTells: comings whose like the user's own topic never tells again are forgotten,
// and nobody loses anything by it.
func TestPublish_MoreComingsThanTheUserTopicTells(t *testing.T) {
	f := newFixture(t)
	a := f.attach("UA", protocol.RoleMember)
	for i := range 3 * maxCame {
		ch := protocol.ChannelID(fmt.Sprintf("C9%06d", i))
		f.Followed(protocol.Topic(ch), 0, 0)
		f.Publish(say(protocol.Topic(ch), 1, added(ch, "UA")))
	}
	if n := len(f.users["UA"].came); n > maxCame {
		t.Errorf("%d are remembered", n)
	}
	if heard := len(a.heard()); heard != 3*maxCame || len(f.lost) > 0 {
		t.Errorf("heard %d, lost %d", heard, len(f.lost))
	}
}

// TestAttachSince_AgainstHearingAll: a session that comes back at any time has heard before, is told, and hears live, all
// together, each event of its topics once and in order; or it is told that the memory does not reach back.
func TestAttachSince_AgainstHearingAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFixtureWith(nil, Config{ReplayEvents: rapid.SampledFrom([]int{0, 3, 1000}).Draw(t, "bound"), ReplayBytes: 1 << 20, ReplayFor: time.Hour})
		topics := []protocol.Topic{"UA", "C1", "C2", "T1"}
		seqs := make(map[protocol.Topic]protocol.Seq)
		var position protocol.Position
		for _, topic := range topics {
			f.Followed(topic, 0, 0)
		}
		said := make(map[protocol.Topic][]string)
		publish := func(t *rapid.T) {
			for range rapid.IntRange(0, 8).Draw(t, "events") {
				topic := rapid.SampledFrom(topics).Draw(t, "topic")
				position++
				seqs[topic]++
				ev := message(topic, fmt.Sprint(position))
				ev.Seq, ev.Position = seqs[topic], position
				f.Publish(ev)
				said[topic] = append(said[topic], string(ev.Payload))
			}
			f.Watermark(position)
		}
		got := make(map[protocol.Topic][]string)
		hear := func(events []*protocol.Event) {
			for _, ev := range events {
				got[ev.Topic] = append(got[ev.Topic], string(ev.Payload))
			}
		}
		live := func(e *ear) {
			for _, frame := range e.frames {
				hear([]*protocol.Event{frame.Event})
			}
		}
		e, _ := f.attachSince("UA", 0, "C1", "C2")
		for range rapid.IntRange(1, 4).Draw(t, "breaks") {
			publish(t)
			live(e)
			served := f.Behind(e, f.Applied())
			f.Detach(e)
			publish(t)
			var pasts map[protocol.Topic]Past
			e, pasts = f.attachSince("UA", served, "C1", "C2")
			for _, topic := range topics {
				if !pasts[topic].Whole {
					got[topic] = slices.Clone(said[topic]) // It is asked of the backend.
					if pasts[topic].Seq != seqs[topic] {
						t.Fatalf("%s stands at %d, not %d", topic, pasts[topic].Seq, seqs[topic])
					}
					continue
				}
				hear(pasts[topic].Events)
			}
		}
		publish(t)
		live(e)
		for _, topic := range topics {
			if !slices.Equal(got[topic], said[topic]) {
				t.Fatalf("of %s it heard %v, want %v", topic, got[topic], said[topic])
			}
		}
	})
}
