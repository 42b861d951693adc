package affinity

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"
)

// lookupTimeout bounds looking up one seed.
const lookupTimeout = 3 * time.Second

// join keeps looking for nodes that are not known, as the seeds' names get new addresses, and so that two halves of a region
// find each other again after a split. It also reads the keys again.
func (c *Cluster) join(ctx context.Context) {
	tick := time.NewTicker(c.cfg.JoinEvery)
	defer tick.Stop()
	lonely := false
	for {
		c.rekey()
		tried, joined := c.joinNew(ctx)
		switch alone := c.list.NumMembers() == 1; {
		case tried > 0 && joined == 0 && alone && !lonely && ctx.Err() == nil:
			lonely = true
			c.log.Warn("no seed answers; this node stands alone and goes on trying", "seeds", len(c.cfg.Seeds))
		case !alone:
			lonely = false
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// joinNew exchanges states with the seeds' addresses that are not members: those of maxSeeds.
func (c *Cluster) joinNew(ctx context.Context) (tried, joined int) {
	known := map[string]bool{c.Addr(): true}
	for _, m := range c.View().Members() {
		if m.State != Dead && m.State != Left {
			known[m.Address] = true
		}
	}
	for _, addr := range c.lookup(ctx) {
		if known[addr] || ctx.Err() != nil {
			continue
		}
		tried++
		_, err := c.list.Join([]string{addr})
		if err == nil {
			joined++
		} else {
			c.log.Debug("seed did not answer", "address", addr, "err", err)
		}
		c.metrics.joins.WithLabelValues(outcome(err)).Inc()
	}
	return tried, joined
}

// lookup returns addresses of the seeds, in random order, so that not all nodes ask the same one first.
func (c *Cluster) lookup(ctx context.Context) []string {
	var found []string
	for _, seed := range c.cfg.Seeds {
		host, port, err := hostPort(seed)
		if err != nil {
			continue // Validate has seen it.
		}
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		cancel()
		if err != nil {
			c.log.Debug("seed has no address", "seed", seed, "err", err)
			c.metrics.joins.WithLabelValues("failed").Inc()
			continue
		}
		for _, ip := range ips {
			if addr := netip.AddrPortFrom(ip.Unmap(), port).String(); !slices.Contains(found, addr) {
				found = append(found, addr)
			}
		}
	}
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	return found[:min(len(found), maxSeeds)]
}

// rekey takes the keys that the file has now. Gossip that was not encrypted does not become so: all nodes would have to
// change at once.
func (c *Cluster) rekey() {
	if c.keyring == nil || c.cfg.KeysFile == "" {
		return
	}
	keys, err := loadKeys(&c.cfg)
	if err != nil {
		c.metrics.rekeyed.WithLabelValues("failed").Inc()
		if c.quarrel.Allow() {
			c.log.Error("keys cannot be read; the old ones stay in use", "err", err)
		}
		return
	}
	if slices.EqualFunc(keys, c.Keys(), bytes.Equal) {
		return
	}
	err = install(c.keyring, keys)
	c.metrics.rekeyed.WithLabelValues(outcome(err)).Inc()
	if err != nil {
		c.log.Error("keys cannot be changed", "err", err)
		return
	}
	c.mu.Lock()
	c.keys = keys
	c.mu.Unlock()
	c.log.Info("keys changed", "keys", len(keys))
}
