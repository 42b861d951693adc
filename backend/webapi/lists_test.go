package webapi

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"flannel/backend/chat"
	"flannel/protocol"
)

func TestConversations_List(t *testing.T) {
	w := newWorld(t, Limits{})
	dm := w.get(ann, "conversations.open", "users", "U0BEN").str("channel", "id")
	group := w.get(ann, "conversations.open", "users", "U0BEN,U0ADA").str("channel", "id")
	all := strings.Join([]string{"public_channel", "private_channel", "mpim", "im"}, ",")
	sorted := func(ids ...string) []string { slices.Sort(ids); return ids }
	for name, c := range map[string]struct {
		user protocol.UserID
		args []string
		want []string
	}{
		"public":          {ann, nil, []string{"C0GENERAL", "C0PROJECT", "C0RANDOM", "C0SHARED", "C0ZOLD"}},
		"not archived":    {ann, []string{"exclude_archived", "1"}, []string{"C0GENERAL", "C0PROJECT", "C0RANDOM", "C0SHARED"}},
		"all types":       {ann, []string{"types", all}, sorted("C0GENERAL", "C0PROJECT", "C0RANDOM", "C0SHARED", "C0ZOLD", dm, group)},
		"private of ben":  {ben, []string{"types", "private_channel"}, []string{"C0SECRET"}},
		"private of ann":  {ann, []string{"types", "private_channel"}, nil},
		"direct":          {ben, []string{"types", "im,mpim"}, sorted(dm, group)},
		"a guest's":       {gus, []string{"types", all}, []string{"C0PROJECT"}},
		"a stranger's":    {zoe, []string{"types", all}, []string{"C0SHARED"}},
		"JSON list":       {ben, []string{"types", `["im"]`}, []string{dm}},
		"a bot's private": {bot, []string{"types", "private_channel,im"}, nil},
	} {
		for _, limit := range []int{1, 2, 100} {
			if got := w.pages(c.user, "conversations.list", "channels", "id", limit, c.args...); !slices.Equal(got, c.want) {
				t.Errorf("%s by %d: %v, want %v", name, limit, got, c.want)
			}
		}
	}
	out := w.get(ann, "conversations.list", "types", all)
	for _, c := range out["channels"].([]any) {
		m := c.(map[string]any)
		_, counted := m["num_members"]
		if public := m["is_private"] == false; counted != public {
			t.Errorf("%v: num_members %v", m["id"], m["num_members"])
		}
		if m["topic"] == nil || m["purpose"] == nil || m["is_member"] == nil {
			t.Errorf("%v lacks fields: %v", m["id"], m)
		}
	}
	if n := out.at("channels", 0, "num_members"); n != 4.0 {
		t.Errorf("general has %v", n)
	}
	if out := w.get(gus, "conversations.list"); out.at("channels", 0, "num_members") != 2.0 {
		t.Errorf("a guest's: %v", out)
	}
	w.fails(ann, chat.CodeInvalidTypes, "conversations.list", "types", "public_channel,secret")
	w.fails(ann, protocol.CodeInvalidLimit, "conversations.list", "limit", "-1")
	w.fails(ann, protocol.CodeInvalidCursor, "conversations.list", "cursor", "nope")
}

func TestConversations_Info(t *testing.T) {
	w := newWorld(t, Limits{})
	for _, c := range []struct {
		user    protocol.UserID
		channel protocol.ChannelID
		sees    bool
	}{
		{ann, general, true},
		{ann, random, true},
		{ben, random, true},
		{ann, secret, false},
		{ben, secret, true},
		{gus, general, false},
		{gus, project, true},
		{zoe, shared, true},
		{zoe, general, false},
		{yan, shared, true}, // a public channel shared with yan's workspace
		{ben, old, true},
		{ann, "C0NONE", false},
		{ann, "", false},
		{ann, "c0general", false},
		{ann, protocol.ChannelID(strings.Repeat("C", 1000)), false},
	} {
		out := decodeReply(t, w.call(c.user, "conversations.info", "channel", string(c.channel)))
		if c.sees != (out.str("channel", "id") == string(c.channel) && out["ok"] == true) || c.sees == (out.str("error") == "channel_not_found") {
			t.Errorf("%s looks at %s: %v", c.user, c.channel, out)
		}
	}
	out := w.get(ben, "conversations.info", "channel", string(random))
	if out.at("channel", "is_member") != false || out.at("channel", "last_read") != nil || out.at("channel", "num_members") != nil {
		t.Errorf("not a member: %v", out)
	}
	out = w.get(ben, "conversations.info", "channel", string(secret), "include_num_members", "1", "include_locale", "1")
	if out.at("channel", "is_member") != true || out.str("channel", "last_read") != string(protocol.ZeroTS) || out.at("channel", "num_members") != 2.0 || out.str("channel", "locale") == "" {
		t.Errorf("a member: %v", out)
	}
}

