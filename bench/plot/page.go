package plot

import (
	"bytes"
	_ "embed" // the script
	"fmt"
	"html/template"
	"io"

	"github.com/go-echarts/go-echarts/v2/charts"
	"github.com/go-echarts/go-echarts/v2/opts"

	"flannel/bench"
	"flannel/bench/load"
)

//go:embed echarts.common.min.js
var script string

var page = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>flannel bench {{.Scenario}}</title>
<style>body{font-family:sans-serif;margin:2em auto;max-width:1100px}pre{overflow-x:auto}</style>
<script>{{.Script}}</script></head>
<body><h1>flannel bench {{.Scenario}}</h1>
<pre>{{.Table}}</pre>
{{range .Plots}}{{.Element}}{{.Code}}
{{end}}</body></html>
`))

// one is a plot on the page.
type one struct{ Element, Code template.HTML }

// WriteHTML writes the page.
func WriteHTML(w io.Writer, s *bench.Sheet) error {
	var table bytes.Buffer
	if err := s.WriteTable(&table); err != nil {
		return err
	}
	var plots []one
	add := func(c *charts.Line) {
		if c == nil {
			return
		}
		c.Initialization.Width, c.Initialization.Height = "1100px", "420px"
		snippet := c.RenderSnippet()
		// Both are made of our own words and numbers.
		plots = append(plots, one{template.HTML(snippet.Element), template.HTML(snippet.Script)}) //nolint:gosec // See above.
	}
	add(latency(s))
	add(overTime(s, "Rate", "a second", func(p bench.Sample) (float64, bool) { return p.Rate, true }))
	add(overTime(s, "p99 within each half second", "ms", func(p bench.Sample) (float64, bool) { return p.P99MS, p.P99MS > 0 }))
	add(overTime(s, "Resident memory of the server", "MiB", func(p bench.Sample) (float64, bool) { return p.Memory, p.Measured }))
	add(overTime(s, "Processor time of the server", "% of a core", func(p bench.Sample) (float64, bool) { return p.CPU, p.Measured }))
	add(overTime(s, "Calls to the backend", "calls", func(p bench.Sample) (float64, bool) { return p.Backend, true }))
	return page.Execute(w, struct {
		Scenario, Table string
		Script          template.JS
		Plots           []one
	}{s.Scenario, table.String(), template.JS(script), plots}) //nolint:gosec // The script is ours to choose.
}

// newLine begins a plot of lines.
func newLine(title, x, y string) *charts.Line {
	c := charts.NewLine()
	c.SetGlobalOptions(
		charts.WithTitleOpts(opts.Title{Title: title}),
		charts.WithTooltipOpts(opts.Tooltip{Show: opts.Bool(true), Trigger: "axis"}),
		charts.WithLegendOpts(opts.Legend{Show: opts.Bool(true), Top: "30"}),
		charts.WithGridOpts(opts.Grid{Top: "80"}),
		charts.WithXAxisOpts(opts.XAxis{Type: "value", Name: x}),
		charts.WithYAxisOpts(opts.YAxis{Type: "value", Name: y}),
	)
	return c
}

// latency draws the percentiles of all cases, towards the last ones ever wider: 90, 99, 99.9 are as far from each other.
func latency(s *bench.Sheet) *charts.Line {
	ticks := []float64{0, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.999, 100}
	labels := make([]string, len(ticks))
	for i, p := range ticks {
		labels[i] = fmt.Sprint(p)
	}
	c := newLine("Latency by percentile", "percentile", "ms")
	c.SetGlobalOptions(charts.WithXAxisOpts(opts.XAxis{Type: "category", Name: "percentile"}), charts.WithYAxisOpts(opts.YAxis{Type: "log", Name: "ms"}))
	c.SetXAxis(labels)
	drawn := 0
	for _, one := range s.Cases {
		if one.Latency == nil || one.Latency.Count() == 0 {
			continue
		}
		c.AddSeries(one.Server+", "+one.Name, percentiles(one.Latency, ticks))
		drawn++
	}
	if drawn == 0 {
		return nil
	}
	return c
}

func percentiles(t *load.Times, at []float64) []opts.LineData {
	data := make([]opts.LineData, len(at))
	for i, p := range at {
		data[i] = opts.LineData{Value: max(t.Percentile(p), 0.001)} // 0 has no place on a logarithmic axis.
	}
	return data
}

// overTime draws what fn says of each sample of the first run of each server.
func overTime(s *bench.Sheet, title, unit string, fn func(bench.Sample) (float64, bool)) *charts.Line {
	c := newLine(title, "seconds", unit)
	drawn := 0
	for _, series := range s.Series {
		var data []opts.LineData
		for _, p := range series.Samples {
			if v, ok := fn(p); ok {
				data = append(data, opts.LineData{Value: []float64{p.Seconds, v}})
			}
		}
		if len(data) > 0 {
			c.AddSeries(series.Server, data)
			drawn++
		}
	}
	if drawn == 0 {
		return nil
	}
	return c
}
