package query

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"flannel/protocol"
)

// TestMethods_AreThoseOfTheTable: what protocol says is cached is answered here, and nothing else.
func TestMethods_AreThoseOfTheTable(t *testing.T) {
	for name, m := range protocol.Methods {
		if m.Cached != (methods[name] != nil) {
			t.Errorf("%s: cached %v", name, m.Cached)
		}
	}
	for name := range methods {
		if _, known := protocol.Methods[name]; !known {
			t.Errorf("%s is not a method", name)
		}
	}
}

func TestAnswer_Forwards(t *testing.T) {
	w := newWorld(t)
	for _, c := range [][]string{{"chat.postMessage"}, {"nonsense"}, {"conversations.info", "channel", "C0000001", "include_num_members", "1"}, {"users.conversations", "user", "U0000002"}} {
		args := protocol.Args{}
		for i := 1; i < len(c); i += 2 {
			args[c[i]] = c[i+1]
		}
		if reply, err := w.service.Answer(t.Context(), w.id(ada), c[0], args, ""); !errors.Is(err, ErrForward) {
			t.Errorf("%v: %v, %v", c, reply, err)
		}
	}
}

func TestUsersInfoMethod(t *testing.T) {
	w := newWorld(t)
	body := func(s protocol.Shape) string { return string(s.Object().Body) }
	bobBody := body(&protocol.User{ID: bob, TeamID: t1, Name: "bob", RealName: "bob", Updated: 100})
	for _, c := range []struct {
		pairs []string
		want  string
		code  protocol.Code
	}{
		{[]string{"user", string(bob)}, `{"ok":true,"user":` + bobBody + `}`, ""},
		{[]string{"user", string(bob), "include_locale", "true"}, `{"ok":true,"user":` + strings.TrimSuffix(bobBody, "}") + `,"locale":"en-US"}}`, ""},
		{[]string{"users", "U0000002,U0000777,C0000001,U0000009,U0000002"}, `{"ok":true,"users":[` + bobBody + `]}`, ""},
		{[]string{"users", "U0000777"}, "", protocol.CodeUserNotFound}, {[]string{"users", "[1]"}, "", protocol.CodeInvalidArgs},
		{[]string{"users", strings.Repeat("U1,", protocol.MaxObjectIDs+1)}, "", protocol.CodeInvalidArgs},
		{nil, "", protocol.CodeUserNotFound}, {[]string{"user", "C0000001"}, "", protocol.CodeUserNotFound},
		{[]string{"user", "../x"}, "", protocol.CodeUserNotFound}, {[]string{"user", strings.Repeat("U", 5000)}, "", protocol.CodeUserNotFound},
	} {
		got := w.call(t, ada, "users.info", c.pairs...)
		if got.code != c.code || c.code == "" && string(got.Body) != c.want {
			t.Errorf("%.60v: %q %s", c.pairs, got.code, c.want)
		}
	}
}

