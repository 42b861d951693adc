package query

import (
	"context"
	"encoding/json"
	"strings"

	"flannel/cache"
	"flannel/protocol"
)

// maxStrangers bounds the people of other workspaces whose objects a search looks at: they are in no directory of this
// one.
const maxStrangers = 200

// usersSearchQuery finds people by the beginnings of their names: for a quick switcher, or to complete a mention.
func usersSearchQuery(r *reader, args json.RawMessage) ([]byte, error) {
	a, err := r.searchArgs(args)
	if err != nil {
		return nil, err
	}
	a.email = a.email && r.full
	q := a.query()
	q.Near = r.nearby(a.channel)
	look := q.Near // where strangers may be
	if !r.full {
		if q.Among, err = r.company(); err != nil {
			return nil, err
		}
		look = q.Among
	}
	d := r.index(protocol.KindUser, true)
	if err := r.strangers(q, d, look); err != nil {
		return nil, err
	}
	ids, err := r.find(protocol.KindUser, d, q)
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, 1024*min(a.count, len(ids)+1)), `{"results":[`...)
	b, shown, err := r.appendFound(b, ids, a.count)
	if err != nil {
		return nil, err
	}
	b = append(b, ']')
	if active := r.active(shown); len(active) > 0 {
		b = appendIDs(b, "presence_active_ids", active)
	}
	return ok(b), nil
}

// active returns those of the users who are known to be active: nobody's presence is asked for here.
func (r *reader) active(users []protocol.ObjectID) (active []protocol.ObjectID) {
	if r.s.active == nil {
		return nil
	}
	for _, id := range users {
		if r.s.active(protocol.UserID(id)) {
			active = append(active, id)
		}
	}
	return active
}

// channelsSearchQuery finds channels: public ones of the workspace, and whatever the reader is in but direct messages.
func channelsSearchQuery(r *reader, args json.RawMessage) ([]byte, error) {
	a, err := r.searchArgs(args)
	if err != nil {
		return nil, err
	}
	a.email = false
	q := a.query()
	var mine []protocol.Membership
	if q.Extra, mine, err = r.ownChannels(); err != nil {
		return nil, err
	}
	q.Near = r.s.cache.Places(mine)
	var ids []protocol.ObjectID
	if r.full {
		ids, err = r.find(protocol.KindChannel, r.index(protocol.KindChannel, true), q)
	} else {
		ids = r.s.cache.Search(nil, q)
	}
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, 1024*min(a.count, len(ids)+1)), `{"results":[`...)
	b, shown, err := r.appendFound(b, ids, a.count)
	if err != nil {
		return nil, err
	}
	b = append(b, ']')
	if a.check && r.fresh {
		var in []protocol.ObjectID
		for _, id := range shown {
			if _, member := r.membership(protocol.ChannelID(id)); member {
				in = append(in, id)
			}
		}
		b = appendIDs(b, "member_channels", in)
	}
	return ok(b), nil
}

// find looks into a directory, or has the backend look while there is none.
func (r *reader) find(kind protocol.Kind, d *cache.Directory, q *cache.Query) ([]protocol.ObjectID, error) {
	if d == nil {
		entries, err := r.findFar(kind, q)
		if err != nil {
			return nil, err
		}
		q.Extra = append(q.Extra, entries...)
		r.s.metrics.searches[searchedBackend].Inc()
	} else {
		r.s.metrics.searches[searchedDirectory].Inc()
	}
	return r.s.cache.Search(d, q), nil
}

// maxFar is how many pages of what the backend finds are read; there are so many only for a letter or two.
const maxFar = 3

