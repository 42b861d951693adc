package visibility

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// mutant is a deliberate bug: one piece of the product replaced by another.
type mutant struct {
	name, file, old, new string
}

// mutants is what must not get past the tests of this package: each lets somebody see too much, or too little.
var mutants = []mutant{
	{"guests see what members see", "query/visible.go", "r.full && r.stillFull() && r.ofOurs(", "r.ofOurs("},
	{"private channels are everybody's", "query/visible.go", "return member && r.fresh, r.permitted()", "return member || true, nil"},
	{"a DM with one shows everybody", "query/visible.go", "if m.Peer == user {\n\t\t\t\treturn true, nil\n\t\t\t}\n\t\t\tcontinue\n\t\t}\n\t\tif set", "return true, nil\n\t\t}\n\t\tif set"},
	{"any channel will do to share", "query/visible.go", "if set.Contains(user) {", "if set.Contains(user) || true {"},
	{"every workspace is shown", "query/visible.go", "func (r *reader) seesWorkspace(w protocol.WorkspaceID) (bool, error) {", "func (r *reader) seesWorkspace(protocol.WorkspaceID) (bool, error) {\n\treturn true, nil\n}\n\nfunc (r *reader) SeesWorkspace(w protocol.WorkspaceID) (bool, error) {"},
	{"presence of anybody can be followed", "query/visible.go", "if sees, err := r.sees(o); sees && err == nil {", "if sees, err := r.sees(o); sees || err == nil {"},
	{"presence goes on for ever", "query/visible.go", "return meets, meets || len(unknown) == 0 && (here || !full)", "return meets || true, true || len(unknown) == 0"},
	{"guests hear of everybody in the workspace", "query/visible.go", "\treturn meets\n}", "\treturn true\n}"},
	{"guests hear of every channel", "query/visible.go", "_, member := u.Membership(ch)\n\t\treturn member\n", "return true\n"},
	{"a guest's channels are not known", "query/guests.go", "for _, ch := range channels {\n\t\tif _, freshness", "for _, ch := range channels[:0] {\n\t\tif _, freshness"},
	{"a guest's pages are the members' with gaps", "query/directory.go", "return r.guestDirectory(l, keep)", ""},
	{"just-in-time objects of anybody", "query/peek.go", "if full && r.ofOurs(o.Visibility.Workspaces) || s.allows(u, &o) {", "if full && r.ofOurs(o.Visibility.Workspaces) || s.allows(u, &o) || true {"},
	{"who is removed goes on hearing", "fanout/publish.go", "e.Op == protocol.OpMemberRemoved && e.Channel == ch {\n\t\t\tif a := h.users[e.User]; a != nil {", "e.Op == protocol.OpMemberRemoved && e.Channel == ch {\n\t\t\tif a := h.users[e.User]; a != nil && false {"},
	{"who is removed misses the removal", "fanout/publish.go", "for a := range h.channels[ch] {\n\t\th.choose(a, ev)\n\t}\n\tfor i", "for a := range h.channels[ch] {\n\t\tif !leaves(ev, a.user) {\n\t\t\th.choose(a, ev)\n\t\t}\n\t}\n\tfor i"},
	{"guests hear what members of the workspace hear", "fanout/publish.go", "if a.role.Full() {", "if true {"},
	{"sessions keep their old workspaces", "node/sink.go", "if s.n.hub.SetRole(r.User, r.Role) {", "if s.n.hub.SetRole(r.User, r.Role) && false {"},
	{"a ticket keeps its old role", "edge/session.go", "case err == nil && !s.registered:", "case err == nil && s.id.User == \"\":"},
	{"revoked sessions go on", "node/sink.go", "s.n.edge.CloseUser(r.User, r.Token, protocol.CloseTokenRevoked)", "_ = r"},
	{"revoked tokens are good for a while", "cache/apply.go", "c.identities.revoke(user, e.Token)", "0"},
	{"member sets keep who has left", "cache/apply.go", "c.setRemove(e.Channel, e.User, p)", "_ = p"},
	{"user states keep channels that were left", "cache/userstate.go", "\tc.unlink(m)\n\treturn true\n}", "\treturn true\n}"},
	{"user states keep their old role", "cache/selfstate.go", "u.setSelf(o, role) {\n\t\t\tchange", "u.setSelf(o, u.Role()) {\n\t\t\tchange"},
	{"the past of a channel goes on after a removal", "node/heard.go", "\t\tif in {\n", "\t\tif in || len(turns) == 0 {\n"},
}

// extra is Go that a mutant needs besides.
var extra = map[string]string{
	"leaves(ev, a.user)": "\nfunc leaves(ev *protocol.Event, user protocol.UserID) bool {\n\tfor i := range ev.Effects {\n\t\tif ev.Effects[i].Op == protocol.OpMemberRemoved && ev.Effects[i].User == user {\n\t\t\treturn true\n\t\t}\n\t}\n\treturn false\n}\n",
}

const root = "../.."

// patch returns the mutated file.
func (m *mutant) patch(t *testing.T) string {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(body), m.old); n != 1 {
		t.Errorf("%q: %s has its place %d times, want once: say in mutants_test.go where it is now", m.name, m.file, n)
	}
	out := strings.Replace(string(body), m.old, m.new, 1)
	for use, code := range extra {
		if strings.Contains(m.new, use) {
			out += code
		}
	}
	return out
}

// TestMutants_Apply keeps the list in step with the product.
func TestMutants_Apply(t *testing.T) {
	for i := range mutants {
		mutants[i].patch(t)
	}
}

var (
	failed = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)
	fault  = regexp.MustCompile(`(?m)^\s+\w+_test\.go:\d+: (.*)$`)
)

// TestMutants runs this package's tests over each mutant, which one of them has to catch. It takes a quarter of an hour:
//
//	go test ./internal/visibility -run TestMutants$ -mutants -v -timeout 60m
func TestMutants(t *testing.T) {
	if !*mutate {
		t.Skip("-mutants was not said")
	}
	for i := range mutants {
		m := &mutants[i]
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			began := time.Now()
			out, err := m.run(t)
			caught := failed.FindStringSubmatch(out)
			if err == nil || caught == nil {
				t.Fatalf("%s: not caught (%v)\n%s", m.name, err, out)
			}
			why := ""
			for _, f := range fault.FindAllStringSubmatch(out, -1) {
				if why = f[1]; strings.HasPrefix(why, "LEAK") || strings.HasPrefix(why, "HIDDEN") {
					break
				}
			}
			t.Logf("%-50s %-45s %5.1fs  %.110s", m.name, caught[1], time.Since(began).Seconds(), why)
		})
	}
}

// run tests a mutant and returns what the tests said.
func (m *mutant) run(t *testing.T) (string, error) {
	t.Helper()
	dir := t.TempDir()
	patched := filepath.Join(dir, "mutant.go")
	if err := os.WriteFile(patched, []byte(m.patch(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	original, err := filepath.Abs(filepath.Join(root, m.file))
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{original: patched}})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", list, "-count=1", "-failfast", "-timeout", "5m", "-skip", "TestMutants", ".", "-rounds", "6")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
