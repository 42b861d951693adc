package plot

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"

	"flannel/bench"
)

// Picture is a plot as SVG, for documents.
type Picture struct {
	Name string // of the file, without its ending
	Alt  string // what is to be seen
	SVG  []byte
}

// drawn are the figures that have a picture of their own, with what they are called.
var drawn = []struct{ figure, title string }{
	{"rss_kib_per_session", "Resident memory of a session, KiB"},
	{"rss_mib", "Resident memory above that of the empty node, MiB"},
	{"cpu_us_per_connect", "Processor time of a connect, µs"},
	{"bytes_per_connect", "Bytes of a connect"},
	{"queries_per_s", "Queries a second"},
	{"objects_per_s", "Objects a second"},
	{"deliveries_per_s", "Deliveries a second"},
	{"cpu_us_per_delivery", "Processor time of a delivery, µs"},
	{"thin_bytes", "Bytes of a thin boot"},
	{"full_bytes", "Bytes of a full boot"},
	{"cold_ms", "Thin boot at an edge that has seen nothing, ms"},
	{"bytes_per_session_hour", "Bytes for a session and hour"},
	{"seconds_to_last", "Seconds until the last is back"},
}

// Pictures draws a sheet: bars for each of the figures that it has for at least two cases, or lines if the cases are
// points of a sweep, and the percentiles of what was timed.
func Pictures(s *bench.Sheet) (all []Picture) {
	for _, d := range drawn {
		name := s.Scenario + "-" + strings.ReplaceAll(d.figure, "_", "-")
		if lines := sweeps(s, d.figure); len(lines) > 0 {
			all = append(all, Picture{name, d.title, drawLines(d.title, "times the smallest", true, false, lines)})
		} else if bars := barsOf(s, d.figure); len(bars) > 1 {
			all = append(all, Picture{name, d.title, drawBars(d.title, bars)})
		}
	}
	if lines := percentileLines(s); len(lines) > 0 {
		all = append(all, Picture{s.Scenario + "-latency", "Latency by percentile, ms", drawLines("Latency by percentile, ms", "1 of so many is slower", true, true, lines)})
	}
	return all
}

type bar struct {
	label string
	value float64
	ours  bool
}

func barsOf(s *bench.Sheet, figure string) (bars []bar) {
	for _, c := range s.Cases {
		if v, ok := c.Figures[figure]; ok {
			bars = append(bars, bar{c.Server + ", " + c.Name, v, c.Server == s.Cases[0].Server})
		}
	}
	return bars
}

// points are what a line joins.
type points struct {
	name   string
	series [][2]float64
}

// sweeps are lines over the cases of a sweep, which are named "what number": one for each what, against how many times the
// smallest number it is, so that all fit on one axis.
func sweeps(s *bench.Sheet, figure string) (lines []points) {
	for _, c := range s.Cases {
		what, number, ok := strings.Cut(c.Name, " ")
		n, err := strconv.ParseFloat(number, 64)
		v, has := c.Figures[figure]
		if s.Scenario != bench.GrowthScenario || !ok || err != nil || !has {
			continue
		}
		what = c.Server + ", " + what
		if len(lines) == 0 || lines[len(lines)-1].name != what {
			lines = append(lines, points{name: what})
		}
		l := &lines[len(lines)-1]
		l.series = append(l.series, [2]float64{n, v})
	}
	for i := range lines {
		first := lines[i].series[0][0]
		for j := range lines[i].series {
			lines[i].series[j][0] /= first
		}
		lines[i].name = fmt.Sprintf("%s, from %g", lines[i].name, first)
	}
	return lines
}

// percentileLines are against 1/(1-p): 10, 100, 1000 are the 90th, 99th and 99.9th percentile.
func percentileLines(s *bench.Sheet) (lines []points) {
	for _, c := range s.Cases {
		if c.Latency == nil || c.Latency.Count() == 0 {
			continue
		}
		l := points{name: c.Server + ", " + c.Name}
		for x := 1.25; x <= min(float64(c.Latency.Count()), 1e5); x *= 1.25 {
			l.series = append(l.series, [2]float64{x, max(c.Latency.Percentile(100-100/x), 0.001)})
		}
		lines = append(lines, l)
	}
	return lines
}

const (
	width, left, right, top = 760.0, 60.0, 250.0, 36.0
	plotHigh                = 300.0
	barHigh                 = 20.0
	// What is ours is dark; the rest are told apart by it, and by their place in the legend.
	oursColor, theirsColor = "#1f5fa8", "#b8c4d0"
)

// colors are told apart also by those who see less of them.
var colors = []string{"#1f5fa8", "#e07b00", "#2a9d5c", "#c2334d", "#7a4fbf", "#8a6d3b", "#d16ba5", "#5a6b7b", "#a3a300", "#00a3a3"}

