package webapi

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"flannel/backend/chat"
	"flannel/protocol"
)

func TestPostMessage(t *testing.T) {
	w := newWorld(t, Limits{})
	n := w.seen()
	out := w.get(ann, "chat.postMessage", "channel", string(general), "text", "a < b & <@U0BEN>")
	ts := out.str("ts")

	if !protocol.TS(ts).Valid() || out.str("channel") != string(general) || out.str("message", "text") != "a < b & <@U0BEN>" ||
		out.str("message", "user") != string(ann) || out.str("message", "type") != "message" || out.str("message", "team") != string(ours) || out["is_duplicate"] != nil {
		t.Errorf("posted %v", out)
	}
	w.wantEvents(n, string(general)+" message +message_added")
	e := w.lastEvent(protocol.Topic(general), "message")
	var p map[string]any
	if err := json.Unmarshal(e.Payload, &p); err != nil {
		t.Fatal(err)
	}
	if p["channel"] != string(general) || p["ts"] != ts || p["event_ts"] != ts || p["channel_type"] != "channel" || strings.Contains(string(e.Payload), `\u003c`) {
		t.Errorf("payload %s", e.Payload)
	}
	if f := e.Effects[0]; f.Op != protocol.OpMessageAdded || f.User != ann || string(f.TS) != ts || string(f.Latest) != ts || !slices.Equal(f.Mentions, []protocol.UserID{ben}) || f.Everyone {
		t.Errorf("effect %+v", f)
	}
	if !slices.Contains(e.Refs, protocol.ObjectID(ben)) || !slices.Contains(e.Refs, protocol.ObjectID(ann)) || e.Class != protocol.ClassMessage {
		t.Errorf("event %+v", e)
	}

	out = w.get(ann, "chat.postMessage", "channel", "#general", "text", "by name")
	if out.str("channel") != string(general) || out.str("ts") <= ts {
		t.Errorf("by name %v", out)
	}
	out = w.get(bot, "chat.postMessage", "channel", string(general), "blocks", `[{"type":"section", "text":{"type":"plain_text","text":"x"}}]`, "username", "Robo")
	if out.str("message", "bot_id") != "B0BOT" || out.str("message", "username") != "Robo" || out.str("message", "blocks", 0, "type") != "section" {
		t.Errorf("bot's %v", out)
	}
}

func TestPostMessage_Refused(t *testing.T) {
	w := newWorld(t, Limits{})
	for _, c := range []struct {
		user    protocol.UserID
		channel string
		code    protocol.Code
		args    []string
	}{
		{ann, string(general), chat.CodeNoText, nil},
		{ann, string(general), chat.CodeMsgTooLong, []string{"text", strings.Repeat("x", 40001)}},
		{ann, string(general), chat.CodeInvalidBlocks, []string{"text", "x", "blocks", "{}"}},
		{ann, string(general), chat.CodeTooManyAttachments, []string{"attachments", "[" + strings.Repeat("{},", 100) + "{}]"}},
		{ann, string(general), chat.CodeThreadNotFound, []string{"text", "x", "thread_ts", "1.000000"}},
		{ann, string(general), chat.CodeThreadNotFound, []string{"text", "x", "thread_ts", "../../x"}},
		{ann, string(secret), protocol.CodeChannelNotFound, []string{"text", "x"}},
		{ann, "#secret", protocol.CodeChannelNotFound, []string{"text", "x"}},
		{ann, "", protocol.CodeChannelNotFound, []string{"text", "x"}},
		{ann, "nowhere", protocol.CodeChannelNotFound, []string{"text", "x"}},
		{ann, strings.Repeat("C", 5000), protocol.CodeChannelNotFound, []string{"text", "x"}},
		{ann, "U0NOBODY", protocol.CodeChannelNotFound, []string{"text", "x"}},
		{ann, string(old), chat.CodeIsArchived, []string{"text", "x"}},
		{ben, string(random), protocol.CodeNotInChannel, []string{"text", "x"}},
		{gus, string(general), protocol.CodeChannelNotFound, []string{"text", "x"}},
		{ann, string(general), protocol.CodeInvalidArgs, []string{"text", "x", "client_msg_id", strings.Repeat("x", 200)}},
	} {
		w.fails(c.user, c.code, "chat.postMessage", append([]string{"channel", c.channel}, c.args...)...)
	}
	w.get(ann, "chat.postMessage", "channel", string(general), "text", strings.Repeat("ö", 40000))
}

