package affinity

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Status is what a node knows of its region, for people and machines.
type Status struct {
	Cluster    string         `json:"cluster"`
	Region     string         `json:"region"`
	Node       string         `json:"node"` // who says so
	Encrypted  bool           `json:"encrypted"`
	Health     int            `json:"health"`     // memberlist's score of this node: 0 is well
	Partitions int            `json:"partitions"` // in all
	Bound      int            `json:"bound"`      // how many of them a node may own
	Mean       int            `json:"mean"`       // sessions per active member
	Full       int            `json:"full"`       // sessions from which on a member gets no new ones
	Members    []MemberStatus `json:"members"`
	Spread     []SpreadStatus `json:"spread"`
}

// MemberStatus is one member.
type MemberStatus struct {
	Name       string     `json:"name"`
	Self       bool       `json:"self,omitempty"`
	State      State      `json:"state"`
	HeldUntil  *time.Time `json:"held_until,omitempty"` // its workspaces are kept so long
	URL        string     `json:"url"`
	Gossip     string     `json:"gossip"`
	Zone       string     `json:"zone,omitempty"`
	Version    string     `json:"version,omitempty"`
	Sessions   int        `json:"sessions"`
	Partitions int        `json:"partitions"`
}

// SpreadStatus is one workspace that is spread.
type SpreadStatus struct {
	Workspace string   `json:"workspace"`
	Shares    int      `json:"shares"`
	Owners    []string `json:"owners"` // by share
}

// Ownership says who owns a workspace, or a user's share of it, and why.
type Ownership struct {
	Workspace   string       `json:"workspace"`
	User        string       `json:"user,omitempty"`
	Partition   int          `json:"partition"`
	Share       int          `json:"share"`
	Shares      int          `json:"shares"`
	Owner       string       `json:"owner"`
	Primary     string       `json:"primary"`
	PrimaryURL  string       `json:"primary_url"`
	Fallback    string       `json:"fallback"`
	FallbackURL string       `json:"fallback_url"`
	By          string       `json:"by"`
	Why         string       `json:"why"`
	Order       []OrderEntry `json:"order"`
}

// OrderEntry is a member in the order in which a partition's users are sent to them.
type OrderEntry struct {
	Name     string `json:"name"`
	State    State  `json:"state"`
	Sessions int    `json:"sessions"`
	Note     string `json:"note"`
}

// Status returns what this node knows of its region.
func (c *Cluster) Status() Status {
	v := c.View()
	s := Status{
		Cluster: c.cfg.Name, Region: c.region, Node: c.name, Encrypted: c.keyring != nil, Health: c.list.GetHealthScore(),
		Partitions: Partitions, Bound: v.ring.Most(), Mean: v.mean, Full: v.full, Members: []MemberStatus{}, Spread: []SpreadStatus{},
	}
	for _, m := range v.members {
		one := MemberStatus{
			Name: m.Name, Self: m.Name == c.name, State: m.State, URL: m.URL, Gossip: m.Address, Zone: m.Zone, Version: m.Version,
			Sessions: m.Load, Partitions: v.ring.Count(m.Name),
		}
		if !m.Until.IsZero() {
			one.HeldUntil = &m.Until
		}
		s.Members = append(s.Members, one)
	}
	for _, w := range slices.Sorted(maps.Keys(v.spread)) {
		s.Spread = append(s.Spread, SpreadStatus{Workspace: w, Shares: v.spread[w], Owners: v.Owners(w)})
	}
	return s
}

// Explain says who owns a workspace and where a user of it is sent, and why. Without a user it is about the first share.
func (c *Cluster) Explain(workspace, user string) Ownership {
	v := c.View()
	at := v.Place(workspace, user)
	if user == "" {
		at = v.place(workspace, 0, v.Shares(workspace))
	}
	o := Ownership{
		Workspace: workspace, User: user, Partition: at.Partition, Share: at.Share, Shares: at.Shares, Owner: at.Owner,
		Primary: at.Primary, PrimaryURL: v.find(at.Primary).URL, Fallback: at.Fallback, FallbackURL: v.find(at.Fallback).URL, By: at.By, Order: []OrderEntry{},
	}
	for _, name := range at.Order {
		m := v.find(name)
		o.Order = append(o.Order, OrderEntry{Name: name, State: m.State, Sessions: m.Load, Note: v.note(&m)})
	}
	what := fmt.Sprintf("workspace %s is in partition %d", workspace, at.Partition)
	if at.Shares > 1 {
		what = fmt.Sprintf("workspace %s is spread over %d shares by user; share %d is in partition %d", workspace, at.Shares, at.Share, at.Partition)
	}
	owner := v.find(at.Owner)
	switch at.By {
	case ByOwner:
		o.Why = fmt.Sprintf("%s, which %s owns and serves", what, at.Owner)
	case ByOverflow:
		o.Why = fmt.Sprintf("%s, which %s owns; that has %d sessions and the mean is %d, so new ones go to %s", what, at.Owner, owner.Load, v.mean, at.Primary)
	case ByStandIn:
		o.Why = fmt.Sprintf("%s, which %s owns; that is %s, so users go to the next that serves, %s", what, at.Owner, owner.State, at.Primary)
		if at.Owner == "" {
			o.Why = fmt.Sprintf("%s, which nobody owns; users go to %s", what, at.Primary)
		}
	default:
		o.Why = fmt.Sprintf("%s; no node serves, so users stay where they ask", what)
	}
	return o
}

// note says in a word whether a member gets users.
func (v *View) note(m *Member) string {
	switch {
	case m.State != Active:
		return "gets nobody: " + string(m.State)
	case m.Load >= v.full:
		return fmt.Sprintf("gets nobody new: %d sessions or more", v.full)
	default:
		return "serves"
	}
}
