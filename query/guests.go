package query

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"flannel/cache"
	"flannel/protocol"
)

// Guests see only the people whom they share a channel with. Events are decided from memory (Service.Allow), so the
// member sets of a guest's channels are loaded with the guest, when they come into a channel, when somebody becomes a
// guest, and when a decision finds one missing. And a guest's page of the workspace is made of whom they see, not of all
// with most left out: neither its marker nor the number of pages tells of the others.

// acquaint begins to load the member sets of channels that are not at hand. It does not wait. A channel that has just
// been joined is followed first: a set is kept only while its topic is.
func (s *Service) acquaint(channels []protocol.ChannelID) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // do begins a flight, or finds one, and leaves.
	for _, ch := range channels {
		if _, freshness := s.cache.Members(ch); freshness == cache.Fresh || s.unkept.has(ch) {
			continue
		}
		//nolint:errcheck // If it fails, the next decision that misses the set tries again.
		s.sets.do(ctx, ch, func(ctx context.Context) (*cache.Set, error) {
			topic := protocol.Topic(ch)
			if err := s.loader.Follow(ctx, []protocol.TopicState{{Topic: topic}}); err != nil {
				return nil, asError(err)
			}
			defer s.loader.Unfollow(topic)
			return s.loadSet(ctx, ch)
		})
	}
}

// acquaintMoved is acquaint for guests who came into channels, and those who became guests, by an event.
func (s *Service) acquaintMoved(c *cache.Change) {
	for _, j := range c.Joined {
		if u, freshness := s.cache.User(j.User); freshness == cache.Fresh && !u.Role().Full() {
			s.acquaint([]protocol.ChannelID{j.Channel})
		}
	}
	for _, r := range c.Roles {
		if u, freshness := s.cache.User(r.User); freshness == cache.Fresh && !r.Role.Full() {
			s.acquaint(meetingPlaces(u))
		}
	}
}

// meetingPlaces lists the channels whose member sets say whom a user meets: all but direct messages, which name them.
func meetingPlaces(u *cache.User) []protocol.ChannelID {
	var channels []protocol.ChannelID
	for _, m := range u.Memberships() {
		if m.Type != protocol.TypeDM {
			channels = append(channels, m.Channel)
		}
	}
	return channels
}

// guestDirectory answers a page of the people of the workspace whom a reader who is not a full member sees. Guests are in
// few channels with few people: all of them are looked at for each page.
func (r *reader) guestDirectory(l *listArgs, keep func(*protocol.ListEntry) bool) ([]byte, error) {
	users, err := r.companions()
	if err != nil {
		return nil, err
	}
	ids := make([]protocol.ObjectID, len(users))
	for i, u := range users {
		ids[i] = protocol.ObjectID(u)
	}
	objects, err := r.objects(ids)
	if err != nil {
		return nil, err
	}
	type listed struct {
		entry  protocol.ListEntry
		object *protocol.Object
	}
	var people []listed
	for i := range objects {
		o := &objects[i]
		if o.ID == "" || o.Owner != r.workspace {
			continue
		}
		var u protocol.User
		if json.Unmarshal(o.Body, &u) != nil {
			continue // Not ours: the contract says what a user looks like.
		}
		e := u.Entry()
		if l.marker.passed(&e) || l.marker.First.has(e.ID) || !keep(&e) {
			continue
		}
		if sees, err := r.sees(o); err != nil {
			return nil, err
		} else if sees {
			people = append(people, listed{e, o})
		}
	}
	slices.SortFunc(people, func(a, b listed) int { return compareIn(l.order, &a.entry, &b.entry) })
	b := append([]byte(nil), `{"results":[`...)
	first, left := l.marker.First, l.count
	if active := r.s.present.get(); active != nil && l.presentFirst() {
		var ids []protocol.ObjectID
		for i := range people {
			if active.Contains(people[i].entry.ID) {
				ids = append(ids, people[i].entry.ID)
			}
		}
		first = ids[:min(l.count, first.room(ids))]
		slices.Sort(first)
		left -= len(first)
		people = slices.DeleteFunc(people, func(p listed) bool {
			if first.has(p.entry.ID) {
				b = r.appendUser(separated(b), p.object)
				return true
			}
			return false
		})
	}
	for i := range people[:min(left, len(people))] {
		b = r.appendUser(separated(b), people[i].object)
	}
	if len(people) <= left {
		return ok(append(b, ']')), nil
	}
	at := marker{Order: l.order, First: first}
	if left > 0 {
		at.Sort, at.ID = people[left-1].entry.SortName, people[left-1].entry.ID
	}
	return ok(r.nextMarker(b, at, l.order)), nil
}

// compareIn orders two entries of a list.
func compareIn(order protocol.ListOrder, a, b *protocol.ListEntry) int {
	if c := strings.Compare(a.SortName, b.SortName); c != 0 && order == protocol.ByName {
		return c
	}
	return strings.Compare(string(a.ID), string(b.ID))
}