func TestPostMessage_IsIdempotent(t *testing.T) {
	w := newWorld(t, Limits{})
	args := []string{"channel", string(general), "text", "once", "client_msg_id", "6f1ed002-ab5f-4c54-8b6f-5d2c1c1a0001"}
	first := w.get(ann, "chat.postMessage", args...)
	n := w.seen()

	again := w.get(ann, "chat.postMessage", args...)

	if again.str("ts") != first.str("ts") || again.str("channel") != string(general) || again["is_duplicate"] != true ||
		fmt.Sprint(again["message"]) != fmt.Sprint(first["message"]) || first.str("message", "client_msg_id") != args[5] {
		t.Errorf("first %v\nagain %v", first, again)
	}
	w.wantEvents(n)
	if other := w.get(ben, "chat.postMessage", args...); other.str("ts") == first.str("ts") {
		t.Error("another user's message with the same id was swallowed")
	}

	call := &protocol.Call{
		Method: "chat.postMessage", Token: w.token(ann), ContentType: "application/json", IdempotencyKey: "key-1",
		Body: []byte(`{"channel":"C0GENERAL","text":"forwarded"}`),
	}
	a := decodeReply(t, w.api.Do(context.Background(), call))
	w.api.once = newOnceMap(w.now, w.api.metrics.repeated.Inc) // the backend was restarted
	b := decodeReply(t, w.api.Do(context.Background(), call))
	if a.str("ts") == "" || b.str("ts") != a.str("ts") || b["is_duplicate"] != true {
		t.Errorf("forwarded %v, again %v", a, b)
	}
	if h := w.get(ann, "conversations.history", "channel", string(general)); len(h["messages"].([]any)) != 3 {
		t.Errorf("history %v", h)
	}
}

func TestPostMessage_ToUserOpensDM(t *testing.T) {
	w := newWorld(t, Limits{})
	n := w.seen()
	out := w.get(ann, "chat.postMessage", "channel", string(ben), "text", "psst")
	dm := out.str("channel")
	if !strings.HasPrefix(dm, "D") {
		t.Fatalf("posted %v", out)
	}
	w.wantEvents(n, "U0ANN im_created +member_added", "U0ANN im_open +open", "U0BEN im_created +member_added",
		dm+" member_joined_channel +upsert +member_added +member_added", "U0BEN im_open +open", dm+" message +message_added")
	if e := w.lastEvent(protocol.Topic(dm), "message"); !e.Effects[0].Everyone || !strings.Contains(string(e.Payload), `"channel_type":"im"`) {
		t.Errorf("%+v", e)
	}
	counts := w.get(ben, "client.counts")
	if counts.str("ims", 0, "id") != dm || counts.at("ims", 0, "mention_count") != 1.0 {
		t.Errorf("counts %v", counts)
	}
	if again := w.get(ben, "chat.postMessage", "channel", string(ann), "text", "yes?"); again.str("channel") != dm {
		t.Errorf("the other way: %v", again)
	}
	w.fails(ada, protocol.CodeChannelNotFound, "conversations.history", "channel", dm)
}

