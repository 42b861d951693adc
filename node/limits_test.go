package node

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// turned are limits of which the first is turned in tests, and what was applied to it.
func turned(raise time.Duration) (l *limits, applied *[]int) {
	applied = new([]int)
	l = &limits{raise: raise, all: []*limit{
		{Limit: Limit{Name: "a", Value: 100, Target: 100, Configured: 100}, apply: func(v int) error { *applied = append(*applied, v); return nil }},
		{Limit: Limit{Name: "b", Value: 5, Target: 5, Configured: 5}, apply: func(int) error { return nil }},
	}}
	return l, applied
}

// TestLimits_DownAtOnceUpInSteps: never above the target or below the last value on the way up, and there when the time is over.
func TestLimits_DownAtOnceUpInSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seconds := rapid.IntRange(0, 90).Draw(t, "seconds")
		l, applied := turned(time.Duration(seconds) * time.Second)
		low := rapid.IntRange(1, 100).Draw(t, "low")
		high := rapid.IntRange(low, 100_000).Draw(t, "high")

		if err := l.set(map[string]int{"a": low}, false); err != nil {
			t.Fatal(err)
		}
		if l.list()[0].Value != low {
			t.Fatalf("the limit is not down at once: %+v", l.list()[0])
		}
		if err := l.set(map[string]int{"a": high}, false); err != nil {
			t.Fatal(err)
		}
		if got := l.list()[0]; got.Target != high || got.Value != low {
			t.Fatalf("the limit is up without a step: %+v", got)
		}
		largest := (high-low)/max(seconds, 1) + 1
		for range max(seconds, 1) {
			before := l.list()[0].Value
			if err := l.rise(); err != nil {
				t.Fatal(err)
			}
			if v := l.list()[0].Value; v < before || v > high || v-before > largest {
				t.Fatalf("from %d to %d on the way to %d", before, v, high)
			}
		}
		if got := l.list()[0]; got.Value != high || got.Configured != 100 || (*applied)[len(*applied)-1] != high {
			t.Fatalf("after %d seconds: %+v, %v were applied", seconds, got, *applied)
		}
	})
}

func TestLimits_Served(t *testing.T) {
	l, applied := turned(time.Minute)
	post := func(form string) (int, string) {
		r := httptest.NewRequest(http.MethodPost, "/limits", strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		l.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	for form, want := range map[string]string{
		"a=7&c=8": `there is no limit "c"; the limits are a, b`,
		"a=7&b=0": "b: must be above 0",
		"a=7&b=x": `b: "x" is not a number`,
		"a=7&b=" + strings.Repeat("1", maxLimitsForm): "too large",
	} {
		if code, body := post(form); code != http.StatusBadRequest || !strings.Contains(body, want) {
			t.Errorf("%.30s: %d %s", form, code, body)
		}
	}
	if len(*applied) != 0 {
		t.Errorf("mistakes changed a limit to %v", *applied)
	}
	if code, body := post(url.Values{"a": {"300"}, "at_once": {"1"}}.Encode()); code != http.StatusOK || !strings.Contains(body, `{"name":"a","value":300,"target":300,"configured":100}`) {
		t.Errorf("at once: %d %s", code, body)
	}
}
