package main

import (
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"flannel/node"
)

// limitsOf asks a node for its limits, after a change if args say one.
func limitsOf(t *testing.T, admin string, args ...string) map[string]node.Limit {
	t.Helper()
	var all []node.Limit
	if err := json.Unmarshal([]byte(must(t, append([]string{"admin", "limits", "--admin", admin}, args...)...)), &all); err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]node.Limit)
	for _, l := range all {
		byName[l.Name] = l
	}
	return byName
}

// edgeWith starts an edge with a configuration file, and returns the address of its admin listener.
func edgeWith(t *testing.T, file string) (e *background, admin string) {
	t.Helper()
	e = inBackground(t, "edge", "--config", file, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--upstream", "http://"+free(t), "--upstream-key", "0123456789abcdef0123", "--log-format", "json")
	return e, "http://" + e.address("admin")
}

func TestAdminLimits(t *testing.T) {
	_, admin := edgeWith(t, writeConfig(t, "node: {limits_raise: 1h, edge: {max_sessions: 1000}}\n"))
	if l := limitsOf(t, admin)["edge.max_sessions"]; l != (node.Limit{Name: "edge.max_sessions", Value: 1000, Target: 1000, Configured: 1000}) {
		t.Errorf("at first: %+v", l)
	}
	changed := limitsOf(t, admin, "edge.max_sessions=10", "node.upstream.boot_concurrency=2")
	if l := changed["edge.max_sessions"]; l.Value != 10 || l.Configured != 1000 {
		t.Errorf("lowered: %+v", l)
	}
	if l := changed["upstream.boot_concurrency"]; l.Value != 2 {
		t.Errorf("lowered: %+v", l)
	}
	if _, body := get(t, admin+"/metrics"); !strings.Contains(body, "flannel_connections_limit 10") || !strings.Contains(body, "flannel_upstream_boot_limit 2") {
		t.Error("the rooms do not have the new limits")
	}
	if l := limitsOf(t, admin, "--reset")["edge.max_sessions"]; l.Value >= 1000 || l.Target != 1000 {
		t.Errorf("raised in steps: %+v", l)
	}
	if l := limitsOf(t, admin, "--at-once", "edge.max_sessions=2000")["edge.max_sessions"]; l.Value != 2000 {
		t.Errorf("raised at once: %+v", l)
	}
	if out := must(t, "admin", "limits", "--admin", admin, "--format", "table"); !strings.Contains(out, "edge.max_sessions") || !strings.Contains(out, "CONFIGURED") {
		t.Errorf("the table is\n%s", out)
	}
	for args, want := range map[string]string{
		"edge.max_sessions":                 "NAME=N",
		"edge.max_sessions=many":            "NAME=N",
		"edge.sessions=5":                   "edge.max_sessions",
		"edge.max_sessions=0":               "above 0",
		"--reset edge.max_sessions=5":       "leave the others out",
		"--format xml":                      "auto, table or json",
		"edge.max_sessions=5 edge.nothing=": "NAME=N",
	} {
		code, _, stderr := flannel(t, append([]string{"admin", "limits", "--admin", admin}, strings.Fields(args)...)...)
		if code == exitOK || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, %s", args, code, stderr)
		}
	}
	if l := limitsOf(t, admin)["edge.max_sessions"]; l.Value != 2000 {
		t.Errorf("a mistake changed a limit: %+v", l)
	}
}

// TestEdge_ReloadsOnSIGHUP: what can be taken over is, the rest is named, and a mistake changes nothing.
func TestEdge_ReloadsOnSIGHUP(t *testing.T) {
	file := writeConfig(t, "node: {limits_raise: 0s, edge: {max_sessions: 1000, max_calls: 100}}\n")
	e, admin := edgeWith(t, file)
	reload := func(text, logged string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(patience); !strings.Contains(e.stderr.String(), logged); <-tick.C {
			if time.Now().After(deadline) {
				t.Fatalf("%q is not logged:\n%s", logged, e.stderr)
			}
		}
	}
	metric := func(line string) {
		t.Helper()
		if _, body := get(t, admin+"/metrics"); !strings.Contains(body, line) {
			t.Errorf("the metrics lack %q", line)
		}
	}
	metric("flannel_config_last_reload_success 1")

	reload("node: {edge: {max_sessions: many}}\n", "node.edge.max_sessions")
	metric("flannel_config_last_reload_success 0")
	if l := limitsOf(t, admin); l["edge.max_sessions"].Value != 1000 || l["edge.max_calls"].Value != 100 {
		t.Errorf("a mistake changed a limit: %+v", l)
	}

	reload("node: {limits_raise: 0s, edge: {max_sessions: 500, max_calls: 100, ping_interval: 20s}}\n", "node.edge.ping_interval")
	metric("flannel_config_last_reload_success 1")
	if l := limitsOf(t, admin)["edge.max_sessions"]; l.Value != 500 || l.Configured != 500 {
		t.Errorf("after the second: %+v", l)
	}
}
