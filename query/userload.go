package query

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"flannel/cache"
	"flannel/protocol"
)

// maxOutrun is how often a user is loaded again because events outran the load: each time means a second's worth of
// events of one user's topics, so a third is never needed while the backend is well.
const maxOutrun = 3

// User returns the user's state, loaded and followed. While the stream is down it may be stale, which Answer and Query
// know to handle; a user who is not loaded is then CodeUnavailable.
func (s *Service) User(ctx context.Context, id protocol.Identity) (*cache.User, error) {
	u, _, err := s.user(ctx, id)
	if err == nil {
		s.warmUnlessRush(ctx, u) // What was loaded with them may be gone, or they were no guest then.
	}
	return u, err
}

// user is User, and tells whether the state is fresh.
func (s *Service) user(ctx context.Context, id protocol.Identity) (*cache.User, bool, error) {
	u, freshness := s.cache.User(id.User)
	switch {
	case freshness == cache.Fresh:
		return u, true, nil
	case freshness == cache.Stale && !s.loader.Live():
		return u, false, nil
	}
	u, err := s.userFrom(ctx, id, nil)
	if err != nil {
		return nil, false, err
	}
	_, freshness = s.cache.User(id.User)
	return u, freshness == cache.Fresh, nil
}

// userFrom loads a user, following the user topic from a position if one is given.
func (s *Service) userFrom(ctx context.Context, id protocol.Identity, from *protocol.Position) (*cache.User, error) {
	return s.users.do(ctx, id.User, func(ctx context.Context) (*cache.User, error) {
		// Looked at again: another flight may have landed between the caller's look and this one.
		if u, freshness := s.cache.User(id.User); freshness == cache.Fresh {
			return u, nil
		}
		return s.loadUser(ctx, id, from)
	})
}

// loadUser subscribes first, then loads: the user's own topic and those of their workspaces, the boot, and the channels
// that it lists from its position on. What it followed stays followed if it succeeds, or if an older state needs it.
func (s *Service) loadUser(ctx context.Context, id protocol.Identity, from *protocol.Position) (u *cache.User, err error) {
	s.mu.Lock()
	h := s.held.of[id.User]
	if h == nil {
		h = new(holding)
		s.held.of[id.User] = h
	}
	h.loading = true
	s.mu.Unlock()
	defer func() { s.loaded(id.User, h, u) }()

	base := []protocol.TopicState{{Topic: protocol.Topic(id.User), Position: from}}
	for _, w := range id.Workspaces {
		base = append(base, protocol.TopicState{Topic: protocol.Topic(w)})
	}
	if err := s.follow(ctx, h, base); err != nil {
		return nil, err
	}
	for range maxOutrun {
		applied := s.cache.Applied()
		boot, at, err := s.loader.Boot(ctx, id.User, applied)
		if err != nil {
			return nil, asError(err)
		}
		if boot.Error != "" {
			return nil, &protocol.Error{Code: boot.Error}
		}
		// The boot may be ahead of the stream, and the user have sessions already, which are still to hear what happened in a
		// channel that they came to since.
		start := at
		if applied > 0 {
			start = min(at, applied)
		}
		channels := make([]protocol.TopicState, 0, len(boot.Memberships))
		for i := range boot.Memberships {
			channels = append(channels, protocol.TopicState{Topic: protocol.Topic(boot.Memberships[i].Channel), Position: &start})
		}
		if err := s.follow(ctx, h, channels); err != nil {
			return nil, err
		}
		u, err := s.cache.FillUser(&boot, at)
		if errors.Is(err, cache.ErrOutrun) {
			s.metrics.outrun.Inc()
			continue
		}
		if err != nil {
			return nil, asError(err)
		}
		if err := s.reconcile(ctx, h, u, start); err != nil {
			return nil, err
		}
		if kept, _ := s.cache.User(id.User); kept != u {
			// Forced out already, or its topic is not followed whatever we hold: begin anew the next time.
			s.mu.Lock()
			h.user = nil
			s.mu.Unlock()
			return nil, unavailable("the user's state could not be kept")
		}
		if boot.Self != nil { // n users who boot cost no load of n objects.
			s.cache.Fill(&protocol.ObjectsAnswer{Objects: []protocol.Object{*boot.Self}, Position: at})
		}
		s.metrics.userLoads.Inc()
		s.rush.came(s.now())
		s.warmUnlessRush(ctx, u)
		return u, nil
	}
	return nil, unavailable("the user changes faster than they can be loaded")
}

