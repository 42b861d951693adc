// Package load is the generator of flannel bench: many connections that cost next to nothing, so that what is measured is
// the server. A worker is one process with one epoll loop; it takes commands as lines of JSON and tells what it counted in
// the same way. A crew is several workers and is what scenarios talk to: more processes are more file descriptors, and
// each has a loopback address of its own, so a machine can hold more connections than one process or one pair of
// addresses has room for.
//
// Websocket frames are read by hand, in place, without copying: three million deliveries a second can be counted on one
// core. Times are from when something should have been done, not from when the generator came to it, wherever there is a
// schedule (connect with a rate, queries with a rate, paced messages): a server that stalls does not stall its own clock.
//
// Who calls Serve owns its goroutine and one more that reads the commands; both end with the commands' end.
package load
