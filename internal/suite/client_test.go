package suite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"flannel/backend/token"
	thinclient "flannel/client"
	"flannel/protocol"
)

// dialThin connects with the client library.
func dialThin(t *testing.T, w *world, a account, change func(*thinclient.Options)) *thinclient.Client {
	t.Helper()
	opt := thinclient.Options{URL: w.edgeURL(), Token: a.token, Log: w.log()}
	if change != nil {
		change(&opt)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := thinclient.Dial(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// heard returns the first event for which the claim holds, and fails on a resync.
func heard[T any](t *testing.T, c *thinclient.Client, what string, claim func(T) bool) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for ev := range c.Events(ctx) {
		if data, ok := ev.Data.(T); ok && claim(data) {
			return data
		}
		if r, ok := ev.Data.(*thinclient.Resync); ok {
			t.Fatalf("resync of %q before %s", r.Refetch, what)
		}
	}
	t.Fatalf("not within %v: %s (%+v)", patience, what, c.State())
	panic("not reached")
}

func text1(want string) func(*thinclient.Message) bool {
	return func(m *thinclient.Message) bool { return m.Text == want }
}

func generalOf(t *testing.T, w *world) protocol.ChannelID {
	t.Helper()
	return protocol.ChannelID(general(t, client(w.backendURL(), w.member(0))))
}

func TestClient_TalksAndLooksUp(t *testing.T) {
	w := newWorld(t, 12)
	channel := generalOf(t, w)
	ana, bo := dialThin(t, w, w.member(0), nil), dialThin(t, w, w.member(1), nil)

	ts, err := ana.Send(t.Context(), thinclient.Outgoing{Channel: channel, Text: "hello"})
	if err != nil {
		t.Fatal(err)
	}
	m := heard(t, bo, "the message", text1("hello"))
	if m.TS != ts || m.User != ana.Self() || m.Channel != channel {
		t.Errorf("message is %+v, want ts %s", m, ts)
	}
	author, err := bo.User(t.Context(), m.User)
	if err != nil || author.Name != w.member(0).name {
		t.Errorf("author is %+v, %v", author, err)
	}
	ch, err := bo.Channel(t.Context(), channel)
	if err != nil || !ch.IsGeneral {
		t.Errorf("channel is %+v, %v", ch, err)
	}
	if _, err := bo.User(t.Context(), "U0NOBODY0"); !errors.Is(err, thinclient.ErrNotFound) {
		t.Errorf("nobody is %v", err)
	}
	if len(bo.Counts().Channels) == 0 || len(bo.Boot().Channels) == 0 || bo.Boot().Team.ID != w.seed.Workspace.ID {
		t.Errorf("boot is %+v", bo.Boot())
	}

	if err := bo.Call(t.Context(), "users.profile.set", protocol.Args{"profile": `{"status_text":"away"}`}, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ana sees bo's status", func() bool {
		u, err := ana.User(t.Context(), bo.Self())
		return err == nil && u.Profile.StatusText == "away"
	})
	if _, err := ana.Send(t.Context(), thinclient.Outgoing{Channel: "C0NOSUCH00", Text: "x"}); !errors.Is(err, &protocol.Error{Code: protocol.CodeChannelNotFound}) {
		t.Errorf("Send says %v", err)
	}
	if _, err := ana.Send(t.Context(), thinclient.Outgoing{Channel: channel, Text: strings.Repeat("ä", 10_000)}); err != nil {
		t.Errorf("a long message: %v", err)
	}
}

// The edge goes and comes back, another process as far as anybody can tell; meanwhile people talk.
func TestClient_HearsEverythingOnceAcrossEdges(t *testing.T) {
	w := newWorld(t, 12)
	channel := generalOf(t, w)
	c := dialThin(t, w, w.member(0), nil)
	post := func(text string) {
		t.Helper()
		if _, _, answer := call(t, w.backendURL(), "chat.postMessage", w.member(1).token, url.Values{"channel": {string(channel)}, "text": {text}}); answer["ok"] != true {
			t.Fatal(answer)
		}
	}
	var want []string
	for i := range 4 {
		for j := range 5 {
			want = append(want, fmt.Sprintf("%d.%d", i, j))
			post(want[len(want)-1])
		}
		if i%2 == 0 { // Some are heard before the edge goes, some are on their way.
			heard(t, c, "a message", text1(want[len(want)-3]))
		}
		address := w.edge.Addr()
		w.stopEdge()
		want = append(want, fmt.Sprintf("%d away", i))
		post(want[len(want)-1])
		w.startEdge(address)
	}
	want = append(want, "mine", "last")
	if _, err := c.Send(t.Context(), thinclient.Outgoing{Channel: channel, Text: "mine"}); err != nil {
		t.Fatal(err)
	}
	post("last")

	// What heard took above is left out.
	rest := want[slices.Index(want, "2.2")+1:]
	for i := range rest {
		m := heard(t, c, rest[i], func(m *thinclient.Message) bool { return m.Channel == channel })
		if m.Text != rest[i] {
			t.Fatalf("heard %q, want %q", m.Text, rest[i])
		}
	}
}

func TestClient_GoesOnWhereTheLastRunStopped(t *testing.T) {
	w := newWorld(t, 12)
	channel := generalOf(t, w)
	c := dialThin(t, w, w.member(0), nil)
	other := dialThin(t, w, w.member(1), nil)
	if _, err := c.Users(t.Context(), w.member(1).id, w.member(2).id); err != nil {
		t.Fatal(err)
	}
	say := func(text string) {
		t.Helper()
		if _, err := other.Send(t.Context(), thinclient.Outgoing{Channel: channel, Text: text}); err != nil {
			t.Fatal(err)
		}
	}
	say("one")
	say("two")
	heard(t, c, "one", text1("one"))
	var saved bytes.Buffer
	if err := c.Save(&saved); err != nil {
		t.Fatal(err)
	}
	c.Close()
	say("three")

	again := dialThin(t, w, w.member(0), func(o *thinclient.Options) { o.Saved = &saved })
	for _, want := range []string{"two", "three"} {
		if m := heard(t, again, want, func(m *thinclient.Message) bool { return m.Channel == channel }); m.Text != want {
			t.Errorf("heard %q, want %q", m.Text, want)
		}
	}
	people, err := again.Users(t.Context(), w.member(1).id, w.member(2).id)
	if err != nil || len(people) != 2 {
		t.Errorf("people are %v, %v", people, err)
	}
}

func TestClient_ViewsAndBadges(t *testing.T) {
	w := newWorld(t, 12)
	channel := generalOf(t, w)
	c := dialThin(t, w, w.member(0), func(o *thinclient.Options) { o.View = []protocol.ChannelID{} })
	other := dialThin(t, w, w.member(1), nil)

	text := "look here <@" + string(w.member(0).id) + ">"
	ts, err := other.Send(t.Context(), thinclient.Outgoing{Channel: channel, Text: text})
	if err != nil {
		t.Fatal(err)
	}
	badge := heard(t, c, "the badge", func(b *thinclient.Badge) bool { return b.Channel == channel && b.Latest == ts })
	if badge.MentionCount != 1 || !badge.HasUnreads {
		t.Errorf("badge is %+v", badge)
	}

	if err := c.SetView(channel); err != nil {
		t.Fatal(err)
	}
	if err := c.Query(t.Context(), "users/info", map[string]any{}, nil); err != nil { // The view has arrived before it.
		t.Fatal(err)
	}
	if _, err := other.Send(t.Context(), thinclient.Outgoing{Channel: channel, Text: "in view"}); err != nil {
		t.Fatal(err)
	}
	heard(t, c, "the message in view", text1("in view"))
}

func TestClient_TokenThatDies(t *testing.T) {
	w := newWorld(t, 12)
	c := dialThin(t, w, w.member(0), nil)

	if err := c.Call(t.Context(), "auth.revoke", nil, nil); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		if _, err := c.Next(ctx); err != nil {
			var ce *thinclient.CloseError
			if !errors.Is(err, thinclient.ErrToken) || !errors.As(err, &ce) || ce.Code != protocol.CloseTokenRevoked {
				t.Errorf("the client ends with %v", err)
			}
			return
		}
	}
}

// TestClient_OutlivesItsToken: the token ends in a few seconds. The client is asked for another one and goes on with it, on the
// same connection: it hears, and what it sends is forwarded with a token that the backend takes. When that is revoked, the
// connection ends, and the next one begins with a third.
func TestClient_OutlivesItsToken(t *testing.T) {
	w := newWorld(t, 12)
	channel, bo := generalOf(t, w), w.member(1)
	ends := time.Now().Unix() + 3
	issue := func(name string, expires int64) string {
		tok, err := w.back.Tokens().Issue(token.Claims{ID: name, User: bo.id, Workspace: w.seed.Workspace.ID, Role: protocol.RoleMember, Issued: time.Now().Unix(), Expires: expires})
		if err != nil {
			t.Fatal(err)
		}
		return tok
	}
	var asked atomic.Int64
	var second atomic.Value
	short := bo
	short.token = issue("first", ends)
	c := dialThin(t, w, short, func(o *thinclient.Options) {
		o.TokenSource = func(context.Context) (string, error) {
			n := asked.Add(1)
			tok := issue(fmt.Sprint("token ", n), time.Now().Unix()+3600)
			second.CompareAndSwap(nil, tok)
			return tok, nil
		}
	})
	since := c.State().Since
	eventually(t, "the first token is over", func() bool { return time.Now().Unix() > ends })
	if _, err := c.Send(t.Context(), thinclient.Outgoing{Channel: channel, Text: "still here"}); err != nil {
		t.Fatal(err)
	}
	heard(t, c, "the message", text1("still here"))
	if s := c.State(); s.Since != since || asked.Load() != 1 {
		t.Errorf("the state is %+v, since before %v; %d tokens", s, since, asked.Load())
	}

	if _, _, answer := call(t, w.backendURL(), "auth.revoke", second.Load().(string), nil); answer["ok"] != true {
		t.Fatalf("auth.revoke: %v", answer)
	}
	eventually(t, "the connection is another", func() bool { s := c.State(); return s.Phase == thinclient.Connected && s.Since != since })
	if n := asked.Load(); n != 2 {
		t.Errorf("%d tokens", n)
	}
}