func TestLists(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		who    protocol.UserID
		method string
		field  string
		pairs  string // name=value&…
		want   string
	}{
		{ada, "users.list", "members", "", "U1 U2 U3 U4 U5 U6"},
		{ada, "users.list", "members", "limit=2", "U1 U2 > U3 U4 > U5 U6"},
		{gus, "users.list", "members", "", "U2 U3"},
		{gus, "users.list", "members", "limit=1", "U2 > U3"},
		{ada, "users.list", "members", "limit=-1", "!invalid_limit"},
		{ada, "users.list", "members", "limit=x", "!invalid_limit"},
		{ada, "users.list", "members", "cursor=x", "!invalid_cursor"},
		{ada, "users.list", "members", "cursor=" + protocol.EncodeCursor("channel", "C1"), "!invalid_cursor"},
		{ada, "users.list", "members", "cursor=" + protocol.EncodeCursor("user", "../x"), "!invalid_cursor"},
		{ada, "users.list", "members", "team_id=T0000002", "!team_not_found"},
		{ada, "conversations.list", "channels", "", "C1 C2 C4 C5"},
		{ada, "conversations.list", "channels", "exclude_archived=1", "C1 C2 C5"},
		{ada, "conversations.list", "channels", "limit=2&exclude_archived=1", "C1 C2 > C5"},
		{ada, "conversations.list", "channels", "types=public_channel,private_channel,mpim,im", "C1 C2 C3 C4 C5 D1 G1"},
		{ada, "conversations.list", "channels", "types=public_channel,private_channel,mpim,im&limit=3", "C1 C2 C3 > C4 C5 D1 > G1"},
		{ada, "conversations.list", "channels", "types=im", "D1"},
		{gus, "conversations.list", "channels", "types=public_channel,private_channel", "C6"},
		{bob, "conversations.list", "channels", "types=private_channel", "C3 C6"},
		{ada, "conversations.list", "channels", "types=secret", "!invalid_types"},
		{ada, "conversations.list", "channels", "types=[1]", "!invalid_arguments"},
		{ada, "conversations.list", "channels", "limit=-1", "!invalid_limit"},
		{ada, "conversations.list", "channels", "cursor=%", "!invalid_cursor"},
		{ada, "conversations.list", "channels", "team_id=T0000002", "!team_not_found"},
		{ada, "users.conversations", "channels", "", "C1 C4 C5"},
		{ada, "users.conversations", "channels", "user=U0000001&exclude_archived=true&limit=1", "C1 > C5"},
		{ada, "users.conversations", "channels", "types=x", "!invalid_types"},
		{ada, "conversations.members", "members", "channel=C0000001", "U1 U2 U4 U5 U6"},
		{ada, "conversations.members", "members", "channel=C0000001&limit=2", "U1 U2 > U4 U5 > U6"},
		{ada, "conversations.members", "members", "channel=C0000002", "U2"}, // not in it, so page straight
		{ada, "conversations.members", "members", "channel=C0000001&limit=-1", "!invalid_limit"},
		{ada, "conversations.members", "members", "channel=C0000001&cursor=x", "!invalid_cursor"},
		{ada, "conversations.members", "members", "", "!channel_not_found"},
	} {
		args := protocol.Args{}
		for pair := range strings.SplitSeq(c.pairs, "&") {
			name, value, _ := strings.Cut(pair, "=")
			args[name] = value
		}
		var pages []string
		for {
			reply, err := w.service.Answer(t.Context(), w.id(c.who), c.method, args, "")
			got := decodeReply(t, reply, err)
			pages = append(pages, got.ids(t, c.field))
			var meta struct {
				Next string `json:"next_cursor"`
			}
			if got.code == "" {
				if err := json.Unmarshal(got.fields["response_metadata"], &meta); err != nil {
					t.Fatal(err)
				}
			}
			if args["cursor"] = meta.Next; meta.Next == "" {
				break
			}
		}
		if got := strings.Join(pages, " > "); got != c.want {
			t.Errorf("%s %s %s: %s, want %s", c.who, c.method, c.pairs, got, c.want)
		}
	}
}

func TestUsersList_LargeWorkspaceNeedsALimit(t *testing.T) {
	w := newWorld(t)
	for i := range maxPage {
		w.put(&protocol.User{ID: protocol.UserID(fmt.Sprintf("U1%06d", i)), TeamID: t1})
	}
	if got := w.call(t, ada, "users.list"); got.code != protocol.CodeLimitRequired {
		t.Errorf("got %q", got.code)
	}
	got := w.call(t, ada, "users.list", "limit", "5000")
	if n := strings.Count(got.ids(t, "members"), " ") + 1; n != maxPage {
		t.Errorf("%d users", n)
	}
}

