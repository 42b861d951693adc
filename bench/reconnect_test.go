package bench

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestFigures_Met(t *testing.T) {
	none, some := 0, 20
	for name, tt := range map[string]struct {
		f    Figures
		want bool
	}{
		"warm":                 {Figures{Required: &none}, true},
		"a call":               {Figures{Required: &none, BackendCalls: 1}, false},
		"an error":             {Figures{Required: &none, Errors: 1}, false},
		"a wrong badge":        {Figures{Required: &none, BadgesWrong: 1}, false},
		"cold":                 {Figures{Required: &some, BackendCalls: 20, BootsAtOnce: 8, BootConcurrency: 8}, true},
		"a call too many":      {Figures{Required: &some, BackendCalls: 21, BootsAtOnce: 8, BootConcurrency: 8}, false},
		"a boot too many":      {Figures{Required: &some, BackendCalls: 20, BootsAtOnce: 9, BootConcurrency: 8}, false},
		"nothing is asked for": {Figures{BackendCalls: 4000}, true},
	} {
		if got := tt.f.Met(); got != tt.want {
			t.Errorf("%s: met %v", name, got)
		}
	}
}

func TestDefaultReconnect_Spread(t *testing.T) {
	for people, want := range map[int]time.Duration{1: time.Second, 1000: time.Second, 4000: 4 * time.Second, 15000: 15 * time.Second} {
		if got := DefaultReconnect(people).Spread; got != want {
			t.Errorf("%d people: %v, want %v", people, got, want)
		}
	}
}

func TestPercentile(t *testing.T) {
	var sorted []time.Duration
	for i := range 200 {
		sorted = append(sorted, time.Duration(i+1)*time.Millisecond)
	}
	if p50, p99, p100 := percentile(sorted, 50), percentile(sorted, 99), percentile(sorted, 100); p50 != 101 || p99 != 199 || p100 != 200 {
		t.Errorf("p50 %v, p99 %v, p100 %v", p50, p99, p100)
	}
	if one := percentile(sorted[:1], 99); one != 1 {
		t.Errorf("of one: %v", one)
	}
}

func TestWriteReconnect(t *testing.T) {
	none := 0
	report := ReconnectReport{Warm: Figures{Users: 3, Required: &none}, Direct: Figures{Users: 3, BackendCalls: 6, Calls: map[string]int{"rtm.start": 3, "websocket": 3}}}
	var b bytes.Buffer
	sheet := ReconnectSheet([]ReconnectReport{report})
	if err := sheet.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Scenario string
		Figures  map[string]map[string]any
	}
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || back.Scenario != "reconnect" {
		t.Fatalf("%s, %v", &b, err)
	}
	for _, row := range []string{"warm", "cold", "direct"} {
		for _, field := range []string{"users", "errors", "backend_calls", "backend_calls_per_user", "seconds_to_last", "p99_ms"} {
			if _, ok := back.Figures[row][field]; !ok {
				t.Errorf("%s has no %s", row, field)
			}
		}
	}
	b.Reset()
	if err := sheet.WriteTable(&b); err != nil || !strings.Contains(b.String(), "direct calls: rtm.start 3 websocket 3") {
		t.Errorf("%s, %v", &b, err)
	}
}

// Several runs are joined figure by figure; what went wrong in any of them is not lost.
func TestReconnectSheet_Medians(t *testing.T) {
	run := func(calls, failed int, p99 float64) ReconnectReport {
		return ReconnectReport{Cold: Figures{Users: 3, BackendCalls: calls, Errors: failed, P99MS: p99}}
	}
	s := ReconnectSheet([]ReconnectReport{run(30, 0, 9.5), run(10, 2, 1), run(20, 0, 3)})
	cold := s.Extra["figures"].(ReconnectReport).Cold
	if cold.BackendCalls != 20 || cold.Errors != 2 || cold.P99MS != 3 {
		t.Errorf("%+v", cold)
	}
	if f := s.Figures(); f["backend_calls_cold"] != 20 || f["users_cold"] != 3 {
		t.Errorf("%v", f)
	}
}
