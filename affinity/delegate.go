package affinity

import (
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist tells and asks the cluster. It holds its own lock while it does, so nothing here blocks, and
// nothing calls back.
type delegate struct{ c *Cluster }

// NodeMeta implements memberlist.Delegate.
func (d delegate) NodeMeta(int) []byte {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	return d.c.meta
}

// NotifyMsg implements memberlist.Delegate. There are no messages: events do not belong into gossip.
func (delegate) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate. Metadata says all there is.
func (delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (delegate) MergeRemoteState([]byte, bool) {}

// NotifyAlive implements memberlist.AliveDelegate: who may not be a member is not heard.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	if n.Name == d.c.name {
		return nil
	}
	err := d.c.admit(n)
	if err != nil {
		d.c.metrics.events.WithLabelValues("refused").Inc()
	}
	return err
}

// NotifyMerge implements memberlist.MergeDelegate: two regions do not become one because of a wrong seed.
func (d delegate) NotifyMerge(nodes []*memberlist.Node) error {
	for _, n := range nodes {
		if n.State != memberlist.StateAlive || n.Name == d.c.name {
			continue
		}
		if a, err := decode(n.Meta); err == nil && a.Region != d.c.region {
			return fmt.Errorf("node %s is of region %q, this one of %q: each region has seeds of its own", n.Name, a.Region, d.c.region)
		}
	}
	return nil
}

// admit says why a node may not be a member.
func (c *Cluster) admit(n *memberlist.Node) error {
	a, err := decode(n.Meta)
	if err != nil {
		return err
	}
	if a.Region != c.region {
		return fmt.Errorf("it is of region %q, this node of %q", a.Region, c.region)
	}
	if n.Name == "" || len(n.Name) > maxWord {
		return fmt.Errorf("its name has %d bytes", len(n.Name))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.roster.room(n.Name) {
		return fmt.Errorf("there are %d members already", MaxMembers)
	}
	return nil
}

// NotifyJoin implements memberlist.EventDelegate.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.c.heard("join", n) }

// NotifyUpdate implements memberlist.EventDelegate.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.c.heard("update", n) }

// heard notes what a member says of itself.
func (c *Cluster) heard(event string, n *memberlist.Node) {
	c.metrics.events.WithLabelValues(event).Inc()
	a, err := decode(n.Meta)
	if err != nil {
		return // It was not admitted.
	}
	c.mu.Lock()
	was, known := c.roster.members[n.Name]
	c.roster.alive(n.Name, n.Address(), a, c.now())
	c.mu.Unlock()
	c.wake()
	if !known || was.State != a.State {
		c.log.Info("member changed", "member", n.Name, "state", string(a.State), "url", a.URL, "address", n.Address())
	}
}

// NotifyLeave implements memberlist.EventDelegate: a member is dead beyond suspicion, or has left.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	c := d.c
	if n.Name == c.name {
		return
	}
	c.metrics.events.WithLabelValues("gone").Inc()
	c.mu.Lock()
	c.roster.gone(n.Name, c.now())
	m := c.roster.members[n.Name]
	c.mu.Unlock()
	c.wake()
	if m.Name == "" {
		c.log.Info("member gone", "member", n.Name)
		return
	}
	c.log.Info("member gone", "member", n.Name, "state", string(m.State), "held_until", m.Until)
}

// NotifyConflict implements memberlist.ConflictDelegate.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	d.c.metrics.events.WithLabelValues("conflict").Inc()
	if !d.c.quarrel.Allow() {
		return
	}
	d.c.log.Error("two nodes have one name; give each its own with node.cluster.node", "member", existing.Name, "address", existing.Address(), "other", other.Address())
}

// AckPayload implements memberlist.PingDelegate.
func (delegate) AckPayload() []byte { return nil }

// NotifyPingComplete implements memberlist.PingDelegate.
func (d delegate) NotifyPingComplete(_ *memberlist.Node, rtt time.Duration, _ []byte) {
	d.c.metrics.probes.Observe(rtt.Seconds())
}
