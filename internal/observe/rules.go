package observe

import (
	"fmt"
	"strconv"
	"strings"
)

// Rule is a recording rule (Record) or an alert.
type Rule struct {
	Record string
	Alert  string
	Expr   string
	For    string // a Prometheus duration, "" for at once
	// Severity is page, ticket or info; Runbook the name of a page in docs/runbooks, without .md.
	Severity, Runbook, Summary, Description string
	Window                                  string // tells alerts of one name apart; "" for none
}

// Group is a group of rules, evaluated one after the other.
type Group struct {
	Name  string
	Rules []Rule
}

// Groups returns all rules.
func Groups() []Group {
	recorded := Group{Name: "flannel-levels"}
	alerts := Group{Name: "flannel-budgets"}
	for _, s := range SLOs() {
		recorded.Rules = append(recorded.Rules, s.record()...)
		alerts.Rules = append(alerts.Rules, s.alert()...)
	}
	return []Group{recorded, alerts, {"flannel-symptoms", symptoms}, {"flannel-causes", causes}}
}

// symptoms are felt by users.
var symptoms = []Rule{
	{
		Alert: "FlannelDown", Expr: `sum by (job) (up{job=~".*flannel.*"}) == 0`, For: "1m", Severity: "page", Runbook: "down",
		Summary: "No flannel node of {{ $labels.job }} answers", Description: "No target of {{ $labels.job }} could be scraped for a minute: clients cannot connect, or nobody would see it.",
	},
	{
		Alert: "FlannelReconnectStorm", For: "2m", Severity: "page", Runbook: "reconnect-storm",
		Expr:    `sum without (instance, pod, outcome) (rate(flannel_connections_opened_total[2m])) > 50 and sum without (instance, pod, outcome) (rate(flannel_connections_opened_total[2m])) > 10 * sum without (instance, pod, outcome) (rate(flannel_connections_opened_total[1h] offset 5m))`,
		Summary: "Clients come back in thousands", Description: "{{ $value | humanize }} sockets a second are opened, more than ten times as many as in the last hour.",
	},
	{
		Alert: "FlannelPanics", Expr: `sum without (instance, pod) (increase(flannel_panics_total[10m])) > 0`, Severity: "page", Runbook: "panics",
		Summary: "flannel has a fault", Description: "{{ $value | humanize }} sessions or calls ended by a fault of ours in ten minutes; the log line \"session panicked\" has the stack.",
	},
	{
		Alert: "FlannelCacheWrong", Expr: `sum without (instance, pod, result) (increase(flannel_audit_checks_total{result="mismatch"}[30m])) + sum without (instance, pod, result) (increase(flannel_audit_user_checks_total{result="mismatch"}[30m])) > 0`, Severity: "page", Runbook: "cache-wrong",
		Summary: "The cache is not what the backend says", Description: "The auditor found {{ $value | humanize }} cached objects or user states in half an hour that are not the backend's. The target is none, ever.",
	},
}

