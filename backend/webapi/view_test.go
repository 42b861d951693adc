package webapi

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"flannel/backend/chat"
	"flannel/backend/store"
	"flannel/protocol"
)

func TestConversations_GenericInfo(t *testing.T) {
	w := newWorld(t, Limits{})
	dm := w.get(ann, "conversations.open", "users", "U0BEN").str("channel", "id")
	const now = "1600000000000" // the version of the world's channels
	for name, c := range map[string]struct {
		user                       protocol.UserID
		known                      string
		channels, unchanged, fails []string
	}{
		"nothing":            {ann, `{}`, nil, nil, nil},
		"changed":            {ann, `{"C0RANDOM":0,"C0GENERAL":1}`, []string{"C0GENERAL", "C0RANDOM"}, nil, nil},
		"unchanged":          {ann, `{"C0GENERAL":` + now + `,"C0ZOLD":` + now + `}`, nil, []string{"C0GENERAL", "C0ZOLD"}, nil},
		"newer than ours":    {ann, `{"C0GENERAL":` + now + `1}`, []string{"C0GENERAL"}, nil, nil}, // after a restored backup
		"not a member":       {ben, `{"C0RANDOM":0}`, []string{"C0RANDOM"}, nil, nil},
		"private, outside":   {ann, `{"C0SECRET":0}`, nil, nil, []string{"C0SECRET"}},
		"private, guessed":   {ann, `{"C0SECRET":` + now + `}`, nil, nil, []string{"C0SECRET"}}, // no oracle for versions
		"private, inside":    {ben, `{"C0SECRET":0}`, []string{"C0SECRET"}, nil, nil},
		"a direct message":   {ben, `{"` + dm + `":0}`, []string{dm}, nil, nil},
		"somebody else's":    {ada, `{"` + dm + `":0}`, nil, nil, []string{dm}},
		"a guest's":          {gus, `{"C0GENERAL":0,"C0PROJECT":0}`, []string{"C0PROJECT"}, nil, []string{"C0GENERAL"}},
		"a stranger's":       {zoe, `{"C0GENERAL":0,"C0SHARED":0}`, []string{"C0SHARED"}, nil, []string{"C0GENERAL"}},
		"a bot's":            {bot, `{"C0GENERAL":0,"C0SECRET":0}`, []string{"C0GENERAL"}, nil, []string{"C0SECRET"}},
		"unknown":            {ann, `{"C0NONE":0,"U0ANN":1,"nonsense":2,"":3}`, nil, nil, []string{"", "C0NONE", "U0ANN", "nonsense"}},
		"other kind's emoji": {ann, `{"T0OURS/emoji/parrot":0}`, nil, nil, []string{"T0OURS/emoji/parrot"}},
	} {
		out := w.get(c.user, "conversations.genericInfo", "updated_channels", c.known)
		if got := out.ids("channels", "id"); !slices.Equal(got, c.channels) {
			t.Errorf("%s: channels %v, want %v", name, got, c.channels)
		}
		if got := out.ids("unchanged_channel_ids", ""); !slices.Equal(got, c.unchanged) || out["unchanged_channel_ids"] == nil {
			t.Errorf("%s: unchanged %v, want %v", name, got, c.unchanged)
		}
		if got := out.ids("failed_ids", ""); !slices.Equal(got, c.fails) {
			t.Errorf("%s: failed %v, want %v", name, got, c.fails)
		}
	}

	// The same channel as conversations.info tells it.
	for _, user := range []protocol.UserID{ben, ann} {
		one := w.get(user, "conversations.info", "channel", dm)
		same := w.get(user, "conversations.genericInfo", "updated_channels", `{"`+dm+`":1}`)
		if got, want := fmt.Sprint(same.at("channels", 0)), fmt.Sprint(one["channel"]); got != want {
			t.Errorf("%s: %s, conversations.info says %s", user, got, want)
		}
	}

	many := make(map[string]int)
	for i := range protocol.MaxObjectIDs + 1 {
		many[fmt.Sprintf("C0MANY%d", i)] = i
	}
	for _, bad := range []string{"", "null", "x", "[]", `["C0GENERAL"]`, `{"C0GENERAL":"x"}`, `{"C0GENERAL":1.5}`, `{"C0GENERAL":null,"C":{}}`, string(protocol.MustMarshal(many))} {
		w.fails(ann, protocol.CodeInvalidArgs, "conversations.genericInfo", "updated_channels", bad)
	}
	w.fails(ann, protocol.CodeInvalidArgs, "conversations.genericInfo")
	// As clients send it in a JSON body.
	body := []byte(`{"updated_channels":{"C0GENERAL":1}}`)
	out := decodeReply(t, w.api.Do(context.Background(), &protocol.Call{Method: "conversations.genericInfo", Token: w.token(ann), ContentType: "application/json", Body: body}))
	if got := out.ids("channels", "id"); !slices.Equal(got, []string{"C0GENERAL"}) {
		t.Errorf("from a JSON body: %v", out)
	}
}

