package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"flannel/backend"
	"flannel/backend/seed"
	"flannel/backend/store"
)

func newGenerate(a *app) *cobra.Command {
	var (
		data          string
		preset, users int
		seedValue     uint64
		asJSON        bool
	)
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Make up a workspace in a data folder",
		Long: `Make up a workspace: people, bots, channels of all types, memberships, direct messages, emoji and some talk. The same
seed and number of users give the same bytes. Presets stand for workspaces whose full boots were published:
` + seed.PresetNames() + ` users.`,
		Example: `  flannel generate --data ./data --preset 530
  flannel generate --data ./data --users 2500 --seed 7`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if data == "" {
				return &usageError{fmt.Errorf("say where with --data DIR")}
			}
			if users == 0 {
				if _, err := seed.Preset(preset); err != nil {
					return &usageError{err}
				}
				users = preset
			}
			if users < seed.MinUsers {
				return &usageError{fmt.Errorf("--users is %d; a workspace needs at least %d", users, seed.MinUsers)}
			}
			began := time.Now()
			var result seed.Result
			err := a.withStore(cmd.Context(), data, func(st store.Store) error {
				var err error
				result, err = a.generate(cmd.Context(), st, users, seedValue)
				if errors.Is(err, store.ErrExists) {
					return fmt.Errorf("%q has this workspace already; choose another --seed, or another folder with --data", data)
				}
				return err
			})
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(a.stdout).Encode(result)
			}
			_, err = fmt.Fprintf(a.stdout, "workspace %s (%s) in %s: %d users, %d bots, %d channels, %d memberships, %d messages in %s\n",
				result.Workspace.ID, result.Workspace.Name, data, result.Users, result.Bots, result.Channels, result.Memberships, result.Messages, time.Since(began).Round(time.Millisecond))
			return err
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "data folder; made if it is not there")
	cmd.Flags().IntVar(&preset, "preset", 530, "published workspace to stand for: "+seed.PresetNames())
	cmd.Flags().IntVar(&users, "users", 0, "any number of users, in place of a preset")
	cmd.Flags().Uint64Var(&seedValue, "seed", 1, "seed")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// withStore opens the store of a data folder that no server uses.
func (a *app) withStore(ctx context.Context, data string, fn func(store.Store) error) error {
	st, unlock, err := backend.OpenStore(ctx, data)
	if err != nil {
		return err
	}
	defer unlock()
	if err := fn(st); err != nil {
		st.Close() //nolint:errcheck // The first error tells more.
		return err
	}
	return st.Close()
}

// generate makes a workspace and shows how far it is.
func (a *app) generate(ctx context.Context, st store.Store, users int, seedValue uint64) (seed.Result, error) {
	bar := newProgress(a.stderr)
	defer bar.Done()
	return seed.Generate(ctx, st, seed.Options{Users: users, Seed: seedValue, Progress: bar.Step})
}
