package webapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"flannel/backend/chat"
	"flannel/protocol"
)

func TestUsers_InfoAndVisibility(t *testing.T) {
	w := newWorld(t, Limits{})
	for _, c := range []struct {
		who, whom protocol.UserID
		sees      bool
	}{
		{ann, ann, true},
		{ann, ben, true},
		{ann, gone, true},
		{ann, zoe, true},  // shares #shared
		{ben, zoe, false}, // does not
		{ann, yan, false},
		{gus, gus, true},
		{gus, ann, true}, // shares #project
		{gus, ben, false},
		{zoe, ann, true},
		{zoe, ben, false},
		{zoe, yan, true},
		{bot, ann, true},
	} {
		out := decodeReply(t, w.call(c.who, "users.info", "user", string(c.whom)))
		if c.sees != (out.str("user", "id") == string(c.whom)) || c.sees == (out.str("error") == "user_not_found") {
			t.Errorf("%s looks at %s: %v", c.who, c.whom, out)
		}
		if stranger := out.at("user", "is_stranger") == true; c.sees && stranger != ((c.who == zoe || c.who == yan) != (c.whom == zoe || c.whom == yan)) {
			t.Errorf("%s looks at %s: stranger %v", c.who, c.whom, stranger)
		}
	}
	out := w.get(ann, "users.info", "user", string(ben), "include_locale", "true")
	if out.str("user", "locale") != "en-US" || out.at("user", "profile", "email") != "ben@example.org" {
		t.Errorf("%v", out)
	}
	out = w.get(ann, "users.info", "users", "U0BEN,U0NONE,U0ANN,U0YAN,U0BEN")
	if got := out.ids("users", "id"); !slices.Equal(got, []string{"U0BEN", "U0ANN"}) {
		t.Errorf("several: %v", got)
	}
	w.fails(ann, protocol.CodeUserNotFound, "users.info", "users", "U0NONE,x")
	w.fails(ann, protocol.CodeUserNotFound, "users.info")
	w.fails(ann, protocol.CodeUserNotFound, "users.info", "user", string(general))
	out = w.get(ann, "bots.info", "bot", "B0BOT")
	if out.str("bot", "user_id") != string(bot) {
		t.Errorf("%v", out)
	}
	if got := w.get(ann, "bots.info", "bots", "B0BOT,B0NONE").ids("bots", "id"); !slices.Equal(got, []string{"B0BOT"}) {
		t.Errorf("bots %v", got)
	}
	w.fails(gus, protocol.CodeBotNotFound, "bots.info", "bot", "B0BOT")
	w.fails(ann, protocol.CodeBotNotFound, "bots.info")
}

// pages reads a whole list by cursors and checks that no page is over the limit.
func (w *world) pages(user protocol.UserID, method, list, field string, limit int, args ...string) []string {
	w.tb.Helper()
	var all []string
	for cursor := ""; ; {
		out := w.get(user, method, append([]string{"limit", fmt.Sprint(limit), "cursor", cursor}, args...)...)
		page := out.ids(list, field)
		if len(page) > limit {
			w.tb.Errorf("%s: %d on a page of %d", method, len(page), limit)
		}
		all = append(all, page...)
		if cursor = out.str("response_metadata", "next_cursor"); cursor == "" {
			return all
		}
	}
}

func TestUsers_List(t *testing.T) {
	w := newWorld(t, Limits{})
	want := []string{"U0ADA", "U0ANN", "U0BEN", "U0BOT", "U0GONE", "U0GUS"}
	for _, limit := range []int{1, 2, 3, 6, 7, 5000} {
		if got := w.pages(ann, "users.list", "members", "id", limit); !slices.Equal(got, want) {
			t.Errorf("by %d: %v", limit, got)
		}
	}
	out := w.get(ann, "users.list")
	if got := out.ids("members", "id"); !slices.Equal(got, want) || out["cache_ts"] == nil || out.str("response_metadata", "next_cursor") != "" {
		t.Errorf("all: %v", out)
	}
	if got := w.pages(gus, "users.list", "members", "id", 1); !slices.Equal(got, []string{"U0ANN", "U0GUS"}) {
		t.Errorf("a guest's: %v", got)
	}
	// The cursor is the dialect's: it names the first of the next page.
	out = w.get(ann, "users.list", "limit", "2")
	if c := out.str("response_metadata", "next_cursor"); c != protocol.EncodeCursor("user", "U0BEN") {
		t.Errorf("cursor %q", c)
	}
	w.fails(ann, protocol.CodeInvalidCursor, "users.list", "cursor", "%%%")
	w.fails(ann, protocol.CodeInvalidCursor, "users.list", "cursor", protocol.EncodeCursor("user", "' OR 1=1"))
	w.fails(ann, protocol.CodeInvalidCursor, "users.list", "cursor", protocol.EncodeCursor("channel", "C1"))
	w.fails(ann, protocol.CodeInvalidLimit, "users.list", "limit", "-5")
	w.fails(ann, protocol.CodeTeamNotFound, "users.list", "team_id", string(theirs))
}

