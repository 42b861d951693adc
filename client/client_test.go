package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"flannel/client"
	"flannel/internal/memnet"
	"flannel/protocol"
)

const tenMinutes = 10 * time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs a test in virtual time with an edge in memory.
func bubble(t *testing.T, test func(t *testing.T, e *edge)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := memnet.Listen()
		e := newEdge(l)
		e.url, e.dial = "http://edge.test", l.Dial
		defer e.close()
		test(t, e)
	})
}

func connect(t *testing.T, opt client.Options) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// take returns the texts of what has come so far: of messages, "resync …" of a resync, else the type.
func take(c *client.Client) []string {
	synctest.Wait()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	var got []string
	for {
		ev, err := c.Next(now)
		if err != nil {
			return got
		}
		got = append(got, textOf(ev))
	}
}

func textOf(ev client.Event) string {
	switch e := ev.Data.(type) {
	case *client.Message:
		return e.Text
	case *client.Resync:
		return "resync " + strings.Join(e.Refetch, " ")
	}
	return ev.Type
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDial_KnowsWhoAndWhere(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()

		if c.Self() != "U1" || c.Boot().Channels[0].Name != "general" || c.Counts().Channels[0].MentionCount != 2 {
			t.Errorf("boot is %+v, counts %+v", c.Boot(), c.Counts())
		}
		if s := c.State(); s.Phase != client.Connected || s.Reason != nil {
			t.Errorf("state is %+v", s)
		}
		want(t, e.addresses(), "batch_presence_aware=1&boot=1&flannel=3&lazy_channels=1")
	})
}

func TestDial_TriesUntilItsContextEnds(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		e.refuse = func() (int, http.Header) { return 503, http.Header{"Retry-After": {"5"}} }
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()

		_, err := client.Dial(ctx, e.options())

		var he *client.HandshakeError
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &he) || he.Status != 503 || he.Retry != 5*time.Second || he.Code != protocol.CodeUnavailable {
			t.Errorf("Dial says %v", err)
		}
		if n := len(e.addresses()); n < 8 || n > 13 {
			t.Errorf("%d attempts in a minute with Retry-After 5", n)
		}
	})
}

func TestDial_RefusalsThatNoRetryMends(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*edge, *client.Options)
		want   error
	}{
		"no URL":         {func(_ *edge, o *client.Options) { o.URL = "" }, nil},
		"no scheme":      {func(_ *edge, o *client.Options) { o.URL = "edge.test" }, nil},
		"no token":       {func(_ *edge, o *client.Options) { o.Token = "" }, nil},
		"too large view": {func(_ *edge, o *client.Options) { o.View = make([]protocol.ChannelID, 101) }, &protocol.Error{Code: protocol.CodeInvalidArgs}},
		"dead token":     {func(_ *edge, o *client.Options) { o.Token = "xoxp-dead" }, client.ErrToken},
		"dead again": {func(_ *edge, o *client.Options) {
			o.TokenSource = func(context.Context) (string, error) { return "xoxp-dead", nil }
			o.Token = "xoxp-dead"
		}, client.ErrToken},
		"forbidden": {func(e *edge, _ *client.Options) {
			e.refuse = func() (int, http.Header) { return http.StatusForbidden, nil }
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, e *edge) {
				opt := e.options()
				c.change(e, &opt)
				ctx, cancel := context.WithTimeout(t.Context(), tenMinutes)
				defer cancel()

				_, err := client.Dial(ctx, opt)

				if err == nil || ctx.Err() != nil || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("Dial says %v", err)
				}
			})
		})
	}
}

func TestResume_WhatWasMissedComesOnce(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		e.message("one")
		want(t, take(c), "one")

		e.with((*session).cut)
		synctest.Wait()
		e.message("two") // Nobody is connected.
		e.message("three")
		if s := c.State(); s.Phase != client.Reconnecting || s.Reason == nil || s.Attempt != 1 || time.Until(s.NextAt) > 500*time.Millisecond {
			t.Errorf("state is %+v", s)
		}
		time.Sleep(time.Second)

		want(t, take(c), "two", "three") // And not "one", which the token of hello does not cover.
		e.message("four")
		want(t, take(c), "four")
		time.Sleep(time.Minute) // A pong brings a newer token.
		e.with((*session).cut)
		time.Sleep(time.Second)
		want(t, take(c))
		if a := e.addresses(); len(a) != 3 || !strings.Contains(a[1], "resume=1.rs.U1") || strings.Contains(a[1], "boot=1") || !strings.Contains(a[2], "resume=1.rw.U1") {
			t.Errorf("addresses are %q", a)
		}
	})
}