func TestConversations_Members(t *testing.T) {
	w := newWorld(t, Limits{})
	want := []string{"U0ADA", "U0ANN", "U0BEN", "U0BOT"}
	for _, limit := range []int{1, 2, 3, 4, 5} {
		if got := w.pages(ben, "conversations.members", "members", "", limit, "channel", string(general)); !slices.Equal(got, want) {
			t.Errorf("by %d: %v", limit, got)
		}
	}
	if got := w.pages(ben, "conversations.members", "members", "", 10, "channel", string(random)); !slices.Equal(got, []string{"U0ANN"}) {
		t.Errorf("random: %v", got)
	}
	w.fails(ann, protocol.CodeChannelNotFound, "conversations.members", "channel", string(secret))
	w.fails(ann, protocol.CodeChannelNotFound, "conversations.members")
	w.fails(ann, protocol.CodeInvalidLimit, "conversations.members", "channel", string(general), "limit", "x")
	w.fails(ann, protocol.CodeInvalidCursor, "conversations.members", "channel", string(general), "cursor", "AAAA")
}

func TestUsersConversations(t *testing.T) {
	w := newWorld(t, Limits{})
	if got := w.pages(ann, "users.conversations", "channels", "id", 2); !slices.Equal(got, []string{"C0GENERAL", "C0PROJECT", "C0RANDOM", "C0SHARED", "C0ZOLD"}) {
		t.Errorf("one's own: %v", got)
	}
	if got := w.pages(ann, "users.conversations", "channels", "id", 2, "exclude_archived", "true", "user", "U0ANN"); len(got) != 4 {
		t.Errorf("one's own without archived: %v", got)
	}
	if got := w.pages(ben, "users.conversations", "channels", "id", 2, "types", "private_channel,public_channel"); !slices.Equal(got, []string{"C0GENERAL", "C0SECRET"}) {
		t.Errorf("with private: %v", got)
	}
	// Of others: public channels that one sees, private ones that one is in too.
	if got := w.pages(ann, "users.conversations", "channels", "id", 2, "user", "U0BEN", "types", "private_channel,public_channel"); !slices.Equal(got, []string{"C0GENERAL"}) {
		t.Errorf("another's: %v", got)
	}
	if got := w.pages(ada, "users.conversations", "channels", "id", 1, "user", "U0BEN", "types", "private_channel,public_channel"); !slices.Equal(got, []string{"C0GENERAL", "C0SECRET"}) {
		t.Errorf("another's, in the same private channel: %v", got)
	}
	if got := w.pages(gus, "users.conversations", "channels", "id", 1, "user", "U0ANN"); !slices.Equal(got, []string{"C0PROJECT"}) {
		t.Errorf("a guest looks: %v", got)
	}
	w.fails(ann, protocol.CodeUserNotFound, "users.conversations", "user", "U0YAN")
	w.fails(ann, chat.CodeInvalidTypes, "users.conversations", "types", "x")
}

