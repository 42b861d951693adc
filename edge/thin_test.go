package edge

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"flannel/protocol"
)

// inChannel returns an event of a channel with effects.
func inChannel(ch protocol.ChannelID, seq int, typ string, effects ...protocol.Effect) *protocol.Event {
	return &protocol.Event{
		Topic: protocol.Topic(ch), Seq: protocol.Seq(seq), Position: protocol.Position(seq), Type: typ, Class: protocol.ClassMessage, Effects: effects,
		Payload: fmt.Appendf(nil, `{"type":%q,"channel":%q,"n":%d}`, typ, ch, seq),
	}
}

func posted(ch protocol.ChannelID, seq int) *protocol.Event {
	return inChannel(ch, seq, "message", protocol.Effect{Op: protocol.OpMessageAdded, Channel: ch})
}

func wantFrames(t *testing.T, p *peer, want ...string) {
	t.Helper()
	for i, text := range want {
		if f := p.next(); !strings.Contains(f, text) {
			t.Fatalf("frame %d is %s, want %s", i, f, text)
		}
	}
}

// TestView_OthersComeAsBadges: what is in view comes whole, what is not as at most one badge a second with the last
// state; what concerns the client itself or the channel as such always comes.
func TestView_OthersComeAsBadges(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.queries.places = map[protocol.ChannelID]protocol.Membership{"C2": {LastRead: "1", Latest: "3", MentionCount: 2}}
		p := w.hello(w.thinURL("xoxp-ana", "view=C9"))
		p.send(`{"type":"view","channels":["C1","nonsense","C1"]}`)
		p.send(`{"type":"ping","id":1}`)
		p.until("pong")

		for i := range 100 {
			w.hub.publish(posted("C2", i+1))
			w.hub.publish(posted("C3", i+1)) // which is not theirs
		}
		w.hub.publish(posted("C1", 1))
		w.hub.publish(inChannel("C1", 2, "reaction_added"))
		w.hub.publish(inChannel("C2", 101, "reaction_added"))
		w.hub.publish(inChannel("C2", 102, "member_joined_channel", protocol.Effect{Op: protocol.OpMemberAdded, Channel: "C2", User: "U2"}))
		w.hub.publish(inChannel("C2", 103, "member_left_channel", protocol.Effect{Op: protocol.OpMemberRemoved, Channel: "C2", User: "U1"}))
		w.hub.publish(inChannel("C2", 104, "group_rename", protocol.Effect{Op: protocol.OpUpsert, Object: &protocol.Object{ID: "C2", Kind: protocol.KindChannel}}))
		wantFrames(t, p, `"C1:1"`, `"C1:2"`, `"C2:103"`, `"C2:104"`)
		elapse(time.Second)
		if f, want := p.next(), `{"type":"badge","channel":"C2","latest":"3","last_read":"1","mention_count":2,"has_unreads":true}`; f != want {
			t.Errorf("the badge is %s, want %s", f, want)
		}
		w.hub.publish(posted("C2", 105))
		p.send(`{"type":"ping","id":2}`)
		wantFrames(t, p, `"pong"`, `"badge"`)
		p.send(`{"type":"view","channels":["C2"]}`)
		p.send(`{"type":"ping","id":3}`)
		p.until("pong")
		w.hub.publish(posted("C2", 106))
		wantFrames(t, p, `"C2:106"`)
		elapse(2 * time.Second)
		if n := w.metric("flannel_badges_total"); n != 2 {
			t.Errorf("%v badges", n)
		}
		p.conn.Close()
	})
}

func TestView_IsForThinSessions(t *testing.T) {
	w := newWorld(t)
	p := w.hello(w.ticketURL("xoxp-ana") + "?view=C1")
	p.send(`{"id":5,"type":"view","channels":["C1"]}`)
	wantFrames(t, p, `"reply_to":5,"error":{"code":4,`)
	w.hub.publish(posted("C2", 1))
	wantFrames(t, p, `"channel":"C2"`)
}

// wasGiven waits until it is remembered that a session was given an object: a moment after the answer that did so.
func (w *world) wasGiven(id protocol.ObjectID) {
	w.t.Helper()
	eventually(w.t, "the answer is remembered", func() bool {
		return slices.ContainsFunc(w.edge.sessions.all(), func(s *Session) bool { return s.given.has(id) })
	})
}

// TestObjects_ComeOnceBeforeTheEvent: what an event names and the client was not given lately comes right before it.
func TestObjects_ComeOnceBeforeTheEvent(t *testing.T) {
	w := newWorld(t)
	w.queries.objects = map[protocol.ObjectID]protocol.Object{
		"U2": {ID: "U2", Kind: protocol.KindUser, Body: []byte(`{"id":"U2"}`)}, "C1": {ID: "C1", Kind: protocol.KindChannel, Body: []byte(`{"id":"C1"}`)},
		"B1": {ID: "B1", Kind: protocol.KindBot, Body: []byte(`{"id":"B1"}`)}, "U3": {ID: "U3", Kind: protocol.KindUser, Body: []byte(`{"id":"U3"}`)},
	}
	compatible, thin := w.hello(w.ticketURL("xoxp-ana")), w.hello(w.thinURL("xoxp-ana", ""))
	thin.send(`{"id":1,"type":"query","method":"users/info","args":{"updated_ids":{"U3":5}}}`)
	thin.until("reply_to")
	w.wasGiven("U3")
	said := func(seq int, refs ...protocol.ObjectID) {
		ev := posted("C1", seq)
		ev.Refs = refs
		w.hub.publish(ev)
	}
	said(1, "U1", "U2", "U3", "B1", "C1", "U4")
	said(2, "U2", "C1")
	wantFrames(t, thin, `{"type":"objects","users":[{"id":"U2"}],"channels":[{"id":"C1"}],"bots":[{"id":"B1"}]}`, `"C1:1"`, `"C1:2"`)
	wantFrames(t, compatible, `"n":1}`, `"n":2}`)
	for result, want := range map[string]float64{"sent": 3, "missing": 1, "recent": 4} {
		if n := w.metric("flannel_jit_objects_total", result); n != want {
			t.Errorf("%v objects were %s, want %v", n, result, want)
		}
	}
}