// causes are worth a look before users feel them.
var causes = []Rule{
	{
		Alert: "FlannelTargetMissing", Expr: `up{job=~".*flannel.*"} == 0`, For: "5m", Severity: "ticket", Runbook: "down",
		Summary: "{{ $labels.instance }} cannot be scraped", Description: "{{ $labels.instance }} of {{ $labels.job }} has not answered for five minutes.",
	},
	{
		// Prometheus may be told to keep native histograms only. Then there is nothing to alert on, and nobody would know.
		Alert: "FlannelLevelsBlind", For: "15m", Severity: "ticket", Runbook: "levels-blind",
		Expr:    "count by (job) (flannel_connections) unless count by (job) (flannel_handshake_duration_seconds_bucket{" + le("1") + "})",
		Summary: "Prometheus does not keep what the service levels of {{ $labels.job }} are made of", Description: "There are nodes, {{ $value }} of them, but no bucket of 1 s of their histograms: boot, query, delivery and freshness cannot alert.",
	},
	{
		// It tells Alertmanager what is meant to happen: docs/runbooks/README.md.
		Alert: "FlannelDraining", Expr: `flannel_draining == 1`, Severity: "info", Runbook: "drain-stuck",
		Summary: "{{ $labels.instance }} says goodbye to its sessions", Description: "They go to other nodes, and nobody new comes.",
	},
	{
		Alert: "FlannelDrainStuck", Expr: `time() - flannel_drain_deadline_timestamp_seconds > 60 and flannel_drain_deadline_timestamp_seconds > 0 and flannel_draining == 1`, For: "1m", Severity: "ticket", Runbook: "drain-stuck",
		Summary: "{{ $labels.instance }} does not end its drain", Description: "The drain's deadline is over by {{ $value | humanizeDuration }}.",
	},
	{
		Alert: "FlannelBreakerOpen", Expr: `max without (state) (flannel_upstream_breaker_state{state="open"}) == 1`, For: "1m", Severity: "ticket", Runbook: "backend-away",
		Summary: "{{ $labels.instance }} has given up asking the backend: {{ $labels.call }}", Description: "The circuit breaker of {{ $labels.call }} is open. Reads are served from the cache, marked stale, for ten minutes.",
	},
	{
		Alert: "FlannelStreamDown", Expr: `flannel_upstream_stream_up == 0`, For: "30s", Severity: "ticket", Runbook: "backend-away",
		Summary: "{{ $labels.instance }} hears no events", Description: "The stream of events is down or behind. Clients see nothing new, and what is private is not shown.",
	},
	{
		Alert: "FlannelStreamLags", Expr: `flannel_upstream_stream_lag_seconds > 5`, For: "2m", Severity: "ticket", Runbook: "backend-away",
		Summary: "Events reach {{ $labels.instance }} late", Description: "What is sent on the stream takes {{ $value | humanizeDuration }} to come back.",
	},
	{
		Alert: "FlannelOutboxDrops", Expr: `sum without (instance, pod, class) (rate(flannel_events_dropped_total{class=~"control|message"}[5m])) > 1`, For: "5m", Severity: "ticket", Runbook: "slow-clients",
		Summary: "Outboxes overflow", Description: "{{ $value | humanize }} frames a second find no room: those clients are closed, and have to fetch everything again.",
	},
	{
		Alert: "FlannelResumesFail", For: "10m", Severity: "ticket", Runbook: "resumes-fail",
		Expr:    `sum without (instance, pod, mode) (rate(flannel_resume_total{mode="resync"}[10m])) / (sum without (instance, pod, mode) (rate(flannel_resume_total[10m])) > 0.1) > 0.2`,
		Summary: "Clients that come back have to fetch everything again", Description: "{{ $value | humanizePercentage }} of the sessions that came back could not be told what they missed.",
	},
	{
		Alert: "FlannelCacheHitsLow", For: "15m", Severity: "ticket", Runbook: "cache-hits-low",
		Expr:    `sum without (instance, pod, kind, result) (rate(flannel_cache_lookups_total{result="hit"}[10m])) / (sum without (instance, pod, kind, result) (rate(flannel_cache_lookups_total[10m])) > 10) < 0.8`,
		Summary: "The cache knows too little", Description: "Only {{ $value | humanizePercentage }} of the look-ups find something.",
	},
	{
		Alert: "FlannelConnectionsSkewed", For: "30m", Severity: "ticket", Runbook: "connections-skewed",
		Expr:    `max without (instance, pod) (flannel_connections) / avg without (instance, pod) (flannel_connections) > 1.5 and avg without (instance, pod) (flannel_connections) > 100`,
		Summary: "One node has far more clients than the others", Description: "The busiest node has {{ $value | humanize }} times the mean.",
	},
	{
		Alert: "FlannelConnectionsNearLimit", Expr: `flannel_connections / flannel_connections_limit > 0.9`, For: "10m", Severity: "ticket", Runbook: "near-limit",
		Summary: "{{ $labels.instance }} is nearly full", Description: "It has {{ $value | humanizePercentage }} of the sockets that edge.max_sessions allows.",
	},
	{
		Alert: "FlannelFilesNearLimit", Expr: `process_open_fds{job=~".*flannel.*"} / process_max_fds > 0.8`, For: "10m", Severity: "ticket", Runbook: "near-limit",
		Summary: "{{ $labels.instance }} runs out of file descriptors", Description: "{{ $value | humanizePercentage }} of them are in use.",
	},
	{
		Alert: "FlannelMemoryNearLimit", Expr: `flannel_memory_pressure > 0`, For: "1m", Severity: "ticket", Runbook: "near-limit",
		Summary: "{{ $labels.instance }} runs out of memory", Description: "Level {{ $value }}: 1 drops typing and holds presence back, 2 turns new sockets away, too, 3 closes the sessions for which most waits, too.",
	},
	{
		Alert: "FlannelConfigReloadFailed", Expr: `flannel_config_last_reload_success == 0`, For: "5m", Severity: "ticket", Runbook: "reload-failed",
		Summary: "{{ $labels.instance }} could not read its configuration", Description: "It runs on with the configuration before. What is wrong stands in its log.",
	},
	{
		Alert: "FlannelGoroutinesGrow", Expr: `go_goroutines{job=~".*flannel.*"} > 5000 and go_goroutines > 2 * (go_goroutines offset 1h)`, For: "15m", Severity: "ticket", Runbook: "goroutines-grow",
		Summary: "{{ $labels.instance }} has ever more goroutines", Description: "{{ $value | humanize }}, twice as many as an hour ago. An idle session needs none.",
	},
	{
		Alert: "FlannelMembersFlap", Expr: `increase(flannel_cluster_events_total{event="gone"}[30m]) > 5`, Severity: "ticket", Runbook: "split-brain",
		Summary: "Nodes come and go in the eyes of {{ $labels.instance }}", Description: "{{ $value | humanize }} members went in half an hour.",
	},
	{
		Alert: "FlannelSplitBrain", For: "5m", Severity: "page", Runbook: "split-brain",
		Expr:    `max without (instance, pod, state) (flannel_cluster_members{state="active"}) != min without (instance, pod, state) (flannel_cluster_members{state="active"})`,
		Summary: "Nodes do not see the same members", Description: "One sees {{ $value | humanize }} that serve, others fewer. Clients are served correctly by any node, but workspaces have two owners.",
	},
	{
		Alert: "FlannelVersionsDiffer", Expr: `count by (job) (count by (job, version) (flannel_build_info)) > 1`, For: "1h", Severity: "info", Runbook: "versions-differ",
		Summary: "Nodes of {{ $labels.job }} run different versions", Description: "{{ $value }} versions have run for an hour: a rollout that stopped half-way?",
	},
	{
		Alert: "FlannelConfigurationsDiffer", Expr: `count by (job) (count by (job, hash) (flannel_config_hash_info)) > 1`, For: "1h", Severity: "info", Runbook: "versions-differ",
		Summary: "Nodes of {{ $labels.job }} are configured differently", Description: "{{ $value }} configurations have been in use for an hour; node names and addresses count.",
	},
	{
		Alert: "FlannelPresenceSuppressed", Expr: `flannel_presence_suppressed == 1`, For: "30m", Severity: "info", Runbook: "presence-suppressed",
		Summary: "{{ $labels.instance }} tells no presence", Description: "It is switched off, or a storm of sockets has lasted half an hour.",
	},
}

