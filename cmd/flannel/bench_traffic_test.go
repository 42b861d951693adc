package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestBenchTraffic_Figures(t *testing.T) {
	out := must(t, "bench", "traffic", "--preset", "12", "--listeners", "3", "--view", "1", "--duration", "2s", "--speed", "400",
		"--passive", "30", "--passive-sessions", "3", "--passive-duration", "2s", "--json")

	var report struct {
		Scenario string
		Users    int
		Events   map[string]int
		Figures  map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Scenario != "traffic" || report.Users != 12 || report.Events["messages"] == 0 {
		t.Fatalf("%s, %v", out, err)
	}
	kind := func(mode, name string) float64 { return report.Figures[mode]["kinds"].(map[string]any)[name].(float64) }
	for _, mode := range []string{"compatible", "thin", "thin_views"} {
		f := report.Figures[mode]
		if f["sessions"] != 3.0 || f["bytes_per_session_hour"].(float64) <= 0 || f["frames_per_session_hour"].(float64) <= 0 {
			t.Errorf("%s: %v", mode, f)
		}
	}
	if kind("thin", "messages") <= kind("compatible", "messages") || kind("thin", "badges") != 0 || kind("compatible", "objects") != 0 {
		t.Errorf("messages, badges and objects are mixed up: %v", report.Figures)
	}
	if kind("thin_views", "messages") >= kind("thin", "messages") || kind("thin_views", "badges") <= 0 {
		t.Errorf("a view saves nothing: %v", report.Figures)
	}
	passive := report.Figures["passive"]
	if rate := passive["badges_per_session_second_most"].(float64); rate <= 0 || rate > 1.5 || passive["messages_in_full"] != 0.0 {
		t.Errorf("passive: %v", passive)
	}
}

func TestBenchTraffic_Mistakes(t *testing.T) {
	for _, args := range []string{"--preset 13", "--listeners 0", "--view 101", "--speed 0", "--duration 0", "--passive 2", "--passive-sessions 0"} {
		if code, _, _ := flannel(t, append([]string{"bench", "traffic"}, strings.Fields(args)...)...); code != 2 {
			t.Errorf("%s ends with %d", args, code)
		}
	}
}
