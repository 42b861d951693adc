package observe

import (
	"fmt"
	"strings"
)

// SLO is a service level: of all that was tried, the part that was good is to be at least Objective, over 30 days.
type SLO struct {
	Name      string  // in metric names
	Title     string  // in alerts: Flannel<Title>Budget…
	Objective float64 // in percent
	What      string  // is good
	// Bad and Total are rates with %s where the window stands.
	Bad, Total string
}

// under returns a level of so many observations of a histogram below a bound, which is one of its buckets; labels are its own.
func under(histogram, bound string, labels ...string) (bad, total string) {
	without := strings.Join(append([]string{"instance", "pod", "le"}, labels...), ", ")
	total = "sum without (" + without + ") (rate(" + histogram + "_count[%[1]s]))"
	return total + " - sum without (" + without + ") (rate(" + histogram + "_bucket{" + le(bound) + "}[%[1]s]))", total
}

// le matches a bucket. A whole number is 1 in Prometheus's own text, and 1.0 in OpenMetrics, which Prometheus 2 asks for,
// and in all that Prometheus 3 stores.
func le(bound string) string {
	if strings.Contains(bound, ".") {
		return `le="` + bound + `"`
	}
	return `le=~"` + bound + "|" + bound + `.0"`
}

// SLOs are the service levels.
func SLOs() []SLO {
	list := []SLO{
		{
			Name: "connect", Title: "Connect", Objective: 99.9, What: "sockets that were opened, of those whose token and address were right",
			Bad:   `sum without (instance, pod, outcome) (rate(flannel_connections_opened_total{outcome=~"failed|overloaded|unavailable"}[%[1]s]))`,
			Total: `sum without (instance, pod, outcome) (rate(flannel_connections_opened_total{outcome=~"failed|ok|overloaded|unavailable"}[%[1]s]))`,
		},
		{Name: "boot", Title: "Boot", Objective: 99, What: "sessions that had their boot within 1 s"},
		{Name: "query", Title: "Query", Objective: 99.5, What: "reads that were answered within 250 ms"},
		{Name: "delivery", Title: "Delivery", Objective: 99.5, What: "writes to sockets whose first frame had waited less than 1 s"},
		{Name: "freshness", Title: "Freshness", Objective: 99.9, What: "look-ups of a node that had heard within 5 s that it is up to date"},
		{
			Name: "write", Title: "Write", Objective: 99.9, What: "forwarded calls that the backend answered",
			Bad:   `sum without (instance, pod, op, outcome) (rate(flannel_writes_total{outcome="unavailable"}[%[1]s]))`,
			Total: `sum without (instance, pod, op, outcome) (rate(flannel_writes_total[%[1]s]))`,
		},
	}
	for i := range list {
		switch s := &list[i]; s.Name {
		case "boot":
			s.Bad, s.Total = under("flannel_handshake_duration_seconds", "1")
		case "query":
			s.Bad, s.Total = under("flannel_query_request_seconds", "0.25", "method")
		case "delivery":
			s.Bad, s.Total = under("flannel_outbox_wait_seconds", "1")
		case "freshness":
			s.Bad, s.Total = under("flannel_cache_staleness_seconds", "5")
		}
	}
	return list
}

// windows of the recorded rates.
var windows = []string{"5m", "30m", "1h", "2h", "6h", "1d", "3d"}

// burn is a pair of windows: in both of them the error budget of 30 days is used up so many times as fast as it may be.
// The pairs are those of the Site Reliability Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts".
type burn struct {
	factor      float64
	long, short string
	severity    string
	budget      string // used up when it fires
}

var burns = []burn{
	{14.4, "1h", "5m", "page", "2 %"},
	{6, "6h", "30m", "page", "5 %"},
	{3, "1d", "2h", "ticket", "10 %"},
	{1, "3d", "6h", "ticket", "10 %"},
}

// ratio is the name of a level's recorded part of bad ones.
func (s *SLO) ratio(window string) string {
	return "job:flannel_" + s.Name + "_bad:ratio_rate" + window
}

// total is the name of a level's recorded rate of all.
func (s *SLO) total(window string) string { return "job:flannel_" + s.Name + ":rate" + window }

// record returns the recording rules of a level.
func (s *SLO) record() []Rule {
	var rules []Rule
	for _, w := range windows {
		bad, total := fmt.Sprintf(s.Bad, w), fmt.Sprintf(s.Total, w)
		rules = append(rules,
			Rule{Record: s.total(w), Expr: total},
			// Nothing tried is nothing bad: without traffic there is 0, not no value. With traffic and without the series of bad
			// ones there is no value, which FlannelLevelsBlind sees.
			Rule{Record: s.ratio(w), Expr: fmt.Sprintf("(%s) / (%s > 0) or (%s == 0)", bad, total, total)})
	}
	return rules
}

// leastTraffic is the rate, a second, below which a ratio says nothing: one bad one would page.
const leastTraffic = 0.1

// alert returns the alerts of a level: one name for each severity.
func (s *SLO) alert() []Rule {
	var rules []Rule
	for _, b := range burns {
		allowed := (100 - s.Objective) / 100
		name := "Flannel" + s.Title + "BudgetBurnsFast"
		if b.severity == "ticket" {
			name = "Flannel" + s.Title + "BudgetBurns"
		}
		limit := fmt.Sprintf("%.6g", b.factor*allowed)
		rules = append(rules, Rule{
			Alert: name, For: "2m", Severity: b.severity, Runbook: "slo-" + s.Name, Window: b.long,
			Expr:    fmt.Sprintf("%s > %s and %s > %s and %s > %g", s.ratio(b.long), limit, s.ratio(b.short), limit, s.total(b.long), leastTraffic),
			Summary: fmt.Sprintf("%s: the error budget burns %g times as fast as it may", s.Title, b.factor),
			Description: fmt.Sprintf("{{ $value | humanizePercentage }} were bad in the last %s, and too many in the last %s; good are %s, %g %% of them at least over 30 days. %s of the month's budget is gone.",
				b.long, b.short, s.What, s.Objective, b.budget),
		})
	}
	return rules
}
