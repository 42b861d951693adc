package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flannel/protocol"
)

func person(id string) protocol.Object {
	return protocol.Object{ID: protocol.ObjectID(id), Kind: protocol.KindUser, Body: fmt.Appendf(nil, `{"id":%q}`, id)}
}

func naming(ev *protocol.Event, refs ...protocol.ObjectID) *protocol.Event {
	ev.Refs = refs
	return ev
}

// TestObjects_OfThePastComeBeforeIt: a live event that comes while the session attaches stands behind the replay, and so
// do the objects that it brings along. They were taken for given, and the replayed event went out without them.
func TestObjects_OfThePastComeBeforeIt(t *testing.T) {
	w := newWorld(t, func(_ *Config, w *world) {
		w.queries.objects = map[protocol.ObjectID]protocol.Object{"U2": person("U2")}
		w.hub.during = func(s *Session) error {
			s.Deliver(naming(placed(8), "U2"), new(atomic.Value))
			return nil
		}
		w.hub.resume = func(from protocol.ResumeToken) Resumed {
			return Resumed{Mode: protocol.ResumeReplayed, Events: []*protocol.Event{naming(placed(6), "U2"), naming(placed(7), "U2")}, Token: from.String()}
		}
	})
	p := w.dial(w.thinURL("xoxp-ana", "resume=1.5.U1"))
	wantFrames(t, p, `"hello"`, `{"type":"objects","users":[{"id":"U2"}]}`, `"C1:6"`, `"C1:7"`, `"objects"`, `"C1:8"`)
	w.hub.publish(naming(placed(9), "U2"))
	wantFrames(t, p, `"C1:9"`)
}

// TestResume_WhatThePastHasIsNotSaidAgain: a channel that the user is not in any more may be told by the replay and, since
// the user's own topic was behind, by the hub too: before the replay was known, and after.
func TestResume_WhatThePastHasIsNotSaidAgain(t *testing.T) {
	w := newWorld(t, func(_ *Config, w *world) {
		w.hub.during = func(s *Session) error {
			s.Deliver(placed(7), new(atomic.Value))
			return nil
		}
		w.hub.resume = func(from protocol.ResumeToken) Resumed {
			return Resumed{
				Mode: protocol.ResumeReplayed, Events: []*protocol.Event{placed(6), placed(7), placed(8)},
				Told: map[protocol.Topic]protocol.Seq{"C1": 8}, Token: from.String(),
			}
		}
	})
	p := w.dial(w.thinURL("xoxp-ana", "resume=1.5.U1"))
	wantFrames(t, p, `"hello"`, `"C1:6"`, `"C1:7"`, `"C1:8"`)
	w.hub.publish(placed(8))
	w.hub.publish(placed(9))
	wantFrames(t, p, `"C1:9"`)
}

// TestResume_CountIsOfTheEventsThatFollow: not of those that the client excluded, nor of those that are badges.
func TestResume_CountIsOfTheEventsThatFollow(t *testing.T) {
	w := newWorld(t, func(_ *Config, w *world) {
		w.hub.resume = func(from protocol.ResumeToken) Resumed {
			return Resumed{
				Mode:   protocol.ResumeReplayed,
				Events: []*protocol.Event{posted("C1", 6), posted("C2", 7), inChannel("C1", 8, "reaction_added"), posted("C1", 9)}, Token: from.String(),
			}
		}
	})
	p := w.dial(w.thinURL("xoxp-ana", "resume=1.5.U1&view=C1&exclude_events=reaction_added"))
	wantFrames(t, p, `"resume":"replayed","count":2`, `"C1:6"`, `"C1:9"`)
}

// TestBadge_NoneIsOnItsWayWhenAPongSaysSo: while one goroutine tells badges, a ping must wait for it: its pong's token
// says that they have been told. The pong came first, and a client that was lost in between missed the badge for good.
func TestBadge_NoneIsOnItsWayWhenAPongSaysSo(t *testing.T) {
	w := newWorld(t)
	telling, read, release := make(chan bool), make(chan bool, 2), make(chan bool)
	var once sync.Once
	w.queries.places = map[protocol.ChannelID]protocol.Membership{"C2": {Latest: "3"}}
	p := w.hello(w.thinURL("xoxp-ana", "view=C1"))
	w.queries.badge = func() {
		once.Do(func() { close(telling); <-release })
	}
	w.hub.served = func() { read <- true } // by the keeper, and by the ping
	go w.hub.publish(posted("C2", 1))      // The keeper tells it within a second.
	<-telling
	p.send(`{"type":"ping","id":1}`)
	<-read
	<-read
	pause() // for the pong to come too early
	close(release)
	wantFrames(t, p, `"badge"`, `"pong"`)
}

