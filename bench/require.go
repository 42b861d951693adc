package bench

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Threshold is what somebody requires of a figure: "p99<50ms", "rss_kib_per_session<=4", "deliveries_per_s>400000".
type Threshold struct {
	Text   string
	Figure string
	Op     string
	Value  float64
}

// ops are the comparisons, those first that others begin with.
var ops = []string{"<=", ">=", "==", "<", ">"}

// ParseThreshold reads what --require says. A time is compared in milliseconds, so p99<50ms is p99_ms<50.
func ParseThreshold(text string) (Threshold, error) {
	bad := fmt.Errorf("%q is no threshold: write FIGURE<VALUE, like p99<50ms or deliveries_per_s>=400000", text)
	for _, op := range ops {
		figure, value, ok := strings.Cut(text, op)
		if !ok {
			continue
		}
		t := Threshold{Text: text, Figure: strings.TrimSpace(figure), Op: op}
		value = strings.TrimSpace(value)
		var err error
		if t.Value, err = strconv.ParseFloat(strings.ReplaceAll(value, ",", ""), 64); err != nil {
			d, derr := time.ParseDuration(value)
			if derr != nil {
				return t, bad
			}
			t.Value = float64(d) / float64(time.Millisecond)
			if !strings.Contains(t.Figure, "_ms") {
				t.Figure += "_ms"
			}
		}
		if t.Figure == "" {
			return t, bad
		}
		return t, nil
	}
	return Threshold{}, bad
}

// Verdict is a threshold that was looked at.
type Verdict struct {
	Required string  `json:"required"`
	Measured float64 `json:"measured"`
	Met      bool    `json:"met"`
}

func (v Verdict) String() string {
	met := "met"
	if !v.Met {
		met = "NOT MET"
	}
	return fmt.Sprintf("%s: %s (%s)", v.Required, met, strconv.FormatFloat(v.Measured, 'g', 5, 64))
}

// Judge compares the sheet's figures with what is required. A figure that there is not is a mistake.
func (s *Sheet) Judge(required []Threshold) (met bool, err error) {
	figures, met := s.Figures(), true
	for _, t := range required {
		v, ok := t.of(figures)
		if !ok {
			return false, fmt.Errorf("there is no figure %q; there are %s", t.Figure, strings.Join(slices.Sorted(maps.Keys(figures)), ", "))
		}
		verdict := Verdict{Required: t.Text, Measured: v, Met: compare(v, t.Op, t.Value)}
		met = met && verdict.Met
		s.Verdicts = append(s.Verdicts, verdict)
	}
	return met, nil
}

// of returns the figure that is compared.
func (t *Threshold) of(figures map[string]float64) (v float64, ok bool) {
	v, ok = figures[t.Figure]
	if !ok && !strings.Contains(t.Figure, "_ms") {
		v, ok = figures[t.Figure+"_ms"]
	}
	return v, ok
}

// Measured reports whether the sheet has the figure that a threshold is about: it has no ratios to servers that were left
// out.
func (s *Sheet) Measured(t Threshold) bool {
	_, ok := t.of(s.Figures())
	return ok
}

func compare(a float64, op string, b float64) bool {
	c := cmp.Compare(a, b)
	switch op {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	case ">=":
		return c >= 0
	default:
		return c == 0
	}
}
