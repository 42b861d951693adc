package edge

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"flannel/protocol"
)

// durationBuckets end where calls and boots are given up (CallTimeout): in an outage all of them are slow, and a quantile tells
// nothing above the last bucket.
var durationBuckets = []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// metrics of the front door. Label sets are closed, and every known value exists at zero.
type metrics struct {
	connections   prometheus.Gauge
	limit         prometheus.Gauge
	handshakes    prometheus.Gauge
	handshakeTime prometheus.Histogram
	opened        *prometheus.CounterVec // outcome
	closed        *prometheus.CounterVec // code, initiator
	rejected      *prometheus.CounterVec // stage, reason
	duration      prometheus.Histogram
	frames        *prometheus.CounterVec // type: of clients
	queries       prometheus.Counter     // of them
	deliveries    byClass
	dropped       byClass
	slow          prometheus.Counter
	lag           prometheus.Histogram
	queued        prometheus.Histogram
	calls         *prometheus.CounterVec // path, outcome
	callTime      *prometheus.HistogramVec
	writes        *prometheus.CounterVec // op, outcome
	writeTime     *prometheus.HistogramVec
	unseen        prometheus.Counter
	pressure      prometheus.Gauge
	draining      prometheus.Gauge
	remaining     prometheus.Gauge
	deadline      prometheus.Gauge
	panics        prometheus.Counter
	resumes       *prometheus.CounterVec // mode
	replayed      prometheus.Histogram
	badges        prometheus.Counter
	// Of messages that are compressed: those of ours, and those of clients.
	compressedOut, compressedIn compressedCount
	compressing                 prometheus.Gauge
	pressBusy                   prometheus.Counter
	refreshAsked                prometheus.Counter
	refreshes                   *prometheus.CounterVec // outcome
	suppressed                  prometheus.Gauge
	// What became of the objects that events name.
	givenSent, givenRecent, givenMissing prometheus.Counter
}

// byClass has a counter for each class. It is no map, because every delivery counts.
type byClass struct{ control, message, ephemeral prometheus.Counter }

func newByClass(v *prometheus.CounterVec) byClass {
	of := func(c protocol.Class) prometheus.Counter { return v.WithLabelValues(string(c)) }
	return byClass{of(protocol.ClassControl), of(protocol.ClassMessage), of(protocol.ClassEphemeral)}
}

func (b *byClass) of(c protocol.Class) prometheus.Counter {
	switch c {
	case protocol.ClassMessage:
		return b.message
	case protocol.ClassEphemeral:
		return b.ephemeral
	default:
		return b.control
	}
}

// compressedCount counts messages that are compressed in one direction.
type compressedCount struct{ messages, plain, packed prometheus.Counter }

