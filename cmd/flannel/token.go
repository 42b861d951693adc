package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"flannel/backend"
	"flannel/backend/store"
	"flannel/backend/token"
	"flannel/protocol"
)

func newToken(a *app) *cobra.Command {
	var (
		data, user string
		all        bool
		life       time.Duration
	)
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Issue tokens for users of a data folder",
		Long: `Issue tokens for users of a data folder. Tokens are signed with the key that is kept there, so this works beside a
running server too. Deactivated users get none.`,
		Example: `  flannel token --data ./data --user U0123456789
  flannel token --data ./data --user maria.lopez --life 24h
  flannel token --data ./data --all > tokens.txt      # lines "user token"`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if data == "" || (user == "") == !all {
				return &usageError{errors.New("say --data DIR and either --user U… or --all")}
			}
			if life < 0 {
				return &usageError{fmt.Errorf("--life is %s; say how long tokens live, like 24h", life)}
			}
			st, signer, err := backend.OpenBeside(cmd.Context(), data)
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("there is no workspace in %q (%w); make one with flannel generate or flannel import, or name another folder with --data", data, err)
			}
			if err != nil {
				return err
			}
			defer st.Close() //nolint:errcheck // It was only read.
			out := bufio.NewWriter(a.stdout)
			if err := printTokens(cmd.Context(), st, signer, user, life, out); err != nil {
				return err
			}
			return out.Flush()
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "data folder")
	cmd.Flags().StringVar(&user, "user", "", "id or name of one user: prints the token alone")
	cmd.Flags().BoolVar(&all, "all", false, "every user that is not deactivated: prints lines \"user token\"")
	cmd.Flags().DurationVar(&life, "life", 0, "how long the token lives (default: for ever)")
	return cmd
}

func printTokens(ctx context.Context, st store.Store, signer *token.Signer, user string, life time.Duration, out *bufio.Writer) error {
	found := false
	err := eachUser(ctx, st, func(u *protocol.User) error {
		switch {
		case u.Deleted && (user == string(u.ID) || user == u.Name):
			return fmt.Errorf("user %s is deactivated", user)
		case u.Deleted, user != "" && user != string(u.ID) && user != u.Name:
			return nil
		}
		found = true
		tok, err := issue(signer, u, life)
		if err != nil {
			return err
		}
		if user != "" {
			_, err = fmt.Fprintln(out, tok)
		} else {
			_, err = fmt.Fprintln(out, u.ID, tok)
		}
		return err
	})
	if err == nil && !found && user == "" {
		return errors.New("nobody is in this data folder; flannel generate or flannel import puts a workspace there")
	}
	if err == nil && !found {
		return fmt.Errorf("there is no user %q; flannel token --all lists them", user)
	}
	return err
}

// eachUser calls fn for every user of every workspace.
func eachUser(ctx context.Context, st store.Store, fn func(*protocol.User) error) error {
	return st.View(ctx, func(r store.Reader) error {
		workspaces, err := r.Workspaces()
		if err != nil {
			return err
		}
		for _, w := range workspaces {
			err := r.EachObject(w.ID, protocol.KindUser, func(o *protocol.Object) error {
				var u protocol.User
				if err := json.Unmarshal(o.Body, &u); err != nil {
					return fmt.Errorf("decode user %s: %w", o.ID, err)
				}
				return fn(&u)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// issue signs a token for u. life 0 means for ever.
func issue(signer *token.Signer, u *protocol.User, life time.Duration) (string, error) {
	now := time.Now()
	c := token.Claims{User: u.ID, Workspace: u.TeamID, Enterprise: u.EnterpriseID, Role: u.Role(), Issued: now.Unix()}
	if life > 0 {
		c.Expires = now.Add(life).Unix()
	}
	return signer.Issue(c)
}