// TestUserChange_IsAnInvalidationForWhoDoesNotHaveThem: the whole object goes only to clients that have the user.
func TestUserChange_IsAnInvalidationForWhoDoesNotHaveThem(t *testing.T) {
	w := newWorld(t)
	change := func(u protocol.UserID, seq int) *protocol.Event {
		return &protocol.Event{
			Topic: "T1", Seq: protocol.Seq(seq), Position: protocol.Position(seq), Type: "user_change", Class: protocol.ClassControl,
			Effects: []protocol.Effect{{Op: protocol.OpUpsert, Object: &protocol.Object{ID: protocol.ObjectID(u), Kind: protocol.KindUser}}},
			Payload: fmt.Appendf(nil, `{"type":"user_change","user":{"id":%q},"event_ts":"12.5"}`, u),
		}
	}
	compatible, thin := w.hello(w.ticketURL("xoxp-ana")), w.hello(w.thinURL("xoxp-ana", ""))
	thin.send(`{"id":1,"type":"query","method":"users/info","args":{"updated_ids":{"U3":5}}}`)
	thin.until("reply_to")
	w.wasGiven("U3")
	for i, u := range []protocol.UserID{"U1", "U2", "U3"} {
		w.hub.publish(change(u, i+1))
	}
	if f, want := thin.next(), `{"type":"user_change","user":{"id":"U1"},"event_ts":"12.5","event_id":"T1:1"}`; f != want {
		t.Errorf("themself: %s", f)
	}
	if f, want := thin.next(), `{"type":"user_invalidated","user":{"id":"U2"},"event_ts":"12.5","event_id":"T1:2"}`; f != want {
		t.Errorf("somebody they do not have: %s", f)
	}
	wantFrames(t, thin, `{"type":"user_change","user":{"id":"U3"}`)
	for range 3 {
		wantFrames(t, compatible, `"user_change"`)
	}
}

func TestGiven_IsBounded(t *testing.T) {
	var g given
	for i := range 10 * maxGiven {
		g.add(protocol.ObjectID(fmt.Sprint("U", i)))
	}
	g.add(protocol.ObjectID(fmt.Sprint("U", 10*maxGiven-1)))
	if len(g.table) != maxGiven {
		t.Errorf("there is room for %d", len(g.table))
	}
	late := 0
	for i := range maxGiven / 8 {
		if g.has(protocol.ObjectID(fmt.Sprint("U", 10*maxGiven-1-i))) {
			late++
		}
	}
	if late < maxGiven/8 || g.has("U0") {
		t.Errorf("%d of the latest %d are remembered", late, maxGiven/8)
	}
}

// BenchmarkDeliver_OutOfView is what a message costs for a session that does not have its channel on the screen.
func BenchmarkDeliver_OutOfView(b *testing.B) {
	s := &Session{edge: &Edge{metrics: newMetrics(nil), now: time.Now}, id: nobody, thin: true}
	s.view.Store(newView([]protocol.ChannelID{"C1", "C3"}))
	ev, shared := posted("C2", 1), new(atomic.Value)
	b.ReportAllocs()
	for b.Loop() {
		s.Deliver(ev, shared)
	}
}

// BenchmarkDeliver_InView is what an event in view costs for a thin session that has its objects.
func BenchmarkDeliver_InView(b *testing.B) {
	s := &Session{edge: &Edge{metrics: newMetrics(nil), now: time.Now}, id: nobody, thin: true}
	s.ending = true // the outbox is not what is measured
	for _, id := range []protocol.ObjectID{"U2", "C1"} {
		s.given.add(id)
	}
	ev, shared := posted("C1", 1), new(atomic.Value)
	ev.Refs = []protocol.ObjectID{"U2", "C1"}
	b.ReportAllocs()
	for b.Loop() {
		s.Deliver(ev, shared)
	}
}

// TestDeliver_AllocatesNothing: in view or out of it; fifty messages a second in a channel of 20,000 may not make garbage.
func TestDeliver_AllocatesNothing(t *testing.T) {
	s := &Session{edge: &Edge{metrics: newMetrics(nil), now: time.Now}, id: nobody, thin: true}
	s.ending = true
	s.view.Store(newView([]protocol.ChannelID{"C1", "C3"}))
	s.given.add("U2")
	for _, ev := range []*protocol.Event{posted("C1", 1), posted("C2", 1)} {
		ev.Refs = []protocol.ObjectID{"U2"}
		shared := new(atomic.Value)
		if n := testing.AllocsPerRun(100, func() { s.Deliver(ev, shared) }); n != 0 {
			t.Errorf("%v allocations for an event of %s", n, ev.Topic)
		}
	}
}
