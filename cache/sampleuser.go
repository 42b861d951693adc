package cache

import (
	"slices"
	"time"

	"flannel/protocol"
)

// SampleUser returns a random user whose state is fresh, if there is one.
func (c *Cache) SampleUser() (user protocol.UserID, ok bool) {
	if c.down.Load() != 0 {
		return "", false
	}
	now := c.now().UnixNano()
	return c.users.random(func(u *User) bool { return u.usable(now) })
}

// random returns the key of a value for which fn holds, out of a sample. Go begins each walk over a map at a random place.
func (t *table[K, V]) random(fn func(V) bool) (key K, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	seen := 0
	for k, v := range t.m {
		if fn(v) {
			return k, true
		}
		if seen++; seen == sampleSize {
			break
		}
	}
	return key, false
}

// UserVerification is the outcome of comparing a user's state. Wrong names what differed (role, prefs, usergroups,
// memberships), without saying how; Channel is the first channel that differed.
type UserVerification struct {
	Verdict Verdict
	Wrong   string
	Channel protocol.ChannelID
	Age     time.Duration
}

// VerifyUser compares a user's state with a boot as of p. What an event above p has touched cannot be compared any more:
// if it was on the user's own topic, nothing can; if it was on a channel's, that membership cannot. A state that is wrong
// is void afterwards.
func (c *Cache) VerifyUser(b *protocol.UserBoot, p protocol.Position) UserVerification {
	now := c.now().UnixNano()
	c.mu.Lock()
	defer c.mu.Unlock()
	v := UserVerification{Verdict: Moved}
	u, held := c.users.get(b.User)
	own := c.topic(protocol.Topic(b.User))
	if !held || own == nil || c.down.Load() != 0 || !u.usable(now) || u.waiting.Load() != 0 || u.at > p || own.last > p {
		return v
	}
	if p > c.Applied() {
		v.Verdict = Early
		return v
	}
	v.Wrong, v.Channel = c.differsLocked(u, b, p)
	v.Verdict = Match
	if v.Wrong != "" {
		v.Verdict = Mismatch
		u.void.Store(true)
		c.metrics.invalidations[invalidAudit].Inc()
	}
	return v
}

// differsLocked names what is not as a boot as of p says, which the watermark has reached and above which the user's own
// topic has told nothing.
func (c *Cache) differsLocked(u *User, b *protocol.UserBoot, p protocol.Position) (wrong string, channel protocol.ChannelID) {
	if b.Error != "" {
		return "user", ""
	}
	if !equalJSON(u.Prefs(), jsonOrEmpty(b.Prefs)) {
		return "prefs", ""
	}
	if quiet := c.quietLocked(protocol.Topic(u.workspace), p); quiet {
		switch {
		case u.Role() != b.Role, b.Self != nil && u.covered && u.version != b.Self.Version:
			return "role", ""
		case !slices.Equal(u.Usergroups(), slices.Sorted(slices.Values(b.Usergroups))):
			return "usergroups", ""
		}
	}
	loaded := make(map[protocol.ChannelID]*protocol.Membership, len(b.Memberships))
	for i := range b.Memberships {
		loaded[b.Memberships[i].Channel] = &b.Memberships[i]
	}
	for _, m := range u.Memberships() {
		other := loaded[m.Channel]
		delete(loaded, m.Channel)
		if !c.quietLocked(protocol.Topic(m.Channel), p) || !c.quietLocked(protocol.Topic(m.Owner), p) {
			continue
		}
		if other == nil || *other != m {
			return "memberships", m.Channel
		}
	}
	for ch := range loaded {
		if c.quietLocked(protocol.Topic(ch), p) {
			return "memberships", ch
		}
	}
	return "", ""
}

// quietLocked reports whether a topic has told nothing above p. Of one that is not followed, nothing is known.
func (c *Cache) quietLocked(name protocol.Topic, p protocol.Position) bool {
	t := c.topic(name)
	return t != nil && t.last <= p
}

func jsonOrEmpty(b []byte) []byte {
	if len(b) == 0 {
		return []byte("{}")
	}
	return b
}