// begin writes the head of a picture on white, which is to be read on any page.
func begin(title string, high float64) *bytes.Buffer {
	b := new(bytes.Buffer)
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" font-family="sans-serif" font-size="12">`+"\n", width, high, width, high)
	fmt.Fprintf(b, `<rect width="100%%" height="100%%" fill="#fff"/>`+"\n")
	text(b, 10, 20, "start", `font-size="15"`, title)
	return b
}

func text(b *bytes.Buffer, x, y float64, anchor, more, words string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" %s>%s</text>`+"\n", x, y, anchor, more, html.EscapeString(words))
}

func drawBars(title string, bars []bar) []byte {
	most, label := 0.0, 180.0
	for _, one := range bars {
		most = max(most, one.value)
		label = max(label, 7*float64(len(one.label)))
	}
	high := top + float64(len(bars))*(barHigh+4) + 10
	b := begin(title, high)
	for i, one := range bars {
		y, color := top+float64(i)*(barHigh+4), theirsColor
		if one.ours {
			color = oursColor
		}
		long := (width - label - 90) * one.value / max(most, math.SmallestNonzeroFloat64)
		text(b, label-6, y+barHigh-6, "end", "", one.label)
		fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%g" fill="%s"/>`+"\n", label, y, max(long, 0), barHigh, color)
		text(b, label+max(long, 0)+5, y+barHigh-6, "start", "", short(one.value))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// short is a number as people say it.
func short(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e6:
		return fmt.Sprintf("%.3g M", v/1e6)
	case a >= 1e4:
		return fmt.Sprintf("%.3g k", v/1e3)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}

// axis maps values to places.
type axis struct {
	from, to float64 // values
	at, end  float64 // places
	log      bool
}

func newAxis(at, end float64, log bool, values []float64) axis {
	a := axis{from: values[0], to: values[0], at: at, end: end, log: log}
	for _, v := range values {
		a.from, a.to = min(a.from, v), max(a.to, v)
	}
	if log {
		a.from, a.to = math.Pow(10, math.Floor(math.Log10(a.from))), math.Pow(10, math.Ceil(math.Log10(a.to)))
	} else {
		a.from, a.to = 0, a.to*1.1 // From 0, so that what does not grow looks as if it did not.
	}
	if a.to <= a.from {
		a.to = a.from + 1
		if log {
			a.to = a.from * 10
		}
	}
	return a
}

func (a axis) place(v float64) float64 {
	share := (v - a.from) / (a.to - a.from)
	if a.log {
		share = math.Log(v/a.from) / math.Log(a.to/a.from)
	}
	return a.at + share*(a.end-a.at)
}

// ticks are round values.
func (a axis) ticks() (values []float64) {
	if a.log {
		for v := a.from; v <= a.to*1.001; v *= 10 {
			values = append(values, v)
		}
		return values
	}
	step := math.Pow(10, math.Floor(math.Log10(a.to)))
	for a.to/step < 4 {
		step /= 2
	}
	for v := 0.0; v <= a.to; v += step {
		values = append(values, v)
	}
	return values
}

func drawLines(title, xName string, logX, logY bool, lines []points) []byte {
	var xs, ys []float64
	for _, l := range lines {
		for _, p := range l.series {
			xs, ys = append(xs, p[0]), append(ys, p[1])
		}
	}
	high := max(top+plotHigh+44, top+20*float64(len(lines))+10)
	b := begin(title, high)
	x, y := newAxis(left, width-right, logX, xs), newAxis(top+plotHigh, top, logY, ys)
	for _, v := range x.ticks() {
		at := x.place(v)
		fmt.Fprintf(b, `<path d="M%.1f %.1fV%.1f" stroke="#ddd"/>`+"\n", at, top, top+plotHigh)
		text(b, at, top+plotHigh+16, "middle", "", short(v))
	}
	for _, v := range y.ticks() {
		at := y.place(v)
		fmt.Fprintf(b, `<path d="M%.1f %.1fH%.1f" stroke="#ddd"/>`+"\n", left, at, width-right)
		text(b, left-6, at+4, "end", "", short(v))
	}
	text(b, (left+width-right)/2, top+plotHigh+36, "middle", "", xName)
	for i, l := range lines {
		color := colors[i%len(colors)]
		dash := ""
		if i >= len(colors) {
			dash = ` stroke-dasharray="5 3"`
		}
		path := make([]string, len(l.series))
		for j, p := range l.series {
			path[j] = fmt.Sprintf("%.1f,%.1f", x.place(p[0]), y.place(p[1]))
			if len(l.series) < 10 {
				fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x.place(p[0]), y.place(p[1]), color)
			}
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"%s/>`+"\n", strings.Join(path, " "), color, dash)
		at := top + 12 + 20*float64(i)
		fmt.Fprintf(b, `<path d="M%.1f %.1fh18" stroke="%s" stroke-width="3"%s/>`+"\n", width-right+12, at-4, color, dash)
		text(b, width-right+36, at, "start", "", l.name)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
