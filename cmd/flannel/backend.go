package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"flannel/backend"
	"flannel/backend/store"
	"flannel/node"
)

func newBackend(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backend",
		Short: "Run the reference chat backend alone",
		Long: `Run the reference chat backend: Web API and RTM on one listener, the upstream contract for edges on another, metrics and
health on a third. The data folder needs a workspace: flannel generate or flannel import.`,
		Example: `  flannel generate --data ./data --preset 530
  flannel backend --data ./data
  flannel backend --data ./data --upstream-listen 127.0.0.1:9090 --log-level debug`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := a.config(flagKeys(cmd, map[string]string{
				"data": "backend.data", "listen": "backend.listen", "admin-listen": "backend.admin_listen",
				"upstream-listen": "backend.upstream_listen", "upstream-key": "backend.upstream_key",
			}))
			if err != nil {
				return err
			}
			if err := checkFree(map[string]string{"listen": cfg.Backend.Listen, "admin-listen": cfg.Backend.AdminListen, "upstream-listen": cfg.Backend.UpstreamListen}); err != nil {
				return err
			}
			reg := newRegistry(cfg)
			b, err := backend.New(backend.Options{Config: cfg.Backend, Log: log.With("component", "backend"), Registerer: reg})
			if err != nil {
				return err
			}
			if err := furnished(cmd.Context(), b.Store(), cfg.Backend.Data); err != nil {
				return errors.Join(err, stopWithin(b.Stop, cfg.Node.StopTimeout))
			}
			servers := []server{b}
			admin, err := node.NewAdmin(node.AdminConfig{Listen: cfg.Backend.AdminListen}, reg, func() error { return nil }, log)
			if err != nil {
				return errors.Join(err, stopWithin(b.Stop, cfg.Node.StopTimeout))
			}
			args := []any{"backend", b.Addr(), "upstream", b.UpstreamAddr()}
			if admin != nil {
				servers = append(servers, admin)
				args = append(args, "admin", admin.Addr())
			}
			return serve(cmd.Context(), cfg.Node.StopTimeout, announce(log, "backend is listening", args...), servers...)
		},
	}
	cmd.Flags().String("data", "", "data folder with a workspace (default data)")
	cmd.Flags().String("listen", "", "address of Web API and RTM (default 127.0.0.1:8081)")
	cmd.Flags().String("admin-listen", "", "address of metrics, health and pprof (default 127.0.0.1:8083)")
	cmd.Flags().String("upstream-listen", "", "address of the upstream contract (default 127.0.0.1:8090)")
	cmd.Flags().String("upstream-key", "", "service key that edges must show (default: made, and kept in DATA/upstream.key)")
	return cmd
}

// furnished says what to do if a data folder has no workspace: there is no way to make one through a running backend.
func furnished(ctx context.Context, st store.Store, data string) error {
	return st.View(ctx, func(r store.Reader) error {
		workspaces, err := r.Workspaces()
		if err == nil && len(workspaces) == 0 {
			err = fmt.Errorf("there is no workspace in %q; make one with flannel generate --data %s, or flannel import", data, data)
		}
		return err
	})
}