func TestResume_Resync(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		e.with((*session).cut)
		synctest.Wait()
		e.message("lost")
		e.publish("C2", `"type":"message","channel":"C2","text":"kept","ts":"1700000000.000001"`)
		e.set(func() { e.gone["C1"] = e.position })
		time.Sleep(time.Second)
		want(t, take(c), "resync C1", "kept")

		e.set(func() { e.noResume = true }) // Another server, that does not know how to.
		e.with((*session).cut)
		time.Sleep(time.Second)
		want(t, take(c), "resync all")
	})
}

func TestClose_CodesSayWhatToDo(t *testing.T) {
	for _, c := range []struct {
		code   protocol.CloseCode
		reason protocol.CloseReason
		least  time.Duration // until the next connection
		most   time.Duration
		got    string // of events, after one message was missed
		resume bool
	}{
		{4000, protocol.CloseReason{}, 0, 0, "missed", true},
		{4001, protocol.CloseReason{}, 0, 0, "missed", true},
		{4100, protocol.CloseReason{RetryMS: 8000}, 8 * time.Second, 9002 * time.Millisecond, "missed", true},
		{4100, protocol.CloseReason{RetryMS: 1 << 30}, 10 * time.Minute, 12 * time.Minute, "missed", true},
		{4101, protocol.CloseReason{}, 0, 500 * time.Millisecond, "missed", true},
		{4200, protocol.CloseReason{}, 0, 0, "missed", true},
		{4400, protocol.CloseReason{}, 0, 500 * time.Millisecond, "resync all", false},
		{4401, protocol.CloseReason{}, 0, 0, "missed", true},
		{1000, protocol.CloseReason{}, 0, 500 * time.Millisecond, "missed", true},
		{1001, protocol.CloseReason{}, 0, 500 * time.Millisecond, "missed", true},
		{4999, protocol.CloseReason{}, 0, 500 * time.Millisecond, "missed", true},
	} {
		t.Run(fmt.Sprint(c.code), func(t *testing.T) {
			bubble(t, func(t *testing.T, e *edge) {
				cl := connect(t, e.options())
				defer cl.Close()
				time.Sleep(2 * time.Minute) // It is stable.
				var back time.Time
				e.set(func() {
					e.refuse = func() (int, http.Header) { e.set(func() { back = time.Now() }); return 0, nil }
				})
				closed := time.Now()
				e.closeAll(c.code, c.reason)
				e.message("missed")

				time.Sleep(20 * time.Minute)

				want(t, take(cl), c.got)
				if took := back.Sub(closed); took < c.least || took > c.most {
					t.Errorf("came back after %v, want %v to %v", took, c.least, c.most)
				}
				if a := e.addresses(); len(a) != 2 || strings.Contains(a[1], "resume=") != c.resume {
					t.Errorf("addresses are %q", a)
				}
			})
		})
	}
}

func TestClose_Never(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		e.message("last")
		e.closeAll(protocol.CloseInactive, protocol.CloseReason{Reason: "account_inactive"})
		time.Sleep(tenMinutes)

		want(t, take(c), "last")
		var ce *client.CloseError
		if err := c.Err(); !errors.As(err, &ce) || ce.Code != protocol.CloseInactive || ce.Reason != "account_inactive" {
			t.Errorf("Err is %v", err)
		}
		if _, err := c.Next(t.Context()); !errors.As(err, &ce) {
			t.Errorf("Next says %v", err)
		}
		if _, err := c.User(t.Context(), "U2"); err == nil {
			t.Error("a client that has ended finds users")
		}
		if s := c.State(); s.Phase != client.Closed || len(e.addresses()) != 1 {
			t.Errorf("state is %+v after %d connections", s, len(e.addresses()))
		}
	})
}

func TestClose_WithANewToken(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		asked := 0
		opt := e.options()
		opt.TokenSource = func(context.Context) (string, error) {
			if asked++; asked == 1 {
				return "", errors.New("the service is down") // It is asked again.
			}
			return "xoxp-new", nil
		}
		c := connect(t, opt)
		defer c.Close()
		e.set(func() { e.tokens = map[string]bool{"xoxp-new": true} })
		e.closeAll(protocol.CloseTokenExpired, protocol.CloseReason{})
		time.Sleep(time.Minute)
		e.message("new")

		want(t, take(c), "new")
		if asked != 2 {
			t.Errorf("asked %d times for a token", asked)
		}
	})
}

