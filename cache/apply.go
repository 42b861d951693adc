package cache

import (
	"flannel/protocol"
)

// Change is what an event changed in the user states that are held here: only real transitions. Passed, Revoked and Roles
// also have what the states knew before, because sessions outlive what is cached.
type Change struct {
	Joined, Left []Move
	// Passed has comings that changed nothing, because the state knows already that the user has gone again.
	Passed  []Passage
	Revoked []Revocation
	// Roles has the users that the event tells of with their roles: what their sessions hear changes with it
	// (fanout.Hub.SetRole).
	Roles []RoleChange
}

// Move is one user's coming into or going from a channel.
type Move struct {
	User    protocol.UserID
	Channel protocol.ChannelID
}

// Passage is a coming into a channel of which the going is known too: it was at Until, or before.
type Passage struct {
	Move
	Until protocol.Position
}

// Revocation kills the token with the id Token, or all tokens of User if Token is empty.
type Revocation struct {
	User  protocol.UserID
	Token string
}

// RoleChange tells a user's role in their workspace, from the event on.
type RoleChange struct {
	User protocol.UserID
	Role protocol.Role
}

// Apply does what the event's effects say. Events of topics that are not followed, and those that came before, do
// nothing. The cache keeps the effects: the event must not be changed any more.
func (c *Cache) Apply(ev *protocol.Event) Change {
	var change Change
	if ev.Seq == 0 {
		return change // Ephemeral events have no effects.
	}
	now := c.now().UnixNano()
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.topic(ev.Topic)
	if t == nil || ev.Seq <= t.seq {
		return change
	}
	t.seq, t.last = ev.Seq, max(t.last, ev.Position)
	if len(ev.Effects) == 0 {
		return change
	}
	for i := range ev.Effects {
		c.applyEffect(t, &ev.Effects[i], ev.Position, now, &change)
	}
	// Last: what the log forgets it forgets of the objects too.
	c.rememberLocked(t, ev, now)
	return change
}

func (c *Cache) applyEffect(t *topic, e *protocol.Effect, p protocol.Position, now int64, change *Change) {
	switch e.Op {
	case protocol.OpUpsert:
		if e.Object != nil {
			c.upsert(e.Object, p, now)
			c.upsertStates(e.Object, p, change)
			c.toDirectories(e, p)
		}
	case protocol.OpTombstone:
		c.tombstone(t, e.ID, e.Version, p, now)
		if ch := c.channels[protocol.ChannelID(e.ID)]; ch != nil {
			c.unnoteAll(ch) // A version may say no more than that there was one.
		}
		c.toDirectories(e, p)
	case protocol.OpMemberAdded:
		if protocol.Topic(e.Channel) == t.name {
			c.setAdd(e.Channel, e.User, p)
		}
		if e.Membership != nil {
			c.unabsent(protocol.ObjectID(e.Channel), p)
			if u, ok := c.users.get(userOf(t, e)); ok {
				move := Move{User: u.id, Channel: e.Channel}
				if c.join(u, e.Membership, p) {
					change.Joined = append(change.Joined, move)
				} else if _, in := u.find(e.Channel); !in {
					change.Passed = append(change.Passed, Passage{move, max(u.at, u.left[e.Channel])})
				}
			}
		}
	case protocol.OpMemberRemoved:
		if protocol.Topic(e.Channel) == t.name {
			c.setRemove(e.Channel, e.User, p)
		}
		if u, ok := c.users.get(userOf(t, e)); ok && c.leave(u, e.Channel, p) {
			change.Left = append(change.Left, Move{User: u.id, Channel: e.Channel})
		}
	case protocol.OpRead, protocol.OpOpen, protocol.OpPref:
		if u, ok := c.users.get(userOf(t, e)); ok && !c.applyPrivate(u, e, p) {
			u.void.Store(true)
		}
	case protocol.OpMessageAdded, protocol.OpMessageRemoved:
		c.message(e, p)
		if e.Op == protocol.OpMessageAdded {
			c.hear(e)
		}
	case protocol.OpRevoked:
		user := userOf(t, e)
		if n := c.identities.revoke(user, e.Token); n > 0 {
			c.metrics.invalidations[invalidRevoked].Add(float64(n))
		}
		change.Revoked = append(change.Revoked, Revocation{User: user, Token: e.Token})
	}
}

// userOf returns the user that an effect is about: on a user topic it need not be named.
func userOf(t *topic, e *protocol.Effect) protocol.UserID {
	if e.User != "" {
		return e.User
	}
	return protocol.UserID(t.name)
}
