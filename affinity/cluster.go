package affinity

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// Options of New. All but Tune are required; what they call must not block.
type Options struct {
	Config Config
	// Region is this node's; members of another are refused.
	Region string
	// PublicURL is where clients reach this node: Config.PublicURL, or what stands for it.
	PublicURL string
	// Version of the program, shown to people.
	Version string
	// Load returns how many sessions this node has, and Sessions goes through them: workspace and user.
	Load     func() int
	Sessions func() iter.Seq2[string, string]

	Log        *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
	// Tune changes memberlist's timing, in tests; nil otherwise.
	Tune func(*memberlist.Config)
}

const (
	// streamTimeout bounds one exchange of whole states with another node, and so how long Run takes to end.
	streamTimeout = 3 * time.Second
	// pushPullEvery is how often whole states are exchanged with a random node. memberlist makes it longer above 32 nodes.
	pushPullEvery = 10 * time.Second
	// announceWait bounds the wait until an announcement is on its way: some rounds of gossip.
	announceWait = time.Second
	// A load is announced when it has changed by a 1/loadStep, or by loadSlack sessions if that is more: what is smaller
	// changes no decision, and each announcement is told to every node.
	loadStep, loadSlack = 32, 16
)

// Cluster is this node's place among the nodes of its region. New makes it listen, Run lets it take part. It is safe for
// concurrent use; Place, View and Status do not block.
type Cluster struct {
	// Static after New.
	cfg     Config
	name    string
	region  string
	addr    string // what memberlist tells of itself; its own value may not be read while it runs
	load    func() int
	crowds  func() iter.Seq2[string, string]
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	list    *memberlist.Memberlist
	keyring *memberlist.Keyring // nil if gossip is not encrypted
	quarrel *rate.Limiter       // how often a conflict is logged
	changed chan struct{}       // the roster has changed; capacity 1, more say no more; never closed

	view atomic.Pointer[View]

	// telling is held while an announcement is made, so that the last one made is the last one told. It is taken before mu.
	telling sync.Mutex
	left    bool // guarded by telling
	again   int  // guarded by telling: how often the last announcement is still to be repeated

	// mu guards what follows. It is never held across a call into memberlist, which calls us under its own lock.
	mu     sync.Mutex
	roster *roster
	said   Announcement // what meta says
	meta   []byte
	keys   [][]byte // the one that encrypts first
}

// New listens for gossip and is a cluster of one, in the state joining, until Run. Close it if it is not run.
func New(o Options) (*Cluster, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	if !o.Config.On() {
		return nil, errors.New("listen: is empty")
	}
	if err := checkURL(o.PublicURL); err != nil {
		return nil, fmt.Errorf("public_url: %w", err)
	}
	if len(o.Region) > maxWord {
		return nil, fmt.Errorf("the region's name has %d bytes, %d are allowed", len(o.Region), maxWord)
	}
	c := &Cluster{
		cfg: o.Config, region: o.Region, load: o.Load, crowds: o.Sessions, log: o.Log, now: o.Now,
		quarrel: rate.NewLimiter(rate.Every(time.Minute), 1), changed: make(chan struct{}, 1), roster: newRoster(o.Config.HoldDown),
	}
	c.metrics = newMetrics(o.Registerer)
	conf, err := c.configure(o)
	if err != nil {
		return nil, err
	}
	c.said = Announcement{URL: o.PublicURL, Region: o.Region, Zone: o.Config.Zone, State: Joining, Version: o.Version[:min(len(o.Version), maxWord)]}
	if c.meta, err = c.said.encode(); err != nil {
		return nil, err
	}
	tr, err := newTransport(conf, c.metrics)
	if err != nil {
		return nil, err
	}
	conf.Transport = tr
	if c.name = o.Config.Node; c.name == "" {
		if c.name, err = hostName(conf.BindPort); err != nil {
			return nil, errors.Join(err, tr.Shutdown())
		}
	}
	conf.Name = c.name
	c.view.Store(newView(c.name, nil, c.now(), nil))
	if c.list, err = memberlist.Create(conf); err != nil {
		return nil, errors.Join(fmt.Errorf("start gossip: %w", err), tr.Shutdown())
	}
	c.addr = c.list.LocalNode().Address()
	c.metrics.watch(o.Registerer, func() float64 { return float64(c.list.GetHealthScore()) })
	c.look()
	return c, nil
}

