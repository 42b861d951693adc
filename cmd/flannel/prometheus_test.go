package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"flannel/internal/observe"
)

// startPrometheus runs a real Prometheus that scrapes the targets every half second and evaluates the rules. It returns its
// address. In CI a machine without it fails; elsewhere the test is skipped there.
func startPrometheus(t *testing.T, targets []string) string {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("prometheus is missing: ./e2e/setup.sh prometheus installs it")
	}
	rules, err := filepath.Abs("../../deploy/prometheus/flannel.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	dir, listen := t.TempDir(), free(t)
	list, err := json.Marshal(targets) // which is YAML too
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("global: {scrape_interval: 500ms, evaluation_interval: 500ms}\nrule_files: [%q]\nscrape_configs:\n  - job_name: flannel\n    static_configs: [{targets: %s}]\n", rules, list)
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+listen, "--log.level=warn")
	cmd.Stderr = &lockedBuffer{}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus said:\n%s", cmd.Stderr)
		}
	})
	return "http://" + listen
}

// ask returns the "data" of an answer of Prometheus's API; false while it is not there yet.
func ask(t *testing.T, address string, into any) bool {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return false
	}
	if answer.Status != "success" {
		t.Fatalf("%s: %s", address, answer.Error)
	}
	if err := json.Unmarshal(answer.Data, into); err != nil {
		t.Fatal(err)
	}
	return true
}

// TestPrometheus_EveryExpressionHasData: a real Prometheus scrapes two nodes and their backend under some load. Every rule can be
// evaluated, every panel of every dashboard and every recorded series has data, and no alert fires.
func TestPrometheus_EveryExpressionHasData(t *testing.T) {
	_, r := dev(t, "--nodes", "2", "--cluster-listen", "127.0.0.1:0", "--data", t.TempDir())
	var targets []string
	for _, n := range r.Nodes {
		targets = append(targets, strings.TrimPrefix(n.Admin, "http://"))
	}
	address := startPrometheus(t, targets)

	token := r.Tokens[0].Token
	use := func() {
		for _, n := range r.Nodes {
			for _, call := range []string{"client.userBoot", "client.counts", "users.info", "rtm.connect", "chat.postMessage"} {
				resp, err := http.PostForm(n.Edge+"/api/"+call, url.Values{"token": {token}, "channel": {"C0"}, "text": {"x"}, "user": {"U0"}})
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
			}
		}
	}
	missing := make(map[string]string)
	for _, b := range observe.Boards() {
		for _, row := range b.Rows {
			for _, p := range row.Panels {
				for _, q := range p.Queries {
					missing[b.Title+": "+p.Title+": "+q.Legend] = q.Prometheus("5s")
				}
			}
		}
	}
	for _, g := range observe.Groups() {
		for _, rule := range g.Rules {
			if rule.Record != "" {
				missing[rule.Record] = rule.Record
			}
		}
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * patience); len(missing) > 0; <-tick.C {
		use()
		for name, expr := range missing {
			var data struct{ Result []json.RawMessage }
			if ask(t, address+"/api/v1/query?query="+url.QueryEscape(expr), &data) && len(data.Result) > 0 {
				delete(missing, name)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("without data: %q", missing)
		}
	}

	var groups struct {
		Groups []struct {
			Rules []struct{ Name, Type, Health, LastError, State string }
		}
	}
	if !ask(t, address+"/api/v1/rules", &groups) {
		t.Fatal("no rules")
	}
	alerts := 0
	for _, g := range groups.Groups {
		for _, rule := range g.Rules {
			if rule.Health != "ok" {
				t.Errorf("%s is %s: %s", rule.Name, rule.Health, rule.LastError)
			}
			if rule.Type == "alerting" {
				alerts++
				if rule.State == "firing" {
					t.Errorf("%s fires", rule.Name)
				}
			}
		}
	}
	if alerts < 40 {
		t.Errorf("only %d alerts", alerts)
	}
}

// TestDocs_KeysExist: a key of the configuration that a document names is one.
func TestDocs_KeysExist(t *testing.T) {
	known := knownKeys()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	runbooks, err := filepath.Glob("../../docs/runbooks/*.md")
	if err != nil || len(runbooks) == 0 {
		t.Fatal(runbooks, err)
	}
	key := regexp.MustCompile("`((?:node|backend|log)\\.[a-z_.]*[a-z_])[`=]")
	n := 0
	for _, path := range append(append(pages, runbooks...), "../../README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range key.FindAllStringSubmatch(string(text), -1) {
			n++
			section := slices.ContainsFunc(slices.Collect(maps.Keys(known)), func(k string) bool { return strings.HasPrefix(k, m[1]+".") })
			if !known[m[1]] && !section {
				t.Errorf("%s: there is no key %s", path, m[1])
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d keys are named", n)
	}
}
