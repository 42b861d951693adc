package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fasthttp/websocket"

	"flannel/protocol"
)

// bubble runs a test with a clock of its own.
func bubble(t *testing.T, run func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		inBubble.Store(t, true)
		t.Cleanup(func() { time.Sleep(11 * time.Second) }) // fasthttp's pool of workers looks every 10 s whether it is over
		run(t)
	})
}

func TestTimers_PingsAtLeastEvery30Seconds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.hello(w.thinURL("xoxp-ana", ""))

		for range 10 {
			before := p.pings.Load()
			time.Sleep(30 * time.Second)
			if p.pings.Load() == before {
				t.Errorf("no ping within 30 s")
			}
		}

		if w.edge.Sessions() != 1 {
			t.Error("a client that answers pings is closed")
		}
		p.conn.Close()
		synctest.Wait()
	})
}

// TestTimers_PingsAreSpread: all came in the same moment, and each is pinged once in PingInterval, on the dot; no two of them
// at once.
func TestTimers_PingsAreSpread(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 100
		w := newWorld(t)
		pinged := make(chan time.Time, 100*n)
		for range n {
			p, tell := w.hello(w.thinURL("xoxp-ana", "")), func() { pinged <- time.Now() }
			p.pinged.Store(&tell)
		}
		time.Sleep(2*25*time.Second - tickLength)
		synctest.Wait()
		close(pinged)
		at := make(map[time.Duration]int)
		began := w.edge.born
		for when := range pinged {
			at[when.Sub(began)]++
		}
		total := 0
		for when, count := range at {
			total += count
			if count > 1 {
				t.Errorf("%d are pinged at %v", count, when)
			}
			if other := when + 25*time.Second; when < 20*time.Second && at[other] != 1 {
				t.Errorf("who is pinged at %v is not at %v", when, other)
			}
		}
		if total < 2*n-2 || total > 2*n {
			t.Errorf("%d pings for %d clients in 50 s", total, n)
		}
	})
}

func TestTimers_ASilentClientIsClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.dial(w.thinURL("xoxp-ana", ""))
		p.silent.Store(true)
		began := time.Now()

		code, _ := p.closed()

		took := time.Since(began)
		if code != int(protocol.ClosePingTimeout) || took < 35*time.Second || took > 40*time.Second {
			t.Errorf("closed with %d after %v", code, took)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if w.edge.Sessions() != 0 {
			t.Error("the session is not gone")
		}
	})
}

func TestTimers_AClientThatIsCutOffIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		conn := w.rawSocket(w.thinURL("xoxp-ana", "")) // reads nothing any more: as behind a dead link
		_ = conn
		time.Sleep(35*time.Second + 10*time.Second + 2*closeWait)
		synctest.Wait()
		if n := w.edge.Sessions(); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
		if w.hub.len() != 0 {
			t.Error("it is still attached")
		}
	})
}

func TestTimers_ATicketLives30Seconds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		inTime, late := w.ticketURL("xoxp-ana"), w.ticketURL("xoxp-ana")
		time.Sleep(29 * time.Second)
		p := w.hello(inTime)
		time.Sleep(2 * time.Second)
		if f := w.dial(late).next(); !strings.Contains(f, `"code":1,`) {
			t.Errorf("a late ticket gets %s", f)
		}
		if n := len(w.edge.tickets.all); n != 0 {
			t.Errorf("%d old tickets are kept", n)
		}
		p.conn.Close()
		time.Sleep(5 * time.Second)
	})
}

func TestTimers_ASessionEndsWithItsToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.queries.tokens["xoxp-short"] = protocol.Identity{Token: "tk3", User: "U3", Expires: time.Now().Unix() + 90}
		p := w.hello(w.thinURL("xoxp-short", ""))
		began := time.Now()
		if code, _ := p.closed(); code != int(protocol.CloseTokenExpired) || time.Since(began) < 89*time.Second || time.Since(began) > 92*time.Second {
			t.Errorf("closed with %d after %v", code, time.Since(began))
		}
	})
}

func TestTimers_MessagesOneASecondThirtyAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.hello(w.thinURL("xoxp-ana", ""))
		burst := func(n int) (acks, nacks int) {
			for i := range n {
				p.send(fmt.Sprintf(`{"id":%d,"type":"message","channel":"C1","text":"x"}`, i+1))
				switch f := p.next(); {
				case strings.HasPrefix(f, `{"ok":true,`):
					acks++
				case strings.Contains(f, `"error":{"code":-1,"msg":"`+protocol.TooFastText+`"}`):
					nacks++
				default:
					t.Errorf("got %s", f)
				}
			}
			return acks, nacks
		}
		if acks, nacks := burst(40); acks != 30 || nacks != 10 {
			t.Errorf("of 40 at once %d are acknowledged and %d are not", acks, nacks)
		}
		time.Sleep(5 * time.Second)
		if acks, _ := burst(10); acks != 5 {
			t.Errorf("after 5 s %d are acknowledged", acks)
		}
	})
}

func TestTimers_TypingOnceIn3Seconds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.hello(w.thinURL("xoxp-ana", ""))
		say := func(frame string) int {
			p.send(frame)
			p.send(`{"type":"ping"}`)
			p.until("pong")
			return len(w.writer.events())
		}
		for _, c := range []struct {
			frame string
			wait  time.Duration
			want  int
		}{
			{`{"id":1,"type":"typing","channel":"C2"}`, 0, 0}, // not a member
			{`{"id":1,"type":"typing","channel":"C1","thread_ts":"1700000000.000100"}`, 0, 1},
			{`{"id":2,"type":"typing","channel":"C1"}`, 0, 1},
			{`{"type":"user_typing","channel":"C1","thread_ts":"nonsense"}`, 3 * time.Second, 2},
			{`{"type":"user_typing","channel":"C1"}`, 2900 * time.Millisecond, 2},
			{`{"type":"user_typing","channel":"C1"}`, 100 * time.Millisecond, 3},
		} {
			time.Sleep(c.wait)
			if n := say(c.frame); n != c.want {
				t.Errorf("after %s there are %d events, want %d", c.frame, n, c.want)
			}
		}
		events := w.writer.events()
		if got, _ := json.Marshal(events[0]); string(got) != `{"topic":"C1","type":"user_typing","class":"ephemeral","refs":["U1","C1"],"except":"U1","payload":{"type":"user_typing","channel":"C1","user":"U1","thread_ts":"1700000000.000100"}}` {
			t.Errorf("the event is %s", got)
		}
		if strings.Contains(string(events[1].Payload), "nonsense") {
			t.Errorf("the payload is %s", events[1].Payload)
		}
		p.conn.Close()
		synctest.Wait()
	})
}

func TestTimers_PresenceQueriesEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.hello(w.thinURL("xoxp-ana", "batch_presence_aware=1&no_query_on_subscribe=1"))
		s := w.edge.sessions.all()[0]
		watched := func() string {
			w.hub.mu.Lock()
			defer w.hub.mu.Unlock()
			return fmt.Sprint(w.hub.watched[s])
		}

		p.send(`{"type":"presence_sub","ids":["U5","U4","U4","C1","nonsense"]}`) // quiet: no answer
		p.send(`{"type":"presence_query","ids":["U6","U4"]}`)
		got := []string{p.next(), p.next()}
		want := []string{`{"type":"presence_change","presence":"active","users":["U4"]}`, `{"type":"presence_change","presence":"active","users":["U6"]}`}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %s, want %s", got, want)
		}
		if watched() != "[U4 U5 U6]" {
			t.Errorf("it follows %s", watched())
		}
		w.hub.publish(presenceOf("U5", protocol.Away))
		if f := p.next(); f != `{"type":"presence_change","presence":"away","users":["U5"]}` {
			t.Errorf("got %s", f)
		}

		time.Sleep(10 * time.Second)
		if watched() != "[U4 U5]" {
			t.Errorf("after the query it follows %s", watched())
		}
		p.send(`{"type":"presence_sub","ids":[]}`)
		p.send(`{"type":"ping"}`)
		p.until("pong")
		if watched() != "[]" {
			t.Errorf("at last it follows %s", watched())
		}
		p.conn.Close()
		synctest.Wait()
	})
}

