package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/spf13/cobra"

	"flannel/protocol"
)

// patience bounds every wait.
const patience = 30 * time.Second

// flannel runs a command to its end.
func flannel(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out bytes.Buffer
	var errs lockedBuffer // Programs that the command starts write there too.
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	code = run(ctx, args, nil, &out, &errs)
	return code, out.String(), errs.String()
}

// must is flannel for commands that have to succeed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := flannel(t, args...)
	if code != exitOK {
		t.Fatalf("flannel %s: exit code %d\n%s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// background is a command that runs until it is stopped.
type background struct {
	t      *testing.T
	cancel context.CancelFunc
	done   chan int // the exit code; capacity 1; never closed
	lines  chan string
	stderr *lockedBuffer
}

// lockedBuffer may be read while a command writes to it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}
func (b *lockedBuffer) String() string { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

func inBackground(t *testing.T, args ...string) *background {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	b := &background{t: t, cancel: cancel, done: make(chan int, 1), lines: make(chan string, 16), stderr: &lockedBuffer{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		b.done <- run(ctx, args, nil, w, b.stderr)
		w.Close()
	})
	wg.Go(func() {
		for in := bufio.NewScanner(r); in.Scan(); {
			b.lines <- in.Text()
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if t.Failed() {
			t.Logf("flannel %s said:\n%s", args[0], b.stderr)
		}
	})
	return b
}

// line returns the next line of standard output.
func (b *background) line() string {
	b.t.Helper()
	select {
	case line := <-b.lines:
		return line
	case code := <-b.done:
		b.t.Fatalf("ended with %d:\n%s", code, b.stderr)
	case <-time.After(patience):
		b.t.Fatalf("no line within %v:\n%s", patience, b.stderr)
	}
	return ""
}

// stop is what SIGTERM does.
func (b *background) stop() int {
	b.t.Helper()
	b.cancel()
	select {
	case code := <-b.done:
		return code
	case <-time.After(patience):
		b.t.Fatalf("did not stop within %v:\n%s", patience, b.stderr)
		return -1
	}
}

func dev(t *testing.T, args ...string) (*background, ready) {
	t.Helper()
	b := inBackground(t, append([]string{"dev", "--preset", "12", "--listen", "127.0.0.1:0", "--backend-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}, args...)...)
	var r ready
	if err := json.Unmarshal([]byte(b.line()), &r); err != nil {
		t.Fatal(err)
	}
	return b, r
}

func get(t *testing.T, address string) (int, string) {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestDev_ReadyLineTokensAndGoodbye(t *testing.T) {
	data := t.TempDir()
	b, r := dev(t, "--data", data)

	roles := make(map[protocol.Role]int)
	for _, tok := range r.Tokens {
		roles[tok.Role]++
		for _, base := range []string{r.Edge, r.Backend} {
			_, body := get(t, base+"/api/auth.test?token="+tok.Token)
			if !strings.Contains(body, `"ok":true`) || !strings.Contains(body, string(tok.User)) {
				t.Errorf("auth.test of %s at %s: %s", tok.Name, base, body)
			}
		}
	}
	if !r.Ready || r.Workspace.ID == "" || r.Workspace.Name == "" || roles["member"] < 10 || roles["admin"] < 1 || roles["guest"] < 1 || roles["bot"] < 1 {
		t.Errorf("the ready line says %+v with roles %v", r, roles)
	}
	issued := strings.TrimSpace(must(t, "token", "--data", data, "--user", string(r.Tokens[0].User)))
	if _, body := get(t, r.Edge+"/api/auth.test?token="+issued); !strings.Contains(body, `"ok":true`) {
		t.Errorf("a token issued beside the running server: %s", body)
	}
	if code, _, stderr := flannel(t, "generate", "--data", data, "--users", "5"); code != exitFailed || !strings.Contains(stderr, "in use") {
		t.Errorf("generate into a folder in use: exit code %d, %s", code, stderr)
	}
	admin(t, r.Admin)

	conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(r.Edge, "http")+"/?flannel=3&token="+url.QueryEscape(issued), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, hello, err := conn.ReadMessage(); err != nil || !strings.Contains(string(hello), `"hello"`) {
		t.Fatalf("hello is %s, %v", hello, err)
	}
	code := b.stop()
	if code != exitOK {
		t.Errorf("exit code %d after a polite stop:\n%s", code, b.stderr)
	}
	said := false
	for {
		_, frame, err := conn.ReadMessage()
		if err != nil {
			var closed *websocket.CloseError
			if !errors.As(err, &closed) || closed.Code != int(protocol.CloseDraining) {
				t.Errorf("the socket ended with %v", err)
			}
			break
		}
		said = said || strings.Contains(string(frame), `"goodbye"`)
	}
	if !said {
		t.Error("nobody said goodbye")
	}
}

// admin looks at what operators look at.
func admin(t *testing.T, base string) {
	t.Helper()
	for _, path := range []string{"/livez", "/readyz", "/debug/pprof/", "/"} {
		if status, body := get(t, base+path); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	_, metrics := get(t, base+"/metrics")
	names := regexp.MustCompile(`^(flannel|go|process|promhttp)_`)
	label := regexp.MustCompile(`[{,](user|workspace|channel|addr|token)=`)
	for line := range strings.SplitSeq(metrics, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if !names.MatchString(line) || label.MatchString(line) {
			t.Errorf("metric %s", line)
		}
	}
	for _, want := range []string{"flannel_connections ", "flannel_cache_lookups_total{", "flannel_upstream_requests_total{", "flannel_build_info{"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no metric %s", want)
		}
	}
}

func TestEdgeAndBackend_JoinedByTheKeyFile(t *testing.T) {
	data := t.TempDir()
	must(t, "generate", "--data", data, "--preset", "12")
	listen, upstream, front := free(t), free(t), free(t)
	inBackground(t, "backend", "--data", data, "--listen", listen, "--upstream-listen", upstream, "--admin-listen", "")
	reachable(t, "http://"+listen+"/api/api.test")
	key := filepath.Join(data, "upstream.key")

	e := inBackground(t, "edge", "--listen", front, "--admin-listen", "", "--upstream", "http://"+upstream, "--upstream-key-file", key)
	reachable(t, "http://"+front+"/")
	tokens := strings.Fields(must(t, "token", "--data", data, "--all"))

	if _, body := get(t, "http://"+front+"/api/users.info?user="+tokens[0]+"&token="+tokens[1]); !strings.Contains(body, `"ok":true`) {
		t.Errorf("through the edge: %s", body)
	}
	secret, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	member := memberToken(t, data)
	out := must(t, "check", "upstream", "http://"+upstream, "--key", strings.TrimSpace(string(secret)), "--token", member)
	if strings.Contains(out, "FAIL") || strings.Count(out, "ok ") < 10 {
		t.Errorf("check upstream says\n%s", out)
	}
	if code, _, stderr := flannel(t, "check", "upstream", "http://"+upstream, "--key", "wrong", "--token", member); code != exitFailed {
		t.Errorf("check upstream with a wrong key: exit code %d, %s", code, stderr)
	}
	if code := e.stop(); code != exitOK {
		t.Errorf("exit code %d after a polite stop:\n%s", code, e.stderr)
	}
}

// memberToken returns the token of a plain member, whom the conformance suite needs.
func memberToken(t *testing.T, data string) string {
	t.Helper()
	for line := range strings.SplitSeq(strings.TrimSpace(must(t, "token", "--data", data, "--all")), "\n") {
		_, tok, _ := strings.Cut(line, " ")
		if !strings.HasPrefix(tok, "xoxb-") {
			return tok
		}
	}
	t.Fatal("no token")
	return ""
}

func free(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func reachable(t *testing.T, address string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		resp, err := http.Get(address)
		if err == nil {
			resp.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestCommands_UsageErrorsSayWhatToDo(t *testing.T) {
	for args, want := range map[string]string{
		"generate":                               "--data",
		"generate --data x --preset 7":           "148170",
		"token --data x":                         "--user",
		"import":                                 "arg",
		"import archive.zip":                     "--data",
		"edge":                                   "--upstream-key-file",
		"check upstream http://127.0.0.1:1":      "--key",
		"dev --preset 13":                        "148170",
		"dev --no-such-flag":                     "no-such-flag",
		"check config nowhere.yaml":              "nowhere.yaml",
		"edge --upstream-key k --upstream ftp:x": "upstream",
	} {
		code, stdout, stderr := flannel(t, strings.Fields(args)...)
		if code == exitOK || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("flannel %s: exit code %d, output %q, errors %q; want %q in them", args, code, stdout, stderr, want)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if code, _, stderr := flannel(t, "dev", "--preset", "12", "--listen", ln.Addr().String(), "--backend-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"); code != exitFailed || !strings.Contains(stderr, ln.Addr().String()) {
		t.Errorf("an address in use: exit code %d, %s", code, stderr)
	}
}

// Every command has an example, and every flag in an example is one.
func TestHelp_ExamplesAreTrue(t *testing.T) {
	flags := regexp.MustCompile(`--([a-z-]+)`)
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Name() == "help" || cmd.Name() == "completion" {
			return
		}
		if cmd.Example == "" || cmd.Short == "" {
			t.Errorf("%s has no example or no short help", cmd.CommandPath())
		}
		for line := range strings.SplitSeq(cmd.Example, "\n") {
			words := strings.Fields(line)
			start := slices.Index(words, "flannel")
			if start < 0 {
				continue
			}
			target, _, err := cmd.Root().Find(words[start+1:])
			if err != nil {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), line, err)
				continue
			}
			for _, m := range flags.FindAllStringSubmatch(line, -1) {
				if target.Flags().Lookup(m[1]) == nil && target.InheritedFlags().Lookup(m[1]) == nil && m[1] != "help" {
					t.Errorf("%s: example %q: %s has no flag --%s", cmd.CommandPath(), line, target.CommandPath(), m[1])
				}
			}
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(newRoot(&app{stdout: io.Discard, stderr: io.Discard}))
}

func TestImportTokenAndVersion(t *testing.T) {
	data := t.TempDir()
	out := must(t, "import", "../../backend/slackexport/testdata/acme", "--data", data)
	if !strings.Contains(out, "12 messages") || !strings.Contains(out, "skipped general/2023-11-15.json") {
		t.Errorf("import says %s", out)
	}
	var summary struct {
		Messages, Unchanged int
	}
	if err := json.Unmarshal([]byte(must(t, "import", "../../backend/slackexport/testdata/acme", "--data", data, "--json")), &summary); err != nil || summary.Messages != 0 || summary.Unchanged == 0 {
		t.Errorf("import again says %+v, %v", summary, err)
	}
	if tok := must(t, "token", "--data", data, "--user", "ana", "--life", "1h"); !strings.HasPrefix(tok, "xoxp-") {
		t.Errorf("token is %s", tok)
	}
	for _, user := range []string{"cy", "nobody"} { // deactivated; not there
		if code, stdout, stderr := flannel(t, "token", "--data", data, "--user", user); code != exitFailed || stdout != "" || stderr == "" {
			t.Errorf("token of %s: exit code %d, %s%s", user, code, stdout, stderr)
		}
	}
	if out := must(t, "version"); !strings.HasPrefix(out, "flannel ") {
		t.Errorf("version says %s", out)
	}
	if out := must(t, "check", "config", yamlPath); !strings.Contains(out, "ok") {
		t.Errorf("check config says %s", out)
	}
}

func TestBenchBoot_Rows(t *testing.T) {
	out := must(t, "bench", "boot", "--presets", "12", "--full", "1", "--cold", "2", "--warm", "3", "--json")

	var report struct {
		Scenario string
		Rows     []map[string]float64
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Scenario != "boot" || len(report.Rows) != 1 {
		t.Fatalf("%s, %v", out, err)
	}
	row := report.Rows[0]
	for _, field := range []string{"users", "published_bytes", "full_bytes", "users_bytes", "channels_bytes", "full_ms", "thin_bytes", "thin_gzip_bytes", "warm_ms", "cold_ms", "ratio", "backend_calls"} {
		if row[field] <= 0 {
			t.Errorf("%s is %v", field, row[field])
		}
	}
	if row["users"] != 12 || row["backend_calls"] > 5 || row["thin_bytes"] >= row["full_bytes"] {
		t.Errorf("row %v", row)
	}
}
