package cache

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"flannel/protocol"
)

// result of a look-up, as a label.
type result int

const (
	resultHit result = iota
	resultMiss
	resultStale
	resultNegative
	numResults
)

var resultNames = [numResults]string{"hit", "miss", "stale", "negative"}

// otherKind is the label of ids that name no kind; userState, memberSet and identity are look-ups of what is no object.
const (
	otherKind     protocol.Kind = "other"
	userState     protocol.Kind = "user_state"
	memberSet     protocol.Kind = "member_set"
	directoryKind protocol.Kind = "directory"
	identityKind  protocol.Kind = "identity"
)

// Reasons of evictions, as labels.
const (
	evictCost   = "cost"   // objects, by ristretto
	evictBound  = "bound"  // user states, sets, directories, identities, refused tokens: too many
	evictGrace  = "grace"  // user states and directories that nobody used any more
	evictExpiry = "expiry" // identities
)

// Sources of invalidations, as labels.
const (
	invalidEvent      = "event"
	invalidReset      = "reset"
	invalidUnfollowed = "unfollowed"
	invalidRevoked    = "revoked"
	invalidAudit      = "audit" // what was found to be wrong
)

type lookups [numResults]prometheus.Counter

type metrics struct {
	lookups       map[protocol.Kind]*lookups // fixed after construction
	evictions     map[string]prometheus.Counter
	invalidations map[string]prometheus.Counter
	rejected      prometheus.Counter
	discarded     prometheus.Counter
	outrun        prometheus.Counter
	staleness     prometheus.Histogram
}

// newMetrics registers the package's metrics. Gauges read c when they are asked.
func newMetrics(reg prometheus.Registerer, c *Cache) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		lookups: make(map[protocol.Kind]*lookups), evictions: make(map[string]prometheus.Counter), invalidations: make(map[string]prometheus.Counter),
		rejected:  f.NewCounter(prometheus.CounterOpts{Name: "flannel_cache_rejected_sets_total", Help: "Objects that ristretto dropped or refused to take in."}),
		discarded: f.NewCounter(prometheus.CounterOpts{Name: "flannel_cache_fill_discarded_total", Help: "Loaded objects, sets, users and identities that could not be kept."}),
		outrun:    f.NewCounter(prometheus.CounterOpts{Name: "flannel_cache_fill_outrun_total", Help: "Of those, the ones that have to be loaded again because of newer events."}),
		staleness: f.NewHistogram(prometheus.HistogramOpts{
			Name: "flannel_cache_staleness_seconds", Help: "Time since the node last heard that it was up to date, at a sample of the look-ups that were served.",
			Buckets: []float64{0.01, 0.1, 0.5, 1, 2, 5, 15, 60, 300, 600},

			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
		}),
	}
	vec := f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_cache_lookups_total", Help: "Look-ups by kind and result."}, []string{"kind", "result"})
	for _, kind := range append([]protocol.Kind{otherKind, userState, memberSet, directoryKind, identityKind}, protocol.Kinds...) {
		m.lookups[kind] = new(lookups)
		for r, name := range resultNames {
			m.lookups[kind][r] = vec.WithLabelValues(string(kind), name)
		}
	}
	evictions := f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_cache_evictions_total", Help: "What was given up, by reason."}, []string{"reason"})
	for _, reason := range []string{evictCost, evictBound, evictGrace, evictExpiry} {
		m.evictions[reason] = evictions.WithLabelValues(reason)
	}
	invalidations := f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_cache_invalidations_total", Help: "What became void, by source: objects for events, topics for resets, and so on."}, []string{"source"})
	for _, source := range []string{invalidEvent, invalidReset, invalidUnfollowed, invalidRevoked, invalidAudit} {
		m.invalidations[source] = invalidations.WithLabelValues(source)
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "flannel_cache_bytes", Help: "Bytes of cached objects."}, func() float64 { return float64(c.objects.bytes()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "flannel_cache_directory_bytes", Help: "Bytes of directories and of the numbering of ids that they share with member sets."}, func() float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return float64(c.directoryBytes())
	})
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "flannel_cache_member_set_bytes", Help: "Bytes of member sets."}, func() float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return float64(c.setBytes)
	})
	for name, of := range map[string]func() int{
		"user_state": c.numUsers, "member_set": c.numSets, "directory": c.directories.len, "identity": c.numIdentities, "refused_token": c.refused.len, "topic": c.numTopics, "recent_event": c.numRecent,
	} {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: "flannel_cache_items", Help: "What is held besides objects.", ConstLabels: prometheus.Labels{"kind": name}},
			func() float64 { return float64(of()) })
	}
	return m
}

// looked counts a look-up.
func (m *metrics) looked(kind protocol.Kind, r result) { m.lookedMany(kind, r, 1) }

// lookedMany counts n look-ups with one result.
func (m *metrics) lookedMany(kind protocol.Kind, r result, n int) {
	l := m.lookups[kind]
	if l == nil {
		l = m.lookups[otherKind]
	}
	if n > 0 {
		l[r].Add(float64(n))
	}
}
