package chat

import (
	"slices"
	"strings"
	"testing"
	"time"

	"flannel/protocol"
)

func TestParseMentions(t *testing.T) {
	for text, want := range map[string]parsed{
		"":                              {},
		"hello":                         {},
		"<@U1>":                         {users: []protocol.UserID{"U1"}},
		"hi <@U1|ann> and <@W2>, <@U1>": {users: []protocol.UserID{"U1", "W2"}},
		"<@C1> <@u1> <@> <@U1":          {},
		"<!channel>":                    {everyone: true},
		"<!here|here> <@U1>":            {everyone: true, users: []protocol.UserID{"U1"}},
		"<!everyone>":                   {everyone: true},
		"!channel &lt;!channel&gt;":     {},
		"<!subteam^S1|@team>":           {groups: []protocol.ObjectID{"S1"}},
		"a < b <@U1>":                   {users: []protocol.UserID{"U1"}}, // clients should escape the first one
		"<<@U1>":                        {users: []protocol.UserID{"U1"}},
	} {
		got := parseMentions(text)
		if got.everyone != want.everyone || !slices.Equal(got.users, want.users) || !slices.Equal(got.groups, want.groups) {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

func TestParseMentions_Bounded(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		b.WriteString("<@U")
		b.WriteString(strings.Repeat("A", 1+i%30))
		b.WriteByte(byte('A' + i%26))
		b.WriteByte(byte('A' + i/26%26))
		b.WriteString(">")
	}
	if n := len(parseMentions(b.String()).users); n != maxMentions {
		t.Errorf("%d mentions, want %d", n, maxMentions)
	}
}

func TestParseTS(t *testing.T) {
	for in, want := range map[string]protocol.TS{
		"":                      "",
		"0":                     "",
		"0000000000.000000":     "",
		"1700000000.000100":     "1700000000.000100",
		"1700000000":            "1700000000.000000",
		"1700000000.5":          "1700000000.500000",
		"1700000000.1234567":    "1700000000.123456",
		" 1700000000.000100 ":   "1700000000.000100",
		"5":                     "0000000005.000000",
		"00000000001700000000.": "1700000000.000000",
	} {
		if got, ok := ParseTS(in); !ok || got != want {
			t.Errorf("%q: %q %v, want %q", in, got, ok, want)
		}
	}
	for _, in := range []string{"x", "-1", "1.-1", ".5", "17000000000", "1e9", "1700000000.00 01", "NaN", "１７"} {
		if got, ok := ParseTS(in); ok {
			t.Errorf("%q was taken for %q", in, got)
		}
	}
	if got := FormatTS(time.Unix(1700000000, 123456789)); got != "1700000000.123456" || !got.Valid() {
		t.Errorf("FormatTS: %q", got)
	}
}

func TestChannelName(t *testing.T) {
	for name, want := range map[string]protocol.Code{
		"a":                     "",
		"general":               "",
		"2026-plans_x":          "",
		"größe":                 "",
		"計画":                    "",
		strings.Repeat("x", 80): "",
		strings.Repeat("ö", 80): "",
		"":                      CodeInvalidNameRequired,
		strings.Repeat("x", 81): CodeInvalidNameMaxLength,
		"-_-":                   CodeInvalidNamePunct,
		"With Capital":          CodeInvalidNameSpecials,
		"#general":              CodeInvalidNameSpecials,
		"a.b":                   CodeInvalidNameSpecials,
		"a b":                   CodeInvalidNameSpecials,
		"a\x00":                 CodeInvalidNameSpecials,
	} {
		err := ChannelName(name)
		if (want == "") != (err == nil) || (err != nil && protocol.AsError(err).Code != want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}

func TestEmojiName(t *testing.T) {
	for _, name := range []string{"tada", "+1", "-1", "man-woman", "thumbsup::skin-tone-2", "o'clock", strings.Repeat("a", 100)} {
		if !emojiName(name) {
			t.Errorf("%q refused", name)
		}
	}
	for _, name := range []string{"", "Tada", "a b", "a::skin-tone-7", "a::skin-tone-", "::skin-tone-2", "a::b", "a/emoji/b", "☃", strings.Repeat("a", 101)} {
		if emojiName(name) {
			t.Errorf("%q taken", name)
		}
	}
}

func TestPost_Check(t *testing.T) {
	list := func(n int) []byte {
		return []byte("[" + strings.TrimSuffix(strings.Repeat(`{"type":"x"},`, n), ",") + "]")
	}
	for name, c := range map[string]struct {
		post Post
		want protocol.Code
	}{
		"text":             {Post{Text: "x"}, ""},
		"40,000 runes":     {Post{Text: strings.Repeat("ö", MaxText)}, ""},
		"40,001 runes":     {Post{Text: strings.Repeat("ö", MaxText+1)}, CodeMsgTooLong},
		"nothing":          {Post{}, CodeNoText},
		"space":            {Post{Text: " \n"}, CodeNoText},
		"empty blocks":     {Post{Blocks: list(0)}, CodeNoText},
		"blocks":           {Post{Blocks: list(50)}, ""},
		"51 blocks":        {Post{Blocks: list(51)}, CodeInvalidBlocks},
		"blocks no list":   {Post{Text: "x", Blocks: []byte(`{}`)}, CodeInvalidBlocks},
		"blocks of null":   {Post{Text: "x", Blocks: []byte(`[null]`)}, CodeInvalidBlocks},
		"broken blocks":    {Post{Text: "x", Blocks: []byte(`[{`)}, CodeInvalidBlocks},
		"101 attachments":  {Post{Attachments: list(101)}, CodeTooManyAttachments},
		"huge blocks":      {Post{Text: "x", Blocks: []byte(`["` + strings.Repeat("x", maxRich) + `"]`)}, CodeMsgBlocksTooLong},
		"long id":          {Post{Text: "x", ClientMsgID: strings.Repeat("x", 129)}, protocol.CodeInvalidArgs},
		"long idempotency": {Post{Text: "x", Key: strings.Repeat("x", 129)}, protocol.CodeInvalidArgs},
	} {
		err := c.post.check()
		if (c.want == "") != (err == nil) || (err != nil && protocol.AsError(err).Code != c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
