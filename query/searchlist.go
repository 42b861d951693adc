package query

import (
	"cmp"
	"slices"
	"strings"

	"flannel/cache"
	"flannel/protocol"
)

// everybody is every combination of traits.
var everybody = cache.KindsOf(atoms["everyone"])

// maxForeign bounds the people of other workspaces whose objects are looked at for a list in the order of names. A
// channel with more is listed in the order of ids.
const maxForeign = 2000

// roster is what a list by name goes through: a directory, and people who are not in it.
type roster struct {
	directory *cache.Directory // may be nil
	order     protocol.ListOrder
	kinds     cache.Kinds
	among     *cache.People // nil: all of the directory
	others    []cache.Listed
}

// page returns up to limit entries behind after, and whether there are more.
func (t *roster) page(after cache.Listed, limit int) (page []cache.Listed, more bool) {
	if t.directory != nil {
		page, more = t.directory.Page(t.order, after, t.kinds, t.among, limit)
	}
	i := 0
	if after.ID != "" {
		var found bool
		if i, found = slices.BinarySearchFunc(t.others, after, compareListed); found {
			i++
		}
	}
	rest := t.others[i:min(len(t.others), i+limit+1)]
	page = append(page, rest...)
	slices.SortFunc(page, compareListed)
	if len(page) > limit {
		return page[:limit], true
	}
	return page, more
}

// next is page without those in first, who were listed before all others.
func (t *roster) next(after cache.Listed, limit int, first firsts) (page []cache.Listed, more bool) {
	// There are limit others among so many, or all there are.
	page, more = t.page(after, limit+len(first))
	page = slices.DeleteFunc(page, func(e cache.Listed) bool { return first.has(e.ID) })
	if len(page) > limit {
		return page[:limit], true
	}
	return page, more
}

func compareListed(a, b cache.Listed) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(string(a.ID), string(b.ID)))
}

// fromIndex answers a page of the workspace's users from its directory.
func (r *reader) fromIndex(d *cache.Directory, l *listArgs) ([]byte, error) {
	if err := l.continues(protocol.KindUser); err != nil {
		return nil, err
	}
	t := &roster{directory: d, order: l.order, kinds: l.kinds()}
	if !r.full {
		var err error
		if t.among, err = r.company(); err != nil {
			return nil, err
		}
	}
	return r.listed(t, l)
}

// channelsByName answers a page of the users who are in any of the channels in the order of names. It returns nil if it
// cannot: the names are not known, or there are too many people.
func (r *reader) channelsByName(l *listArgs) ([]byte, error) {
	t := &roster{order: protocol.ByName, kinds: l.kinds()}
	var err error
	if t.among, err = r.anyOf(l.channels); err != nil || t.among == nil {
		return nil, err
	}
	others := t.among
	if t.directory = r.index(protocol.KindUser, true); t.directory == nil && others.Len() > maxForeign {
		if t.directory = r.waitIndex(protocol.KindUser, r.s.config.LoadTimeout); t.directory == nil {
			return nil, nil
		}
	}
	if t.directory != nil {
		if others = t.directory.Others(t.among); others.Len() > maxForeign {
			return nil, nil
		}
	}
	objects, err := r.objects(objectIDs(others.Users()))
	if err != nil {
		return nil, err
	}
	for i := range objects {
		if e, ok := cache.EntryOf(&objects[i]); ok && t.kinds.Has(cache.TraitsOf(&e)) {
			t.others = append(t.others, cache.Listed{Name: e.SortName, ID: e.ID})
		}
	}
	slices.SortFunc(t.others, compareListed)
	return r.listed(t, l)
}

// anyOf returns who is in any of the channels, nil if they are too many.
func (r *reader) anyOf(channels []protocol.ChannelID) (*cache.People, error) {
	var all *cache.People
	for _, ch := range channels {
		people, err := r.people(ch)
		if err != nil || people == nil {
			return nil, err
		}
		if all == nil {
			all = people
		} else {
			all = all.With(people)
		}
	}
	return all, nil
}

// listed answers a page of a roster: those whom the reader may see.
func (r *reader) listed(t *roster, l *listArgs) ([]byte, error) {
	b := append(make([]byte, 0, 1024*l.count), `{"results":[`...)
	first, left := l.marker.First, l.count
	if l.presentFirst() {
		var err error
		if b, first, err = r.presentOf(t, b, l.count); err != nil {
			return nil, err
		}
		left -= len(first)
	}
	at := cache.Listed{Name: l.marker.Sort, ID: l.marker.ID}
	more := true
	for scan := 0; scan < maxScan && more; scan++ {
		var page []cache.Listed
		if page, more = t.next(at, left, first); len(page) == 0 {
			break
		}
		var shown []protocol.ObjectID
		var err error
		if b, shown, err = r.appendVisible(b, idsOf(page)); err != nil {
			return nil, err
		}
		at = page[len(page)-1]
		if left -= len(shown); left == 0 {
			break
		}
	}
	if more {
		return ok(r.nextMarker(b, marker{Order: t.order, Sort: at.Name, ID: at.ID, First: first}, t.order)), nil
	}
	return ok(append(b, ']')), nil
}

func idsOf(page []cache.Listed) []protocol.ObjectID {
	ids := make([]protocol.ObjectID, len(page))
	for i := range page {
		ids[i] = page[i].ID
	}
	return ids
}

// idsFrom returns up to n ids of a directory in their order, beginning at from.
func idsFrom(d *cache.Directory, from protocol.ObjectID, n int) []protocol.ObjectID {
	ids := make([]protocol.ObjectID, 0, n)
	if from != "" && d.Has(from) {
		ids = append(ids, from)
	}
	page, _ := d.Page(protocol.ByID, cache.Listed{ID: from}, everybody, nil, n-len(ids))
	for i := range page {
		ids = append(ids, page[i].ID)
	}
	return ids
}
