package query

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"flannel/protocol"
)

// Outcomes of a request, as labels.
const (
	outcomeOK      = "ok"
	outcomeStale   = "stale"
	outcomeForward = "forward"
	outcomeRefused = "refused" // the client's fault
	outcomeFailed  = "failed"  // the backend's or ours
)

type metrics struct {
	requests map[string]*requestMetrics // by method or query; fixed after construction
	objects  map[string]prometheus.Counter
	pending  prometheus.Counter

	userLoads prometheus.Counter
	outrun    prometheus.Counter
	setLoads  prometheus.Counter
	bootBytes prometheus.Histogram

	// Of requests and objects, for readUsers.
	usersInfo              *requestMetrics
	usersInfoOK, fromCache prometheus.Counter

	audit *auditMetrics

	authFailures map[protocol.Code]prometheus.Counter // fixed after construction

	searches         map[string]prometheus.Counter // fixed after construction
	directorySeconds prometheus.Histogram
}

type requestMetrics struct {
	outcomes map[string]prometheus.Counter
	seconds  prometheus.Observer
}

// Sources of an object, as labels.
const (
	sourceCache  = "cache"
	sourceStale  = "stale"
	sourceAbsent = "absent"
	sourceLoad   = "load"
)

// Where searches looked, as labels.
const (
	searchedDirectory = "directory"
	searchedBackend   = "backend"
)

// otherRequest is the label of what does not exist.
const otherRequest = "other"

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		audit: newAuditMetrics(reg),

		requests: make(map[string]*requestMetrics), objects: make(map[string]prometheus.Counter),
		pending:   f.NewCounter(prometheus.CounterOpts{Name: "flannel_query_pending_ids_total", Help: "Ids answered as pending because the backend was slow."}),
		userLoads: f.NewCounter(prometheus.CounterOpts{Name: "flannel_query_user_loads_total", Help: "User states loaded."}),
		outrun:    f.NewCounter(prometheus.CounterOpts{Name: "flannel_query_user_outrun_total", Help: "User loads repeated because events outran them."}),
		setLoads:  f.NewCounter(prometheus.CounterOpts{Name: "flannel_query_member_set_loads_total", Help: "Member sets loaded."}),
		bootBytes: f.NewHistogram(prometheus.HistogramOpts{Name: "flannel_query_boot_bytes", Help: "Size of composed boots.", Buckets: prometheus.ExponentialBuckets(2048, 2, 10),
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour}),
	}
	m.directorySeconds = f.NewHistogram(prometheus.HistogramOpts{Name: "flannel_query_directory_load_seconds", Help: "Time to load a directory.",
		Buckets:                     []float64{0.05, 0.2, 0.5, 1, 2, 5, 10, 30},
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour})
	searches := f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_query_searches_total", Help: "Searches, by who looked: this node's directory or the backend."}, []string{"by"})
	m.searches = map[string]prometheus.Counter{}
	for _, by := range []string{searchedDirectory, searchedBackend} {
		m.searches[by] = searches.WithLabelValues(by)
	}
	requests := f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_query_requests_total", Help: "Reads answered, by method and outcome."}, []string{"method", "outcome"})
	seconds := f.NewHistogramVec(prometheus.HistogramOpts{Name: "flannel_query_request_seconds", Help: "Time to answer a read.",
		// 0.25 and 1 are what is promised of queries and of boots. It is not a native one too, which takes four times as long to
		// observe: a node answers hundreds of thousands of reads a second.
		Buckets: []float64{50e-6, 200e-6, 1e-3, 5e-3, 20e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 10}}, []string{"method"})
	add := func(name string) {
		r := &requestMetrics{outcomes: make(map[string]prometheus.Counter), seconds: seconds.WithLabelValues(name)}
		for _, o := range []string{outcomeOK, outcomeStale, outcomeForward, outcomeRefused, outcomeFailed} {
			r.outcomes[o] = requests.WithLabelValues(name, o)
		}
		m.requests[name] = r
	}
	for name, method := range protocol.Methods {
		if method.Cached {
			add(name)
		}
	}
	for name := range queries {
		add(name)
	}
	add(otherRequest)
	objects := f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_query_objects_total", Help: "Objects read, by where they came from."}, []string{"source"})
	for _, source := range []string{sourceCache, sourceStale, sourceAbsent, sourceLoad} {
		m.objects[source] = objects.WithLabelValues(source)
	}
	m.usersInfo = m.requests["users/info"]
	m.usersInfoOK, m.fromCache = m.usersInfo.outcomes[outcomeOK], m.objects[sourceCache]
	failures := f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_auth_failures_total", Help: "Tokens that this node did not accept, by reason; service_unavailable if the backend could not be asked. Forwarded calls are the backend's to refuse."}, []string{"reason"})
	m.authFailures = make(map[protocol.Code]prometheus.Counter)
	for _, code := range append([]protocol.Code{otherRequest}, authCodes...) {
		m.authFailures[code] = failures.WithLabelValues(string(code))
	}
	return m
}

// authCodes are the reasons that are counted by name.
var authCodes = []protocol.Code{
	protocol.CodeNotAuthed, protocol.CodeInvalidAuth, protocol.CodeTokenExpired, protocol.CodeTokenRevoked, protocol.CodeAccountInactive, protocol.CodeUnavailable,
}

// identified counts a look at a token that failed.
func (m *metrics) identified(err error) {
	if err == nil {
		return
	}
	c := m.authFailures[protocol.AsError(err).Code]
	if c == nil {
		c = m.authFailures[otherRequest]
	}
	c.Inc()
}

// readUsers counts a read of users that was answered at once, without looking anything up: there are hundreds of thousands
// a second.
func (m *metrics) readUsers(n int, took time.Duration) {
	m.fromCache.Add(float64(n))
	m.usersInfo.seconds.Observe(took.Seconds())
	m.usersInfoOK.Inc()
}

// answered counts one request.
func (m *metrics) answered(name string, took time.Duration, stale bool, err error) {
	r := m.requests[name]
	if r == nil {
		r = m.requests[otherRequest]
	}
	r.seconds.Observe(took.Seconds())
	r.outcomes[outcomeOf(stale, err)].Inc()
}

func outcomeOf(stale bool, err error) string {
	switch {
	case errors.Is(err, ErrForward):
		return outcomeForward
	case err != nil:
		switch protocol.AsError(err).Code {
		case protocol.CodeUnavailable, protocol.CodeInternal, protocol.CodeBehind:
			return outcomeFailed
		}
		return outcomeRefused
	case stale:
		return outcomeStale
	default:
		return outcomeOK
	}
}
