package webapi

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"flannel/protocol"
)

func TestRTMStart(t *testing.T) {
	w := newWorld(t, Limits{})
	w.get(ben, "conversations.open", "users", "U0ANN")
	w.post(ben, general, "hi <@U0ANN>")

	out := decodeReply(t, w.call(ann, "rtm.start"))

	if out["ok"] != true || out.str("url") == "" || out.str("self", "id") != "U0ANN" || out.at("self", "prefs") == nil || out.str("team", "id") != string(ours) {
		t.Errorf("%v", out)
	}
	if got := out.ids("users", "id"); !slices.Equal(got, []string{"U0ADA", "U0ANN", "U0BEN", "U0BOT", "U0GONE", "U0GUS"}) {
		t.Errorf("users %v", got)
	}
	if got := out.ids("channels", "id"); !slices.Equal(got, []string{"C0GENERAL", "C0PROJECT", "C0RANDOM", "C0SHARED", "C0ZOLD"}) {
		t.Errorf("channels %v", got)
	}
	if got := fmt.Sprint(out.at("channels", 0, "members")); got != "[U0ADA U0ANN U0BEN U0BOT]" {
		t.Errorf("members %v", got)
	}
	if out.at("channels", 0, "is_member") != true || out.at("channels", 0, "mention_count") != 1.0 || out.at("channels", 0, "has_unreads") != true || out.str("channels", 0, "latest") == "" {
		t.Errorf("general %v", out.at("channels", 0))
	}
	if out.str("ims", 0, "user") != "U0BEN" || len(out.ids("groups", "id")) != 0 || out.str("bots", 0, "id") != "B0BOT" || out.str("subteams", "all", 0, "id") != "S0TEAM" {
		t.Errorf("the rest %v %v %v %v", out["ims"], out["groups"], out["bots"], out["subteams"])
	}
	if got := decodeReply(t, w.call(ben, "rtm.start")).ids("groups", "id"); !slices.Equal(got, []string{"C0SECRET"}) {
		t.Errorf("ben's private channels %v", got)
	}
	guest := decodeReply(t, w.call(gus, "rtm.start"))
	if !slices.Equal(guest.ids("users", "id"), []string{"U0ANN", "U0GUS"}) || !slices.Equal(guest.ids("channels", "id"), []string{"C0PROJECT"}) || len(guest.ids("bots", "id")) != 0 {
		t.Errorf("a guest's: %v", guest)
	}
	if got := fmt.Sprint(guest.at("channels", 0, "members")); got != "[U0ANN U0GUS]" {
		t.Errorf("a guest's members %v", got)
	}
	if got := decodeReply(t, w.call(zoe, "rtm.start")).ids("channels", "id"); !slices.Equal(got, []string{"C0SHARED"}) {
		t.Errorf("zoe's channels %v", got)
	}
	w.fails("", protocol.CodeNotAuthed, "rtm.start")
}

func TestRTMStart_URLComesFirst(t *testing.T) {
	w := newWorld(t, Limits{})
	r := w.call(ann, "rtm.start")
	head := make([]byte, 64)
	if _, err := io.ReadFull(r.Stream, head); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(head), `{"ok":true,"url":"ws://`) {
		t.Errorf("%s", head)
	}
	// A client that goes away in the middle ends the writer: Close waits for it.
	if err := r.Stream.Close(); err != nil {
		t.Error(err)
	}
	w.post(ann, general, "the store is free")
}

func TestRTMStart_CutsMembers(t *testing.T) {
	w := newWorld(t, Limits{})
	w.addUsers(1600)
	out := decodeReply(t, w.call(ann, "rtm.start"))
	if n := len(out.at("channels", 0, "members").([]any)); n != 1500 || out.at("channels", 0, "num_members") != 1604.0 || out.str("warning") != "member_list_truncated" {
		t.Errorf("%d members, %v, %v", n, out.at("channels", 0, "num_members"), out["warning"])
	}
}