func TestUsers_ListNeedsALimitWhenLarge(t *testing.T) {
	w := newWorld(t, Limits{})
	w.addUsers(1000)
	w.fails(ann, protocol.CodeLimitRequired, "users.list")
	if got := w.pages(ann, "users.list", "members", "id", 300); len(got) != 1006 || !slices.IsSorted(got) {
		t.Errorf("%d users", len(got))
	}
}

func TestUsers_LookupByEmail(t *testing.T) {
	w := newWorld(t, Limits{})
	if out := w.get(ann, "users.lookupByEmail", "email", "ben@example.org"); out.str("user", "id") != "U0BEN" {
		t.Errorf("%v", out)
	}
	for _, email := range []string{"", "nobody@example.org", "gone@example.org", "zoe@example.org", strings.Repeat("x", 10000)} {
		w.fails(ann, chat.CodeUsersNotFound, "users.lookupByEmail", "email", email)
	}
	w.fails(gus, chat.CodeUsersNotFound, "users.lookupByEmail", "email", "ben@example.org")
}

func TestUsers_ProfileSet(t *testing.T) {
	w := newWorld(t, Limits{})
	before := w.get(ben, "users.info", "user", "U0ANN").at("user", "updated").(float64)
	n := w.seen()
	out := w.get(ann, "users.profile.set", "profile", `{"status_text":"at <lunch>","status_emoji":":sandwich:","display_name":" Änn ","unknown":{"x":1},"fields":{"Xf1":{"value":"v","alt":""}}}`)
	if out.str("profile", "status_text") != "at <lunch>" || out.str("profile", "display_name") != "Änn" || out.str("profile", "display_name_normalized") != "Ann" || out.str("profile", "fields", "Xf1", "value") != "v" {
		t.Errorf("set %v", out)
	}
	w.wantEvents(n, string(ours)+" user_change +upsert")
	e := w.lastEvent(protocol.Topic(ours), "user_change")
	var p result
	if err := json.Unmarshal(e.Payload, &p); err != nil {
		t.Fatal(err)
	}
	if p.str("user", "id") != "U0ANN" || p.str("user", "profile", "status_emoji") != ":sandwich:" || e.Effects[0].Object.ID != "U0ANN" {
		t.Errorf("payload %v", p)
	}
	info := w.get(ben, "users.info", "user", "U0ANN")
	if info.at("user", "updated").(float64) <= before || info.str("user", "profile", "status_text") != "at <lunch>" {
		t.Errorf("info %v", info)
	}
	w.get(ann, "users.profile.set", "name", "first_name", "value", "Anna")
	w.get(ann, "users.profile.set", "name", "last_name", "value", "Lee")
	out = w.get(ben, "users.profile.get", "user", "U0ANN")
	if out.str("profile", "real_name") != "Anna Lee" {
		t.Errorf("get %v", out)
	}
	w.get(ann, "users.profile.set", "name", "status_expiration", "value", "1900000000")
	w.get(ann, "users.profile.set", "profile", `{"fields":{"Xf1":{"value":"","alt":""}}}`)
	if out = w.get(ann, "users.profile.get"); out.at("profile", "fields") != nil || out.at("profile", "status_expiration") != 1.9e9 {
		t.Errorf("get %v", out)
	}
	w.get(ada, "users.profile.set", "user", "U0ANN", "name", "title", "value", "Boss")
	for _, c := range []struct {
		user protocol.UserID
		code protocol.Code
		args []string
	}{
		{ann, chat.CodeInvalidProfile, nil},
		{ann, chat.CodeInvalidProfile, []string{"profile", "{"}},
		{ann, chat.CodeInvalidProfile, []string{"profile", "[]"}},
		{ann, chat.CodeInvalidProfile, []string{"profile", "null"}},
		{ann, chat.CodeInvalidProfile, []string{"profile", `{"display_name":1}`}},
		{ann, chat.CodeInvalidProfile, []string{"profile", `{"real_name":" "}`}},
		{ann, chat.CodeInvalidProfile, []string{"profile", `{"email":"none"}`}},
		{ann, chat.CodeInvalidProfile, []string{"profile", `{"fields":{"a b":{"value":"v"}}}`}},
		{ann, chat.CodeInvalidProfile, []string{"name", "status_expiration", "value", "soon"}},
		{ann, chat.CodeInvalidProfile, []string{"name", "status_expiration", "value", "-1"}},
		{ann, chat.CodeStatusEmojiInvalid, []string{"profile", `{"status_emoji":"sandwich"}`}},
		{ann, chat.CodeTooLong, []string{"name", "status_text", "value", strings.Repeat("x", 101)}},
		{ann, chat.CodeTooLong, []string{"name", "display_name", "value", strings.Repeat("x", 81)}},
		{ann, chat.CodeNotAdmin, []string{"user", "U0BEN", "name", "title", "value", "x"}},
		{ada, protocol.CodeUserNotFound, []string{"user", "U0ZOE", "name", "title", "value", "x"}},
		{gus, protocol.CodeUserNotFound, []string{"user", "U0BEN", "name", "title", "value", "x"}},
	} {
		w.fails(c.user, c.code, "users.profile.set", c.args...)
	}
}

