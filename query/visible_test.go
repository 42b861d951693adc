package query

import (
	"fmt"
	"testing"

	"flannel/protocol"
)

// TestVisibility is the table of section 7: who sees what, through every read that could show it.
func TestVisibility(t *testing.T) {
	w := newWorld(t)
	users := []protocol.UserID{ada, bob, gus, robo, dee, eve, sam, zoe}
	channels := []protocol.ChannelID{general, random, secret, old, shared, den, dm, group}
	for viewer, want := range map[protocol.UserID]struct{ users, channels, emoji, bot, teams string }{
		ada:  {"U1 U2 U3 U4 U5 U6 U8", "C1 C2 C3 C4 C5 D1 G1", "parrot", "B1", "T1"},
		robo: {"U1 U2 U3 U4 U5 U6", "C1 C2 C4 C5", "parrot", "B1", "T1"},
		gus:  {"U2 U3", "C6", "", "", "T1"},
		sam:  {"U1 U8 U9", "C5", "", "", "T1 T2"},
		zoe:  {"U8 U9", "C5", "", "", "T2"}, // C5 is public in t2 too
	} {
		t.Run(string(viewer), func(t *testing.T) {
			ids := func(list any) string { return fmt.Sprintf(`{"updated_ids":{%s}}`, list) }
			ask, asks := "", ""
			for i, u := range users {
				ask += fmt.Sprintf(`%s"%s":0`, comma(i), u)
			}
			for i, c := range channels {
				asks += fmt.Sprintf(`%s"%s":0`, comma(i), c)
			}
			if got := w.ask(t, viewer, "users/info", ids(ask)).sorted(t, "results"); got != want.users {
				t.Errorf("users/info: %s, want %s", got, want.users)
			}
			if got := w.ask(t, viewer, "channels/info", ids(asks)).sorted(t, "results"); got != want.channels {
				t.Errorf("channels/info: %s, want %s", got, want.channels)
			}
			if got := w.ask(t, viewer, "emojis/info", `{"updated_ids":{"parrot":0}}`).ids(t, "results"); viewer != sam && viewer != zoe && got != want.emoji {
				t.Errorf("emojis/info: %s, want %s", got, want.emoji)
			}
			for _, u := range users {
				one := w.call(t, viewer, "users.info", "user", string(u))
				if seen := contains(want.users, u); (one.code == "") != seen || (!seen && one.code != protocol.CodeUserNotFound) {
					t.Errorf("users.info of %s: %q, want visible %v", u, one.code, seen)
				}
			}
			for _, c := range channels {
				one := w.call(t, viewer, "conversations.info", "channel", string(c))
				members := w.call(t, viewer, "conversations.members", "channel", string(c))
				if seen := contains(want.channels, c); (one.code == "") != seen || (members.code == "") != seen || (!seen && one.code != protocol.CodeChannelNotFound) {
					t.Errorf("conversations.info of %s: %q, members %q, want visible %v", c, one.code, members.code, seen)
				}
			}
			if got := w.call(t, viewer, "bots.info", "bot", string(botID)); (got.code == "") != (want.bot != "") {
				t.Errorf("bots.info: %q", got.code)
			}
			for _, team := range []protocol.WorkspaceID{t1, t2} {
				if got := w.call(t, viewer, "team.info", "team", string(team)); (got.code == "") != contains(want.teams, team) {
					t.Errorf("team.info of %s: %q", team, got.code)
				}
			}
		})
	}
}

func comma(i int) string {
	if i == 0 {
		return ""
	}
	return ","
}

// contains reports whether the list of shortened ids has id.
func contains[S ~string](list string, id S) bool {
	short := string(id[:1]) + string(id[len(id)-1:])
	for i := 0; i+1 < len(list); i += 3 {
		if list[i:i+2] == short {
			return true
		}
	}
	return false
}

func TestVisible(t *testing.T) {
	w := newWorld(t)
	ask := []protocol.UserID{zoe, ada, "x", gus, bob, "U0000777", protocol.UserID(general)}
	for viewer, want := range map[protocol.UserID]string{ada: "[U0000001 U0000003 U0000002]", gus: "[U0000003 U0000002]", zoe: "[U0000009]"} {
		if got, err := w.service.Visible(t.Context(), w.id(viewer), ask); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v, want %s", viewer, got, err, want)
		}
	}
	w.set(func() { w.down = true })
	if _, err := w.service.Visible(t.Context(), w.id(ada), []protocol.UserID{eve}); protocol.AsError(err).Code != protocol.CodeUnavailable {
		t.Errorf("backend down: %v", err)
	}
	if _, err := w.service.Visible(t.Context(), w.id(eve), nil); protocol.AsError(err).Code != protocol.CodeUnavailable {
		t.Errorf("not loaded: %v", err)
	}
}

