package node

import (
	"context"
	"time"

	"flannel/cache"
	"flannel/edge"
	"flannel/fanout"
	"flannel/protocol"
)

// reachWithin is how long a session that comes back with a position waits for the node's stream to have come that far.
// A node whose backend is well is behind by milliseconds.
const reachWithin = 2 * time.Second

// maxAttach is how often a session is attached whose user's state becomes void just then: each time takes lost events.
const maxAttach = 3

// Attach lets the session hear of everything that concerns id, and tells what it missed if it continues from a token.
func (d doors) Attach(ctx context.Context, s *edge.Session, id protocol.Identity, from *protocol.ResumeToken) (edge.Resumed, error) {
	d.n.top.opened(id)
	d.n.cache.Hold(id.User)
	resumed, err := d.attach(ctx, s, id, from)
	if err != nil {
		d.n.cache.Release(id.User)
	}
	return resumed, err
}

func (d doors) attach(ctx context.Context, s *edge.Session, id protocol.Identity, from *protocol.ResumeToken) (edge.Resumed, error) {
	n := d.n
	resync := from != nil && !n.continues(ctx, id, *from)
	for range maxAttach {
		u, err := n.query.User(ctx, id)
		if err != nil {
			return edge.Resumed{}, err
		}
		resumed, ok, err := n.begin(ctx, s, id, u, from, resync)
		if ok || err != nil {
			return resumed, err
		}
	}
	return edge.Resumed{}, &protocol.Error{Code: protocol.CodeUnavailable, Message: "which channels you are in is not known at the moment"}
}

// begin is attach with the user's state; ok is false if that has become void.
func (n *Node) begin(ctx context.Context, s *edge.Session, id protocol.Identity, u *cache.User, from *protocol.ResumeToken, resync bool) (resumed edge.Resumed, ok bool, err error) {
	// Read before it attaches: what is above will be told, or is in what the session fetches.
	applied := n.hub.Applied()
	fresh := func(mode string, refetch ...string) edge.Resumed {
		return edge.Resumed{Mode: mode, Refetch: refetch, Token: n.token(s, applied)}
	}
	switch {
	case from == nil:
		ok = n.hub.Attach(receiver{s}, id, n.standing(u, false))
		return fresh(""), ok, nil
	case resync, !n.reaches(ctx, u.AsOf()):
		ok = n.hub.Attach(receiver{s}, id, n.standing(u, false))
		return fresh(protocol.ResumeResync, protocol.RefetchAll), ok, nil
	}
	u.RaiseFloor(from.Position)
	pasts, ok := n.hub.AttachSince(receiver{s}, id, n.standing(u, true), from.Position)
	if !ok {
		return edge.Resumed{}, false, nil
	}
	m, err := n.missedBy(ctx, id, u.Role(), from.Position, pasts, n.cache.LeftSince(id.User, from.Position))
	switch {
	case err != nil:
		n.hub.Detach(receiver{s})
		return edge.Resumed{}, false, err
	case m.all:
		return fresh(protocol.ResumeResync, protocol.RefetchAll), true, nil
	case len(m.gone) > 0:
		refetch := make([]string, len(m.gone))
		for i, t := range m.gone {
			refetch[i] = string(t)
		}
		return edge.Resumed{Mode: protocol.ResumeResync, Events: m.events, Told: m.told, Refetch: refetch, Token: from.String()}, true, nil
	case len(m.events) > 0:
		// If the client is lost in the middle of the replay, it begins anew from where it had begun.
		return edge.Resumed{Mode: protocol.ResumeReplayed, Events: m.events, Told: m.told, Token: from.String()}, true, nil
	default:
		return fresh(protocol.ResumeLossless), true, nil
	}
}

// standing is where the user stands when the session is attached. The state may have been loaded anew since u; or it may
// be void, because events were lost that would have changed it: a session must not begin with that, though it is good
// enough for reads while the backend is away. With heard, what it was loaded with must have come as events too: else it
// may lack a channel whose last events are still to come, and nobody would tell them.
func (n *Node) standing(u *cache.User, heard bool) fanout.Now {
	return func() (fanout.Standing, bool) {
		now := u
		if held, freshness := n.cache.User(u.ID()); freshness == cache.Fresh {
			now = held
		}
		s := fanout.Standing{Role: now.Role(), Stamp: now.Stamp(), Channels: now.Channels}
		return s, !now.Void() && (!heard || now.AsOf() <= n.hub.Applied())
	}
}

// continues reports whether a session can go on from a token: it is the same user's, and the node has heard as much.
func (n *Node) continues(ctx context.Context, id protocol.Identity, from protocol.ResumeToken) bool {
	return from.User == id.User && n.reaches(ctx, from.Position)
}

// reaches waits for the node's stream to come up to a position, for reachWithin.
func (n *Node) reaches(ctx context.Context, p protocol.Position) bool {
	ctx, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	return n.applied.wait(ctx, p)
}

// Served returns the token of a position up to which everything that the session is to hear has been delivered to it.
func (d doors) Served(s *edge.Session) string { return d.n.token(s, d.n.hub.Applied()) }

// token returns the token of p, which was Applied, or of a position below it: topics may have been followed from there and
// not have caught up.
func (n *Node) token(s *edge.Session, p protocol.Position) string {
	// The order matters. What adds the user to a channel is applied before the watermark passes it; from then on the user
	// state waits, until the hub knows that the channel's topic catches up, until it has.
	if settled, ok := n.cache.Settled(s.User()); ok {
		p = min(p, settled)
	}
	return protocol.ResumeToken{User: s.User(), Position: n.hub.Behind(receiver{s}, p)}.String()
}

// Detach undoes Attach.
func (d doors) Detach(s *edge.Session) {
	d.n.hub.Detach(receiver{s})
	d.n.cache.Release(s.User())
}
