// Package suite holds the tests that span the house: one suite of behaviours, run with an unmodified client library
// through an edge and straight at the backend, which must be equal in both.
package suite
