package main

import (
	"net"
	"net/http"
	"runtime"

	"github.com/spf13/cobra"

	"flannel/bench/reference"
)

// newBenchReference is the reference server, which bench starts itself.
func newBenchReference(a *app) *cobra.Command {
	bootBytes := defaultBootBytes
	cmd := &cobra.Command{
		Use:     "reference",
		Short:   "The server that flannel bench --compare compares with",
		Example: "  flannel bench reference",
		Hidden:  true,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg := LogConfig{Level: "info", Format: "json"}
			log, err := newLogger(cfg, a.stderr)
			if err != nil {
				return err
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer ln.Close() //nolint:errcheck // The process ends.
			admin, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer admin.Close() //nolint:errcheck // As above.
			collected := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { runtime.GC() })
			serving := make(chan error, 2)
			go func() { serving <- http.Serve(admin, collected) }() //nolint:gosec // Only bench asks.
			server := reference.New(reference.Config{IDs: objectIDs(), ObjectBytes: objectBytes, BootBytes: bootBytes})
			go func() { serving <- server.Serve(ln) }()
			log.InfoContext(cmd.Context(), "reference server is listening", "reference", ln.Addr().String(), "admin", admin.Addr().String())
			select {
			case err := <-serving:
				return err
			case <-cmd.Context().Done():
				return nil
			}
		},
	}
	cmd.Flags().IntVar(&bootBytes, "boot-bytes", bootBytes, "how much somebody is told who boots")
	return cmd
}

// defaultBootBytes is what a thin boot with 100 channels is long.
const defaultBootBytes = 63_000
