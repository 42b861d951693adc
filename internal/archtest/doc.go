// Package archtest holds the tests that keep the code true to docs/architecture.md: which folder may import which, which
// folders exist, and that no test sleeps. It has no code of its own.
//
// The tests read the files with os.ReadFile and go/parser. `go list` would be shorter, but the test cache does not know
// what another process reads and would go on reporting an old success.
package archtest