// TestClient_Compressed: everything through a connection that has agreed on compression: a boot, questions and answers, long
// messages in both directions, what was missed.
func TestClient_Compressed(t *testing.T) {
	w := newWorld(t, 530)
	channel := generalOf(t, w)
	compressed := func(o *thinclient.Options) { o.Compression = true }
	ana, bo := dialThin(t, w, w.member(0), compressed), dialThin(t, w, w.member(1), nil)
	plain := dialThin(t, w, w.member(0), nil)
	if a, b := ana.Boot(), plain.Boot(); a.Self.ID != b.Self.ID || len(a.Channels) != len(b.Channels) || len(a.Channels) == 0 {
		t.Errorf("boots of %d and %d channels", len(a.Channels), len(b.Channels))
	}
	text := strings.Repeat("what is said ünïcödé ", 100)
	if _, err := ana.Send(t.Context(), thinclient.Outgoing{Channel: channel, Text: text + "1"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*thinclient.Client{ana, bo, plain} {
		heard(t, c, "the message", text1(text+"1"))
	}
	if _, err := bo.Send(t.Context(), thinclient.Outgoing{Channel: channel, Text: text + "2"}); err != nil {
		t.Fatal(err)
	}
	heard(t, ana, "the answer", text1(text+"2"))
	var ids []protocol.UserID
	for i := range 20 {
		ids = append(ids, w.member(i).id)
	}
	users, err := ana.Users(t.Context(), ids...)
	if err != nil || len(users) != len(ids) {
		t.Errorf("%d users, %v", len(users), err)
	}
	all := samples(t, w.reg)
	for _, c := range []struct {
		name, label string
		least       float64
	}{
		{"flannel_compression_messages_total{", `"out"`, 3}, {"flannel_compression_messages_total{", `"in"`, 1}, {"flannel_compression_connections{", "", 1},
	} {
		found := false
		for series, v := range all {
			if strings.HasPrefix(series, c.name) && strings.Contains(series, c.label) {
				found = true
				if v < c.least {
					t.Errorf("%s is %v", series, v)
				}
			}
		}
		if !found {
			t.Errorf("there is no %s with %s", c.name, c.label)
		}
	}
}
