//go:build !linux

package edge

import "syscall"

func deferAccept(_, _ string, _ syscall.RawConn) error { return nil }