func TestUpdateAndDelete(t *testing.T) {
	w := newWorld(t, Limits{})
	first := w.post(ann, general, "frist")
	n := w.seen()
	out := w.get(ann, "chat.update", "channel", string(general), "ts", first, "text", "first")
	if out.str("ts") != first || out.str("text") != "first" || out.str("message", "edited", "user") != string(ann) || out.str("channel") != string(general) {
		t.Errorf("updated %v", out)
	}
	w.wantEvents(n, string(general)+" message message_changed")
	e := w.lastEvent(protocol.Topic(general), "message")
	var p result
	if err := json.Unmarshal(e.Payload, &p); err != nil {
		t.Fatal(err)
	}
	if p["hidden"] != true || p.str("message", "ts") != first || p.str("message", "text") != "first" || p.str("previous_message", "text") != "frist" || p.str("ts") <= first {
		t.Errorf("payload %v", p)
	}
	w.get(ann, "chat.update", "channel", string(general), "ts", first, "blocks", `[{"type":"divider"}]`)
	out = w.get(ann, "chat.update", "channel", string(general), "ts", first, "text", "kept", "blocks", "[]")
	if out.at("message", "blocks") != nil || out.str("text") != "kept" {
		t.Errorf("blocks removed: %v", out)
	}
	w.fails(ben, chat.CodeCantUpdateMessage, "chat.update", "channel", string(general), "ts", first, "text", "x")
	w.fails(ada, chat.CodeCantUpdateMessage, "chat.update", "channel", string(general), "ts", first, "text", "x")
	w.fails(ann, chat.CodeNoText, "chat.update", "channel", string(general), "ts", first)
	w.fails(ann, chat.CodeNoText, "chat.update", "channel", string(general), "ts", first, "text", "")
	w.fails(ann, chat.CodeMsgTooLong, "chat.update", "channel", string(general), "ts", first, "text", strings.Repeat("x", 40001))
	w.fails(ann, chat.CodeMessageNotFound, "chat.update", "channel", string(general), "ts", "1700000000.000000", "text", "x")
	w.fails(ann, chat.CodeMessageNotFound, "chat.update", "channel", string(general), "text", "x")
	w.fails(ann, protocol.CodeChannelNotFound, "chat.update", "channel", string(secret), "ts", first, "text", "x")

	w.fails(ben, chat.CodeCantDeleteMessage, "chat.delete", "channel", string(general), "ts", first)
	w.fails(ann, chat.CodeMessageNotFound, "chat.delete", "channel", string(general), "ts", "x")
	second := w.post(ann, general, "second <@U0BEN>")
	n = w.seen()
	out = w.get(ann, "chat.delete", "channel", string(general), "ts", second)
	if out.str("ts") != second || out.str("channel") != string(general) {
		t.Errorf("deleted %v", out)
	}
	w.wantEvents(n, string(general)+" message message_deleted +message_removed")
	e = w.lastEvent(protocol.Topic(general), "message")
	if f := e.Effects[0]; string(f.Latest) != first || string(f.TS) != second || !slices.Equal(f.Mentions, []protocol.UserID{ben}) {
		t.Errorf("effect %+v", f)
	}
	if !strings.Contains(string(e.Payload), `"deleted_ts":"`+second+`"`) {
		t.Errorf("payload %s", e.Payload)
	}
	w.fails(ann, chat.CodeMessageNotFound, "chat.delete", "channel", string(general), "ts", second)
	w.get(ada, "chat.delete", "channel", string(general), "ts", first) // admins may
	if h := w.get(ann, "conversations.history", "channel", string(general)); len(h["messages"].([]any)) != 0 {
		t.Errorf("history %v", h)
	}
	w.get(ann, "conversations.setTopic", "channel", string(general), "topic", "t")
	note := w.get(ann, "conversations.history", "channel", string(general)).str("messages", 0, "ts")
	w.fails(ann, chat.CodeCantUpdateMessage, "chat.update", "channel", string(general), "ts", note, "text", "x")
}

