package protocol

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestKindOf(t *testing.T) {
	for id, want := range map[ObjectID]Kind{
		"U1": KindUser, "W1": KindUser, "C1": KindChannel, "G1": KindChannel, "D1": KindChannel, "B1": KindBot,
		"S1": KindUsergroup, "T1": KindWorkspace, EmojiID("T1", "tada"): KindEmoji, "E1": "", "X1": "", "": "", "U": "",
		"u1": "", "U1-": "", "../etc": "", ObjectID("U" + strings.Repeat("1", MaxIDLength)): "",
	} {
		if got := KindOf(id); got != want {
			t.Errorf("KindOf(%q) = %q, want %q", id, got, want)
		}
	}
	if w, name, ok := EmojiName("T1/emoji/a/emoji/b"); w != "T1" || name != "a/emoji/b" || !ok {
		t.Error("EmojiName")
	}
	if u, ok := PresenceOf(PresenceTopic("U1")); u != "U1" || !ok {
		t.Error("PresenceOf")
	}
	if _, ok := PresenceOf("U1"); ok {
		t.Error("PresenceOf of another topic")
	}
}

func TestTS(t *testing.T) {
	for ts, want := range map[TS]bool{"1500000000.000100": true, "": false, "1500000000000100.": false, "1500000000.00010x": false, ZeroTS: true} {
		if ts.Valid() != want {
			t.Errorf("Valid(%q) = %v", ts, !want)
		}
	}
	if TS("").OrZero() != ZeroTS || TS("x").OrZero() != "x" {
		t.Error("OrZero")
	}
}

func TestCloseCode(t *testing.T) {
	names := map[string]bool{}
	for _, c := range CloseCodes() {
		if names[c.String()] || c.String() == "other" {
			t.Errorf("%d has name %q", c, c)
		}
		names[c.String()] = true
	}
	if CloseCode(4999).String() != "other" {
		t.Error("unknown code")
	}
}

// TestShapes_Envelopes is the table of who is covered by what and seen by whom.
func TestShapes_Envelopes(t *testing.T) {
	here := []WorkspaceID{"T1"}
	for name, c := range map[string]struct {
		shape Shape
		topic Topic
		vis   Visibility
	}{
		"user":           {&User{ID: "U1", TeamID: "T1"}, "T1", Visibility{Workspaces: here, Sharing: true}},
		"bot":            {&Bot{ID: "B1", TeamID: "T1"}, "T1", Visibility{Workspaces: here, Sharing: true}},
		"emoji":          {&Emoji{Workspace: "T1", Name: "x"}, "T1", Visibility{Workspaces: here}},
		"usergroup":      {&Usergroup{ID: "S1", TeamID: "T1"}, "T1", Visibility{Workspaces: here}},
		"workspace":      {&Workspace{ID: "T1"}, "T1", Visibility{Workspaces: here, Sharing: true}},
		"public channel": {&Channel{ID: "C1", ContextTeamID: "T1", IsChannel: true}, "T1", Visibility{Channel: "C1", Workspaces: here}},
		"shared channel": {&Channel{ID: "C1", ContextTeamID: "T1", IsShared: true, SharedTeamIDs: []WorkspaceID{"T1", "T2"}}, "C1", Visibility{Channel: "C1", Workspaces: []WorkspaceID{"T1", "T2"}}},
		"private":        {&Channel{ID: "C1", ContextTeamID: "T1", IsPrivate: true}, "C1", Visibility{Channel: "C1"}},
		"group DM":       {&Channel{ID: "G1", ContextTeamID: "T1", IsPrivate: true, IsMPIM: true}, "G1", Visibility{Channel: "G1"}},
		"DM":             {&Channel{ID: "D1", ContextTeamID: "T1", IsIM: true}, "D1", Visibility{Channel: "D1"}},
	} {
		o := c.shape.Object()
		if o.Topic != c.topic || !reflect.DeepEqual(o.Visibility, c.vis) || o.Owner != "T1" {
			t.Errorf("%s: %+v", name, o)
		}
		if e := c.shape.Entry(); e.ID != o.ID || e.Version != o.Version {
			t.Errorf("%s: entry %+v of object %s", name, e, o.ID)
		}
		if KindOf(o.ID) != o.Kind || !slices.Contains(Kinds, o.Kind) {
			t.Errorf("%s: kind %s of %s", name, o.Kind, o.ID)
		}
		if !json.Valid(o.Body) {
			t.Errorf("%s: body %s", name, o.Body)
		}
	}
}

func TestRoles(t *testing.T) {
	for want, u := range map[Role]User{RoleBot: {IsBot: true, IsAdmin: true}, RoleGuest: {IsRestricted: true}, RoleAdmin: {IsOwner: true}, RoleMember: {}} {
		if got := u.Role(); got != want || got.Full() == (want == RoleGuest) {
			t.Errorf("role %s, want %s", got, want)
		}
	}
	ultra := User{IsUltraRestricted: true}
	if !ultra.Guest() || Role("").Full() {
		t.Error("guests")
	}
}

