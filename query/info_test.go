package query

import (
	"fmt"
	"strings"
	"testing"

	"flannel/protocol"
)

func TestUsersInfo(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		args                     string
		results, failed, pending string
	}{
		"unknown version":   {`{"updated_ids":{"U0000001":0,"U0000002":5}}`, "U1 U2", "", ""},
		"current version":   {`{"updated_ids":{"U0000001":100}}`, "", "", ""},
		"newer than ours":   {`{"updated_ids":{"U0000001":101}}`, "U1", "", ""},
		"nonsense version":  {`{"updated_ids":{"U0000001":1e3}}`, "U1", "", ""},
		"absent":            {`{"updated_ids":{"U7777777":0,"U0000002":0}}`, "U2", "U7777777", ""},
		"no user":           {`{"updated_ids":{"C0000001":0,"x":0,"":0,"B0000001":0}}`, "", "C1 x  B1", ""},
		"escaped id":        {`{"updated_ids":{"\u0055000000\u0031":0}}`, "U1", "", ""},
		"stranger sharing":  {`{"updated_ids":{"U0000008":0}}`, "U8", "", ""},
		"stranger apart":    {`{"updated_ids":{"U0000009":0}}`, "", "U9", ""},
		"deactivated":       {`{"updated_ids":{"U0000005":0}}`, "U5", "", ""},
		"nothing":           {`{}`, "", "", ""},
		"null":              {`{"updated_ids":null}`, "", "", ""},
		"no body":           {``, "", "", ""},
		"unknown arguments": {`{"include_profile_only_users":true,"token":"x","updated_ids":{}}`, "", "", ""},
	} {
		got := w.ask(t, ada, "users/info", c.args)
		if got.ids(t, "results") != c.results || got.ids(t, "failed_ids") != c.failed || got.ids(t, "pending_ids") != c.pending {
			t.Errorf("%s: %s %s", name, got.code, got.Body)
		}
		if c.failed == "" && got.fields["failed_ids"] != nil || got.fields["pending_ids"] != nil {
			t.Errorf("%s: empty arrays are not omitted: %s", name, got.Body)
		}
	}

	t.Run("nothing changed is 24 bytes", func(t *testing.T) {
		if got := w.ask(t, ada, "users/info", `{"updated_ids":{"U0000001":100}}`); string(got.Body) != `{"results":[],"ok":true}` {
			t.Errorf("got %s", got.Body)
		}
	})
	t.Run("strangers say so", func(t *testing.T) {
		got := w.ask(t, ada, "users/info", `{"updated_ids":{"U0000008":0}}`)
		if !strings.Contains(string(got.Body), `"is_stranger":true`) {
			t.Errorf("got %s", got.Body)
		}
	})
	t.Run("interaction", func(t *testing.T) {
		got := w.ask(t, ada, "users/info", `{"check_interaction":true,"updated_ids":{"U0000002":100,"U0000005":100,"U0000009":0}}`)
		if string(got.fields["can_interact"]) != `{"U0000002":true,"U0000005":false}` {
			t.Errorf("got %s", got.Body)
		}
	})
}

// TestUsersInfo_LoadsOnlyWhatIsMissing: one batch for all that is missing, and nothing when all is there.
func TestUsersInfo_LoadsOnlyWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	w.ask(t, ada, "users/info", `{"updated_ids":{"U0000002":0}}`)
	w.set(func() { w.calls["objects"], w.asked = 0, nil })

	w.ask(t, ada, "users/info", `{"updated_ids":{"U0000002":0,"U0000004":0,"U0000006":0}}`)

	if fmt.Sprint(w.asked) != "[U0000004 U0000006]" || w.count("objects") != 1 {
		t.Errorf("asked for %v", w.asked)
	}
	w.ask(t, ada, "users/info", `{"updated_ids":{"U0000002":0,"U0000004":0,"U0000006":0}}`)
	if n := w.count("objects"); n != 0 {
		t.Errorf("%d loads of what was there", n)
	}
}

func TestUsersInfo_SeesEvents(t *testing.T) {
	w := newWorld(t)
	w.ask(t, ada, "users/info", `{"updated_ids":{"U0000002":0}}`)

	w.change(&protocol.User{ID: bob, TeamID: t1, Name: "robert", Updated: 101})

	got := w.ask(t, ada, "users/info", `{"updated_ids":{"U0000002":100}}`)
	if !strings.Contains(string(got.Body), "robert") {
		t.Errorf("got %s", got.Body)
	}
}

