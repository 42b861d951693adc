package main

import (
	"encoding/json"
	"strings"
	"testing"

	"flannel/backend/seed"
	"flannel/backend/store"
	"flannel/protocol"
)

func TestBenchReconnect_MeetsWhatIsRequired(t *testing.T) {
	code, out, progress := flannel(t, "bench", "reconnect", "--users", "100", "--preset", "530", "--direct", "5", "--json",
		"--require", "backend_calls_warm==0", "--require", "backend_calls_cold<=20")
	if code != exitOK {
		t.Fatalf("exit code %d\n%s", code, progress)
	}

	var report struct {
		Scenario string
		Figures  map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Scenario != "reconnect" || len(report.Figures) != 3 {
		t.Fatalf("%s, %v", out, err)
	}
	figure := func(row, name string) float64 {
		v, ok := report.Figures[row][name].(float64)
		if !ok {
			t.Errorf("%s has no %s", row, name)
		}
		return v
	}
	for row, users := range map[string]float64{"warm": 100, "cold": 100, "direct": 5} {
		if figure(row, "users") != users || figure(row, "errors") != 0 || figure(row, "seconds_to_last") <= 0 || figure(row, "p99_ms") <= 0 {
			t.Errorf("%s: %v", row, report.Figures[row])
		}
		if calls := figure(row, "backend_calls"); figure(row, "backend_calls_per_user") != calls/users {
			t.Errorf("%s: %v", row, report.Figures[row])
		}
	}
	if n := figure("warm", "backend_calls"); n != 0 {
		t.Errorf("warm: %v calls: %v", n, report.Figures["warm"])
	}
	if n := figure("cold", "backend_calls"); n < 3 || n > 20 { // 100/200 + 20
		t.Errorf("cold: %v calls: %v", n, report.Figures["cold"])
	}
	if n := figure("cold", "boots_at_once"); n < 1 || n > figure("cold", "boot_concurrency") {
		t.Errorf("cold: %v boots at once", n)
	}
	if n := figure("direct", "backend_calls"); n != 10 {
		t.Errorf("direct: %v calls", n)
	}
	for _, row := range []string{"warm", "cold"} {
		if figure(row, "badges_checked") == 0 || figure(row, "badges_wrong") != 0 {
			t.Errorf("%s badges: %v", row, report.Figures[row])
		}
	}
	for _, phase := range []string{"connect: 100 done", "warm: 100 done", "cold: 100 done", "direct: 5 done"} {
		if !strings.Contains(progress, phase) {
			t.Errorf("progress has no %q:\n%s", phase, progress)
		}
	}
}

// Everybody in a workspace, and the table for people.
func TestBenchReconnect_Table(t *testing.T) {
	data := t.TempDir()
	for range 2 { // The second time the workspace is there.
		out := must(t, "bench", "reconnect", "--users", "12", "--preset", "12", "--spread", "100ms", "--data", data)
		for _, want := range []string{"warm", "cold", "direct", "at most 0", "at most 20", "yes", "calls:"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
		if strings.Contains(out, " no ") {
			t.Errorf("not met:\n%s", out)
		}
	}
}

// People who are gone come back if there are not enough others.
func TestBenchReconnect_TheGone(t *testing.T) {
	a := &app{}
	err := a.withStore(t.Context(), t.TempDir(), func(st store.Store) error {
		if _, err := seed.Generate(t.Context(), st, seed.Options{Users: 120, Seed: 1}); err != nil {
			return err
		}
		gone := func() (n int, err error) {
			err = eachUser(t.Context(), st, func(u *protocol.User) error {
				if u.Deleted {
					n++
				}
				return nil
			})
			return n, err
		}
		before, err := gone()
		if err != nil {
			return err
		}
		for range 2 {
			if err := comeBack(t.Context(), st); err != nil {
				return err
			}
		}
		after, err := gone()
		if before == 0 || float64(before) > 120*goneShare || after != 0 {
			t.Errorf("%d were gone, %d are", before, after)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestBenchReconnect_Mistakes(t *testing.T) {
	for args, want := range map[string]string{
		"--users 0":                        "at least 1",
		"--users 13 --preset 12":           "larger --preset",
		"--preset 13":                      "148170",
		"--spread -1s":                     "above 0",
		"--direct -1":                      "below 0",
		"--users 148170 --preset 148170":   "ulimit -n",
		"--users 12 --preset 12 something": "one word too many",
	} {
		code, _, stderr := flannel(t, append([]string{"bench", "reconnect"}, strings.Fields(args)...)...)
		if code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d\n%s", args, code, stderr)
		}
	}
}
