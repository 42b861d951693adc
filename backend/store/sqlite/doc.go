// Package sqlite keeps the reference backend in one SQLite file, in pure Go (modernc.org/sqlite), in WAL mode with full
// synchronisation: what Update returned is on disk.
//
// Reads run on a pool of connections, each View in one deferred transaction, so on one snapshot. Writes run on a single
// connection, in one goroutine: it takes the Updates that wait, runs each within a savepoint of one transaction and
// commits them together, so that a burst of writers shares one fsync. Positions are given per Update, in commit order.
//
// Objects of all kinds are one table; their bodies are what clients get, byte for byte. Channels have a second, narrow
// table for what is asked of them without a body. Memberships are clustered by channel, with an index by user.
package sqlite
