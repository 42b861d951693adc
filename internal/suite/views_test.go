package suite_test

import (
	"net/url"
	"testing"

	"flannel/protocol"
)

// TestViews is the life of a thin screen: objects come once and before the event that needs them, channels out of view
// come as badges that agree with client.counts, and users that the client does not have are only invalidated.
func TestViews(t *testing.T) {
	w := newWorld(t, 12)
	ana, bo := w.member(0), w.member(1)
	post := func(channel, text string) {
		t.Helper()
		if _, _, a := call(t, w.edgeURL(), "chat.postMessage", ana.token, url.Values{"channel": {channel}, "text": {text}}); a["ok"] != true {
			t.Fatalf("chat.postMessage: %v", a)
		}
	}
	_, _, created := call(t, w.edgeURL(), "conversations.create", ana.token, url.Values{"name": {"elsewhere"}})
	elsewhere := created["channel"].(map[string]any)["id"].(string)
	call(t, w.edgeURL(), "conversations.invite", ana.token, url.Values{"channel": {elsewhere}, "users": {string(bo.id)}})
	screen := general(t, client(w.edgeURL(), ana))
	// The node knows both from here on.
	query(t, w, "users/info", bo, map[string]any{"updated_ids": map[string]any{string(ana.id): 0}})
	query(t, w, "channels/info", bo, map[string]any{"updated_ids": map[string]any{screen: 0}})

	s := thin(t, w, bo, url.Values{"view": {screen}})
	s.until("hello", ofType(protocol.FrameHello))
	_, _, profile := call(t, w.edgeURL(), "users.profile.set", ana.token, url.Values{"name": {"status_text"}, "value": {"busy"}})
	if profile["ok"] != true {
		t.Fatal(profile)
	}
	first := s.until("something of ana's", func(f map[string]any) bool {
		return f["type"] == "user_change" || f["type"] == protocol.FrameUserInvalidated
	})
	if first["type"] != protocol.FrameUserInvalidated || first["user"].(map[string]any)["id"] != string(ana.id) || first["event_ts"] == nil || first["event_id"] == nil {
		t.Errorf("a change of somebody that the client does not have is %v", first)
	}

	post(screen, "on the screen")
	objects := s.until("objects", ofType(protocol.FrameObjects))
	users, _ := objects["users"].([]any)
	if len(users) != 1 || users[0].(map[string]any)["id"] != string(ana.id) || users[0].(map[string]any)["profile"].(map[string]any)["status_text"] != "busy" {
		t.Errorf("before her message come %v", objects)
	}
	if f := s.until("the next frame", func(map[string]any) bool { return true }); f["text"] != "on the screen" {
		t.Errorf("after the objects comes %v", f)
	}
	post(screen, "again")
	if f := s.until("the next frame", func(map[string]any) bool { return true }); f["text"] != "again" {
		t.Errorf("objects come twice: %v", f)
	}

	for range 5 {
		post(elsewhere, "<@"+string(bo.id)+">")
	}
	var badge map[string]any
	eventually(t, "the badge says 5", func() bool {
		badge = s.until("a badge", func(f map[string]any) bool {
			if f["channel"] == elsewhere && f["type"] == "message" {
				t.Errorf("a message of a channel out of view came: %v", f)
			}
			return f["type"] == protocol.FrameBadge
		})
		return badge["mention_count"] == 5.0
	})
	_, _, counts := call(t, w.edgeURL(), "client.counts", bo.token, nil)
	for _, c := range counts["channels"].([]any) {
		c := c.(map[string]any)
		if c["id"] == elsewhere && (c["latest"] != badge["latest"] || c["mention_count"] != badge["mention_count"] || c["has_unreads"] != badge["has_unreads"]) {
			t.Errorf("the badge says %v, client.counts %v", badge, c)
		}
	}
	call(t, w.edgeURL(), "users.profile.set", ana.token, url.Values{"name": {"status_text"}, "value": {"free"}})
	if f := s.until("the change", func(f map[string]any) bool {
		return f["type"] == "user_change" || f["type"] == protocol.FrameUserInvalidated
	}); f["type"] != "user_change" {
		t.Errorf("now that the client has her, her change is %v", f)
	}
}
