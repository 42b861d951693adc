// Command allocs is the continuous benchmark: it runs the benchmarks of the hot paths, each a fixed number of times, and compares
// what they allocate with a committed file. It exits with 1 if one of them allocates more than a fifth more, in number or in
// bytes, and names it. Seconds are not looked at: they say more about the machine than about the change.
//
//	go run ./internal/allocs            compare
//	go run ./internal/allocs -update    write the file, and say in the commit why
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// hot are the benchmarks of the hot paths, by package: delivery, queries, boots, attaching, the cache's doors. Those are left
// out that start servers: what these allocate depends on the scheduler.
var hot = []struct{ pkg, bench string }{
	{"./protocol", "^Benchmark(ComposeUserBoot|ComposeCounts|QuickQuery)$"},
	{"./cache", "^Benchmark(Get|Apply|User|Identity)$"},
	{"./query", "^Benchmark(UsersInfo|Boot|ConversationsInfo|Search)$"},
	{"./fanout", "^Benchmark(Publish|Attach)$"},
	{"./edge", "^Benchmark(Outbox|Deliver_Thin|Deliver_OutOfView|Deliver_InView|Pulse)$"},
}

const (
	// times is how often each benchmark's loop runs: enough that what is allocated once does not count.
	times = "2000x"
	// path of the committed file, from the root of the repository.
	path = "internal/allocs/baseline.txt"
)

func main() {
	update := flag.Bool("update", false, "write "+path)
	flag.Parse()
	if err := run(*update); err != nil {
		fmt.Fprintln(os.Stderr, "allocs:", err)
		os.Exit(1)
	}
}

func run(update bool) error {
	now, err := measure()
	if err != nil {
		return err
	}
	if update {
		return os.WriteFile(path, []byte(format(now)), 0o644)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, err := parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	worse := compare(os.Stdout, before, now)
	if len(worse) > 0 {
		return fmt.Errorf("more than a fifth more is allocated by %s; if that is meant, run go run ./internal/allocs -update and say why in the commit", strings.Join(worse, ", "))
	}
	return nil
}

// measure runs the benchmarks.
func measure() ([]figures, error) {
	var all []figures
	for _, h := range hot {
		cmd := exec.Command("go", "test", "-run", "^$", "-bench", h.bench, "-benchmem", "-benchtime", times, "-cpu", "1", h.pkg)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%s: %w\n%s%s", h.pkg, err, out, stderr.Bytes())
		}
		found, err := parse(string(out))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.pkg, err)
		}
		if len(found) == 0 {
			return nil, errors.New(h.pkg + ": there is no benchmark of " + h.bench)
		}
		for _, f := range found {
			f.name = strings.TrimPrefix(h.pkg, "./") + "." + f.name
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b figures) int { return strings.Compare(a.name, b.name) })
	return all, nil
}