func TestTimers_PresenceForClientsThatAreNotQuiet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.hello(w.ticketURL("xoxp-ana"))
		p.send(`{"type":"presence_sub","ids":["U4"]}`)
		if f := p.next(); f != `{"type":"presence_change","presence":"active","user":"U4"}` {
			t.Errorf("got %s", f)
		}
		p.send(`{"type":"presence_query","ids":["U4"]}`)
		if f := p.next(); f != `{"type":"presence_change","presence":"active","user":"U4"}` {
			t.Errorf("got %s", f)
		}
		p.conn.Close()
		synctest.Wait()
	})
}

// A client follows somebody whom it may not see any more: neither what was known, nor what is on its way, is told.
func TestTimers_PresenceOfWhomNobodyMayHearAnyMore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.hello(w.thinURL("xoxp-ana", "batch_presence_aware=1"))
		p.send(`{"type":"presence_sub","ids":["U4","U5"]}`)
		p.until("presence_change")
		w.hub.publish(presenceOf("U4", protocol.Away))
		w.queries.mu.Lock()
		w.queries.unheard = map[protocol.UserID]bool{"U4": true}
		w.queries.mu.Unlock()

		time.Sleep(time.Second)
		p.send(`{"type":"presence_query","ids":["U4"]}`)
		time.Sleep(time.Second)
		p.send(`{"type":"presence_query","ids":["U5"]}`)
		if f := p.next(); f != `{"type":"presence_change","presence":"active","users":["U5"]}` {
			t.Errorf("got %s", f)
		}
		p.conn.Close()
		synctest.Wait()
	})
}

// TestTimers_PresenceThatNobodyIsSureOfWaits: a change was collected, and the user's state is being loaded anew when the pulse
// tells it. It was told as if they might be heard of; now it waits until that is known, and a newer one takes its place.
func TestTimers_PresenceThatNobodyIsSureOfWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		p := w.hello(w.thinURL("xoxp-ana", "batch_presence_aware=1"))
		p.send(`{"type":"presence_sub","ids":["U4","U5"]}`)
		p.until("presence_change")
		sure := func(yes bool) {
			w.queries.mu.Lock()
			defer w.queries.mu.Unlock()
			w.queries.unsure = map[protocol.UserID]bool{"U4": !yes, "U5": !yes}
		}
		sure(false)
		for _, user := range []protocol.UserID{"U4", "U5"} {
			w.hub.publish(presenceOf(user, protocol.Away))
		}
		time.Sleep(time.Second)
		w.hub.publish(presenceOf("U5", protocol.Active))
		p.send(`{"type":"presence_sub","ids":["U5"]}`) // Nobody wants to hear of U4 now.
		time.Sleep(time.Second)
		p.send(`{"type":"ping","id":1}`)
		p.until("pong") // And nothing before it.
		sure(true)
		time.Sleep(time.Second)
		p.send(`{"type":"ping","id":2}`)
		wantFrames(t, p, `{"type":"presence_change","presence":"active","users":["U5"]}`, "pong")
		p.conn.Close()
		synctest.Wait()
	})
}

func TestTimers_WritesWaitUntilTheyAreSeen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(_ *Config, w *world) {
			w.writer.forward = func(_ context.Context, call *protocol.Call) (*protocol.Reply, error) {
				return &protocol.Reply{Status: 200, Body: []byte(`{"ok":true}`), Position: 7}, nil
			}
		})
		advance := func(p protocol.Position) {
			w.queries.mu.Lock()
			w.queries.applied = p
			w.queries.mu.Unlock()
			w.edge.Advanced(p)
		}
		post := func() time.Duration {
			began := time.Now()
			resp, _, _ := w.call("POST", "/api/chat.postMessage?token=xoxp-ana", "", "")
			if resp.Header.Get(protocol.HeaderPosition) != "7" {
				t.Errorf("the position is %q", resp.Header.Get(protocol.HeaderPosition))
			}
			return time.Since(began)
		}

		time.AfterFunc(100*time.Millisecond, func() { advance(6) })
		time.AfterFunc(200*time.Millisecond, func() { advance(7) })
		if took := post(); took != 200*time.Millisecond {
			t.Errorf("it waited %v for the event", took)
		}
		if took := post(); took != 0 {
			t.Errorf("it waited %v for what it has seen", took)
		}
		advance(0)
		if took := post(); took != 500*time.Millisecond || w.queries.floors["U1"] != 7 {
			t.Errorf("it waited %v, and the floor is %d", took, w.queries.floors["U1"])
		}
		if n := w.metric("flannel_writes_unseen_total"); n != 1 {
			t.Errorf("%v are counted", n)
		}
		if n := len(w.edge.waiters.all); n != 0 {
			t.Errorf("%d waiters are left", n)
		}
		w.client.CloseIdleConnections()
	})
}

