package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"flannel/backend"
	"flannel/backend/seed"
	"flannel/backend/slackexport"
	"flannel/backend/store"
	"flannel/node"
	"flannel/protocol"
)

// ready is the line that dev prints when clients may come.
type ready struct {
	Ready     bool         `json:"ready"`
	Edge      string       `json:"edge"`
	Backend   string       `json:"backend"`
	Admin     string       `json:"admin"`
	Workspace readyPlace   `json:"workspace"`
	Tokens    []readyToken `json:"tokens"`
	Nodes     []readyNode  `json:"nodes,omitempty"` // with --nodes; the first is also edge and admin
}

type readyNode struct {
	Name   string `json:"name"`
	Edge   string `json:"edge"`
	Admin  string `json:"admin"`
	Gossip string `json:"gossip"`
}

type readyPlace struct {
	ID   protocol.WorkspaceID `json:"id"`
	Name string               `json:"name"`
}

type readyToken struct {
	User  protocol.UserID `json:"user"`
	Name  string          `json:"name"`
	Role  protocol.Role   `json:"role"`
	Token string          `json:"token"`
}

// maxNodes bounds --nodes: it is for trying things out on one machine.
const maxNodes = 16

// readyPerRole bounds the tokens of each role in the ready line; flannel token --all has the rest.
const readyPerRole = 20

// devGossip is where the first of several nodes gossips, so that others can be started beside them.
const devGossip = "127.0.0.1:7946"

func newDev(a *app) *cobra.Command {
	var (
		data, imported string
		preset, nodes  int
	)
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run edge and backend in one process, with a demo workspace",
		Long: `Run the reference backend and an edge in front of it in one process. A workspace is made up (--preset) or imported
(--import) unless the data folder has one. With --nodes there are several edges that know each other; all but the first
listen on free ports. When ready, one line of JSON on standard output tells the addresses and tokens to use; logs go to
standard error.`,
		Example: `  flannel dev
  flannel dev --preset 148170 --data ./big
  flannel dev --nodes 3
  flannel dev --import export.zip --listen 127.0.0.1:9000`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := seed.Preset(preset); err != nil {
				return &usageError{err}
			}
			if nodes < 1 || nodes > maxNodes {
				return &usageError{fmt.Errorf("--nodes is %d; choose 1 to %d", nodes, maxNodes)}
			}
			if data == "" {
				tmp, err := os.MkdirTemp("", "flannel-dev-")
				if err != nil {
					return err
				}
				defer os.RemoveAll(tmp) //nolint:errcheck // A left-over temporary folder is nobody's loss.
				data = tmp
			}
			overrides := flagKeys(cmd, map[string]string{"listen": "node.edge.listen", "backend-listen": "backend.listen", "admin-listen": "node.admin.listen", "cluster-listen": "node.cluster.listen"})
			overrides["backend.data"] = data
			overrides["backend.upstream_listen"] = "127.0.0.1:0"
			cfg, log, err := a.config(overrides)
			if err != nil {
				return err
			}
			if nodes > 1 && cfg.Node.Cluster.Listen == "" {
				cfg.Node.Cluster.Listen = devGossip
			}
			// Before a workspace is made, which may take minutes.
			if err := checkFree(map[string]string{"listen": cfg.Node.Edge.Listen, "backend-listen": cfg.Backend.Listen, "admin-listen": cfg.Node.Admin.Listen, "cluster-listen": cfg.Node.Cluster.Listen}); err != nil {
				return err
			}
			if err := a.furnish(cmd.Context(), data, imported, preset); err != nil {
				return err
			}
			return a.dev(cmd.Context(), cfg, a.again(overrides), nodes, log)
		},
	}
	cmd.Flags().String("listen", "", "address of the edge (default 127.0.0.1:8080)")
	cmd.Flags().String("backend-listen", "", "address of the backend (default 127.0.0.1:8081)")
	cmd.Flags().String("admin-listen", "", "address of metrics, health and pprof (default 127.0.0.1:8082)")
	cmd.Flags().IntVar(&nodes, "nodes", 1, "edges that know each other; all but the first listen on free ports")
	cmd.Flags().String("cluster-listen", "", "address of the first edge's gossip, IP:port (default "+devGossip+" with --nodes)")
	cmd.Flags().StringVar(&data, "data", "", "data folder (default: a temporary one)")
	cmd.Flags().IntVar(&preset, "preset", 530, "users of the workspace to make up: "+seed.PresetNames())
	cmd.Flags().StringVar(&imported, "import", "", "Slack export archive to import in place of a made-up workspace")
	return cmd
}

