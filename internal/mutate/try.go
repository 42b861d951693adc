package main

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

var (
	scriptFailed = regexp.MustCompile(`--- FAIL: (TestScript_\w+)[^\n]*\n[^:]*:\d+: (?:VIOLATION|step \d+, [^:]*:) (.*)`)
	seedsRun     = regexp.MustCompile(`(\d+) seeds run`)
	seedFailed   = regexp.MustCompile(`seed (\d+): step \d+, [^:]*: (.*)`)
	testFailed   = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)
	fault        = regexp.MustCompile(`(?m)^\s+\w+_test\.go:\d+: (.*)$`)
)

// trySimulation runs the scripts of the simulation, and then seeds until one fails. The binary is built once for both.
func trySimulation(t *tester, overlay string) (outcome, error) {
	binary := filepath.Join(t.dir, "sim.test")
	build := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", binary, "./internal/sim")
	build.Dir = t.root
	if out, err := build.CombinedOutput(); err != nil {
		return outcome{}, fmt.Errorf("build: %w: %s", err, firstLines(out))
	}
	out, err := t.simulate(binary, "-test.run", "^TestScript_", "-test.timeout", "1m")
	if err != nil {
		o := outcome{"0", died(out)}
		if v := scriptFailed.FindSubmatch(out); v != nil {
			o.violation = shorten(string(v[2])) + ", " + string(v[1])
		}
		return o, nil
	}
	out, err = t.simulate(binary, "-test.run", "^TestSimulation$", "-test.timeout", "30m", "-seeds", fmt.Sprint(t.seeds), "-until", "1", "-test.v")
	o := outcome{by: fmt.Sprint(t.seeds)}
	if ran := seedsRun.FindSubmatch(out); ran != nil {
		o.by = string(ran[1])
	}
	if err == nil {
		return o, nil
	}
	o.violation = died(out)
	if v := seedFailed.FindSubmatch(out); v != nil {
		o.violation = shorten(string(v[2])) + ", seed " + string(v[1])
	}
	return o, nil
}

func (t *tester) simulate(binary string, args ...string) ([]byte, error) {
	test := exec.Command(binary, args...)
	test.Dir = filepath.Join(t.root, "internal/sim")
	return test.CombinedOutput()
}

// tryVisibility runs the tests of visibility until one fails, with a few rounds of its random one.
func tryVisibility(t *tester, overlay string) (outcome, error) {
	test := exec.Command("go", "test", "-overlay", overlay, "-failfast", "-count=1", "-timeout", "5m", "./internal/visibility", "-rounds", "6")
	test.Dir = t.root
	out, err := test.CombinedOutput()
	if err == nil {
		return outcome{by: "all tests"}, nil
	}
	failed := testFailed.FindSubmatch(out)
	if failed == nil {
		if bytes.Contains(out, []byte("[build failed]")) {
			return outcome{}, errors.New(string(firstLines(out)))
		}
		return outcome{"", died(out)}, nil
	}
	o := outcome{by: string(failed[1]), violation: died(out)}
	for _, f := range fault.FindAllSubmatch(out, -1) {
		why := string(f[1])
		o.violation = shorten(why)
		if strings.HasPrefix(why, "LEAK") || strings.HasPrefix(why, "HIDDEN") {
			break // The others say what came of it.
		}
	}
	return o, nil
}

// died says how tests ended that say no better what is wrong.
func died(out []byte) string {
	if i := bytes.Index(out, []byte("panic: ")); i >= 0 {
		return shorten(string(firstLines(out[i:])))
	}
	return "the process died"
}

func firstLines(out []byte) []byte {
	lines := bytes.SplitN(out, []byte("\n"), 6)
	return bytes.Join(lines[:min(len(lines), 5)], []byte(" / "))
}

func shorten(s string) string {
	if len(s) > 110 {
		return s[:110] + "…"
	}
	return s
}
