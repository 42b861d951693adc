package plot

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"flannel/bench"
	"flannel/bench/load"
)

// The page has all plots and needs no network.
func TestWriteHTML(t *testing.T) {
	times := load.NewTimes()
	for i := range int64(1000) {
		times.Record(i * 1e6)
	}
	s := &bench.Sheet{
		Scenario: "fanout",
		Cases: []bench.Case{
			{Server: "flannel", Name: "paced", Figures: map[string]float64{"p99_ms": 1}, Latency: times, Fault: "</pre><script>alert(1)</script>"},
			{Server: "reference", Name: "paced", Figures: map[string]float64{"p99_ms": 2}},
		},
		Series: []bench.Series{{Server: "flannel", Samples: []bench.Sample{{Seconds: 0.5, Rate: 1234.5, Measured: true, Memory: 77}, {Seconds: 1, Rate: 4321}}}},
	}
	var out bytes.Buffer
	if err := WriteHTML(&out, s); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{"Latency by percentile", "Rate", "Resident memory", "Calls to the backend", "1234.5", "flannel, paced", "99.999", "echarts.init(", "p99 ms", script[1000:1100]} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	if found := regexp.MustCompile(`(src|href)="?(https?:)?//[^"]*`).FindString(strings.ReplaceAll(text, script, "")); found != "" {
		t.Errorf("the page needs %s", found)
	}
	if strings.Contains(text, "<script>alert") {
		t.Error("what a server says is not quoted")
	}
}

// A scenario without times has no plot of them.
func TestWriteHTML_NothingToDraw(t *testing.T) {
	var out bytes.Buffer
	if err := WriteHTML(&out, &bench.Sheet{Scenario: "idle", Cases: []bench.Case{{Server: "flannel", Name: "idle"}}}); err != nil {
		t.Fatal(err)
	}
	if text := strings.ReplaceAll(out.String(), script, ""); strings.Contains(text, "echarts.init(") {
		t.Error("there are plots of nothing")
	}
}
