package suite_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/slack-go/slack"

	"flannel/protocol"
)

// TestOutage takes the backend away and gives it back: reads go on from the cache and say so, writes get a clear error,
// sockets stay up, nothing is lost, nobody has to do anything.
func TestOutage(t *testing.T) {
	w := newWorld(t, 12)
	a, b := w.member(0), connect(t, w.edgeURL(), w.member(1))
	api := client(w.edgeURL(), a)
	channel := general(t, api)
	known := url.Values{"user": {string(w.member(1).id)}}
	call(t, w.edgeURL(), "users.info", a.token, known)
	listen, upstream := w.back.Addr(), w.back.UpstreamAddr()

	w.stopBack()

	eventually(t, "a read from the cache, marked as stale", func() bool {
		resp, err := http.Get(w.edgeURL() + "/api/users.info?token=" + a.token + "&" + known.Encode())
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return strings.HasPrefix(string(body), `{"ok":true`) && resp.Header.Get(protocol.HeaderStale) != ""
	})
	_, _, answer := call(t, w.edgeURL(), "chat.postMessage", a.token, url.Values{"channel": {channel}, "text": {"into the void"}})
	if answer["ok"] != false || answer["error"] != "service_unavailable" {
		t.Errorf("a write gets %v", answer)
	}
	b.rtm.SendMessage(b.rtm.NewOutgoingMessage("into the void too", channel))
	await(b, func(e *slack.AckErrorEvent) bool { return e.ErrorObj != nil })
	if n := count(b, func(*slack.DisconnectedEvent) bool { return true }); n != 0 {
		t.Error("the socket was closed")
	}

	w.startBackend(listen, upstream)

	var ts string
	eventually(t, "a write goes through again", func() bool {
		_, _, answer := call(t, w.edgeURL(), "chat.postMessage", a.token, url.Values{"channel": {channel}, "text": {"here again"}})
		ts, _ = answer["ts"].(string)
		return answer["ok"] == true
	})
	await(b, func(m *slack.MessageEvent) bool { return m.Timestamp == ts })
}

// TestOutage_NothingIsLost breaks the stream while messages are written straight at the backend.
func TestOutage_NothingIsLost(t *testing.T) {
	w := newWorld(t, 12)
	b := connect(t, w.edgeURL(), w.member(1))
	channel := general(t, b.api)
	listen, upstream := w.back.Addr(), w.back.UpstreamAddr()
	var want []string
	for round := range 3 {
		w.stopBack()
		w.startBackend(listen, upstream)
		for i := range 10 {
			_, _, answer := call(t, w.backendURL(), "chat.postMessage", w.member(0).token, url.Values{"channel": {channel}, "text": {fmt.Sprintf("%d-%d", round, i)}})
			ts, _ := answer["ts"].(string)
			if ts == "" {
				t.Fatalf("chat.postMessage gets %v", answer)
			}
			want = append(want, ts)
		}
	}

	await(b, func(m *slack.MessageEvent) bool { return m.Timestamp == want[len(want)-1] })

	// await has taken the last one out of what was heard.
	for _, ts := range want[:len(want)-1] {
		if n := count(b, func(m *slack.MessageEvent) bool { return m.Timestamp == ts }); n != 1 {
			t.Errorf("message %s was delivered %d times", ts, n)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	last := ""
	for _, ev := range b.heard {
		if m, ok := ev.Data.(*slack.MessageEvent); ok && m.Channel == channel {
			if m.Timestamp < last {
				t.Errorf("%s came after %s", m.Timestamp, last)
			}
			last = m.Timestamp
		}
	}
}

// TestReconnect takes the edge away and gives it back: an unmodified client comes back by itself and hears again.
func TestReconnect(t *testing.T) {
	w := newWorld(t, 12)
	b := connect(t, w.edgeURL(), w.member(1))
	channel := general(t, b.api)
	listen := w.edge.Addr()

	w.stopEdge()
	await(b, func(*slack.DisconnectedEvent) bool { return true })
	w.startEdge(listen)

	await(b, func(*slack.HelloEvent) bool { return true })
	_, ts, err := client(w.edgeURL(), w.member(0)).PostMessageContext(t.Context(), channel, slack.MsgOptionText("you are back", false))
	if err != nil {
		t.Fatal(err)
	}
	await(b, func(m *slack.MessageEvent) bool { return m.Timestamp == ts })
}
