package observe

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Board is a dashboard. Its first row answers "is it on fire?" and is open, the others are not.
type Board struct {
	UID, Title, Description string
	Rows                    []Row
}

// Row is a row of panels.
type Row struct {
	Title  string
	Panels []Panel
}

// Panel is one picture.
type Panel struct {
	Title string
	// Unit is Grafana's name of it: s, bytes, ops, percentunit, short.
	Unit string
	// Bad says what a bad picture looks like, and what then: it is the panel's description.
	Bad     string
	Kind    kind
	Queries []Query
}

// kind is how Grafana draws a panel.
type kind string

const (
	curves kind = "timeseries"
	number kind = "stat"    // the newest value
	heat   kind = "heatmap" // how often each value, over time: of one histogram
)

// Query is one expression of a panel. In it, SEL stands for the variables' label matchers and RATE for the interval of rates.
type Query struct {
	Expr, Legend string
}

// matchers are what the variables choose; all by default. A region is a label that targets have or not: where they have none,
// all fits.
const matchers = `job=~"$job", region=~"$region", instance=~"$instance"`

// Grafana returns the expression as it stands in a dashboard.
func (q Query) Grafana() string {
	return strings.NewReplacer("{SEL}", "{"+matchers+"}", "SEL", matchers, "RATE", "$__rate_interval").Replace(q.Expr)
}

// Prometheus returns the expression for all nodes, with rates over an interval.
func (q Query) Prometheus(interval string) string {
	const all = `job=~".*", region=~".*", instance=~".*"`
	return strings.NewReplacer("{SEL}", "{"+all+"}", "SEL", all, "RATE", interval, "$quantile", "0.99").Replace(q.Expr)
}

// rate is the sum of a counter's rates, by labels.
func rate(legend, metric, by string, match ...string) Query {
	sel := strings.Join(append(match, "SEL"), ", ")
	if by == "" {
		return Query{fmt.Sprintf("sum(rate(%s{%s}[RATE]))", metric, sel), legend}
	}
	return Query{fmt.Sprintf("sum by (%s) (rate(%s{%s}[RATE]))", by, metric, sel), legend}
}

// quantile is of a classic histogram or, where only native ones are scraped, of that.
func quantile(legend, metric, q string, match ...string) Query {
	sel := strings.Join(append(match, "SEL"), ", ")
	return Query{fmt.Sprintf("histogram_quantile(%[1]s, sum by (le) (rate(%[2]s_bucket{%[3]s}[RATE]))) or histogram_quantile(%[1]s, sum(rate(%[2]s{%[3]s}[RATE])))", q, metric, sel), legend}
}

// buckets are of a classic histogram or, where only native ones are scraped, of that.
func buckets(metric string) Query {
	return Query{fmt.Sprintf("sum by (le) (increase(%[1]s_bucket{SEL}[RATE])) or sum(increase(%[1]s{SEL}[RATE]))", metric), "{{le}}"}
}

// gauge is the sum of a gauge over the nodes, by labels.
func gauge(legend, metric, by string, match ...string) Query {
	sel := strings.Join(append(match, "SEL"), ", ")
	if by == "" {
		return Query{fmt.Sprintf("sum(%s{%s})", metric, sel), legend}
	}
	return Query{fmt.Sprintf("sum by (%s) (%s{%s})", by, metric, sel), legend}
}

const (
	panelWidth, panelHeight = 8, 7
	gridWidth               = 24
)

// JSON returns the board as Grafana imports it.
func (b *Board) JSON() ([]byte, error) {
	type object = map[string]any
	var panels []object
	id, y := 0, 0
	place := func(p Panel, x, y int) object {
		id++
		var targets []object
		fields, options := object{"unit": p.Unit, "min": 0}, object{}
		format := "time_series"
		if p.Kind == heat { // Its values are how often; what has the unit is the axis.
			format, fields = "heatmap", object{}
			options = object{"calculate": false, "yAxis": object{"unit": p.Unit}, "color": object{"mode": "scheme", "scheme": "Oranges", "scale": "exponential", "exponent": 0.5}}
		}
		for i, q := range p.Queries {
			targets = append(targets, object{"refId": string(rune('A' + i)), "expr": q.Grafana(), "legendFormat": q.Legend, "format": format, "datasource": object{"type": "prometheus", "uid": "${datasource}"}})
		}
		return object{
			"id": id, "type": p.Kind, "options": options, "title": p.Title, "description": p.Bad, "targets": targets,
			"datasource":  object{"type": "prometheus", "uid": "${datasource}"},
			"fieldConfig": object{"defaults": fields, "overrides": []object{}},
			"gridPos":     object{"x": x, "y": y, "w": panelWidth, "h": panelHeight},
		}
	}
	for i, row := range b.Rows {
		id++
		head := object{"id": id, "type": "row", "title": row.Title, "collapsed": i > 0, "gridPos": object{"x": 0, "y": y, "w": gridWidth, "h": 1}}
		y++
		inside := []object{}
		for n, p := range row.Panels {
			at := place(p, n*panelWidth%gridWidth, y+n*panelWidth/gridWidth*panelHeight)
			inside = append(inside, at)
		}
		y += (len(row.Panels)*panelWidth + gridWidth - 1) / gridWidth * panelHeight
		if i == 0 { // Panels of an open row stand beside it, of a closed one in it.
			head["panels"] = []object{}
			panels = append(append(panels, head), inside...)
		} else {
			head["panels"] = inside
			panels = append(panels, head)
		}
	}
	choose := func(name, metric string) object {
		return object{
			"name": name, "type": "query", "datasource": object{"type": "prometheus", "uid": "${datasource}"}, "refresh": 2,
			"query": fmt.Sprintf("label_values(%s, %s)", metric, name), "multi": true, "includeAll": true, "allValue": ".*", "current": object{"text": []string{"All"}, "value": []string{"$__all"}},
		}
	}
	note := func(name, expr, color string) object {
		return object{"name": name, "enable": true, "iconColor": color, "expr": expr, "datasource": object{"type": "prometheus", "uid": "${datasource}"}, "titleFormat": name + " {{instance}}"}
	}
	return json.MarshalIndent(object{
		"uid": b.UID, "title": b.Title, "description": b.Description, "tags": []string{"flannel"}, "schemaVersion": 39, "editable": true,
		"time": object{"from": "now-1h", "to": "now"}, "refresh": "30s", "timezone": "", "panels": panels,
		"links": []object{{"type": "dashboards", "title": "flannel", "tags": []string{"flannel"}, "asDropdown": true, "includeVars": true, "keepTime": true}},
		"templating": object{"list": []object{
			{"name": "datasource", "type": "datasource", "query": "prometheus", "current": object{}},
			choose("job", "flannel_build_info"), choose("region", `flannel_build_info{job=~"$job"}`), choose("instance", `flannel_build_info{job=~"$job", region=~"$region"}`),
			{"name": "quantile", "type": "custom", "query": "0.5,0.9,0.99,0.999", "current": object{"text": "0.99", "value": "0.99"}},
			{"name": "filter", "type": "adhoc", "datasource": object{"type": "prometheus", "uid": "${datasource}"}},
		}},
		"annotations": object{"list": []object{
			note("drain", `flannel_draining{job=~"$job"} == 1`, "orange"),
			note("start", `changes(process_start_time_seconds{job=~"$job"}[1m]) > 0`, "blue"),
		}},
	}, "", "  ")
}
