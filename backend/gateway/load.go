package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/valyala/fasthttp"

	"flannel/backend/store"
	"flannel/protocol"
)

// catchUp is how long a load waits for the position that it must answer at; the contract's second.
const catchUp = time.Second

// load is how one call is answered: it decodes and checks the request, and answers.
type load func(g *Gateway, ctx context.Context, body []byte) (answer any, err error)

var loads = map[string]load{
	protocol.CallIdentify: (*Gateway).identify,
	protocol.CallBoot:     (*Gateway).boot,
	protocol.CallObjects:  (*Gateway).objects,
	protocol.CallMembers:  (*Gateway).members,
	protocol.CallList:     (*Gateway).list,
	protocol.CallReplay:   (*Gateway).replay,
}

func (g *Gateway) load(rc *fasthttp.RequestCtx, fn load) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	answer, err := fn(g, ctx, rc.Request.Body())
	if err != nil {
		writeError(rc, g.refusal(err))
		return
	}
	writeJSON(rc, fasthttp.StatusOK, answer)
}

// refusal is the one door through which an error becomes an answer.
func (g *Gateway) refusal(err error) *protocol.Error {
	e := protocol.AsError(err)
	if e.Code != protocol.CodeInternal {
		return e
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &protocol.Error{Code: protocol.CodeUnavailable, Message: "the store is busy", Retry: time.Second} // it passes
	}
	g.log.Error("upstream load failed", "err", err)
	return &protocol.Error{Code: protocol.CodeInternal} // its text is ours
}

// decode reads a request. Unknown fields are ignored, so that a newer edge may say more.
func decode(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		if json.Valid(body) {
			return protocol.Errorf(protocol.CodeInvalidArgs, "the request does not have the contract's types: %s", err)
		}
		return protocol.Errorf(protocol.CodeInvalidJSON, "the request is not JSON")
	}
	return nil
}

// within checks that a batch has between 1 and limit entries.
func within(what string, n, limit int) error {
	if n < 1 || n > limit {
		return protocol.Errorf(protocol.CodeInvalidArgs, "%d %s; between 1 and %d are taken at once", n, what, limit)
	}
	return nil
}

// errBehind makes view wait.
var errBehind = &protocol.Error{Code: protocol.CodeBehind, Message: "the backend has not reached that position", Retry: time.Second}

// view reads one snapshot at atLeast or later and sets position to where it stands.
func (g *Gateway) view(ctx context.Context, atLeast protocol.Position, position *protocol.Position, fn func(r store.Reader) error) error {
	read := func() error {
		return g.store.View(ctx, func(r store.Reader) (err error) {
			if *position, err = r.Position(); err != nil {
				return err
			}
			if *position < atLeast {
				return errBehind
			}
			return fn(r)
		})
	}
	err := read()
	if !errors.Is(err, errBehind) {
		return err
	}
	if err := g.reach(ctx, atLeast); err != nil {
		return err
	}
	return read()
}

func (g *Gateway) identify(ctx context.Context, body []byte) (any, error) {
	var req protocol.IdentifyRequest
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	if err := within("tokens", len(req.Tokens), protocol.MaxIdentifyTokens); err != nil {
		return nil, err
	}
	ids, at, err := g.api.Identify(ctx, req.Tokens)
	return &protocol.IdentifyAnswer{Identities: ids, Position: at}, err
}

func (g *Gateway) boot(ctx context.Context, body []byte) (any, error) {
	var req protocol.BootRequest
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	if err := within("users", len(req.Users), protocol.MaxBootUsers); err != nil {
		return nil, err
	}
	var answer protocol.BootAnswer
	err := g.view(ctx, req.AtLeast, &answer.Position, func(r store.Reader) error {
		answer.Users = make([]protocol.UserBoot, len(req.Users))
		for i, id := range req.Users {
			if err := bootOne(r, id, &answer.Users[i]); err != nil {
				return fmt.Errorf("boot user %q: %w", id, err)
			}
		}
		return nil
	})
	return &answer, err
}

// bootOne reads what is private to one user.
func bootOne(r store.Reader, id protocol.UserID, b *protocol.UserBoot) error {
	b.User = id
	self, err := r.Object(protocol.ObjectID(id))
	if errors.Is(err, store.ErrNotFound) || err == nil && self.Kind != protocol.KindUser {
		b.Error = protocol.CodeUserNotFound
		return nil
	}
	if err != nil {
		return err
	}
	var u protocol.User
	if err := json.Unmarshal(self.Body, &u); err != nil {
		return fmt.Errorf("decode body: %w", err)
	}
	if u.Deleted {
		b.Error = protocol.CodeAccountInactive
		return nil
	}
	b.Workspace, b.Role, b.Self = u.TeamID, u.Role(), &self
	if b.Prefs, err = r.Prefs(id); err != nil {
		return err
	}
	if b.Memberships, err = r.Memberships(id); err != nil {
		return err
	}
	b.Usergroups, err = r.Usergroups(id)
	return err
}

