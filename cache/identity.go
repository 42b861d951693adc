package cache

import (
	"crypto/sha256"
	"slices"

	"flannel/protocol"
)

// tokenKey stands for a token. The token itself is not kept: what is not there cannot leak from a core dump.
type tokenKey [sha256.Size]byte

// known is who the bearer of a token is.
type known struct {
	identity protocol.Identity
	link     link // to the user's topic, which tells of revocations
	expires  int64
	used     int64 // when it was filled: the oldest ones go first
}

func (k *known) lastUse() int64 { return k.used }

// identities is keyed by token and indexed by user.
type identities struct {
	table[tokenKey, *known]
	byUser map[protocol.UserID][]tokenKey // guarded by table.mu
}

func newIdentities() identities {
	return identities{table: newTable[tokenKey, *known](), byUser: make(map[protocol.UserID][]tokenKey)}
}

// Identity returns who the bearer of token is, if that is known and neither revoked nor expired. While the stream is
// down it goes on being known as long as objects are served stale: nothing could be answered otherwise. If it is known that
// the token is refused, the identity says only that, in Error.
func (c *Cache) Identity(token string) (protocol.Identity, bool) {
	key := tokenKey(sha256.Sum256([]byte(token)))
	k, ok := c.identities.get(key)
	now := c.now().UnixNano()
	down := c.down.Load()
	if !ok || !k.link.valid() || now >= k.expires || down != 0 && now-down > int64(c.config.StaleFor) {
		if code, refused := c.refusal(key); refused {
			c.metrics.looked(identityKind, resultNegative)
			return protocol.Identity{Error: code}, true
		}
		c.metrics.looked(identityKind, resultMiss)
		return protocol.Identity{}, false
	}
	c.metrics.looked(identityKind, resultHit)
	id := k.identity
	id.Workspaces = slices.Clone(id.Workspaces)
	return id, true
}

// FillIdentity keeps the answer to an identify load as of a position, if the user's topic has been followed since then
// and has not told of a revocation.
func (c *Cache) FillIdentity(token string, id protocol.Identity, at protocol.Position) {
	now := c.now().UnixNano()
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.topic(protocol.Topic(id.User))
	if id.Error != "" || t == nil || !t.reaches(at) || c.changedSince(t, &id, at) {
		c.metrics.discarded.Inc()
		return
	}
	k := &known{identity: id, expires: now + int64(c.config.IdentityFor), used: now}
	k.link, _ = t.tie()
	if id.Expires != 0 {
		k.expires = min(k.expires, id.Expires*1e9)
	}
	key := tokenKey(sha256.Sum256([]byte(token)))
	c.refused.remove(key) // Else it would count again, should the identity be dropped at once.
	if c.identities.add(key, k, c.config.Identities) {
		c.metrics.evictions[evictBound].Inc()
	}
}

// Outran reports whether an identity as of at is out of date, or may be: an event above at has revoked the token or
// changed the role.
func (c *Cache) Outran(id *protocol.Identity, at protocol.Position) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.topic(protocol.Topic(id.User))
	return t != nil && (!t.reaches(at) || c.changedSince(t, id, at))
}

// changedSince reports whether the token was revoked, or the user's role changed, after at.
func (c *Cache) changedSince(own *topic, id *protocol.Identity, at protocol.Position) bool {
	for _, r := range own.since(at) {
		for i := range r.effects {
			if e := &r.effects[i]; e.Op == protocol.OpRevoked && (e.Token == "" || e.Token == id.Token) {
				return true
			}
		}
	}
	above := c.topic(protocol.Topic(id.Workspace))
	if above == nil {
		return false
	}
	if !above.reaches(at) {
		return true
	}
	for _, r := range above.since(at) {
		for i := range r.effects {
			e := &r.effects[i]
			if e.Op != protocol.OpUpsert || e.Object == nil || protocol.UserID(e.Object.ID) != id.User {
				continue
			}
			if role, deleted := roleOf(e.Object.Body); deleted || role != id.Role {
				return true
			}
		}
	}
	return false
}

// add reports whether another identity had to go.
func (s *identities) add(key tokenKey, k *known, bound int) (evicted bool) {
	if _, held := s.get(key); !held && s.len() >= bound {
		if old, _, ok := s.oldest(func(*known) bool { return false }); ok {
			s.drop(old)
			evicted = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked(key) // Should a token change hands, the index must not name it twice.
	s.byUser[k.identity.User] = append(s.byUser[k.identity.User], key)
	s.m[key] = k
	return evicted
}

func (s *identities) drop(key tokenKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked(key)
}

func (s *identities) dropLocked(key tokenKey) {
	k := s.m[key]
	if k == nil {
		return
	}
	delete(s.m, key)
	user := k.identity.User
	keys := slices.DeleteFunc(s.byUser[user], func(other tokenKey) bool { return other == key })
	if len(keys) == 0 {
		delete(s.byUser, user)
	} else {
		s.byUser[user] = keys
	}
}

// dropIf drops the identities of a user for which fn holds and returns how many there were.
func (s *identities) dropIf(user protocol.UserID, fn func(*protocol.Identity) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, key := range slices.Clone(s.byUser[user]) {
		if fn(&s.m[key].identity) {
			s.dropLocked(key)
			n++
		}
	}
	return n
}

func (s *identities) dropUser(user protocol.UserID) {
	s.dropIf(user, func(*protocol.Identity) bool { return true })
}

// dropWorkspace drops the identities of a workspace's users.
func (s *identities) dropWorkspace(w protocol.WorkspaceID) {
	var those []tokenKey
	s.each(func(key tokenKey, k *known) {
		if k.identity.Workspace == w {
			those = append(those, key)
		}
	})
	for _, key := range those {
		s.drop(key)
	}
}

// revoke drops the identity of one token of user, or of all if token is empty.
func (s *identities) revoke(user protocol.UserID, token string) int {
	return s.dropIf(user, func(id *protocol.Identity) bool { return token == "" || id.Token == token })
}

// roleChanged drops what says otherwise.
func (s *identities) roleChanged(user protocol.UserID, role protocol.Role, deleted bool) {
	s.dropIf(user, func(id *protocol.Identity) bool { return deleted || id.Role != role })
}

// expire drops what is over and returns how many there were.
func (s *identities) expire(now int64) int {
	var over []tokenKey
	s.each(func(key tokenKey, k *known) {
		if now >= k.expires || !k.link.valid() {
			over = append(over, key)
		}
	})
	for _, key := range over {
		s.drop(key)
	}
	return len(over)
}
