package edge

import (
	"context"
	"encoding/json"
	"errors"

	"flannel/protocol"
)

// ErrForward is what Queries.Answer returns for a call that the cache does not answer: it is forwarded.
var ErrForward = errors.New("not answered here: forward the call")

// Queries answers reads. Errors are *protocol.Error.
type Queries interface {
	// Identify returns who the bearer of a token is. Nobody may change it: all who bear the token share it.
	Identify(ctx context.Context, token string) (*protocol.Identity, error)
	// Answer answers a cached Web API method, or returns ErrForward.
	Answer(ctx context.Context, id protocol.Identity, method string, args protocol.Args, host string) (*protocol.Reply, error)
	// Query answers the edge query API.
	Query(ctx context.Context, id protocol.Identity, path string, args json.RawMessage) (*protocol.Reply, error)
	// Ready appends the body of the answer to a query to dst, if that can be had without waiting. What it reads it does not
	// keep. If not ok, dst is as it was, and Query answers.
	Ready(id *protocol.Identity, method, args, dst []byte) (body []byte, ok bool)
	// Boot calls use with the bodies of client.userBoot and client.counts, which are theirs only until it returns, or returns
	// an error.
	Boot(ctx context.Context, id protocol.Identity, lazy bool, use func(userBoot, counts []byte)) error
	// Member reports whether a user, whose session is attached, is in a channel.
	Member(user protocol.UserID, channel protocol.ChannelID) bool
	// Peek returns those of the objects that are at hand and that id may see. It does not block.
	Peek(id protocol.Identity, ids []protocol.ObjectID) []protocol.Object
	// Hears reports whether id may still hear of the presence of a user whom it follows. It does not block; known is false
	// if what the node knows is not enough to tell.
	Hears(id protocol.Identity, user protocol.UserID) (may, known bool)
	// Badge returns id's place in a channel, a zero one if they are not in it. known is false if nobody can tell now. It
	// does not block.
	Badge(id protocol.Identity, channel protocol.ChannelID) (m protocol.Membership, known bool)
	// RaiseFloor lets the user's reads go past the cache until it stands at p.
	RaiseFloor(user protocol.UserID, p protocol.Position)
	// Applied is the position up to which the cache has seen all events.
	Applied() protocol.Position
}

// Writer is the way to the backend. Errors are *protocol.Error.
type Writer interface {
	// Forward passes a call on verbatim.
	Forward(ctx context.Context, call *protocol.Call) (*protocol.Reply, error)
	// Publish passes an ephemeral event on; it does not block and may drop.
	Publish(ev *protocol.Event)
}

// Hub knows who hears what.
type Hub interface {
	// Attach lets the session hear of everything that concerns id. When it returns, nothing that happens is missed. If
	// from is not nil, what happened since then is in the answer.
	Attach(ctx context.Context, s *Session, id protocol.Identity, from *protocol.ResumeToken) (Resumed, error)
	// Served returns the token for a pong: everything up to it has been delivered to the session.
	Served(s *Session) string
	// Detach undoes Attach.
	Detach(s *Session)
	// WatchPresence makes users the list of those whose presence the session hears of.
	WatchPresence(s *Session, users []protocol.UserID)
}

// Doors are what the edge is joined to. All are required but Region.
type Doors struct {
	Queries Queries
	Writer  Writer
	Hub     Hub
	// Region is asked where clients are sent; nil if the node stands alone.
	Region Region
}
