package bench

import (
	"net/http"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"flannel/bench/load"
)

// Live is what the generators have counted so far, as metrics beside the node's own, flannel_load_…: for watching a run, not
// for its report. It may be used by several goroutines.
type Live struct {
	gather                              prometheus.Gatherer
	opened, queries, faults             *prometheus.CounterVec // server, and what became of them
	dropped, deliveries, objects, bytes *prometheus.CounterVec // server
	times                               liveTimes
}

// liveBuckets are seconds. The generators' own histograms are far finer; these are the node's for the same things, so that a
// panel can show both.
var liveBuckets = []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// NewLive returns one with a registry of its own.
func NewLive() *Live {
	reg := prometheus.NewRegistry()
	f := promauto.With(reg)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"server"}, labels...))
	}
	l := &Live{
		gather:     reg,
		opened:     counter("flannel_load_connections_opened_total", "Connections that the generators tried to open.", "outcome"),
		dropped:    counter("flannel_load_connections_dropped_total", "Connections that the server ended."),
		deliveries: counter("flannel_load_event_deliveries_total", "Messages that sessions got."),
		queries:    counter("flannel_load_query_requests_total", "Answers, by whether they were what was asked for.", "outcome"),
		objects:    counter("flannel_load_query_objects_total", "Objects in right answers."),
		faults:     counter("flannel_load_event_faults_total", "Messages that a session did not get, or got again.", "fault"),
		bytes:      counter("flannel_load_received_bytes_total", "Bytes that the generators read."),
		times:      liveTimes{of: make(map[string]*liveTime)},
	}
	reg.MustRegister(&l.times)
	return l
}

// Gather is what ServeHTTP shows.
func (l *Live) Gather() prometheus.Gatherer { return l.gather }

// ServeHTTP answers a scrape.
func (l *Live) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	promhttp.HandlerFor(l.gather, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(w, r)
}

// Begin makes the series of a server, at zero, so that its first report is a rate.
func (l *Live) Begin(server string) { l.Add(server, load.Counts{}, load.NewTimes()) }

// Add adds a generator's report.
func (l *Live) Add(server string, c load.Counts, t *load.Times) {
	for vec, n := range map[*prometheus.CounterVec]int64{l.dropped: c.Dropped, l.deliveries: c.Delivered, l.objects: c.Objects, l.bytes: c.Bytes} {
		vec.WithLabelValues(server).Add(float64(n))
	}
	for _, v := range []struct {
		vec   *prometheus.CounterVec
		label string
		n     int64
	}{
		{l.opened, "ok", c.Opened}, {l.opened, "refused", c.Refused}, {l.queries, "ok", c.Queries}, {l.queries, "wrong", c.Wrong},
		{l.faults, "lost", c.Missed}, {l.faults, "doubled", c.Doubled},
	} {
		v.vec.WithLabelValues(server, v.label).Add(float64(v.n))
	}
	l.times.add(server, t)
}

// liveTimes is a histogram by server that takes many observations at once, which prometheus.Histogram does not: there are
// hundreds of thousands a second.
type liveTimes struct {
	mu sync.Mutex
	of map[string]*liveTime // by server: as many as --compare has
}

type liveTime struct {
	buckets []uint64 // one more than liveBuckets; not cumulative
	sum     float64
}

var liveTimesDesc = prometheus.NewDesc("flannel_load_duration_seconds",
	"How long what the scenario times took: a connection, an answer or a delivery, from when it should have begun.", []string{"server"}, nil)

func (l *liveTimes) add(server string, t *load.Times) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.of[server]
	if of == nil {
		of = &liveTime{buckets: make([]uint64, len(liveBuckets)+1)}
		l.of[server] = of
	}
	t.Each(func(millis float64, n int64) {
		at, _ := slices.BinarySearch(liveBuckets, millis/1000)
		of.buckets[at] += uint64(n)
		of.sum += millis / 1000 * float64(n)
	})
}

// Describe implements prometheus.Collector.
func (l *liveTimes) Describe(ch chan<- *prometheus.Desc) { ch <- liveTimesDesc }

// Collect implements prometheus.Collector.
func (l *liveTimes) Collect(ch chan<- prometheus.Metric) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for server, of := range l.of {
		below, count := make(map[float64]uint64, len(liveBuckets)), uint64(0)
		for i, bound := range liveBuckets {
			count += of.buckets[i]
			below[bound] = count
		}
		ch <- prometheus.MustNewConstHistogram(liveTimesDesc, count+of.buckets[len(liveBuckets)], of.sum, below, server)
	}
}
