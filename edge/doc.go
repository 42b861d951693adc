// Package edge is the front door: it terminates clients' HTTP and websockets, and passes what they ask on through the
// doors Queries (reads that the cache answers), Writer (everything else, to the backend) and Hub (who hears what).
//
// A session is one websocket. While it begins it has a goroutine; then, if it is a plain socket on Linux, it is parked
// (package poll): a reactor of a few goroutines reads what comes and writes what waits for all parked sessions, without
// ever waiting for one; what a socket does not take at once gets a goroutine until it has. Other sockets (TLS, other
// systems) keep the goroutine that reads. Reading is Session.reading's, writing is whoever's who set Session.writing, so
// there is one of each at a time. Everybody else puts frames into the session's outbox, which is bounded in
// items and bytes and never blocks: control frames are never dropped (a session that cannot take them is closed), message
// frames that do not fit end the session with CloseSlow, ephemeral frames push out the oldest ephemeral one. Answers to a
// session's own queries are bounded by their number: with SessionQueries of them unwritten, the session is not read on.
//
// Order on a socket: hello, the boot if the client asked for it, then events. A session is attached to the hub before
// its boot is composed, and events that come meanwhile stand behind the boot, so that nothing is lost in between.
package edge
