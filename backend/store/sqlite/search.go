package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"flannel/protocol"
)

// searchText is what the words column has: each word behind a space, so that " ann" is found where a word begins so.
func searchText(e *protocol.ListEntry) string {
	words := e.Words()
	if len(words) == 0 {
		return ""
	}
	return " " + strings.Join(words, " ")
}

// plainWords is how many words of a query are looked for one by one; more of them, which nobody types, go over as a list,
// which is slower. So the number of statements is bounded.
const plainWords = 3

// matching returns the condition that an object o has all words of a query, and args with what it refers to.
func matching(words []string, args []any) (string, []any) {
	// Long words first: they are rare, and the rest is looked for only where they are.
	words = slices.SortedFunc(slices.Values(words), func(a, b string) int { return len(b) - len(a) })
	var cond strings.Builder
	for i, w := range words {
		if i == plainWords {
			rest := make([]string, 0, len(words)-plainWords)
			for _, w := range words[plainWords:] {
				rest = append(rest, " "+w)
			}
			args = append(args, string(protocol.AppendStrings(nil, rest)))
			cond.WriteString(" AND NOT EXISTS (SELECT 1 FROM json_each(?" + strconv.Itoa(len(args)) + ") j WHERE instr(o.words, j.value) = 0)")
			break
		}
		args = append(args, " "+w)
		cond.WriteString(" AND instr(o.words, ?" + strconv.Itoa(len(args)) + ") > 0")
	}
	return cond.String(), args
}

// found is ownEntries for a query: it walks over the one index that has the words, with what is asked for in an inner
// query, so that nothing else is read of what does not match. At 148,170 users a walk to the end takes a tenth of a
// second; what is found often is found early.
func found(rest string) string {
	return "FROM (SELECT o.id FROM objects o INDEXED BY objects_search WHERE o.workspace = ?1 AND o.kind = ?2 AND o.listed = 1" + rest +
		") f CROSS JOIN objects o ON o.id = f.id LEFT JOIN channels c ON c.id = o.id"
}

// wordsStep is how many objects fillWords holds in memory at a time.
const wordsStep = 1000

// fillWords gives the objects of an older store their words: migration 3, between 00002_words.sql and 00004_search.sql.
func fillWords(ctx context.Context, tx *sql.Tx) error {
	update, err := tx.PrepareContext(ctx, "UPDATE objects SET words = ? WHERE id = ?")
	if err != nil {
		return err
	}
	defer update.Close() //nolint:errcheck // The transaction ends it too.
	for after := ""; ; {
		entries, err := namesAfter(ctx, tx, after)
		if err != nil || len(entries) == 0 {
			return err
		}
		for i := range entries {
			after = string(entries[i].ID)
			if _, err := update.ExecContext(ctx, searchText(&entries[i]), after); err != nil {
				return fmt.Errorf("fill words of %s: %w", after, err)
			}
		}
	}
}

// namesAfter reads the names of the next objects.
func namesAfter(ctx context.Context, tx *sql.Tx, after string) (entries []protocol.ListEntry, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT id, name, real_name, display_name, sort_name, email FROM objects WHERE id > ? ORDER BY id LIMIT ?", after, wordsStep)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells it.
	for rows.Next() {
		var e protocol.ListEntry
		if err := rows.Scan(&e.ID, &e.Name, &e.RealName, &e.DisplayName, &e.SortName, &e.Email); err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, rows.Err()
}
