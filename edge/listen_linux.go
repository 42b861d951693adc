package edge

import "syscall"

// silentFor is how long, in seconds, the kernel keeps a connection to itself that has said nothing.
const silentFor = 3

// deferAccept lets the kernel hand a connection over when its first bytes are there: who accepts it can read at once, and
// need not be woken a second time; who says nothing costs no descriptor for the first seconds.
func deferAccept(_, _ string, raw syscall.RawConn) error {
	var err error
	if control := raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_DEFER_ACCEPT, silentFor)
	}); control != nil {
		return control
	}
	return err
}