func TestThreads(t *testing.T) {
	w := newWorld(t, Limits{})
	parent := w.post(ann, general, "question")
	n := w.seen()
	reply := w.get(ben, "chat.postMessage", "channel", string(general), "text", "answer <@U0ANN>", "thread_ts", parent)
	if reply.str("message", "thread_ts") != parent || reply.str("message", "parent_user_id") != string(ann) {
		t.Errorf("reply %v", reply)
	}
	w.wantEvents(n, string(general)+" message", string(general)+" message message_replied")
	shout := w.get(ada, "chat.postMessage", "channel", string(general), "text", "all hear", "thread_ts", parent, "reply_broadcast", "true")
	if shout.str("message", "subtype") != "thread_broadcast" {
		t.Errorf("broadcast %v", shout)
	}
	w.get(ben, "chat.postMessage", "channel", string(general), "text", "more", "thread_ts", parent)
	w.fails(ann, chat.CodeCannotReply, "chat.postMessage", "channel", string(general), "text", "x", "thread_ts", reply.str("ts"))

	h := w.get(ann, "conversations.history", "channel", string(general))
	if got := h.ids("messages", "text"); !slices.Equal(got, []string{"all hear", "question"}) {
		t.Errorf("history %v", got)
	}
	if h.at("messages", 1, "reply_count") != 3.0 || h.at("messages", 1, "reply_users_count") != 2.0 || fmt.Sprint(h.at("messages", 1, "reply_users")) != "[U0BEN U0ADA]" ||
		h.str("messages", 1, "thread_ts") != parent || h.str("messages", 1, "latest_reply") <= shout.str("ts") {
		t.Errorf("parent %v", h.at("messages", 1))
	}
	r := w.get(ann, "conversations.replies", "channel", string(general), "ts", parent)
	if got := r.ids("messages", "text"); !slices.Equal(got, []string{"question", "answer <@U0ANN>", "all hear", "more"}) || r["has_more"] != false {
		t.Errorf("replies %v", got)
	}
	var paged []string
	for cursor := ""; ; {
		p := w.get(ann, "conversations.replies", "channel", string(general), "ts", parent, "limit", "2", "cursor", cursor, "inclusive", "true")
		paged = append(paged, p.ids("messages", "text")...)
		if cursor = p.str("response_metadata", "next_cursor"); cursor == "" {
			break
		}
	}
	if !slices.Equal(paged, r.ids("messages", "text")) {
		t.Errorf("paged %v", paged)
	}
	w.fails(ann, chat.CodeThreadNotFound, "conversations.replies", "channel", string(general), "ts", "1700000000.000000")
	w.fails(ann, chat.CodeThreadNotFound, "conversations.replies", "channel", string(general))

	n = w.seen()
	w.get(ben, "chat.delete", "channel", string(general), "ts", reply.str("ts"))
	w.wantEvents(n, string(general)+" message message_deleted", string(general)+" message message_replied")
	h = w.get(ann, "conversations.history", "channel", string(general))
	if h.at("messages", 1, "reply_count") != 2.0 {
		t.Errorf("parent after a reply was deleted %v", h.at("messages", 1))
	}
	n = w.seen()
	w.get(ann, "chat.delete", "channel", string(general), "ts", parent)
	w.wantEvents(n, string(general)+" message message_changed")
	r = w.get(ann, "conversations.replies", "channel", string(general), "ts", parent)
	if r.str("messages", 0, "subtype") != "tombstone" || len(r["messages"].([]any)) != 3 || r.at("messages", 0, "reply_count") != 2.0 {
		t.Errorf("after the parent was deleted %v", r)
	}
	w.fails(ann, chat.CodeCantDeleteMessage, "chat.delete", "channel", string(general), "ts", parent)
}

func TestThreads_CountsManyRepliers(t *testing.T) {
	w := newWorld(t, Limits{})
	parent := w.post(ann, general, "q")
	for i := range 9 {
		id := protocol.UserID(fmt.Sprintf("U0X%d", i))
		w.addMember(id, general)
		w.post(id, general, "r", "thread_ts", parent)
		w.post(id, general, "r", "thread_ts", parent)
	}
	h := w.get(ann, "conversations.history", "channel", string(general))
	if h.at("messages", 0, "reply_count") != 18.0 || h.at("messages", 0, "reply_users_count") != 9.0 || len(h.at("messages", 0, "reply_users").([]any)) != 5 {
		t.Errorf("parent %v", h.at("messages", 0))
	}
}

