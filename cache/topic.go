package cache

import (
	"sort"
	"sync/atomic"

	"flannel/protocol"
)

// topic is one followed topic. It is in Cache.topics exactly while it is followed; its epoch rises when what it covers
// becomes void, so that whoever kept a link to it notices without being told.
type topic struct {
	name protocol.Topic

	// Written under Cache.mu, read by anybody. from is written before epoch and read after it. epoch is 0 once the topic is
	// not followed any more: who has found it just before cannot tie to it either.
	epoch atomic.Uint64
	from  atomic.Uint64 // the position above which every event of the topic came or will come
	// trust is from, but not below the watermark at which that began: what is known of objects from before may be older
	// than what was served then. Written and read like from.
	trust atomic.Uint64

	// Guarded by Cache.mu. log has the recent events of the topic that had effects, in order: all of them above logFrom.
	seq     protocol.Seq
	last    protocol.Position // of the last event
	log     []*record
	logFrom protocol.Position
}

// link is the tie of a kept thing to the topic that covers it. The zero link is never valid.
type link struct {
	topic *topic
	epoch uint64
}

func (l link) valid() bool { return l.topic != nil && l.epoch != 0 && l.topic.epoch.Load() == l.epoch }

// tie returns a link that is valid until the topic is reset or unfollowed, and the position from which the topic was
// followed when the link began.
func (t *topic) tie() (link, protocol.Position) {
	epoch := t.epoch.Load() // First: who reads a new epoch also reads its position.
	return link{topic: t, epoch: epoch}, protocol.Position(t.from.Load())
}

// reaches reports whether every event of the topic above p that has come is in the log. It wants Cache.mu.
func (t *topic) reaches(p protocol.Position) bool {
	return p >= protocol.Position(t.from.Load()) && p >= t.logFrom
}

// since returns the events above p, in order. It wants Cache.mu and reaches(p).
func (t *topic) since(p protocol.Position) []*record {
	if len(t.log) == 0 || t.last <= p {
		return nil
	}
	return t.log[sort.Search(len(t.log), func(i int) bool { return t.log[i].position > p }):]
}

// Follows reports whether the events of a topic come.
func (c *Cache) Follows(t protocol.Topic) bool { return c.topic(t) != nil }

// topic returns a followed topic, or nil.
func (c *Cache) topic(t protocol.Topic) *topic {
	v, ok := c.topics.Load(t)
	if !ok {
		return nil
	}
	return v.(*topic)
}

// Followed says that events of t above p arrive from now on; seq is that of the last event before. For a topic that is
// followed already it says that the stream took it up again without a loss.
func (c *Cache) Followed(t protocol.Topic, seq protocol.Seq, p protocol.Position) {
	if _, ok := protocol.PresenceOf(t); ok {
		return // Nothing is kept under presence topics.
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.topic(t) != nil {
		return
	}
	n := &topic{name: t, seq: seq, last: p, logFrom: p}
	n.from.Store(uint64(p))
	n.trust.Store(max(uint64(p), c.applied.Load()))
	n.epoch.Store(1)
	c.topics.Store(t, n)
	c.beginLocked(n)
	c.topicCount++
	c.channelFollowed(n)
}

// Reset says that events of t were lost: what it covers as of a position below p is void. It goes on from p.
func (c *Cache) Reset(t protocol.Topic, p protocol.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.topic(t)
	if old == nil {
		return
	}
	c.metrics.invalidations[invalidReset].Inc()
	old.seq, old.last, old.log, old.logFrom = 0, p, nil, p
	old.from.Store(uint64(p))
	old.trust.Store(max(uint64(p), c.applied.Load()))
	old.epoch.Add(1)
	c.beginLocked(old)
	c.voidLocked(t)
}

// beginLocked notes from where a topic that begins (again) tells of what does not exist.
func (c *Cache) beginLocked(t *topic) {
	if protocol.KindOf(protocol.ObjectID(t.name)) == protocol.KindWorkspace {
		raise(&c.workspacesFrom, protocol.Position(t.trust.Load()))
	}
}

// Unfollowed says that no more events of t come: what it covers is void.
func (c *Cache) Unfollowed(t protocol.Topic) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.topic(t)
	if old == nil {
		return
	}
	c.metrics.invalidations[invalidUnfollowed].Inc()
	// First: whoever does not find the topic any more goes by this.
	if kind := protocol.KindOf(protocol.ObjectID(t)); kind == protocol.KindWorkspace || kind == protocol.KindChannel {
		raise(&c.workspacesFrom, max(old.last, protocol.Position(c.filled.Load())))
	}
	c.topics.Delete(t)
	c.topicCount--
	old.epoch.Store(0)
	old.log = nil
	c.voidLocked(t)
}

// voidLocked gives up what does not look at its link by itself. Epochs have risen before.
func (c *Cache) voidLocked(t protocol.Topic) {
	c.voidUsersOf(t)
	c.dropSet(protocol.ChannelID(t))
	c.dropDirectories(protocol.WorkspaceID(t))
	c.identities.dropUser(protocol.UserID(t))
	if protocol.KindOf(protocol.ObjectID(t)) == protocol.KindWorkspace {
		c.identities.dropWorkspace(protocol.WorkspaceID(t)) // Nobody tells whose role has changed.
	}
}

// Watermark says that all events up to p of the followed topics were applied.
func (c *Cache) Watermark(p protocol.Position) {
	now := c.now().UnixNano()
	c.mu.Lock()
	c.trimLocked(now)
	c.mu.Unlock()
	if p > c.Applied() {
		c.applied.Store(uint64(p))
	}
	c.heard.Store(now)
	c.objects.forgetAhead(c.Applied())
}

// Live says whether the stream is up.
func (c *Cache) Live(up bool) {
	now := c.now().UnixNano()
	if up {
		c.down.Store(0)
		c.heard.Store(now)
		return
	}
	c.down.CompareAndSwap(0, now)
}
