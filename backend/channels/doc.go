// Package channels is the backend's hub: it hears of every commit, keeps the last minutes of events in memory, and
// hands events to whoever follows their topics: the streams of edges (gateway) and the sockets of clients (rtm).
//
// Order: a subscriber's queue is filled under the hub's lock in commit order, so events of one topic arrive in seq order.
//
// Handover: a subscription names a place (a position, a seq, or "from now"). The hub puts the answer, the replay and
// the start of the live events into the subscriber's queue in one step, under its lock: from memory where memory reaches
// back that far, else from the store as of one snapshot plus what memory has above that snapshot. Nothing is lost and
// nothing comes twice between replay and live. A topic whose events are gone is reset: it goes on from a named place.
//
// A subscriber that does not drain its queue is cut off (ErrSlow) and never waited for. Ephemeral events are dropped
// from its queue before that.
//
// Lock order: Hub.mu, then Subscriber.mu. Whoever publishes may hold a lock of their own meanwhile (presence does).
// The package starts no goroutines.
package channels