func TestUsers_Presence(t *testing.T) {
	w := newWorld(t, Limits{})
	if out := w.get(ben, "users.getPresence", "user", "U0ANN"); out.str("presence") != "active" || len(out) != 2 {
		t.Errorf("another's: %v", out)
	}
	n := w.seen()
	w.get(ann, "users.setPresence", "presence", "away")
	w.wantEvents(n, "U0ANN manual_presence_change")
	out := w.get(ann, "users.getPresence")
	if out.str("presence") != "away" || out["manual_away"] != true || out["online"] != true || out["connection_count"] != 1.0 || out["last_activity"] == nil {
		t.Errorf("one's own: %v", out)
	}
	w.get(ann, "users.setPresence", "presence", "auto")
	w.get(ann, "users.setActive")
	w.fails(ann, chat.CodeInvalidPresence, "users.setPresence", "presence", "here")
	w.fails(ann, chat.CodeInvalidPresence, "users.setPresence")
	w.fails(gus, protocol.CodeUserNotFound, "users.getPresence", "user", "U0BEN")
}

func TestUsers_Prefs(t *testing.T) {
	w := newWorld(t, Limits{})
	if out := w.get(ann, "users.prefs.get"); len(out["prefs"].(map[string]any)) != 0 {
		t.Errorf("none: %v", out)
	}
	n := w.seen()
	w.get(ann, "users.prefs.set", "name", "theme", "value", "dark")
	w.get(ann, "users.prefs.set", "prefs", `{"sound":true}`)
	w.get(ann, "users.prefs.set", "name", "sizes", "value", `{"a":[1,2]}`)
	w.wantEvents(n, "U0ANN pref_change +pref", "U0ANN pref_change +pref", "U0ANN pref_change +pref")
	out := w.get(ann, "users.prefs.get")
	if out.str("prefs", "theme") != "dark" || out.at("prefs", "sound") != true || out.at("prefs", "sizes", "a", 1) != 2.0 {
		t.Errorf("%v", out)
	}
	if out := w.get(ann, "users.prefs.get", "prefs", "sound,none"); len(out["prefs"].(map[string]any)) != 1 {
		t.Errorf("some: %v", out)
	}
	for _, args := range [][]string{
		nil,
		{"prefs", "x"},
		{"prefs", "[]"},
		{"prefs", "null"},
		{"prefs", "{}"},
		{"name", "a b", "value", "1"},
		{"name", strings.Repeat("x", 101), "value", "1"},
		{"name", "big", "value", strings.Repeat("x", 70000)},
	} {
		w.fails(ann, protocol.CodeInvalidArgs, "users.prefs.set", args...)
	}
	for i := range 5 {
		r := decodeReply(t, w.call(ann, "users.prefs.set", "name", fmt.Sprint("big", i), "value", strings.Repeat("x", 60000)))
		if (r["ok"] == true) != (i < 4) {
			t.Errorf("%d: %v", i, r)
		}
	}
}