func TestClose_Elsewhere(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		var hosts []string
		opt := e.options()
		opt.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			e.set(func() { hosts = append(hosts, address) })
			if address == "dead.test:80" {
				return nil, io.EOF
			}
			return e.dial(ctx, network, address)
		}
		c := connect(t, opt)
		defer c.Close()

		e.closeAll(protocol.CloseDraining, protocol.CloseReason{URL: "ws://other.test"})
		time.Sleep(time.Second)
		e.closeAll(protocol.CloseDraining, protocol.CloseReason{URL: "ws://dead.test"})
		time.Sleep(time.Minute)

		e.mu.Lock()
		defer e.mu.Unlock()
		want(t, hosts, "edge.test:80", "other.test:80", "dead.test:80", "edge.test:80")
	})
}

func TestClose_TokenNeverGoesFromASecretConnectionToAnOpenOne(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		var hosts []string
		opt := e.options()
		opt.URL = "https://edge.test"
		opt.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			e.set(func() { hosts = append(hosts, address) })
			return nil, &client.CloseError{Code: protocol.CloseDraining, URL: "ws://open.test"}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		client.Dial(ctx, opt)

		if slices.Contains(hosts, "open.test:80") || len(hosts) < 2 {
			t.Errorf("it went to %q", hosts)
		}
	})
}

func TestReconnect_FullJitterThatGrows(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		e.set(func() { e.refuse = func() (int, http.Header) { return http.StatusNotFound, nil } }) // Being set up anew.
		e.with((*session).cut)

		var waits []time.Duration
		for s := range c.States(t.Context()) {
			if s.Phase == client.Reconnecting {
				waits = append(waits, time.Until(s.NextAt))
			}
			if s.Attempt == 40 {
				break
			}
		}

		var sum time.Duration
		for i, w := range waits {
			if most := min(500*time.Millisecond<<min(i, 10), 30*time.Second); w > most {
				t.Errorf("wait %d is %v, want at most %v", i, w, most)
			}
			if i >= 8 {
				sum += w
			}
		}
		if mean := sum / time.Duration(len(waits)-8); mean < 8*time.Second || mean > 22*time.Second {
			t.Errorf("the mean of the later waits is %v, want about 15s", mean)
		}
		e.set(func() { e.refuse = nil })
		time.Sleep(time.Minute)
		if c.State().Phase != client.Connected {
			t.Errorf("state is %+v", c.State())
		}
	})
}

func TestHalfOpen_IsFoundByPings(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		time.Sleep(tenMinutes) // Pongs keep it.
		if n := len(e.addresses()); n != 1 {
			t.Fatalf("%d connections in ten quiet minutes", n)
		}
		e.set(func() { e.mute = true })
		lost := time.Now()

		for s := range c.States(t.Context()) {
			if s.Phase == client.Reconnecting {
				break
			}
		}

		if took := time.Since(lost); took > 30*time.Second {
			t.Errorf("found after %v", took)
		}
		e.set(func() { e.mute = false })
		time.Sleep(time.Second)
		e.message("back")
		want(t, take(c), "back")
	})
}

func TestMalformed_FramesEndTheConnectionAndAreNotFetchedAgain(t *testing.T) {
	for _, bad := range []string{``, `[]`, `{`, `"x"`, `{"type":5}`, `{"a":1}`, `{"type":"message","text":"` + "\xff" + `"}`, `null`} {
		bubble(t, func(t *testing.T, e *edge) {
			c := connect(t, e.options())
			defer c.Close()
			e.message("one")
			e.say(bad)
			e.message("two")
			time.Sleep(time.Second)
			e.message("three")

			want(t, take(c), "one", "resync all", "three")
			if n := len(e.addresses()); n != 2 {
				t.Errorf("%q: %d connections", bad, n)
			}
		})
	}
}

func TestEvents_OddOnesAreNotLost(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		e.publish("C1", `"type":"never_heard_of","x":1`)
		e.publish("C1", `"type":"message","text":{"not":"a string"}`)

		for _, kind := range []string{"never_heard_of", "message"} {
			ev, err := c.Next(t.Context())
			if err != nil || ev.Type != kind || ev.Data != nil || len(ev.Raw) == 0 || ev.Topic != "C1" || ev.Seq == 0 {
				t.Errorf("event is %+v, %v", ev, err)
			}
		}
	})
}

