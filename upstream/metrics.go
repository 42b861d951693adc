package upstream

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"flannel/protocol"
)

// Outcomes of a request to the backend, the label "code" of flannel_upstream_requests_total.
const (
	codeOK          = "ok"
	codeRefused     = "refused"       // no connection could be opened; nothing was sent
	codeBroken      = "broken"        // the connection broke before the answer was complete
	codeTimeout     = "timeout"       // no answer in time
	codeUnavailable = "unavailable"   // a 5xx
	codeBehind      = "behind"        // the backend has not reached the position asked for
	codeRateLimited = "ratelimited"   // a 429 on a load
	codeRejected    = "rejected"      // the backend refuses this request: a 4xx
	codeUnauthed    = "unauthorized"  // the backend refuses the service key
	codeTooLarge    = "too_large"     // the answer is over its limit
	codeBadAnswer   = "bad_answer"    // the answer breaks the contract
	codeBreakerOpen = "breaker_open"  // not sent: the circuit breaker is open
	codeLimited     = "limited"       // not sent: over a concurrency limit, or no connection free
	codeAbandoned   = "abandoned"     // given up: this node is stopping, or nobody waits any more
	codeBudget      = "retry_refused" // not sent again: the retry budget is used up
)

var codes = []string{
	codeOK, codeRefused, codeBroken, codeTimeout, codeUnavailable, codeBehind, codeRateLimited, codeRejected,
	codeUnauthed, codeTooLarge, codeBadAnswer, codeBreakerOpen, codeLimited, codeAbandoned, codeBudget,
}

// Reasons why a stream ended, the label "reason" of flannel_upstream_stream_reconnects_total.
const (
	endDial      = "dial"      // it could not be opened
	endHello     = "hello"     // no hello, or of another version
	endClosed    = "closed"    // the backend closed it, or the connection broke
	endSilent    = "silent"    // nothing came for three heartbeats
	endFrame     = "frame"     // a frame that is no JSON or too large
	endWrite     = "write"     // a frame could not be written
	endSubscribe = "subscribe" // a subscription was not answered
	endStopped   = "stopped"   // this node is stopping
)

var ends = []string{endDial, endHello, endClosed, endSilent, endFrame, endWrite, endSubscribe, endStopped}

// What became of an event, the label "outcome" of flannel_upstream_stream_events_total.
const (
	eventDelivered = "delivered"
	eventDuplicate = "duplicate"
	eventHole      = "hole"       // it came after a hole; it will be sent again
	eventUnwanted  = "unfollowed" // its topic is not followed, or not yet again
)

var eventOutcomes = []string{eventDelivered, eventDuplicate, eventHole, eventUnwanted}

// Why a topic was reset, the label "source" of flannel_upstream_stream_resets_total.
const (
	resetBackend = "backend" // the backend said so
	resetHole    = "hole"    // a hole was still there after asking again
	resetRewound = "rewound" // the backend's count is behind ours
)

var resets = []string{resetBackend, resetHole, resetRewound}

// Why an event of a client was not published, the label "reason" of flannel_upstream_publish_dropped_total.
const (
	dropDown    = "down"
	dropFull    = "full"
	dropInvalid = "invalid" // its payload is not JSON
)

var breakerStates = []string{"closed", "open", "half-open"}

var streamFrames = []string{
	protocol.StreamHello, protocol.StreamSubscribe, protocol.StreamSubscribed, protocol.StreamUnsubscribe,
	protocol.StreamEvents, protocol.StreamWatermark, protocol.StreamReset, protocol.StreamReport,
	protocol.StreamPublish, protocol.StreamPing, protocol.StreamPong, frameOther,
}

// frameOther is the label of frames whose type this version does not know.
const frameOther = "other"

type metrics struct {
	calls map[string]*callMetrics // by protocol.Calls, the stream left out

	up            prometheus.Gauge
	reconnects    map[string]prometheus.Counter
	framesIn      map[string]prometheus.Counter
	framesOut     map[string]prometheus.Counter
	events        map[string]prometheus.Counter
	resets        map[string]prometheus.Counter
	topicsRefused prometheus.Counter
	dropped       map[string]prometheus.Counter
}

// callMetrics are those of one kind of call.
type callMetrics struct {
	requests map[string]prometheus.Counter
	duration prometheus.Observer
	inflight prometheus.Gauge
	retries  prometheus.Counter
	joined   prometheus.Counter
	batch    prometheus.Observer
	breaker  map[string]prometheus.Gauge
}

// loads are the calls of the contract that are single requests.
func requestCalls() []string { return protocol.Calls[:len(protocol.Calls)-1] }

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	requests := f.NewCounterVec(prometheus.CounterOpts{
		Name: "flannel_upstream_requests_total",
		Help: "Attempts to call the backend, and calls that were not sent, by what came of them.",
	}, []string{"call", "code"})
	duration := f.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "flannel_upstream_request_duration_seconds",
		Help:    "Time from sending a request to having its answer; for streamed answers, to their first part.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},

		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
	}, []string{"call"})
	inflight := f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "flannel_upstream_inflight",
		Help: "Requests to the backend that wait for their answer.",
	}, []string{"call"})
	retries := f.NewCounterVec(prometheus.CounterOpts{
		Name: "flannel_upstream_retries_total",
		Help: "Second and later attempts.",
	}, []string{"call"})
	joined := f.NewCounterVec(prometheus.CounterOpts{
		Name: "flannel_upstream_joined_total",
		Help: "Keys that were asked for while the same key was already on its way.",
	}, []string{"call"})
	batch := f.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "flannel_upstream_batch_size",
		Help:    "Keys in one load.",
		Buckets: []float64{1, 2, 5, 10, 25, 50, 100, 250, 500, 1000},

		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
	}, []string{"call"})
	breaker := f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "flannel_upstream_breaker_state",
		Help: "1 for the state that the circuit breaker is in.",
	}, []string{"call", "state"})
	reconnects := f.NewCounterVec(prometheus.CounterOpts{
		Name: "flannel_upstream_stream_reconnects_total",
		Help: "Streams that ended or could not be opened, by reason.",
	}, []string{"reason"})
	frames := f.NewCounterVec(prometheus.CounterOpts{
		Name: "flannel_upstream_stream_frames_total",
		Help: "Frames of the stream.",
	}, []string{"direction", "type"})
	events := f.NewCounterVec(prometheus.CounterOpts{
		Name: "flannel_upstream_stream_events_total",
		Help: "Events that the stream brought, by what became of them.",
	}, []string{"outcome"})
	reset := f.NewCounterVec(prometheus.CounterOpts{
		Name: "flannel_upstream_stream_resets_total",
		Help: "Topics whose events were lost.",
	}, []string{"source"})
	dropped := f.NewCounterVec(prometheus.CounterOpts{
		Name: "flannel_upstream_publish_dropped_total",
		Help: "Ephemeral events of clients that were not sent to the backend.",
	}, []string{"reason"})

	m := &metrics{
		calls: make(map[string]*callMetrics),
		up: f.NewGauge(prometheus.GaugeOpts{
			Name: "flannel_upstream_stream_up",
			Help: "1 while the stream is up and caught up.",
		}),
		reconnects: counters(reconnects, ends),
		framesIn:   counters(frames.MustCurryWith(prometheus.Labels{"direction": "in"}), streamFrames),
		framesOut:  counters(frames.MustCurryWith(prometheus.Labels{"direction": "out"}), streamFrames),
		events:     counters(events, eventOutcomes),
		resets:     counters(reset, resets),
		topicsRefused: f.NewCounter(prometheus.CounterOpts{
			Name: "flannel_upstream_topics_refused_total",
			Help: "Topics that were not followed because there were too many already.",
		}),
		dropped: counters(dropped, []string{dropDown, dropFull, dropInvalid}),
	}
	for _, call := range requestCalls() {
		c := &callMetrics{
			requests: counters(requests.MustCurryWith(prometheus.Labels{"call": call}), codes),
			duration: duration.WithLabelValues(call),
			inflight: inflight.WithLabelValues(call),
			retries:  retries.WithLabelValues(call),
			joined:   joined.WithLabelValues(call),
			batch:    batch.WithLabelValues(call),
			breaker:  make(map[string]prometheus.Gauge),
		}
		for _, state := range breakerStates {
			c.breaker[state] = breaker.WithLabelValues(call, state)
		}
		c.breakerIn(breakerStates[0])
		m.calls[call] = c
	}
	return m
}

// counters resolves the children of a vector with one free label, which creates them at zero.
func counters(vec *prometheus.CounterVec, values []string) map[string]prometheus.Counter {
	m := make(map[string]prometheus.Counter, len(values))
	for _, v := range values {
		m[v] = vec.WithLabelValues(v)
	}
	return m
}

func (c *callMetrics) breakerIn(state string) {
	for s, g := range c.breaker {
		if s == state {
			g.Set(1)
		} else {
			g.Set(0)
		}
	}
}

// frame counts a frame of any type that the peer may have thought of.
func countFrame(m map[string]prometheus.Counter, typ string) {
	c, ok := m[typ]
	if !ok {
		c = m[frameOther]
	}
	c.Inc()
}

// registerGauges adds the gauges that are read from the living parts.
func (u *Upstream) registerGauges(reg prometheus.Registerer) {
	f := promauto.With(reg)
	for name, c := range u.calls {
		f.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "flannel_upstream_limit",
			Help:        "The adaptive limit of requests in the air.",
			ConstLabels: prometheus.Labels{"call": name},
		}, func() float64 { return float64(c.limiter.Limit()) })
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "flannel_upstream_boot_limit",
		Help: "The limit of boot and replay loads in the air that was set.",
	}, func() float64 { return float64(u.bootGate.size()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "flannel_upstream_boot_waiting",
		Help: "Boot and replay loads that wait for a place under that limit.",
	}, func() float64 { return float64(u.bootGate.queued()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "flannel_upstream_boot_peak",
		Help: "The most boot and replay loads that were in the air at once since the start.",
	}, func() float64 { return float64(u.bootGate.highest()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "flannel_upstream_stream_lag_seconds",
		Help: "How long what was sent on the stream took to come back, seen last; rises while it does not, or while the stream is down.",
	}, func() float64 { return u.lag.seconds(time.Now()) })
	for _, s := range []topicState{wanted, subscribing, followed} {
		f.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "flannel_upstream_topics",
			Help:        "Topics by how far they are followed.",
			ConstLabels: prometheus.Labels{"state": s.String()},
		}, func() float64 {
			u.mu.Lock()
			defer u.mu.Unlock()
			return float64(u.table.count[s])
		})
	}
}