func TestObjects(t *testing.T) {
	w := newWorld(t, Limits{})
	if out := w.get(ann, "team.info"); out.str("team", "id") != string(ours) || out.str("team", "domain") != "ours" {
		t.Errorf("team %v", out)
	}
	w.get(zoe, "team.info", "team", string(ours))
	w.fails(ann, protocol.CodeTeamNotFound, "team.info", "team", "T0NONE")
	w.fails(ann, protocol.CodeTeamNotFound, "team.info", "team", string(theirs))

	if out := w.get(ann, "emoji.list"); out.str("emoji", "parrot") != "https://example.org/parrot.gif" {
		t.Errorf("emoji %v", out)
	}
	n := w.seen()
	w.get(ada, "admin.emoji.add", "name", "cat", "url", "https://example.org/cat.gif")
	w.get(ada, "admin.emoji.add", "name", "kitty", "alias_for", "cat")
	w.get(ada, "admin.emoji.remove", "name", "cat")
	w.get(ada, "admin.emoji.add", "name", "cat", "url", "https://example.org/cat2.gif")
	w.wantEvents(n, "T0OURS emoji_changed add +upsert", "T0OURS emoji_changed add +upsert", "T0OURS emoji_changed remove +tombstone", "T0OURS emoji_changed add +upsert")
	versions := []protocol.Version{}
	w.mu.Lock()
	for _, e := range w.events[n:] {
		f := e.Effects[0]
		if f.Object != nil {
			f.ID, f.Version = f.Object.ID, f.Object.Version
		}
		if f.ID == protocol.EmojiID(ours, "cat") {
			versions = append(versions, f.Version)
		}
	}
	w.mu.Unlock()
	if len(versions) != 3 || versions[0] >= versions[1] || versions[1] >= versions[2] {
		t.Errorf("versions %v", versions)
	}
	if out := w.get(ann, "emoji.list"); out.str("emoji", "kitty") != "alias:cat" || out.str("emoji", "cat") != "https://example.org/cat2.gif" {
		t.Errorf("emoji %v", out)
	}
	w.fails(ann, chat.CodeNotAdmin, "admin.emoji.add", "name", "dog", "url", "https://example.org/dog.gif")
	w.fails(ann, chat.CodeNotAdmin, "admin.emoji.remove", "name", "cat")
	w.fails(ada, chat.CodeErrorNameTaken, "admin.emoji.add", "name", "cat", "url", "https://example.org/dog.gif")
	w.fails(ada, chat.CodeErrorBadNameI18n, "admin.emoji.add", "name", "C A T", "url", "https://example.org/dog.gif")
	w.fails(ada, chat.CodeErrorBadURL, "admin.emoji.add", "name", "dog", "url", "javascript:alert(1)")
	w.fails(ada, chat.CodeErrorBadURL, "admin.emoji.add", "name", "dog")
	w.fails(ada, chat.CodeEmojiNotFound, "admin.emoji.remove", "name", "nothing")
	w.fails(ada, chat.CodeEmojiNotFound, "admin.emoji.remove", "name", "a/emoji/b")

	out := w.get(ann, "usergroups.list")
	if out.str("usergroups", 0, "handle") != "team" || out.at("usergroups", 0, "users") != nil || out.at("usergroups", 0, "user_count") != 2.0 {
		t.Errorf("usergroups %v", out)
	}
	if out := w.get(ann, "usergroups.list", "include_users", "true"); len(out.at("usergroups", 0, "users").([]any)) != 2 {
		t.Errorf("usergroups with users %v", out)
	}
	if got := w.get(ann, "usergroups.users.list", "usergroup", "S0TEAM").ids("users", ""); !slices.Equal(got, []string{"U0ANN", "U0BEN"}) {
		t.Errorf("users of a usergroup %v", got)
	}
	w.fails(ann, chat.CodeNoSuchSubteam, "usergroups.users.list", "usergroup", "S0NONE")
	w.fails(gus, chat.CodeNoSuchSubteam, "usergroups.users.list", "usergroup", "S0TEAM")
	w.post(ada, general, "<!subteam^S0TEAM>")
	if f := w.lastEvent(protocol.Topic(general), "message").Effects[0]; !slices.Equal(f.Mentions, []protocol.UserID{ann, ben}) {
		t.Errorf("a usergroup's mention: %+v", f)
	}
}

// Doing something keeps one from being taken for away; asking does not.
func TestPresence_WhatCountsAsActivity(t *testing.T) {
	w := newWorld(t, Limits{})
	w.get(ann, "users.info", "user", "U0ANN")
	w.get(ann, "conversations.history", "channel", string(general))
	w.get(ann, "client.counts")
	if len(w.touched) != 0 {
		t.Errorf("reading touched %v", w.touched)
	}
	ts := w.post(ben, general, "x")
	w.get(ann, "conversations.mark", "channel", string(general), "ts", ts)
	w.get(gus, "users.setActive")
	w.fails("", protocol.CodeNotAuthed, "users.setActive")
	if !slices.Equal(w.touched, []protocol.UserID{ben, ann, gus}) {
		t.Errorf("touched %v", w.touched)
	}
}
