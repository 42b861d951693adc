// Package chat is the rules of the chat product over the store: who may see and do what, and what follows from it. It
// knows nothing of HTTP. Every operation runs in one transaction: it checks the actor's permission, writes, and emits
// the events that tell the rest of the world, so that a change and its events are on disk together or not at all.
//
// Errors that a client may be told are *protocol.Error with the dialect's names; all others are failures of ours.
// What somebody may not see reads as if it were not there.
//
// The order of events in one commit: workspace topic, then user topics, then the channel topic, so that whoever learns
// on their user topic that they are in a channel knows so before the channel's own events arrive.
package chat

import (
	"context"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// Chat does the operations. It is safe for concurrent use and holds no state but the store.
type Chat struct {
	store store.Store
	now   func() time.Time
}

// New returns the rules over st. now is the clock for timestamps and versions.
func New(st store.Store, now func() time.Time) *Chat {
	return &Chat{store: st, now: now}
}

// act is one operation under way: the transaction, who acts, and when.
type act struct {
	tx store.Tx
	*Viewer
	now time.Time
}

// update runs fn in a transaction on behalf of id.
func (c *Chat) update(ctx context.Context, id *protocol.Identity, fn func(a *act) error) (protocol.Position, error) {
	return c.store.Update(ctx, func(tx store.Tx) error {
		return fn(&act{tx: tx, Viewer: NewViewer(tx, id), now: c.now()})
	})
}
