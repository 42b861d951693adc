// Package cache holds what this node knows of the backend: versioned objects, the private state of users, the member
// sets of channels, and who the bearers of tokens are.
//
// There are two doors. A fill brings the answer to a load, which is true as of a position; an apply brings an event.
// Which of the two wins where they meet is told in docs/coherence.md. In short: what is kept is what no later event can
// have touched, every kept thing hangs on the topic whose events change it, and when events of that topic were lost
// (Reset) or will not come any more (Unfollowed), all that hangs on it is void at once.
//
// Object bodies live in ristretto, which may lose any of them at any time. Everything that coherence needs lives
// outside it: positions, the log of recent events, tombstones, user states, member sets, identities. All of it is
// bounded; see Config.
//
// Apply, Followed, Reset, Unfollowed, Watermark and Live are called from one goroutine. Everything else may be called
// from any goroutine at any time until Close. Reads take no lock that a fill or an event holds for long: objects, users,
// sets and identities are found in sharded or concurrent maps, a user's state is read under its own lock.
//
// Objects are immutable and shared: nobody may change their bytes. Whatever else leaves the package is a copy.
//
// Lock order: Cache.mu, then object shards, then User.mu or Set.mu. Callbacks of ristretto take only a shard's lock, so
// nothing that waits for ristretto is called with one held.
package cache