func TestConversationsList_Fields(t *testing.T) {
	w := newWorld(t)
	got := string(w.call(t, ada, "conversations.list", "types", "public_channel,im").Body)
	for _, want := range []string{`"is_member":true,"last_read":"1500000000.000100","num_members":5}`, `"is_member":false,"num_members":1}`, `"user":"U0000002","is_member":true,"is_open":true,"last_read":"1500000000.000100"}`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	w.join(general, gus)
	if got := string(w.call(t, gus, "conversations.list").Body); !strings.Contains(got, `"num_members":6}`) {
		t.Errorf("guest: %s", got)
	}
	if got := w.call(t, ada, "conversations.info", "channel", string(general), "include_locale", "1"); !strings.HasSuffix(string(got.Body), `"is_member":true,"last_read":"1500000000.000100","locale":"en-US"}}`) {
		t.Errorf("info: %s", got.Body)
	}
}

func TestWorkspaceMethods(t *testing.T) {
	w := newWorld(t)
	if got := w.call(t, ada, "emoji.list"); string(got.Body) != `{"ok":true,"emoji":{"parrot":"https://x/p.gif","tada2":"alias:tada"},"cache_ts":4}` {
		t.Errorf("emoji.list: %s", got.Body)
	}
	if got := w.call(t, gus, "emoji.list"); string(got.Body) != `{"ok":true,"emoji":{},"cache_ts":0}` {
		t.Errorf("emoji.list of a guest: %s", got.Body)
	}
	if got := w.call(t, ada, "emoji.list", "team_id", "T0000002"); got.code != protocol.CodeTeamNotFound {
		t.Errorf("emoji.list of others: %q", got.code)
	}
	if got := w.call(t, ada, "team.info"); !strings.Contains(string(got.Body), `"domain":"one"`) {
		t.Errorf("team.info: %s", got.Body)
	}
	if got := w.call(t, ada, "team.info", "team", "T0000077"); got.code != protocol.CodeTeamNotFound {
		t.Errorf("team.info of none: %q", got.code)
	}
	if got := w.call(t, ada, "bots.info", "bots", "B0000001,B0000002"); got.ids(t, "bots") != "B1" {
		t.Errorf("bots.info: %q", got.code)
	}
	for pair, want := range map[string]string{
		"": `{"ok":true,"prefs":{"theme":"dark","n":1}}`, "prefs=n,x": `{"ok":true,"prefs":{"n":1}}`, "names=theme": `{"ok":true,"prefs":{"theme":"dark"}}`,
	} {
		name, value, _ := strings.Cut(pair, "=")
		if got := w.call(t, ada, "users.prefs.get", name, value); string(got.Body) != want {
			t.Errorf("users.prefs.get %s: %s", pair, got.Body)
		}
	}
	for _, name := range []string{"prefs", "names"} {
		if got := w.call(t, ada, "users.prefs.get", name, "[1]"); got.code != protocol.CodeInvalidArgs {
			t.Errorf("users.prefs.get: %q", got.code)
		}
	}
}

func TestSocketMethods(t *testing.T) {
	w := newWorld(t)
	for method, want := range map[string]string{
		"rtm.connect":            `{"ok":true,"url":"ws://edge.example/websocket/U0000001","self":{"id":"U0000001","name":"ada"},"team":{"id":"T0000001","name":"One","domain":"one"}}`,
		"client.getWebSocketURL": `{"ok":true,"primary_websocket_url":"ws://edge.example/websocket/U0000001","fallback_websocket_url":"ws://edge.example/websocket/U0000001","ttl_seconds":3600,"routing_context":"T0000001-1"}`,
		"api.getFlannelHttpUrl":  `{"ok":true,"url":"http://edge.example","ttl_seconds":3600}`,
	} {
		if got := w.call(t, ada, method, "token", "secret"); string(got.Body) != want {
			t.Errorf("%s: %s", method, got.Body)
		}
		if got := w.call(t, ada, method, "fail", "1"); method != "api.getFlannelHttpUrl" && got.code != protocol.CodeUnavailable {
			t.Errorf("%s: %q", method, got.code)
		}
	}
	reply, err := w.service.Answer(t.Context(), w.id(ada), "api.getFlannelHttpUrl", nil, "")
	if got := decodeReply(t, reply, err); string(got.fields["url"]) != `"http://localhost"` {
		t.Errorf("without a host: %s", got.Body)
	}
}

func TestBoot(t *testing.T) {
	w := newWorld(t)
	boot, counts, err := w.bootFrames(t.Context(), w.id(ada), false)
	if err != nil {
		t.Fatal(err)
	}
	got := decodeReply(t, &protocol.Reply{Body: boot}, nil)
	if got.ids(t, "channels") != "C1 C3 C5 G1" || got.ids(t, "ims") != "D1" || got.ids(t, "is_open") != "D1" || got.ids(t, "workspaces") != "T1" {
		t.Errorf("boot: %s", boot)
	}
	if got := decodeReply(t, &protocol.Reply{Body: counts}, nil); got.ids(t, "channels") != "C1 C3 C5" || got.ids(t, "mpims") != "G1" || got.ids(t, "ims") != "D1" {
		t.Errorf("counts: %s", counts)
	}
	if n := w.count("boot") + w.count("objects") + w.count("identify") + w.count("list") + w.count("members"); n != 2 {
		t.Errorf("cold boot took %d loads, want one boot and one objects", n)
	}

	// Warm, over HTTP, by whichever door: nothing is asked of the backend.
	same := w.call(t, ada, "client.userBoot")
	if string(same.Body) != string(boot) && len(same.Body) != len(boot) {
		t.Errorf("over HTTP: %s", same.Body)
	}
	if got := w.call(t, ada, "client.counts"); string(got.Body) != string(counts) {
		t.Errorf("counts over HTTP: %s", got.Body)
	}
	if got := w.call(t, ada, "client.userBoot", "lazy_channels", "1", "min_channel_updated", "1000"); got.ids(t, "channels") != "" || got.ids(t, "unchanged_channel_ids") != "C1 C3 C5 G1" {
		t.Errorf("conditional: %s", got.Body)
	}
	if got := w.call(t, ada, "client.userBoot", "min_channel_updated", "x"); got.code != protocol.CodeInvalidArgs {
		t.Errorf("bad argument: %q", got.code)
	}
	if n := w.count("boot") + w.count("objects"); n != 0 {
		t.Errorf("warm boot took %d loads", n)
	}
}

// TestBoot_FollowsArchiving: a channel archived after the user was loaded leaves their boot, and comes back.
func TestBoot_FollowsArchiving(t *testing.T) {
	w := newWorld(t)
	w.call(t, ada, "client.userBoot")
	for _, c := range []struct {
		archived bool
		version  protocol.Version
		want     string
	}{{true, 1001, "C3 C5 G1"}, {false, 1002, "C1 C3 C5 G1"}} {
		w.change(&protocol.Channel{ID: general, Name: "general", IsChannel: true, ContextTeamID: t1, Updated: c.version, IsArchived: c.archived})
		if got := w.call(t, ada, "client.userBoot").ids(t, "channels"); got != c.want {
			t.Errorf("boot: %s, want %s", got, c.want)
		}
		if got := w.call(t, ada, "client.counts").ids(t, "channels"); got+" G1" != c.want {
			t.Errorf("counts: %s", got)
		}
		if got := w.call(t, ada, "users.conversations", "exclude_archived", "1", "types", "public_channel,private_channel,mpim").ids(t, "channels"); got != c.want {
			t.Errorf("users.conversations: %s", got)
		}
	}
}

func TestDirectory(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		who        protocol.UserID
		path, args string // %s is the marker
		want       string
	}{
		{ada, "users/list", `{"count":1000%s}`, "U1 U2 U5 U6 U3 U4"},
		{ada, "users/list", `{"count":2%s}`, "U1 U2 > U5 U6 > U3 U4"},
		{ada, "users/list", `{"count":2,"index":"users_by_id","filter":"everyone AND NOT bots AND NOT apps"%s}`, "U1 U2 > U3 U5 > U6"},
		{ada, "users/list", `{"count":1,"filter":"guests","present_first":true%s}`, "U3"},
		{ada, "users/list", `{"count":10,"filter":"people AND NOT deactivated"%s}`, "U1 U2 U6 U3"},
		{gus, "users/list", `{"count":10%s}`, "U2 U3"},
		{ada, "users/list", `{"channels":["C0000001"]%s}`, "U1 U2 U5 U6 U4"},
		{ada, "users/list", `{"channels":["C0000001"],"index":"users_by_id","count":2%s}`, "U1 U2 > U4 U5 > U6"},
		{ada, "users/list", `{"channels":["C0000001","C0000005"],"count":2%s}`, "U1 U2 > U5 U6 > U4 U8"},
		{ada, "users/list", `{"channels":["C0000001"],"filter":"bots","count":1%s}`, "U4"},
		{ada, "users/list", `{"channels":["C0000002"]%s}`, "U2"},
		{gus, "users/list", `{"channels":["C0000006"]%s}`, "U2 U3"},
		{ada, "emojis/list", `{"count":1%s}`, "parrot > tada2"},
		{ada, "emojis/list", `{%s}`, "parrot tada2"},
		{gus, "emojis/list", `{"count":1%s}`, ""},
	} {
		var pages []string
		more := ""
		for {
			args := strings.Replace(fmt.Sprintf(c.args, more), "{,", "{", 1)
			got := w.ask(t, c.who, c.path, args)
			pages = append(pages, got.ids(t, "results"))
			if got.fields["next_marker"] == nil || len(pages) > 9 {
				break
			}
			more = `,"marker":` + string(got.fields["next_marker"])
		}
		if got := strings.Join(pages, " > "); got != c.want {
			t.Errorf("%s %s %s: %s, want %s", c.who, c.path, c.args, got, c.want)
		}
	}
}

