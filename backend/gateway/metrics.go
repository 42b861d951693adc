package gateway

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"flannel/protocol"
)

// frameTypes are the frames that edges send.
var frameTypes = []string{
	protocol.StreamSubscribe, protocol.StreamUnsubscribe, protocol.StreamReport, protocol.StreamPublish, protocol.StreamPing,
	protocol.StreamPong, "other",
}

// closeCodes are the codes that this side closes a stream with.
var closeCodes = []protocol.CloseCode{
	protocol.CloseNormal, protocol.CloseGoingAway, protocol.CloseProtocol, protocol.CloseUnsupported, protocol.CloseTooBig, protocol.CloseSlow,
	protocol.CloseOverloaded, protocol.ClosePingTimeout, protocol.CloseReconnect,
}

type metrics struct {
	calls         *prometheus.CounterVec
	seconds       *prometheus.HistogramVec
	streams       prometheus.Gauge
	frames        map[string]prometheus.Counter
	closes        *prometheus.CounterVec
	sent, refused prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		calls: f.NewCounterVec(prometheus.CounterOpts{
			Name: "flannel_backend_upstream_calls_total", Help: "Calls of edges, by call and class of HTTP status.",
		}, []string{"call", "status"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "flannel_backend_upstream_call_seconds", Help: "Time to answer a call of an edge, without streaming.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"call"}),
		streams: f.NewGauge(prometheus.GaugeOpts{Name: "flannel_backend_upstream_streams", Help: "Streams that are open."}),
		closes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "flannel_backend_upstream_streams_closed_total", Help: "Streams that ended, by close code; normal if the edge ended them.",
		}, []string{"code"}),
		frames:  make(map[string]prometheus.Counter),
		sent:    f.NewCounter(prometheus.CounterOpts{Name: "flannel_backend_upstream_events_sent_total", Help: "Events that were sent on streams."}),
		refused: f.NewCounter(prometheus.CounterOpts{Name: "flannel_backend_upstream_publish_refused_total", Help: "Published events that edges may not publish."}),
	}
	for _, call := range append([]string{"other"}, protocol.Calls...) {
		for _, class := range []string{"1xx", "2xx", "4xx", "5xx"} {
			m.calls.WithLabelValues(call, class)
		}
		m.seconds.WithLabelValues(call)
	}
	frames := f.NewCounterVec(prometheus.CounterOpts{
		Name: "flannel_backend_upstream_frames_total", Help: "Frames of edges, by type.",
	}, []string{"type"})
	for _, t := range frameTypes {
		m.frames[t] = frames.WithLabelValues(t)
	}
	for _, c := range closeCodes {
		m.closes.WithLabelValues(c.String())
	}
	return m
}

func (m *metrics) answered(call string, status int, took time.Duration) {
	m.calls.WithLabelValues(call, string('0'+byte(status/100))+"xx").Inc() //nolint:gosec // A status has three digits.
	m.seconds.WithLabelValues(call).Observe(took.Seconds())
}

func (m *metrics) frame(t string) {
	c := m.frames[t]
	if c == nil {
		c = m.frames["other"]
	}
	c.Inc()
}

func (m *metrics) closed(code protocol.CloseCode) { m.closes.WithLabelValues(code.String()).Inc() }
