package query

import (
	"context"
	"slices"
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

// Badge returns id's place in a channel, for a badge; a zero one if they are not in it. known is false if that is not
// known now. It never waits: a state that is void is loaded for the next time, because somebody who only gets badges may
// not read anything for hours.
func (s *Service) Badge(id protocol.Identity, ch protocol.ChannelID) (m protocol.Membership, known bool) {
	u, freshness := s.cache.User(id.User)
	if freshness != cache.Fresh {
		if s.loader.Live() {
			s.reload(id)
		}
		return protocol.Membership{}, false
	}
	m, _ = u.Membership(ch)
	return m, true
}

// reload loads a user's state, beside the caller.
func (s *Service) reload(id protocol.Identity) {
	key := protocol.ObjectID("state of " + id.User) // Apart from the user's object.
	s.beside([]protocol.ObjectID{key}, func(ctx context.Context, _ []protocol.ObjectID) {
		s.userFrom(ctx, id, nil) //nolint:errcheck // Whoever wants it asks again.
	})
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
	ids = slices.DeleteFunc(ids, func(id protocol.ObjectID) bool { return protocol.KindOf(id) == "" })
	s.beside(ids, func(ctx context.Context, mine []protocol.ObjectID) {
		// Looked at again: another load may have landed between the caller's look and this one.
		mine = slices.DeleteFunc(slices.Clone(mine), func(id protocol.ObjectID) bool {
			_, freshness := s.cache.Get(id, 0)
			return freshness != cache.Missing
		})
		if len(mine) == 0 {
			return
		}
		answers, err := s.loader.Objects(ctx, workspace, mine, s.cache.Applied())
		if err != nil {
			return
		}
		for _, answer := range answers {
			s.cache.Fill(answer)
		}
	})
}

// beside lets load load those of ids that nobody loads already.
func (s *Service) beside(ids []protocol.ObjectID, load func(ctx context.Context, mine []protocol.ObjectID)) {
	if len(ids) == 0 {
		return
	}
	w := &s.warming
	var mine []protocol.ObjectID
	w.mu.Lock()
	for _, id := range ids {
		if _, already := w.ids[id]; already || len(w.ids) >= maxWarming {
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
		load(ctx, mine)
	}); err != nil {
		done() // Too many loads are under way: the next time, then.
	}
}
