package rtm

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"flannel/protocol"
)

// frameTypes are the frames that clients send.
var frameTypes = []string{
	protocol.FrameMessage, protocol.FrameTyping, protocol.FrameUserTyping, protocol.FramePing, protocol.FramePresenceSub,
	protocol.FramePresenceQuery, "other",
}

type metrics struct {
	sessions prometheus.Gauge
	sent     prometheus.Counter
	closes   *prometheus.CounterVec
	frames   map[string]prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		sessions: f.NewGauge(prometheus.GaugeOpts{Name: "flannel_backend_rtm_sessions", Help: "Sockets of clients that are open."}),
		sent:     f.NewCounter(prometheus.CounterOpts{Name: "flannel_backend_rtm_events_sent_total", Help: "Events that were sent to clients."}),
		closes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "flannel_backend_rtm_closed_total", Help: "Sockets that ended, by close code; normal if the client ended them.",
		}, []string{"code"}),
		frames: make(map[string]prometheus.Counter),
	}
	frames := f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_backend_rtm_frames_total", Help: "Frames of clients, by type."}, []string{"type"})
	for _, t := range frameTypes {
		m.frames[t] = frames.WithLabelValues(t)
	}
	for _, c := range protocol.CloseCodes() {
		m.closes.WithLabelValues(c.String())
	}
	return m
}

func (m *metrics) frame(t string) {
	c := m.frames[t]
	if c == nil {
		c = m.frames["other"]
	}
	c.Inc()
}

func (m *metrics) closed(code protocol.CloseCode) { m.closes.WithLabelValues(code.String()).Inc() }
