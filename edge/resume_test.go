package edge

import (
	"strings"
	"sync/atomic"
	"testing"

	"flannel/protocol"
)

// placed returns the n-th event of C1.
func placed(n int) *protocol.Event {
	ev := messageEvent(n)
	ev.Topic, ev.Seq, ev.Position = "C1", protocol.Seq(n), protocol.Position(n)
	return ev
}

// TestResume_OrderOnTheSocket: hello, what was missed, the boot, and then what came live while all that was found out;
// an event up to the token, which a topic that catches up tells again, does not come twice.
func TestResume_OrderOnTheSocket(t *testing.T) {
	var asked protocol.ResumeToken
	w := newWorld(t, func(_ *Config, w *world) {
		w.hub.during = func(s *Session) error {
			s.Deliver(placed(5), new(atomic.Value))
			s.Deliver(placed(8), new(atomic.Value))
			return nil
		}
		w.hub.resume = func(from protocol.ResumeToken) Resumed {
			asked = from
			return Resumed{Mode: protocol.ResumeReplayed, Events: []*protocol.Event{placed(6), placed(7)}, Token: from.String()}
		}
	})
	p := w.dial(w.thinURL("xoxp-ana", "boot=1&resume=1.5.U1"))
	for i, want := range []string{`"type":"hello"`, `"m6","event_id":"C1:6"}`, `"m7","event_id":"C1:7"}`, `"type":"boot"`, `"type":"counts"`, `"m8","event_id":"C1:8"}`} {
		f := p.next()
		if !strings.Contains(f, want) {
			t.Fatalf("frame %d is %s, want %s", i, f, want)
		}
		if i == 0 && (!strings.Contains(f, `"resume_token":"1.5.U1","resume":"replayed","count":2`) || !strings.Contains(f, `"fast_reconnect":true`)) {
			t.Errorf("hello is %s", f)
		}
	}
	if want := (protocol.ResumeToken{User: "U1", Position: 5}); asked != want {
		t.Errorf("the hub was asked for %+v", asked)
	}
	if n := w.metric("flannel_resume_total", "replayed"); n != 1 {
		t.Errorf("%v are counted", n)
	}
	p.send(`{"type":"ping","id":1}`)
	if f := p.next(); !strings.HasSuffix(f, `"resume_token":"1.2.U1"}`) {
		t.Errorf("the pong is %s", f)
	}
}

func TestResume_ATokenThatCannotBeReadIsNobodys(t *testing.T) {
	w := newWorld(t, func(_ *Config, w *world) {
		w.hub.resume = func(from protocol.ResumeToken) Resumed {
			if from != (protocol.ResumeToken{}) {
				t.Errorf("the hub was asked for %+v", from)
			}
			return Resumed{Mode: protocol.ResumeResync, Refetch: []string{protocol.RefetchAll}, Token: "1.9.U1"}
		}
	})
	for _, token := range []string{"x", "1..", strings.Repeat("1", 2000), "1.5.C1"} {
		p := w.dial(w.thinURL("xoxp-ana", "resume="+token))
		if f := p.next(); !strings.Contains(f, `"fast_reconnect":false`) || !strings.Contains(f, `"resume_token":"1.9.U1","resume":"resync","refetch":["all"]`) {
			t.Errorf("%q gets %s", token, f)
		}
	}
}

func TestResume_IsForThinSessions(t *testing.T) {
	w := newWorld(t, func(_ *Config, w *world) {
		w.hub.resume = func(protocol.ResumeToken) Resumed {
			t.Error("a compatible session resumes")
			return Resumed{}
		}
	})
	p := w.dial(w.ticketURL("xoxp-ana") + "?resume=1.5.U1")
	if f := p.next(); strings.Contains(f, "resume") {
		t.Errorf("hello is %s", f)
	}
	w.hub.publish(placed(3))
	if f, want := p.next(), string(messageEvent(3).Payload); f != want {
		t.Errorf("an event is %s, want %s", f, want)
	}
	p.send(`{"type":"ping","id":1}`)
	if f, want := p.next(), `{"type":"pong","reply_to":1}`; len(f) != len(want) || strings.Contains(f, "resume") {
		t.Errorf("the pong is %s, want %s", f, want)
	}
}

func TestResume_ExcludedEventsAreNotReplayed(t *testing.T) {
	w := newWorld(t, func(_ *Config, w *world) {
		w.hub.resume = func(from protocol.ResumeToken) Resumed {
			typing := placed(6)
			typing.Type = "reaction_added"
			return Resumed{Mode: protocol.ResumeReplayed, Events: []*protocol.Event{typing, placed(7)}, Token: from.String()}
		}
	})
	p := w.hello(w.thinURL("xoxp-ana", "exclude_events=reaction_added&resume=1.5.U1"))
	if f := p.next(); !strings.Contains(f, `"C1:7"`) {
		t.Errorf("the first event is %s", f)
	}
}

// BenchmarkDeliver_Thin is the cost of an event for each session after the first.
func BenchmarkDeliver_Thin(b *testing.B) {
	s := &Session{edge: &Edge{metrics: newMetrics(nil)}, id: nobody, thin: true}
	s.ending = true // Nothing is put into the outbox: it is the deciding that is measured.
	ev, shared := placed(1), new(atomic.Value)
	b.ReportAllocs()
	for b.Loop() {
		s.Deliver(ev, shared)
	}
}
