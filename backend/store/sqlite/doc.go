// Package sqlite keeps the reference backend in one SQLite file, in pure Go (modernc.org/sqlite), in WAL mode with full
// synchronisation: what Update returned is on disk. The file is its owner's only.
//
// # Transactions
//
// Reads run on a pool of connections, each View in one deferred transaction, so on one snapshot from its first read on.
// A View never waits for a writer, nor a writer for a View; a View that lasts for minutes keeps the log beside the
// database from being taken back, so it grows meanwhile.
//
// Writes run on a single connection that one goroutine owns. It takes the Updates that wait, runs each within a
// savepoint of one transaction and commits them together, so that a burst of writers shares an fsync. An Update that
// fails rolls its own savepoint back and takes no position. Positions and seqs are given while an Update runs, so they
// are those of the commit order; OnCommit is called by the writer after the commit and before the Updates return. If
// the commit itself fails, all of the Updates in it fail, and no position was used.
//
// # Tables
//
// Objects of all kinds are one table. Their bodies are what clients get, byte for byte; what lists filter by and
// look-ups go by has columns, filled from protocol.Shape's Object and Entry, so that no query looks into a body. A
// tombstone is an object that is buried: its version is what is left. A name is unique within workspace and kind by a
// partial index on handle, archived and deactivated ones included; DMs, group DMs and bots have none.
//
// Channels have a second, narrow table for what a boot asks of hundreds of them without a body: type, version, newest
// message, number of members. Memberships are clustered by channel (pages of members are read in order) with an index
// by user (a boot). Mention counts and markers are columns of the membership, moved by each message, so that a boot
// counts nothing; the price is that @everyone writes a row for each member (13 ms for 10,000). Messages are clustered
// by channel and timestamp, so that a page of history is a few neighbouring pages of the file. DMs and group DMs are
// found by a key made of their sorted members. Reactions, pins and mentions go with their message by foreign keys.
//
// The log is a table clustered by position with an index by topic and seq; topics keeps the head of each, which
// outlives what Prune forgets.
//
// # Load
//
// A Load is one transaction, so a crash leaves nothing of it. Members of a channel that it has just made are gathered
// and written by hundreds, and the large secondary indexes are dropped and built anew at the end. memberships.user has
// no foreign key, because looking each of millions up takes longer than writing them: AddMember checks it in code.
package sqlite
