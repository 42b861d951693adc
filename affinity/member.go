package affinity

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// MaxMembers bounds the members of a region that are known, those that are held for included. Gossip is made for more,
	// but a table for 512 takes 100 ms.
	MaxMembers = 512
	// maxMeta is memberlist's bound on a member's metadata, in bytes.
	maxMeta = 512
	// maxURL and maxWord bound the texts in it, in bytes: what is left holds a dozen spread workspaces.
	maxURL, maxWord = 200, 40
	// maxSpread bounds the workspaces that one member says are spread.
	maxSpread = 32
)

// State is how a member stands.
type State string

// The states, in the order of a life. A member says the first three of itself.
const (
	Joining  State = "joining"  // it has not seen the backend's stream yet: nobody is sent there
	Active   State = "active"   // it serves
	Draining State = "draining" // it is on its way out: nobody is sent there
	Dead     State = "dead"     // the others agree that it does not answer; its workspaces are kept for the hold-down
	Left     State = "left"     // it has gone after draining; its workspaces are kept for the hold-down
)

var states = []State{Joining, Active, Draining, Dead, Left}

// Announcement is what a member says of itself: memberlist's metadata, as JSON of at most 512 bytes. Fields that are not
// known are ignored, so that nodes of two versions make one cluster.
type Announcement struct {
	URL     string         `json:"u"`           // where clients reach it: scheme://host[:port]
	Region  string         `json:"r"`           // all members have the same
	Zone    string         `json:"z,omitempty"` // shown to people
	State   State          `json:"s"`           // joining, active or draining
	Load    int            `json:"l"`           // its sessions, some seconds ago
	Version string         `json:"v,omitempty"` // of the program; shown to people
	Spread  map[string]int `json:"w,omitempty"` // workspaces that it says are spread, and over how many shares
}

// encode returns the metadata. Spread workspaces that have no room are left out, the least spread first.
func (a Announcement) encode() ([]byte, error) {
	names := make([]string, 0, len(a.Spread))
	for w := range a.Spread {
		names = append(names, w)
	}
	slices.SortFunc(names, func(x, y string) int {
		if d := a.Spread[y] - a.Spread[x]; d != 0 {
			return d
		}
		return strings.Compare(x, y)
	})
	for n := min(len(names), maxSpread); ; n-- {
		few := a
		few.Spread = make(map[string]int, n)
		for _, w := range names[:n] {
			few.Spread[w] = a.Spread[w]
		}
		b, err := json.Marshal(few)
		if err != nil || len(b) <= maxMeta {
			return b, err
		}
		if n == 0 {
			return nil, fmt.Errorf("the node's address, region and zone take %d bytes, %d are allowed", len(b), maxMeta)
		}
	}
}

// maxPad bounds the spaces behind a member's metadata.
const maxPad = 64

// pad gives metadata a random length, by spaces, which JSON does not mind.
func pad(b []byte) []byte {
	n := min(maxPad, maxMeta-len(b))
	return append(b, bytes.Repeat([]byte{' '}, rand.IntN(n+1))...)
}

// decode reads another member's metadata and refuses what no member of ours would say.
func decode(b []byte) (Announcement, error) {
	var a Announcement
	if err := json.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("read metadata: %w", err)
	}
	if err := checkURL(a.URL); err != nil {
		return a, fmt.Errorf("read metadata: %w", err)
	}
	if a.State != Joining && a.State != Active && a.State != Draining {
		return a, fmt.Errorf("read metadata: unknown state %q", a.State)
	}
	if a.Load < 0 || len(a.Spread) > maxSpread {
		return a, fmt.Errorf("read metadata: load %d, %d spread workspaces", a.Load, len(a.Spread))
	}
	for w, k := range a.Spread {
		if w == "" || k < 2 || k > MaxOwners || k&(k-1) != 0 {
			return a, fmt.Errorf("read metadata: workspace %q is spread over %d", w, k)
		}
	}
	return a, nil
}

// checkURL says what is wrong with the address that clients are given.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no URL: %w", s, err)
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.User != nil, u.Path != "", u.RawQuery != "", u.Fragment != "":
		return fmt.Errorf("%q is not of the form https://host or https://host:port", s)
	case len(s) > maxURL:
		return fmt.Errorf("%d bytes are too long, %d are allowed", len(s), maxURL)
	}
	return nil
}

// Member is one node as this node knows it. In a View it never changes.
type Member struct {
	Name    string
	Address string // of its gossip, host:port
	Announcement
	// State is the announcement's, or dead or left.
	State State
	// Until is how long its workspaces are kept although it is not there, or not ready again; zero if that is no question.
	Until time.Time
}

// owns reports whether the member has a place in the ring.
func (m *Member) owns(now time.Time) bool {
	return m.State == Active || m.State == Draining || now.Before(m.Until)
}