func TestTimers_DrainIsPacedAndSaysGoodbye(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 20
		w := newWorld(t, func(c *Config, _ *world) { c.DrainTime = 10 * time.Second })
		var peers []*peer
		for range n {
			peers = append(peers, w.hello(w.thinURL("xoxp-ana", "")))
		}
		began := time.Now()
		var ended [n]time.Duration
		order := make(chan int, n)
		for i, p := range peers {
			go func() {
				saw := false
				for f := range p.frames {
					saw = saw || f == `{"type":"goodbye"}`
				}
				var ce *websocket.CloseError
				if ce, _ = p.ended.(*websocket.CloseError); ce == nil || ce.Code != int(protocol.CloseDraining) || !saw { //nolint:errorlint // ReadMessage returns it bare.
					t.Errorf("client %d: goodbye %v, then %v", i, saw, p.ended)
				}
				ended[i] = time.Since(began)
				order <- i
			}()
		}
		var refused atomic.Bool
		time.AfterFunc(time.Second, func() {
			_, resp, err := w.dialer().Dial(w.thinURL("xoxp-ana", ""), nil)
			refused.Store(err != nil && resp != nil && resp.StatusCode == 503 && resp.Header.Get("Retry-After") != "")
		})

		w.stop()

		if took := time.Since(began); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("the drain took %v", took)
		}
		if !refused.Load() {
			t.Error("a new client is not refused")
		}
		inOrder, gaps := true, map[time.Duration]int{}
		last := -1
		for i := range n {
			at := <-order
			inOrder = inOrder && at > last
			last = at
			gaps[ended[at].Round(500*time.Millisecond)]++
			_ = i
		}
		if inOrder {
			t.Error("they went in the order they came")
		}
		if len(gaps) < n-1 {
			t.Errorf("they were not paced: %v", gaps)
		}
		if w.metric("flannel_drain_remaining_connections") != 0 || w.metric("flannel_draining") != 1 {
			t.Error("the drain's metrics are wrong")
		}
	})
}

func TestTimers_DrainCutsOffWhoeverDoesNotGo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		for range 3 {
			w.rawSocket(w.thinURL("xoxp-ana", "")) // never reads
		}
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()

		if err := w.edge.Stop(ctx); err != nil {
			t.Error(err)
		}

		if took := time.Since(began); took > 7*time.Second {
			t.Errorf("it took %v", took)
		}
		if n := w.edge.Sessions(); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
	})
}

func TestTimers_RateLimitsPerUserAndMethod(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		count := func(token, path string) (ok int) {
			for range 40 {
				resp, answer, _ := w.call("POST", path, "application/json", `{"token":"`+token+`"}`)
				switch {
				case answer["ok"] == true:
					ok++
				case resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "1" || answer["error"] != "ratelimited":
					t.Errorf("got %d %q %v", resp.StatusCode, resp.Header.Get("Retry-After"), answer)
				}
			}
			return ok
		}
		if n := count("xoxp-ana", "/api/rtm.connect"); n != 30 { // a quarter of 120 a minute
			t.Errorf("%d of 40 pass", n)
		}
		if n := count("xoxp-bo", "/api/rtm.connect"); n != 30 {
			t.Errorf("%d of another's 40 pass", n)
		}
		if n := count("xoxp-ana", "/api/users.info"); n != 40 {
			t.Errorf("%d of 40 of another method pass", n)
		}
		time.Sleep(5 * time.Second)
		if n := count("xoxp-ana", "/api/rtm.connect"); n != 10 {
			t.Errorf("after 5 s %d pass", n)
		}
		w.client.CloseIdleConnections()
	})
}
