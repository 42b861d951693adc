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

// maxSetPages bounds how much of a channel is loaded to make a member set: 100 pages of 10,000 hold more than the largest
// channel that is known.
const maxSetPages = 100

// setWait is how long a read waits for a member set before it goes on without: small channels are there by then, and a
// page of a large one need not wait for all of it.
const setWait = 100 * time.Millisecond

// errNoSet says that a channel's members are not kept here. It never leaves the package.
var errNoSet = &protocol.Error{Code: protocol.CodeTooLarge, Message: "the channel's members are not kept"}

// set returns the members of a channel as they are kept here, loading them once; nil if they are not kept: the channel
// is not followed, too large or still loading, or the reader must go past the cache.
func (r *reader) set(ch protocol.ChannelID) (*cache.Set, error) { return r.setWithin(ch, setWait) }

// setWithin is set with another time to wait; what comes later is kept all the same.
func (r *reader) setWithin(ch protocol.ChannelID, wait time.Duration) (*cache.Set, error) {
	if r.floor > r.s.cache.Applied() {
		return nil, nil
	}
	if set, freshness := r.s.cache.Members(ch); freshness == cache.Fresh {
		return set, nil
	}
	if _, member := r.membership(ch); !member || !r.s.loader.Live() || r.s.unkept.has(ch) {
		return nil, nil // Nobody here follows it for sure, or it is known to be too large: a set would not be kept.
	}
	ctx, cancel := context.WithTimeout(r.ctx, wait)
	defer cancel()
	set, err := r.s.sets.do(ctx, ch, func(ctx context.Context) (*cache.Set, error) { return r.s.loadSet(ctx, ch) })
	if err == errNoSet || (err != nil && ctx.Err() != nil && r.ctx.Err() == nil) { //nolint:errorlint // This very value, not one with its code.
		return nil, nil
	}
	return set, err
}

// loadSet loads a channel's members, page by page. The set stands at the first page's position: what changed since
// comes as events.
func (s *Service) loadSet(ctx context.Context, ch protocol.ChannelID) (*cache.Set, error) {
	for range maxOutrun {
		users, at, err := s.loadMembers(ctx, ch, s.cache.Applied())
		if err != nil {
			return nil, err
		}
		set, err := s.cache.FillMembers(ch, users, at)
		switch {
		case err == nil:
			s.metrics.setLoads.Inc()
			if _, freshness := s.cache.Members(ch); freshness != cache.Fresh {
				s.unkept.add(ch)
			}
			return set, nil
		case !errors.Is(err, cache.ErrOutrun):
			return nil, asError(err)
		}
	}
	return nil, unavailable("the channel changes faster than it can be loaded")
}

// loadMembers returns all members of a channel and the position of the first page, errNoSet if there are too many.
func (s *Service) loadMembers(ctx context.Context, ch protocol.ChannelID, atLeast protocol.Position) (users []protocol.UserID, at protocol.Position, err error) {
	req := protocol.MembersRequest{Channel: ch, Limit: protocol.MaxMembersLimit, AtLeast: atLeast}
	for page := range maxSetPages {
		answer, err := s.loader.Members(ctx, req)
		if err != nil {
			return nil, 0, asError(err)
		}
		if page == 0 {
			at = answer.Position
			if answer.Total > maxSetPages*protocol.MaxMembersLimit {
				break
			}
			users = make([]protocol.UserID, 0, max(0, answer.Total))
		}
		if users = append(users, answer.Users...); answer.NextCursor == "" {
			return users, at, nil
		}
		req.Cursor = answer.NextCursor
	}
	s.unkept.add(ch)
	return nil, 0, errNoSet
}

