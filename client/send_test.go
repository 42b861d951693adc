package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flannel/client"
	"flannel/protocol"
)

func (e *edge) texts() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.posts, " ")
}

func TestSend_AcrossConnectionsOnce(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		times := 0
		e.set(func() {
			e.onMessage = func(s *session, m protocol.MessageFrame) bool {
				times++
				switch {
				case times == 1: // It never arrives.
					s.cut()
					return false
				case times < 4: // It is posted, but the answer never arrives.
					e.postLocked(m.Channel, m.Text, m.ClientMsgID)
					s.cut()
					return false
				}
				return true
			}
		})

		ts, err := c.Send(t.Context(), client.Outgoing{Channel: "C1", Text: "hello"})

		if err != nil || ts != "1700000000.000000" || times != 4 {
			t.Errorf("%v, %v after %d times", ts, err, times)
		}
		time.Sleep(time.Minute)
		want(t, take(c), "hello")
		if got := e.texts(); got != "hello" {
			t.Errorf("posted %q", got)
		}
	})
}

func TestSend_WaitsForAConnection(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		e.closeAll(protocol.CloseOverloaded, protocol.CloseReason{RetryMS: 20_000})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()

		_, err := c.Send(ctx, client.Outgoing{Channel: "C1", Text: "a", ClientMsgID: "mine"})
		if !errors.Is(err, client.ErrUnacknowledged) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Send says %v", err)
		}
		if _, err = c.Send(t.Context(), client.Outgoing{Channel: "C1", Text: "a", ClientMsgID: "mine"}); err != nil {
			t.Error(err)
		}
		if got := e.texts(); got != "a" {
			t.Errorf("posted %q", got)
		}
	})
}

func TestSend_Refusals(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		answers := []string{
			`{"ok":false,"reply_to":1,"error":{"code":-1,"msg":"slow down, too many messages...","retry_after":4}}`,
			`{"ok":false,"reply_to":2,"error":{"code":5,"msg":"service_unavailable"}}`,
			`{"ok":false,"reply_to":4,"error":{"code":5,"msg":"not_in_channel"}}`,
			`{"ok":false,"reply_to":5,"error":{"code":2,"msg":"message text is missing"}}`,
		}
		var at []time.Time
		e.set(func() {
			e.onMessage = func(s *session, _ protocol.MessageFrame) bool {
				at = append(at, time.Now())
				if len(at) == 3 {
					return true
				}
				s.say(answers[0])
				answers = answers[1:]
				return false
			}
		})

		if _, err := c.Send(t.Context(), client.Outgoing{Channel: "C1", Text: "in the end"}); err != nil {
			t.Errorf("Send says %v", err)
		}
		if first, second := at[1].Sub(at[0]), at[2].Sub(at[1]); first < 4*time.Second || first > 8*time.Second || second < time.Second || second > 2*time.Second {
			t.Errorf("it waited %v and %v", first, second)
		}
		if _, err := c.Send(t.Context(), client.Outgoing{Channel: "C9", Text: "x"}); !errors.Is(err, &protocol.Error{Code: protocol.CodeNotInChannel}) {
			t.Errorf("Send says %v", err)
		}
		if _, err := c.Send(t.Context(), client.Outgoing{Channel: "C9"}); !errors.Is(err, &protocol.Error{Code: "no_text"}) {
			t.Errorf("Send says %v", err)
		}
		if got := e.texts(); got != "in the end" {
			t.Errorf("posted %q", got)
		}
	})
}

func TestSend_WhatTheSocketDoesNotTakeGoesOverHTTP(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		for _, text := range []string{strings.Repeat("ä", 4001), strings.Repeat("x", 20_000)} {
			if _, err := c.Send(t.Context(), client.Outgoing{Channel: "C1", Text: text}); err != nil {
				t.Error(err)
			}
		}
		if _, err := c.Send(t.Context(), client.Outgoing{Channel: "C1", Text: "x", Blocks: []byte("no JSON")}); err == nil {
			t.Error("it sends what is no JSON")
		}
		e.with(func(s *session) {
			if n := len(s.sent(protocol.FrameMessage)); n != 0 {
				t.Errorf("%d frames", n)
			}
		})
	})
}

func TestView_IsKeptAcrossConnections(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		opt := e.options()
		opt.View = []protocol.ChannelID{"C1", "C2"}
		c := connect(t, opt)
		defer c.Close()
		synctest.Wait()
		frames := func(kind string) (sent []string) {
			synctest.Wait()
			e.with(func(s *session) { sent = s.sent(kind) })
			return sent
		}
		want(t, frames("view"))

		if err := c.SetView("C3"); err != nil {
			t.Fatal(err)
		}
		if err := c.WatchPresence("U2", "U3"); err != nil {
			t.Fatal(err)
		}
		want(t, frames("view"), `{"type":"view","channels":["C3"]}`)
		want(t, frames("presence_sub"), `{"type":"presence_sub","ids":["U2","U3"]}`)

		e.with((*session).cut)
		synctest.Wait()
		c.WatchPresence("U3")
		time.Sleep(time.Second)
		want(t, frames("view"))
		want(t, frames("presence_sub"), `{"type":"presence_sub","ids":["U3"]}`)
		c.SetView()
		want(t, frames("view"), `{"type":"view","channels":[]}`)
		e.with((*session).cut)
		time.Sleep(2 * time.Second)
		want(t, frames("view"), `{"type":"view","channels":[]}`)

		a := e.addresses()
		if !strings.HasSuffix(a[0], "view=C1%2CC2") || !strings.HasSuffix(a[1], "view=C3") || strings.Contains(a[2], "view") {
			t.Errorf("addresses are %q", a)
		}
		if err := c.SetView(make([]protocol.ChannelID, 101)...); !errors.Is(err, &protocol.Error{Code: protocol.CodeInvalidArgs}) {
			t.Errorf("SetView says %v", err)
		}
		if err := c.WatchPresence(make([]protocol.UserID, 501)...); !errors.Is(err, &protocol.Error{Code: protocol.CodeInvalidArgs}) {
			t.Errorf("WatchPresence says %v", err)
		}
	})
}

func TestTyping_IsNotSentWithEveryKey(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		for range 50 {
			c.Typing("C1")
			time.Sleep(100 * time.Millisecond)
		}
		c.Typing("C2")
		synctest.Wait()
		e.with(func(s *session) {
			if got := s.sent(protocol.FrameTyping); len(got) != 3 || got[2] != `{"type":"typing","channel":"C2"}` {
				t.Errorf("sent %q", got)
			}
		})
		e.with((*session).cut)
		synctest.Wait()
		c.Typing("C3") // There is nobody to tell.
	})
}

// A client that asks for much at once keeps below what ends sockets.
func TestPace_IsBelowTheServersLimit(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		began := time.Now()
		done := make(chan error)
		for range 600 {
			go func() { done <- c.Query(t.Context(), "users/info", map[string]any{}, nil) }()
		}
		for range 600 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 4*time.Second || took > 6*time.Second {
			t.Errorf("600 queries took %v", took)
		}
	})
}
