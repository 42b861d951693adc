//go:build unix

package main

import "syscall"

// descriptors is how many files this process may have open; 0 if that is not known. Go has raised the soft limit to the
// hard one.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(uint64(limit.Cur), 1<<30)) //nolint:unconvert // Its type differs between systems.
}