// TestVisibility_Removed: after the removal event a private channel and the people in it are gone for a guest.
func TestVisibility_Removed(t *testing.T) {
	w := newWorld(t)
	if got := w.ask(t, gus, "users/info", `{"updated_ids":{"U0000002":0}}`).ids(t, "results"); got != "U2" {
		t.Fatalf("before: %q", got)
	}

	w.leave(den, gus)

	if got := w.ask(t, gus, "users/info", `{"updated_ids":{"U0000002":0,"U0000003":0}}`).ids(t, "results"); got != "U3" {
		t.Errorf("users after: %q", got)
	}
	if got := w.ask(t, gus, "channels/info", `{"updated_ids":{"C0000006":0}}`).ids(t, "failed_ids"); got != "C6" {
		t.Errorf("channel after: %q", got)
	}
	if got := w.call(t, gus, "users.conversations", "types", "private_channel").ids(t, "channels"); got != "" {
		t.Errorf("conversations after: %q", got)
	}
}

// TestVisibility_Joined: what is shared with a new member is seen at once, sets that are kept included.
func TestVisibility_Joined(t *testing.T) {
	w := newWorld(t)
	w.ask(t, gus, "users/info", `{"updated_ids":{"U0000001":0}}`)

	w.join(den, ada)

	if got := w.ask(t, gus, "users/info", `{"updated_ids":{"U0000001":0}}`).ids(t, "results"); got != "U1" {
		t.Errorf("got %q", got)
	}
}

func TestAllow(t *testing.T) {
	w := newWorld(t)
	w.ask(t, gus, "users/info", `{}`)
	w.ask(t, sam, "users/info", `{}`)
	upsert := func(s protocol.Shape) protocol.Effect {
		o := s.Object()
		return protocol.Effect{Op: protocol.OpUpsert, Object: &o}
	}
	bury := func(id protocol.ObjectID) protocol.Effect {
		return protocol.Effect{Op: protocol.OpTombstone, ID: id, Version: 999}
	}
	for name, c := range map[string]struct {
		effect   protocol.Effect
		gus, sam bool
	}{
		"themself":          {upsert(&protocol.User{ID: gus, TeamID: t1}), true, false},
		"shares a channel":  {upsert(&protocol.User{ID: bob, TeamID: t1}), true, false},
		"shares another":    {upsert(&protocol.User{ID: ada, TeamID: t1}), false, true},
		"shares nothing":    {upsert(&protocol.User{ID: eve, TeamID: t1}), false, false},
		"own channel":       {upsert(&protocol.Channel{ID: den, ContextTeamID: t1, IsPrivate: true}), true, false},
		"public channel":    {upsert(&protocol.Channel{ID: general, ContextTeamID: t1, IsChannel: true}), false, false},
		"emoji":             {upsert(&protocol.Emoji{Workspace: t1, Name: "x"}), false, false},
		"workspace":         {upsert(&protocol.Workspace{ID: t1}), true, true},
		"bot apart":         {upsert(&protocol.Bot{ID: "B0000001", TeamID: t1, UserID: robo}), false, false},
		"bot without user":  {upsert(&protocol.Bot{ID: "B0000002", TeamID: t1}), false, false},
		"gone user":         {bury(protocol.ObjectID(bob)), true, false},
		"gone channel":      {bury(protocol.ObjectID(den)), true, false},
		"gone emoji":        {bury(protocol.EmojiID(t1, "parrot")), false, false},
		"nothing to upsert": {protocol.Effect{Op: protocol.OpUpsert}, false, false},
		"other effect":      {protocol.Effect{Op: protocol.OpPref}, false, false},
	} {
		ev := &protocol.Event{Topic: protocol.Topic(t1), Effects: []protocol.Effect{c.effect}}
		if got := w.service.Allow(gus, ev); got != c.gus {
			t.Errorf("%s: guest %v", name, got)
		}
		if got := w.service.Allow(sam, ev); got != c.sam && name != "shares another" { // sam's sets are not loaded yet
			t.Errorf("%s: stranger %v", name, got)
		}
	}
	if w.service.Allow(gus, &protocol.Event{Topic: protocol.Topic(t1)}) {
		t.Error("an event without effects")
	}
	if w.service.Allow("U0000777", &protocol.Event{Topic: protocol.Topic(t1), Effects: []protocol.Effect{upsert(&protocol.Workspace{ID: t1})}}) {
		t.Error("somebody who is not loaded")
	}
	w.breakStream()
	if w.service.Allow(gus, &protocol.Event{Topic: protocol.Topic(t1), Effects: []protocol.Effect{upsert(&protocol.User{ID: gus, TeamID: t1})}}) {
		t.Error("stale permission")
	}
}