// TestDirectory_Scans: a filter that finds little is answered in bounded steps, and all of it is found in the end.
func TestDirectory_Scans(t *testing.T) {
	w := newWorld(t)
	for i := range 3000 {
		w.put(&protocol.User{ID: protocol.UserID(fmt.Sprintf("U1%06d", i)), TeamID: t1, Name: fmt.Sprintf("n%06d", i), IsAppUser: i%700 == 699})
	}
	var all []string
	more := ""
	for pages := 0; ; pages++ {
		if pages > 50 {
			t.Fatal("it does not end")
		}
		w.count("list")
		got := w.ask(t, ada, "users/list", `{"count":3,"filter":"apps"`+more+`}`)
		if n := w.count("list"); n > maxScan {
			t.Errorf("%d loads for one query", n)
		}
		all = append(all, strings.Fields(got.ids(t, "results"))...)
		if got.fields["next_marker"] == nil {
			break
		}
		more = `,"marker":` + string(got.fields["next_marker"])
	}
	slices.Sort(all)
	if len(all) != 4 || len(slices.Compact(all)) != 4 {
		t.Errorf("found %v", all)
	}
}

func TestUsersCounts(t *testing.T) {
	w := newWorld(t)
	if got := w.ask(t, ada, "users/counts", `{"channel":"C0000001"}`); string(got.Body) != `{"channel":"C0000001","counts":{"everyone":4,"people":3,"members":3,"guests":0,"bots":1,"apps":0,"by_team":{"T0000001":4}},"ok":true}` {
		t.Errorf("got %s", got.Body)
	}
	for i := range 3000 {
		u := &protocol.User{ID: protocol.UserID(fmt.Sprintf("U1%06d", i)), TeamID: t1, IsBot: i%10 == 1, IsRestricted: i%10 == 2, IsAppUser: i%10 == 3, Deleted: i%10 == 4}
		w.put(u)
		w.seat(&protocol.Channel{ID: random}, u.ID, nil)
	}
	w.seat(&protocol.Channel{ID: random}, sam, nil)
	const want = `{"channel":"C0000002","counts":{"everyone":2702,"people":2102,"members":1802,"guests":300,"bots":300,"apps":300,"by_team":{"T0000001":2701,"T0000002":1}},"ok":true}`
	for range 2 {
		if got := w.ask(t, ada, "users/counts", `{"channel":"C0000002"}`); string(got.Body) != want {
			t.Errorf("large: %s", got.Body)
		}
	}
	if n := w.count("objects"); n > 5 {
		t.Errorf("%d loads of objects", n)
	}
	// Without a directory, and far too large: only how many.
	w.set(func() { w.maxTotal = maxSetPages*protocol.MaxMembersLimit + 1 })
	if got := w.ask(t, eve, "users/counts", `{"channel":"C0000002"}`); string(got.fields["counts"]) != `{"everyone":1000001}` {
		t.Errorf("too large: %s", got.Body)
	}
}

