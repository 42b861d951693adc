package edge

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flannel/protocol"
)

// refused reports whether a program that opens a socket is turned away, with a time to come back at.
func (w *world) refused() bool {
	w.t.Helper()
	conn, resp, err := w.dialer().Dial(w.thinURL("xoxp-ana", ""), nil)
	if err == nil {
		w.peer(conn)
		return false
	}
	if resp == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		w.t.Errorf("refused with %v, %v", resp, err)
	}
	return true
}

func TestAdmission_RateOfOpens(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config, _ *world) { c.OpenRate = 3 })
		for i := range 5 {
			if got, want := w.refused(), i >= 3; got != want {
				t.Errorf("socket %d of one moment: refused is %v", i+1, got)
			}
		}
		if n := w.metric("flannel_admission_rejected_total", "rate", "opens"); n != 2 {
			t.Errorf("%v are counted", n)
		}
		time.Sleep(time.Second)
		for i := range 4 {
			if got, want := w.refused(), i >= 3; got != want {
				t.Errorf("socket %d of the next second: refused is %v", i+1, got)
			}
		}
	})
}

// TestSetLimits_OfARunningNode: who has a place keeps it.
func TestSetLimits_OfARunningNode(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *world) { c.MaxSessions = 2 })
	peers := []*peer{w.hello(w.thinURL("xoxp-ana", "")), w.hello(w.thinURL("xoxp-ana", ""))}
	limits := w.edge.Limits()
	if limits.Sessions != 2 || limits.Handshakes != Default().MaxHandshakes || limits.Calls != Default().MaxCalls || limits.Opens < opensPerCore {
		t.Errorf("the limits are %+v", limits)
	}

	limits.Sessions = 1
	if err := w.edge.SetLimits(limits); err != nil {
		t.Fatal(err)
	}
	if !w.refused() {
		t.Error("there is room above the limit")
	}
	for _, p := range peers {
		p.send(`{"type":"ping"}`)
		p.until("pong")
	}
	if n := w.metric("flannel_connections_limit"); n != 1 {
		t.Errorf("the metric says %v", n)
	}

	limits.Sessions = 3
	if err := w.edge.SetLimits(limits); err != nil {
		t.Fatal(err)
	}
	if w.refused() {
		t.Error("there is no room below the limit")
	}
	if err := w.edge.SetLimits(Limits{Sessions: 1}); err == nil || w.edge.Limits() != limits {
		t.Errorf("limits of 0: %v, and now %+v", err, w.edge.Limits())
	}
}

// TestPressure_LevelByLevel: ephemeral events go first, then new sockets, then who does not read.
func TestPressure_LevelByLevel(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config, _ *world) { c.WriteTimeout = time.Hour })
		reader := w.hello(w.thinURL("xoxp-ana", ""))
		w.rawSocket(w.thinURL("xoxp-bo", "")) // reads nothing
		synctest.Wait()
		typing := &protocol.Event{Topic: "C1", Type: "user_typing", Class: protocol.ClassEphemeral, Payload: []byte(`{"type":"user_typing"}`)}

		w.edge.SetPressure(PressureEphemeral)
		w.hub.publish(typing)
		for i := range 20 {
			w.hub.publish(&protocol.Event{Topic: "C1", Type: "message", Class: protocol.ClassMessage, Payload: fmt.Appendf(nil, `{"n":%d,"x":%q}`, i, strings.Repeat("x", 1000))})
			if f := reader.next(); !strings.HasPrefix(f, fmt.Sprintf(`{"n":%d,`, i)) {
				t.Errorf("frame %d is %.60s", i, f)
			}
		}
		if w.refused() {
			t.Error("the first level turns sockets away")
		}
		time.Sleep(pulseEvery)
		synctest.Wait()
		if !w.edge.storm.raging(time.Now()) {
			t.Error("changes of presence do not wait")
		}

		w.edge.SetPressure(PressureBoots)
		if !w.refused() {
			t.Error("the second level lets a socket in")
		}
		if n := w.metric("flannel_admission_rejected_total", "full", "memory"); n != 1 {
			t.Errorf("%v are counted", n)
		}
		if n := w.edge.Sessions(); n != 3 {
			t.Errorf("%d sessions are left", n)
		}

		w.edge.SetPressure(PressureOutboxes)
		time.Sleep(closeWait + time.Second)
		if n := w.metric("flannel_connections_closed_total", "slow", "server"); n != 1 {
			t.Errorf("%v sessions were closed for what waits", n)
		}
		reader.send(`{"type":"ping"}`)
		reader.until("pong")

		w.edge.SetPressure(PressureNone)
		if w.refused() {
			t.Error("sockets are turned away without pressure")
		}
		w.hub.publish(typing)
		reader.until("user_typing")
		if n := w.metric("flannel_memory_pressure"); n != 0 {
			t.Errorf("the metric says %v", n)
		}
	})
}
