package node

import (
	"flannel/cache"
	"flannel/fanout"
	"flannel/protocol"
)

// sink is where the upstream's stream ends: in the cache, then in the hub. upstream calls it from one goroutine.
type sink struct{ n *Node }

// Events implements upstream.Sink. The cache comes first: nobody hears of a change that the cache does not know yet.
func (s sink) Events(run []*protocol.Event) {
	var change cache.Change // of the only event: several at once are messages, which change nobody
	s.n.hub.PublishAfter(func() {
		for _, ev := range run {
			change = s.n.cache.Apply(ev)
			s.n.query.Moved(change, ev.Position)
		}
	}, run...)
	for _, r := range change.Roles {
		if s.n.hub.SetRole(r.User, r.Role) {
			// A session's identity says whose public things it sees. It does not change: who becomes a guest, or a full
			// member, comes back with a new one, and what they knew before is to be fetched again.
			s.n.edge.CloseUser(r.User, "", protocol.CloseResync)
		}
	}
	for _, r := range change.Revoked {
		s.n.edge.CloseUser(r.User, r.Token, protocol.CloseTokenRevoked)
	}
}

// Followed implements upstream.Sink.
func (s sink) Followed(t protocol.Topic, seq protocol.Seq, p protocol.Position) {
	s.n.hub.Followed(t, seq, p) // Before the cache: see doors.Served.
	s.n.cache.Followed(t, seq, p)
}

// Reset implements upstream.Sink. Who heard of the topic has missed something: they are told to start anew.
func (s sink) Reset(t protocol.Topic, p protocol.Position) {
	s.n.cache.Reset(t, p)
	s.n.hub.Forget(t, tellLost)
	s.n.hub.Followed(t, 0, p)
}

// Unfollowed implements upstream.Sink.
func (s sink) Unfollowed(t protocol.Topic) {
	s.n.cache.Unfollowed(t)
	s.n.hub.Forget(t, func(fanout.Receiver) {})
}

// Watermark implements upstream.Sink. Writers who wait to read their own writes are woken by it.
func (s sink) Watermark(p protocol.Position) {
	s.n.cache.Watermark(p)
	s.n.hub.Watermark(p)
	s.n.query.Reached(p)
	s.n.applied.raise(p)
	s.n.edge.Advanced(p)
}

// Live implements upstream.Sink.
func (s sink) Live(up bool) {
	s.n.cache.Live(up)
	if up {
		s.n.liveOnce.Do(func() { close(s.n.live) })
	}
}

// tellLost ends a session that cannot be told everything: it comes back and is told what to fetch again.
func tellLost(r fanout.Receiver) {
	if rec, ok := r.(receiver); ok {
		rec.Goodbye(protocol.CloseResync, 0)
	}
}
