package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"flannel/node"
)

func newEdge(a *app) *cobra.Command {
	var keyFile string
	cmd := &cobra.Command{
		Use:   "edge",
		Short: "Run an edge node in front of a backend",
		Long: `Run an edge node in front of a backend that fulfils the upstream contract (docs/upstream.md): the bundled one or your
own. SIGTERM drains: new clients are refused, old ones are told goodbye, and the command exits with 0. SIGHUP reads the
configuration again and takes its limits over, as flannel admin limits changes them.`,
		Example: `  flannel edge --config flannel.yaml
  flannel edge --upstream http://127.0.0.1:8090 --upstream-key-file ./data/upstream.key
  flannel edge --upstream http://10.0.0.7:9090 --upstream-key KEY --listen :8080
  flannel edge --upstream-key-file ./data/upstream.key --cluster-listen 127.0.0.1:7947 --cluster-seeds 127.0.0.1:7946
  FLANNEL_NODE_UPSTREAM_KEY=KEY flannel edge`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags := flagKeys(cmd, map[string]string{
				"listen": "node.edge.listen", "admin-listen": "node.admin.listen", "upstream": "node.upstream.url", "upstream-key": "node.upstream.key",
				"cluster-listen": "node.cluster.listen", "cluster-seeds": "node.cluster.seeds",
			})
			if keyFile != "" {
				key, err := os.ReadFile(keyFile)
				if err != nil {
					return &usageError{err}
				}
				flags["node.upstream.key"] = strings.TrimSpace(string(key))
			}
			cfg, log, err := a.config(flags)
			if err != nil {
				return err
			}
			if cfg.Node.Upstream.Key == "" {
				return &usageError{errors.New("say the backend's service key: --upstream-key-file DATA/upstream.key, or node.upstream.key")}
			}
			if err := checkFree(map[string]string{"listen": cfg.Node.Edge.Listen, "admin-listen": cfg.Node.Admin.Listen}); err != nil {
				return err
			}
			reg := newRegistry(cfg)
			n, err := node.New(node.Options{Config: cfg.Node, Log: log, Version: buildVersion().Version, Registry: reg})
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg.Node.StopTimeout, announce(log, "edge is listening", "edge", n.Addr(), "admin", n.AdminAddr(), "cluster", n.ClusterAddr()), n, newReloader(a.again(flags), cfg, []*node.Node{n}, reg, log))
		},
	}
	cmd.Flags().String("listen", "", "address for clients (default 127.0.0.1:8080)")
	cmd.Flags().String("admin-listen", "", "address of metrics, health and pprof (default 127.0.0.1:8082)")
	cmd.Flags().String("upstream", "", "base URL of the backend's upstream listener (default http://127.0.0.1:8090)")
	cmd.Flags().String("upstream-key", "", "service key of the backend; everybody on this machine can see it, so better --upstream-key-file")
	cmd.Flags().String("cluster-listen", "", "address of the gossip with other nodes of the region, IP:port (default: the node stands alone)")
	cmd.Flags().String("cluster-seeds", "", "where other nodes are found: IPs or DNS names, with a port if it is not 7946, between commas")
	cmd.Flags().StringVar(&keyFile, "upstream-key-file", "", "file with the service key; flannel backend keeps its own in DATA/upstream.key")
	return cmd
}

// announce returns a step of serve that logs one line.
func announce(log *slog.Logger, msg string, args ...any) func(context.Context) error {
	return func(ctx context.Context) error {
		log.InfoContext(ctx, msg, args...) //nolint:sloglint // The callers' messages are constants.
		return nil
	}
}

// newRegistry returns a registry with what every process shows.
func newRegistry(cfg Config) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsScheduler)), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	v := buildVersion()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "flannel_build_info", Help: "Which flannel this is; always 1.",
		ConstLabels: prometheus.Labels{"version": v.Version, "revision": v.Revision, "goversion": v.Go},
	})
	info.Set(1)
	reg.MustRegister(info)
	hash := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "flannel_config_hash_info", Help: "Which configuration this process runs with; always 1. Processes with the same hash have the same one, keys aside.",
		ConstLabels: prometheus.Labels{"hash": configHash(cfg)},
	})
	hash.Set(1)
	reg.MustRegister(hash)
	return reg
}

// configHash names a configuration in eight digits: enough to see that two nodes differ, too few to guess from. The service
// keys are left out, because who may read metrics may not learn anything about them.
func configHash(cfg Config) string {
	cfg.Node.Upstream.Key, cfg.Backend.UpstreamKey = "", ""
	sum := sha256.Sum256(fmt.Appendf(nil, "%+v", cfg))
	return hex.EncodeToString(sum[:4])
}
