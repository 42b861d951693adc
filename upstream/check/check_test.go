package check

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"flannel/protocol"
)

// A suite that nothing can fail proves nothing: whoever answers nonsense fails every clause.
func TestRun_NonsenseFailsEveryClause(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"empty objects": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{}`) },
		"errors":        func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTeapot) },
	} {
		server := httptest.NewServer(handler)
		target := Target{URL: server.URL, Key: "0123456789abcdef", Token: "xoxp-x", Patience: 50 * time.Millisecond}
		told := 0

		report, err := Run(context.Background(), target, func(Result) { told++ })

		server.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range report.Results {
			if r.OK() {
				t.Errorf("%s: clause %q holds", name, r.Name)
			}
		}
		if report.Failed() != len(report.Results) || told != len(report.Results) || report.Version != protocol.UpstreamVersion {
			t.Errorf("%s: %d of %d failed, %d told", name, report.Failed(), len(report.Results), told)
		}
	}
}

func TestRun_BadAddressAndEndedContext(t *testing.T) {
	for _, address := range []string{"", "nonsense", "ftp://host", "http://"} {
		if _, err := Run(context.Background(), Target{URL: address, Key: "k", Token: "t"}, nil); err == nil {
			t.Errorf("address %q was taken", address)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if report, err := Run(ctx, Target{URL: "http://127.0.0.1:1", Key: "k", Token: "t"}, nil); err == nil || len(report.Results) != 0 {
		t.Errorf("with an ended context: %d results, error %v", len(report.Results), err)
	}
}

func TestClauses_NamesAreUnique(t *testing.T) {
	seen := make(map[string]bool)
	for _, list := range [][]clause{accessClauses, loadClauses, forwardClauses, streamClauses, effectClauses, replayClauses, finalClauses} {
		for _, c := range list {
			if seen[c.name] {
				t.Errorf("two clauses are called %q", c.name)
			}
			seen[c.name] = true
		}
	}
}
