// Package sim holds the simulation: edge nodes, a backend and clients in one process, with fake time (testing/synctest)
// and a faulty network, driven by random operations from a seed. The nodes are the real ones (package node); the backend
// is a small one in memory that keeps its whole history, so that it is also the oracle. docs/simulation.md tells how to
// run it and what it checks. Its code is in its tests; mutate is the program that plants bugs and looks whether the
// simulation finds them.
package sim
