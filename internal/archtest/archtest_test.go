package archtest

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is our name in import paths.
const module = "flannel"

// A room is a folder of the plan, with everything below it.
type room struct {
	// purpose is the folder's reason to exist, in one line.
	purpose string
	// imports lists what product code here may import of ours besides its own folder: a folder alone, or "folder/…" with
	// what is below it.
	imports []string
	// testImports is what its tests may import in addition. Every test may import internal/….
	testImports []string
	// noGo says that there is no Go code of the product here.
	noGo bool
}

// plan is the floor plan of docs/architecture.md. The longest name that fits a folder counts.
var plan = map[string]room{
	"protocol": {purpose: "the words on every socket; no policy, no I/O"},
	"affinity": {purpose: "which node owns a workspace"},
	"cache": {
		purpose: "versioned objects, user states, member sets",
		imports: []string{"protocol", "internal/numset"},
	},
	"query": {
		purpose: "answers reads: boot, counts, the edge query API, visibility",
		imports: []string{"protocol", "cache", "internal/numset"},
	},
	"fanout": {
		purpose: "who wants what: topics, ordered delivery, presence interest",
		imports: []string{"protocol", "internal/numset"},
	},
	"upstream": {
		purpose: "this node's relationship with a backend",
		imports: []string{"protocol"},
	},
	"edge": {
		purpose: "the front door: listeners, sessions, admission, outboxes, drain",
		imports: []string{"protocol"},
	},
	"node": {
		purpose: "a whole edge node as a value",
		imports: []string{"protocol", "affinity", "cache", "query", "fanout", "upstream", "edge"},
	},
	"backend": {
		purpose: "the bundled reference chat backend; knows nothing of the edge",
		imports: []string{"protocol"},
		// The contract's conformance suite is run over every backend, so over this one too.
		testImports: []string{"upstream/check"},
	},
	"client": {
		purpose: "Go client library for the thin protocol",
		imports: []string{"protocol"},
	},
	"bench": {
		purpose: "load scenarios and reports, through flannel and straight at the backend",
		imports: []string{"protocol", "client"},
	},
	"web": {purpose: "embedded pages: thin demo client, node inspector"},
	"cmd/flannel": {
		purpose: "flags, flannel.yaml, signals, exit codes",
		// protocol and upstream/… for `check upstream`; the wiring of the rest is node's and backend's.
		imports: []string{"protocol", "node", "backend/…", "bench/…", "client", "upstream/…"},
	},
	"internal": {
		purpose:     "small tools without flannel vocabulary, and tests that span rooms",
		testImports: []string{"…"},
	},
	"deploy": {purpose: "how to run it elsewhere", noGo: true},
	"docs":   {purpose: "what a reader needs beyond the code", noGo: true},
	"e2e":    {purpose: "unmodified clients against the running binary", noGo: true},
	"tools":  {purpose: "pinned versions of the tools, in a module of their own", noGo: true},
}

// unplanned are folders that may stand at the top without being part of the plan: .gitignore has them.
var unplanned = []string{"bin", "data"}

// A source is one Go file, path slash-separated and relative to the root.
type source struct {
	path string
	file *ast.File
}

func (s source) folder() string { return path.Dir(s.path) }
func (s source) isTest() bool   { return strings.HasSuffix(s.path, "_test.go") }

// imports returns the file's imports of ours, relative to the module.
func (s source) imports() []string {
	var ours []string
	for _, spec := range s.file.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // The compiler says it better.
		}
		if rest, ok := strings.CutPrefix(name, module+"/"); ok {
			ours = append(ours, rest)
		}
	}
	return ours
}

func TestImports(t *testing.T) {
	for _, src := range sources(t) {
		name, here, ok := roomOf(src.folder())
		if !ok {
			t.Errorf("%s: folder %q is not in the plan", src.path, src.folder())
			continue
		}
		if here.noGo {
			t.Errorf("%s: there is no Go code in %s", src.path, name)
			continue
		}
		for _, imported := range src.imports() {
			if why := refuse(name, here, imported, src.isTest()); why != "" {
				t.Errorf("%s: imports %s: %s", src.path, imported, why)
			}
		}
	}
}

func TestFolders(t *testing.T) {
	var tops []string
	for name, r := range plan {
		if r.purpose == "" {
			t.Errorf("%s: a folder without a purpose", name)
		}
		top, _, _ := strings.Cut(name, "/")
		tops = append(tops, top)
	}
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case !e.IsDir():
			if strings.HasSuffix(name, ".go") {
				t.Errorf("%s: no Go file stands at the top", name)
			}
		case strings.HasPrefix(name, "."), slices.Contains(unplanned, name), slices.Contains(tops, name):
		default:
			t.Errorf("%s/: not in the plan", name)
		}
	}
}

// sleepers are the functions of tests that sleep and do not open a bubble themselves, by folder; "" is all of a folder.
var sleepers = map[string][]string{
	"internal/sim": {""},       // Each simulation is one bubble.
	"upstream":     {"settle"}, // Called in bubbles only.
	"edge":         {"elapse"}, // The same.
	"client":       {"settle"}, // The same.
}

