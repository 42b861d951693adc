// Package poll waits for many sockets with a few goroutines, so that an idle socket costs neither a goroutine nor a buffer.
//
// A socket is parked with Add. When it becomes readable, or its peer is gone, its handler runs once on one of the workers,
// which lends it a buffer; it reads what there is and parks the socket again with Rearm. Between the two nobody else reads:
// the kernel's one-shot flag keeps a socket with one handler at a time.
//
// Go's own poller knows the sockets too (they stay net.Conn, writes and deadlines go on as usual); the kernel allows a
// descriptor in several epoll sets. Ours is itself a descriptor in Go's: waiting costs no thread. The workers take turns:
// one waits, takes what is ready, and lets the next one wait while it works (leader and followers, as in Schmidt et al.,
// POSA2).
//
// Supported is true on Linux; elsewhere New returns an error and callers keep a goroutine per socket.
package poll
