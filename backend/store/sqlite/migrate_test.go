package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pressly/goose/v3"

	"flannel/backend/store"
	"flannel/protocol"
)

// A store from before searches has words after it was opened once.
func TestOpen_OlderStoreLearnsToSearch(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "old.db")
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		t.Fatal(err)
	}
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, sub)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(ctx, 1); err != nil {
		t.Fatal(err)
	}
	const users = 2*wordsStep + 7
	for i := range users {
		_, err := db.ExecContext(ctx, "INSERT INTO objects (id, kind, workspace, version, listed, name, real_name, sort_name, email, body) VALUES (?, 'user', 'T1', 1, 1, ?, ?, ?, ?, '{}')",
			fmt.Sprintf("U%04d", i), fmt.Sprint("n", i), "Zoë Example", "zoe example", fmt.Sprintf("n%d@example.org", i))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	st, err := Open(ctx, Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for query, want := range map[string]int{"zoe": users, "N2006 zoe": 1, "n0": 1, "org exam": users, "other": 0} {
		err := st.View(ctx, func(r store.Reader) error {
			req := protocol.ListRequest{Workspace: "T1", Kind: protocol.KindUser, Order: protocol.ByName, Query: query, Limit: protocol.MaxListLimit}
			var ids []protocol.ObjectID
			for {
				entries, next, err := r.List(req)
				if err != nil {
					return err
				}
				for _, e := range entries {
					ids = append(ids, e.ID)
				}
				if req.Cursor = next; next == "" {
					break
				}
			}
			if len(ids) != want || !slices.IsSorted(ids) {
				t.Errorf("%q: %d found, want %d", query, len(ids), want)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
