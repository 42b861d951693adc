package channels

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"flannel/protocol"
)

type metrics struct {
	events                          map[protocol.Class]prometheus.Counter
	replayed, resets, slow, dropped prometheus.Counter
	subscribers                     prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, h *Hub) *metrics {
	f := promauto.With(reg)
	events := f.NewCounterVec(prometheus.CounterOpts{
		Name: "flannel_backend_hub_events_total", Help: "Events that the hub published, by class.",
	}, []string{"class"})
	m := &metrics{
		events:      make(map[protocol.Class]prometheus.Counter),
		replayed:    f.NewCounter(prometheus.CounterOpts{Name: "flannel_backend_hub_replayed_events_total", Help: "Events that were replayed, to new subscriptions and in answers."}),
		resets:      f.NewCounter(prometheus.CounterOpts{Name: "flannel_backend_hub_resets_total", Help: "Subscriptions whose replay was gone."}),
		slow:        f.NewCounter(prometheus.CounterOpts{Name: "flannel_backend_hub_slow_subscribers_total", Help: "Subscribers that were cut off because they did not drain their queue."}),
		dropped:     f.NewCounter(prometheus.CounterOpts{Name: "flannel_backend_hub_ephemeral_dropped_total", Help: "Ephemeral events that were dropped because a queue was half full."}),
		subscribers: f.NewGauge(prometheus.GaugeOpts{Name: "flannel_backend_hub_subscribers", Help: "Streams and sockets that follow topics."}),
	}
	for _, c := range []protocol.Class{protocol.ClassControl, protocol.ClassMessage, protocol.ClassEphemeral} {
		m.events[c] = events.WithLabelValues(string(c))
	}
	gauge := func(name, help string, value func() int) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			h.mu.Lock()
			defer h.mu.Unlock()
			return float64(value())
		})
	}
	gauge("flannel_backend_hub_topics", "Topics that are followed or have events in memory.", func() int { return len(h.topics) })
	gauge("flannel_backend_hub_memory_events", "Events in memory.", func() int { return len(h.memory.entries) })
	gauge("flannel_backend_hub_memory_bytes", "Bytes of events in memory, estimated.", func() int { return h.memory.bytes })
	return m
}

func (m *metrics) event(c protocol.Class) {
	if counter := m.events[c]; counter != nil {
		counter.Inc()
	}
}