func TestConversations_View(t *testing.T) {
	w := newWorld(t, Limits{})
	w.get(ada, "admin.emoji.add", "name", "party", "url", "https://example.org/party.gif")
	first := w.post(ann, general, "first")
	w.post(ben, general, "hi <@U0ANN|ann> and <@U0GUS>, <@U0NOBODY> <@U0YAN> at 10:30:45 :party: :no_such: :PARTY:")
	last := w.post(bot, general, "done")
	w.get(ann, "reactions.add", "channel", string(general), "timestamp", first, "name", "parrot")

	out := w.get(ada, "conversations.view", "channel", string(general), "no_members", "1", "no_self", "1", "no_user_profile", "1", "canonical_avatars", "1")

	if got, want := fmt.Sprint(out["channel"]), fmt.Sprint(w.get(ada, "conversations.info", "channel", string(general))["channel"]); got != want {
		t.Errorf("channel %s, conversations.info says %s", got, want)
	}
	if got := out.ids("users", "id"); !slices.Equal(got, []string{"U0BOT", "U0BEN", "U0ANN", "U0GUS"}) { // not the stranger, not nobody
		t.Errorf("users %v", got)
	}
	if got := fmt.Sprint(out["emojis"]); got != "map[parrot:https://example.org/parrot.gif party:https://example.org/party.gif]" {
		t.Errorf("emojis %s", got)
	}
	history := w.get(ada, "conversations.history", "channel", string(general))
	delete(history, "ok")
	if got, want := fmt.Sprint(out["history"]), fmt.Sprint(map[string]any(history)); got != want {
		t.Errorf("history\n%s\nconversations.history says\n%s", got, want)
	}

	// Pages, and what they name.
	out = w.get(ann, "conversations.view", "channel", string(general), "count", "1")
	if out.str("history", "messages", 0, "ts") != last || out.at("history", "has_more") != true || !slices.Equal(out.ids("users", "id"), []string{"U0BOT"}) {
		t.Errorf("a page of one: %v", out)
	}
	out = w.get(ann, "conversations.view", "channel", string(general), "count", "5", "cursor", out.str("history", "response_metadata", "next_cursor"))
	if out.str("history", "messages", 1, "ts") != first || out.at("history", "has_more") != false {
		t.Errorf("the page after it: %v", out)
	}
	out = w.get(ann, "conversations.view", "channel", string(general), "oldest", first, "latest", last)
	if got := out.at("history", "messages").([]any); len(got) != 1 {
		t.Errorf("between two: %v", got)
	}
	for i := range viewCount {
		w.post(ann, random, fmt.Sprint(i))
	}
	out = w.get(ann, "conversations.view", "channel", string(random), "count", "0")
	if got := len(out.at("history", "messages").([]any)); got != viewCount {
		t.Errorf("%d messages by default", got)
	}
}

func TestConversations_ViewOfEachType(t *testing.T) {
	w := newWorld(t, Limits{})
	dm := w.get(ann, "conversations.open", "users", "U0BEN").str("channel", "id")
	mpim := w.get(ann, "conversations.open", "users", "U0BEN,U0ADA").str("channel", "id")
	for channel, what := range map[string]string{dm: "im", mpim: "group", string(secret): "group", string(general): "channel"} {
		out := w.get(ben, "conversations.view", "channel", channel)
		if out.str(what, "id") != channel || out["history"] == nil || out["users"] == nil || out["emojis"] == nil {
			t.Errorf("%s: %v", what, out)
		}
		for _, other := range []string{"im", "group", "channel"} {
			if _, there := out[other]; there != (other == what) {
				t.Errorf("view of a %s has %s", what, other)
			}
		}
	}
	// The other one of a direct message is needed to show it, whoever has written.
	if got := w.get(ben, "conversations.view", "channel", dm).ids("users", "id"); !slices.Equal(got, []string{"U0ANN"}) {
		t.Errorf("users of an empty direct message: %v", got)
	}
}

