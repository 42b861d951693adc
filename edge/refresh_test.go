package edge

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"flannel/protocol"
)

// ending gives ana tokens that end: each of her tokens by its name, and in how many seconds.
func (w *world) ending(tokens map[string]int) {
	w.queries.mu.Lock()
	defer w.queries.mu.Unlock()
	for token, left := range tokens {
		id := w.queries.tokens["xoxp-ana"]
		id.Token, id.Expires = "name of "+token, time.Now().Unix()+int64(left)
		w.queries.tokens[token] = id
	}
}

// TestRefresh_ASessionOutlivesItsToken: it is asked for a new one about a minute before, once, and goes on with what it is
// given: forwarded calls carry it, its revocation finds the session, and that of the old one does not.
func TestRefresh_ASessionOutlivesItsToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var used atomic.Value
		w := newWorld(t, func(_ *Config, w *world) {
			forward := w.writer.forward
			w.writer.forward = func(ctx context.Context, call *protocol.Call) (*protocol.Reply, error) {
				used.Store(call.Token)
				return forward(ctx, call)
			}
		})
		w.ending(map[string]int{"first": 600, "second": 1200})
		p := w.hello(w.thinURL("first", ""))
		began := time.Now()

		for _, c := range []struct{ at, asked int }{{524, 0}, {556, 1}} {
			time.Sleep(time.Until(began.Add(time.Duration(c.at) * time.Second)))
			if n := w.metric("flannel_token_refresh_asked_total"); int(n) != c.asked {
				t.Errorf("after %d s of 600 it was asked %v times", c.at, n)
			}
		}
		ask := p.next()
		if want := fmt.Sprintf(`{"type":"refresh","expires":%d}`, began.Unix()+600); ask != want {
			t.Errorf("it is asked by %s, not %s", ask, want)
		}
		p.send(`{"id":7,"type":"refresh","token":"second"}`)
		if f := p.next(); f != fmt.Sprintf(`{"ok":true,"reply_to":7,"expires":%d}`, began.Unix()+1200) {
			t.Errorf("the answer is %s", f)
		}
		p.send(`{"id":8,"type":"message","channel":"C1","text":"x"}`)
		p.until(`"ok":true`)
		if used.Load() != "second" {
			t.Errorf("it is forwarded with %s", used.Load())
		}
		w.edge.CloseUser("U1", "name of first", protocol.CloseTokenRevoked)
		time.Sleep(time.Until(began.Add(1160 * time.Second)))
		if n := w.edge.Sessions(); n != 1 {
			t.Fatal("the session has ended with its first token, or by its revocation")
		}
		wantFrames(t, p, `"expires":`+fmt.Sprint(began.Unix()+1200))
		if n := w.metric("flannel_token_refresh_asked_total"); n != 2 {
			t.Errorf("it was asked %v times", n)
		}
		if n := w.metric("flannel_token_refresh_total", "ok"); n != 1 {
			t.Errorf("%v refreshes are counted", n)
		}
		w.edge.CloseUser("U1", "name of second", protocol.CloseTokenRevoked)
		if code, _ := p.closed(); code != int(protocol.CloseTokenRevoked) {
			t.Errorf("closed with %d", code)
		}
	})
}

// TestRefresh_WhoDoesNotAnswerEndsWithTheToken: within a second, with the code that says to get a new token first; in
// compatible mode without being asked, because those clients do not know the frame.
func TestRefresh_WhoDoesNotAnswerEndsWithTheToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.ending(map[string]int{"short": 30, "compatible": 100})
		began := time.Now()
		for _, c := range []struct {
			url  func() string
			asks int
			left time.Duration
		}{
			{func() string { return w.thinURL("short", "boot=1") }, 1, 30 * time.Second}, // Asked after half of it.
			{func() string { return w.ticketURL("compatible") }, 0, 100 * time.Second},
		} {
			p := w.dial(c.url())
			if f := p.next(); !strings.HasPrefix(f, `{"type":"hello"`) {
				t.Errorf("the first frame is %s", f)
			}
			asks := 0
			for f := range p.frames {
				if strings.Contains(f, `"refresh"`) {
					asks++
				}
			}
			if code, _ := p.closed(); code != int(protocol.CloseTokenExpired) {
				t.Errorf("closed with %d", code)
			}
			if after := time.Since(began); after < c.left || after > c.left+time.Second {
				t.Errorf("closed after %v of %v", after, c.left)
			}
			if asks != c.asks {
				t.Errorf("it is asked %d times", asks)
			}
		}
	})
}