// warmUnlessRush is warmGuest, but not for those who come in a rush: their channels' sets would be a load each, when the backend has
// most to do. Allow has them loaded when it needs them.
func (s *Service) warmUnlessRush(ctx context.Context, u *cache.User) {
	if !u.Role().Full() && !s.rush.leaves(u.ID(), s.now()) {
		s.warmGuest(ctx, u)
	}
}

// rush tells whether many users come at once, and remembers whose sets were left for later. The zero value is ready.
type rush struct {
	// mu guards what follows: how many came in this span and the one before, and left, which has at most maxLeft.
	mu           sync.Mutex
	span         int64
	these, those int
	left         map[protocol.UserID]struct{}
}

const (
	// rushUsers in ten seconds are more than log in by chance, and few enough to serve each as if they were alone.
	rushUsers = 40
	// rushSpan is the part of that time that is counted at once, in seconds.
	rushSpan = 5
	maxLeft  = 10_000
)

// came counts a user who was loaded.
func (r *rush) came(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turnLocked(now)
	r.these++
}

// leaves reports whether the user's sets are left for later: there is a rush, or they came in one.
func (r *rush) leaves(user protocol.UserID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turnLocked(now)
	if _, left := r.left[user]; left {
		return true
	}
	if r.these+r.those <= rushUsers {
		return false
	}
	if r.left == nil || len(r.left) >= maxLeft {
		r.left = make(map[protocol.UserID]struct{}) // Those forgotten cost a few loads when they come back.
	}
	r.left[user] = struct{}{}
	return true
}

func (r *rush) turnLocked(now time.Time) {
	span := now.Unix() / rushSpan
	switch span - r.span {
	case 0:
	case 1:
		r.span, r.those, r.these = span, r.these, 0
	default:
		r.span, r.those, r.these = span, 0, 0
	}
}

// follow takes a reference for each topic that h has not, and waits until they are followed.
func (s *Service) follow(ctx context.Context, h *holding, topics []protocol.TopicState) error {
	s.mu.Lock()
	missing := s.held.missing(h, topics)
	s.mu.Unlock()
	if len(missing) == 0 {
		return nil
	}
	if err := s.loader.Follow(ctx, missing); err != nil {
		return asError(err)
	}
	s.mu.Lock()
	twice := s.held.addAll(h, missing) // Moved was faster.
	s.mu.Unlock()
	s.unfollow(twice)
	return nil
}

// reconcile makes h follow exactly the channels that the state has now, which differ from those of the boot at the
// position that channels are followed from by what happened meanwhile. After the pass that finds nothing missing, Moved keeps it so: mu is held
// across the snapshot, which puts every change either into it or after it.
func (s *Service) reconcile(ctx context.Context, h *holding, u *cache.User, from protocol.Position) error {
	for {
		s.mu.Lock()
		h.user = u
		gone, missing := s.held.keep(h, u.Channels())
		s.mu.Unlock()
		s.unfollow(gone)
		if len(missing) == 0 {
			return nil
		}
		states := make([]protocol.TopicState, len(missing))
		for i, t := range missing {
			states[i] = protocol.TopicState{Topic: t, Position: &from}
		}
		if err := s.follow(ctx, h, states); err != nil {
			return err
		}
	}
}

func (s *Service) unfollow(topics []protocol.Topic) {
	if len(topics) > 0 {
		s.loader.Unfollow(topics...)
	}
}

