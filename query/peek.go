package query

import (
	"context"
	"sync"

	"flannel/cache"
	"flannel/protocol"
)

// Peek returns those of the objects that the cache has and id may see, in their order. It never waits: what cannot be
// decided at once is left out, and what is not cached is loaded for the next time. It is for objects that go before an
// event, which must not wait for them.
func (s *Service) Peek(id protocol.Identity, ids []protocol.ObjectID) []protocol.Object {
	u, freshness := s.cache.User(id.User)
	if freshness != cache.Fresh {
		return nil
	}
	full, floor := u.Role().Full(), u.Floor()
	r := reader{id: &id}
	var seen []protocol.Object
	var missing []protocol.ObjectID
	for _, oid := range ids {
		o, freshness := s.cache.Get(oid, floor)
		switch freshness {
		case cache.Fresh:
			if full && r.ofOurs(o.Visibility.Workspaces) || s.allows(u, &o) {
				seen = append(seen, o)
			}
		case cache.Missing:
			missing = append(missing, oid)
		}
	}
	s.prefetch(id.Workspace, missing)
	return seen
}

// Badge returns a user's place in a channel, for a badge. ok is false if they are not in it, or if that is not known now.
func (s *Service) Badge(user protocol.UserID, ch protocol.ChannelID) (m protocol.Membership, ok bool) {
	u, freshness := s.cache.User(user)
	if freshness != cache.Fresh {
		return protocol.Membership{}, false
	}
	return u.Membership(ch)
}

// maxWarming bounds the objects that are loaded for the next time.
const maxWarming = 1000

// warming are the objects that are being loaded for the next time: one load for the thousand sessions that miss them.
type warming struct {
	mu  sync.Mutex
	ids map[protocol.ObjectID]struct{} // guarded by mu
}

// prefetch loads objects into the cache, beside the caller.
func (s *Service) prefetch(workspace protocol.WorkspaceID, ids []protocol.ObjectID) {
	if len(ids) == 0 {
		return
	}
	w := &s.warming
	var mine []protocol.ObjectID
	w.mu.Lock()
	for _, id := range ids {
		if _, already := w.ids[id]; already || len(w.ids) >= maxWarming || protocol.KindOf(id) == "" {
			continue
		}
		if w.ids == nil {
			w.ids = make(map[protocol.ObjectID]struct{})
		}
		w.ids[id] = struct{}{}
		mine = append(mine, id)
	}
	w.mu.Unlock()
	if len(mine) == 0 {
		return
	}
	done := func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, id := range mine {
			delete(w.ids, id)
		}
	}
	if err := s.tasks.start(context.Background(), func(ctx context.Context) {
		defer done()
		answer, err := s.loader.Objects(ctx, workspace, mine, s.cache.Applied())
		if err == nil {
			s.cache.Fill(answer)
		}
	}); err != nil {
		done() // Too many loads are under way: the next time, then.
	}
}
