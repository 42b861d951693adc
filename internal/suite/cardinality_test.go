package suite_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"flannel/backend/store"
	"flannel/backend/token"
	"flannel/node"
	"flannel/protocol"
)

// maxSeries bounds what one scrape of an edge and a backend in one process brings, the Go runtime's series left out. A
// fleet of 100 nodes is then a small Prometheus. 1,770 is what there is; the rest is room for a few more metrics.
const maxSeries = 2200

// manyWorkspaces are enough that a label per workspace, or per anything that a workspace has, would be seen.
const manyWorkspaces = 10_000

// TestMetrics_SeriesDoNotGrowWithWorkspaces: ten thousand workspaces make no series that were not there before the first.
func TestMetrics_SeriesDoNotGrowWithWorkspaces(t *testing.T) {
	w := makeWorld(&world{t: t, unlimited: true, configure: func(c *node.Config) {
		c.Admin.TopWorkspaces = 100                                              // It must not cost a series either.
		c.Edge.MaxCalls, c.Upstream.BatchEvery = 2000, time.Millisecond          // No pace: here is no backend to protect.
		c.Upstream.QueueTimeout, c.Upstream.BootTimeout = 4*patience, 4*patience // On a busy machine 200 at a time wait for long.
	}}, 12)
	before := names(t, w)
	tokens := settle(t, w, manyWorkspaces)

	var calls errgroup.Group
	calls.SetLimit(200)
	for _, tok := range tokens {
		calls.Go(func() error {
			status, _, answer := call(t, w.edgeURL(), "client.userBoot", tok, nil)
			if status != 200 || answer["ok"] != true {
				return fmt.Errorf("client.userBoot: %d %v", status, answer["error"])
			}
			return nil
		})
	}
	if err := calls.Wait(); err != nil {
		t.Fatal(err)
	}

	after := names(t, w)
	for series := range after {
		if !before[series] {
			t.Errorf("new: %s", series)
		}
	}
	if n := len(after); n > maxSeries {
		t.Errorf("%d series, the budget is %d", n, maxSeries)
	} else {
		t.Logf("%d series", n)
	}
}

// settle makes n workspaces with a user each and returns their tokens.
func settle(t *testing.T, w *world, n int) []string {
	t.Helper()
	var tokens []string
	for from := 0; from < n; from += 1000 {
		_, err := w.back.Store().Update(t.Context(), func(tx store.Tx) error {
			for i := from; i < min(from+1000, n); i++ {
				team, user := protocol.WorkspaceID(fmt.Sprintf("T7%07d", i)), protocol.UserID(fmt.Sprintf("U7%07d", i))
				for _, s := range []protocol.Shape{
					&protocol.Workspace{ID: team, Name: fmt.Sprint("Number ", i), Domain: fmt.Sprint("number-", i), Updated: 1},
					&protocol.User{ID: user, TeamID: team, Name: "somebody", Updated: 1},
				} {
					if err := tx.Put(s); err != nil {
						return err
					}
				}
				tok, err := w.back.Tokens().Issue(token.Claims{User: user, Workspace: team, Role: protocol.RoleMember})
				if err != nil {
					return err
				}
				tokens = append(tokens, tok)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return tokens
}

// names returns every series that a scrape would bring, buckets counted one by one.
func names(t *testing.T, w *world) map[string]bool {
	t.Helper()
	all := make(map[string]bool)
	for _, reg := range []prometheus.Gatherer{w.reg, w.backReg} {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				name := fmt.Sprint(f.GetName(), m.GetLabel())
				all[name] = true
				h := m.GetHistogram()
				if h == nil {
					continue
				}
				for _, part := range []string{" sum", " +Inf"} { // and the name alone stands for the count
					all[name+part] = true
				}
				for _, b := range h.GetBucket() {
					all[fmt.Sprint(name, b.GetUpperBound())] = true
				}
			}
		}
	}
	return all
}