func TestReactions(t *testing.T) {
	w := newWorld(t, Limits{})
	ts := w.post(ann, general, "x")
	n := w.seen()
	w.get(ben, "reactions.add", "channel", string(general), "timestamp", ts, "name", "tada")
	w.get(ada, "reactions.add", "channel", string(general), "timestamp", ts, "name", ":tada:")
	w.get(ada, "reactions.add", "channel", string(general), "timestamp", ts, "name", "thumbsup::skin-tone-3")
	w.wantEvents(n, string(general)+" reaction_added", string(general)+" reaction_added", string(general)+" reaction_added")
	var p result
	if err := json.Unmarshal(w.lastEvent(protocol.Topic(general), "reaction_added").Payload, &p); err != nil {
		t.Fatal(err)
	}
	if p.str("item", "ts") != ts || p.str("item_user") != string(ann) || p.str("user") != string(ada) || p.str("item", "type") != "message" {
		t.Errorf("payload %v", p)
	}
	got := w.get(ann, "reactions.get", "channel", string(general), "timestamp", ts)
	if got.str("message", "reactions", 0, "name") != "tada" || got.at("message", "reactions", 0, "count") != 2.0 || fmt.Sprint(got.at("message", "reactions", 0, "users")) != "[U0BEN U0ADA]" {
		t.Errorf("reactions %v", got)
	}
	w.fails(ben, chat.CodeAlreadyReacted, "reactions.add", "channel", string(general), "timestamp", ts, "name", "tada")
	w.get(ben, "reactions.remove", "channel", string(general), "timestamp", ts, "name", "tada")
	w.fails(ben, chat.CodeNoReaction, "reactions.remove", "channel", string(general), "timestamp", ts, "name", "tada")
	w.fails(ben, chat.CodeInvalidName, "reactions.add", "channel", string(general), "timestamp", ts, "name", "No Such!")
	w.fails(ben, chat.CodeInvalidName, "reactions.add", "channel", string(general), "timestamp", ts)
	w.fails(ben, chat.CodeBadTimestamp, "reactions.add", "channel", string(general), "timestamp", "x", "name", "tada")
	w.fails(ben, chat.CodeNoItemSpecified, "reactions.add", "name", "tada")
	w.fails(ben, chat.CodeMessageNotFound, "reactions.add", "channel", string(general), "timestamp", "1700000000.000000", "name", "tada")
	w.fails(gus, protocol.CodeChannelNotFound, "reactions.add", "channel", string(general), "timestamp", ts, "name", "tada")
	w.fails(ann, chat.CodeNoItemSpecified, "reactions.get")
	for i := range 23 {
		w.get(ann, "reactions.add", "channel", string(general), "timestamp", ts, "name", fmt.Sprint("e", i))
	}
	w.fails(ann, chat.CodeTooManyReactions, "reactions.add", "channel", string(general), "timestamp", ts, "name", "e23")
}

