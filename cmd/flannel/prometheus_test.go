//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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

	"flannel/client"
	"flannel/internal/observe"
)

// startPrometheus runs a real Prometheus that scrapes nodes and a generator every half second and evaluates the rules. It returns its
// address. In CI a machine without it fails; elsewhere the test is skipped there.
func startPrometheus(t *testing.T, targets []string, generator string) string {
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
	config := fmt.Sprintf("global: {scrape_interval: 500ms, evaluation_interval: 500ms}\nrule_files: [%q]\nscrape_configs:\n  - job_name: flannel\n    static_configs: [{targets: %s}]\n  - job_name: load\n    static_configs: [{targets: [%q]}]\n", rules, list, generator)
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

// TestPrometheus_EveryExpressionHasData: a real Prometheus scrapes two nodes while flannel bench and others use them. Every rule
// can be evaluated; every panel of every dashboard, every query of a runbook and every recorded series has a number; every
// series that one of them asks for by its labels is there; and no alert fires.
func TestPrometheus_EveryExpressionHasData(t *testing.T) {
	_, r := dev(t, "--nodes", "2", "--cluster-listen", "127.0.0.1:0", "--data", t.TempDir())
	var targets []string
	for _, n := range r.Nodes {
		targets = append(targets, strings.TrimPrefix(n.Admin, "http://"))
	}
	generator := free(t)
	address := startPrometheus(t, targets, generator)
	until(t, time.Second/5, func() bool { // What is counted before the first scrape is no rate.
		v := value(t, address, `sum(up{job="flannel"})`)
		return len(v) == 1 && v[0] == "2"
	})
	tokens := useAll(t, r)
	t.Setenv(runAs, "1")
	inBackground(t, "bench", "fanout", "--paced-to", "30", "--pace", "20", "--paced-for", "2m", "--subscribers", "0", "--url", r.Edge, "--tokens", tokens, "--channel", general(t, r), "--metrics-listen", generator)

	missing := make(map[string]string)
	for _, b := range observe.Boards() {
		for _, row := range b.Rows {
			for _, p := range row.Panels {
				for _, q := range p.Queries {
					missing[b.Title+": "+p.Title+": "+q.Legend] = q.Prometheus("2m")
				}
			}
		}
	}
	runbooks, err := filepath.Glob("../../docs/runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range runbooks {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range regexp.MustCompile("(?ms)^```promql\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
			for line := range strings.Lines(block[1]) {
				missing[filepath.Base(path)+": "+line] = line
			}
		}
	}
	wanted := make(map[string]bool)
	for _, expr := range missing {
		selectorsOf(expr, wanted)
	}
	for _, g := range observe.Groups() {
		for _, rule := range g.Rules {
			if rule.Record != "" {
				missing[rule.Record] = rule.Record
			}
			selectorsOf(rule.Expr, wanted)
		}
	}
	if len(missing) < 200 || len(wanted) < 100 {
		t.Errorf("only %d expressions with %d selectors", len(missing), len(wanted))
	}
	for selector := range wanted {
		missing[selector] = "count(" + selector + ")"
	}
	until(t, time.Second, func() bool {
		for name, expr := range missing {
			// What is divided by nothing is not a number: a panel would be empty.
			if slices.ContainsFunc(value(t, address, expr), func(v string) bool { return v != "NaN" }) {
				delete(missing, name)
			}
		}
		return len(missing) == 0
	}, missing)

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

// useAll does of everything a little, at both nodes: people listen to messages that come at a pace and close, ask for
// objects, call, and come back to what they have missed. It returns a file of tokens.
func useAll(t *testing.T, r ready) (tokens string) {
	t.Helper()
	channel, member := general(t, r), memberOf(t, r)
	text := ""
	tokens = filepath.Join(t.TempDir(), "tokens")
	for _, tok := range r.Tokens {
		if tok.Role == "member" {
			text += string(tok.User) + " " + tok.Token + "\n"
		}
	}
	if err := os.WriteFile(tokens, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, n := range r.Nodes {
		sheetOf(t, "fanout", "--paced-to", "30", "--pace", "20", "--paced-for", "2s", "--subscribers", "0", "--url", n.Edge, "--tokens", tokens, "--channel", channel)
		sheetOf(t, "query", "--sessions", "4", "--depth", "1", "--batch", "2", "--rate", "100", "--warm", "0s", "--for", "500ms", "--url", n.Edge, "--tokens", tokens)
		for _, call := range []string{"client.userBoot", "client.counts", "users.info", "rtm.connect", "chat.postMessage"} {
			if _, err := callAPI(t.Context(), n.Edge, call, member, url.Values{"channel": {channel}, "text": {"x"}, "user": {string(r.Tokens[0].User)}}); err != nil {
				t.Fatal(call, err)
			}
		}
		var saved bytes.Buffer
		for range 2 {
			c, err := client.Dial(t.Context(), client.Options{URL: n.Edge, Token: member, Saved: bytes.NewReader(bytes.Clone(saved.Bytes()))})
			if err != nil {
				t.Fatal(err)
			}
			saved.Reset()
			if err := errors.Join(c.Save(&saved), c.Close()); err != nil {
				t.Fatal(err)
			}
			if _, err := callAPI(t.Context(), n.Edge, "chat.postMessage", member, url.Values{"channel": {channel}, "text": {"while nobody listens"}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return tokens
}

// until looks every now and then, as long as it takes; what is said if it never comes.
func until(t *testing.T, every time.Duration, done func() bool, what ...any) {
	t.Helper()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * patience); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come: %v", what)
		}
	}
}

// value returns the values of an expression, now.
func value(t *testing.T, address, expr string) (values []string) {
	t.Helper()
	var data struct{ Result []struct{ Value [2]any } }
	if ask(t, address+"/api/v1/query?query="+url.QueryEscape(expr), &data) {
		for _, v := range data.Result {
			values = append(values, fmt.Sprint(v.Value[1]))
		}
	}
	return values
}

var (
	selector   = regexp.MustCompile(`\b(?:up\b|(?:flannel|process|go)_[a-z_]+)(?:\{[^}]*\})?`)
	isRecorded = regexp.MustCompile(`\bjob:[a-z_0-9:]+`)
)

// selectorsOf adds the series that an expression asks for. Native histograms, the second half of a panel's quantiles and
// heat maps, are left out: Debian's Prometheus does not scrape them.
func selectorsOf(expr string, into map[string]bool) {
	for _, half := range []string{" or histogram_quantile(", " or sum(increase("} {
		expr, _, _ = strings.Cut(expr, half)
	}
	for _, s := range selector.FindAllString(isRecorded.ReplaceAllString(expr, ""), -1) {
		into[s] = true
	}
}