// loaded ends a load. If it failed and no older state needs the topics, they are given back.
func (s *Service) loaded(user protocol.UserID, h *holding, u *cache.User) {
	s.mu.Lock()
	h.loading = false
	var back []protocol.Topic
	if u == nil && h.user == nil {
		back = s.held.forget(user, h)
	}
	s.mu.Unlock()
	s.unfollow(back)
}

// Moved keeps what is followed in step with memberships: node calls it for every event with what cache.Apply returned
// for it and the event's position, in order, and follows and unfollows no channels of users itself. A channel is
// followed from just below the position, because the same commit has the event that tells the others of the join; it is
// given back by Reached. Moved does not block.
func (s *Service) Moved(c cache.Change, at protocol.Position) {
	defer s.acquaintMoved(&c)
	if len(c.Joined) == 0 && len(c.Left) == 0 && len(c.Passed) == 0 {
		return
	}
	above := at
	at = max(at, 1) - 1
	var follow []protocol.TopicState
	var back []protocol.Topic
	s.mu.Lock()
	for _, j := range c.Joined {
		if h := s.held.of[j.User]; h != nil && s.held.add(h, protocol.Topic(j.Channel)) {
			follow = append(follow, protocol.TopicState{Topic: protocol.Topic(j.Channel), Position: &at})
		}
	}
	for _, l := range c.Left {
		if h := s.held.of[l.User]; h != nil && s.held.remove(h, protocol.Topic(l.Channel)) {
			back = s.leaveLocked(back, leaving{protocol.Topic(l.Channel), above, s.now()})
		}
	}
	for _, p := range c.Passed { // The user's sessions are still to hear what happened while they were in.
		if s.held.of[p.User] != nil {
			follow = append(follow, protocol.TopicState{Topic: protocol.Topic(p.Channel), Position: &at})
			back = s.leaveLocked(back, leaving{protocol.Topic(p.Channel), p.Until, s.now()})
		}
	}
	s.mu.Unlock()
	if len(follow) > 0 {
		s.loader.FollowAsync(follow)
	}
	s.unfollow(back)
}

// leaving is the topic of a channel that a user has left at a position.
type leaving struct {
	topic protocol.Topic
	at    protocol.Position
	since time.Time
}

const (
	// lingerMost bounds how long a topic is followed for somebody who has left.
	lingerMost = time.Minute
	// maxLeaving bounds how many are: each batch of events that was applied ends with a Reached.
	maxLeaving = 10_000
)

// leaveLocked puts off that a topic is given back. Is there no room, the one that waits longest is given back before its
// time: it goes to back.
func (s *Service) leaveLocked(back []protocol.Topic, l leaving) []protocol.Topic {
	if len(s.leaving) >= maxLeaving {
		back = append(back, s.leaving[0].topic)
		s.leaving = s.leaving[1:]
	}
	s.leaving = append(s.leaving, l)
	return back
}

// Reached says that all events up to p of what is followed have been applied. node calls it where it calls Moved. A
// channel that its last user has left is given back only now: what happened in it before may have come later than the
// user's own topic, and is theirs.
func (s *Service) Reached(p protocol.Position) {
	s.mu.Lock()
	if len(s.leaving) == 0 {
		s.mu.Unlock()
		return
	}
	var back []protocol.Topic
	now := s.now()
	s.leaving = slices.DeleteFunc(s.leaving, func(l leaving) bool {
		over := l.at <= p && s.cache.Follows(l.topic) || now.Sub(l.since) > lingerMost
		if over {
			back = append(back, l.topic)
		}
		return over
	})
	if len(s.leaving) == 0 {
		s.leaving = nil
	}
	s.mu.Unlock()
	s.unfollow(back)
}

// Drop gives back what was followed for a state that the cache has expired. It does nothing if the user has a newer
// state or one is being loaded.
func (s *Service) Drop(u *cache.User) {
	var back []protocol.Topic
	s.mu.Lock()
	if h := s.held.of[u.ID()]; h != nil && h.user == u {
		h.user = nil
		if !h.loading { // Else the load that runs takes them over, or gives them back.
			back = s.held.forget(u.ID(), h)
		}
	}
	s.mu.Unlock()
	s.unfollow(back)
}
