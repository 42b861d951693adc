package bench

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"flannel/bench/load"
)

// Each metric of the generators moves, and one server's counts are not another's.
func TestLive_Moves(t *testing.T) {
	l := NewLive()
	l.Begin("flannel")
	l.Begin("reference")
	before, err := testutil.GatherAndCount(l.Gather())
	if err != nil || before == 0 {
		t.Fatal(before, err)
	}
	times := load.NewTimes()
	for _, nanos := range []int64{400_000, 1_000_000, 1_000_000, 40_000_000_000} {
		times.Record(nanos)
	}
	counts := load.Counts{Opened: 1, Refused: 2, Dropped: 3, Delivered: 4, Missed: 5, Doubled: 6, Queries: 7, Objects: 8, Wrong: 9, Bytes: 10}
	l.Add("flannel", counts, times)
	l.Add("flannel", counts, load.NewTimes())

	want := `
		flannel_load_connections_dropped_total{server="flannel"} 6
		flannel_load_connections_opened_total{outcome="ok",server="flannel"} 2
		flannel_load_connections_opened_total{outcome="refused",server="flannel"} 4
		flannel_load_event_deliveries_total{server="flannel"} 8
		flannel_load_event_faults_total{fault="doubled",server="flannel"} 12
		flannel_load_event_faults_total{fault="lost",server="flannel"} 10
		flannel_load_query_objects_total{server="flannel"} 16
		flannel_load_query_requests_total{outcome="ok",server="flannel"} 14
		flannel_load_query_requests_total{outcome="wrong",server="flannel"} 18
		flannel_load_received_bytes_total{server="flannel"} 20
		flannel_load_duration_seconds_bucket{server="flannel",le="0.0005"} 1
		flannel_load_duration_seconds_bucket{server="flannel",le="0.001"} 3
		flannel_load_duration_seconds_bucket{server="flannel",le="30"} 3
		flannel_load_duration_seconds_bucket{server="flannel",le="+Inf"} 4
		flannel_load_duration_seconds_count{server="flannel"} 4
		flannel_load_connections_opened_total{outcome="ok",server="reference"} 0
		flannel_load_duration_seconds_count{server="reference"} 0`
	answer := httptest.NewRecorder()
	l.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	have := answer.Body.String()
	for line := range strings.Lines(want) {
		if line = strings.TrimSpace(line); !strings.Contains(have, line) {
			t.Errorf("no %q in\n%s", line, have)
		}
	}
	// Whatever is counted does not make more series: each was there at zero.
	if after, err := testutil.GatherAndCount(l.Gather()); after != before || err != nil {
		t.Errorf("%d series, before %d, %v", after, before, err)
	}
}
