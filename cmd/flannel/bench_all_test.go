//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flannel/bench"
	"flannel/bench/synth"
)

func TestBenchGrowth_Figures(t *testing.T) {
	figures, cases := sheetOf(t, "growth", "--sessions", "10", "--channels", "10,20", "--workspaces", "30", "--base", "10", "--settle", "0s")
	if len(cases) != 4 || figures["sessions_sessions_10"] != 10 || figures["bytes_per_connect_channels_20"] < 1.2*figures["bytes_per_connect_channels_10"] {
		t.Errorf("%v", figures)
	}
}

// A workspace of a sweep is as large as it says, but for those without whom there is no session.
func TestWorldOf_IsWhatWasAskedFor(t *testing.T) {
	for _, c := range []struct {
		sessions        int
		asked           synth.World
		users, channels int
	}{
		{sessions: 50, users: benchObjects, channels: 200},
		{sessions: 100, asked: synth.World{Users: 530, PerUser: 100}, users: 530, channels: 200},
		{sessions: 100, asked: synth.World{Users: 530, PerUser: 300}, users: 530, channels: 600},
		{sessions: 900, asked: synth.World{Users: 530, PerUser: 100}, users: 900, channels: 200},
	} {
		if w := worldOf(&scenario{sessions: c.sessions}, c.asked); w.Users != c.users || w.Channels != c.channels {
			t.Errorf("%d sessions, %+v: %+v", c.sessions, c.asked, w)
		}
	}
}

// A sitting writes what the document needs, part by part.
func TestBenchAll_Results(t *testing.T) {
	t.Setenv(runAs, "1")
	out := filepath.Join(t.TempDir(), "results")
	code, table, stderr := flannel(t, "bench", "all", "--out", out, "--runs", "1", "--scale", "0.002", "--only", "connect-lazy,fanout,boot")
	if code != exitOK || !strings.Contains(table, "in flight 64") {
		t.Fatalf("exit code %d\n%s%s", code, table, stderr)
	}
	page, err := os.ReadFile(filepath.Join(out, "results.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"## connect-lazy", "## fanout", "## boot", "| flannel | in flight 8 |", "fanout-deliveries-per-s.svg", "quick look", "cores"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("results.md has no %q:\n%s", want, page)
		}
	}
	for _, part := range []string{"connect-lazy", "fanout", "boot"} {
		var sheet struct {
			Scenario string
			Figures  map[string]float64
		}
		text, err := os.ReadFile(filepath.Join(out, part+".json"))
		if err == nil {
			err = json.Unmarshal(text, &sheet)
		}
		if err != nil || sheet.Scenario != part || len(sheet.Figures) == 0 {
			t.Errorf("%s: %v, %s", part, err, text)
		}
	}
	for _, picture := range []string{"fanout-deliveries-per-s", "boot-thin-bytes"} {
		if _, err := os.Stat(filepath.Join(out, picture+".svg")); err != nil {
			t.Error(err)
		}
	}
}

func TestBenchAll_Mistakes(t *testing.T) {
	for args, want := range map[string]string{
		"all":                              "--out",
		"all --out x --scale 2":            "--scale",
		"all --out x --only nothing":       "there are idle",
		"growth --sessions 0":              "at least 1",
		"growth --url http://x --tokens y": "no --url",
		"boot --require p99":               "p99<50ms",
		"reconnect --require p99":          "p99<50ms",
		"reconnect --runs 0":               "--runs",
		"traffic --require p99":            "p99<50ms",
	} {
		code, _, stderr := flannel(t, append([]string{"bench"}, strings.Fields(args)...)...)
		if code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d\n%s", args, code, stderr)
		}
	}
}

// What a sitting requires must be what its scenarios measure: a threshold on a figure that there is not is never looked at.
func TestBenchAll_RequiresWhatIsMeasured(t *testing.T) {
	cases := func(server string, names ...string) (list []bench.Case) {
		for _, name := range names {
			c := bench.Case{Server: server, Name: name, Figures: make(map[string]float64)}
			for _, figure := range []string{
				"rss_kib_per_session", "cpu_us_per_connect", "queries_per_s", "objects_per_s", "deliveries_per_s", "cpu_us_per_delivery", "p50_ms", "p99_ms",
				"lost", "errors", "thin_bytes", "cold_ms", "backend_calls", "p99_times", "back", "goodput_share",
			} {
				c.Figures[figure] = 1
			}
			list = append(list, c)
		}
		return list
	}
	names := map[string][]string{
		"idle": {"idle"}, "connect": {"connect"}, "query": {"depth 1", "depth 16", "depth 64", "batches of 16"}, "fanout": {"paced", "in flight 1", "in flight 8", "in flight 64"},
		"boot": {"12", "148170"}, "reconnect": {"warm", "cold", "direct"},
		"overload": {"steady", "storm", "peak", "offered ×1", "offered ×2", "offered ×4"},
	}
	for _, p := range parts {
		sheet := &bench.Sheet{}
		for _, server := range []string{"flannel", "reference", "redis"} {
			sheet.Cases = append(sheet.Cases, cases(server, names[p.name]...)...)
		}
		for _, text := range p.require {
			if threshold, err := bench.ParseThreshold(text); err != nil || !sheet.Measured(threshold) {
				t.Errorf("%s requires %s, which nobody measures: %v", p.name, text, err)
			}
		}
	}
}
