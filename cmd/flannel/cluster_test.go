package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"flannel/node"
)

// clusterOf waits until a node sees so many members that serve, and returns what it sees.
func clusterOf(t *testing.T, admin string, active int) node.ClusterStatus {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		var s node.ClusterStatus
		if err := json.Unmarshal([]byte(must(t, "cluster", "status", "--admin", admin)), &s); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, m := range s.Members {
			if m.State == "active" {
				n++
			}
		}
		if n == active {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", s)
		}
	}
}

// flannel dev --nodes runs nodes that know each other, and an edge that is started beside them joins them.
func TestDev_SeveralNodes(t *testing.T) {
	data := t.TempDir()
	b, r := dev(t, "--nodes", "3", "--cluster-listen", "127.0.0.1:0", "--data", data)
	if len(r.Nodes) != 3 || r.Nodes[0].Edge != r.Edge || r.Nodes[0].Admin != r.Admin {
		t.Fatalf("%+v", r.Nodes)
	}
	for _, n := range r.Nodes {
		if s := clusterOf(t, n.Admin, 3); s.Node != n.Name || len(s.Members) != 3 || s.Partitions == 0 {
			t.Errorf("%s sees %+v", n.Name, s)
		}
		if _, body := get(t, n.Admin+"/metrics"); !strings.Contains(body, `flannel_cluster_members{state="active"} 3`) || !strings.Contains(body, `flannel_cluster_placements_total{by="overflow"} 0`) {
			t.Errorf("%s has no metrics of the cluster", n.Name)
		}
	}
	key := "0123456789abcdef0123"
	late := inBackground(t, "edge", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--upstream", "http://"+free(t), "--upstream-key", key, "--log-format", "json",
		"--cluster-listen", "127.0.0.1:0", "--cluster-seeds", r.Nodes[0].Gossip)
	s := clusterOf(t, "http://"+late.address("admin"), 3)
	if len(s.Members) != 4 {
		t.Errorf("%+v", s)
	}
	for _, m := range s.Members { // It has no backend, so nobody is sent there.
		if m.Self != (m.State == "joining") || m.Self && m.Partitions != 0 {
			t.Errorf("%+v", m)
		}
	}
	if code := late.stop(); code != exitOK {
		t.Errorf("exit code %d:\n%s", code, late.stderr)
	}

	resp, err := http.Post(r.Nodes[1].Admin+"/drain", "", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	clusterOf(t, r.Nodes[0].Admin, 2)
	table := must(t, "cluster", "status", "--admin", r.Nodes[0].Admin, "--format", "table")
	for _, want := range []string{"node-1 *", "node-2", "draining", r.Nodes[2].Edge, "of 65536 partitions", "gossip is not encrypted"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
	why := must(t, "cluster", "status", "--admin", r.Nodes[0].Admin, "--format", "table", "--workspace", string(r.Workspace.ID), "--user", string(r.Tokens[0].User))
	for _, want := range []string{"workspace " + string(r.Workspace.ID) + " is in partition", "fallback", "gets nobody: draining"} {
		if !strings.Contains(why, want) {
			t.Errorf("no %q in\n%s", want, why)
		}
	}
	if code := b.stop(); code != exitOK || !strings.Contains(b.stderr.String(), r.Nodes[2].Admin+"/drain") {
		t.Errorf("exit code %d:\n%s", code, b.stderr)
	}
}

func TestCluster_MistakesSayWhatToDo(t *testing.T) {
	_, r := dev(t)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"cluster", "status", "--admin", r.Admin}, exitFailed, "node.cluster.listen is empty"},
		{[]string{"cluster", "status", "--admin", "http://" + free(t)}, exitFailed, "with --admin"},
		{[]string{"cluster", "status", "--admin", "localhost:8082"}, exitUsage, "http://host:port"},
		{[]string{"cluster", "status", "--format", "yaml"}, exitUsage, "auto, table or json"},
		{[]string{"cluster", "status", "--user", "U1"}, exitUsage, "--workspace"},
		{[]string{"dev", "--nodes", "0"}, exitUsage, "choose 1 to 16"},
		{[]string{"edge", "--upstream-key", "0123456789abcdef", "--cluster-listen", "0.0.0.0:7946"}, exitUsage, "node.cluster.keys: are required"},
		{[]string{"edge", "--upstream-key", "0123456789abcdef", "--listen", "0.0.0.0:0", "--cluster-listen", "127.0.0.1:0"}, exitUsage, "node.cluster.public_url: is empty"},
		{[]string{"edge", "--upstream-key", "0123456789abcdef", "--cluster-listen", "127.0.0.1:0", "--cluster-seeds", "http://n1"}, exitUsage, "node.cluster.seeds: "},
	} {
		if code, _, stderr := flannel(t, c.args...); code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: exit code %d, %s", c.args, code, stderr)
		}
	}
}

func TestClusterKey_IsNewEachTime(t *testing.T) {
	one, two := strings.TrimSpace(must(t, "cluster", "key")), strings.TrimSpace(must(t, "cluster", "key"))
	a, err := base64.StdEncoding.DecodeString(one)
	b, err2 := base64.StdEncoding.DecodeString(two)
	if err != nil || err2 != nil || len(a) != 32 || len(b) != 32 || bytes.Equal(a, b) {
		t.Errorf("%q, %q", one, two)
	}
}
