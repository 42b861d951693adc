package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"flannel/backend"
	"flannel/bench"
	"flannel/node"
)

const metricsPath = "../../docs/metrics.md"

// metricAreas are the tables of docs/metrics.md. A metric stands in the first whose prefix fits.
var metricAreas = []struct {
	title    string
	prefixes []string
}{
	{"Sockets", []string{"flannel_connection", "flannel_handshake", "flannel_admission", "flannel_drain", "flannel_client_frames", "flannel_slow", "flannel_outbox", "flannel_panics", "flannel_token", "flannel_compression"}},
	{"Coming back", []string{"flannel_resume", "flannel_replay"}},
	{"Calls and writes", []string{"flannel_http", "flannel_write", "flannel_auth"}},
	{"Reads", []string{"flannel_query"}},
	{"Cache", []string{"flannel_cache", "flannel_audit"}},
	{"The backend, as the node sees it", []string{"flannel_upstream"}},
	{"Events and presence", []string{"flannel_event", "flannel_fanout", "flannel_presence", "flannel_badges", "flannel_jit"}},
	{"Several nodes", []string{"flannel_cluster"}},
	{"The process", []string{"flannel_build", "flannel_config", "flannel_memory"}},
	{"The generators of flannel bench", []string{"flannel_load"}},
	{"The bundled backend", []string{"flannel_backend", "flannel_webapi"}},
}

// bothHalves returns the registry of a flannel dev that does not run.
func bothHalves(t *testing.T) *prometheus.Registry {
	t.Helper()
	cfg := defaultConfig()
	cfg.Backend.Data, cfg.Backend.Listen, cfg.Backend.UpstreamListen = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	cfg.Node.Edge.Listen, cfg.Node.Admin.Listen, cfg.Node.Cluster.Listen = "127.0.0.1:0", "", "127.0.0.1:0"
	reg, log := newRegistry(cfg), slog.New(slog.DiscardHandler)
	back, err := backend.New(backend.Options{Config: cfg.Backend, Log: log, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { back.Stop(t.Context()) })
	cfg.Node.Upstream.Key = back.UpstreamKey()
	n, err := node.New(node.Options{Config: cfg.Node, Log: log, Registry: reg})
	if err != nil {
		t.Fatal(err)
	}
	newReloader(nil, cfg, []*node.Node{n}, reg, log)
	t.Cleanup(func() { n.Stop(t.Context()) })
	return reg
}

// TestMetrics_AreListed keeps docs/metrics.md complete: its tables are written from the registry.
// go test ./cmd/flannel -run Metrics -update.
func TestMetrics_AreListed(t *testing.T) {
	live := bench.NewLive()
	live.Begin("flannel")
	families, err := prometheus.Gatherers{bothHalves(t), live.Gather()}.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	listed := make(map[string]bool)
	for _, area := range metricAreas {
		fmt.Fprintf(&b, "\n## %s\n\n| metric | type | labels | |\n|---|---|---|---|\n", area.title)
		for _, f := range families {
			if !listed[f.GetName()] && slices.ContainsFunc(area.prefixes, func(p string) bool { return strings.HasPrefix(f.GetName(), p) }) {
				listed[f.GetName()] = true
				fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), labelsOf(f), f.GetHelp())
			}
		}
	}
	for _, f := range families {
		if name := f.GetName(); !listed[name] && strings.HasPrefix(name, "flannel_") {
			t.Errorf("%s belongs to no area", name)
		}
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", f.GetName())
		}
	}

	const begin = "<!-- From here on written by a test: go test ./cmd/flannel -run Metrics -update -->\n"
	have, err := os.ReadFile(metricsPath)
	if err != nil {
		t.Fatal(err)
	}
	prose, _, ok := strings.Cut(string(have), begin)
	if !ok {
		t.Fatalf("%s has no line %q", metricsPath, begin)
	}
	want := prose + begin + b.String()
	if *update {
		if err := os.WriteFile(metricsPath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(have) != want {
		t.Error("docs/metrics.md is not what the registry says: run go test ./cmd/flannel -run Metrics -update")
	}
}

// labelsOf returns the names of a family's labels, with their values where these are few.
func labelsOf(f *dto.MetricFamily) string {
	var names []string
	values := make(map[string][]string)
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if !slices.Contains(names, l.GetName()) {
				names = append(names, l.GetName())
			}
			if !slices.Contains(values[l.GetName()], l.GetValue()) {
				values[l.GetName()] = append(values[l.GetName()], l.GetValue())
			}
		}
	}
	const few = 8 // fit into a line
	var out []string
	for _, name := range names {
		if v := values[name]; len(v) <= few && !strings.HasPrefix(f.GetName(), "flannel_build") && !strings.HasPrefix(f.GetName(), "flannel_config") {
			out = append(out, fmt.Sprintf("`%s`: %s", name, strings.Join(v, ", ")))
		} else {
			out = append(out, "`"+name+"`")
		}
	}
	return strings.Join(out, "; ")
}

// TestMetrics_PromtoolFindsNothing: Prometheus's own linter has nothing to say about names, types and help texts. In CI
// a machine without promtool fails; elsewhere the test is skipped there.
func TestMetrics_PromtoolFindsNothing(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("promtool is missing: Debian's package prometheus has it; make check installs it")
	}
	_, r := dev(t)
	_, node := get(t, r.Admin+"/metrics")
	live, load := bench.NewLive(), httptest.NewRecorder()
	live.Begin("flannel")
	live.ServeHTTP(load, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	for _, text := range []string{node, load.Body.String()} {
		cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 || !strings.Contains(text, "# TYPE flannel_") {
			t.Errorf("%v\n%s", err, out)
		}
	}
}
