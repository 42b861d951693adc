package suite_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"flannel/protocol"
)

// follower is a thin session that continues after breaks, by the rules of docs/resume.md.
type follower struct {
	*socket
	w     *world
	who   account
	token string
	last  map[protocol.Topic]protocol.Seq // received; a new token is no reason to forget
	heard map[string][]string             // by channel: texts, in order
	again int
}

func newFollower(w *world, a account) *follower {
	return &follower{w: w, who: a, heard: make(map[string][]string), last: make(map[protocol.Topic]protocol.Seq)}
}

// connect opens a session at the world's present edge and returns its hello.
func (f *follower) connect(t *testing.T) map[string]any {
	t.Helper()
	params := url.Values{}
	if f.token != "" {
		params.Set("resume", f.token)
	}
	f.socket = thin(t, f.w, f.who, params)
	hello := f.until("hello", ofType(protocol.FrameHello))
	token, ok := hello["resume_token"].(string)
	if !ok {
		t.Fatalf("hello without a token: %v", hello)
	}
	if f.token == "" || hello["resume"] == protocol.ResumeResync {
		f.token = token
	}
	return hello
}

// hear takes the next frame in, and returns it.
func (f *follower) hear() map[string]any {
	f.t.Helper()
	var frame map[string]any
	if err := json.Unmarshal(f.next(), &frame); err != nil {
		f.t.Fatal(err)
	}
	if frame["type"] == protocol.FramePong {
		f.token = frame["resume_token"].(string)
	}
	id, ok := frame["event_id"].(string)
	if !ok {
		return frame
	}
	topic, seq, ok := protocol.ParseEventID(id)
	if !ok {
		f.t.Fatalf("event id %q", id)
	}
	if seq <= f.last[topic] {
		f.again++
		return frame
	}
	f.last[topic] = seq
	if text, ok := frame["text"].(string); ok && frame["type"] == "message" && frame["subtype"] == nil {
		channel := frame["channel"].(string)
		f.heard[channel] = append(f.heard[channel], text)
	}
	return frame
}

// hearUntil takes frames in until a message with that text has come.
func (f *follower) hearUntil(text string) {
	f.t.Helper()
	for frame := f.hear(); frame["text"] != text; frame = f.hear() {
	}
}

// ping gets a new token.
func (f *follower) ping() {
	f.t.Helper()
	f.send(map[string]any{"id": 1, "type": "ping"})
	for frame := f.hear(); frame["type"] != protocol.FramePong; frame = f.hear() {
	}
}

func TestResume(t *testing.T) {
	for _, at := range []struct {
		name string
		move func(t *testing.T, w *world)
	}{
		{"the same node", func(*testing.T, *world) {}},
		{"another node", func(t *testing.T, w *world) { t.Cleanup(w.stopEdge); w.startEdge("127.0.0.1:0") }},
		{"a restarted node", func(_ *testing.T, w *world) { w.stopEdge(); w.startEdge("127.0.0.1:0") }},
	} {
		t.Run(at.name, func(t *testing.T) {
			w := newWorld(t, 12)
			w.unlimited = true
			f := newFollower(w, w.member(1))
			api, guest := client(w.backendURL(), w.member(0)), string(w.member(1).id)
			general := general(t, api)
			create := func(name string) string {
				_, _, answer := call(t, w.backendURL(), "conversations.create", w.member(0).token, url.Values{"name": {name}, "is_private": {"true"}})
				return answer["channel"].(map[string]any)["id"].(string)
			}
			do := func(method string, args url.Values) {
				t.Helper()
				if _, _, answer := call(t, w.backendURL(), method, w.member(0).token, args); answer["ok"] != true {
					t.Fatalf("%s: %v", method, answer)
				}
			}
			post := func(channel, text string) {
				t.Helper()
				do("chat.postMessage", url.Values{"channel": {channel}, "text": {text}})
			}
			left, joined, visited := create("left"), create("joined"), create("visited")
			do("conversations.invite", url.Values{"channel": {left}, "users": {guest}})
			post(joined, "before the join")

			if hello := f.connect(t); hello["resume"] != nil {
				t.Errorf("a first hello says %v", hello)
			}
			post(general, "one")
			f.hearUntil("one")
			f.ping()
			post(general, "two")
			post(left, "left one")
			f.hearUntil("left one")
			f.conn.Close()

			post(general, "three")
			post(left, "left two")
			do("conversations.kick", url.Values{"channel": {left}, "user": {guest}})
			post(left, "after the removal")
			do("conversations.invite", url.Values{"channel": {joined}, "users": {guest}})
			post(joined, "joined one")
			post(visited, "before the visit")
			do("conversations.invite", url.Values{"channel": {visited}, "users": {guest}})
			post(visited, "visited one")
			do("conversations.kick", url.Values{"channel": {visited}, "user": {guest}})
			post(visited, "after the visit")
			post(general, "four")
			at.move(t, w)

			hello := f.connect(t)
			if hello["resume"] != protocol.ResumeReplayed || hello["fast_reconnect"] != true || hello["count"].(float64) < 8 {
				t.Errorf("hello says %v", hello)
			}
			f.hearUntil("four")
			post(joined, "joined two")
			f.hearUntil("joined two")
			post(general, "five")
			f.hearUntil("five")
			f.ping()
			for channel, want := range map[string][]string{
				general: {"one", "two", "three", "four", "five"}, left: {"left one", "left two"},
				joined: {"joined one", "joined two"}, visited: {"visited one"},
			} {
				if !slices.Equal(f.heard[channel], want) {
					t.Errorf("of %s it heard %q, want %q", channel, f.heard[channel], want)
				}
			}
			if f.again == 0 {
				t.Error("what was heard after the token does not come again: the token runs ahead")
			}

			// The watermark may be a moment behind the last event.
			eventually(t, "nothing to replay when nothing happened", func() bool {
				f.ping()
				f.conn.Close()
				hello := f.connect(t)
				return hello["resume"] == protocol.ResumeLossless && hello["fast_reconnect"] == true
			})
		})
	}
}

func TestResume_BadTokens(t *testing.T) {
	w := newWorld(t, 12)
	f := newFollower(w, w.member(1))
	f.connect(t)
	good, err := protocol.ParseResumeToken(f.token)
	if err != nil {
		t.Fatal(err)
	}
	foreign, ahead := good, good
	foreign.User = w.member(0).id
	ahead.Position += 1 << 40
	for name, token := range map[string]string{
		"nonsense": "x", "long": strings.Repeat("9", 3000), "another user's": foreign.String(), "from the future": ahead.String(),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFollower(w, w.member(1))
			f.token = token
			hello := f.connect(t)
			if hello["resume"] != protocol.ResumeResync || fmt.Sprint(hello["refetch"]) != "[all]" || hello["fast_reconnect"] == true {
				t.Errorf("hello says %v", hello)
			}
			f.ping()
			if f.token == token {
				t.Error("the client would loop: it gets no better token")
			}
		})
	}
}
