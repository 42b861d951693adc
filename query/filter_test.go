package query

import (
	"strings"
	"testing"

	"flannel/cache"
	"flannel/protocol"
)

func TestFilter(t *testing.T) {
	kinds := map[string]traits{"member": 0, "guest": cache.TraitGuest, "bot": cache.TraitBot, "app": cache.TraitApp, "gone": cache.TraitDeactivated, "gonebot": cache.TraitBot | cache.TraitDeactivated}
	names := []string{"member", "guest", "bot", "app", "gone", "gonebot"}
	for text, want := range map[string]string{
		"": "member guest bot app gone gonebot", "  ": "member guest bot app gone gonebot", "everyone": "member guest bot app gone gonebot",
		"people": "member guest gone", "members": "member gone", "guests": "guest", "bots": "bot gonebot", "apps": "app", "deactivated": "gone gonebot",
		"NOT deactivated": "member guest bot app", "everyone AND NOT bots AND NOT apps": "member guest gone", "NOT NOT bots": "bot gonebot",
		"NOT (bots AND deactivated)": "member guest bot app gone", "(people)AND(NOT(guests))": "member gone", "NOT bots AND deactivated": "gone",
	} {
		f, err := parseFilter(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		var got []string
		for _, n := range names {
			if f(kinds[n]) {
				got = append(got, n)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %v, want %s", text, got, want)
		}
	}
	for _, bad := range []string{"cats", "AND", "NOT", "people AND", "people members", "(people", "people)", "()", "everyone OR bots", "not bots", "()people",
		strings.Repeat("(", 40) + "people" + strings.Repeat(")", 40), strings.Repeat("NOT ", 40) + "people", strings.Repeat("x", maxFilter+1), "PEOPLE"} {
		if _, err := parseFilter(bad); protocol.AsError(err).Code != protocol.CodeInvalidArgs || err == nil {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
}

func TestTraits_SameFromEntryAndBody(t *testing.T) {
	for _, u := range []protocol.User{{}, {IsRestricted: true}, {IsUltraRestricted: true}, {IsBot: true}, {IsAppUser: true}, {Deleted: true, IsBot: true}} {
		e := u.Entry()
		if cache.TraitsOf(&e) != traitsOfBody(protocol.MustMarshal(u)) {
			t.Errorf("%+v: %b from the entry, %b from the body", u, cache.TraitsOf(&e), traitsOfBody(protocol.MustMarshal(u)))
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("everyone AND NOT bots AND NOT apps")
	f.Add("NOT (people AND (guests))")
	f.Add("((")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseFilter(text)
		if err != nil {
			if protocol.AsError(err).Code != protocol.CodeInvalidArgs {
				t.Fatal(err)
			}
			return
		}
		again, err := parseFilter("NOT NOT (" + text + ")")
		if strings.TrimSpace(text) == "" || len(text) > maxFilter-10 {
			return
		}
		if err != nil { // nested to the limit already
			return
		}
		for tr := range traits(16) {
			if got(tr) != again(tr) {
				t.Fatalf("%q and its double negation differ for %b", text, tr)
			}
		}
	})
}