// TestHistory_OnlyWhatHasChanged: a client that has messages gets those that were edited, answered or reacted to since, and
// new ones; of the others it hears that they stand as they were.
func TestHistory_OnlyWhatHasChanged(t *testing.T) {
	w := newWorld(t, Limits{})
	var ts []string
	for i := range 6 {
		ts = append(ts, w.post(ann, general, fmt.Sprint(i)))
	}
	history := func(have any, args ...string) result {
		return w.get(ben, "conversations.history", append([]string{"channel", string(general), "cached_latest_updates", string(protocol.MustMarshal(have))}, args...)...)
	}
	want := func(got result, changed, unchanged []string) {
		t.Helper()
		if !slices.Equal(got.ids("messages", "ts"), changed) || !slices.Equal(got.ids("unchanged_messages", ""), unchanged) {
			t.Errorf("changed %v, want %v; unchanged %v, want %v", got.ids("messages", "ts"), changed, got.ids("unchanged_messages", ""), unchanged)
		}
		if versions, _ := got["latest_updates"].(map[string]any); len(versions) != len(changed)+len(unchanged) {
			t.Errorf("versions %v", versions)
		}
	}
	if got := w.get(ben, "conversations.history", "channel", string(general)); got["latest_updates"] != nil || got["unchanged_messages"] != nil {
		t.Errorf("not asked for: %v", got)
	}
	all := []string{ts[5], ts[4], ts[3], ts[2], ts[1], ts[0]}
	first := history(map[string]string{})
	want(first, all, nil)
	want(history(nil), all, nil)
	have := first["latest_updates"].(map[string]any)
	for at, v := range have {
		if v, _ := v.(string); !protocol.TS(v).Valid() || !slices.Contains(ts, at) {
			t.Errorf("version %q of %s", v, at)
		}
	}
	want(history(have), nil, all)
	want(history(map[string]any{ts[0]: have[ts[0]], ts[1]: have[ts[0]], "x": "y"}), all[:5], all[5:])

	w.get(ann, "chat.update", "channel", string(general), "ts", ts[0], "text", "edited")
	w.get(ben, "reactions.add", "channel", string(general), "timestamp", ts[1], "name", "tada")
	w.get(ann, "chat.delete", "channel", string(general), "ts", ts[2])
	w.post(ben, general, "reply", "thread_ts", ts[3])
	then := w.post(ben, general, "new")
	got := history(have)
	want(got, []string{then, ts[3], ts[1], ts[0]}, []string{ts[5], ts[4]})
	w.get(ben, "reactions.remove", "channel", string(general), "timestamp", ts[1], "name", "tada")
	want(history(have), []string{then, ts[3], ts[0]}, []string{ts[5], ts[4], ts[1]})

	// Pages are the same as without.
	var paged []string
	for cursor := ""; ; {
		page := history(have, "limit", "2", "cursor", cursor)
		paged = append(append(paged, page.ids("messages", "ts")...), page.ids("unchanged_messages", "")...)
		if cursor = page.str("response_metadata", "next_cursor"); cursor == "" {
			break
		}
	}
	slices.Sort(paged)
	if want := []string{ts[0], ts[1], ts[3], ts[4], ts[5], then}; !slices.Equal(paged, want) {
		t.Errorf("paged %v, want %v", paged, want)
	}

	many := make(map[string]string)
	for i := range maxPage + 1 {
		many[fmt.Sprint(i)] = ""
	}
	for _, bad := range []any{many, []string{ts[0]}, "x", 7, map[string]int{ts[0]: 1}} {
		w.fails(ben, protocol.CodeInvalidArgs, "conversations.history", "channel", string(general), "cached_latest_updates", string(protocol.MustMarshal(bad)))
	}
}

