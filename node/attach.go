package node

import (
	"context"
	"time"

	"flannel/cache"
	"flannel/edge"
	"flannel/protocol"
)

// reachWithin is how long a session that comes back with a position waits for the node's stream to have come that far.
// A node whose backend is well is behind by milliseconds.
const reachWithin = 2 * time.Second

// Attach lets the session hear of everything that concerns id, and tells what it missed if it continues from a token.
func (d doors) Attach(ctx context.Context, s *edge.Session, id protocol.Identity, from *protocol.ResumeToken) (edge.Resumed, error) {
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
	u, err := n.query.User(ctx, id)
	if err != nil {
		return edge.Resumed{}, err
	}
	// Read before it attaches: what is above will be told, or is in what the session fetches.
	fresh := edge.Resumed{Token: protocol.ResumeToken{User: id.User, Position: n.hub.Applied()}.String()}
	now := func() ([]protocol.ChannelID, protocol.Role) {
		if now, freshness := n.cache.User(id.User); freshness == cache.Fresh {
			return now.Channels(), now.Role() // It may have been loaded anew since.
		}
		return u.Channels(), u.Role()
	}
	everything := fresh
	everything.Mode, everything.Refetch = protocol.ResumeResync, []string{protocol.RefetchAll}
	switch {
	case resync:
		n.hub.Attach(receiver{s}, id, now)
		return everything, nil
	case from == nil:
		n.hub.Attach(receiver{s}, id, now)
		return fresh, nil
	}
	u.RaiseFloor(from.Position)
	pasts := n.hub.AttachSince(receiver{s}, id, now, from.Position)
	m, err := n.missedBy(ctx, id, u.Role(), from.Position, pasts, n.cache.LeftSince(id.User, from.Position))
	switch {
	case err != nil:
		n.hub.Detach(receiver{s})
		return edge.Resumed{}, err
	case m.all:
		return everything, nil
	case len(m.gone) > 0:
		refetch := make([]string, len(m.gone))
		for i, t := range m.gone {
			refetch[i] = string(t)
		}
		return edge.Resumed{Mode: protocol.ResumeResync, Events: m.events, Refetch: refetch, Token: from.String()}, nil
	case len(m.events) > 0:
		// If the client is lost in the middle of the replay, it begins anew from where it had begun.
		return edge.Resumed{Mode: protocol.ResumeReplayed, Events: m.events, Token: from.String()}, nil
	default:
		fresh.Mode = protocol.ResumeLossless
		return fresh, nil
	}
}

// continues reports whether a session can go on from a token: it is the same user's, and the node has heard as much.
func (n *Node) continues(ctx context.Context, id protocol.Identity, from protocol.ResumeToken) bool {
	if from.User != id.User {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, reachWithin)
	defer cancel()
	return n.applied.wait(ctx, from.Position)
}

// Served returns the token of a position up to which everything that the session is to hear has been delivered to it.
func (d doors) Served(s *edge.Session) string {
	// The order matters. What adds the user to a channel is applied before the watermark passes it; from then on the user
	// state waits, until the hub knows that the channel's topic catches up, until it has.
	p := d.n.hub.Applied()
	if settled, ok := d.n.cache.Settled(s.User()); ok {
		p = min(p, settled)
	}
	return protocol.ResumeToken{User: s.User(), Position: d.n.hub.Behind(receiver{s}, p)}.String()
}

// Detach undoes Attach.
func (d doors) Detach(s *edge.Session) {
	d.n.hub.Detach(receiver{s})
	d.n.cache.Release(s.User())
}
