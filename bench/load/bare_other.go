//go:build !linux

package load

import "errors"

// Bare needs epoll.
type Bare struct{}

// NewBare says so.
func NewBare(int) (*Bare, error) { return nil, errors.New("the self-check needs Linux") }

// Address is host:port.
func (*Bare) Address() string { return "" }

// Publish says a message to everybody.
func (*Bare) Publish([]byte) {}

// Close ends everything.
func (*Bare) Close() {}
