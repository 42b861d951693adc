package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// address waits for the line of the log that tells a server's addresses, and returns one of them.
func (b *background) address(name string) string {
	b.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		for line := range strings.Lines(b.stderr.String()) {
			var entry map[string]any
			if json.Unmarshal([]byte(line), &entry) != nil || !strings.HasSuffix(fmt.Sprint(entry["msg"]), "is listening") {
				continue
			}
			if a, ok := entry[name].(string); ok && a != "" {
				return a
			}
		}
	}
	b.t.Fatalf("no address of %s in the log:\n%s", name, b.stderr)
	return ""
}

// The ready line is one line with the fields that scripts read, and nothing else is on standard output.
func TestDev_ReadyLineHasItsFieldsAndNoMore(t *testing.T) {
	b := inBackground(t, "dev", "--preset", "12", "--listen", "127.0.0.1:0", "--backend-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	var line fields
	if err := json.Unmarshal([]byte(b.line()), &line); err != nil {
		t.Fatal(err)
	}
	line.want(t, "admin", "backend", "edge", "ready", "tokens", "workspace")
	fields(line["workspace"].(map[string]any)).want(t, "id", "name")
	for _, tok := range line["tokens"].([]any) {
		fields(tok.(map[string]any)).want(t, "name", "role", "token", "user")
	}
	if code := b.stop(); code != exitOK {
		t.Errorf("exit code %d:\n%s", code, b.stderr)
	}
	if len(b.lines) != 0 {
		t.Errorf("another line: %s", <-b.lines)
	}
}

// fields are those of a JSON object.
type fields map[string]any

func (f fields) want(t *testing.T, names ...string) {
	t.Helper()
	if have := slices.Sorted(maps.Keys(f)); !slices.Equal(have, names) {
		t.Errorf("fields %v, want %v", have, names)
	}
}

func TestDev_ImportsAnArchiveAndFindsItAgain(t *testing.T) {
	data := t.TempDir()
	b, first := dev(t, "--data", data, "--import", "../../backend/slackexport/testdata/acme")
	if !strings.Contains(b.stderr.String(), "12 messages") {
		t.Errorf("no summary of the import:\n%s", b.stderr)
	}
	if code := b.stop(); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	b, second := dev(t, "--data", data)
	if first.Workspace != second.Workspace || len(first.Tokens) != len(second.Tokens) {
		t.Errorf("first %+v, then %+v", first, second)
	}
	// Tokens of the first run are good in the second: the key is in the data folder.
	if _, body := get(t, second.Edge+"/api/auth.test?token="+first.Tokens[0].Token); !strings.Contains(body, `"ok":true`) {
		t.Errorf("an older token: %s", body)
	}
	if code := b.stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// A backend alone has an admin listener too, and its metrics are named like the edge's.
func TestBackend_AdminListenerAndStop(t *testing.T) {
	data := t.TempDir()
	must(t, "generate", "--data", data, "--preset", "12")
	b := inBackground(t, "backend", "--data", data, "--listen", "127.0.0.1:0", "--upstream-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", "json")
	base := "http://" + b.address("admin")
	get(t, "http://"+b.address("backend")+"/api/api.test")
	for _, path := range []string{"/livez", "/readyz", "/debug/pprof/", "/debug/pprof/cmdline"} {
		if status, body := get(t, base+path); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if _, metrics := get(t, base+"/metrics"); !strings.Contains(metrics, "flannel_webapi_calls_total{") || !strings.Contains(metrics, "go_goroutines ") {
		t.Errorf("metrics:\n%s", metrics)
	}
	for _, args := range [][]string{
		{"generate", "--data", data, "--users", "5"}, {"import", "../../backend/slackexport/testdata/acme", "--data", data},
		{"dev", "--data", data, "--listen", "127.0.0.1:0", "--backend-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"},
	} {
		if code, _, stderr := flannel(t, args...); code != exitFailed || !strings.Contains(stderr, "stop flannel dev or flannel backend") {
			t.Errorf("%v in a folder in use: exit code %d, %s", args, code, stderr)
		}
	}
	if out := must(t, "token", "--data", data, "--all"); strings.Count(out, "\n") < 12 {
		t.Errorf("tokens beside a running backend: %s", out)
	}
	if code := b.stop(); code != exitOK {
		t.Errorf("exit code %d:\n%s", code, b.stderr)
	}
	must(t, "generate", "--data", data, "--users", "5", "--seed", "9") // The folder is free again.
}

// An edge starts without its backend, says so to clients, and serves as soon as the backend is there.
func TestEdge_StartsBeforeItsBackend(t *testing.T) {
	data, upstream := t.TempDir(), free(t)
	must(t, "generate", "--data", data, "--preset", "12")
	tok := strings.TrimSpace(strings.Fields(must(t, "token", "--data", data, "--all"))[1])
	const key = "0123456789abcdef0123"
	e := inBackground(t, "edge", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--upstream", "http://"+upstream, "--upstream-key", key, "--log-format", "json")
	if status, _ := get(t, "http://"+e.address("admin")+"/livez"); status != http.StatusOK {
		t.Errorf("livez is %d", status)
	}
	front := "http://" + e.address("edge") + "/api/auth.test?token=" + tok
	if _, body := get(t, front); strings.Contains(body, `"ok":true`) {
		t.Errorf("without a backend: %s", body)
	}
	back := inBackground(t, "backend", "--data", data, "--listen", "127.0.0.1:0", "--upstream-listen", upstream, "--upstream-key", key, "--admin-listen", "", "--log-format", "json")
	back.address("backend")
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		_, body := get(t, front)
		if strings.Contains(body, `"ok":true`) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("with a backend: %s\n%s", body, e.stderr)
		}
	}
	for _, b := range []*background{e, back} {
		if code := b.stop(); code != exitOK {
			t.Errorf("exit code %d:\n%s", code, b.stderr)
		}
	}
}

func TestCheckUpstream_JSON(t *testing.T) {
	c := separateBackend(t)
	var report struct {
		URL     string
		Version int
		Results []struct{ Name, Failure string }
	}
	// With a wrong key, because it is soon over; TestEdgeAndBackend_JoinedByTheKeyFile has the right one.
	code, out, stderr := flannel(t, "check", "upstream", c.url, "--key", "a wrong key, long enough", "--token", c.token, "--json")
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.URL != c.url || report.Version == 0 || len(report.Results) < 10 {
		t.Errorf("%s: %v", out, err)
	}
	if code != exitFailed || !strings.Contains(stderr, "clauses are not met") {
		t.Errorf("a wrong key: exit code %d, %s", code, stderr)
	}
	if _, _, stderr := flannel(t, "edge", "--upstream-key-file", filepath.Join(t.TempDir(), "upstream.key")); !strings.Contains(stderr, "upstream.key") {
		t.Errorf("a key file that is not there: %s", stderr)
	}
}