// count counts one of so many bytes, which are so many on the wire.
func (c *compressedCount) count(plain, packed int) {
	c.messages.Inc()
	c.plain.Add(float64(plain))
	c.packed.Add(float64(packed))
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	hist := func(name, help string, buckets []float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: buckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
		}
	}
	m := &metrics{
		connections:   f.NewGauge(prometheus.GaugeOpts{Name: "flannel_connections", Help: "Open client sockets."}),
		limit:         f.NewGauge(prometheus.GaugeOpts{Name: "flannel_connections_limit", Help: "Client sockets that the node takes (edge.max_sessions)."}),
		handshakes:    f.NewGauge(prometheus.GaugeOpts{Name: "flannel_handshakes_inflight", Help: "Sockets between upgrade and boot."}),
		handshakeTime: f.NewHistogram(hist("flannel_handshake_duration_seconds", "From the upgrade to where the boot is on its way.", durationBuckets)),
		opened:        f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_connections_opened_total", Help: "Attempts to open a socket by what became of them."}, []string{"outcome"}),
		closed:        f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_connections_closed_total", Help: "Closed sockets by close code and by who closed."}, []string{"code", "initiator"}),
		rejected:      f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_admission_rejected_total", Help: "Requests that were turned away."}, []string{"stage", "reason"}),
		duration:      f.NewHistogram(hist("flannel_connection_duration_seconds", "How long sockets were open.", []float64{1, 10, 60, 300, 1800, 3600, 14400, 43200, 86400})),
		frames:        f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_client_frames_total", Help: "Frames of clients by type."}, []string{"type"}),
		slow:          f.NewCounter(prometheus.CounterOpts{Name: "flannel_slow_clients_total", Help: "Sessions that were closed because they did not keep up: their outbox was full, or a write took too long."}),
		// Each write observes these two. A native histogram takes four times as long (56 ns, not 12).
		lag: f.NewHistogram(prometheus.HistogramOpts{Name: "flannel_outbox_wait_seconds", Help: "How long the first frame of a write had waited in the outbox.", Buckets: durationBuckets}),
		queued: f.NewHistogram(prometheus.HistogramOpts{
			Name: "flannel_outbox_bytes", Help: "Bytes that waited in an outbox when a write began.", Buckets: []float64{256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20},
		}),
		calls:        f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_http_requests_total", Help: "HTTP calls by path and outcome."}, []string{"path", "outcome"}),
		callTime:     f.NewHistogramVec(hist("flannel_http_request_duration_seconds", "How long HTTP calls took.", durationBuckets), []string{"path"}),
		writes:       f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_writes_total", Help: "Calls forwarded to the backend by way and outcome."}, []string{"op", "outcome"}),
		writeTime:    f.NewHistogramVec(hist("flannel_write_duration_seconds", "How long forwarded calls took.", durationBuckets), []string{"op"}),
		unseen:       f.NewCounter(prometheus.CounterOpts{Name: "flannel_writes_unseen_total", Help: "Writes whose effect the node had not seen when it answered."}),
		pressure:     f.NewGauge(prometheus.GaugeOpts{Name: "flannel_memory_pressure", Help: "How short of memory the node is: 1 drops ephemeral events, 2 turns new sockets away, too, 3 closes the sessions with most waiting, too."}),
		draining:     f.NewGauge(prometheus.GaugeOpts{Name: "flannel_draining", Help: "1 while the node says goodbye to its sessions."}),
		remaining:    f.NewGauge(prometheus.GaugeOpts{Name: "flannel_drain_remaining_connections", Help: "Sessions that a drain has not said goodbye to yet."}),
		deadline:     f.NewGauge(prometheus.GaugeOpts{Name: "flannel_drain_deadline_timestamp_seconds", Help: "When a drain cuts off the sessions that are left; 0 while there is none."}),
		panics:       f.NewCounter(prometheus.CounterOpts{Name: "flannel_panics_total", Help: "Sessions and calls that a fault of ours ended."}),
		resumes:      f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_resume_total", Help: "Sessions that came back with a resume token, by what they were told."}, []string{"mode"}),
		replayed:     f.NewHistogram(hist("flannel_replay_events", "Events that a session was told again when it came back.", []float64{0, 1, 3, 10, 30, 100, 300, 1000, 3000})),
		suppressed:   f.NewGauge(prometheus.GaugeOpts{Name: "flannel_presence_suppressed", Help: "1 while changes of presence are held back: a storm of sockets, or switched off."}),
		refreshAsked: f.NewCounter(prometheus.CounterOpts{Name: "flannel_token_refresh_asked_total", Help: "Sessions that were asked for a new token because theirs was about to end."}),
		refreshes:    f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_token_refresh_total", Help: "New tokens that sessions sent, by what became of them."}, []string{"outcome"}),
		badges:       f.NewCounter(prometheus.CounterOpts{Name: "flannel_badges_total", Help: "Badges sent for channels out of view."}),
	}
	messages := f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_compression_messages_total", Help: "Messages that were compressed (out), each once whoever received it, and that clients had compressed (in)."}, []string{"direction"})
	sizes := f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_compression_bytes_total", Help: "Bytes of those messages, as they are and as they were compressed."}, []string{"direction", "form"})
	for direction, c := range map[string]*compressedCount{"out": &m.compressedOut, "in": &m.compressedIn} {
		*c = compressedCount{messages.WithLabelValues(direction), sizes.WithLabelValues(direction, "plain"), sizes.WithLabelValues(direction, "compressed")}
	}
	m.compressing = f.NewGauge(prometheus.GaugeOpts{Name: "flannel_compression_connections", Help: "Open client sockets that have agreed on compression."})
	m.pressBusy = f.NewCounter(prometheus.CounterOpts{Name: "flannel_compression_busy_total", Help: "Messages that went out as they are because everything that compresses was busy."})
	m.deliveries = newByClass(f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_event_deliveries_total", Help: "Frames put into outboxes by class."}, []string{"class"}))
	m.dropped = newByClass(f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_events_dropped_total", Help: "Frames that found no room in an outbox, by class."}, []string{"class"}))
	for _, o := range []string{"ok", "bad_ticket", "bad_token", "origin", "overloaded", "unavailable", "failed"} {
		m.opened.WithLabelValues(o)
	}
	for _, c := range append(protocol.CloseCodes(), 0) {
		m.closed.WithLabelValues(c.String(), "server")
		m.closed.WithLabelValues(c.String(), "client")
	}
	for _, s := range [][2]string{{"sessions", "full"}, {"handshakes", "full"}, {"calls", "full"}, {"calls", "rate"}, {"messages", "rate"}, {"frames", "rate"}, {"tickets", "full"}, {"sessions", "draining"}, {stageConnections, becauseFull}, {stageConnections, becauseFiles}, {stageOpens, becauseRate}, {stageMemory, becauseFull}} {
		m.rejected.WithLabelValues(s[0], s[1])
	}
	for _, t := range frameTypes {
		m.frames.WithLabelValues(t)
	}
	m.queries = m.frames.WithLabelValues(protocol.FrameQuery)
	for _, p := range paths {
		m.callTime.WithLabelValues(p)
		for _, o := range outcomes {
			m.calls.WithLabelValues(p, o)
		}
	}
	for _, op := range []string{"http", "socket"} {
		m.writeTime.WithLabelValues(op)
		for _, o := range outcomes {
			m.writes.WithLabelValues(op, o)
		}
	}
	objects := f.NewCounterVec(prometheus.CounterOpts{Name: "flannel_jit_objects_total", Help: "Objects that events to thin sessions name: sent before the event, given recently, or missing: not at hand, or not for them."}, []string{"result"})
	m.givenSent, m.givenRecent, m.givenMissing = objects.WithLabelValues("sent"), objects.WithLabelValues("recent"), objects.WithLabelValues("missing")
	for _, o := range refreshOutcomes {
		m.refreshes.WithLabelValues(o)
	}
	for _, mode := range []string{protocol.ResumeReplayed, protocol.ResumeLossless, protocol.ResumeResync} {
		m.resumes.WithLabelValues(mode)
	}
	return m
}

var (
	frameTypes = []string{protocol.FrameMessage, protocol.FrameTyping, protocol.FramePing, protocol.FramePresenceSub, protocol.FramePresenceQuery, protocol.FrameQuery, protocol.FrameView, protocol.FrameRefresh, "bad", "other"}
	paths      = []string{"api", "cache", "other"}
	outcomes   = []string{"ok", "error", "ratelimited", "unavailable"}
)

// outcome is the label for what became of a call.
func outcome(reply *protocol.Reply, err error) string {
	switch {
	case err != nil && protocol.AsError(err).Code == protocol.CodeUnavailable:
		return "unavailable"
	case err != nil && protocol.AsError(err).Code == protocol.CodeRateLimited, reply != nil && reply.Status == 429:
		return "ratelimited"
	case err != nil:
		return "error"
	default:
		return "ok"
	}
}
