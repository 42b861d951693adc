package cache

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/protocol"
)

// newReal returns a cache that lives by the real clock, which is a virtual one in a bubble.
func newReal(t *testing.T) *fixture {
	t.Helper()
	c, err := New(Options{Config: Default(), Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.Live(true)
	f := &fixture{Cache: c, seqs: make(map[protocol.Topic]protocol.Seq)}
	f.clock.Store(time.Now().UnixNano())
	return f
}

func TestBubble_NegativeLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newReal(t)
		f.follow(10, ws)
		f.Fill(missing(10, "U1"))
		time.Sleep(5*time.Second - 1)
		f.want(t, "U1", 0, Absent, 0)
		time.Sleep(time.Nanosecond)
		f.want(t, "U1", 0, Missing, 0)
		f.Fill(missing(10, "U1"))
		f.want(t, "U1", 0, Absent, 0)
		f.event(ws, 11, upsert(object("U1", 1)))
		f.want(t, "U1", 0, Fresh, 1)
	})
}

func TestBubble_StaleLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newReal(t)
		f.follow(10, ws)
		f.Fill(answer(10, object("U1", 1)))
		time.Sleep(time.Hour)
		f.want(t, "U1", 0, Fresh, 1)
		f.Live(false)
		time.Sleep(10 * time.Minute)
		f.want(t, "U1", 0, Stale, 1)
		if f.Age() != 10*time.Minute {
			t.Errorf("age %v", f.Age())
		}
		time.Sleep(time.Nanosecond)
		f.want(t, "U1", 0, Missing, 0)
	})
}

// A mass reconnect within the grace time finds every state; after it they are gone, and their topics are given back.
func TestBubble_Grace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newReal(t)
		f.follow(10, "UA")
		f.Hold("UA")
		u := f.fillUser(t, bootOf("UA"), 10)
		time.Sleep(time.Hour)
		if len(f.Expire(time.Now())) != 0 {
			t.Error("a held state expired")
		}
		f.Release("UA")
		time.Sleep(15 * time.Minute)
		if len(f.Expire(time.Now())) != 0 {
			t.Error("a state expired within the grace time")
		}
		if f.wantUser(t, "UA", Fresh) != u {
			t.Error("another state")
		}
		time.Sleep(15*time.Minute + 1)
		if got := f.Expire(time.Now()); len(got) != 1 || got[0] != u {
			t.Errorf("dropped %v", got)
		}
		f.wantUser(t, "UA", Missing)
	})
}