// TestNoSleep: a test that sleeps is slow, or flaky, or both. In a synctest bubble time is virtual and may be slept: so
// time.Sleep stands in functions that open one, by synctest.Test or a helper called bubble.
func TestNoSleep(t *testing.T) {
	for _, src := range sources(t) {
		timePkg := importName(src.file, "time")
		if !src.isTest() || timePkg == "" {
			continue
		}
		may := sleepers[path.Dir(src.path)]
		for _, decl := range src.file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || slices.Contains(may, "") || slices.Contains(may, fn.Name.Name) {
				continue
			}
			if calls(fn, timePkg, "Sleep") && !calls(fn, importName(src.file, "testing/synctest"), "Test") && !calls(fn, "", "bubble") {
				t.Errorf("%s: %s sleeps outside testing/synctest", src.path, fn.Name.Name)
			}
		}
	}
}

// calls reports whether a function calls pkg.name, or name if pkg is "".
func calls(fn *ast.FuncDecl, pkg, name string) (found bool) {
	ast.Inspect(fn, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		switch f := call.Fun.(type) {
		case *ast.SelectorExpr:
			x, ok := f.X.(*ast.Ident)
			found = found || ok && pkg != "" && x.Name == pkg && f.Sel.Name == name
		case *ast.Ident:
			found = found || pkg == "" && f.Name == name
		}
		return true
	})
	return found
}

func TestRefuse(t *testing.T) {
	cases := []struct {
		from, to string
		test, ok bool
	}{
		{"cache", "protocol", false, true},
		{"cache", "cache/lru", false, true},
		{"cache", "query", false, false},
		{"cache", "cacheother", false, false},
		{"protocol", "cache", true, false},
		{"protocol", "protocol", true, true},
		{"protocol", "internal/memnet", false, false},
		{"protocol", "internal/memnet", true, true},
		{"backend/webapi", "backend/store", false, true},
		{"backend/webapi", "edge", false, false},
		{"edge", "backend", false, false},
		{"cmd/flannel", "backend/store", false, true},
		{"cmd/flannel", "upstream/check", false, true},
		{"cmd/flannel", "cache", false, false},
		{"node", "upstream/check", false, false},
		{"internal/suite", "backend/webapi", false, false},
		{"internal/suite", "backend/webapi", true, true},
	}
	for _, c := range cases {
		name, here, ok := roomOf(c.from)
		if !ok {
			t.Errorf("%s is not in the plan", c.from)
			continue
		}
		if why := refuse(name, here, c.to, c.test); (why == "") != c.ok {
			t.Errorf("%s imports %s (test %v): got %q, want ok %v", c.from, c.to, c.test, why, c.ok)
		}
	}
}

// refuse returns why product or test code in the room called name may not import a folder of ours, or "".
func refuse(name string, here room, imported string, test bool) string {
	allowed := append([]string{name + "/…"}, here.imports...)
	if test {
		allowed = append(append(allowed, here.testImports...), "internal/…")
	}
	for _, a := range allowed {
		if covers(a, imported) {
			return ""
		}
	}
	slices.Sort(allowed)
	return "allowed are " + strings.Join(slices.Compact(allowed), ", ")
}

// covers reports whether pattern names the folder; "x/…" names x and all below it, "…" everything.
func covers(pattern, folder string) bool {
	if pattern == "…" {
		return true
	}
	above, deep := strings.CutSuffix(pattern, "/…")
	return folder == above || deep && strings.HasPrefix(folder, above+"/")
}

// roomOf finds the room that a folder belongs to.
func roomOf(folder string) (string, room, bool) {
	names := slices.SortedFunc(maps.Keys(plan), func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, name := range names {
		if covers(name+"/…", folder) {
			return name, plan[name], true
		}
	}
	return "", room{}, false
}

// importName returns the name by which f knows the package, or "" if it does not import it.
func importName(f *ast.File, pkg string) string {
	for _, spec := range f.Imports {
		if spec.Path.Value != strconv.Quote(pkg) {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(pkg)
	}
	return ""
}

// sources parses every Go file of the checkout that Go itself would look at.
func sources(t *testing.T) []source {
	t.Helper()
	base := root(t)
	var found []source
	err := filepath.WalkDir(base, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(base, file)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			name := d.Name()
			if rel != "." && (name[0] == '.' || name[0] == '_' || name == "testdata" || name == "node_modules" || slices.Contains(unplanned, rel)) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") || !strings.Contains(rel, "/") {
			return nil // TestFolders reports Go files at the top.
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), rel, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		found = append(found, source{path: rel, file: parsed})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 10 {
		t.Fatalf("only %d Go files found below %s: the test looks in the wrong place", len(found), base)
	}
	return found
}

// root returns the folder of go.mod.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		above := filepath.Dir(dir)
		if above == dir {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = above
	}
}
