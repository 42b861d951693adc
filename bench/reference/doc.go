// Package reference is the server that flannel is compared with: a websocket server as most people would write it with the
// same libraries, and as their examples show it. A goroutine reads from each connection and another one writes to it what
// a channel of 256 brings; buffers are the libraries' own, 4 KiB each; a message is prepared once for all; objects are in a
// sharded map. It does what the load scenarios ask for and nothing else: no identity, no limits, no visibility, no metrics.
// So it is a low bar for what flannel does besides, and a high one for
// what it costs.
//
// Serve owns all goroutines. It is run in a process of its own, by flannel bench.
package reference