func TestHistory(t *testing.T) {
	w := newWorld(t, Limits{})
	var all []string
	for i := range 7 {
		all = append(all, w.post(ann, general, fmt.Sprint(i)))
	}
	slices.Reverse(all)
	page := func(args ...string) []string {
		var got []string
		for cursor := ""; ; {
			out := w.get(ben, "conversations.history", append([]string{"channel", string(general), "cursor", cursor}, args...)...)
			got = append(got, out.ids("messages", "ts")...)
			cursor = out.str("response_metadata", "next_cursor")
			if (cursor != "") != (out["has_more"] == true) {
				t.Errorf("has_more %v, cursor %q", out["has_more"], cursor)
			}
			if cursor == "" {
				return got
			}
		}
	}
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"all":               {nil, all},
		"by three":          {[]string{"limit", "3"}, all},
		"by one":            {[]string{"limit", "1"}, all},
		"bounds":            {[]string{"latest", all[1], "oldest", all[5], "limit", "2"}, all[2:5]},
		"inclusive":         {[]string{"latest", all[1], "oldest", all[5], "limit", "2", "inclusive", "1"}, all[1:6]},
		"oldest":            {[]string{"oldest", all[5]}, all[:5]},
		"one":               {[]string{"latest", all[3], "inclusive", "true", "oldest", all[3]}, all[3:4]},
		"oldest 0":          {[]string{"oldest", "0", "limit", "4"}, all},
		"latest now":        {[]string{"latest", "now"}, all},
		"limit 0":           {[]string{"limit", "0"}, all},
		"limit over":        {[]string{"limit", "100000"}, all},
		"the other way":     {[]string{"latest", all[6], "oldest", all[0]}, nil},
		"seconds only":      {[]string{"oldest", all[0][:10]}, all},
		"number in the way": {[]string{"limit", "2.0"}, all},
	} {
		if got := page(c.args...); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	w.fails(ann, chat.CodeInvalidTSOldest, "conversations.history", "channel", string(general), "oldest", "x")
	w.fails(ann, chat.CodeInvalidTSLatest, "conversations.history", "channel", string(general), "latest", "-1")
	w.fails(ann, protocol.CodeInvalidLimit, "conversations.history", "channel", string(general), "limit", "-1")
	w.fails(ann, protocol.CodeInvalidLimit, "conversations.history", "channel", string(general), "limit", "many")
	w.fails(ann, protocol.CodeInvalidCursor, "conversations.history", "channel", string(general), "cursor", "x")
	w.fails(ann, protocol.CodeInvalidCursor, "conversations.history", "channel", string(general), "cursor", protocol.EncodeCursor("next_ts", "123"))
	w.fails(ann, protocol.CodeInvalidCursor, "conversations.history", "channel", string(general), "cursor", protocol.EncodeCursor("user", "U1"))
	w.fails(ann, protocol.CodeChannelNotFound, "conversations.history", "channel", string(secret))
	w.fails(bot, protocol.CodeNotInChannel, "conversations.history", "channel", string(random))
	w.get(ben, "conversations.history", "channel", string(random)) // people may look into public channels
	link := w.get(ann, "chat.getPermalink", "channel", string(general), "message_ts", all[0])
	if want := "http://host.example:1/archives/C0GENERAL/p" + strings.Replace(all[0], ".", "", 1); link.str("permalink") != want {
		t.Errorf("permalink %v", link)
	}
	w.fails(ann, chat.CodeMessageNotFound, "chat.getPermalink", "channel", string(general), "message_ts", "1")
}

func TestPostEphemeral(t *testing.T) {
	w := newWorld(t, Limits{})
	n := w.seen()
	out := w.get(ann, "chat.postEphemeral", "channel", string(general), "user", "U0BEN", "text", "only you")
	w.wantEvents(n)
	if len(w.published) != 1 {
		t.Fatalf("%d published", len(w.published))
	}
	e := w.published[0]
	var p result
	if err := json.Unmarshal(e.Payload, &p); err != nil {
		t.Fatal(err)
	}
	if e.Topic != "U0BEN" || e.Class != protocol.ClassEphemeral || e.Seq != 0 || p["is_ephemeral"] != true || p.str("text") != "only you" || p.str("ts") != out.str("message_ts") {
		t.Errorf("%+v %v", e, p)
	}
	w.fails(ann, chat.CodeUserNotInChannel, "chat.postEphemeral", "channel", string(general), "user", "U0GUS", "text", "x")
	w.fails(ann, chat.CodeUserNotInChannel, "chat.postEphemeral", "channel", string(general), "text", "x")
	w.fails(ann, chat.CodeNoText, "chat.postEphemeral", "channel", string(general), "user", "U0BEN")
	w.fails(ann, chat.CodeInvalidBlocks, "chat.postEphemeral", "channel", string(general), "user", "U0BEN", "blocks", "{")
	w.fails(ben, protocol.CodeNotInChannel, "chat.postEphemeral", "channel", string(random), "user", "U0ANN", "text", "x")
}
