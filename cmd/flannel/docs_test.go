package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// runAs makes the test binary behave as the flannel command: the documents' commands are run with it.
const runAs = "TEST_BINARY_IS_FLANNEL"

func TestMain(m *testing.M) {
	if os.Getenv(runAs) != "" {
		main() // It exits.
	}
	os.Exit(m.Run())
}

// notRun are commands of the documents that need the network or hours, each with the reason.
var notRun = map[string]string{
	"make test":     "runs this test",
	"make check":    "runs this test",
	"make e2e":      "needs npm's registry",
	"make bench":    "takes minutes; TestBenchBoot and TestBenchAll run small ones",
	"make fuzz":     "takes minutes",
	"make run":      "flannel dev runs in this process in its place",
	"make cluster":  "flannel dev --nodes 3 runs in this process in its place",
	"npm ":          "needs npm's registry; make e2e runs the same client",
	"git clone":     "needs the network",
	"flannel bench": "takes minutes; TestBenchBoot runs a small one",
	"docker ":       "needs a daemon",
}

func skipped(block string) bool {
	for prefix := range notRun {
		for line := range strings.SplitSeq(block, "\n") {
			if strings.HasPrefix(line, prefix) {
				return true
			}
		}
	}
	return false
}

// TestDocs_CommandsRun runs every sh block of README.md and docs/*.md that can run offline, in the order of the
// document, against a flannel dev and an edge's backend on other ports. Documents rot otherwise.
func TestDocs_CommandsRun(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	documents, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	data := filepath.Join(work, "data")
	_, r := dev(t, "--data", data)
	upstream := separateBackend(t)
	values := strings.NewReplacer(
		"http://127.0.0.1:8080", r.Edge, "http://127.0.0.1:8081", r.Backend, "http://127.0.0.1:8082", r.Admin,
		"127.0.0.1:8080", strings.TrimPrefix(r.Edge, "http://"), "127.0.0.1:8081", strings.TrimPrefix(r.Backend, "http://"),
		"127.0.0.1:8082", strings.TrimPrefix(r.Admin, "http://"),
		"http://127.0.0.1:8090", upstream.url, "http://127.0.0.1:9090", upstream.url,
		"--key KEY", "--key "+upstream.key, "--token xoxp-…", "--token "+upstream.token, "TOKEN=xoxp-…", "TOKEN="+memberOf(t, r),
		"go run ./", "go -C "+root+" run ./", "./bin/flannel", "flannel", "bin/flannel", "flannel",
	)
	environ := append(os.Environ(), runAs+"=1", "PATH="+binaries(t)+":"+os.Getenv("PATH"), "TOKEN="+memberOf(t, r))
	yaml, err := os.ReadFile(yamlPath)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(work, "flannel.yaml"), yaml, 0o600); err != nil {
		t.Fatal(err)
	}

	region := regionFor(t)
	ran := 0
	for _, document := range append([]string{filepath.Join(root, "README.md")}, documents...) {
		values := values
		if filepath.Base(document) == "cluster.md" {
			values = region
		}
		for _, block := range shellBlocks(t, document) {
			if skipped(block) {
				continue
			}
			ran++
			cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", values.Replace(block))
			cmd.Dir, cmd.Env = work, environ
			out, err := cmd.CombinedOutput()
			t.Logf("%s\n%s", block, out)
			if err != nil || strings.Contains(string(out), `"ok":false`) {
				t.Errorf("%s: %v", filepath.Base(document), err)
			}
		}
	}
	if ran < 3 {
		t.Errorf("only %d blocks were run", ran)
	}
}

// regionFor runs what make cluster runs, and returns what stands for its addresses in docs/cluster.md.
func regionFor(t *testing.T) *strings.Replacer {
	t.Helper()
	_, r := dev(t, "--nodes", "3", "--cluster-listen", "127.0.0.1:0")
	pairs := []string{ // In this order: the first that fits is taken.
		"./bin/flannel cluster status", "flannel cluster status --admin " + r.Admin,
		"127.0.0.1:8080", strings.TrimPrefix(r.Nodes[0].Edge, "http://"), "127.0.0.1:8082", strings.TrimPrefix(r.Nodes[0].Admin, "http://"),
		"TOKEN=xoxp-…", "TOKEN=" + memberOf(t, r), "WORKSPACE=T…", "WORKSPACE=" + string(r.Workspace.ID),
	}
	// The second half of the document starts a region of its own.
	for _, port := range []string{"8190", "8191", "8111", "8112", "8113", "8121", "8122", "8123", "7951", "7952", "7953"} {
		pairs = append(pairs, "127.0.0.1:"+port, free(t))
	}
	return strings.NewReplacer(pairs...)
}

// shellBlocks returns the blocks of a document that are marked sh.
func shellBlocks(t *testing.T, document string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, strings.TrimSpace(m[1]))
	}
	return blocks
}

// binaries returns a folder in which this test binary is called flannel.
func binaries(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "flannel")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func memberOf(t *testing.T, r ready) string {
	t.Helper()
	for _, tok := range r.Tokens {
		if tok.Role == "member" {
			return tok.Token
		}
	}
	t.Fatal("no member in the ready line")
	return ""
}

// contract is a backend with the upstream contract, and what it takes to get in.
type contract struct{ url, key, token string }

func separateBackend(t *testing.T) contract {
	t.Helper()
	data := t.TempDir()
	must(t, "generate", "--data", data, "--preset", "12")
	listen, upstream := free(t), free(t)
	inBackground(t, "backend", "--data", data, "--listen", listen, "--upstream-listen", upstream, "--admin-listen", "")
	reachable(t, "http://"+listen+"/api/api.test")
	key, err := os.ReadFile(filepath.Join(data, "upstream.key"))
	if err != nil {
		t.Fatal(err)
	}
	return contract{"http://" + upstream, strings.TrimSpace(string(key)), memberToken(t, data)}
}

// TestDocs_ConfigurationIsTrue checks what docs/configuration.md says: the table of flags is complete and right, and
// its keys and variables are there.
func TestDocs_ConfigurationIsTrue(t *testing.T) {
	body, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	text, known := string(body), keys(t)
	for _, m := range regexp.MustCompile("`((?:node|backend|log)\\.[a-z_.]+)`").FindAllStringSubmatch(text, -1) {
		if _, ok := known[m[1]]; !ok {
			t.Errorf("there is no key %s", m[1])
		}
	}
	variables := make(map[string]bool)
	for key := range known {
		variables[envName(key)] = true
	}
	for _, name := range regexp.MustCompile(`FLANNEL_[A-Z_]+[A-Z]`).FindAllString(text, -1) {
		if !variables[name] {
			t.Errorf("there is no variable %s", name)
		}
	}
	layersExample(t, text)
	root := newRoot(&app{})
	rows := regexp.MustCompile("(?m)^\\| `--([a-z-]+)` \\| `([a-z_.]+)` \\| (.*) \\|$").FindAllStringSubmatch(text, -1)
	inTable := make(map[string]bool)
	for _, row := range rows {
		for name := range strings.SplitSeq(row[3], ", ") {
			name = strings.Trim(name, "`")
			if name == "all" {
				name = "dev"
			}
			cmd, _, err := root.Find([]string{name})
			if err != nil {
				t.Error(err)
				continue
			}
			if cmd.Flags().Lookup(row[1]) == nil && cmd.InheritedFlags().Lookup(row[1]) == nil {
				t.Errorf("flannel %s has no flag --%s", name, row[1])
			}
			inTable[name+" "+row[1]+" "+row[2]] = true
		}
	}
	// What the commands' flags say of their defaults is what flannel.yaml says.
	for _, want := range []string{"dev listen node.edge.listen", "dev backend-listen backend.listen", "dev admin-listen node.admin.listen", "edge listen node.edge.listen", "edge admin-listen node.admin.listen",
		"edge upstream node.upstream.url", "backend listen backend.listen", "backend admin-listen backend.admin_listen", "backend upstream-listen backend.upstream_listen", "backend data backend.data"} {
		words := strings.Fields(want)
		if !inTable[want] {
			t.Errorf("%s is not in the table", want)
		}
		cmd, _, err := root.Find(words[:1])
		if err != nil {
			t.Fatal(err)
		}
		usage := cmd.Flags().Lookup(words[1]).Usage
		if fallback := fmt.Sprintf("(default %v)", known[words[2]]); !strings.Contains(usage, fallback) {
			t.Errorf("flannel %s --%s: %q does not say %s", words[0], words[1], usage, fallback)
		}
	}
}

