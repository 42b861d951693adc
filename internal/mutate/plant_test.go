package main

import (
	"go/parser"
	"go/token"
	"testing"
)

// TestPatch keeps the lists in step with the product: what is not found is not planted, and looks as if it were caught to
// nobody but who runs the suite, which takes too long for every change.
func TestPatch(t *testing.T) {
	for name, s := range suites {
		for i := range s.mutations {
			m := &s.mutations[i]
			files, err := m.patch("../..")
			if err != nil {
				t.Errorf("%s: %q: %v", name, m.name, err)
			}
			for file, text := range files {
				if _, err := parser.ParseFile(token.NewFileSet(), file, text, parser.SkipObjectResolution); err != nil {
					t.Errorf("%s: %q: %v", name, m.name, err)
				}
			}
		}
	}
}
