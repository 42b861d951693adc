// Command mutate plants bugs into the product, one at a time, and looks whether the simulation finds each of them. It
// changes no file: the patched ones are laid over the real ones with `go test -overlay`. It prints a table, and exits
// with 1 if a bug survives or cannot be planted, because a text that it replaces is not there exactly once.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func main() {
	seeds := flag.Int("seeds", 1000, "how many seeds a bug may survive")
	only := flag.String("run", "", "only bugs whose name has this in it")
	flag.Parse()
	if err := run(*seeds, *only); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run(seeds int, only string) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, "internal/sim/mutate")); err != nil {
		return errors.New("run it in the root of the repository")
	}
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // Nothing can be done about it.
	survived, broken, tried := 0, 0, 0
	fmt.Printf("%-85s %-8s %s\n", "bug", "seeds", "what gave it away")
	for _, m := range mutations {
		if !strings.Contains(m.name, only) {
			continue
		}
		tried++
		began := time.Now()
		o, err := try(root, dir, m, seeds)
		switch {
		case err != nil:
			broken++
			fmt.Printf("%-85s %-8s %v\n", m.name, "BROKEN", err)
		case o.violation == "":
			survived++
			fmt.Printf("%-85s %-8s after %d seeds, %v\n", m.name, "SURVIVED", o.seeds, time.Since(began).Round(time.Second))
		default:
			fmt.Printf("%-85s %-8d %s\n", m.name, o.seeds, o.violation)
		}
	}
	fmt.Printf("%d bugs, %d caught\n", tried, tried-survived-broken)
	if survived+broken > 0 {
		return fmt.Errorf("%d survived, %d could not be planted", survived, broken)
	}
	return nil
}

// outcome is how many seeds it took until a bug was caught, none if a script did, and by what; "" if it was not.
type outcome struct {
	seeds     int
	violation string
}

// try builds the simulation with a bug in it and runs it until a seed fails.
func try(root, dir string, m mutation, seeds int) (outcome, error) {
	overlay, err := plant(root, dir, m)
	if err != nil {
		return outcome{}, err
	}
	binary := filepath.Join(dir, "sim.test")
	build := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", binary, "./internal/sim")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return outcome{}, fmt.Errorf("build: %w: %s", err, firstLines(out))
	}
	scripts := exec.Command(binary, "-test.run", "^TestScript_", "-test.timeout", "1m")
	scripts.Dir = filepath.Join(root, "internal/sim")
	if out, err := scripts.CombinedOutput(); err != nil {
		o := outcome{violation: "the process died"}
		if v := regexp.MustCompile(`--- FAIL: (TestScript_\w+)[^\n]*\n[^:]*:\d+: (?:VIOLATION|step \d+, [^:]*:) (.*)`).FindSubmatch(out); v != nil {
			o.violation = shorten(string(v[2])) + ", " + string(v[1])
		}
		return o, nil
	}
	test := exec.Command(binary, "-test.run", "^TestSimulation$", "-test.timeout", "30m", "-seeds", fmt.Sprint(seeds), "-until", "1", "-test.v")
	test.Dir = filepath.Join(root, "internal/sim")
	out, err := test.CombinedOutput()
	ran := regexp.MustCompile(`(\d+) seeds run`).FindSubmatch(out)
	o := outcome{seeds: seeds}
	if ran != nil {
		fmt.Sscan(string(ran[1]), &o.seeds) //nolint:errcheck // It is digits.
	}
	if err == nil {
		return o, nil
	}
	o.violation = "the process died"
	if v := regexp.MustCompile(`seed (\d+): step \d+, [^:]*: (.*)`).FindSubmatch(out); v != nil {
		o.violation = shorten(string(v[2])) + ", seed " + string(v[1])
	} else if i := bytes.Index(out, []byte("panic: ")); i >= 0 {
		o.violation = shorten(string(firstLines(out[i:])))
	}
	return o, nil
}

// plant writes the patched files and the overlay that lays them over the real ones.
func plant(root, dir string, m mutation) (overlay string, err error) {
	files := make(map[string][]byte)
	for _, e := range m.edits {
		text, seen := files[e.file]
		if !seen {
			if text, err = os.ReadFile(filepath.Join(root, e.file)); err != nil {
				return "", err
			}
		}
		if n := bytes.Count(text, []byte(e.old)); n != 1 {
			return "", fmt.Errorf("%s has the text %d times, not once: %q", e.file, n, e.old)
		}
		files[e.file] = bytes.Replace(text, []byte(e.old), []byte(e.new), 1)
	}
	replace := make(map[string]string)
	for file, text := range files {
		patched := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(patched, text, 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, file)] = patched
	}
	raw, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, raw, 0o600)
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
