// Command flannel is an edge cache proxy for chat backends, with a reference backend bundled.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"flannel/backend"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // what was asked for could not be done
	exitUsage  = 2 // the question was wrong: flags, configuration
	exitUnmet  = 3 // it was measured, and is not what was required
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	cmd := newRoot(&app{environ: environ, stdout: stdout, stderr: stderr})
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	ran, err := cmd.ExecuteContextC(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "flannel: %v\nFor help: %s --help\n", err, ran.CommandPath())
		return exitUsage
	case errors.Is(err, errUnmet):
		fmt.Fprintf(stderr, "flannel: %v\n", err)
		return exitUnmet
	default:
		fmt.Fprintf(stderr, "flannel: %v%s\n", err, advice(err))
		return exitFailed
	}
}

// advice says what to do about errors that the parts below know only the technical side of.
func advice(err error) string {
	switch {
	case errors.Is(err, backend.ErrInUse):
		return "; stop flannel dev or flannel backend on it, or choose another folder with --data (flannel token works beside them)"
	case errors.Is(err, syscall.EADDRINUSE):
		return " (another program listens there)"
	default:
		return ""
	}
}

// usageError is a mistake in the question, not in the work.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }
