package observe

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the files in deploy")

const (
	root      = "../.."
	rulesPath = root + "/deploy/prometheus/flannel.rules.yml"
	casesPath = root + "/deploy/prometheus/flannel.rules.test.yml"
	grafana   = root + "/deploy/grafana"
	pages     = root + "/docs/runbooks"
)

// files are what the tables say, by path.
func files(t *testing.T) map[string][]byte {
	t.Helper()
	all := map[string][]byte{rulesPath: []byte(YAML())}
	for _, b := range Boards() {
		text, err := b.JSON()
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Join(grafana, b.UID+".json")] = append(text, '\n')
	}
	return all
}

// TestFiles_AreWhatTheTablesSay: and there is no other one.
func TestFiles_AreWhatTheTablesSay(t *testing.T) {
	want := files(t)
	for path, text := range want {
		if *update {
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if have, err := os.ReadFile(path); err != nil || !bytes.Equal(have, text) {
			t.Errorf("%s is not what the tables say (%v): run go test ./internal/observe -update", path, err)
		}
	}
	there, err := filepath.Glob(grafana + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range there {
		if want[path] == nil {
			t.Errorf("%s is of no table", path)
		}
	}
}

// queries are the blocks of a page that are for Prometheus; each line is an expression.
var queries = regexp.MustCompile("(?ms)^```promql\n(.*?)^```")

// expressions are all of them, with where they stand; those of boards with all nodes.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	there, err := filepath.Glob(pages + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range there {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range queries.FindAllStringSubmatch(string(text), -1) {
			lines := strings.Split(strings.TrimSpace(block[1]), "\n")
			if len(lines) != 3 {
				t.Errorf("%s: %d queries, three are promised", path, len(lines))
			}
			for i, line := range lines {
				all[fmt.Sprintf("%s %d", path, i)] = line
			}
		}
	}
	for _, g := range Groups() {
		for i, r := range g.Rules {
			all[fmt.Sprintf("%s %d %s%s", g.Name, i, r.Record, r.Alert)] = r.Expr
		}
	}
	for _, b := range Boards() {
		for _, row := range b.Rows {
			for _, p := range row.Panels {
				for i, q := range p.Queries {
					all[fmt.Sprintf("%s: %s %d", b.Title, p.Title, i)] = q.Prometheus("1m")
				}
			}
		}
	}
	return all
}

var (
	ours     = regexp.MustCompile(`\bflannel_[a-z_]+`)
	recorded = regexp.MustCompile(`\bjob:flannel_[a-z_]+:[a-z_0-9]+`)
)

// TestExpressions_NameMetricsThatExist: those of docs/metrics.md, which is written from the registry, and those that the rules
// record.
func TestExpressions_NameMetricsThatExist(t *testing.T) {
	doc, err := os.ReadFile(root + "/docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	for _, name := range ours.FindAllString(string(doc), -1) {
		known[name] = true
	}
	records := make(map[string]bool)
	for _, g := range Groups() {
		for _, r := range g.Rules {
			records[r.Record] = true
		}
	}
	for at, expr := range expressions(t) {
		for _, name := range recorded.FindAllString(expr, -1) {
			if !records[name] {
				t.Errorf("%s: nothing records %s", at, name)
			}
		}
		for _, name := range ours.FindAllString(recorded.ReplaceAllString(expr, ""), -1) {
			base := strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count")
			if !known[name] && !known[base] {
				t.Errorf("%s: there is no %s", at, name)
			}
		}
	}
}

// TestAlerts_HaveAPageAndACase: every alert has a page that says what to do and a case in the tests of the rules, and no page is
// of no alert.
func TestAlerts_HaveAPageAndACase(t *testing.T) {
	cases, err := os.ReadFile(casesPath)
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{"README": true}
	for _, g := range Groups() {
		for _, r := range g.Rules {
			if r.Alert == "" {
				continue
			}
			used[r.Runbook] = true
			if b := boardOf[r.Runbook]; b == nil || !slices.ContainsFunc(Boards(), func(have Board) bool { return have.UID == b.UID }) {
				t.Errorf("%s: it is on no dashboard", r.Alert)
			}
			page, err := os.ReadFile(filepath.Join(pages, r.Runbook+".md"))
			if err != nil {
				t.Errorf("%s: %v", r.Alert, err)
				continue
			}
			for _, part := range []string{"`" + r.Alert + "`", "## What it means", "## Confirm", "```promql", "## Likely causes", "## Do", "## Do not", "## Silence"} {
				if !strings.Contains(string(page), part) {
					t.Errorf("docs/runbooks/%s.md has no %s", r.Runbook, part)
				}
			}
			if !strings.Contains(string(cases), `alertname="`+r.Alert+`"`) {
				t.Errorf("no case fires %s", r.Alert)
			}
			if !slices.Contains([]string{"page", "ticket", "info"}, r.Severity) || r.Summary == "" || r.Description == "" {
				t.Errorf("%s is not complete", r.Alert)
			}
		}
	}
	there, err := filepath.Glob(pages + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range there {
		if name := strings.TrimSuffix(filepath.Base(path), ".md"); !used[name] {
			t.Errorf("%s is of no alert", path)
		}
	}
}

// TestPanels_SayWhatIsShown: units, titles, what is bad, and no name twice in a board. A page that one says to read is there.
func TestPanels_SayWhatIsShown(t *testing.T) {
	uids := make(map[string]bool)
	for _, b := range Boards() {
		if uids[b.UID] || b.Description == "" {
			t.Errorf("%s: its uid is another's, or it has no description", b.Title)
		}
		uids[b.UID] = true
		seen := make(map[string]bool)
		for _, row := range b.Rows {
			for _, p := range row.Panels {
				if seen[p.Title] || p.Unit == "" || p.Bad == "" || p.Kind == "" || len(p.Queries) == 0 {
					t.Errorf("%s: panel %q is there twice or says too little", b.Title, p.Title)
				}
				seen[p.Title] = true
				for _, page := range aPage.FindAllString(p.Bad, -1) {
					if _, err := os.Stat(filepath.Join(root, page)); err != nil {
						t.Errorf("%s: panel %q: %v", b.Title, p.Title, err)
					}
				}
			}
		}
	}
}

var aPage = regexp.MustCompile(`docs/[a-z/-]+\.md`)

// promtool runs Prometheus's own tool. In CI a machine without it fails; elsewhere the test is skipped there.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("promtool is missing: ./e2e/setup.sh prometheus installs it")
	}
	if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestRules_Fire lets Prometheus read the rules and try the cases.
func TestRules_Fire(t *testing.T) {
	promtool(t, "check", "rules", "--lint-fatal", rulesPath)
	promtool(t, "test", "rules", casesPath)
}

// TestExpressions_AreParsed lets Prometheus's parser read each expression of each board, as rules.
func TestExpressions_AreParsed(t *testing.T) {
	var b strings.Builder
	b.WriteString("groups:\n  - name: boards\n    rules:\n")
	n := 0
	for _, expr := range expressions(t) {
		text, err := json.Marshal(expr) // which is YAML too
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "      - record: board:expression%d:x\n        expr: %s\n", n, text)
		n++
	}
	if n < 250 {
		t.Errorf("only %d expressions", n)
	}
	path := filepath.Join(t.TempDir(), "boards.yml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", path)
}
