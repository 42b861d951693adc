package node

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"flannel/affinity"
	"flannel/edge"
	"flannel/protocol"
)

// ClusterStatus and Ownership are what GET /cluster on the admin listener answers.
type (
	ClusterStatus = affinity.Status
	Ownership     = affinity.Ownership
)

// NewClusterKey returns a random key for the gossip between nodes.
func NewClusterKey() string { return affinity.NewKey() }

// checkCluster says what is wrong with a node's place in its region that affinity alone cannot see.
func (c *Config) checkCluster() error {
	err := c.Cluster.Validate()
	if c.Cluster.On() && c.Cluster.PublicURL == "" && !loopback(c.Edge.Listen) {
		err = errors.Join(err, fmt.Errorf("public_url: is empty; clients are sent to this very node, so say where they reach it (the address for clients is %s)", c.Edge.Listen))
	}
	return err
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// joinRegion builds the node's place in its region. The edge listens by then: its address may be what clients are told.
func (n *Node) joinRegion(o Options) (err error) {
	url := n.cfg.Cluster.PublicURL
	if url == "" {
		url = "http://" + n.edge.Addr()
	}
	n.self.URL = url
	n.cluster, err = affinity.New(affinity.Options{
		Config: n.cfg.Cluster, Region: n.cfg.Edge.Region, PublicURL: url, Version: o.Version, Load: n.edge.Sessions, Sessions: n.edge.Crowd,
		Log: o.Log.With("component", "affinity"), Registerer: o.Registry, Now: time.Now,
	})
	if err != nil {
		return fmt.Errorf("build affinity: %w", err)
	}
	n.self.Node = n.cluster.Name()
	return nil
}

// region is the edge's way to the other nodes.
type region struct{ n *Node }

// Self implements edge.Region.
func (r region) Self() edge.Place { return r.n.self }

// Place implements edge.Region. If nobody serves, the node that was asked does.
func (r region) Place(id protocol.Identity) (primary, fallback edge.Place) {
	at, first, next := r.n.cluster.Place(string(id.Workspace), string(id.User))
	if at.By == affinity.ByNobody {
		return r.n.self, r.n.self
	}
	return edge.Place{Node: first.Name, URL: first.URL}, edge.Place{Node: next.Name, URL: next.URL}
}

// Secrets implements edge.Region. Nodes whose gossip is not encrypted are on one machine; they have the backend's key in
// common.
func (r region) Secrets() [][]byte {
	if keys := r.n.cluster.Keys(); len(keys) > 0 {
		return keys
	}
	return [][]byte{[]byte(r.n.cfg.Upstream.Key)}
}

// showCluster answers GET /cluster: the region, or who owns one workspace.
func (n *Node) showCluster(r *http.Request) (any, error) {
	if n.cluster == nil {
		return nil, errors.New("this node stands alone: node.cluster.listen is empty")
	}
	workspace, user := r.FormValue("workspace"), r.FormValue("user")
	switch {
	case workspace == "" && user != "":
		return nil, errors.New("say the user's workspace too: workspace=T…")
	case workspace == "":
		return n.cluster.Status(), nil
	case !protocol.ValidID(workspace) || user != "" && !protocol.ValidID(user):
		return nil, errors.New("workspace and user are ids, like T0123456789 and U0123456789")
	}
	return n.cluster.Explain(workspace, user), nil
}
