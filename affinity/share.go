package affinity

import (
	"math/bits"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// MaxOwners bounds the owners that one workspace is spread over.
const MaxOwners = 64

// Share returns which of a workspace's k shares a user is in. k is a power of two. Twice as many shares cut each share in
// two: half of its users stay, so a workspace that grows does not move as a whole.
func Share(user string, k int) int {
	if k <= 1 {
		return 0
	}
	return int(xxhash.Sum64String(user) & uint64(k-1))
}

// key is what a workspace's share is known by in the ring. The first share is the workspace's own, whatever k is.
func key(workspace string, share int) string {
	if share == 0 {
		return workspace
	}
	return workspace + "/" + strconv.Itoa(share)
}

// owners returns the number of shares for a workspace of so many sessions, if k is what it had: the smallest power of two
// that leaves no more than at in a share. It shrinks only when half as many would be half empty, so that a workspace at the
// threshold does not go to and fro.
func owners(sessions, at, k, most int) int {
	want := 1
	if n := (sessions + at - 1) / at; n > 1 {
		want = 1 << bits.Len(uint(n-1))
	}
	want = min(want, most)
	if want >= k {
		return want
	}
	if sessions*4 < k*at {
		return max(want, k/2)
	}
	return k
}