// TestBadge_WaitsUntilItIsKnown: while nobody knows the user's state a badge is not forgotten, and no token says that it
// was told.
func TestBadge_WaitsUntilItIsKnown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.queries.places = map[protocol.ChannelID]protocol.Membership{"C2": {Latest: "3"}}
		void := func(is bool) {
			w.queries.mu.Lock()
			defer w.queries.mu.Unlock()
			w.queries.void = is
		}
		void(true)
		p := w.hello(w.thinURL("xoxp-ana", "view=C1"))
		w.hub.publish(posted("C2", 1))
		elapse(3 * time.Second)
		p.send(`{"type":"ping","id":1}`)
		if f := p.next(); strings.Contains(f, "resume_token") {
			t.Errorf("the pong is %s", f)
		}
		void(false)
		elapse(2 * time.Second)
		p.send(`{"type":"ping","id":2}`)
		wantFrames(t, p, `"badge"`, `"resume_token"`)
		p.conn.Close()
	})
}

// TestBadge_APongDoesNotHurryIt: a pong used to bring out the badges that waited, half a second after the last ones. Now
// its token is the one of when none did.
func TestBadge_APongDoesNotHurryIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.queries.places = map[protocol.ChannelID]protocol.Membership{"C2": {Latest: "3"}}
		p := w.hello(w.thinURL("xoxp-ana", "view=C1"))
		w.hub.publish(posted("C2", 1))
		p.send(`{"type":"ping","id":1}`)
		wantFrames(t, p, `{"reply_to":1,"type":"pong"}`)
		w.hub.heard.Store(1)
		wantFrames(t, p, `"badge"`)
		w.hub.heard.Store(2)
		began := time.Now()
		w.hub.publish(posted("C2", 2))
		elapse(time.Second / 2)
		p.send(`{"type":"ping","id":2}`)
		wantFrames(t, p, `{"reply_to":2,"type":"pong","resume_token":"1.3.U1"}`, `"badge"`)
		if after := time.Since(began); after != time.Second {
			t.Errorf("the next badge comes after %v", after)
		}
		p.send(`{"type":"ping","id":3}`)
		wantFrames(t, p, `"resume_token":"1.4.U1"`)
		p.conn.Close()
	})
}

func TestBadge_TheDirtySetIsBounded(t *testing.T) {
	w := newWorld(t)
	w.queries.void = true
	p := w.hello(w.thinURL("xoxp-ana", "view="))
	for i := range 3 * maxBadges {
		w.hub.publish(posted(protocol.ChannelID(fmt.Sprint("C", i)), 1))
	}
	for _, s := range w.edge.sessions.all() {
		s.mu.Lock()
		if n := len(s.badges.moved); n > maxBadges {
			t.Errorf("%d badges wait", n)
		}
		s.mu.Unlock()
	}
	p.send(`{"type":"ping","id":1}`)
	wantFrames(t, p, `"pong"`)
}

// TestGiven_IsWhatTheAnswerHas: ids that are pending or failed were not given; those in a list's results were.
func TestGiven_IsWhatTheAnswerHas(t *testing.T) {
	w := newWorld(t)
	w.queries.objects = map[protocol.ObjectID]protocol.Object{}
	for i := 2; i < 8; i++ {
		o := person(fmt.Sprint("U", i))
		w.queries.objects[o.ID] = o
	}
	w.queries.query = func(_ context.Context, _ protocol.Identity, path string, _ json.RawMessage) (*protocol.Reply, error) {
		switch path {
		case "users/info":
			return &protocol.Reply{Body: []byte(`{"results":[{"name":"x","id":"U2"}],"failed_ids":["U3"],"pending_ids":["U4"],"ok":true}`)}, nil
		case "users/list":
			return &protocol.Reply{Body: []byte(`{"results":[{"id":"U6"},{"id":7},5,{}],"next_marker":"","ok":true}`)}, nil
		}
		return nil, &protocol.Error{Code: protocol.CodeRateLimited, Retry: 1500 * time.Millisecond}
	}
	p := w.hello(w.thinURL("xoxp-ana", ""))
	p.send(`{"id":1,"type":"query","method":"users/info","args":{"updated_ids":{"U2":0,"U3":0,"U4":0,"U5":9}}}`)
	p.until(`"reply_to":1`)
	p.send(`{"id":2,"type":"query","method":"users/list","args":{}}`)
	p.until(`"reply_to":2`)
	p.send(`{"id":3,"type":"query","method":"users/search","args":{"updated_ids":{"U7":1}}}`)
	if f := p.until(`"reply_to":3`); f != `{"reply_to":3,"retry_after":2,"ok":false,"error":"ratelimited"}` {
		t.Errorf("a refusal is %s", f)
	}
	for _, s := range w.edge.sessions.all() {
		eventually(t, "the answers are remembered", func() bool { return s.given.has("U6") && s.given.has("U2") })
	}
	w.hub.publish(naming(posted("C1", 1), "U2", "U3", "U4", "U5", "U6", "U7"))
	wantFrames(t, p, `{"type":"objects","users":[{"id":"U3"},{"id":"U4"},{"id":"U7"}]}`, `"C1:1"`)
}

