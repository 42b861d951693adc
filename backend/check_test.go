package backend_test

import (
	"context"
	"strings"
	"testing"

	"flannel/upstream/check"
)

// The backend under test must not be the one that the suite was written by: it speaks plain HTTP, as a stranger would.
func TestConformance(t *testing.T) {
	s := start(t, nil)
	target := check.Target{URL: "http://" + s.UpstreamAddr(), Key: s.UpstreamKey(), Token: s.token(ann)}
	report, err := check.Run(context.Background(), target, func(r check.Result) {
		if !r.OK() {
			t.Errorf("%s: %s (hint: %s)", r.Name, r.Failure, r.Hint)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d clauses", len(report.Results))
	for _, r := range report.Results {
		if !strings.Contains(r.Name, ": ") {
			t.Errorf("clause %q does not name its part", r.Name)
		}
	}
}