// TestRefresh_WhatIsNotTaken leaves the session as it was.
func TestRefresh_WhatIsNotTaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.ending(map[string]int{"good": 600})
		other := w.queries.tokens["xoxp-ana"]
		other.Workspace = "T2"
		w.queries.tokens["elsewhere"] = other
		w.queries.dead["dead"], w.queries.dead["away"] = protocol.CodeTokenRevoked, protocol.CodeUnavailable
		p := w.hello(w.thinURL("good", ""))
		for _, c := range []struct{ frame, want, outcome string }{
			{`{"id":1,"type":"refresh"}`, `{"ok":false,"reply_to":1,"error":{"code":3,"msg":"\"token\" is missing, or no string"}}`, refreshBad},
			{`{"id":1,"type":"refresh","token":5}`, `{"ok":false,"reply_to":1,"error":{"code":3,"msg":"\"token\" is missing, or no string"}}`, refreshBad},
			{`{"type":"refresh","token":"xoxp-bo"}`, `{"type":"error","error":{"code":5,"msg":"token_mismatch"}}`, refreshMismatch},
			{`{"id":2,"type":"refresh","token":"elsewhere"}`, `{"ok":false,"reply_to":2,"error":{"code":5,"msg":"token_mismatch"}}`, refreshMismatch},
			{`{"id":3,"type":"refresh","token":"nobody's"}`, `{"ok":false,"reply_to":3,"error":{"code":5,"msg":"invalid_auth"}}`, refreshRefused},
			{`{"id":4,"type":"refresh","token":"dead"}`, `{"ok":false,"reply_to":4,"error":{"code":5,"msg":"token_revoked"}}`, refreshRefused},
			{`{"id":5,"type":"refresh","token":"away"}`, `{"ok":false,"reply_to":5,"error":{"code":5,"msg":"service_unavailable","retry_after":1}}`, refreshUnavailable},
			{`{"id":6,"type":"refresh","token":"good"}`, `{"ok":false,"reply_to":6,"error":{"code":5,"msg":"ratelimited","retry_after":3}}`, refreshLimited}, // five at once
		} {
			before := w.metric("flannel_token_refresh_total", c.outcome)
			p.send(c.frame)
			if f := p.next(); f != c.want {
				t.Errorf("%s gets %s", c.frame, f)
			}
			if n := w.metric("flannel_token_refresh_total", c.outcome); n != before+1 {
				t.Errorf("%s is not counted as %s", c.frame, c.outcome)
			}
		}
		compatible := w.hello(w.ticketURL("good"))
		compatible.send(`{"id":1,"type":"refresh","token":"good"}`)
		if f := compatible.next(); !strings.Contains(f, `"code":4`) {
			t.Errorf("in compatible mode it gets %s", f)
		}
		time.Sleep(5 * time.Minute)
		if n := w.edge.Sessions(); n != 2 {
			t.Errorf("%d sessions are left", n)
		}
	})
}

// TestRefresh_OneAtATime: the backend takes its time to tell who a token's bearer is, and the next one comes meanwhile.
func TestRefresh_OneAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.ending(map[string]int{"first": 600, "slow": 1200, "third": 1800})
		p := w.hello(w.thinURL("first", ""))
		w.queries.asked = func(token string) {
			if token == "slow" {
				time.Sleep(time.Second)
			}
		}
		p.send(`{"id":1,"type":"refresh","token":"slow"}`)
		p.send(`{"id":2,"type":"refresh","token":"third"}`)
		wantFrames(t, p, `{"ok":false,"reply_to":2,"error":{"code":5,"msg":"ratelimited","retry_after":1}}`, `{"ok":true,"reply_to":1,`)
		p.send(`{"id":3,"type":"refresh","token":"third"}`)
		wantFrames(t, p, `{"ok":true,"reply_to":3,`)
	})
}

