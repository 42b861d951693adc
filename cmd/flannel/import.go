package main

import (
	"encoding/json"
	"errors"

	"github.com/spf13/cobra"

	"flannel/backend/slackexport"
	"flannel/backend/store"
)

func newImport(a *app) *cobra.Command {
	var (
		data   string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "import PATH",
		Short: "Import an official Slack export archive (zip or folder)",
		Long: `Import an official Slack export archive into a data folder: users, channels, private channels, group DMs, DMs and day
files with threads, edits, reactions, files and bots. Unknown message subtypes are kept. Damaged files are named and
skipped, the rest is imported. Importing again changes nothing.`,
		Example: `  flannel import export.zip --data ./data
  flannel import ./export-folder --data ./data --json`,
		Args: exactlyOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			if data == "" {
				return &usageError{errors.New("say where with --data DIR")}
			}
			return a.withStore(cmd.Context(), data, func(st store.Store) error {
				bar := newProgress(a.stderr)
				summary, err := slackexport.Import(cmd.Context(), st, args[0], slackexport.Options{Progress: bar.Step})
				bar.Done()
				if err != nil {
					return err
				}
				if asJSON {
					return json.NewEncoder(a.stdout).Encode(summary)
				}
				return summary.Print(a.stdout)
			})
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "data folder; made if it is not there")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the summary as JSON")
	return cmd
}