// configure makes memberlist's configuration, without name and transport.
func (c *Cluster) configure(o Options) (*memberlist.Config, error) {
	conf := memberlist.DefaultLANConfig()
	listen, err := ipPort(c.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	conf.BindAddr, conf.BindPort, conf.AdvertisePort = listen.Addr().String(), int(listen.Port()), int(listen.Port())
	if c.cfg.Advertise != "" {
		a, err := ipPort(c.cfg.Advertise)
		if err != nil {
			return nil, fmt.Errorf("advertise: %w", err)
		}
		conf.AdvertiseAddr, conf.AdvertisePort = a.Addr().String(), int(a.Port())
	}
	conf.Label = c.cfg.Name
	conf.TCPTimeout = streamTimeout
	// What gossip loses in spite of all is healed by the exchange of whole states.
	conf.PushPullInterval = pushPullEvery
	// A node that comes back under its name at another address, as pods do, need not wait longer than that.
	conf.DeadNodeReclaimTime = time.Second
	if c.keys, err = loadKeys(&c.cfg); err != nil {
		return nil, err
	}
	if len(c.keys) > 0 {
		if c.keyring, err = memberlist.NewKeyring(c.keys, c.keys[0]); err != nil {
			return nil, fmt.Errorf("use keys: %w", err)
		}
		conf.Keyring = c.keyring
	}
	conf.Logger = slog.NewLogLogger(bridge{o.Log.Handler(), c.metrics}, slog.LevelDebug)
	d := delegate{c}
	conf.Delegate, conf.Events, conf.Alive, conf.Merge, conf.Conflict, conf.Ping = d, d, d, d, d, d
	if o.Tune != nil {
		o.Tune(conf)
	}
	return conf, nil
}

// hostName is the name of a node that was given none.
func hostName(port int) (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("node: is empty, and the host has no name: %w", err)
	}
	if port != DefaultPort {
		suffix := fmt.Sprint("-", port)
		return host[:min(len(host), maxWord-len(suffix))] + suffix, nil
	}
	return host[:min(len(host), maxWord)], nil
}

// Name returns this node's name.
func (c *Cluster) Name() string { return c.name }

// Addr returns the address of the gossip that others are told.
func (c *Cluster) Addr() string { return c.addr }

// View returns what is known of the region now.
func (c *Cluster) View() *View { return c.view.Load() }

// Keys returns the keys of the gossip, the one that encrypts first; none if it is not encrypted.
func (c *Cluster) Keys() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keys
}

// Place says where a user of a workspace is sent, with the addresses of the two nodes, and counts it.
func (c *Cluster) Place(workspace, user string) (at Placement, primary, fallback Member) {
	v := c.View()
	at = v.Place(workspace, user)
	c.metrics.placements[at.By].Inc()
	return at, v.find(at.Primary), v.find(at.Fallback)
}

// wake lets Run look at the roster.
func (c *Cluster) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Run joins the nodes that the seeds name and keeps the view, until ctx ends. It does not leave: see Leave.
func (c *Cluster) Run(ctx context.Context) error {
	var work sync.WaitGroup
	work.Go(func() { c.join(ctx) })
	work.Go(func() { c.report(ctx) })
	defer work.Wait()
	for {
		wait := time.Hour // There is nothing to wait for.
		if next := c.look(); !next.IsZero() {
			wait = max(next.Sub(c.now()), time.Millisecond)
		}
		over := time.NewTimer(wait)
		select {
		case <-c.changed:
		case <-over.C:
		case <-ctx.Done():
			over.Stop()
			return nil
		}
		over.Stop()
	}
}

// look makes a new view of the roster. It returns when a hold-down will be over, zero if none runs.
func (c *Cluster) look() time.Time {
	now := c.now()
	c.mu.Lock()
	_, next := c.roster.expire(now)
	all := c.roster.list()
	c.mu.Unlock()
	before := c.View()
	v := newView(c.name, all, now, before)
	c.view.Store(v)
	c.metrics.see(v)
	if moved := v.ring.Moved(before.ring); v.ring != before.ring && moved > 0 {
		c.metrics.moved.Add(float64(moved))
		c.log.Info("partitions moved", "partitions", moved, "own", v.ring.Count(c.name), "nodes", len(v.ring.names))
	}
	return next
}

