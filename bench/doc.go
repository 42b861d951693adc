// Package bench measures flannel from outside: named scenarios with fixed seeds, each through an edge and straight at
// the backend, with a table for people and JSON for machines. It knows addresses and tokens only; who starts the servers
// is the caller's matter.
package bench
