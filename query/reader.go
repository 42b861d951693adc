package query

import (
	"context"
	"slices"
	"strings"

	"flannel/cache"
	"flannel/protocol"
)

// reader is one read under way, by one user. It is used by one goroutine.
type reader struct {
	s    *Service
	ctx  context.Context
	id   *protocol.Identity
	user *cache.User
	// workspace is the one that is asked about.
	workspace protocol.WorkspaceID
	// full: the user's role sees what is public. The state's role, not the identity's, which may be older.
	full bool
	// fresh: the user's permissions are known. If not, private things are not shown.
	fresh bool
	// floor is the position below which nothing may be served to this user.
	floor protocol.Position
	// own are the user's memberships in id order when the cache is behind floor; else nil, and the state is asked.
	own []protocol.Membership
	// stale is set when something that may be older than the staleness bound went into the answer.
	stale bool
}

// reader begins a read: it loads the user's state if it is not there.
func (s *Service) reader(ctx context.Context, id *protocol.Identity) (*reader, error) {
	u, fresh, err := s.user(ctx, *id)
	if err != nil {
		return nil, err
	}
	r := &reader{s: s, ctx: ctx, id: id, user: u, workspace: id.Workspace, full: u.Role().Full(), fresh: fresh, floor: u.Floor()}
	if r.floor > s.cache.Applied() && s.loader.Live() {
		// The user wrote something that has not come back as an event: go past the cache.
		boot, at, err := s.loader.Boot(ctx, id.User, r.floor)
		if err != nil {
			return nil, asError(err)
		}
		if boot.Error != "" {
			return nil, &protocol.Error{Code: boot.Error}
		}
		u.RaiseFloor(at) // The next answer may not be older than this one.
		r.own, r.full, r.fresh = boot.Memberships, boot.Role.Full(), true
		if r.own == nil {
			r.own = []protocol.Membership{}
		}
		slices.SortFunc(r.own, func(a, b protocol.Membership) int { return strings.Compare(string(a.Channel), string(b.Channel)) })
	}
	return r, nil
}

// atLeast is the position that a load must reach: nobody who was told of an event, or shown what was loaded ahead of it, is
// then served an older object.
func (r *reader) atLeast() protocol.Position { return max(r.floor, r.s.cache.Known()) }

// memberships returns the user's channels in id order; the caller may change the slice.
func (r *reader) memberships() []protocol.Membership {
	if r.own != nil {
		return slices.Clone(r.own)
	}
	return r.user.Memberships()
}

// membership returns the user's place in a channel, whether or not permissions are fresh.
func (r *reader) membership(ch protocol.ChannelID) (protocol.Membership, bool) {
	if r.own == nil {
		return r.user.Membership(ch)
	}
	return findMembership(r.own, ch)
}

// findMembership searches a list in id order.
func findMembership(list []protocol.Membership, ch protocol.ChannelID) (protocol.Membership, bool) {
	i, ok := slices.BinarySearchFunc(list, ch, func(m protocol.Membership, ch protocol.ChannelID) int {
		return strings.Compare(string(m.Channel), string(ch))
	})
	if !ok {
		return protocol.Membership{}, false
	}
	return list[i], true
}

// permitted returns CodeUnavailable while the user's permissions are not known.
func (r *reader) permitted() error {
	if r.fresh {
		return nil
	}
	return unavailable("permissions cannot be checked while the backend is away")
}

// reply wraps the body of an answer.
func (r *reader) reply(body []byte) *protocol.Reply {
	reply := &protocol.Reply{Status: 200, Body: body, Stale: r.stale || !r.fresh}
	if reply.Stale {
		reply.Age = int(max(1, r.s.cache.Age().Seconds()))
	} else {
		reply.Position = max(r.floor, r.s.cache.Applied())
	}
	return reply
}
