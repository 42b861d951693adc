//go:build !linux

package poll

import (
	"errors"
	"syscall"
)

// Supported reports whether New works on this system.
const Supported = false

// Poller waits for sockets.
type Poller struct{}

// Handler is told that its socket is readable or that its peer is gone.
type Handler interface{ Readable(buf []byte) }

// Socket is a place in a poller.
type Socket struct{}

// New returns an error: there is no poller for this system.
func New(int) (*Poller, error) { return nil, errors.ErrUnsupported }

// Add returns an error.
func (*Poller) Add(syscall.Conn, Handler) (Socket, error) { return Socket{}, errors.ErrUnsupported }

// Rearm returns an error.
func (*Socket) Rearm() error { return errors.ErrUnsupported }

// Remove does nothing.
func (*Socket) Remove() {}

// Len returns 0.
func (*Poller) Len() int { return 0 }

// Close does nothing.
func (*Poller) Close() error { return nil }

// Attempt writes without waiting.
type Attempt struct{}

// Write returns an error.
func (*Attempt) Write(syscall.RawConn, []byte) (int, error) { return 0, errors.ErrUnsupported }
