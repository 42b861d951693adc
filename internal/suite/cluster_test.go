package suite_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/slack-go/slack"

	"flannel/node"
)

// clustered is one node of a region.
type clustered struct {
	*node.Node
	stop func()
}

func (c *clustered) url() string { return "http://" + c.Addr() }

// region starts nodes that know each other, in front of w's backend.
func region(t *testing.T, w *world, names ...string) map[string]*clustered {
	t.Helper()
	nodes := make(map[string]*clustered)
	var seeds []string
	for _, name := range names {
		cfg := node.Default()
		cfg.Edge.Listen, cfg.Admin.Listen, cfg.Edge.DrainTime = "127.0.0.1:0", "127.0.0.1:0", 100*time.Millisecond
		cfg.Upstream.URL, cfg.Upstream.Key = "http://"+w.back.UpstreamAddr(), w.back.UpstreamKey()
		cfg.Cluster.Listen, cfg.Cluster.Node, cfg.Cluster.Seeds = "127.0.0.1:0", name, seeds
		cfg.Cluster.JoinEvery, cfg.Cluster.AnnounceEvery = 100*time.Millisecond, 50*time.Millisecond
		n, err := node.New(node.Options{Config: cfg, Log: w.log(), Registry: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		c := &clustered{n, run(t, n)}
		t.Cleanup(c.stop)
		nodes[name] = c
		seeds = []string{n.ClusterAddr()}
	}
	for _, c := range nodes {
		until(t, c.Name()+" sees all as active", func() bool {
			s := c.status(t)
			for _, m := range s.Members {
				if m.State != "active" {
					return false
				}
			}
			return len(s.Members) == len(names)
		})
	}
	return nodes
}

// until waits for a condition.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// admin calls the node's admin listener and reads the answer into out, if that is not nil.
func (c *clustered) admin(t *testing.T, method, path string, out any) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.AdminAddr()+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if out != nil && resp.StatusCode == http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			t.Fatal(err)
		}
	}
	return resp.StatusCode
}

func (c *clustered) status(t *testing.T) (s node.ClusterStatus) {
	t.Helper()
	c.admin(t, http.MethodGet, "/cluster", &s)
	return s
}