func TestConversations_ViewShowsNothingHidden(t *testing.T) {
	w := newWorld(t, Limits{})
	w.post(ann, project, "for <@U0BEN> and <@U0ANN>: :parrot:")
	out := w.get(gus, "conversations.view", "channel", string(project))
	if got := out.ids("users", "id"); !slices.Equal(got, []string{"U0ANN"}) {
		t.Errorf("a guest is shown %v", got)
	}
	if got := fmt.Sprint(out["emojis"]); got != "map[]" { // as emoji.list tells guests
		t.Errorf("a guest is shown emoji %s", got)
	}
	w.post(ann, shared, "by ann")
	if out := w.get(zoe, "conversations.view", "channel", string(shared)); out.at("users", 0, "is_stranger") != true {
		t.Errorf("a stranger is not marked: %v", out["users"])
	}

	w.fails(ann, protocol.CodeChannelNotFound, "conversations.view")
	for _, channel := range []string{"", "C0NONE", "U0ANN", string(secret)} {
		w.fails(ann, protocol.CodeChannelNotFound, "conversations.view", "channel", channel)
	}
	w.fails(gus, protocol.CodeChannelNotFound, "conversations.view", "channel", string(general))
	w.fails(zoe, protocol.CodeChannelNotFound, "conversations.view", "channel", string(general))
	w.fails(bot, protocol.CodeNotInChannel, "conversations.view", "channel", string(random))
	for _, count := range []string{"-1", "x", "1.5", "99999999999999999999"} {
		w.fails(ann, protocol.CodeInvalidLimit, "conversations.view", "channel", string(general), "count", count)
	}
	w.fails(ann, protocol.CodeInvalidCursor, "conversations.view", "channel", string(general), "cursor", "!")
	w.fails(ann, chat.CodeInvalidTSOldest, "conversations.view", "channel", string(general), "oldest", "x")
}

func TestClient_DMs(t *testing.T) {
	w := newWorld(t, Limits{})
	open := func(users string) string {
		return w.get(ann, "conversations.open", "users", users).str("channel", "id")
	}
	withBen, withBot, withAda, group, never := open("U0BEN"), open("U0BOT"), open("U0ADA"), open("U0BEN,U0ADA"), open("U0ZOE")
	for _, channel := range []string{withAda, withBen, group, withBot} {
		w.post(ann, protocol.ChannelID(channel), "hi")
	}
	ts := w.post(ben, protocol.ChannelID(withBen), "hello")
	w.get(ann, "conversations.close", "channel", withAda)

	// list reads all pages; each has at most count entries, those of ims and mpims together.
	list := func(user protocol.UserID, count int, args ...string) (ims, mpims []string) {
		t.Helper()
		cursor := ""
		for range 20 {
			out := w.get(user, "client.dms", append([]string{"count", fmt.Sprint(count), "cursor", cursor}, args...)...)
			a, b := out.ids("ims", "id"), out.ids("mpims", "id")
			if len(a)+len(b) > count || out["ims"] == nil || out["mpims"] == nil {
				t.Fatalf("a page of %d is %v", count, out)
			}
			ims, mpims = append(ims, a...), append(mpims, b...)
			if cursor = out.str("response_metadata", "next_cursor"); cursor == "" {
				return ims, mpims
			}
		}
		t.Fatal("the pages do not end")
		return nil, nil
	}
	for name, c := range map[string]struct {
		user       protocol.UserID
		args       []string
		ims, mpims []string
	}{
		"open":        {ann, nil, []string{withBen, withBot, never}, []string{group}},
		"closed too":  {ann, []string{"include_closed", "1"}, []string{withBen, withBot, withAda, never}, []string{group}},
		"people":      {ann, []string{"exclude_bots", "true"}, []string{withBen, never}, []string{group}},
		"people, all": {ann, []string{"exclude_bots", "1", "include_closed", "1"}, []string{withBen, withAda, never}, []string{group}},
		"of a guest":  {gus, nil, nil, nil},
		"of another":  {zoe, []string{"include_closed", "1"}, []string{never}, nil},
	} {
		for _, count := range []int{1, 2, 3, 100} {
			if ims, mpims := list(c.user, count, c.args...); !slices.Equal(ims, c.ims) || !slices.Equal(mpims, c.mpims) {
				t.Errorf("%s by %d: %v, %v; want %v, %v", name, count, ims, mpims, c.ims, c.mpims)
			}
		}
	}

	out := w.get(ann, "client.dms", "include_channel", "1")
	im, info := out.at("ims", 0).(map[string]any), w.get(ann, "conversations.info", "channel", withBen)
	if im["user"] != "U0BEN" || im["latest"] != ts || im["has_unreads"] != true || im["mention_count"] != 1.0 || im["is_open"] != true || im["last_read"] == ts ||
		fmt.Sprint(im["channel"]) != fmt.Sprint(info["channel"]) {
		t.Errorf("im %v", im)
	}
	if mpim := out.at("mpims", 0).(map[string]any); mpim["user"] != nil || mpim["has_unreads"] != false || mpim["channel"] == nil {
		t.Errorf("mpim %v", mpim)
	}
	if im := w.get(ann, "client.dms").at("ims", 2).(map[string]any); im["channel"] != nil || im["latest"] != string(protocol.ZeroTS) {
		t.Errorf("without messages, without channel: %v", im)
	}

	for _, count := range []string{"-1", "x"} {
		w.fails(ann, protocol.CodeInvalidLimit, "client.dms", "count", count)
	}
	for _, at := range []string{"x", "1700000000.000100", "1700000000.000100:", ":D1", "1700000000.000100:x", "x:D1"} {
		w.fails(ann, protocol.CodeInvalidCursor, "client.dms", "cursor", protocol.EncodeCursor("dm", at))
	}
	w.fails(ann, protocol.CodeInvalidCursor, "client.dms", "cursor", "!")
	w.fails(ann, protocol.CodeInvalidCursor, "client.dms", "cursor", protocol.EncodeCursor("user", "U0ANN"))
}

