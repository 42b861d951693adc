package sim_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "replay this seed, with everything that happened")
	seedsFlag  = flag.Int("seeds", 50, "how many seeds to run")
	firstFlag  = flag.Uint64("first", 1, "the first of them")
	stepsFlag  = flag.Int("steps", 150, "operations of a seed")
	untilFlag  = flag.Int("until", 5, "end after so many seeds have failed")
	repeatFlag = flag.Int("repeat", 1, "with -seed: how often")
	storyFlag  = flag.String("stories", "", "write all that happened in a seed that fails into this directory")
)

// TestMain starts the one goroutine that fasthttp keeps for the whole process: it must not belong to a bubble.
func TestMain(m *testing.M) {
	_ = new(fasthttp.Response).Header.Header()
	os.Exit(m.Run())
}

// TestSimulation runs many seeds, in parallel, and fails with what went wrong in the first that fail.
func TestSimulation(t *testing.T) {
	if *seedFlag != 0 {
		replay(t, *seedFlag)
		return
	}
	began := time.Now()
	var (
		mu     sync.Mutex
		counts = make(map[string]int)
		events int
		failed int
		ran    int
	)
	t.Cleanup(func() {
		took := time.Since(began)
		t.Logf("%d seeds run in %v, %.1f a second; %d events heard; %d seeds failed", ran, took.Round(time.Millisecond), float64(ran)/took.Seconds(), events, failed)
		if testing.Verbose() {
			for _, what := range slices.Sorted(maps.Keys(counts)) {
				t.Logf("%8d %s", counts[what], what)
			}
		}
	})
	for i := range *seedsFlag {
		seed := *firstFlag + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			mu.Lock()
			enough := failed >= *untilFlag
			mu.Unlock()
			if enough {
				t.Skip("enough seeds have failed")
			}
			res := simulate(t, seed, *stepsFlag, *storyFlag != "")
			mu.Lock()
			defer mu.Unlock()
			ran++
			events += res.events
			for what, n := range res.counts {
				counts[what] += n
			}
			if len(res.broken) > 0 {
				failed++
				if *storyFlag != "" {
					if err := os.WriteFile(filepath.Join(*storyFlag, fmt.Sprintf("%d.txt", seed)), []byte(strings.Join(res.stories, "\n")), 0o600); err != nil {
						t.Error(err)
					}
				}
				t.Errorf("seed %d: %s\nlast operations:\n%s\nreplay: go test ./internal/sim -run TestSimulation -seed %d -steps %d -v",
					seed, strings.Join(res.broken, "\n  "), strings.Join(res.stories[max(0, len(res.stories)-25):], "\n"), seed, *stepsFlag)
			}
		})
	}
}

// replay runs one seed and tells all of it.
func replay(t *testing.T, seed uint64) {
	for range *repeatFlag {
		res := simulate(t, seed, *stepsFlag, true)
		if len(res.broken) > 0 || *repeatFlag == 1 {
			t.Log("\n" + strings.Join(res.stories, "\n"))
		}
		if len(res.broken) > 0 {
			t.Fatalf("seed %d:\n  %s", seed, strings.Join(res.broken, "\n  "))
		}
	}
}
