package cache

import (
	"slices"
	"sort"

	"github.com/RoaringBitmap/roaring/v2"

	"flannel/protocol"
)

// People is a set of users, or of channels, that does not change: the members of a channel at some moment, or of
// several together. It may be shared.
type People struct {
	numbers *numbers
	bits    *roaring.Bitmap
}

// People returns the ids together with the members of sets.
func (c *Cache) People(ids []protocol.ObjectID, sets ...*Set) *People {
	p := &People{numbers: c.numbers.Load(), bits: roaring.New()}
	p.bits.AddMany(numberAll(p.numbers, nil, ids))
	for _, s := range sets {
		p.bits.Or(s.People().in(p.numbers).bits)
	}
	return p
}

// Len returns how many there are.
func (p *People) Len() int { return int(p.bits.GetCardinality()) }

// Contains reports whether id is one of them.
func (p *People) Contains(id protocol.ObjectID) bool {
	x, ok := p.numbers.find(string(id))
	return ok && p.bits.Contains(x)
}

// With returns those of both sets.
func (p *People) With(q *People) *People {
	return &People{numbers: p.numbers, bits: roaring.Or(p.bits, q.in(p.numbers).bits)}
}

// Both returns those who are in both sets.
func (p *People) Both(q *People) *People {
	return &People{numbers: p.numbers, bits: roaring.And(p.bits, q.in(p.numbers).bits)}
}

// Users returns all of them in id order.
func (p *People) Users() []protocol.UserID {
	list := make([]protocol.UserID, 0, p.Len())
	v := p.numbers.view()
	for it := p.bits.Iterator(); it.HasNext(); {
		list = append(list, protocol.UserID(v.id(it.Next())))
	}
	slices.Sort(list)
	return list
}

// page returns up to limit of them after an id in id order, and whether there are more. Of a few, all are put in order;
// of many, the order of all numbers is followed.
func (p *People) page(after protocol.UserID, limit int) (users []protocol.UserID, more bool) {
	v := p.numbers.view()
	if p.Len() <= smallPeople {
		found := make([]uint32, 0, p.Len())
		for it := p.bits.Iterator(); it.HasNext(); {
			if x := it.Next(); compareText(v.id(x), string(after)) > 0 {
				found = append(found, x)
			}
		}
		slices.SortFunc(found, v.compare)
		n := min(len(found), limit)
		return userIDs(v, found[:n]), n < len(found)
	}
	order := p.numbers.order()
	var late []uint32 // not in order
	it := p.bits.Iterator()
	for it.AdvanceIfNeeded(uint32(len(order))); it.HasNext(); {
		if x := it.Next(); compareText(v.id(x), string(after)) > 0 {
			late = append(late, x)
		}
	}
	slices.SortFunc(late, v.compare)
	at := sort.Search(len(order), func(i int) bool { return compareText(v.id(order[i]), string(after)) > 0 })
	found := make([]uint32, 0, limit+1)
	for ; at < len(order) && len(found) <= limit; at++ {
		if p.bits.Contains(order[at]) {
			found = append(found, order[at])
		}
	}
	found = mergeSorted(make([]uint32, 0, len(found)+len(late)), found, late, v.compare)
	n := min(len(found), limit)
	return userIDs(v, found[:n]), n < len(found)
}

func userIDs(v numberView, list []uint32) []protocol.UserID {
	users := make([]protocol.UserID, len(list))
	for i, x := range list {
		users[i] = protocol.UserID(v.id(x))
	}
	return users
}

// in returns the same set by another numbering: one that was begun between the loads of two sets.
func (p *People) in(n *numbers) *People {
	if p.numbers == n {
		return p
	}
	return &People{numbers: n, bits: roaring.BitmapOf(numberAll(n, nil, p.Users())...)}
}
