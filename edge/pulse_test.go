package edge

import (
	"fmt"
	"testing"
	"time"

	"flannel/protocol"
)

// TestPulse_ChangesAreCollected: what changes within a pulse is one frame for each state, and the last value wins.
func TestPulse_ChangesAreCollected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		batch, single := w.hello(w.thinURL("xoxp-ana", "batch_presence_aware=1&no_query_on_subscribe=1")), w.hello(w.thinURL("xoxp-ana", "no_query_on_subscribe=1"))
		for _, p := range []*peer{batch, single} {
			p.send(`{"type":"presence_sub","ids":["U2","U3","U4"]}`)
			p.send(`{"type":"ping","id":1}`)
			p.until("pong")
		}
		elapse(pulseEvery)
		for _, c := range []struct {
			user protocol.UserID
			is   protocol.Presence
		}{{"U4", protocol.Away}, {"U2", protocol.Away}, {"U3", protocol.Active}, {"U2", protocol.Active}} {
			w.hub.publish(presenceOf(c.user, c.is))
		}
		wantFrames(t, batch, `{"type":"presence_change","presence":"active","users":["U2","U3"]}`, `{"type":"presence_change","presence":"away","users":["U4"]}`)
		wantFrames(t, single, `"active","user":"U2"`, `"active","user":"U3"`, `"away","user":"U4"`)
		batch.conn.Close()
		single.conn.Close()
	})
}

// TestPulse_AStormHoldsPresenceBack: while sockets come fast nothing is told of presence; afterwards the last state is.
func TestPulse_AStormHoldsPresenceBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config, _ *world) { c.StormOpens = 3 })
		p := w.hello(w.thinURL("xoxp-ana", "batch_presence_aware=1&no_query_on_subscribe=1"))
		p.send(`{"type":"presence_sub","ids":["U2"]}`)
		for range 4 {
			w.hello(w.thinURL("xoxp-bo", ""))
		}
		began := time.Now()
		for i := range 40 {
			state := protocol.Active
			if i%2 == 1 {
				state = protocol.Away
			}
			w.hub.publish(presenceOf("U2", state))
			elapse(pulseEvery)
		}
		if n := w.metric("flannel_presence_suppressed"); n != 1 {
			t.Errorf("suppressed is %v", n)
		}
		p.send(`{"type":"ping","id":1}`)
		wantFrames(t, p, `"pong"`, `{"type":"presence_change","presence":"away","users":["U2"]}`)
		if took := time.Since(began); took < calmAfter-time.Second || took > calmAfter+time.Second {
			t.Errorf("it was told after %v", took)
		}
		p.conn.Close()
	})
}

// TestSetPresence_IsAKillSwitch: off, nobody is followed and nothing told, and the socket stays; on again, the list counts.
func TestSetPresence_IsAKillSwitch(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *world) { c.Presence = false })
	p := w.hello(w.thinURL("xoxp-ana", "batch_presence_aware=1"))
	p.send(`{"type":"presence_sub","ids":["U2","U3"]}`)
	p.send(`{"type":"ping","id":1}`)
	wantFrames(t, p, `"pong"`)
	follows := func(want int) func() bool {
		return func() bool {
			w.hub.mu.Lock()
			defer w.hub.mu.Unlock()
			for _, users := range w.hub.watched {
				if len(users) == want {
					return true
				}
			}
			return false
		}
	}
	eventually(t, "nobody is followed", follows(0))
	w.edge.SetPresence(true)
	w.edge.SetPresence(true)
	eventually(t, "both are followed", follows(2))
	wantFrames(t, p, `"users":["U2","U3"]`)
	w.edge.SetPresence(false)
	eventually(t, "nobody is followed any more", follows(0))
}

// BenchmarkPulse is what telling a session of ten changes costs.
func BenchmarkPulse(b *testing.B) {
	s := &Session{edge: &Edge{metrics: newMetrics(nil), doors: Doors{Queries: &fakeQueries{}}}, id: nobody, batch: true}
	s.ending = true
	users := make([]protocol.UserID, 10)
	for i := range users {
		users[i] = protocol.UserID(fmt.Sprint("U", i))
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, u := range users {
			s.presenceLater(u, protocol.Active)
		}
		s.edge.pulse.take()
		s.tellPresence()
	}
}
