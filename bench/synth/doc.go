// Package synth is a backend with nothing behind it: it speaks the upstream contract (docs/upstream.md) about a made-up
// workspace that it works out from numbers, and publishes as many messages as it is told. Loads put it behind an edge, so
// that what is measured is the edge: the bundled backend writes each message to a disk first, and is done before the edge
// is busy.
//
// It keeps the contract but for two things: it has no log, so a topic that is subscribed to from before its last event
// begins anew (reset), and it takes no writes. Backend's methods may be called from any goroutine; Serve owns all of its
// own.
package synth
