package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"flannel/node"
)

func newAdmin(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "admin",
		Short:   "Change a running node",
		Args:    cobra.ArbitraryArgs,
		RunE:    subcommand,
		Example: `  flannel admin limits`,
	}
	cmd.AddCommand(newAdminLimits(a))
	return cmd
}

func newAdminLimits(a *app) *cobra.Command {
	var (
		admin, format string
		atOnce, reset bool
	)
	cmd := &cobra.Command{
		Use:   "limits [NAME=N ...]",
		Short: "Show the limits of a running node, and change them",
		Long: `Show the limits of a running node, and change those that are named. A lower limit holds at once, and who has a place keeps
it; a higher one is reached in even steps within node.limits_raise, so that those who were kept out do not come all at
once, or with --at-once at once. The changes are gone when the node ends; those in the configuration are taken over on SIGHUP.
A table on a terminal, JSON elsewhere.`,
		Example: `  flannel admin limits
  flannel admin limits edge.open_rate=200 upstream.boot_concurrency=2
  flannel admin limits --reset
  flannel admin limits --admin http://10.0.0.7:8082 --at-once edge.max_sessions=20000`,
		RunE: func(cmd *cobra.Command, args []string) error {
			asTable := format == "table" || format == "auto" && isTerminal(a.stdout)
			if format != "auto" && format != "table" && format != "json" {
				return &usageError{fmt.Errorf("--format is %q; choose auto, table or json", format)}
			}
			form, err := limitsForm(args)
			if err != nil {
				return &usageError{err}
			}
			if reset && len(form) > 0 {
				return &usageError{errors.New("--reset sets every limit to what the configuration says; leave the others out")}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), clusterWait)
			defer cancel()
			limits, body, err := askLimits(ctx, admin, nil)
			if err != nil {
				return err
			}
			for _, l := range limits {
				if reset {
					form.Set(l.Name, strconv.Itoa(l.Configured))
				}
			}
			if len(form) > 0 {
				if atOnce {
					form.Set("at_once", "1")
				}
				if limits, body, err = askLimits(ctx, admin, form); err != nil {
					return err
				}
			}
			if asTable {
				return printLimits(a.stdout, limits)
			}
			_, err = a.stdout.Write(body)
			return err
		},
	}
	cmd.Flags().StringVar(&admin, "admin", "http://127.0.0.1:8082", "admin listener of the node")
	cmd.Flags().BoolVar(&atOnce, "at-once", false, "raise without steps")
	cmd.Flags().BoolVar(&reset, "reset", false, "back to what the configuration says")
	cmd.Flags().StringVar(&format, "format", "auto", "auto, table or json")
	return cmd
}

// limitsForm reads NAME=N.
func limitsForm(args []string) (url.Values, error) {
	form := make(url.Values)
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if _, err := strconv.Atoi(value); !ok || name == "" || err != nil {
			return nil, fmt.Errorf("%q is not NAME=N, as in edge.open_rate=200", arg)
		}
		form.Set(strings.TrimPrefix(name, "node."), value)
	}
	return form, nil
}

// askLimits gets the limits, after a change if form is not nil.
func askLimits(ctx context.Context, admin string, form url.Values) (limits []node.Limit, body []byte, err error) {
	if body, err = askAdmin(ctx, admin, "/limits", form); err != nil {
		return nil, nil, err
	}
	if err := json.Unmarshal(body, &limits); err != nil {
		return nil, nil, fmt.Errorf("read the answer: %w", err)
	}
	return limits, body, nil
}

func printLimits(w io.Writer, limits []node.Limit) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "LIMIT\tNOW\tRISES TO\tCONFIGURED")
	for _, l := range limits {
		target := ""
		if l.Target != l.Value {
			target = strconv.Itoa(l.Target)
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%d\n", l.Name, l.Value, target, l.Configured)
	}
	return t.Flush()
}
