package affinity

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics of the membership. Label sets are closed, and every known value exists at zero. memberlist keeps its own numbers
// in a registry of the process, which two nodes in one process would share; so they are counted here, at its doors.
type metrics struct {
	members    *prometheus.GaugeVec // state
	partitions prometheus.Gauge
	spread     prometheus.Gauge
	mean, full prometheus.Gauge
	moved      prometheus.Counter
	events     *prometheus.CounterVec // event
	placements map[string]prometheus.Counter
	joins      *prometheus.CounterVec // outcome
	announced  *prometheus.CounterVec // outcome
	rekeyed    *prometheus.CounterVec // outcome
	lines      *prometheus.CounterVec // level
	packets    prometheus.Counter
	bytes      prometheus.Counter
	streams    *prometheus.CounterVec // outcome
	probes     prometheus.Histogram
}

var (
	events     = []string{"join", "update", "gone", "conflict", "refused"}
	placements = []string{ByOwner, ByStandIn, ByOverflow, ByNobody}
	outcomes   = []string{"ok", "failed"}
	levels     = []string{"debug", "warn", "error"}
)

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	vec := func(name, help, label string, values []string) *prometheus.CounterVec {
		v := f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		for _, value := range values {
			v.WithLabelValues(value)
		}
		return v
	}
	m := &metrics{
		members:    f.NewGaugeVec(prometheus.GaugeOpts{Name: "flannel_cluster_members", Help: "Nodes of the region that this node knows, itself included, by state."}, []string{"state"}),
		partitions: gauge("flannel_cluster_partitions", "Partitions that this node owns, of 65,536."),
		spread:     gauge("flannel_cluster_spread_workspaces", "Workspaces of the region that are spread over several owners."),
		mean:       gauge("flannel_cluster_mean_sessions", "Mean of the sessions that active nodes announce."),
		full:       gauge("flannel_cluster_full_sessions", "Announced sessions from which on a node gets no new ones."),
		moved:      counter("flannel_cluster_moved_partitions_total", "Partitions that got another owner."),
		events:     vec("flannel_cluster_events_total", "What gossip told of members: they joined, changed what they say, went; two of one name; one that may not be in.", "event", events),
		placements: make(map[string]prometheus.Counter),
		joins:      vec("flannel_cluster_joins_total", "Attempts to join at addresses of seeds.", "outcome", outcomes),
		announced:  vec("flannel_cluster_announcements_total", "Attempts to tell others of this node's state and load.", "outcome", outcomes),
		rekeyed:    vec("flannel_cluster_rekeys_total", "Readings of keys_file that changed the keys, or could not be used.", "outcome", outcomes),
		lines:      vec("flannel_cluster_log_lines_total", "Lines that memberlist logged.", "level", levels),
		packets:    counter("flannel_cluster_sent_packets_total", "Gossip packets sent."),
		bytes:      counter("flannel_cluster_sent_bytes_total", "Bytes of gossip packets sent."),
		streams:    vec("flannel_cluster_streams_total", "Connections opened to other nodes for whole states and for probes that got no packet back.", "outcome", outcomes),
		probes: f.NewHistogram(prometheus.HistogramOpts{
			Name: "flannel_cluster_probe_duration_seconds", Help: "How long other nodes took to answer a probe.", Buckets: []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
		}),
	}
	by := vec("flannel_cluster_placements_total", "Users who were given an address, by why it is that node's: the owner's; a stand-in's, because the owner does not serve; another's, because the owner is full; this node's, because nobody serves.", "by", placements)
	for _, p := range placements {
		m.placements[p] = by.WithLabelValues(p)
	}
	for _, s := range states {
		m.members.WithLabelValues(string(s))
	}
	return m
}

// watch shows memberlist's health score.
func (*metrics) watch(reg prometheus.Registerer, health func() float64) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{Name: "flannel_cluster_health_score", Help: "How badly this node keeps up with gossip: 0 is well, up to 8. Above 0 for long, it lacks CPU or network."}, health)
}

// see shows a view.
func (m *metrics) see(v *View) {
	count := make(map[State]int)
	for i := range v.members {
		count[v.members[i].State]++
	}
	for _, s := range states {
		m.members.WithLabelValues(string(s)).Set(float64(count[s]))
	}
	m.partitions.Set(float64(v.ring.Count(v.self)))
	m.spread.Set(float64(len(v.spread)))
	m.mean.Set(float64(v.mean))
	m.full.Set(float64(v.full))
}

func outcome(err error) string {
	if err != nil {
		return "failed"
	}
	return "ok"
}