// A full page is bounded whatever the caller asks for.
func TestClient_DMsOfSomebodyWhoKnowsEverybody(t *testing.T) {
	w := newWorld(t, Limits{})
	_, err := w.store.Update(context.Background(), func(tx store.Tx) error {
		for i := range maxPage + 5 {
			c := &protocol.Channel{ID: protocol.ChannelID(fmt.Sprintf("D0%05d", i)), ContextTeamID: ours, Updated: 1, IsIM: true, IsPrivate: true}
			if err := tx.Put(c); err != nil {
				return err
			}
			m := protocol.Membership{Channel: c.ID, Owner: ours, Type: protocol.TypeDM, Peer: ben, Open: true}
			if err := tx.AddMember(ada, m); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for count, want := range map[string]int{"": dmsCount, "0": dmsCount, "5000": maxPage} {
		out := w.get(ada, "client.dms", "count", count, "exclude_bots", "1")
		if got := out.ids("ims", "id"); len(got) != want || out.str("response_metadata", "next_cursor") == "" || !slices.IsSorted(got) {
			t.Errorf("count %q: %d", count, len(got))
		}
	}
}

func TestEachEmoji(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "",
		":":                     "",
		"::":                    "",
		":a:":                   "a",
		"x:a::b:y :c d: 10:30:": "a b 30",
		":+1: :e-mail: :it's: :wave::skin-tone-2:": "+1 e-mail it's wave skin-tone-2",
		":ÄB: :é: :a":                        "",
		":" + strings.Repeat("a", 100) + ":": strings.Repeat("a", 100),
		":" + strings.Repeat("a", 101) + ":": "",
	} {
		var got []string
		eachEmoji(text, func(name string) { got = append(got, name) })
		if strings.Join(got, " ") != want {
			t.Errorf("%.30q: %q, want %q", text, got, want)
		}
	}
}

// Answers are the dialect's JSON: no field twice.
func TestConversations_ViewHasEachFieldOnce(t *testing.T) {
	w := newWorld(t, Limits{})
	w.post(ann, general, "x")
	raw := w.call(ann, "conversations.view", "channel", string(general)).Body
	seen := make(map[string]bool)
	protocol.EachField(raw, func(name, value []byte) bool {
		if seen[string(name)] || !json.Valid(value) {
			t.Errorf("field %s: %s", name, value)
		}
		seen[string(name)] = true
		return true
	})
}
