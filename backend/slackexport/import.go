package slackexport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// Options of an import.
type Options struct {
	// Progress, if set, is told how many conversations of how many are done.
	Progress func(phase string, done, total int)
}

// Summary says what was new, what was there already, and what was left out and why.
type Summary struct {
	Workspace protocol.WorkspaceID `json:"workspace"`
	Users     int                  `json:"users"`
	Bots      int                  `json:"bots"`
	Channels  int                  `json:"channels"` // public
	Private   int                  `json:"private_channels"`
	Groups    int                  `json:"group_dms"`
	Direct    int                  `json:"dms"`
	Messages  int                  `json:"messages"`
	Replies   int                  `json:"replies"` // of the messages
	Reactions int                  `json:"reactions"`
	Pins      int                  `json:"pins"`
	// Unchanged counts everything that an earlier import had brought already.
	Unchanged int       `json:"unchanged"`
	Skipped   []Skipped `json:"skipped"`
	// MoreSkipped counts what was skipped beyond the first maxSkipped.
	MoreSkipped int `json:"more_skipped,omitempty"`
}

// Skipped is a file, or an element of one, that could not be imported.
type Skipped struct {
	File   string `json:"file"`
	Reason string `json:"reason"`
}

// maxSkipped bounds the list in the summary: enough to see a pattern.
const maxSkipped = 1000

// Print writes the summary for people.
func (s *Summary) Print(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "workspace %s: %d users, %d bots, %d channels, %d private channels, %d group DMs, %d DMs\n", s.Workspace, s.Users, s.Bots, s.Channels, s.Private, s.Groups, s.Direct)
	fmt.Fprintf(&b, "%d messages (%d replies), %d reactions, %d pins; %d things were there already\n", s.Messages, s.Replies, s.Reactions, s.Pins, s.Unchanged)
	for _, k := range s.Skipped {
		fmt.Fprintf(&b, "skipped %s: %s\n", k.File, k.Reason)
	}
	if s.MoreSkipped > 0 {
		fmt.Fprintf(&b, "and %d more\n", s.MoreSkipped)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Import reads the archive at name (a zip file or a folder) into the store, in one transaction. Importing the same
// archive again changes nothing.
func Import(ctx context.Context, st store.Store, name string, opt Options) (*Summary, error) {
	im := &importer{ctx: ctx, opt: opt, summary: &Summary{Skipped: []Skipped{}}, users: make(map[protocol.UserID]bool), now: time.Now()}
	a, err := openArchive(name, im.skip)
	if err != nil {
		return nil, fmt.Errorf("import %q: %w", name, err)
	}
	defer a.close() //nolint:errcheck // Only read.
	im.archive = a
	err = st.Load(ctx, func(tx store.Tx) error {
		im.tx = tx
		if err := im.importUsers(); err != nil {
			return err
		}
		return im.importConversations()
	})
	if err != nil {
		return nil, fmt.Errorf("import %q: %w", name, err)
	}
	return im.summary, nil
}

// importer is used by one goroutine.
type importer struct {
	ctx     context.Context // Import's own: an importer lives no longer
	opt     Options
	tx      store.Tx
	archive *archive
	summary *Summary
	users   map[protocol.UserID]bool // those in the store
	bots    map[protocol.BotID]bool  // those seen in this archive
	now     time.Time
}

func (im *importer) skip(file string, err error) {
	if len(im.summary.Skipped) >= maxSkipped {
		im.summary.MoreSkipped++
		return
	}
	im.summary.Skipped = append(im.summary.Skipped, Skipped{File: file, Reason: err.Error()})
}

// put writes an object unless it is there as it is. make builds it with a version. It reports whether it was new.
func (im *importer) put(id protocol.ObjectID, first protocol.Version, unit time.Duration, build func(protocol.Version) protocol.Shape) (bool, error) {
	known, err := im.tx.Object(id)
	if errors.Is(err, store.ErrNotFound) {
		return true, im.tx.Put(build(max(first, 1)))
	}
	if err != nil {
		return false, err
	}
	if same := build(known.Version).Object(); bytes.Equal(same.Body, known.Body) {
		im.summary.Unchanged++
		return false, nil
	}
	return false, im.tx.Put(build(store.NextVersion(known.Version, im.now, unit)))
}
