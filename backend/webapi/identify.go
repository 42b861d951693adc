package webapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"flannel/backend/store"
	"flannel/backend/token"
	"flannel/protocol"
)

// Identify tells who the bearers of tokens are, one identity per token, in order, all as of one position. A bad token
// gives an identity with Error.
func (a *API) Identify(ctx context.Context, tokens []string) ([]protocol.Identity, protocol.Position, error) {
	ids := make([]protocol.Identity, len(tokens))
	var at protocol.Position
	err := a.Store.View(ctx, func(r store.Reader) error {
		for i, tok := range tokens {
			claims, err := a.Tokens.Verify(tok)
			if err == nil {
				var id *protocol.Identity
				if id, err = identify(r, claims); err == nil {
					ids[i] = *id
					continue
				}
			}
			e, ok := errors.AsType[*protocol.Error](err)
			if !ok {
				return err
			}
			ids[i] = protocol.Identity{Error: e.Code}
		}
		var err error
		at, err = r.Position()
		return err
	})
	return ids, at, err
}

// identify joins what a good token says with what the store knows of its user now.
func identify(r store.Reader, c token.Claims) (*protocol.Identity, error) {
	revoked, err := r.Revoked(c.ID, c.User, c.Issued)
	if err != nil {
		return nil, err
	}
	if revoked {
		return nil, &protocol.Error{Code: protocol.CodeTokenRevoked}
	}
	o, err := r.Object(protocol.ObjectID(c.User))
	if errors.Is(err, store.ErrNotFound) {
		return nil, &protocol.Error{Code: protocol.CodeInvalidAuth} // a token of another data folder's user
	}
	if err != nil {
		return nil, err
	}
	var u protocol.User
	if err := json.Unmarshal(o.Body, &u); err != nil {
		return nil, fmt.Errorf("decode user %q: %w", c.User, err)
	}
	if u.Deleted {
		return nil, &protocol.Error{Code: protocol.CodeAccountInactive}
	}
	id := &protocol.Identity{
		Token: c.ID, User: u.ID, UserName: u.Name, Bot: u.Profile.BotID, Workspace: c.Workspace, Enterprise: u.EnterpriseID, Role: u.Role(), Expires: c.Expires,
	}
	if id.Workspaces, err = workspacesOf(r, &u); err != nil {
		return nil, err
	}
	if !slices.Contains(id.Workspaces, c.Workspace) {
		return nil, &protocol.Error{Code: protocol.CodeInvalidAuth}
	}
	return id, nil
}

// workspacesOf lists the workspaces of a user: their own, and for the people of an enterprise all of its workspaces.
// Guests are guests of one.
func workspacesOf(r store.Reader, u *protocol.User) ([]protocol.WorkspaceID, error) {
	own := []protocol.WorkspaceID{u.TeamID}
	if u.EnterpriseID == "" || !u.Role().Full() {
		return own, nil
	}
	all, err := r.Workspaces()
	if err != nil {
		return nil, err
	}
	for _, w := range all {
		if w.EnterpriseID == u.EnterpriseID && w.ID != u.TeamID {
			own = append(own, w.ID)
		}
	}
	slices.Sort(own)
	return own, nil
}
