//go:build !linux

package load

import "errors"

// loop needs epoll and timerfd.
type loop struct{}

func newLoop(func(*Report) error) (*loop, error) {
	return nil, errors.New("this load needs Linux: its generator is an epoll loop, and the server is measured in /proc")
}

func (*loop) run(<-chan Command) error { return nil }
func (*loop) nudge()                   {}
func (*loop) close() error             { return nil }