// Serving tells the others that this node serves: users may be sent here. It does nothing once the node drains.
func (c *Cluster) Serving() {
	c.tell(func(a *Announcement) bool { return swap(&a.State, Joining, Active) })
}

// Drain tells the others to send nobody here any more. Its workspaces stay this node's until it has left.
func (c *Cluster) Drain() {
	c.tell(func(a *Announcement) bool {
		return swap(&a.State, Active, Draining) || swap(&a.State, Joining, Draining)
	})
}

// Resume undoes Drain.
func (c *Cluster) Resume() {
	c.tell(func(a *Announcement) bool { return swap(&a.State, Draining, Active) })
}

func swap(s *State, from, to State) bool {
	if *s != from {
		return false
	}
	*s = to
	return true
}

// Draining reports whether this node has told the others to send nobody.
func (c *Cluster) Draining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said.State == Draining
}

// tell changes what this node says of itself, and tells it if edit reports a change. It waits for announceWait at most
// until it is on its way to the first of the others; gossip carries it on.
func (c *Cluster) tell(edit func(*Announcement) bool) {
	c.telling.Lock()
	defer c.telling.Unlock()
	c.mu.Lock()
	next := c.said
	ok := edit(&next) && !c.left
	if ok {
		if _, err := next.encode(); err == nil {
			c.said = next
		} else {
			ok = false
		}
	}
	c.mu.Unlock()
	if !ok {
		return
	}
	c.again = repeats
	c.announceLocked()
}

// repeats is how often an announcement is told again, at each look at the load: gossip goes by datagrams, a few for each
// announcement, and a member that was just joining when it was made may get none of them. The exchange of whole states,
// which has it too, comes later.
const repeats = 3

// repeat tells the last announcement again, a few times.
func (c *Cluster) repeat() {
	c.telling.Lock()
	defer c.telling.Unlock()
	if c.again > 0 && !c.left {
		c.again--
		c.announceLocked()
	}
}

// announceLocked wants telling. Each announcement has a length of its own: memberlist's queue takes two messages of the same
// length for one at times, and loses the first (hashicorp/memberlist#263). Nodes that announce in step, with names and
// addresses of the same length, lost each repetition in the same way.
func (c *Cluster) announceLocked() {
	c.mu.Lock()
	meta, err := c.said.encode()
	if err == nil {
		c.meta = pad(meta)
	}
	c.mu.Unlock()
	if err == nil {
		err = c.list.UpdateNode(announceWait)
	}
	c.metrics.announced.WithLabelValues(outcome(err)).Inc()
	if err != nil {
		c.log.Debug("announcement is late", "err", err) // The next exchange of whole states has it.
	}
}

// report tells the others of this node's load and crowds when they have changed.
func (c *Cluster) report(ctx context.Context) {
	tick := time.NewTicker(c.cfg.AnnounceEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.repeat()
			load := c.load()
			spread := c.View().crowds(c.crowds(), c.cfg.SpreadAt, c.cfg.SpreadMax)
			c.tell(func(a *Announcement) bool {
				if d := load - a.Load; max(d, -d) < max(loadSlack, a.Load/loadStep) && maps.Equal(spread, a.Spread) {
					return false
				}
				a.Load, a.Spread = load, spread
				return true
			})
		case <-ctx.Done():
			return
		}
	}
}

// Leave tells the others that this node is gone, and ends gossip. It waits until ctx ends, and a second at most, for the
// word to be on its way. Call it when Run has ended or is about to; only the first call does anything.
func (c *Cluster) Leave(ctx context.Context) error {
	c.Drain()
	c.telling.Lock()
	defer c.telling.Unlock()
	if c.left {
		return nil
	}
	c.left = true
	wait := announceWait
	if until, ok := ctx.Deadline(); ok {
		wait = max(min(wait, time.Until(until)), time.Millisecond)
	}
	if err := c.list.Leave(wait); err != nil {
		c.log.Debug("leave is late", "err", err) // The others will find out.
	}
	return c.list.Shutdown()
}

// Close ends gossip without a word, as a crash would. It is idempotent, and for a cluster that is not run.
func (c *Cluster) Close() error {
	c.telling.Lock()
	defer c.telling.Unlock()
	c.left = true
	return c.list.Shutdown()
}
