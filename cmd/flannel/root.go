package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"

	"github.com/spf13/cobra"
)

// app is what all commands share.
type app struct {
	environ []string
	stdout  io.Writer // answers: the ready line, tables, JSON
	stderr  io.Writer // logs and progress

	configPath string
	logLevel   string
	logFormat  string
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "flannel",
		Short: "An edge cache proxy for chat backends",
		Long: `flannel is a front door for chat backends: clients hold one websocket to the nearest node, get a minimal boot, ask
lazily for what they show, and write through it. The backend sees one event stream per node and a handful of batched
loads, whatever the number of clients. A reference chat backend is bundled.`,
		Example: `  flannel dev                          # a demo workspace, backend and edge in one process
  flannel dev --preset 148170          # the same with 148,170 people
  flannel edge --config flannel.yaml   # a node in front of your backend
  flannel check upstream http://127.0.0.1:8090 --key KEY --token xoxp-…   # does my backend fulfil the contract?`,
		Args:          cobra.ArbitraryArgs,
		RunE:          subcommand,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&a.configPath, "config", "", "configuration file (default: flannel.yaml here, if there is one)")
	root.PersistentFlags().StringVar(&a.logLevel, "log-level", "", "debug, info, warn or error")
	root.PersistentFlags().StringVar(&a.logFormat, "log-format", "", "auto, text or json")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(newDev(a), newEdge(a), newBackend(a), newGenerate(a), newImport(a), newToken(a), newCheck(a), newCluster(a), newAdmin(a), newBench(a), newVersion(a))
	return root
}

// subcommand is what a command does that only has others below it: say which there are.
func subcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	hint := ""
	cmd.SuggestionsMinimumDistance = 2 // cobra's own default, which it sets only on its own path
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("; did you mean %s?", strings.Join(near, " or "))
	}
	return &usageError{fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), hint)}
}

// asUsage makes what a check of positional arguments finds a usage error.
func asUsage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &usageError{fmt.Errorf("%s: %w", cmd.UseLine(), err)}
		}
		return nil
	}
}

// noArgs and exactlyOne are cobra's, as usage errors and in our words.
var (
	noArgs = asUsage(func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("%q is one word too many; everything is said with flags", args[0])
		}
		return nil
	})
	exactlyOne = asUsage(func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("exactly one argument is needed, not %d", len(args))
		}
		return nil
	})
)

// config loads the configuration with the flags given in overrides (key of the configuration to value).
func (a *app) config(overrides map[string]any) (Config, *slog.Logger, error) {
	if overrides == nil {
		overrides = make(map[string]any)
	}
	if a.logLevel != "" {
		overrides["log.level"] = a.logLevel
	}
	if a.logFormat != "" {
		overrides["log.format"] = a.logFormat
	}
	cfg, err := loadConfig(findConfig(a.configPath), a.environ, overrides)
	if err != nil {
		return Config{}, nil, &usageError{err}
	}
	log, err := newLogger(cfg.Log, a.stderr)
	if err != nil {
		return Config{}, nil, &usageError{err}
	}
	return cfg, log, nil
}

// again returns what loads the configuration anew, with the same overrides.
func (a *app) again(overrides map[string]any) func() (Config, error) {
	return func() (Config, error) {
		cfg, _, err := a.config(overrides)
		return cfg, err
	}
}

// flagKeys maps flags to the keys that they set; only flags that were given count.
func flagKeys(cmd *cobra.Command, keys map[string]string) map[string]any {
	set := make(map[string]any)
	for flag, key := range keys {
		if f := cmd.Flags().Lookup(flag); f != nil && f.Changed {
			set[key] = f.Value.String()
		}
	}
	return set
}

// checkFree says which flag to change if an address is taken, before anything long begins. Flag to address; an address
// that is empty is not listened on.
func checkFree(addresses map[string]string) error {
	for flag, address := range addresses {
		if address == "" {
			continue
		}
		ln, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("cannot listen on %s: %w; choose another address with --%s", address, err, flag)
		}
		ln.Close() //nolint:errcheck // Nobody has connected.
	}
	return nil
}
