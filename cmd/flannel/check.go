package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"flannel/upstream/check"
)

func newCheck(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration, or a backend against the upstream contract",
		Args:  cobra.ArbitraryArgs,
		RunE:  subcommand,
		Example: `  flannel check config
  flannel check upstream http://127.0.0.1:8090 --key KEY --token xoxp-…`,
	}
	cmd.AddCommand(newCheckConfig(a), newCheckUpstream(a))
	return cmd
}

func newCheckConfig(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "config [FILE]",
		Short: "Check a configuration file, the environment included",
		Example: `  flannel check config
  flannel check config /etc/flannel/flannel.yaml`,
		Args: asUsage(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				a.configPath = args[0]
			}
			if _, _, err := a.config(nil); err != nil {
				return err
			}
			path := findConfig(a.configPath)
			if path == "" {
				path = "defaults and environment"
			}
			_, err := fmt.Fprintf(a.stdout, "%s: ok\n", path)
			return err
		},
	}
}

func newCheckUpstream(a *app) *cobra.Command {
	var (
		target check.Target
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "upstream URL",
		Short: "Run the conformance suite of the upstream contract against a backend",
		Long: `Run the conformance suite of the upstream contract (docs/upstream.md) against any backend. The token's user posts a few
messages to a channel that the suite makes: do not point it at people who mind. Exit code 1 if a clause is not met.`,
		Example: `  flannel check upstream http://127.0.0.1:8090 --key KEY --token xoxp-…
  flannel check upstream http://127.0.0.1:8090 --key KEY --token xoxp-… --json`,
		Args: exactlyOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if target.Key == "" || target.Token == "" {
				return &usageError{errors.New("say the service key with --key and a member's token with --token")}
			}
			target.URL = args[0]
			report, err := check.Run(cmd.Context(), target, func(r check.Result) {
				if asJSON {
					return
				}
				if r.OK() {
					fmt.Fprintf(a.stdout, "ok    %s\n", r.Name)
				} else {
					fmt.Fprintf(a.stdout, "FAIL  %s\n      %s\n", r.Name, r.Failure)
					if r.Hint != "" {
						fmt.Fprintf(a.stdout, "      hint: %s\n", r.Hint)
					}
				}
			})
			if err != nil && cmd.Context().Err() == nil {
				return &usageError{err} // The address is none.
			}
			if err != nil {
				return err
			}
			if asJSON {
				if err := json.NewEncoder(a.stdout).Encode(report); err != nil {
					return err
				}
			}
			if failed := report.Failed(); failed > 0 {
				return fmt.Errorf("%d of %d clauses are not met", failed, len(report.Results))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&target.Key, "key", "", "service key")
	cmd.Flags().StringVar(&target.Token, "token", "", "token of a full member")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
