package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"flannel/client"
	"flannel/protocol"
)

// source is a TokenSource that gives what it is told to, and counts.
type source struct {
	give  func(n int) (string, error) // n from 1 on
	takes time.Duration
	asked atomic.Int64
	busy  atomic.Bool
	t     *testing.T
}

func (s *source) token(ctx context.Context) (string, error) {
	if s.busy.Swap(true) {
		s.t.Error("the source is asked while it is asked")
	}
	defer s.busy.Store(false)
	n := int(s.asked.Add(1))
	select {
	case <-time.After(s.takes):
		return s.give(n)
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// numbered gives another token each time.
func numbered(n int) (string, error) { return fmt.Sprint("new ", n), nil }

const ask = `{"type":"refresh","expires":1500000000}`

func (e *edge) accept(tokens ...string) {
	e.set(func() {
		clear(e.tokens)
		for _, token := range tokens {
			e.tokens[token] = true
		}
	})
}

// refreshes returns the frames with new tokens that came on the open sockets.
func (e *edge) refreshes() (all []string) {
	e.with(func(s *session) { all = append(all, s.sent(protocol.FrameRefresh)...) })
	return all
}

// TestRefresh_TheConnectionGoesOn: it is handed a new token, and the next one begins with that.
func TestRefresh_TheConnectionGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		src := &source{t: t, give: numbered}
		opt := e.options()
		opt.TokenSource = src.token
		c := connect(t, opt)
		defer c.Close()
		e.accept("new 1")
		e.say(ask)
		e.say(ask) // Once is enough.
		time.Sleep(time.Second)
		want(t, e.refreshes(), `{"id":1,"token":"new 1","type":"refresh"}`)
		e.message("still here")
		want(t, take(c), "still here")
		if s := c.State(); s.Phase != client.Connected || len(e.addresses()) != 1 {
			t.Errorf("state is %+v after %d connections", s, len(e.addresses()))
		}

		e.with((*session).cut)
		time.Sleep(time.Second)
		want(t, e.tokensSeen(), "xoxp-ana", "new 1")
		if n := src.asked.Load(); n != 1 {
			t.Errorf("the source was asked %d times", n)
		}
	})
}

// TestRefresh_ASourceThatKeepsItsToken until it is nearly over, as OAuth libraries do, and one that has a bad moment, are
// asked again before the server ends the session.
func TestRefresh_ASourceThatKeepsItsToken(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		src := &source{t: t, give: func(n int) (string, error) {
			switch n {
			case 1:
				return "xoxp-ana", nil
			case 2:
				return "", errors.New("the service is down")
			case 3:
				return "refused", nil
			}
			return "new", nil
		}}
		opt := e.options()
		opt.TokenSource = src.token
		c := connect(t, opt)
		defer c.Close()
		e.accept("new")
		e.say(ask)
		time.Sleep(45 * time.Second)
		want(t, e.refreshes(), `{"id":1,"token":"refused","type":"refresh"}`, `{"id":2,"token":"new","type":"refresh"}`)
		time.Sleep(tenMinutes)
		if n := src.asked.Load(); n != 4 || len(e.addresses()) != 1 {
			t.Errorf("the source was asked %d times, and there were %d connections", n, len(e.addresses()))
		}
	})
}

// TestRefresh_AnExpiredTokenOnce: the session ends with its token. One new token, one new connection, and no more.
func TestRefresh_AnExpiredTokenOnce(t *testing.T) {
	for name, c := range map[string]struct {
		asks  bool
		takes time.Duration
	}{
		"which the server did not say before": {false, 0},
		"while the new one is being fetched":  {true, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, e *edge) {
				src := &source{t: t, give: numbered, takes: c.takes}
				opt := e.options()
				opt.TokenSource = src.token
				cl := connect(t, opt)
				defer cl.Close()
				e.accept("new 1")
				if c.asks {
					e.say(ask)
				}
				time.Sleep(time.Second)
				e.closeAll(protocol.CloseTokenExpired, protocol.CloseReason{})
				synctest.Wait()
				e.message("meanwhile")
				time.Sleep(tenMinutes)
				want(t, e.tokensSeen(), "xoxp-ana", "new 1")
				want(t, take(cl), "meanwhile")
				if n := src.asked.Load(); n != 1 {
					t.Errorf("the source was asked %d times", n)
				}
			})
		})
	}
}

// TestRefresh_ARefreshedTokenThatIsRevoked is not presented again: the dead one is the one that the session went by.
func TestRefresh_ARefreshedTokenThatIsRevoked(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		src := &source{t: t, give: numbered}
		opt := e.options()
		opt.TokenSource = src.token
		c := connect(t, opt)
		defer c.Close()
		e.accept("new 1")
		e.say(ask)
		time.Sleep(time.Second)
		e.accept("new 2")
		e.closeAll(protocol.CloseTokenRevoked, protocol.CloseReason{})
		time.Sleep(tenMinutes)
		want(t, e.tokensSeen(), "xoxp-ana", "new 2")
	})
}

// TestRefresh_TokensThatAreAllRefused: ever longer pauses, each token once.
func TestRefresh_TokensThatAreAllRefused(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		src := &source{t: t, give: numbered}
		opt := e.options()
		opt.TokenSource = src.token
		c := connect(t, opt)
		defer c.Close()
		e.accept("none")
		e.closeAll(protocol.CloseTokenExpired, protocol.CloseReason{})
		time.Sleep(tenMinutes)
		seen := make(map[string]bool)
		for _, token := range e.tokensSeen() {
			if seen[token] {
				t.Errorf("%s is presented again", token)
			}
			seen[token] = true
		}
		// The policy of this server: pauses of up to 0.5 s, 1 s, … 30 s, half of that on average.
		if n := len(seen); n < 20 || n > 80 {
			t.Errorf("%d tokens in ten minutes", n)
		}
		if s := c.State(); s.Phase != client.Reconnecting || s.Attempt < 20 {
			t.Errorf("the state is %+v", s)
		}
		e.accept(fmt.Sprint("new ", src.asked.Load()+1))
		time.Sleep(time.Minute)
		if s := c.State(); s.Phase != client.Connected {
			t.Errorf("the state is %+v", s)
		}
	})
}

// TestRefresh_WithoutASourceTheClientEndsWithItsToken, and says so.
func TestRefresh_WithoutASourceTheClientEndsWithItsToken(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		e.say(ask)
		synctest.Wait()
		want(t, take(c)) // It is no event.
		e.closeAll(protocol.CloseTokenExpired, protocol.CloseReason{})
		synctest.Wait()
		if err := c.Err(); !errors.Is(err, client.ErrToken) {
			t.Errorf("Err is %v", err)
		}
	})
}