func TestEntry_SortName(t *testing.T) {
	for want, u := range map[string]User{
		"ada":  {Profile: Profile{DisplayName: " Äda "}, RealName: "Z", Name: "z"},
		"zoe":  {RealName: "Zoë", Name: "a"},
		"bob1": {Name: "BOB1"},
	} {
		if got := u.Entry().SortName; got != want {
			t.Errorf("sort name %q, want %q", got, want)
		}
	}
}

func TestAppendFields(t *testing.T) {
	for _, c := range [][3]string{
		{`{"a":1}`, `{"b":2}`, `{"a":1,"b":2}`}, {`{}`, `{"b":2}`, `{"b":2}`}, {`{"a":1}`, `{}`, `{"a":1}`}, {`{"a":1}`, ``, `{"a":1}`},
	} {
		if got := string(AppendFields([]byte("x"), []byte(c[0]), []byte(c[1]))); got != "x"+c[2] {
			t.Errorf("AppendFields(%s, %s) = %s", c[0], c[1], got)
		}
	}
	body := ViewChannel(&Membership{Type: TypePublic, LastRead: "1500000000.000100"}).AppendViewer(nil, []byte(`{"id":"C1"}`))
	if string(body) != `{"id":"C1","is_member":true,"last_read":"1500000000.000100"}` {
		t.Errorf("member: %s", body)
	}
	if body := ViewChannel(nil).AppendViewer(nil, []byte(`{"id":"C1"}`)); string(body) != `{"id":"C1","is_member":false}` {
		t.Errorf("stranger: %s", body)
	}
	if body := ViewChannel(&Membership{Type: TypeDM, Peer: "U2"}).AppendViewer(nil, []byte(`{"id":"D1"}`)); string(body) != `{"id":"D1","user":"U2","is_member":true,"is_open":false,"last_read":"0000000000.000000"}` {
		t.Errorf("dm: %s", body)
	}
}

func TestMarshal(t *testing.T) {
	if got, err := Marshal("a<b>&c"); err != nil || string(got) != `"a<b>&c"` {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := Marshal(func() {}); err == nil {
		t.Error("no error for a function")
	}
	defer func() {
		if recover() == nil {
			t.Error("MustMarshal did not panic")
		}
	}()
	MustMarshal(func() {})
}

func TestEachField_StopsAndRefuses(t *testing.T) {
	n := 0
	if !EachField([]byte(`{"a":1,"b":2}`), func(_, _ []byte) bool { n++; return false }) || n != 1 {
		t.Errorf("called %d times", n)
	}
	for _, bad := range []string{``, `[]`, `{`, `{"a"}`, `{"a":`, `{"a":1`, `{"a":1 2}`, `{"a":]}`, `{"a":"x`, `{"a":[`, `{a:1}`, `{"a":"\`} {
		if EachField([]byte(bad), func(_, _ []byte) bool { return true }) {
			t.Errorf("accepted %q", bad)
		}
	}
	if got := Field([]byte(`{"a":1,"b":{"c":[2]}}`), "b"); string(got) != `{"c":[2]}` {
		t.Errorf("Field: %s", got)
	}
	if got := Field([]byte(`{"a":1}`), "z"); got != nil {
		t.Errorf("Field: %s", got)
	}
}

// TestMessage_Extra: what a subtype carries beyond the known fields survives a round trip, and only there.
func TestMessage_Extra(t *testing.T) {
	const odd = `{"type":"message","subtype":"huddle_thread","text":"x","ts":"1500000000.000100","room":{"id":"R1"},"no_notifications":true}`
	var m Message
	if err := json.Unmarshal([]byte(odd), &m); err != nil {
		t.Fatal(err)
	}
	var want, got map[string]any
	if err := json.Unmarshal([]byte(odd), &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(MustMarshal(m), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, plain := range []string{`{"type":"message","text":"x","ts":"1","room":1}`, `{"type":"message","subtype":"other","text":"x","ts":"1"}`} {
		if err := json.Unmarshal([]byte(plain), &m); err != nil || m.Extra != nil {
			t.Errorf("%s: extra %s, %v", plain, m.Extra, err)
		}
	}
	if err := json.Unmarshal([]byte(`{"text":7}`), &m); err == nil {
		t.Error("no error for a wrong type")
	}
	m = Message{Type: "message", Text: "own", Extra: json.RawMessage(`{"text":"theirs","more":1}`)}
	if got := string(MustMarshal(m)); !strings.Contains(got, `"text":"own"`) || !strings.HasSuffix(got, `"more":1}`) || strings.Contains(got, "theirs") {
		t.Errorf("got %s", got)
	}
	m.Extra = json.RawMessage(`[1]`)
	if _, err := Marshal(m); err == nil {
		t.Error("no error for an extra that is no object")
	}
}