func TestMembership(t *testing.T) {
	w := newWorld(t)
	const ask = `"users":["U0000001","U0000003","U0000001","U0000008","x","U0000002","C0000001"]}`
	for _, c := range [][3]string{{string(general), "U1 U2", "U3 U8 x C1"}, {string(random), "U2", "U1 U3 U8 x C1"}, {string(shared), "U1 U8", "U3 x U2 C1"}} {
		got := w.ask(t, ada, "channels/membership", `{"channel":"`+c[0]+`",`+ask)
		if got.ids(t, "members") != c[1] || got.ids(t, "non_members") != c[2] || string(got.fields["channel"]) != `"`+c[0]+`"` {
			t.Errorf("%s", got.Body)
		}
	}
	if got := w.ask(t, ada, "channels/membership", `{"channel":"C0000001"}`); string(got.Body) != `{"channel":"C0000001","ok":true}` {
		t.Errorf("nobody: %s", got.Body)
	}
}

// TestMembership_SetTooLarge: a channel whose set is not kept is asked page by page, or person by person, and is not
// tried in vain at every read.
func TestMembership_SetTooLarge(t *testing.T) {
	w := newWorld(t)
	w.set(func() { w.maxTotal = maxSetPages*protocol.MaxMembersLimit + 1 })
	w.ask(t, ada, "channels/membership", `{"channel":"C0000001","users":["U0000001","U0000003"]}`)
	w.count("members")

	got := w.ask(t, ada, "channels/membership", `{"channel":"C0000001","users":["U0000001","U0000003"]}`)
	if got.ids(t, "members") != "U1" || got.ids(t, "non_members") != "U3" || w.count("members") != 2 {
		t.Errorf("singly: %s", got.Body)
	}
	got = w.ask(t, ada, "channels/membership", `{"channel":"C0000001","users":["U0000008","U0000001","U0000003","U0000006","U0000004"]}`)
	if got.ids(t, "members") != "U1 U6 U4" || got.ids(t, "non_members") != "U8 U3" || w.count("members") != 1 {
		t.Errorf("by the page: %s", got.Body)
	}
	if got := w.call(t, ada, "conversations.members", "channel", string(general), "limit", "2"); got.ids(t, "members") != "U1 U2" {
		t.Errorf("members: %s", got.Body)
	}
}