// runbooks is where the pages are, in this repository: put the address in front at which your people read it. So it is with
// dashboards and Grafana's address.
const (
	runbooks   = "docs/runbooks/"
	dashboards = "/d/"
)

// boardOf is the dashboard on which one sees what a page is about.
var boardOf = map[string]*Board{
	"slo-connect": &overview, "slo-boot": &overview, "slo-query": &overview, "slo-delivery": &overview, "slo-freshness": &overview, "slo-write": &overview,
	"down": &overview, "levels-blind": &overview,
	"reconnect-storm": &connections, "resumes-fail": &connections, "connections-skewed": &connections, "drain-stuck": &connections,
	"backend-away": &cacheAndBackend, "cache-hits-low": &cacheAndBackend, "cache-wrong": &cacheAndBackend,
	"slow-clients": &fanout, "presence-suppressed": &fanout,
	"split-brain": &cluster,
	"near-limit":  &runtime, "reload-failed": &runtime, "goroutines-grow": &runtime, "panics": &runtime, "versions-differ": &runtime,
}

// YAML returns the rules as Prometheus reads them.
func YAML() string {
	var b strings.Builder
	b.WriteString("# Written by go test ./internal/observe -update: change the tables there.\ngroups:\n")
	for _, g := range Groups() {
		fmt.Fprintf(&b, "  - name: %s\n    rules:\n", g.Name)
		for _, r := range g.Rules {
			if r.Record != "" {
				fmt.Fprintf(&b, "      - record: %s\n        expr: %s\n", r.Record, strconv.Quote(r.Expr))
				continue
			}
			fmt.Fprintf(&b, "      - alert: %s\n        expr: %s\n", r.Alert, strconv.Quote(r.Expr))
			if r.For != "" {
				fmt.Fprintf(&b, "        for: %s\n", r.For)
			}
			labels := "severity: " + r.Severity
			if r.Window != "" {
				labels += ", window: " + r.Window
			}
			fmt.Fprintf(&b, "        labels: {%s}\n        annotations:\n", labels)
			for _, a := range [][2]string{{"summary", r.Summary}, {"description", r.Description}, {"runbook_url", runbooks + r.Runbook + ".md"}, {"dashboard_url", dashboards + boardOf[r.Runbook].UID}} {
				fmt.Fprintf(&b, "          %s: %s\n", a[0], strconv.Quote(a[1]))
			}
		}
	}
	return b.String()
}