// people returns all members of a channel, loaded only for this read if they are not kept here. It returns nil if there
// are too many.
func (r *reader) people(ch protocol.ChannelID) (*cache.People, error) {
	set, err := r.setWithin(ch, r.s.config.LoadTimeout)
	if err != nil {
		return nil, err
	}
	if set != nil {
		return set.People(), nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.s.config.LoadTimeout)
	defer cancel()
	users, _, err := r.s.loadMembers(ctx, ch, r.atLeast())
	if err == errNoSet { //nolint:errorlint // This very value, not one with its code.
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return r.s.cache.People(objectIDs(users)), nil
}

// isMember reports whether user is in a channel, asking the backend for that one place if the set is not kept.
func (r *reader) isMember(ch protocol.ChannelID, user protocol.UserID) (bool, error) {
	set, err := r.set(ch)
	if err != nil {
		return false, err
	}
	if set != nil {
		return set.Contains(user), nil
	}
	page, _, err := r.memberPage(ch, user, 1)
	return len(page) == 1 && page[0] == user, err
}

// membersAmong returns those of users, which it sorts, who are in a channel.
func (r *reader) membersAmong(ch protocol.ChannelID, users []protocol.UserID) (map[protocol.UserID]bool, error) {
	in := make(map[protocol.UserID]bool, len(users))
	slices.Sort(users)
	for len(users) > 0 {
		if len(users) <= maxSingly {
			for _, u := range users {
				var err error
				if in[u], err = r.isMember(ch, u); err != nil {
					return nil, err
				}
			}
			return in, nil
		}
		page, next, err := r.memberPage(ch, users[0], protocol.MaxMembersLimit-1)
		if err != nil {
			return nil, err
		}
		for _, u := range page {
			in[u] = true
		}
		if next == "" {
			break
		}
		done, _ := slices.BinarySearch(users, next)
		users = users[done:]
	}
	return in, nil
}

// maxSingly is up to how many places in a channel are asked for one by one rather than by the page.
const maxSingly = 3

// memberPage returns up to limit members in id order, beginning at from, and the one after them, "" at the end.
func (r *reader) memberPage(ch protocol.ChannelID, from protocol.UserID, limit int) (page []protocol.UserID, next protocol.UserID, err error) {
	set, err := r.set(ch)
	if err != nil {
		return nil, "", err
	}
	after := protocol.UserID(before(string(from)))
	for len(page) <= limit {
		want := limit + 1 - len(page)
		var got []protocol.UserID
		more := false
		if set != nil {
			got, more = set.Page(after, want)
		} else {
			answer, err := r.s.loader.Members(r.ctx, protocol.MembersRequest{
				Channel: ch, Cursor: after, Limit: min(want, protocol.MaxMembersLimit), AtLeast: r.atLeast()})
			if err != nil {
				return nil, "", asError(err)
			}
			r.user.RaiseFloor(answer.Position) // The next page may not be older than this one.
			got, more = answer.Users, answer.NextCursor != ""
		}
		if len(got) == 0 {
			break
		}
		after = got[len(got)-1]
		for _, u := range got {
			if u >= from { // before is not exact for ids of unusual length.
				page = append(page, u)
			}
		}
		if !more {
			break
		}
	}
	if len(page) > limit {
		return page[:limit], page[limit], nil
	}
	return page, "", nil
}

// numMembers counts a channel.
func (r *reader) numMembers(ch protocol.ChannelID) (int, error) {
	set, err := r.set(ch)
	if err != nil {
		return 0, err
	}
	if set != nil {
		return set.Len(), nil
	}
	answer, err := r.s.loader.Members(r.ctx, protocol.MembersRequest{Channel: ch, Limit: 1, AtLeast: r.atLeast()})
	if err != nil {
		return 0, asError(err)
	}
	return answer.Total, nil
}

// companions lists the users who share a channel with the reader, themself too, in id order. It is for guests, who are
// in few channels.
func (r *reader) companions() ([]protocol.UserID, error) {
	if err := r.permitted(); err != nil {
		return nil, err
	}
	users := []protocol.UserID{r.id.User}
	for _, m := range r.memberships() {
		for from := protocol.UserID(""); ; {
			page, next, err := r.memberPage(m.Channel, from, protocol.MaxMembersLimit)
			if err != nil {
				return nil, err
			}
			users = append(users, page...)
			if next == "" {
				break
			}
			from = next
		}
		slices.Sort(users)
		users = slices.Compact(users)
	}
	return users, nil
}

// company is companions as a set, for searches.
func (r *reader) company() (*cache.People, error) {
	if err := r.permitted(); err != nil {
		return nil, err
	}
	ids := []protocol.ObjectID{protocol.ObjectID(r.id.User)}
	var sets []*cache.Set
	for _, m := range r.memberships() {
		if m.Type == protocol.TypeDM {
			ids = append(ids, protocol.ObjectID(m.Peer))
			continue
		}
		set, err := r.set(m.Channel)
		if err != nil {
			return nil, err
		}
		if set != nil {
			sets = append(sets, set)
			continue
		}
		for from := protocol.UserID(""); ; {
			page, next, err := r.memberPage(m.Channel, from, protocol.MaxMembersLimit)
			if err != nil {
				return nil, err
			}
			if ids = append(ids, objectIDs(page)...); next == "" {
				break
			}
			from = next
		}
	}
	return r.s.cache.People(ids, sets...), nil
}

// warmGuest loads the member sets of a guest's channels, so that Allow knows who shares a channel with them. A failure
// leaves the guest without some workspace events until a set is loaded (acquaint); it does not fail the load.
func (s *Service) warmGuest(ctx context.Context, u *cache.User) {
	if u.Role().Full() {
		return
	}
	for _, m := range u.Memberships() {
		if _, freshness := s.cache.Members(m.Channel); freshness == cache.Fresh || m.Type == protocol.TypeDM {
			continue
		}
		_, err := s.sets.do(ctx, m.Channel, func(ctx context.Context) (*cache.Set, error) { return s.loadSet(ctx, m.Channel) })
		if err != nil && err != error(errNoSet) { //nolint:errorlint // This very value.
			s.log.Debug("member set of a guest not loaded", "channel", m.Channel, "err", err)
		}
	}
}

// unkept remembers the channels whose member sets, or the directories that, cannot be kept, so that they are not loaded
// at every read in vain.
type unkept[K comparable] struct {
	now func() time.Time

	// mu guards until, which has at most maxUnkept entries.
	mu    sync.Mutex
	until map[K]time.Time
}

const (
	// unkeptFor is how long a set is not tried again: a channel shrinks, or is followed, in human time.
	unkeptFor = time.Minute
	maxUnkept = 10_000
)

func (u *unkept[K]) has(ch K) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	until, ok := u.until[ch]
	if ok && !u.now().Before(until) {
		delete(u.until, ch)
		return false
	}
	return ok
}

func (u *unkept[K]) add(ch K) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.until == nil || len(u.until) >= maxUnkept { // All of them: it is cheap to learn again.
		u.until = make(map[K]time.Time)
	}
	u.until[ch] = u.now().Add(unkeptFor)
}

// before returns a well-formed id that sorts below id and above almost every other id below it: pages of the upstream
// contract go on after an id, cursors of the dialect at one. 12 Zs are longer than any id that differs in its last
// character only.
func before(id string) string {
	if id == "" {
		return ""
	}
	head, last := id[:len(id)-1], id[len(id)-1]
	switch {
	case last == '0':
		return head // Nothing sorts between a string and itself with a 0 behind.
	case last == 'A':
		last = '9'
	default:
		last--
	}
	return head + string(last) + "ZZZZZZZZZZZZ"
}
