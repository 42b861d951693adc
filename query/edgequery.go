package query

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"flannel/protocol"
)

// queries are the endpoints of the edge query API, by kind/verb.
var queries = map[string]func(*reader, json.RawMessage) ([]byte, error){
	"users/info":          usersInfoQuery,
	"users/list":          usersListQuery,
	"users/search":        usersSearchQuery,
	"users/counts":        usersCountsQuery,
	"channels/info":       channelsInfoQuery,
	"channels/membership": membershipQuery,
	"channels/search":     channelsSearchQuery,
	"emojis/info":         emojisInfoQuery,
	"emojis/list":         emojisListQuery,
	"usergroups/info":     usergroupsInfoQuery,
}

// maxQuery bounds the arguments of an edge query in bytes: MaxIDs ids with versions have a tenth of it.
const maxQuery = 256 << 10

// Query answers an edge query. path is kind/verb, with {team}/ or {enterprise}/{team}/ in front of it when it came over
// HTTP; one may ask only about one's own workspaces. args is a JSON object; nothing is an empty one. Errors are
// *protocol.Error.
func (s *Service) Query(ctx context.Context, id protocol.Identity, path string, args json.RawMessage) (*protocol.Reply, error) {
	started := s.now()
	name, reply, err := s.query(ctx, &id, path, args)
	s.metrics.answered(name, s.now().Sub(started), reply != nil && reply.Stale, err)
	return reply, err
}

func (s *Service) query(ctx context.Context, id *protocol.Identity, path string, args json.RawMessage) (string, *protocol.Reply, error) {
	where, name := splitPath(path)
	answer := queries[name]
	if answer == nil {
		return otherRequest, nil, &protocol.Error{Code: protocol.CodeUnknownMethod}
	}
	workspace, err := askedWorkspace(id, where)
	if err != nil {
		return name, nil, err
	}
	if args, err = queryArgs(args); err != nil {
		return name, nil, err
	}
	r, err := s.reader(ctx, id)
	if err != nil {
		return name, nil, err
	}
	r.workspace = workspace
	if err := s.enumeration.allowNamed(id.User, name, args); err != nil {
		return name, nil, err
	}
	body, err := answer(r, args)
	if err != nil {
		return name, nil, late(err)
	}
	if err := s.enumeration.allowGiven(id.User, name, body); err != nil {
		return name, nil, err
	}
	return name, r.reply(body), nil
}

// splitPath parts "T1/users/info" into "T1" and "users/info".
func splitPath(path string) (where, name string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	if j := strings.LastIndexByte(path[:i], '/'); j >= 0 {
		return path[:j], path[j+1:]
	}
	return "", path
}

// askedWorkspace returns the workspace that a path names, which must be one of the caller's, or their enterprise, or
// one of theirs within it.
func askedWorkspace(id *protocol.Identity, where string) (protocol.WorkspaceID, error) {
	foreign := &protocol.Error{Code: protocol.CodeTeamNotFound}
	enterprise, team, both := strings.Cut(where, "/")
	if !both {
		team = where
	} else if id.Enterprise == "" || enterprise != string(id.Enterprise) {
		return "", foreign
	}
	switch {
	case team == "", team == string(id.Enterprise) && !both:
		return id.Workspace, nil
	case slices.Contains(id.Workspaces, protocol.WorkspaceID(team)):
		return protocol.WorkspaceID(team), nil
	default:
		return "", foreign
	}
}

func queryArgs(args json.RawMessage) (json.RawMessage, error) {
	if len(args) > maxQuery {
		return nil, protocol.Errorf(protocol.CodeTooLarge, "the query has %d bytes; the limit is %d", len(args), maxQuery)
	}
	args = bytes.TrimSpace(args)
	switch {
	case len(args) == 0:
		return json.RawMessage("{}"), nil
	case !json.Valid(args):
		return nil, &protocol.Error{Code: protocol.CodeInvalidJSON}
	case args[0] != '{':
		return nil, &protocol.Error{Code: protocol.CodeJSONNotObject}
	}
	return args, nil
}

// badArg is the error for an argument of the wrong type or out of its bounds.
func badArg(name, want string) *protocol.Error {
	return protocol.Errorf(protocol.CodeInvalidArgs, "%s must be %s", name, want)
}

// jsonText decodes a JSON string. It allocates only the string.
func jsonText(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	var text string
	return text, json.Unmarshal(raw, &text) == nil
}

// jsonFlag reads a boolean as clients send it: true, false, null, 0 or 1, also in quotes.
func jsonFlag(name string, raw []byte) (bool, error) {
	switch string(bytes.Trim(raw, `"`)) {
	case "true", "1":
		return true, nil
	case "false", "0", "null", "":
		return false, nil
	default:
		return false, badArg(name, "true or false")
	}
}

// jsonWhole reads a whole number that is not negative; null is 0. JavaScript may write it as 1e3.
func jsonWhole(name string, raw []byte) (int64, error) {
	if string(raw) == "null" {
		return 0, nil
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(string(raw), 64)
		if n = int64(f); ferr != nil || raw[0] == '"' || f < 0 || f > 1<<53 || float64(n) != f {
			return 0, badArg(name, "a whole number")
		}
	}
	if n < 0 {
		return 0, badArg(name, "a whole number of at least 0")
	}
	return n, nil
}

// jsonTexts reads a list of at most limit strings, each once.
func jsonTexts[S ~string](name string, raw []byte, limit int) ([]S, error) {
	var list []S
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, badArg(name, "a list of strings")
	}
	if len(list) > limit {
		return nil, badArg(name, "a list of at most "+strconv.Itoa(limit))
	}
	seen := make(map[S]bool, len(list))
	return slices.DeleteFunc(list, func(s S) bool {
		again := seen[s]
		seen[s] = true
		return again
	}), nil
}

// fields calls read for every field of args until one is bad.
func fields(args json.RawMessage, read func(name string, value []byte) error) error {
	var err error
	protocol.EachField(args, func(name, value []byte) bool {
		err = read(string(name), value)
		return err == nil
	})
	return err
}