// TestCluster_ClientsAreSentToTheOwner: whichever node a client asks, all addresses that it is given are of one node, and
// work there; a session at another works too. When the owner drains, and when it is gone, clients are sent to the next one.
func TestCluster_ClientsAreSentToTheOwner(t *testing.T) {
	w := newWorld(t, 12)
	nodes := region(t, w, "one", "two", "three")
	who := w.member(0)
	var owner node.Ownership
	nodes["one"].admin(t, http.MethodGet, fmt.Sprintf("/cluster?workspace=%s&user=%s", w.seed.Workspace.ID, who.id), &owner)
	home, next := nodes[owner.Owner], nodes[owner.Fallback]
	if home == nil || next == nil || home == next || owner.Primary != owner.Owner || owner.PrimaryURL != home.url() || len(owner.Order) != 3 {
		t.Fatalf("%+v", owner)
	}

	for name, asked := range nodes {
		_, _, connect := call(t, asked.url(), "rtm.connect", who.token, nil)
		_, _, thin := call(t, asked.url(), "client.getWebSocketURL", who.token, nil)
		_, _, ask := call(t, asked.url(), "api.getFlannelHttpUrl", who.token, nil)
		_, _, start := call(t, asked.url(), "rtm.start", who.token, nil)
		for what, c := range map[string]struct {
			address any
			at      *clustered
		}{
			"rtm.connect": {connect["url"], home}, "rtm.start": {start["url"], home}, "primary": {thin["primary_websocket_url"], home},
			"fallback": {thin["fallback_websocket_url"], next}, "http": {ask["url"], home},
		} {
			u, err := url.Parse(fmt.Sprint(c.address))
			if err != nil || u.Host != c.at.Addr() {
				t.Errorf("%s asked for %s: %v, want %s", name, what, c.address, c.at.Addr())
			}
		}
		if thin["ttl_seconds"] == nil {
			t.Errorf("%s gives no ttl_seconds: %v", name, thin)
		}
		// The ticket was given by one node and is used at another; once.
		hello(t, connect["url"].(string), true)
		hello(t, connect["url"].(string), false)
		hello(t, start["url"].(string), true)
		hello(t, thin["primary_websocket_url"].(string), true)
		hello(t, thin["fallback_websocket_url"].(string), true)
	}

	// An unmodified client that asks a node that is not the owner ends at the owner, and hears one that is elsewhere.
	a := connect(t, next.url(), who)
	channel := general(t, a.api)
	b := connect(t, home.url(), w.member(1))
	b.rtm.SendMessage(b.rtm.NewOutgoingMessage("across the region", channel))
	await(a, func(m *slack.MessageEvent) bool { return m.Text == "across the region" })

	// Draining: nobody is sent there, and it says that it is not ready; then it is as before.
	asked := next
	goesTo := func(c *clustered) func() bool {
		return func() bool {
			_, _, answer := call(t, asked.url(), "api.getFlannelHttpUrl", who.token, nil)
			return answer["url"] == c.url()
		}
	}
	if code := home.admin(t, http.MethodPost, "/drain", nil); code != http.StatusOK {
		t.Errorf("drain: %d", code)
	}
	until(t, "clients go to the next", goesTo(next))
	if code := home.admin(t, http.MethodGet, "/readyz", nil); code != http.StatusServiceUnavailable {
		t.Errorf("readyz of a draining node: %d", code)
	}
	home.admin(t, http.MethodPost, "/drain/cancel", nil)
	until(t, "clients go to the owner again", goesTo(home))
	if code := home.admin(t, http.MethodGet, "/readyz", nil); code != http.StatusOK {
		t.Errorf("readyz: %d", code)
	}

	// Stopped: its clients come back elsewhere, and it keeps its workspaces for the hold-down.
	home.stop()
	until(t, "clients go to the next", goesTo(next))
	next.admin(t, http.MethodGet, "/cluster?workspace="+string(w.seed.Workspace.ID), &owner)
	if owner.Owner != home.Name() || owner.Primary != next.Name() || owner.By != "stand_in" || !strings.Contains(owner.Why, next.Name()) {
		t.Errorf("%+v", owner)
	}
	for _, bad := range []string{"/cluster?workspace=x", "/cluster?user=U1"} {
		if code := next.admin(t, http.MethodGet, bad, nil); code != http.StatusNotFound {
			t.Errorf("%s: %d", bad, code)
		}
	}
}

// A node without others has no region: its addresses are where it was asked, as ever.
func TestCluster_Alone(t *testing.T) {
	w := newWorld(t, 12)
	alone := &clustered{Node: w.edge}
	if code := alone.admin(t, http.MethodGet, "/cluster", nil); code != http.StatusNotFound {
		t.Errorf("cluster: %d", code)
	}
	if code := alone.admin(t, http.MethodPost, "/drain", nil); code == http.StatusOK {
		t.Errorf("drain: %d", code)
	}
	_, _, thin := call(t, w.edgeURL(), "client.getWebSocketURL", w.member(0).token, nil)
	if thin["primary_websocket_url"] != thin["fallback_websocket_url"] || !strings.HasPrefix(fmt.Sprint(thin["primary_websocket_url"]), "ws://"+w.edge.Addr()) {
		t.Errorf("%v", thin)
	}
}

// hello opens a socket and looks whether it is welcome there.
func hello(t *testing.T, address string, welcome bool) {
	t.Helper()
	s := dial(t, address, nil)
	var first struct{ Type string }
	if err := json.Unmarshal(s.next(), &first); err != nil || (first.Type == "hello") != welcome {
		t.Errorf("%s says %q, %v", address, first.Type, err)
	}
	s.conn.Close()
}
