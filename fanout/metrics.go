package fanout

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"flannel/protocol"
)

// eventTypes are the types of events that are counted by name, so that a backend cannot make up labels.
var eventTypes = []string{
	"message", "reaction_added", "reaction_removed", "pin_added", "pin_removed", "user_change", "team_join", "user_typing",
	"presence_change", "manual_presence_change", "pref_change", "emoji_changed", "bot_added", "bot_changed", "team_rename",
	"channel_created", "channel_rename", "channel_archive", "channel_unarchive", "channel_deleted", "channel_marked",
	"channel_joined", "channel_left", "group_marked", "group_joined", "group_left", "group_open", "group_close", "group_rename",
	"group_archive", "group_unarchive", "im_created", "im_marked", "im_open", "im_close", "mpim_joined", "mpim_marked",
	"mpim_open", "mpim_close", "member_joined_channel", "member_left_channel", "subteam_created", "subteam_updated",
}

// otherType is the label of all other types.
const otherType = "other"

type metrics struct {
	events    map[string]prometheus.Counter // fixed after construction
	size      prometheus.Histogram
	duration  prometheus.Histogram
	refused   prometheus.Counter
	presence  map[protocol.Presence]prometheus.Counter
	coalesced prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, h *Hub) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		events: make(map[string]prometheus.Counter), presence: make(map[protocol.Presence]prometheus.Counter),
		size: f.NewHistogram(prometheus.HistogramOpts{
			Name: "flannel_fanout_size", Help: "Receivers of an event.",
			Buckets:                     []float64{0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
		}),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name: "flannel_fanout_duration_seconds", Help: "From when an event came to when it is in the outbox of all its receivers.",
			Buckets:                     []float64{0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
		}),
		refused:   f.NewCounter(prometheus.CounterOpts{Name: "flannel_fanout_refused_total", Help: "Workspace events that a user who is not a full member was not allowed to hear."}),
		coalesced: f.NewCounter(prometheus.CounterOpts{Name: "flannel_presence_coalesced_total", Help: "Presence events that told nothing new."}),
	}
	events := f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_events_received_total", Help: "Events published to the hub, by type."}, []string{"type"})
	for _, t := range append([]string{otherType}, eventTypes...) {
		m.events[t] = events.WithLabelValues(t)
	}
	presence := f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_presence_transitions_total", Help: "Changes of presence that were told to watchers."}, []string{"state"})
	for _, p := range []protocol.Presence{protocol.Active, protocol.Away} {
		m.presence[p] = presence.WithLabelValues(string(p))
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "flannel_presence_subscriptions", Help: "Pairs of a session and a user whose presence it watches."}, func() float64 { return float64(h.watches()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "flannel_fanout_sessions", Help: "Sessions attached to the hub."}, func() float64 { return float64(h.Len()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "flannel_fanout_absent_users", Help: "Users without a session who are kept in the audience of their channels until the node forgets their state."}, func() float64 { return float64(h.numAbsent()) })
	return m
}

func (m *metrics) received(t string) {
	c := m.events[t]
	if c == nil {
		c = m.events[otherType]
	}
	c.Inc()
}

func (m *metrics) changed(p protocol.Presence) { m.presence[p].Inc() }
