package sim_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"flannel/protocol"
)

// world is one seed: a backend, nodes, clients and the faults between them.
type world struct {
	seed   uint64
	rnd    *rand.Rand // the driver's
	back   *backend
	gate   *gateway
	faults *faults
	plain  bool // nodes have their default bounds
	nodes  []*edgeNode
	people []*client
	logs   slog.Handler
	work   sync.WaitGroup

	mu       sync.Mutex
	step     int
	broken   []string // violations
	stories  []string // what was done, and what was seen
	counts   map[string]int
	detailed bool
}

func newWorld(seed uint64, detailed bool) *world {
	w := &world{seed: seed, rnd: rand.New(rand.NewPCG(seed, 0)), back: newBackend(), faults: new(faults), counts: make(map[string]int), logs: slog.DiscardHandler, detailed: detailed}
	if detailed {
		w.logs = slog.NewTextHandler(story{w}, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})
	}
	return w
}

// story is where the nodes log to when a seed is looked at.
type story struct{ w *world }

// Write implements io.Writer.
func (s story) Write(p []byte) (int, error) {
	s.w.note("log: %s", strings.TrimSpace(string(p)))
	return len(p), nil
}

// begin makes the world. It must run in a bubble.
func (w *world) begin() {
	w.gate = newGateway(w.back, w.faults, w.seed)
	w.back.populate()
	for i := range 2 {
		w.nodes = append(w.nodes, newEdgeNode(w, "n"+number(i), w.rnd))
	}
	for _, n := range w.nodes { // now that the gateway knows both
		n.start()
	}
	for i, user := range []protocol.UserID{ann, ann, bob, visitor, robot, stranger, temporary, cyd, bob, admin} {
		thin := i%3 != 1
		w.people = append(w.people, newClient(w, "c"+number(i), user, thin, w.nodes[w.rnd.IntN(len(w.nodes))]))
	}
	for _, c := range w.people {
		if c.thin && w.rnd.IntN(3) == 0 {
			c.view.screen = []protocol.ChannelID{generalID, secretID}
		}
	}
	time.Sleep(time.Second)
	synctest.Wait()
}

// end takes everything down.
func (w *world) end() {
	for _, c := range w.people {
		c.hangUp()
	}
	for _, n := range w.nodes {
		n.stop(false)
	}
	w.gate.close()
	w.work.Wait()
	time.Sleep(41 * time.Second) // What waits for the last of a client's or a worker's timeouts.
	synctest.Wait()
}

// spawn runs fn beside the driver; the world's end waits for it.
func (w *world) spawn(fn func()) { w.work.Go(fn) }

func (w *world) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	what := fmt.Sprintf(format, args...)
	if len(w.broken) < 20 {
		w.broken = append(w.broken, fmt.Sprintf("step %d, %v: %s", w.step, time.Since(w.back.born), what))
	}
	w.stories = append(w.stories, "VIOLATION "+what)
}

func (w *world) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.broken) > 0
}

// note remembers what was done, for the report of a seed that fails.
func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stories = append(w.stories, fmt.Sprintf("%4d %8.3fs @%d ", w.step, time.Since(w.back.born).Seconds(), w.positionForNotes())+fmt.Sprintf(format, args...))
	if n := len(w.stories); n > 4000 && !w.detailed {
		w.stories = slices.Delete(w.stories, 0, 2000)
	}
}

func (w *world) positionForNotes() protocol.Position {
	if w.back.mu.TryLock() {
		defer w.back.mu.Unlock()
		return w.back.position
	}
	return 0
}

// trace remembers what a client was sent, when a seed is looked at.
func (w *world) trace(who string, raw []byte) {
	if w.detailed {
		w.note("      %s < %s", who, raw)
	}
}

func (w *world) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what]++
}

// answered counts answers by how they went, so that a simulation in which nothing works is noticed.
func (w *world) answered(raw []byte) {
	if string(protocol.Field(raw, "ok")) == "true" {
		w.count("ok")
		return
	}
	w.count("error " + text(raw, "error"))
}

func (w *world) home(user protocol.UserID) protocol.WorkspaceID {
	if user == stranger {
		return theirs
	}
	return ours
}

// result is what is left of a seed.
type result struct {
	seed    uint64
	broken  []string
	stories []string
	counts  map[string]int
	events  int
}

// simulate runs a seed.
func simulate(t *testing.T, seed uint64, steps int, detailed bool) (res result) {
	synctest.Test(t, func(*testing.T) {
		w := newWorld(seed, detailed)
		w.begin()
		w.run(steps)
		w.settle()
		w.end()
		res = result{seed: seed, broken: w.broken, stories: w.stories, counts: w.counts}
		for _, c := range w.people {
			res.events += c.view.events
		}
	})
	return res
}
