package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"pgregory.net/rapid"

	"flannel/protocol"
)

// TestTop_Promises: whatever comes, counts are not too low, too high by at most their error, and nobody who is large is
// missing.
func TestTop_Promises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 8).Draw(t, "size")
		top, truth := newTop(size), make(map[protocol.WorkspaceID]uint64)
		ids := rapid.SliceOfN(rapid.IntRange(0, 20), 0, 200).Draw(t, "ids")
		for _, i := range ids {
			id := protocol.WorkspaceID(fmt.Sprintf("T%d", i))
			top.add(id)
			truth[id]++
		}
		list := top.first(size + 1)
		if len(list) > size {
			t.Fatalf("%d entries, the bound is %d", len(list), size)
		}
		seen := make(map[protocol.WorkspaceID]bool)
		for i, e := range list {
			seen[e.Workspace] = true
			if e.Count < truth[e.Workspace] || e.Count-e.Error > truth[e.Workspace] {
				t.Fatalf("%+v, the truth is %d", e, truth[e.Workspace])
			}
			if i > 0 && list[i-1].Count < e.Count {
				t.Fatalf("not in order: %+v", list)
			}
		}
		for id, n := range truth {
			if n > uint64(len(ids)/size) && !seen[id] {
				t.Fatalf("%s with %d of %d is missing in %+v", id, n, len(ids), list)
			}
		}
	})
}

func TestWorkspaces_Answer(t *testing.T) {
	get := func(w *workspaces, query string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/debug/workspaces"+query, nil))
		return rec
	}
	off := newWorkspaces(0)
	off.opened(protocol.Identity{Workspace: "T1"})
	off.asked(protocol.Identity{Workspace: "T1"})
	off.reset()
	if rec := get(off, ""); rec.Code != http.StatusNotFound {
		t.Errorf("switched off: %d", rec.Code)
	}

	w := newWorkspaces(100)
	for i := range 30 {
		for range i + 1 {
			w.asked(protocol.Identity{Workspace: protocol.WorkspaceID(fmt.Sprintf("T%d", i))})
		}
	}
	w.opened(protocol.Identity{Workspace: "T7"})
	var answer struct {
		Since           string
		Sessions, Calls []topEntry
	}
	if err := json.Unmarshal(get(w, "?top=2").Body.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Calls) != 2 || answer.Calls[0] != (topEntry{Workspace: "T29", Count: 30}) || len(answer.Sessions) != 1 || answer.Since == "" {
		t.Errorf("%+v", answer)
	}
	if rec := get(w, "?top=many"); rec.Code != http.StatusBadRequest {
		t.Errorf("top=many: %d", rec.Code)
	}
	w.reset()
	if n := len(w.calls.first(10)); n != 0 {
		t.Errorf("%d after reset", n)
	}
	w.asked(protocol.Identity{Workspace: "T3"})
	if got := w.calls.first(10); len(got) != 1 || got[0].Workspace != "T3" || got[0].Count != 1 {
		t.Errorf("%+v after reset and one call", got)
	}
}