// TestRefresh_WhatMayBeSeenIsLookedAtAgain: the new token is a guest's. The session has told things that guests do not see.
func TestRefresh_WhatMayBeSeenIsLookedAtAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.ending(map[string]int{"member": 600, "guest": 1200})
		id := w.queries.tokens["guest"]
		id.Role = protocol.RoleGuest
		w.queries.tokens["guest"] = id
		p := w.hello(w.thinURL("member", ""))
		p.send(`{"id":1,"type":"refresh","token":"guest"}`)
		wantFrames(t, p, `{"ok":true,"reply_to":1,`, `{"type":"goodbye"}`)
		if code, _ := p.closed(); code != int(protocol.CloseResync) {
			t.Errorf("closed with %d", code)
		}
		if n := w.metric("flannel_token_refresh_total", refreshChanged); n != 1 {
			t.Errorf("%v are counted", n)
		}
	})
}

// TestRefresh_RevokedBetweenTheLookAndTheName: the new token is revoked when its bearer has been identified and the session
// does not go by it yet: whoever tells of the revocation does not find the session.
func TestRefresh_RevokedBetweenTheLookAndTheName(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.ending(map[string]int{"first": 600, "second": 1200})
		p := w.hello(w.thinURL("first", ""))
		looks := 0
		w.queries.asked = func(token string) {
			if looks++; looks == 2 {
				w.queries.kill(token, protocol.CodeTokenRevoked)
			}
		}
		p.send(`{"id":1,"type":"refresh","token":"second"}`)
		if code, _ := p.closed(); code != int(protocol.CloseTokenRevoked) {
			t.Errorf("closed with %d", code)
		}
	})
}

// TestLifetime_EndsWithGoodbyeAtATimeOfOnesOwn: between 80 and 120 % of what is configured, and spread over that.
func TestLifetime_EndsWithGoodbyeAtATimeOfOnesOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 20
		w := newWorld(t, func(c *Config, _ *world) { c.MaxLifetime = time.Hour })
		var peers [n]*peer
		for i := range peers {
			peers[i] = w.hello(w.thinURL("xoxp-ana", ""))
		}
		began := time.Now()
		var ended [n]time.Duration
		done := make(chan struct{})
		for i, p := range peers {
			go func() {
				last := ""
				for f := range p.frames {
					last = f
				}
				ended[i] = time.Since(began)
				if code, _ := p.closed(); code != int(protocol.CloseLifetime) || last != `{"type":"goodbye"}` {
					t.Errorf("closed with %d after %s", code, last)
				}
				done <- struct{}{}
			}()
		}
		for range peers {
			<-done
		}
		in := make(map[time.Duration]int)
		for _, after := range ended {
			if after < 48*time.Minute || after > 72*time.Minute+time.Second {
				t.Errorf("closed after %v", after)
			}
			in[after.Truncate(6*time.Minute)]++
		}
		for when, count := range in {
			if count < n/4-2 || count > n/4+2 {
				t.Errorf("%d of %d end between %v and six minutes later", count, n, when)
			}
		}
		synctest.Wait()
	})
}

// TestRefresh_TokensThatAreShortOfLife: somebody who has none but tokens of 20 s is asked each ten, not as soon as they have
// answered.
func TestRefresh_TokensThatAreShortOfLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.ending(map[string]int{"0": 20})
		p := w.hello(w.thinURL("0", ""))
		done := make(chan int)
		go func() {
			asked := 0
			for f := range p.frames {
				if strings.HasPrefix(f, `{"type":"refresh"`) {
					asked++
					w.ending(map[string]int{fmt.Sprint(asked): 20})
					p.send(fmt.Sprintf(`{"id":1,"type":"refresh","token":"%d"}`, asked))
				}
			}
			done <- asked
		}()
		time.Sleep(5 * time.Minute)
		p.conn.Close()
		if asked := <-done; asked < 28 || asked > 31 {
			t.Errorf("in 5 minutes it is asked %d times", asked)
		}
	})
}
