package query

import (
	"slices"
	"sync"
	"time"

	"flannel/cache"
	"flannel/protocol"
)

// With present_first the first page of users/list begins with people who are known to be active, as many as fit on it, in
// the order of the list. The marker names them, and later pages leave them out: whoever comes or goes meanwhile, nobody is
// listed twice or left out. It names nobody whom the reader was not shown.

const (
	// maxFirst and maxFirstBytes bound those who are listed before all others, for the marker's sake: with 1,800 bytes
	// of ids, and two names, it stays below maxMarker.
	maxFirst      = 100
	maxFirstBytes = 1800
	// presentFor is how long a look at who is active is used: presence is that late anyway, and there may be 100,000.
	presentFor = time.Second
)

// present is who is known to be active, looked at no more often than needed.
type present struct {
	// Static after construction.
	all   func() []protocol.UserID // may be nil
	now   func() time.Time
	cache *cache.Cache

	mu     sync.Mutex
	looked time.Time     // guarded by mu
	people *cache.People // guarded by mu
}

// get returns who is known to be active, nil if that is nobody.
func (p *present) get() *cache.People {
	if p.all == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.now(); p.looked.IsZero() || now.Sub(p.looked) >= presentFor {
		p.looked, p.people = now, nil
		if users := p.all(); len(users) > 0 {
			p.people = p.cache.People(objectIDs(users))
		}
	}
	return p.people
}

// firsts are those who were listed before all others, in id order. In a marker a client may have put in anybody: whom it
// then leaves out.
type firsts []protocol.ObjectID

func (f firsts) has(id protocol.ObjectID) bool {
	_, found := slices.BinarySearch(f, id)
	return found
}

// room returns how many of ids a marker has room for.
func (f firsts) room(ids []protocol.ObjectID) int {
	bytes := 0
	for _, id := range f {
		bytes += len(id) + 3 // quotes and a comma
	}
	for i, id := range ids {
		if bytes += len(id) + 3; bytes > maxFirstBytes || len(f)+i == maxFirst {
			return i
		}
	}
	return len(ids)
}

// presentFirst reports whether the page is one that begins with who is active.
func (l *listArgs) presentFirst() bool { return l.present && !l.marker.begun() }

// presentOf appends up to count people of a roster who are known to be active and whom the reader may see, and tells who.
func (r *reader) presentOf(t *roster, b []byte, count int) ([]byte, firsts, error) {
	people := r.s.present.get()
	if people == nil {
		return b, nil, nil
	}
	active := roster{directory: t.directory, order: t.order, kinds: t.kinds, among: people}
	if t.among != nil {
		active.among = people.Both(t.among)
	}
	for _, e := range t.others {
		if people.Contains(e.ID) {
			active.others = append(active.others, e)
		}
	}
	var first firsts
	at, more := cache.Listed{}, true
	for scan := 0; scan < maxScan && len(first) < count && more; scan++ {
		var page []cache.Listed
		page, more = active.page(at, min(count, maxFirst)-len(first))
		ids := idsOf(page)
		if n := first.room(ids); n < len(ids) {
			ids, more = ids[:n], false
		}
		if len(ids) == 0 {
			break
		}
		at = page[len(ids)-1]
		var shown []protocol.ObjectID
		var err error
		if b, shown, err = r.appendVisible(b, ids); err != nil {
			return nil, nil, err
		}
		first = append(first, shown...)
	}
	slices.Sort(first)
	return b, first, nil
}

// maxPresentByID bounds the people whose objects are looked at for a page in the order of ids: nothing else tells whether
// a filter wants them.
const maxPresentByID = 500

// presentByID is presentOf for members of channels in the order of ids.
func (r *reader) presentByID(l *listArgs, b []byte) ([]byte, firsts, error) {
	people := r.s.present.get()
	if people == nil {
		return b, nil, nil
	}
	members, err := r.anyOf(l.channels)
	if err != nil || members == nil {
		return b, nil, err
	}
	ids := objectIDs(people.Both(members).Users())
	objects, err := r.objects(ids[:min(len(ids), maxPresentByID)])
	if err != nil {
		return nil, nil, err
	}
	var first firsts
	for i := range objects {
		o := &objects[i]
		if o.ID == "" || !l.filter(traitsOfBody(o.Body)) {
			continue
		}
		if len(first) == l.count || first.room([]protocol.ObjectID{o.ID}) == 0 {
			break
		}
		if sees, err := r.sees(o); err != nil {
			return nil, nil, err
		} else if !sees {
			continue
		}
		b = r.appendUser(separated(b), o)
		first = append(first, o.ID)
	}
	return b, first, nil
}
