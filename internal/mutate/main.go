// Command mutate plants bugs into the product, one at a time, and looks whether a suite of tests finds each of them: the
// simulation, or the tests of visibility. It changes no file: the patched ones are laid over the real ones with `go test
// -overlay`. It prints a table, as the documents have it, and exits with 1 if a bug survives or cannot be planted, because a
// text that it replaces is not there exactly once.
package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// suite is a list of bugs and the tests that are to find them.
type suite struct {
	mutations []mutation
	// by says what outcome.by is.
	by string
	// try runs the tests over a bug.
	try func(t *tester, overlay string) (outcome, error)
}

var suites = map[string]suite{
	"simulation": {simulation, "seeds", trySimulation},
	"visibility": {visibility, "test", tryVisibility},
}

// tester is where the tests are run.
type tester struct {
	root  string // of the repository
	dir   string // for files of ours
	seeds int    // how many a bug may survive
}

// outcome is what became of a bug.
type outcome struct {
	// by is the test that found it, or how many seeds that took: none if a script did.
	by string
	// violation is what gave it away, "" if nothing did.
	violation string
}

func main() {
	name := flag.String("suite", "simulation", "whose bugs: simulation or visibility")
	seeds := flag.Int("seeds", 1000, "how many seeds of the simulation a bug may survive")
	only := flag.String("run", "", "only bugs whose name has this in it")
	flag.Parse()
	if err := run(*name, *seeds, *only); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run(name string, seeds int, only string) error {
	s, ok := suites[name]
	if !ok {
		return fmt.Errorf("-suite is one of %s", strings.Join(slices.Sorted(maps.Keys(suites)), ", "))
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, "internal/mutate")); err != nil {
		return errors.New("run it in the root of the repository")
	}
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // Nothing can be done about it.
	t := &tester{root: root, dir: dir, seeds: seeds}
	survived, broken, tried := 0, 0, 0
	row("bug", s.by, "what gave it away")
	row("---", "---", "---")
	for i := range s.mutations {
		m := &s.mutations[i]
		if !strings.Contains(m.name, only) {
			continue
		}
		tried++
		began := time.Now()
		overlay, err := m.plant(root, dir)
		var o outcome
		if err == nil {
			o, err = s.try(t, overlay)
		}
		switch {
		case err != nil:
			broken++
			row(m.name, "BROKEN", err.Error())
		case o.violation == "":
			survived++
			row(m.name, "SURVIVED", fmt.Sprintf("%s, %v", o.by, time.Since(began).Round(time.Second)))
		default:
			row(m.name, o.by, o.violation)
		}
	}
	fmt.Printf("\n%d bugs, %d caught\n", tried, tried-survived-broken)
	if survived+broken > 0 {
		return fmt.Errorf("%d survived, %d could not be planted", survived, broken)
	}
	return nil
}

// row prints a line of the table.
func row(cells ...string) {
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(strings.ReplaceAll(c, "|", `\|`), "\n", " ")
	}
	fmt.Println("| " + strings.Join(cells, " | ") + " |")
}
