package protocol

import (
	"slices"
	"testing"
)

func TestSearchWords(t *testing.T) {
	for text, want := range map[string][]string{
		"":                             nil,
		" .,-_@ ":                      nil,
		"Zoë O'Neil zoe.oneil@EXAMPLE": {"zoe", "o", "neil", "oneil", "example"},
		"ann ANN Ánn":                  {"ann"},
		"person_12 c3-po":              {"person", "12", "c3", "po"},
		"Łukasz Straße İstanbul":       {"łukasz", "straße", "istanbul"},
		"山田 太郎 テスト":                    {"山田", "太郎", "テスト"},
		"x\xffy":                       {"x", "y"},
	} {
		if got := SearchWords(text); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestListEntry_Matches(t *testing.T) {
	e := ListEntry{Name: "asmith", RealName: "Ann Smith", DisplayName: "Annie", SortName: "annie", Email: "ann.smith@example.com"}
	for query, want := range map[string]bool{
		"": true, "!": true, "a": true, "ann": true, "ANNIE": true, "smi an": true, "asm": true, "exam": true, "ann.smith@ex": true,
		"nn": false, "smithe": false, "ann jones": false, "mith": false,
	} {
		if got := e.Matches(SearchWords(query)); got != want {
			t.Errorf("%q: %v", query, got)
		}
	}
}
