package bench

import (
	"bytes"
	"strings"
	"testing"
)

func sheet() *Sheet {
	run := func(rate, p99, lost float64) []Case {
		return []Case{
			{Server: "flannel", Name: "depth 1", Figures: map[string]float64{"queries_per_s": rate, "p99_ms": p99, "lost": lost, "errors": 0}},
			{Server: "flannel", Name: "depth 16", Figures: map[string]float64{"queries_per_s": 4 * rate, "p99_ms": 9 * p99, "lost": lost, "errors": 0, "generator_cpu_percent": 99}},
			{Server: "reference", Name: "depth 1", Figures: map[string]float64{"queries_per_s": 100 * rate, "p99_ms": p99 / 2, "lost": 9, "errors": 9}},
		}
	}
	return &Sheet{Scenario: "query", Runs: 3, Cases: Medians([][]Case{run(10, 2, 0), run(30, 1, 1), run(20, 3, 0)})}
}

// Medians of runs; what went wrong in any run is not lost in a median; others' figures are not ours.
func TestSheet_Figures(t *testing.T) {
	figures := sheet().Figures()
	for figure, want := range map[string]float64{
		"queries_per_s": 80, "queries_per_s_depth_1": 20, "queries_per_s_depth_16": 80, "p99_ms": 2, "p99_ms_depth_16": 18, "lost": 2, "errors": 0,
	} {
		if figures[figure] != want {
			t.Errorf("%s is %v, want %v", figure, figures[figure], want)
		}
	}
}

func TestSheet_TableAndJSON(t *testing.T) {
	s := sheet()
	met, err := s.Judge([]Threshold{{Text: "p99<3ms", Figure: "p99_ms", Op: "<", Value: 3}})
	if !met || err != nil {
		t.Errorf("%v, %v", met, err)
	}
	s.Cases[2].Fault = "it fell over"
	var table, machine bytes.Buffer
	if err := s.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"queries/s", "depth 16", "reference, depth 1: it fell over", "as busy as it can be", "p99<3ms: met (2)"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %q in\n%s", want, &table)
		}
	}
	if err := s.WriteJSON(&machine); err != nil || !strings.HasPrefix(machine.String(), `{"scenario":"query","runs":3,"figures":{`) {
		t.Errorf("%s, %v", &machine, err)
	}
}

func TestParseThreshold(t *testing.T) {
	for text, want := range map[string]Threshold{
		"p99<50ms":                   {Figure: "p99_ms", Op: "<", Value: 50},
		"p50_ms_depth_16 <= 1.5s":    {Figure: "p50_ms_depth_16", Op: "<=", Value: 1500},
		"deliveries_per_s>=400,000":  {Figure: "deliveries_per_s", Op: ">=", Value: 400_000},
		"rss_kib_per_session<4":      {Figure: "rss_kib_per_session", Op: "<", Value: 4},
		"errors==0":                  {Figure: "errors", Op: "==", Value: 0},
		"cpu_us_per_connect > 0.125": {Figure: "cpu_us_per_connect", Op: ">", Value: 0.125},
	} {
		want.Text = text
		if got, err := ParseThreshold(text); err != nil || got != want {
			t.Errorf("%q is %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "p99", "p99<", "<5", "p99=5", "p99<soon"} {
		if got, err := ParseThreshold(text); err == nil {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

func TestJudge(t *testing.T) {
	for text, want := range map[string]bool{
		"queries_per_s>79": true, "queries_per_s>80": false, "queries_per_s>=80": true, "queries_per_s==80": true, "p99<2ms": false, "p99<=2ms": true, "p99<3": true,
	} {
		threshold, err := ParseThreshold(text)
		if err != nil {
			t.Fatal(err)
		}
		if met, err := sheet().Judge([]Threshold{threshold}); met != want || err != nil {
			t.Errorf("%s: %v, %v", text, met, err)
		}
	}
	if _, err := sheet().Judge([]Threshold{{Figure: "happiness"}}); err == nil || !strings.Contains(err.Error(), "p99_ms_depth_16") {
		t.Errorf("%v", err)
	}
}