func TestEvents_Typed(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		for _, k := range []struct {
			fields string
			right  func(any) bool
		}{
			{`"type":"message","subtype":"message_changed","channel":"C1","message":{"text":"new","ts":"1"},"previous_message":{"text":"old"},"ts":"2"`,
				func(d any) bool {
					m := d.(*client.Message)
					return m.Subtype == "message_changed" && m.Changed.Text == "new" && m.Previous.Text == "old" && m.TS == "2" && m.Channel == "C1"
				}},
			{`"type":"reaction_added","user":"U2","reaction":"tada","item":{"channel":"C1","ts":"1"}`,
				func(d any) bool { r := d.(*client.Reaction); return r.Name == "tada" && r.Item.TS == "1" }},
			{`"type":"im_marked","channel":"D1","ts":"1","mention_count":3`, func(d any) bool { return d.(*client.Marked).MentionCount == 3 }},
			{`"type":"channel_archive","channel":"C1","user":"U1"`, func(d any) bool { return d.(*client.ChannelChange).ID == "C1" }},
			{`"type":"channel_joined","channel":{"id":"C2","name":"x"}`,
				func(d any) bool { ch := d.(*client.ChannelChange); return ch.ID == "C2" && ch.Channel.Name == "x" }},
			{`"type":"presence_change","presence":"away","users":["U2","U3"]`,
				func(d any) bool { p := d.(*client.Presence); return len(p.Users) == 2 && p.Presence == "away" }},
			{`"type":"badge","channel":"C3","mention_count":1`, func(d any) bool { return d.(*client.Badge).Channel == "C3" }},
			{`"type":"pref_change","name":"a","value":[1]`, func(d any) bool { return string(d.(*client.PrefChange).Value) == "[1]" }},
		} {
			e.publish("C1", k.fields)
			if ev, err := c.Next(t.Context()); err != nil || ev.Data == nil || !k.right(ev.Data) {
				t.Errorf("%s is told as %#v, %v", k.fields, ev.Data, err)
			}
		}
	})
}

func TestSlow_NothingIsLostAndTheConnectionIsNotBlocked(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		opt := e.options()
		opt.MaxEvents = 10
		c := connect(t, opt)
		defer c.Close()
		var all []string
		for i := range 35 {
			all = append(all, fmt.Sprint(i))
			e.say(`{"type":"user_typing","channel":"C1","user":"U2"}`)
			e.message(all[i])
		}
		synctest.Wait()
		if u, err := c.User(t.Context(), "U2"); err != nil || u.Name != "bo" { // Nobody has taken an event yet.
			t.Fatalf("user is %v, %v", u, err)
		}
		time.Sleep(time.Minute) // Pongs come, whose tokens are not for a client that is behind.

		var got []string
		for len(got) < 35 {
			ev, err := c.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if ev.Type == "message" {
				got = append(got, textOf(ev))
			}
		}

		want(t, got, all...)
		time.Sleep(time.Minute)
		want(t, take(c))
	})
}

func TestClosed_ClientsSaySo(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		e.message("not taken")
		waiting := make(chan error, 4)
		go func() {
			c.Next(t.Context())
			_, err := c.Next(t.Context())
			waiting <- err
		}()
		e.set(func() { e.onQuery = func(*session, json.RawMessage, string) bool { return false } })
		go func() { _, err := c.User(t.Context(), "U2"); waiting <- err }()
		go func() { waiting <- c.Query(t.Context(), "users/search", nil, nil) }()
		e.set(func() { e.onMessage = func(*session, protocol.MessageFrame) bool { return false } })
		go func() { _, err := c.Send(t.Context(), client.Outgoing{Channel: "C1", Text: "x"}); waiting <- err }()
		synctest.Wait()

		c.Close()
		c.Close()

		for range 4 {
			if err := <-waiting; !errors.Is(err, client.ErrClosed) {
				t.Errorf("who waited hears %v", err)
			}
		}
		if err := c.Call(t.Context(), "api.test", nil, nil); !errors.Is(err, client.ErrClosed) {
			t.Errorf("Call says %v", err)
		}
		for range c.Events(t.Context()) {
			t.Error("a closed client has events")
		}
	})
}

// TestCompression: it is offered if it is wanted, and then what is long goes compressed; nobody notices.
func TestCompression(t *testing.T) {
	for _, wanted := range []bool{false, true} {
		bubble(t, func(t *testing.T, e *edge) {
			opt := e.options()
			opt.Compression = wanted
			c := connect(t, opt)
			defer c.Close()
			text := strings.Repeat("long ", 600)
			if _, err := c.Send(t.Context(), client.Outgoing{Channel: "C1", Text: text}); err != nil {
				t.Fatal(err)
			}
			want(t, take(c), text)
			e.mu.Lock()
			defer e.mu.Unlock()
			if offered := strings.HasPrefix(e.offers[0], "permessage-deflate"); offered != wanted {
				t.Errorf("offered %q", e.offers[0])
			}
		})
	}
}
