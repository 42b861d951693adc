package affinity

import (
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// A member whose sessions are above fullNum/fullDen of the mean, and more than fullSlack above it, gets no new ones. What
	// is announced is some seconds old, so 1.2 keeps the true load within 1.25.
	fullNum, fullDen = 6, 5
	// 50: among so few it is not worth leaving a warm cache to be even.
	fullSlack = 50
)

// View is what a node knows of its region at one moment. It does not change, and is safe for concurrent use.
type View struct {
	self    string
	members []Member // sorted by name; at most MaxMembers
	ring    *Ring
	spread  map[string]int // workspace to shares, those with more than one
	mean    int            // sessions per active member
	full    int            // sessions from which on a member gets no new ones
	owners  sync.Map       // workspace in spread to its shares' owners, []string, found when they are asked for
}

// newView makes a view of the members as of now. before may be nil; its table is used again if the names are the same.
func newView(self string, members []Member, now time.Time, before *View) *View {
	v := &View{self: self, members: members, spread: make(map[string]int)}
	slices.SortFunc(v.members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	var names []string
	active, load := 0, 0
	for i := range v.members {
		m := &v.members[i]
		if m.owns(now) {
			names = append(names, m.Name)
		}
		if m.State == Active {
			active++
			load += m.Load
		}
		for w, k := range m.Spread {
			v.spread[w] = max(v.spread[w], k)
		}
	}
	if active > 0 {
		v.mean = load / active
	}
	v.full = max(v.mean*fullNum/fullDen, v.mean+fullSlack)
	if before != nil && slices.Equal(before.ring.names, names) {
		v.ring = before.ring
	} else {
		v.ring = NewRing(names)
	}
	return v
}

// Members returns all members, sorted by name. The slice is the view's own.
func (v *View) Members() []Member { return v.members }

// Ring returns the table of owners.
func (v *View) Ring() *Ring { return v.ring }

// Shares returns over how many shares a workspace is spread; 1 for most.
func (v *View) Shares(workspace string) int { return max(v.spread[workspace], 1) }

// member returns a member by its name, nil if there is none.
func (v *View) member(name string) *Member {
	i, ok := slices.BinarySearchFunc(v.members, name, func(m Member, name string) int { return strings.Compare(m.Name, name) })
	if !ok {
		return nil
	}
	return &v.members[i]
}

// Owners returns the owners of a workspace's shares, which are different nodes as far as there are as many: the first
// share's is the owner of the workspace's partition, and each next one's is the first in its own order that has no share
// yet. It is empty if no member owns anything.
//
// When an owner leaves, one other node takes its place and all others stay; some users may change between them. That is
// the price of different nodes, and a small one: the owners have the workspace in their caches anyway.
func (v *View) Owners(workspace string) []string {
	k := v.Shares(workspace)
	if k == 1 {
		if owner := v.ring.Owner(Partition(workspace)); owner != "" {
			return []string{owner}
		}
		return nil
	}
	if found, ok := v.owners.Load(workspace); ok {
		return found.([]string)
	}
	found := v.ring.Deal(workspace, k)
	v.owners.Store(workspace, found)
	return found
}

// Why a user is sent where they are: the result of a placement.
const (
	ByOwner    = "owner"    // to the owner
	ByStandIn  = "stand_in" // to the next, because the owner is not there, not ready or draining
	ByOverflow = "overflow" // to the next, because the owner has too many sessions
	ByNobody   = "nobody"   // to this node, because no member serves
)

// Placement is where a user of a workspace is sent.
type Placement struct {
	Partition int
	Share     int    // of Shares
	Shares    int    // of the workspace
	Owner     string // the node that owns the share; "" if none does
	Primary   string // the node to go to
	Fallback  string // the node to go to if that does not answer; the same if there is no other
	By        string // why Primary: one of the By… constants
	// Order has every node that owns something in the order in which they are asked.
	Order []string
}

// Place says where a user of a workspace is sent. user may be empty for a workspace that is not spread.
func (v *View) Place(workspace, user string) Placement {
	k := v.Shares(workspace)
	return v.place(workspace, Share(user, k), k)
}

func (v *View) place(workspace string, share, k int) Placement {
	p := Partition(key(workspace, share))
	at := Placement{Partition: p, Share: share, Shares: k, Order: v.ring.Order(p)}
	if owners := v.Owners(workspace); share < len(owners) {
		at.Owner = owners[share]
		i := slices.Index(at.Order, at.Owner)
		copy(at.Order[1:i+1], at.Order[:i]) // the owner first, the others as they were
		at.Order[0] = at.Owner
	}
	var serving, roomy []string
	for _, name := range at.Order {
		if m := v.member(name); m.State == Active {
			serving = append(serving, name)
			if m.Load < v.full {
				roomy = append(roomy, name)
			}
		}
	}
	// Those with room first; if nobody has any, which takes announcements that are long out of date, in the ring's order.
	best := append(roomy, serving...)
	if len(best) == 0 {
		at.Primary, at.Fallback, at.By = v.self, v.self, ByNobody
		return at
	}
	at.Primary, at.Fallback = best[0], best[0]
	if i := slices.IndexFunc(best, func(name string) bool { return name != at.Primary }); i >= 0 {
		at.Fallback = best[i]
	}
	switch {
	case at.Primary == at.Owner:
		at.By = ByOwner
	case slices.Contains(serving, at.Owner):
		at.By = ByOverflow
	default:
		at.By = ByStandIn
	}
	return at
}

// find returns a copy of a member; a zero one if there is none.
func (v *View) find(name string) Member {
	if m := v.member(name); m != nil {
		return *m
	}
	return Member{}
}
