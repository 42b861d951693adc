// Package query answers reads: who a token is, the boot, the Web API methods that the cache can answer, and the edge
// query API. It is called by edge (for clients) and by fanout (may this user hear that event), and calls cache and,
// through Loader, the backend.
//
// Every read goes the same way: identity, user state (loaded and followed on first use), objects from the cache, the
// missing ones in one batched load, visibility, and an answer that is put together by appending cached bodies. Nothing
// leaves the package without having passed visible.go.
//
// Promises: an answer is never older than what the user was served before (loads ask for the cache's own position, and
// past the cache for the position of the user's last write). While the backend is away, what is cached is served and
// marked stale; what needs permission that cannot be checked, and what is not cached, is CodeUnavailable with a time to
// try again. Errors are *protocol.Error, or ErrForward.
//
// Loads run detached from the caller that started them, so that one client's hanging up fails nobody else; they are
// bounded in number and time, and Close waits for them.
package query