func (g *Gateway) objects(ctx context.Context, body []byte) (any, error) {
	var req protocol.ObjectsRequest
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	if err := within("ids", len(req.IDs), protocol.MaxObjectIDs); err != nil {
		return nil, err
	}
	// Each id is answered once, however often it is named. One that no object can have does not trouble the store.
	slices.Sort(req.IDs)
	ids := slices.Compact(req.IDs)
	known := ids[:0:0]
	var malformed []protocol.ObjectID
	for _, id := range ids {
		if protocol.KindOf(id) == "" || len(id) > protocol.MaxIDLength {
			malformed = append(malformed, id)
		} else {
			known = append(known, id)
		}
	}
	var answer protocol.ObjectsAnswer
	err := g.view(ctx, req.AtLeast, &answer.Position, func(r store.Reader) (err error) {
		answer.Objects, answer.Missing, err = r.Objects(known)
		return err
	})
	answer.Missing = append(answer.Missing, malformed...)
	if answer.Objects == nil {
		answer.Objects = []protocol.Object{}
	}
	return &answer, err
}

func (g *Gateway) members(ctx context.Context, body []byte) (any, error) {
	var req protocol.MembersRequest
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	if req.Limit < 1 || req.Limit > protocol.MaxMembersLimit {
		return nil, protocol.Errorf(protocol.CodeInvalidLimit, "limit is %d; choose between 1 and %d", req.Limit, protocol.MaxMembersLimit)
	}
	if len(req.Cursor) > protocol.MaxIDLength {
		return nil, &protocol.Error{Code: protocol.CodeInvalidCursor}
	}
	var answer protocol.MembersAnswer
	err := g.view(ctx, req.AtLeast, &answer.Position, func(r store.Reader) error {
		if err := exists(r, protocol.ObjectID(req.Channel), protocol.KindChannel, protocol.CodeChannelNotFound); err != nil {
			return err
		}
		var err error
		answer.Users, answer.NextCursor, answer.Total, err = r.Members(req.Channel, req.Cursor, req.Limit)
		return err
	})
	if answer.Users == nil {
		answer.Users = []protocol.UserID{}
	}
	return &answer, err
}

func (g *Gateway) list(ctx context.Context, body []byte) (any, error) {
	var req protocol.ListRequest
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	if req.Order == "" {
		req.Order = protocol.ByID
	}
	switch {
	case req.Limit < 1 || req.Limit > protocol.MaxListLimit:
		return nil, protocol.Errorf(protocol.CodeInvalidLimit, "limit is %d; choose between 1 and %d", req.Limit, protocol.MaxListLimit)
	case req.Order != protocol.ByID && req.Order != protocol.ByName:
		return nil, protocol.Errorf(protocol.CodeInvalidArgs, "order is %q; choose %q or %q", req.Order, protocol.ByID, protocol.ByName)
	case !slices.Contains(protocol.Kinds, req.Kind) || req.Kind == protocol.KindWorkspace:
		return nil, protocol.Errorf(protocol.CodeInvalidArgs, "objects of kind %q are not listed", req.Kind)
	case len(req.Query) > protocol.MaxQuery:
		return nil, protocol.Errorf(protocol.CodeInvalidArgs, "query has %d bytes; at most %d are taken", len(req.Query), protocol.MaxQuery)
	case len(req.Cursor) > maxCursor:
		return nil, &protocol.Error{Code: protocol.CodeInvalidCursor}
	}
	var answer protocol.ListAnswer
	err := g.view(ctx, req.AtLeast, &answer.Position, func(r store.Reader) error {
		if err := exists(r, protocol.ObjectID(req.Workspace), protocol.KindWorkspace, protocol.CodeTeamNotFound); err != nil {
			return err
		}
		var err error
		answer.Entries, answer.NextCursor, err = r.List(req)
		return err
	})
	if answer.Entries == nil {
		answer.Entries = []protocol.ListEntry{}
	}
	return &answer, err
}

// maxCursor bounds a list's cursor, in bytes: a name of 80 characters, folded, with an id, encoded.
const maxCursor = 1024

// exists checks that there is an object of the kind.
func exists(r store.Reader, id protocol.ObjectID, kind protocol.Kind, code protocol.Code) error {
	if protocol.KindOf(id) != kind {
		return protocol.Errorf(code, "there is no %s %q", kind, id)
	}
	_, err := r.Object(id)
	if errors.Is(err, store.ErrNotFound) {
		return protocol.Errorf(code, "there is no %s %q", kind, id)
	}
	return err
}