// furnish puts a workspace into a data folder that has none, and imports what is asked for.
func (a *app) furnish(ctx context.Context, data, imported string, preset int) error {
	return a.withStore(ctx, data, func(st store.Store) error {
		if imported != "" {
			bar := newProgress(a.stderr)
			summary, err := slackexport.Import(ctx, st, imported, slackexport.Options{Progress: bar.Step})
			bar.Done()
			if err != nil {
				return err
			}
			return summary.Print(a.stderr)
		}
		var have []protocol.Workspace
		err := st.View(ctx, func(r store.Reader) (err error) {
			have, err = r.Workspaces()
			return err
		})
		if err != nil || len(have) > 0 {
			return err
		}
		_, err = a.generate(ctx, st, preset, 1)
		return err
	})
}

// dev runs a backend and so many edges until ctx ends. again loads the configuration anew.
func (a *app) dev(ctx context.Context, cfg Config, again func() (Config, error), count int, log *slog.Logger) error {
	asLoaded := cfg
	reg := newRegistry(cfg) // The backend's and the first edge's: their metrics have names of their own.
	back, err := backend.New(backend.Options{Config: cfg.Backend, Log: log.With("component", "backend"), Registerer: reg})
	if err != nil {
		return err
	}
	cfg.Node.Upstream.URL = "http://" + back.UpstreamAddr()
	cfg.Node.Upstream.Key = back.UpstreamKey()
	var servers []server // in the order in which they are stopped
	giveUp := func(err error) error {
		errs := []error{err}
		for _, s := range append(servers, back) {
			errs = append(errs, stopWithin(s.Stop, cfg.Node.StopTimeout))
		}
		return errors.Join(errs...)
	}
	edges, err := devNodes(cfg, count, log, reg)
	for _, edge := range edges {
		servers = append(servers, edge)
	}
	if err != nil {
		return giveUp(err)
	}
	line, err := readyLine(ctx, back, edges)
	if err != nil {
		return giveUp(err)
	}
	servers = append(servers, newReloader(again, asLoaded, edges, reg, log))
	return serve(ctx, cfg.Node.StopTimeout, func(ctx context.Context) error {
		for _, edge := range edges {
			if err := edge.WaitReady(ctx); err != nil {
				return err
			}
		}
		if err := json.NewEncoder(a.stdout).Encode(line); err != nil {
			return err
		}
		return tryNext(a.stderr, line)
	}, append(servers, back)...)
}

// devNodes builds the edges. The first is as configured; each further one knows the first, has a registry of its own, and
// listens on free ports of loopback. If one fails, those before are returned with the error.
func devNodes(cfg Config, count int, log *slog.Logger, reg *prometheus.Registry) ([]*node.Node, error) {
	var edges []*node.Node
	for i := range count {
		mine := log
		if count > 1 {
			cfg.Node.Cluster.Node = fmt.Sprintf("node-%d", i+1)
			mine = log.With("node", cfg.Node.Cluster.Node)
		}
		if i > 0 {
			cfg.Node.Edge.Listen, cfg.Node.Admin.Listen, cfg.Node.Cluster.Listen, cfg.Node.Cluster.Advertise, cfg.Node.Cluster.PublicURL = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "", ""
			cfg.Node.Cluster.Seeds = []string{edges[0].ClusterAddr()}
			reg = newRegistry(cfg)
		}
		edge, err := node.New(node.Options{Config: cfg.Node, Log: mine, Version: buildVersion().Version, Registry: reg})
		if err != nil {
			return edges, err
		}
		edges = append(edges, edge)
	}
	return edges, nil
}

// server is what runs until it is stopped.
type server interface {
	Run(ctx context.Context) error
	Stop(ctx context.Context) error
}

