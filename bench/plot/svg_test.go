package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"flannel/bench"
	"flannel/bench/load"
)

func of(server, name string, figures map[string]float64) bench.Case {
	return bench.Case{Server: server, Name: name, Figures: figures}
}

// wellFormed reads a picture to its end.
func wellFormed(t *testing.T, p Picture) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(p.SVG))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s: %v\n%s", p.Name, err, p.SVG)
		}
	}
}

func TestPictures_BarsAndPercentiles(t *testing.T) {
	times := load.NewTimes()
	for i := range int64(1000) {
		times.Record(i * 1e6)
	}
	ours := of("flannel", "depth <1>", map[string]float64{"queries_per_s": 1_234_567, "lost": 0})
	ours.Latency = times
	all := Pictures(&bench.Sheet{Scenario: "query", Cases: []bench.Case{ours, of("redis", "depth <1>", map[string]float64{"queries_per_s": 617_283.5})}})

	if len(all) != 2 || all[0].Name != "query-queries-per-s" || all[1].Name != "query-latency" {
		t.Fatalf("%+v", all)
	}
	for _, p := range all {
		wellFormed(t, p)
	}
	// The other one has half of it, so half as long a bar.
	if bars := string(all[0].SVG); !strings.Contains(bars, "1.23 M") || !strings.Contains(bars, "617 k") || !strings.Contains(bars, `width="490.0"`) || !strings.Contains(bars, `width="245.0"`) {
		t.Error(bars)
	}
}

// A sweep is a line for each thing that grows, against how many times the smallest it is.
func TestPictures_Growth(t *testing.T) {
	cost := func(v float64) map[string]float64 { return map[string]float64{"rss_kib_per_session": v} }
	all := Pictures(&bench.Sheet{Scenario: bench.GrowthScenario, Cases: []bench.Case{
		of("flannel", "sessions 1000", cost(4)), of("flannel", "sessions 9000", cost(4)), of("flannel", "channels 10", cost(2)), of("flannel", "channels 300", cost(6)),
	}})
	if len(all) != 1 {
		t.Fatalf("%+v", all)
	}
	wellFormed(t, all[0])
	if text := string(all[0].SVG); strings.Count(text, "<polyline") != 2 || !strings.Contains(text, "flannel, channels, from 10") {
		t.Error(text)
	}
}

// One case alone is a number, not a picture.
func TestPictures_NothingToCompare(t *testing.T) {
	if all := Pictures(&bench.Sheet{Scenario: "idle", Cases: []bench.Case{of("flannel", "idle", map[string]float64{"rss_kib_per_session": 3})}}); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}
