package affinity

import (
	"cmp"
	"slices"
	"sort"

	"github.com/cespare/xxhash/v2"
)

const (
	// Partitions is the number of shares that the workspaces of a region are cut into. Each goes to a node as a whole.
	// 65,536: with 100 nodes a node's share is 655 and rarely more than a tenth off, so that the bound below does not bind; a
	// table of them is 128 KB and takes 15 ms to make.
	Partitions = 1 << 16
	// boundNum/boundDen is how many partitions a node may have, as a multiple of the mean: 1.25.
	boundNum, boundDen = 5, 4
)

// Ring is a table of partitions and the nodes that own them: rendezvous hashing (Thaler and Ravishankar, 1998) with a bound
// on a node's partitions (Mirrokni, Thorup and Zadimoghaddam, 2016). It depends on the nodes' names alone, whatever their
// order and history, so all who know the same names agree. It is immutable.
//
// A node that leaves moves only its own partitions, and one that comes takes only what it will own, as long as no node is
// at the bound, which takes more than 100 nodes. Those that the bound displaces, at most a few in a hundred, may move too.
type Ring struct {
	names  []string // sorted, without repeats
	seeds  []uint64 // by node: the hash of its name
	owner  []uint16 // by partition: index of its node; nil if there are no nodes
	counts []int    // by node: its partitions
}

// NewRing returns the table for these nodes; repeats count once. More than MaxMembers are not looked at.
func NewRing(names []string) *Ring {
	r := &Ring{names: slices.Compact(slices.Sorted(slices.Values(names)))}
	r.names = r.names[:min(len(r.names), MaxMembers)]
	if len(r.names) == 0 {
		return r
	}
	r.seeds, r.counts = make([]uint64, len(r.names)), make([]int, len(r.names))
	for i, name := range r.names {
		r.seeds[i] = xxhash.Sum64String(name)
	}
	r.owner = make([]uint16, Partitions)
	for p := range r.owner {
		best, most := 0, r.score(0, p)
		for i := 1; i < len(r.names); i++ {
			// Equal scores go to the first name, on every node.
			if s := r.score(i, p); s > most {
				best, most = i, s
			}
		}
		r.owner[p] = uint16(best)
		r.counts[best]++
	}
	r.bound()
	return r
}

// score is how much node i wants partition p: a step of splitmix64 from the hash of its name.
func (r *Ring) score(i, p int) uint64 {
	z := r.seeds[i] + uint64(p+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Most returns how many partitions a node may have.
func (r *Ring) Most() int {
	if len(r.names) == 0 {
		return 0
	}
	return (Partitions*boundNum + len(r.names)*boundDen - 1) / (len(r.names) * boundDen)
}

// bound takes from nodes above the bound what they want least, and gives it to the next in the partition's order that has
// room. There always is one: the bound is above the mean.
func (r *Ring) bound() {
	most := r.Most()
	for i := range r.names {
		if r.counts[i] <= most {
			continue
		}
		var own []int
		for p, o := range r.owner {
			if int(o) == i {
				own = append(own, p)
			}
		}
		sort.Slice(own, func(a, b int) bool { return r.score(i, own[a]) < r.score(i, own[b]) })
		for _, p := range own[:r.counts[i]-most] {
			for _, next := range r.order(p) {
				if r.counts[next] < most {
					r.owner[p] = uint16(next)
					r.counts[next]++
					r.counts[i]--
					break
				}
			}
		}
	}
}

// order returns the nodes by how much they want the partition.
func (r *Ring) order(p int) []int {
	all := make([]int, len(r.names))
	for i := range all {
		all[i] = i
	}
	slices.SortFunc(all, func(a, b int) int {
		return cmp.Or(cmp.Compare(r.score(b, p), r.score(a, p)), cmp.Compare(a, b))
	})
	return all
}

// Partition returns the partition of a key.
func Partition(key string) int { return int(xxhash.Sum64String(key) % Partitions) }

// Owner returns the node that owns a partition, "" if there are no nodes.
func (r *Ring) Owner(p int) string {
	if r.owner == nil {
		return ""
	}
	return r.names[r.owner[p]]
}

// Order returns all nodes: the owner, then who would own the partition if those before were not there.
func (r *Ring) Order(p int) []string {
	if r.owner == nil {
		return nil
	}
	owner := int(r.owner[p])
	names := append(make([]string, 0, len(r.names)), r.names[owner])
	for _, i := range r.order(p) {
		if i != owner { // The bound may have put another than the first in front.
			names = append(names, r.names[i])
		}
	}
	return names
}

// Deal returns the nodes of a workspace's k shares: no node gets a second one before all have one. Whose a
// share is depends on those dealt before; see View.Owners.
func (r *Ring) Deal(workspace string, k int) []string {
	if r.owner == nil {
		return nil
	}
	shares := make(map[string]int)
	owners := make([]string, 0, k)
	for share := range k {
		most := share/len(r.names) + 1
		for _, name := range r.Order(Partition(key(workspace, share))) {
			if shares[name] < most {
				shares[name]++
				owners = append(owners, name)
				break
			}
		}
	}
	return owners
}

// Count returns how many partitions a node owns; 0 for one that is not in the table.
func (r *Ring) Count(name string) int {
	if i, ok := slices.BinarySearch(r.names, name); ok {
		return r.counts[i]
	}
	return 0
}

// Moved returns how many partitions have another owner than in before.
func (r *Ring) Moved(before *Ring) int {
	if r.owner == nil || before.owner == nil {
		return 0
	}
	n := 0
	for p := range r.owner {
		if r.Owner(p) != before.Owner(p) {
			n++
		}
	}
	return n
}