// serve runs the servers and calls announce beside them. When ctx ends it stops them one after the other, in the order
// given, each within the timeout.
func serve(ctx context.Context, timeout time.Duration, announce func(context.Context) error, servers ...server) error {
	// Their context does not end with ctx: Stop ends them, in order and politely.
	group, running := errgroup.WithContext(context.WithoutCancel(ctx))
	for _, s := range servers {
		group.Go(func() error { return s.Run(running) })
	}
	group.Go(func() error {
		announced := announce(ctx)
		if announced == nil {
			select {
			case <-ctx.Done():
			case <-running.Done():
			}
		} else if ctx.Err() != nil {
			announced = nil
		}
		errs := []error{announced}
		for _, s := range servers {
			errs = append(errs, stopWithin(s.Stop, timeout))
		}
		return errors.Join(errs...)
	})
	return group.Wait()
}

func stopWithin(stop func(context.Context) error, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return stop(ctx)
}

// readyLine collects what the ready line says: up to readyPerRole tokens of each role.
func readyLine(ctx context.Context, back *backend.Backend, edges []*node.Node) (ready, error) {
	line := ready{Ready: true, Edge: "http://" + edges[0].Addr(), Backend: "http://" + back.Addr(), Admin: "http://" + edges[0].AdminAddr()}
	if len(edges) > 1 {
		for _, edge := range edges {
			line.Nodes = append(line.Nodes, readyNode{Name: edge.Name(), Edge: "http://" + edge.Addr(), Admin: "http://" + edge.AdminAddr(), Gossip: edge.ClusterAddr()})
		}
	}
	perRole := make(map[protocol.Role]int)
	err := eachUser(ctx, back.Store(), func(u *protocol.User) error {
		if u.Deleted || perRole[u.Role()] >= readyPerRole {
			return nil
		}
		perRole[u.Role()]++
		tok, err := issue(back.Tokens(), u, 0)
		if err != nil {
			return err
		}
		if line.Workspace.ID == "" {
			line.Workspace.ID = u.TeamID
		}
		line.Tokens = append(line.Tokens, readyToken{User: u.ID, Name: u.Name, Role: u.Role(), Token: tok})
		return nil
	})
	if err != nil {
		return ready{}, fmt.Errorf("issue tokens: %w", err)
	}
	err = back.Store().View(ctx, func(r store.Reader) error {
		workspaces, err := r.Workspaces()
		for _, w := range workspaces {
			if w.ID == line.Workspace.ID || line.Workspace.ID == "" {
				line.Workspace = readyPlace{ID: w.ID, Name: w.Name}
			}
		}
		return err
	})
	return line, err
}

// tryNext tells people what they can do now, where it does not disturb programs that read the ready line.
func tryNext(w io.Writer, line ready) error {
	i := slices.IndexFunc(line.Tokens, func(t readyToken) bool { return t.Role == protocol.RoleMember })
	if i < 0 {
		return nil // A workspace without members has nobody to try anything.
	}
	_, err := fmt.Fprintf(w, `
Try next, in another terminal, as %[1]s of %[2]s:
  TOKEN=%[3]s
  curl -s -H "Authorization: Bearer $TOKEN" %[4]s/api/client.userBoot | wc -c     a thin boot, through the edge
  curl -s -H "Authorization: Bearer $TOKEN" %[5]s/api/rtm.start | wc -c           a full boot, straight at the backend
  go run ./internal/example/chat -url %[4]s -token $TOKEN             talk in #general
%[7]sMetrics, health and pprof: %[6]s. More tokens: the ready line above. Stop with Ctrl-C.

`, line.Tokens[i].Name, line.Workspace.Name, line.Tokens[i].Token, line.Edge, line.Backend, line.Admin, tryCluster(line))
	return err
}

// tryCluster is what there is to try with several nodes.
func tryCluster(line ready) string {
	if len(line.Nodes) < 2 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "  flannel cluster status --format table --admin %s        the nodes, and what each owns\n", line.Admin)
	fmt.Fprintf(&b, "  flannel cluster status --format table --admin %s --workspace %s    who owns the workspace, and why\n", line.Admin, line.Workspace.ID)
	for _, n := range line.Nodes {
		fmt.Fprintf(&b, "  curl -s -H \"Authorization: Bearer $TOKEN\" %s/api/rtm.connect     ask %s: all answer the owner's address\n", n.Edge, n.Name)
	}
	for _, n := range line.Nodes {
		fmt.Fprintf(&b, "  curl -s -X POST %s/drain     let %s get nobody new; /drain/cancel undoes it\n", n.Admin, n.Name)
	}
	return b.String()
}