func TestChannelsInfo(t *testing.T) {
	w := newWorld(t)
	got := w.ask(t, ada, "channels/info", `{"check_membership":true,"updated_ids":{"C0000001":1000,"C0000002":0,"C0000003":0,"C0000006":0,"D0000001":0}}`)
	if got.ids(t, "results") != "C2 C3 D1" || got.ids(t, "failed_ids") != "C6" || got.ids(t, "member_channels") != "C1 C3 D1" {
		t.Errorf("got %s", got.Body)
	}
	for _, want := range []string{`"is_member":false`, `"last_read":"1500000000.000100"`, `"user":"U0000002","is_member":true,"is_open":true`} {
		if !strings.Contains(string(got.Body), want) {
			t.Errorf("no %s in %s", want, got.Body)
		}
	}
	if got := w.ask(t, ada, "channels/info", `{"updated_ids":{"C0000001":1000}}`); string(got.Body) != `{"results":[],"ok":true}` {
		t.Errorf("got %s", got.Body)
	}
}

func TestEmojisInfo(t *testing.T) {
	w := newWorld(t)
	got := w.ask(t, ada, "T0000001/emojis/info", `{"updated_ids":{"parrot":0,"tada2":4,"nope":0,"":0}}`)
	if got.ids(t, "results") != "parrot" || got.ids(t, "failed_ids") != "nope " {
		t.Errorf("got %q %q %s", got.ids(t, "results"), got.ids(t, "failed_ids"), got.Body)
	}
	if got := w.ask(t, gus, "emojis/info", `{"updated_ids":{"parrot":0}}`); got.ids(t, "failed_ids") != "parrot" {
		t.Errorf("guest got %s", got.Body)
	}
}

func TestUsergroupsInfo(t *testing.T) {
	w := newWorld(t)
	got := w.ask(t, ada, "usergroups/info", `{"ids":["S0000001","S0000001","S0000007","U0000001"]}`)
	if got.ids(t, "results") != "S1" || got.ids(t, "failed_ids") != "U1 S7" {
		t.Errorf("got %s", got.Body)
	}
}