// TestUserChange_DuringAQueryIsWhole: a query that was answered before a change, and whose answer goes out after it, would
// leave the client with the user as they were, had it only been told to forget them before.
func TestUserChange_DuringAQueryIsWhole(t *testing.T) {
	w := newWorld(t)
	asked, release := make(chan bool), make(chan bool)
	w.queries.query = func(context.Context, protocol.Identity, string, json.RawMessage) (*protocol.Reply, error) {
		close(asked)
		<-release
		return &protocol.Reply{Body: []byte(`{"results":[{"id":"U2","updated":1}],"ok":true}`)}, nil
	}
	p := w.hello(w.thinURL("xoxp-ana", ""))
	p.send(`{"id":1,"type":"query","method":"users/info","args":{"updated_ids":{"U2":0}}}`)
	<-asked
	w.hub.publish(&protocol.Event{
		Topic: "T1", Seq: 1, Position: 1, Type: "user_change", Class: protocol.ClassControl,
		Effects: []protocol.Effect{{Op: protocol.OpUpsert, Object: &protocol.Object{ID: "U2", Kind: protocol.KindUser}}},
		Payload: []byte(`{"type":"user_change","user":{"id":"U2","updated":2}}`),
	})
	close(release)
	wantFrames(t, p, `{"type":"user_change","user":{"id":"U2","updated":2}`, `"reply_to":1`)
}

// TestSetPresence_OffForgets: what was known of presence before it was switched off is nobody's answer afterwards.
func TestSetPresence_OffForgets(t *testing.T) {
	w := newWorld(t)
	p := w.hello(w.thinURL("xoxp-ana", "batch_presence_aware=1"))
	p.send(`{"type":"presence_sub","ids":["U2"]}`)
	wantFrames(t, p, `"users":["U2"]`)
	w.edge.SetPresence(false)
	eventually(t, "nobody is followed", func() bool {
		w.hub.mu.Lock()
		defer w.hub.mu.Unlock()
		for _, users := range w.hub.watched {
			return len(users) == 0
		}
		return false
	})
	p.send(`{"type":"presence_query","ids":["U2"]}`)
	p.send(`{"type":"ping","id":1}`)
	if f := p.next(); !strings.Contains(f, `"pong"`) {
		t.Errorf("an answer while presence is off: %s", f)
	}
}

// TestPulse_KeepsNoSessionsThatAreGone: a storm may be long, and those who come and go in it many.
func TestPulse_KeepsNoSessionsThatAreGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config, _ *world) { c.StormOpens = 1 })
		for range 10 {
			p := w.hello(w.thinURL("xoxp-ana", "batch_presence_aware=1"))
			p.send(`{"type":"presence_sub","ids":["U2"]}`)
			p.send(`{"type":"ping","id":1}`)
			p.until("pong")
			p.conn.Close()
		}
		eventually(t, "all are gone", func() bool { return w.edge.Sessions() == 0 })
		if n := len(w.edge.pulse.take()); n != 0 {
			t.Errorf("%d are kept", n)
		}
	})
}

// TestStorm_IsAlsoWhenBootsQueue: sockets that wait for their boots are a storm, however few a second get through.
func TestStorm_IsAlsoWhenBootsQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config, _ *world) { c.MaxHandshakes = 4 })
		for range 3 {
			w.edge.admission.handshakes.take()
		}
		elapse(2 * time.Second)
		if n := w.metric("flannel_presence_suppressed"); n != 1 {
			t.Errorf("suppressed is %v", n)
		}
		for range 3 {
			w.edge.admission.handshakes.giveBack()
		}
		elapse(calmAfter + 2*time.Second)
		if n := w.metric("flannel_presence_suppressed"); n != 0 {
			t.Errorf("suppressed is %v when it is over", n)
		}
	})
}