// findFar has the backend find what begins with the words. It knows no typing errors, no hints and not who spoke last, so
// that those among whom it finds are ranked here.
func (r *reader) findFar(kind protocol.Kind, q *cache.Query) (found []protocol.ListEntry, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.s.config.LoadTimeout)
	defer cancel()
	known := make(map[protocol.ObjectID]bool, len(q.Extra))
	for i := range q.Extra {
		known[q.Extra[i].ID] = true
	}
	req := protocol.ListRequest{
		Workspace: r.workspace, Kind: kind, Order: protocol.ByName, Query: strings.Join(q.Words, " "), Limit: protocol.MaxListLimit, AtLeast: r.atLeast()}
	for range maxFar {
		answer, err := r.s.loader.List(ctx, req)
		if err != nil {
			return nil, asError(err)
		}
		wanted := 0
		for i := range answer.Entries {
			e := &answer.Entries[i]
			if known[e.ID] || !q.Kinds.Has(cache.TraitsOf(e)) || q.Among != nil && !q.Among.Contains(e.ID) {
				continue
			}
			found = append(found, *e)
			wanted++
		}
		if req.Cursor = answer.NextCursor; req.Cursor == "" || len(found) >= q.Limit {
			break
		}
	}
	return found, nil
}

// appendFound appends up to count of the objects, those that the reader may see, and tells which.
func (r *reader) appendFound(b []byte, ids []protocol.ObjectID, count int) ([]byte, []protocol.ObjectID, error) {
	var shown []protocol.ObjectID
	for len(ids) > 0 && len(shown) < count {
		part := ids[:min(len(ids), count-len(shown))]
		ids = ids[len(part):]
		objects, err := r.objects(part)
		if err != nil {
			return nil, nil, err
		}
		for i := range objects {
			o := &objects[i]
			if o.ID == "" {
				continue
			}
			sees, err := r.sees(o)
			if err != nil {
				return nil, nil, err
			}
			if !sees {
				continue
			}
			if b = separated(b); o.Kind == protocol.KindUser {
				b = r.appendUser(b, o)
			} else {
				b = r.appendChannel(b, o, nil)
			}
			shown = append(shown, o.ID)
		}
	}
	return b, shown, nil
}

// nearby returns who is in the channel that the reader looks at, if that is known in a moment: it is only a hint. Those of
// a channel that the reader is not in are nobody's business.
func (r *reader) nearby(ch protocol.ChannelID) *cache.People {
	if _, member := r.membership(ch); !member || !r.fresh {
		return nil
	}
	if set, err := r.set(ch); err == nil && set != nil {
		return set.People()
	}
	return nil
}

// strangers adds those of people who belong to other workspaces, if they are not too many; without a directory, all of
// them.
func (r *reader) strangers(q *cache.Query, d *cache.Directory, people *cache.People) error {
	if people == nil {
		return nil
	}
	others := people
	if d != nil {
		others = d.Others(people)
	}
	if n := others.Len(); n == 0 || n > maxStrangers {
		return nil
	}
	objects, err := r.objects(objectIDs(others.Users()))
	if err != nil {
		return err
	}
	for i := range objects {
		if e, ok := cache.EntryOf(&objects[i]); ok {
			q.Extra = append(q.Extra, e)
		}
	}
	return nil
}

func objectIDs(users []protocol.UserID) []protocol.ObjectID {
	ids := make([]protocol.ObjectID, len(users))
	for i, u := range users {
		ids[i] = protocol.ObjectID(u)
	}
	return ids
}

// ownChannels returns the reader's channels of which no directory knows: for guests all, for others those that are not
// public. mine has all of the reader's channels.
func (r *reader) ownChannels() (entries []protocol.ListEntry, mine []protocol.Membership, err error) {
	if !r.fresh {
		return nil, nil, nil
	}
	var ids []protocol.ObjectID
	all := r.memberships()
	for i := range all {
		m := &all[i]
		if m.Type == protocol.TypeDM {
			continue
		}
		mine = append(mine, *m)
		if !r.full || m.Type != protocol.TypePublic {
			ids = append(ids, protocol.ObjectID(m.Channel))
		}
	}
	objects, err := r.objects(ids)
	if err != nil {
		return nil, nil, err
	}
	for i := range objects {
		if e, ok := cache.EntryOf(&objects[i]); ok {
			entries = append(entries, e)
		}
	}
	return entries, mine, nil
}
