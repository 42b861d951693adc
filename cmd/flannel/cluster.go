package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"flannel/node"
)

func newCluster(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Look at the nodes of a region, and make keys for them",
		Args:  cobra.ArbitraryArgs,
		RunE:  subcommand,
		Example: `  flannel cluster status
  flannel cluster status --workspace T0123456789 --user U0123456789
  flannel cluster key`,
	}
	cmd.AddCommand(newClusterStatus(a), newClusterKey(a))
	return cmd
}

func newClusterKey(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "key",
		Short:   "Make a random key for the gossip between nodes",
		Long:    `Make a random key for the gossip between nodes: 32 bytes in base64, for node.cluster.keys or node.cluster.keys_file.`,
		Example: `  flannel cluster key > gossip.keys`,
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.stdout, node.NewClusterKey())
			return err
		},
	}
}

// clusterWait bounds asking a node, which answers from memory.
const clusterWait = 10 * time.Second

func newClusterStatus(a *app) *cobra.Command {
	var admin, workspace, user, format string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the nodes of a region as one of them sees it, or who owns a workspace and why",
		Long: `Show the nodes of a region as one of them sees it: their states, sessions and partitions, and the workspaces that are
spread over several. With --workspace, and --user for one that is spread: who owns it, where its users are sent, and why.
A table on a terminal, JSON elsewhere.`,
		Example: `  flannel cluster status
  flannel cluster status --admin http://10.0.0.7:8082 --format json
  flannel cluster status --workspace T0123456789 --user U0123456789`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asTable := format == "table" || format == "auto" && isTerminal(a.stdout)
			if format != "auto" && format != "table" && format != "json" {
				return &usageError{fmt.Errorf("--format is %q; choose auto, table or json", format)}
			}
			if workspace == "" && user != "" {
				return &usageError{errors.New("say the user's workspace too, with --workspace T…")}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), clusterWait)
			defer cancel()
			query := make(url.Values)
			if workspace != "" {
				query.Set("workspace", workspace)
			}
			if user != "" {
				query.Set("user", user)
			}
			body, err := askAdmin(ctx, admin, "/cluster?"+query.Encode(), nil)
			if err != nil {
				return err
			}
			switch {
			case !asTable:
				_, err = a.stdout.Write(body)
				return err
			case workspace != "":
				var o node.Ownership
				if err := json.Unmarshal(body, &o); err != nil {
					return fmt.Errorf("read the answer: %w", err)
				}
				return printOwnership(a.stdout, &o)
			default:
				var s node.ClusterStatus
				if err := json.Unmarshal(body, &s); err != nil {
					return fmt.Errorf("read the answer: %w", err)
				}
				return printCluster(a.stdout, &s)
			}
		},
	}
	cmd.Flags().StringVar(&admin, "admin", "http://127.0.0.1:8082", "admin listener of the node to ask")
	cmd.Flags().StringVar(&workspace, "workspace", "", "a workspace: who owns it, and why")
	cmd.Flags().StringVar(&user, "user", "", "a user of that workspace, if it is spread over several nodes")
	cmd.Flags().StringVar(&format, "format", "auto", "auto, table or json")
	return cmd
}

// maxAdminAnswer bounds what is read of an answer: 512 members are 200 KB.
const maxAdminAnswer = 4 << 20

// askAdmin gets a path of an admin listener, or posts form to it if that is not nil. Errors say what to do.
func askAdmin(ctx context.Context, admin, path string, form url.Values) ([]byte, error) {
	if u, err := url.Parse(admin); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &usageError{fmt.Errorf("--admin is %q; write http://host:port", admin)}
	}
	method := http.MethodGet
	if form != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(admin, "/")+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, &usageError{err}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the node: %w; say where its admin listener is with --admin", err)
	}
	defer resp.Body.Close() //nolint:errcheck // It has been read.
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAdminAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the node answers %d: %s", resp.StatusCode, strings.TrimSpace(string(body)))
	}
	return body, nil
}

func printCluster(w io.Writer, s *node.ClusterStatus) error {
	gossip := "gossip is not encrypted"
	if s.Encrypted {
		gossip = "gossip is encrypted"
	}
	fmt.Fprintf(w, "cluster %s, region %s, as %s sees it; %s; health %d (0 is well)\n\n", s.Cluster, s.Region, s.Node, gossip, s.Health)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tSTATE\tSESSIONS\tPARTITIONS\tSHARE\tURL\tZONE\tVERSION")
	for _, m := range s.Members {
		state := string(m.State)
		if m.HeldUntil != nil {
			state += ", held " + time.Until(*m.HeldUntil).Round(time.Second).String()
		}
		name := m.Name
		if m.Self {
			name += " *"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%.1f %%\t%s\t%s\t%s\n", name, state, m.Sessions, m.Partitions, 100*float64(m.Partitions)/float64(s.Partitions), m.URL, m.Zone, m.Version)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nA node may own %d of %d partitions. The mean is %d sessions; a node with %d or more gets no new ones.\n", s.Bound, s.Partitions, s.Mean, s.Full)
	if len(s.Spread) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	fmt.Fprintln(t, "WORKSPACE\tSHARES\tOWNERS")
	for _, one := range s.Spread {
		fmt.Fprintf(t, "%s\t%d\t%s\n", one.Workspace, one.Shares, strings.Join(one.Owners, " "))
	}
	return t.Flush()
}

func printOwnership(w io.Writer, o *node.Ownership) error {
	fmt.Fprintf(w, "%s\n\n", o.Why)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "owner\t%s\t\nprimary\t%s\t%s\nfallback\t%s\t%s\n", o.Owner, o.Primary, o.PrimaryURL, o.Fallback, o.FallbackURL)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	fmt.Fprintln(t, "ORDER\tNODE\tSTATE\tSESSIONS\tNOTE")
	for i, e := range o.Order {
		fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%s\n", i+1, e.Name, e.State, e.Sessions, e.Note)
	}
	return t.Flush()
}
