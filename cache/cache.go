package cache

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/internal/numset"
	"flannel/protocol"
)

// Options of New. All are required.
type Options struct {
	Config     Config
	Log        *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// Cache is what one node knows of one backend. See the package comment for who may call what from where.
type Cache struct {
	// Static after construction.
	config  Config
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics

	objects    *objects
	users      table[protocol.UserID, *User]
	seats      seats
	sets       table[protocol.ChannelID, *Set]
	identities identities
	refused    table[tokenKey, *refused] // at most maxRefused; written under mu
	topics     sync.Map                  // protocol.Topic → *topic; written under mu

	directories table[dirKey, *Directory]
	numbers     atomic.Pointer[numbers] // of ids in sets and directories; written under mu

	// The state of the stream: written by its goroutine, read by anybody.
	applied atomic.Uint64 // position of the last watermark
	down    atomic.Int64  // since when the stream is down, Unix nanoseconds; 0 while it is up
	heard   atomic.Int64  // when the last watermark came
	served  atomic.Uint64 // look-ups that found something; for sampling
	// workspacesFrom is a position from which all workspace topics that were ever followed are, and below which lies what
	// was known under topics that are not followed any more. filled is the latest position of a load of objects. For what
	// does not exist: see negativeFrom.
	workspacesFrom, filled atomic.Uint64

	// mu makes events and fills of user states, sets and identities follow one another. What is kept under it is told
	// where it is declared; besides, it guards these.
	mu         sync.Mutex
	topicCount int
	recent     recent
	channels   map[protocol.ChannelID]*channel // those with a member whose state is held
	table      channelTable                    // of the same; read under User.mu too
	held       numset.Slots[*User]             // those in users; channels know them by their numbers
	setBytes   int
	noted      int     // bytes of the channels' notes
	forced     []*User // states that a bound has forced out and Expire has not told of
}

// New returns an empty cache whose stream is down. Close it when nobody uses it any more.
func New(o Options) (*Cache, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("configure cache: %w", err)
	}
	c := &Cache{
		config: o.Config, log: o.Log, now: o.Now,
		users: newTable[protocol.UserID, *User](), sets: newTable[protocol.ChannelID, *Set](),
		seats: seats{of: make(map[protocol.UserID]*seat)}, identities: newIdentities(), refused: newTable[tokenKey, *refused](),
		channels: make(map[protocol.ChannelID]*channel), directories: newTable[dirKey, *Directory](),
	}
	c.numbers.Store(newNumbers())
	c.metrics = newMetrics(o.Registerer, c)
	objects, err := newObjects(&c.config, c.metrics, &c.applied)
	if err != nil {
		return nil, err
	}
	c.objects = objects
	now := c.now().UnixNano()
	c.down.Store(now)
	c.heard.Store(now)
	return c, nil
}

// Close ends the cache's goroutines and waits for them. Nothing may be called after it; what is being called while it
// runs finds nothing and keeps nothing.
func (c *Cache) Close() { c.objects.close() }

// Applied returns the position up to which all events of the followed topics were applied: the last watermark.
func (c *Cache) Applied() protocol.Position { return protocol.Position(c.applied.Load()) }

// Known returns a position that everything served so far was true at or below of: loads ask for it or later, so that none
// brings back what is older than what somebody has seen.
func (c *Cache) Known() protocol.Position {
	return max(c.Applied(), protocol.Position(c.filled.Load()))
}

func (c *Cache) numUsers() int      { return c.users.len() }
func (c *Cache) numSets() int       { return c.sets.len() }
func (c *Cache) numIdentities() int { return c.identities.len() }

func (c *Cache) numTopics() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.topicCount
}

func (c *Cache) numRecent() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recent.len()
}
