package query

import (
	"context"
	"slices"

	"flannel/protocol"
)

// maxPage is the largest page of any list of the Web API; larger limits are cut to it.
const maxPage = 1000

// call is one Web API call under way.
type call struct {
	*reader
	args protocol.Args
	host string
}

// methods are the Web API methods that the cache answers: those that protocol.Methods says are cached, which a test
// holds it to. Each answers as backend/webapi does, so that nobody can tell them apart.
var methods = map[string]func(*call) ([]byte, error){
	"rtm.connect":            rtmConnect,
	"client.userBoot":        clientUserBoot,
	"client.counts":          clientCounts,
	"client.getWebSocketURL": webSocketURL,
	"api.getFlannelHttpUrl":  flannelURL,
	"users.info":             usersInfo,
	"users.list":             usersList,
	"users.conversations":    usersConversations,
	"users.prefs.get":        prefsGet,
	"conversations.list":     conversationsList,
	"conversations.info":     conversationsInfo,
	"conversations.members":  conversationsMembers,
	"team.info":              teamInfo,
	"emoji.list":             emojiList,
	"bots.info":              botsInfo,
}

// Answer answers a Web API method. host is scheme://host of this node as the client knows it. It returns ErrForward if
// the call is one for the backend; other errors are *protocol.Error.
func (s *Service) Answer(ctx context.Context, id protocol.Identity, method string, args protocol.Args, host string) (*protocol.Reply, error) {
	started := s.now()
	reply, err := s.answer(ctx, &id, method, args, host)
	s.metrics.answered(method, s.now().Sub(started), reply != nil && reply.Stale, err)
	return reply, err
}

func (s *Service) answer(ctx context.Context, id *protocol.Identity, method string, args protocol.Args, host string) (*protocol.Reply, error) {
	m := methods[method]
	if m == nil {
		return nil, ErrForward
	}
	r, err := s.reader(ctx, id)
	if err != nil {
		return nil, err
	}
	if host == "" {
		host = "http://localhost"
	}
	body, err := m(&call{reader: r, args: args, host: host})
	if err != nil {
		return nil, late(err)
	}
	return r.reply(body), nil
}

// limit reads the size of a page: def if there is none or it is 0.
func (c *call) limit(def int) (int, error) {
	n, err := c.args.Int("limit", def)
	if err != nil || n < 0 {
		return 0, &protocol.Error{Code: protocol.CodeInvalidLimit}
	}
	if n == 0 {
		n = def
	}
	return min(n, maxPage), nil
}

// cursor reads where to go on: at an id of that kind.
func (c *call) cursor(kind string) (string, error) {
	id, err := protocol.DecodeCursor(kind, c.args["cursor"])
	if err == nil && id != "" && !protocol.ValidID(id) {
		err = &protocol.Error{Code: protocol.CodeInvalidCursor}
	}
	return id, err
}

// inWorkspace sets the workspace that the call is about: the token's, or another of the user's by team_id.
func (c *call) inWorkspace() error {
	w := protocol.WorkspaceID(c.args["team_id"])
	switch {
	case w == "":
	case slices.Contains(c.id.Workspaces, w):
		c.workspace = w
	default:
		return &protocol.Error{Code: protocol.CodeTeamNotFound}
	}
	return nil
}

// appendNext ends an answer with the cursor for "go on at id", "" for the last page.
func appendNext(b []byte, kind, id string) []byte {
	if id != "" {
		id = protocol.EncodeCursor(kind, id)
	}
	b = append(b, `,"response_metadata":{"next_cursor":`...)
	b = protocol.AppendString(b, id)
	return append(b, `}}`...)
}

// separated appends a comma unless b stands at the beginning of an array or object.
func separated(b []byte) []byte {
	if c := b[len(b)-1]; c == '[' || c == '{' {
		return b
	}
	return append(b, ',')
}

var localeFields = []byte(`{"locale":"en-US"}`)
