package sqlite

import (
	"context"
	"fmt"

	"flannel/backend/store"
)

// lateIndexes are dropped at the beginning of a Load and built at its end: sorting once is several times faster than
// finding a place for each of millions of rows. Reads by user, by list and by email are slow within a Load therefore;
// neither generate nor import does them.
var lateIndexes = []string{"memberships_user", "objects_kind", "objects_search", "objects_listed", "objects_email"}

// Load implements store.Store.
func (s *Store) Load(ctx context.Context, fn func(store.Tx) error) error {
	_, err := s.submit(ctx, true, func(tx *writeTx) error {
		var later []string
		for _, name := range lateIndexes {
			var def string
			if err := tx.row("SELECT sql FROM sqlite_master WHERE type = 'index' AND name = ?", name).Scan(&def); err != nil {
				return fmt.Errorf("find index %s: %w", name, err)
			}
			later = append(later, def)
			if err := tx.once(ctx, "DROP INDEX "+name); err != nil {
				return err
			}
		}
		if err := fn(tx); err != nil {
			return err
		}
		if err := tx.flush(); err != nil {
			return err
		}
		for _, def := range later {
			if err := tx.once(ctx, def); err != nil { // The caller's context: the one place where a Load is long without fn.
				return fmt.Errorf("build index: %w", err)
			}
		}
		return ctx.Err()
	})
	return err
}

// checkpoint takes the whole log back into the database. It matters after a Load only, which leaves a log as large as
// the database; if it fails the next checkpoint does it.
func (s *Store) checkpoint(ctx context.Context) {
	if _, err := s.conn.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		s.log.WarnContext(ctx, "checkpoint after load failed", "err", err)
	}
}
