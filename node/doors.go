package node

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"flannel/cache"
	"flannel/edge"
	"flannel/fanout"
	"flannel/protocol"
	"flannel/query"
	"flannel/upstream"
)

// doors joins the rooms: it is the edge's way to query, cache and hub, and query's way to the edge's socket addresses.
type doors struct{ n *Node }

var (
	_ edge.Queries  = doors{}
	_ edge.Hub      = doors{}
	_ query.Sockets = doors{}
	_ upstream.Sink = sink{}
)

// Identify implements edge.Queries.
func (d doors) Identify(ctx context.Context, token string) (*protocol.Identity, error) {
	id, err := d.n.query.Identify(ctx, token)
	return &id, err
}

// Answer implements edge.Queries.
func (d doors) Answer(ctx context.Context, id protocol.Identity, method string, args protocol.Args, host string) (*protocol.Reply, error) {
	d.n.top.asked(id)
	reply, err := d.n.query.Answer(ctx, id, method, args, host)
	if errors.Is(err, query.ErrForward) {
		err = edge.ErrForward
	}
	return reply, err
}

// Query implements edge.Queries.
func (d doors) Query(ctx context.Context, id protocol.Identity, path string, args json.RawMessage) (*protocol.Reply, error) {
	d.n.top.asked(id)
	return d.n.query.Query(ctx, id, path, args)
}

// Ready implements edge.Queries.
func (d doors) Ready(id *protocol.Identity, method, args, dst []byte) (body []byte, ok bool) {
	body, ok = d.n.query.Ready(id, method, args, dst)
	if ok {
		d.n.top.asked(*id)
	}
	return body, ok
}

// Boot implements edge.Queries.
func (d doors) Boot(ctx context.Context, id protocol.Identity, lazy bool, use func(userBoot, counts []byte)) error {
	return d.n.query.Boot(ctx, id, lazy, use)
}

// Member implements edge.Queries.
func (d doors) Member(user protocol.UserID, channel protocol.ChannelID) bool {
	u, freshness := d.n.cache.User(user)
	if freshness != cache.Fresh {
		return false
	}
	_, ok := u.Membership(channel)
	return ok
}

// Peek implements edge.Queries.
func (d doors) Peek(id protocol.Identity, ids []protocol.ObjectID) []protocol.Object {
	return d.n.query.Peek(id, ids)
}

// Hears implements edge.Queries.
func (d doors) Hears(id protocol.Identity, user protocol.UserID) (may, known bool) {
	return d.n.query.Hears(id, user)
}

// Badge implements edge.Queries.
func (d doors) Badge(id protocol.Identity, channel protocol.ChannelID) (protocol.Membership, bool) {
	return d.n.query.Badge(id, channel)
}

// RaiseFloor implements edge.Queries.
func (d doors) RaiseFloor(user protocol.UserID, p protocol.Position) { d.n.cache.RaiseFloor(user, p) }

// Applied implements edge.Queries.
func (d doors) Applied() protocol.Position { return d.n.cache.Applied() }

// URL implements query.Sockets.
func (d doors) URL(id protocol.Identity, params map[string]string, host string, fallback bool) (string, error) {
	return d.n.edge.URL(id, params, host, fallback)
}

// Home implements query.Sockets.
func (d doors) Home(id protocol.Identity, host string) string { return d.n.edge.Home(id, host) }

// receiver is a session as the hub sees it. Two of the same session are equal.
type receiver struct{ *edge.Session }

// Deliver implements fanout.Receiver.
func (r receiver) Deliver(f *fanout.Frame) { r.Session.Deliver(f.Event, &f.Shared) }

// visibleWithin bounds the look at who may be followed: one load at most.
const visibleWithin = 2 * time.Second

// WatchPresence implements edge.Hub. Only users whom the client may see are followed.
func (d doors) WatchPresence(s *edge.Session, users []protocol.UserID) {
	ctx, cancel := context.WithTimeout(context.Background(), visibleWithin)
	defer cancel()
	seen, err := d.n.query.Visible(ctx, s.Identity(), users)
	if err != nil {
		d.n.log.Debug("presence not followed", "err", err)
		return // The list stands as it was: better no news than somebody else's.
	}
	d.n.hub.WatchPresence(receiver{s}, seen)
}

// hears says whether a session may still hear of a user's presence.
func (n *Node) hears(r fanout.Receiver, user protocol.UserID) (may, known bool) {
	rec, ok := r.(receiver)
	if !ok {
		return false, true
	}
	return n.query.Hears(rec.Identity(), user)
}

// active reports whether a user is known to be active.
func (n *Node) active(user protocol.UserID) bool { return n.hub.Active(user) }

// actives returns all who are known to be active.
func (n *Node) actives() []protocol.UserID { return n.hub.Actives() }

// lookAgain lets a session's list of users whose presence it follows be looked at anew, with loads if need be.
func lookAgain(r fanout.Receiver) {
	if rec, ok := r.(receiver); ok {
		rec.Rewatch()
	}
}

// presence is the hub's way to the topics of presence.
type presence struct{ up *upstream.Upstream }

// Follow implements fanout.PresenceDoor.
func (p presence) Follow(user protocol.UserID) {
	p.up.FollowAsync([]protocol.TopicState{{Topic: protocol.PresenceTopic(user)}})
}

// Unfollow implements fanout.PresenceDoor.
func (p presence) Unfollow(user protocol.UserID) { p.up.Unfollow(protocol.PresenceTopic(user)) }

// Report implements fanout.PresenceDoor.
func (p presence) Report(present, absent []protocol.UserID) { p.up.Report(present, absent) }