// layersExample follows the document's example: the file, then the variable, then the flag.
func layersExample(t *testing.T, text string) {
	t.Helper()
	file := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```").FindStringSubmatch(text)
	variable := regexp.MustCompile(`(?m)^export (FLANNEL_\S+)$`).FindStringSubmatch(text)
	flag := regexp.MustCompile(`(?m)^flannel edge --listen (\S+)$`).FindStringSubmatch(text)
	if file == nil || variable == nil || flag == nil {
		t.Fatal("the example is not there")
	}
	environ, flags := []string{variable[1]}, map[string]any{"node.edge.listen": flag[1]}
	for want, load := range map[string]func() (Config, error){
		"127.0.0.1:9001": func() (Config, error) { return layer("flannel.yaml", []byte(file[1]), nil, nil) },
		"127.0.0.1:9002": func() (Config, error) { return layer("flannel.yaml", []byte(file[1]), environ, nil) },
		"127.0.0.1:9003": func() (Config, error) { return layer("flannel.yaml", []byte(file[1]), environ, flags) },
	} {
		if cfg, err := load(); err != nil || cfg.Node.Edge.Listen != want {
			t.Errorf("the address is %s, %v; want %s", cfg.Node.Edge.Listen, err, want)
		}
	}
}

// TestDocs_RunbooksCommandsRun: what a runbook says to do can be done.
func TestDocs_RunbooksCommandsRun(t *testing.T) {
	elsewhere := map[string]string{
		"flannel check upstream":             "a command's name; docs/upstream.md has it with its arguments",
		"flannel check upstream URL":         "docs/upstream.md has it with the key and the token that it needs",
		"flannel edge --config flannel.yaml": "serves for ever; docs/cluster.md starts edges",
	}
	pages, err := filepath.Glob("../../docs/runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	_, r := dev(t, "--nodes", "2", "--cluster-listen", "127.0.0.1:0")
	values := strings.NewReplacer("http://ADMIN", r.Admin, "http://NODE", r.Edge, "curl ", "curl -sSf -o /dev/null ")
	environ := append(os.Environ(), runAs+"=1", "PATH="+binaries(t)+":"+os.Getenv("PATH"))
	ran := 0
	for _, path := range pages {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`((?:curl|flannel) [^`]*)`").FindAllStringSubmatch(string(text), -1) {
			if elsewhere[m[1]] != "" {
				continue
			}
			ran++
			cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", values.Replace(m[1]))
			cmd.Env = environ
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %s: %v\n%s", filepath.Base(path), m[1], err, out)
			}
		}
	}
	if ran < 7 {
		t.Errorf("only %d commands were run", ran)
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
	boards, err := filepath.Glob("../../deploy/grafana/*.json")
	if err != nil || len(boards) == 0 {
		t.Fatal(boards, err)
	}
	key := regexp.MustCompile("[` ]((?:node|backend|log)\\.[a-z_.]*[a-z_])[` =]")
	n := 0
	for _, path := range slices.Concat(pages, runbooks, boards, []string{"../../README.md"}) {
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
