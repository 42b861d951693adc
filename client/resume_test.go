package client_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"flannel/client"
	"flannel/internal/memnet"
	"flannel/protocol"
)

// TestResume_ExactlyOnce: whatever happens to the connections, the application hears each event of a topic once and in
// order, or a Resync that names the topic; across restarts too, and with a queue of 5 events, so that it falls behind all
// the time.
func TestResume_ExactlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubbled{t}, func(rt *rapid.T) {
			l := memnet.Listen()
			e := newEdge(l)
			e.url, e.dial = "http://edge.test", l.Dial
			defer e.close()
			w := &history{t: rt, e: e, last: make(map[protocol.Topic]protocol.Seq), forgiven: make(map[protocol.Topic]bool)}
			w.open(nil)
			defer func() { w.c.Close() }()
			rt.Repeat(map[string]func(*rapid.T){
				"publish": func(rt *rapid.T) {
					for range rapid.IntRange(1, 8).Draw(rt, "events") {
						topic := rapid.SampledFrom([]protocol.Topic{"C1", "C2", "C3"}).Draw(rt, "topic")
						e.publish(topic, `"type":"message","text":"x","ts":"1"`)
					}
				},
				"typing": func(*rapid.T) { e.say(`{"type":"user_typing","channel":"C1","user":"U2"}`) },
				"take":   func(rt *rapid.T) { w.take(rapid.IntRange(1, 10).Draw(rt, "take")) },
				"sleep": func(rt *rapid.T) {
					time.Sleep(time.Duration(rapid.IntRange(0, 40_000).Draw(rt, "ms")) * time.Millisecond)
				},
				"cut": func(*rapid.T) { e.with((*session).cut) },
				"close": func(rt *rapid.T) {
					code := rapid.SampledFrom([]protocol.CloseCode{1001, 4000, 4100, 4200, 4401}).Draw(rt, "code")
					e.closeAll(code, protocol.CloseReason{RetryMS: rapid.IntRange(0, 5000).Draw(rt, "retry")})
				},
				"slow": func(*rapid.T) {
					w.mayResync = true
					e.closeAll(protocol.CloseSlow, protocol.CloseReason{})
				},
				"malformed": func(*rapid.T) {
					w.mayResync = true
					e.say(`{`)
				},
				"gone": func(rt *rapid.T) {
					w.mayResync = true
					topic := rapid.SampledFrom([]protocol.Topic{"C1", "C2", "C3"}).Draw(rt, "topic")
					e.set(func() { e.gone[topic] = e.position })
				},
				"restart": func(*rapid.T) {
					synctest.Wait()
					var saved bytes.Buffer
					if err := w.c.Save(&saved); err != nil {
						rt.Fatal(err)
					}
					w.c.Close()
					w.open(&saved)
				},
				"": func(*rapid.T) { synctest.Wait() },
			})
			w.settle()
		})
	})
}

// history is what the application has heard.
type history struct {
	t         *rapid.T
	e         *edge
	c         *client.Client
	last      map[protocol.Topic]protocol.Seq
	forgiven  map[protocol.Topic]bool // a hole may follow
	mayResync bool
}

func (w *history) open(saved *bytes.Buffer) {
	opt := w.e.options()
	opt.MaxEvents = 5
	if saved != nil {
		opt.Saved = saved
	}
	c, err := client.Dial(context.Background(), opt)
	if err != nil {
		w.t.Fatal(err)
	}
	w.c = c
}

// take takes up to n events; it returns how many there were.
func (w *history) take(n int) int {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	for i := range n {
		ev, err := w.c.Next(now)
		if err != nil {
			return i
		}
		if r, ok := ev.Data.(*client.Resync); ok {
			if !w.mayResync {
				w.t.Fatalf("resync of %q for no reason", r.Refetch)
			}
			for _, topic := range []protocol.Topic{"C1", "C2", "C3"} {
				w.forgiven[topic] = w.forgiven[topic] || r.All()
			}
			for _, topic := range r.Refetch {
				w.forgiven[protocol.Topic(topic)] = true
			}
			continue
		}
		if ev.Seq == 0 {
			continue
		}
		last := w.last[ev.Topic]
		switch {
		case ev.Seq <= last:
			w.t.Fatalf("%s:%d after %d", ev.Topic, ev.Seq, last)
		case ev.Seq > last+1 && !w.forgiven[ev.Topic]:
			w.t.Fatalf("%s:%d after %d, and nobody said that something was lost", ev.Topic, ev.Seq, last)
		}
		w.last[ev.Topic], w.forgiven[ev.Topic] = ev.Seq, false
	}
	return n
}

// settle lets everything come to an end: then the application has heard everything.
func (w *history) settle() {
	for quiet := 0; quiet < 3; quiet++ { // No wait of a reconnecting client is longer than half a minute.
		time.Sleep(time.Minute)
		for w.take(1) == 1 {
			synctest.Wait()
			quiet = 0
		}
	}
	w.e.mu.Lock()
	defer w.e.mu.Unlock()
	for topic, seq := range w.e.seqs {
		if w.last[topic] != seq && !w.forgiven[topic] {
			w.t.Fatalf("%s ends at %d, want %d", topic, w.last[topic], seq)
		}
	}
	if state := w.c.State(); state.Phase != client.Connected {
		w.t.Fatal(fmt.Sprint(state))
	}
}

// bubbled hides from rapid that it is given a test: in a bubble there is no deadline to ask for.
type bubbled struct{ *testing.T }

// A topic that was lost may begin anew: what was had of it before says nothing about what comes.
func TestResume_TopicThatBeginsAnew(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		e.message("one")
		e.message("two")
		want(t, take(c), "one", "two")
		e.set(func() { e.gone["C1"], e.seqs["C1"] = e.position, 0 })
		e.with((*session).cut)
		time.Sleep(time.Second)
		e.message("first")
		want(t, take(c), "resync C1", "first")
	})
}