// TestQuery_BadInputs is the table of what clients get wrong on the edge query API.
func TestQuery_BadInputs(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxIDs = 3 })
	long := strings.Repeat("x", maxQuery)
	for _, c := range []struct {
		path, args string
		code       protocol.Code
	}{
		{"users/find", `{}`, protocol.CodeUnknownMethod}, {"users", `{}`, protocol.CodeUnknownMethod}, {"", ``, protocol.CodeUnknownMethod},
		{"users/info/", `{}`, protocol.CodeUnknownMethod}, {"../users/info", `{}`, protocol.CodeTeamNotFound},
		{"T0000002/users/info", `{}`, protocol.CodeTeamNotFound}, {"E0000001/T0000001/users/info", `{}`, protocol.CodeTeamNotFound},
		{"t0000001/users/info", `{}`, protocol.CodeTeamNotFound}, {"a/b/c/users/info", `{}`, protocol.CodeTeamNotFound},
		{"users/info", `{`, protocol.CodeInvalidJSON}, {"users/info", `[]`, protocol.CodeJSONNotObject}, {"users/info", `null`, protocol.CodeJSONNotObject},
		{"users/info", `{"updated_ids":[]}`, protocol.CodeInvalidArgs}, {"users/info", `{"updated_ids":"U1"}`, protocol.CodeInvalidArgs},
		{"users/info", `{"updated_ids":7}`, protocol.CodeInvalidArgs},
		{"users/info", `{"updated_ids":{"U1":"0"}}`, protocol.CodeInvalidArgs}, {"users/info", `{"updated_ids":{"U1":-1}}`, protocol.CodeInvalidArgs},
		{"users/info", `{"updated_ids":{"U1":1.5}}`, protocol.CodeInvalidArgs}, {"users/info", `{"updated_ids":{"U1":{}}}`, protocol.CodeInvalidArgs},
		{"users/info", `{"updated_ids":{"U1":true}}`, protocol.CodeInvalidArgs}, {"users/info", `{"updated_ids":{"U1":1e300}}`, protocol.CodeInvalidArgs},
		{"users/info", `{"updated_ids":{"U1":1,"U2":1,"U3":1,"U4":1}}`, protocol.CodeInvalidArgs},
		{"users/info", `{"check_interaction":"maybe"}`, protocol.CodeInvalidArgs},
		{"users/info", `{"x":"` + long + `"}`, protocol.CodeTooLarge},
		{"channels/info", `{"updated_ids":{"C1":-1}}`, protocol.CodeInvalidArgs}, {"channels/info", `{"check_membership":[]}`, protocol.CodeInvalidArgs},
		{"emojis/info", `{"updated_ids":{"x":{}}}`, protocol.CodeInvalidArgs},
		{"usergroups/info", `{"ids":{}}`, protocol.CodeInvalidArgs}, {"usergroups/info", `{"ids":[1]}`, protocol.CodeInvalidArgs},
		{"usergroups/info", `{"ids":["S1","S2","S3","S4"]}`, protocol.CodeInvalidArgs}, {"usergroups/info", `{"updated_ids":1}`, protocol.CodeInvalidArgs},
		{"channels/membership", `{}`, protocol.CodeChannelNotFound}, {"channels/membership", `{"channel":7}`, protocol.CodeInvalidArgs},
		{"channels/membership", `{"channel":"C0000006"}`, protocol.CodeChannelNotFound}, {"channels/membership", `{"channel":"U0000001"}`, protocol.CodeChannelNotFound},
		{"channels/membership", `{"channel":"C0000001","users":"U1"}`, protocol.CodeInvalidArgs},
		{"channels/membership", `{"channel":"C0000001","users":["U1","U2","U3","U4"]}`, protocol.CodeInvalidArgs},
		{"users/counts", `{"channel":"C0000006"}`, protocol.CodeChannelNotFound},
		{"users/list", `{"count":0}`, protocol.CodeInvalidArgs}, {"users/list", `{"count":-5}`, protocol.CodeInvalidArgs},
		{"users/list", `{"count":1001}`, protocol.CodeInvalidArgs}, {"users/list", `{"count":"ten"}`, protocol.CodeInvalidArgs},
		{"users/list", `{"filter":7}`, protocol.CodeInvalidArgs}, {"users/list", `{"filter":"cats"}`, protocol.CodeInvalidArgs},
		{"users/list", `{"index":"users_by_age"}`, protocol.CodeInvalidArgs}, {"users/list", `{"index":1}`, protocol.CodeInvalidArgs},
		{"users/list", `{"marker":"???"}`, protocol.CodeInvalidCursor}, {"users/list", `{"marker":"e30"}`, protocol.CodeInvalidCursor},
		{"users/list", `{"marker":7}`, protocol.CodeInvalidArgs}, {"users/list", `{"marker":"` + marker{Order: protocol.ByID, ID: "U1"}.String() + `"}`, protocol.CodeInvalidCursor},
		{"users/list", `{"marker":"` + marker{Order: protocol.ByName, ID: "C1"}.String() + `"}`, protocol.CodeInvalidCursor},
		{"users/list", `{"channels":"C1"}`, protocol.CodeInvalidArgs}, {"users/list", `{"channels":["C0000006"]}`, protocol.CodeChannelNotFound},
		{"users/list", `{"channels":["C0000001"],"marker":"` + marker{Order: "age", ID: "U1"}.String() + `"}`, protocol.CodeInvalidCursor},
		{"users/list", `{"channels":["C0000001"],"marker":"` + marker{Order: protocol.ByName, ID: "C1"}.String() + `"}`, protocol.CodeInvalidCursor},
		{"users/search", `{"query":7}`, protocol.CodeInvalidArgs}, {"users/search", `{"query":"` + strings.Repeat("x", protocol.MaxQuery+1) + `"}`, protocol.CodeInvalidArgs},
		{"users/search", `{"count":0}`, protocol.CodeInvalidArgs}, {"users/search", `{"count":101}`, protocol.CodeInvalidArgs},
		{"users/search", `{"filter":"cats"}`, protocol.CodeInvalidArgs}, {"users/search", `{"fuzz":"maybe"}`, protocol.CodeInvalidArgs},
		{"users/search", `{"top_users":"U1"}`, protocol.CodeInvalidArgs}, {"users/search", `{"search_email":[]}`, protocol.CodeInvalidArgs},
		{"users/search", `{"current_channel":{}}`, protocol.CodeInvalidArgs}, {"channels/search", `{"check_membership":3}`, protocol.CodeInvalidArgs},
		{"users/list", `{"channels":["1","2","3","4","5","6","7","8","9","10","11"]}`, protocol.CodeInvalidArgs},
		{"emojis/list", `{"count":-1}`, protocol.CodeInvalidArgs}, {"emojis/list", `{"marker":"` + marker{Order: protocol.ByID, ID: "U1"}.String() + `"}`, protocol.CodeInvalidCursor},
	} {
		if got := w.ask(t, ada, c.path, c.args); got.code != c.code {
			body := ""
			if got.Reply != nil {
				body = string(got.Body)
			}
			t.Errorf("%s %.80s: %q %s, want %s", c.path, c.args, got.code, body, c.code)
		}
	}
}

func TestQuery_Paths(t *testing.T) {
	w := newWorld(t)
	w.set(func() {
		id := w.roles[ada]
		id.Enterprise = "E0000001"
		id.Workspaces = []protocol.WorkspaceID{t1, "T0000007"}
		w.roles[ada] = id
	})
	for path, want := range map[string]string{
		"users/info": "U1", "T0000001/users/info": "U1", "T0000007/users/info": "U1", "E0000001/users/info": "U1",
		"E0000001/T0000001/users/info": "U1", "E0000001/T0000002/users/info": "!team_not_found", "E0000002/T0000001/users/info": "!team_not_found",
		"T0000001/T0000001/users/info": "!team_not_found",
	} {
		if got := w.ask(t, ada, path, `{"updated_ids":{"U0000001":0}}`); got.ids(t, "results") != want {
			t.Errorf("%s: %s", path, got.ids(t, "results"))
		}
	}
}