func TestDirect_Open(t *testing.T) {
	w := newWorld(t, Limits{})
	n := w.seen()
	w.fails(ann, protocol.CodeChannelNotFound, "conversations.open", "users", "U0BEN", "prevent_creation", "true")
	w.wantEvents(n)
	out := w.get(ann, "conversations.open", "users", "U0BEN", "return_im", "true")
	dm := out.str("channel", "id")
	if !strings.HasPrefix(dm, "D") || out.at("channel", "is_im") != true || out.str("channel", "user") != "U0BEN" || out.at("channel", "is_open") != true || out["no_op"] != nil {
		t.Errorf("opened %v", out)
	}
	again := w.get(ann, "conversations.open", "users", "U0BEN", "prevent_creation", "true")
	if again.str("channel", "id") != dm || again["no_op"] != true || again["already_open"] != true || len(again.at("channel").(map[string]any)) != 1 {
		t.Errorf("again %v", again)
	}
	if by := w.get(ann, "conversations.open", "channel", dm); by["already_open"] != true {
		t.Errorf("by channel %v", by)
	}
	// The other side has not seen it yet.
	if other := w.get(ben, "conversations.info", "channel", dm); other.str("channel", "user") != "U0ANN" || other.at("channel", "is_open") != false {
		t.Errorf("the other side %v", other)
	}
	n = w.seen()
	w.get(ann, "conversations.close", "channel", dm)
	if out := w.get(ann, "conversations.close", "channel", dm); out["already_closed"] != true || out["no_op"] != true {
		t.Errorf("closed twice %v", out)
	}
	w.wantEvents(n, "U0ANN im_close +open")
	if out := w.get(ann, "conversations.open", "users", "U0BEN"); out.str("channel", "id") != dm || out["no_op"] != nil {
		t.Errorf("opened again %v", out)
	}
	if boot := w.get(ann, "client.userBoot"); !slices.Contains(boot.ids("is_open", ""), dm) || boot.str("ims", 0, "user") != "U0BEN" {
		t.Errorf("boot %v", boot)
	}

	group := w.get(ann, "conversations.open", "users", "U0BEN,U0ADA", "return_im", "1")
	id := group.str("channel", "id")
	if !strings.HasPrefix(id, "G") || group.str("channel", "name") != "mpdm-ada--ann--ben-1" || group.at("channel", "is_mpim") != true {
		t.Errorf("group %v", group)
	}
	if other := w.get(ada, "conversations.open", "users", "U0ANN,U0BEN,U0ADA"); other.str("channel", "id") != id || other["no_op"] != nil {
		t.Errorf("the group from another side %v", other)
	}
	if self := w.get(ann, "conversations.open", "users", "U0ANN", "return_im", "1"); self.str("channel", "user") != "U0ANN" {
		t.Errorf("with oneself %v", self)
	}
	ts := w.post(ada, protocol.ChannelID(id), "for all")
	if f := w.lastEvent(protocol.Topic(id), "message").Effects[0]; !f.Everyone || string(f.TS) != ts {
		t.Errorf("effect %+v", f)
	}

	w.fails(ann, chat.CodeUsersListNotSupplied, "conversations.open")
	w.fails(ann, protocol.CodeUserNotFound, "conversations.open", "users", "U0NONE")
	w.fails(gus, protocol.CodeUserNotFound, "conversations.open", "users", "U0BEN")
	w.get(gus, "conversations.open", "users", "U0ANN")
	w.fails(ann, chat.CodeUserDisabled, "conversations.open", "users", "U0GONE")
	w.fails(ben, protocol.CodeUserNotFound, "conversations.open", "users", "U0ZOE")
	w.get(ann, "conversations.open", "users", "U0ZOE")
	w.fails(ann, protocol.CodeInvalidArgs, "conversations.open", "users", "[1,2]")
	var many []string
	for i := range 9 {
		many = append(many, fmt.Sprintf("U0M%d", i))
	}
	w.fails(ann, chat.CodeTooManyUsers, "conversations.open", "users", strings.Join(many, ","))
	w.fails(ada, protocol.CodeChannelNotFound, "conversations.open", "channel", dm)
	w.fails(ann, chat.CodeMethodNotSupported, "conversations.open", "channel", string(general))
	w.fails(ann, chat.CodeMethodNotSupported, "conversations.close", "channel", string(general))
	for _, method := range []string{"conversations.leave", "conversations.archive", "conversations.setTopic", "conversations.join"} {
		w.fails(ann, chat.CodeMethodNotSupported, method, "channel", dm, "topic", "x")
	}
	w.fails(ann, chat.CodeMethodNotSupported, "conversations.invite", "channel", dm, "users", "U0ADA")
	w.fails(ann, chat.CodeMethodNotSupported, "conversations.rename", "channel", dm, "name", "x")
}

func TestBoot(t *testing.T) {
	w := newWorld(t, Limits{})
	w.post(ben, general, "hi <@U0ANN>")
	out := w.get(ann, "client.userBoot")
	if out.str("self", "id") != "U0ANN" || out.str("team", "id") != string(ours) || out.str("default_workspace") != string(ours) || len(out.ids("channels", "id")) != 4 {
		t.Errorf("boot %v", out)
	}
	if lazy := w.get(ann, "client.userBoot", "lazy_channels", "1"); lazy.at("channels", 0, "topic") != nil || lazy.str("channels", 0, "name") != "general" {
		t.Errorf("lazy %v", lazy)
	}
	if out := w.get(ann, "client.userBoot", "min_channel_updated", "1700000000000"); len(out.ids("channels", "id")) != 0 || len(out.ids("unchanged_channel_ids", "")) != 4 {
		t.Errorf("delta %v", out)
	}
	w.fails(ann, protocol.CodeInvalidArgs, "client.userBoot", "min_channel_updated", "x")
	counts := w.get(ann, "client.counts")
	if counts.str("channels", 0, "id") != "C0GENERAL" || counts.at("channels", 0, "mention_count") != 1.0 || counts.at("channels", 0, "has_unreads") != true {
		t.Errorf("counts %v", counts)
	}
	url := w.get(ann, "client.getWebSocketURL")
	if !strings.HasPrefix(url.str("primary_websocket_url"), "ws://host.example:1/") || url["ttl_seconds"] == nil || url.str("routing_context") == "" {
		t.Errorf("getWebSocketURL %v", url)
	}
	if out := w.get(ann, "api.getFlannelHttpUrl"); out.str("url") != "http://host.example:1" {
		t.Errorf("getFlannelHttpUrl %v", out)
	}
	if out := w.get(ann, "rtm.connect", "batch_presence_aware", "1"); !strings.HasSuffix(out.str("url"), "/websocket/U0ANN1") || out.str("self", "id") != "U0ANN" || out.str("team", "domain") != "ours" {
		t.Errorf("rtm.connect %v", out)
	}
}
