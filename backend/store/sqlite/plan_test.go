package sqlite

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// recorder is a store that remembers the statements it had.
type recorder struct {
	*Store
	texts map[string]bool
}

func (r *recorder) Close() error {
	for _, c := range []*stmtCache{&r.readStmts, &r.writeStmts} {
		c.mu.RLock()
		for text := range c.stmts {
			r.texts[text] = true
		}
		c.mu.RUnlock()
	}
	return r.Store.Close()
}

// allowed are the walks over a whole table that are meant: lists of what was asked for or found (f), and partial indexes
// that hold little.
var allowed = regexp.MustCompile(`^SCAN (j VIRTUAL TABLE|f$|CONSTANT ROW|objects USING INDEX objects_workspaces|sqlite_master|\(subquery-)`)

// sorts are the statements that may sort: what they find or keep is a page, or what one person did by hand.
var sorts = regexp.MustCompile(`FROM (shared_channels|pins|json_each\([?]\) j CROSS JOIN reactions) |ORDER BY inactive|INDEXED BY objects_search .* ORDER BY o.id LIMIT`)

var number = regexp.MustCompile(`\?\d`)

// testPlans asks SQLite how it does each of the statements: none may walk over a whole table or sort what could be a
// workspace.
func testPlans(t *testing.T, texts map[string]bool) {
	if len(texts) < 60 {
		t.Fatalf("only %d statements", len(texts))
	}

	st := openNew(t)
	for text := range texts {
		if strings.HasPrefix(text, "INSERT INTO memberships") && strings.Count(text, "(?") > 1 {
			continue // rows to insert, nothing to plan
		}
		n := strings.Count(text, "?")
		if numbered := number.FindAllString(text, -1); len(numbered) > 0 {
			n = int(slices.Max(numbered)[1] - '0')
		}
		rows, err := st.read.QueryContext(context.Background(), "EXPLAIN QUERY PLAN "+text, make([]any, n)...)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(detail, "SCAN") && !allowed.MatchString(detail) || strings.Contains(detail, "TEMP B-TREE") && !sorts.MatchString(text) {
				t.Errorf("%s\n\tin %s", detail, text)
			}
		}
		if err := rows.Err(); err != nil {
			t.Error(err)
		}
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
	}
}
