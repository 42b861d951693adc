package node

import (
	"cmp"
	"container/heap"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"flannel/protocol"
)

// maxTop bounds AdminConfig.TopWorkspaces: nobody reads further down a list.
const maxTop = 1000

// top finds the workspaces that a node has most to do with, in a space that is fixed however many there are: the
// Space-Saving sketch of Metwally, Agrawal and El Abbadi (2005). A workspace that is not among the entries takes the place
// of the smallest and begins with its count, which is then its error: counts are never too low, and too high by at most
// the error. Every workspace with more than 1/size of all that was counted is in it.
type top struct {
	size int

	// mu guards what follows: the same entries, at most size.
	mu      sync.Mutex
	entries map[protocol.WorkspaceID]*topEntry
	heap    topHeap
}

type topEntry struct {
	Workspace protocol.WorkspaceID `json:"workspace"`
	Count     uint64               `json:"count"`
	// Error is how much of Count may be others'.
	Error uint64 `json:"error"`

	at int // its place in the heap
}

// topHeap has the smallest first: every read counts, so looking at all of them for it would be too much.
type topHeap []*topEntry

func (h topHeap) Len() int           { return len(h) }
func (h topHeap) Less(i, j int) bool { return h[i].Count < h[j].Count }
func (h topHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *topHeap) Push(x any) {
	e := x.(*topEntry)
	e.at = len(*h)
	*h = append(*h, e)
}

// Pop implements heap.Interface. Nobody calls it: a place is never given up, only taken over.
func (h *topHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

func newTop(size int) *top {
	return &top{size: size, entries: make(map[protocol.WorkspaceID]*topEntry, size)}
}

// add counts one for a workspace.
func (t *top) add(id protocol.WorkspaceID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[id]
	switch {
	case e != nil:
	case len(t.entries) < t.size:
		e = &topEntry{Workspace: id}
		t.entries[id] = e
		heap.Push(&t.heap, e)
	default:
		e = t.heap[0]
		delete(t.entries, e.Workspace)
		e.Workspace, e.Error = id, e.Count
		t.entries[id] = e
	}
	e.Count++
	heap.Fix(&t.heap, e.at)
}

// first returns the n largest, largest first.
func (t *top) first(n int) []topEntry {
	t.mu.Lock()
	all := make([]topEntry, 0, len(t.entries))
	for _, e := range t.heap {
		all = append(all, *e)
	}
	t.mu.Unlock()
	slices.SortFunc(all, func(a, b topEntry) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Workspace, b.Workspace))
	})
	return all[:min(max(n, 0), len(all))]
}

func (t *top) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.entries)
	clear(t.heap) // or it would keep what it points at
	t.heap = t.heap[:0]
}

// workspaces are the sketches of a node; nil if they are switched off. Workspaces are no labels of metrics: each would
// cost a scrape its series for ever.
type workspaces struct {
	sessions, calls *top

	mu    sync.Mutex
	since time.Time // guarded by mu
}

func newWorkspaces(size int) *workspaces {
	if size == 0 {
		return nil
	}
	return &workspaces{sessions: newTop(size), calls: newTop(size), since: time.Now()}
}

// opened counts a session.
func (w *workspaces) opened(id protocol.Identity) {
	if w != nil {
		w.sessions.add(id.Workspace)
	}
}

// asked counts a call or a query.
func (w *workspaces) asked(id protocol.Identity) {
	if w != nil {
		w.calls.add(id.Workspace)
	}
}

func (w *workspaces) reset() {
	if w == nil {
		return
	}
	w.mu.Lock()
	w.since = time.Now()
	w.mu.Unlock()
	w.sessions.reset()
	w.calls.reset()
}

// topDefault is how many are listed unless the call says otherwise: a screen.
const topDefault = 20

// ServeHTTP lists the largest workspaces: GET /debug/workspaces?top=20.
func (w *workspaces) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if w == nil {
		http.Error(rw, "top workspaces are switched off: set node.admin.top_workspaces", http.StatusNotFound)
		return
	}
	n := topDefault
	if s := r.URL.Query().Get("top"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 1 {
			http.Error(rw, "top must be a number above 0", http.StatusBadRequest)
			return
		}
	}
	w.mu.Lock()
	since := w.since
	w.mu.Unlock()
	rw.Header().Set("Content-Type", "application/json; charset=utf-8")
	//nolint:errcheck // Who asked has gone.
	json.NewEncoder(rw).Encode(map[string]any{"since": since.UTC().Format(time.RFC3339), "sessions": w.sessions.first(n), "calls": w.calls.first(n)})
}
