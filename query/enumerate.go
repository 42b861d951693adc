package query

import (
	"encoding/json"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"flannel/protocol"
)

// enumeration counts how many different objects each user asks for, over all their sessions and HTTP, and refuses those
// who walk through the workspace: clients ask for what is on the screen. It counts by hashes, 4 bytes an object, for the
// present minute only; when there are more users than it has room for, those who come later go uncounted until the next.
type enumeration struct {
	limit int // different ids a minute; 0: none
	now   func() time.Time
	seed  maphash.Seed

	mu     sync.Mutex
	minute int64                                   // guarded by mu
	users  map[protocol.UserID]map[uint32]struct{} // guarded by mu; at most maxEnumerators, each at most limit
	total  int                                     // guarded by mu: of all users; at most maxEnumerated
}

// maxEnumerators bounds the users that are counted: what a node serves. maxEnumerated bounds the objects of all of them
// together, which is some 50 MB; what comes later in such a minute goes uncounted.
const (
	maxEnumerators = 20_000
	maxEnumerated  = 2_000_000
)

func newEnumeration(limit int, now func() time.Time) *enumeration {
	return &enumeration{limit: limit, now: now, seed: maphash.MakeSeed()}
}

// allowNamed counts the ids that an edge query asks for by name, and allowGiven those that it gave without that. Both
// return an error with the time to wait for if they are too many.
func (e *enumeration) allowNamed(user protocol.UserID, name string, args json.RawMessage) error {
	if e.limit == 0 || !byName(name) {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	seen, ok := e.seenLocked(user), true
	protocol.EachField(protocol.Field(args, "updated_ids"), func(id, _ []byte) bool {
		ok = e.addLocked(seen, id)
		return ok
	})
	return e.verdict(ok)
}

func (e *enumeration) allowGiven(user protocol.UserID, name string, body []byte) error {
	if e.limit == 0 || byName(name) {
		return nil
	}
	var results []struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(protocol.Field(body, "results"), &results) != nil {
		return nil // It has no such list: counts, memberships.
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	seen, ok := e.seenLocked(user), true
	for i := range results {
		if id := results[i].ID; id != "" { // Emoji have none.
			ok = ok && e.addLocked(seen, []byte(id))
		}
	}
	return e.verdict(ok)
}

// byName reports whether an edge query asks for objects by name.
func byName(name string) bool { return strings.HasSuffix(name, "/info") }

// seenLocked returns what a user has seen in this minute; nil if they are not counted.
func (e *enumeration) seenLocked(user protocol.UserID) map[uint32]struct{} {
	if minute := e.now().Unix() / 60; minute != e.minute || e.users == nil {
		e.minute, e.users, e.total = minute, make(map[protocol.UserID]map[uint32]struct{}), 0
	}
	seen := e.users[user]
	if seen == nil && len(e.users) < maxEnumerators {
		seen = make(map[uint32]struct{})
		e.users[user] = seen
	}
	return seen
}

// addLocked reports whether there was room for an id.
func (e *enumeration) addLocked(seen map[uint32]struct{}, id []byte) bool {
	h := uint32(maphash.Bytes(e.seed, id))
	if _, again := seen[h]; again || seen == nil || e.total >= maxEnumerated {
		return true
	}
	if len(seen) >= e.limit {
		return false
	}
	seen[h] = struct{}{}
	e.total++
	return true
}

func (e *enumeration) verdict(ok bool) error {
	if ok {
		return nil
	}
	err := protocol.Errorf(protocol.CodeRateLimited, "more than %d different objects in a minute: ask for what is on the screen, not for everything", e.limit)
	err.Retry = time.Unix((e.minute+1)*60, 0).Sub(e.now())
	return err
}
