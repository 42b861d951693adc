package webapi

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"flannel/backend/chat"
	"flannel/protocol"
)

// otherLabel stands for methods and codes that are not in our tables.
const otherLabel = "other"

// commonCodes are the codes of package protocol that this API answers with.
var commonCodes = []protocol.Code{
	protocol.CodeNotAuthed, protocol.CodeInvalidAuth, protocol.CodeAccountInactive, protocol.CodeTokenRevoked, protocol.CodeTokenExpired,
	protocol.CodeUnknownMethod, protocol.CodeInvalidArgs, protocol.CodeInvalidJSON, protocol.CodeJSONNotObject, protocol.CodeInvalidForm,
	protocol.CodeInvalidPostType, protocol.CodeInvalidCharset, protocol.CodeInvalidCursor, protocol.CodeInvalidLimit, protocol.CodeLimitRequired,
	protocol.CodeRateLimited, protocol.CodeUserNotFound, protocol.CodeChannelNotFound, protocol.CodeBotNotFound, protocol.CodeNotInChannel,
	protocol.CodeTeamNotFound, protocol.CodeInternal, protocol.CodeUnavailable, protocol.CodeTooLarge,
}

type metrics struct {
	calls    map[string]prometheus.Counter
	errors   map[protocol.Code]prometheus.Counter
	duration prometheus.Histogram
	repeated prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	calls := f.NewCounterVec(prometheus.CounterOpts{
		Name: "flannel_webapi_calls_total", Help: "Calls of the backend's Web API.",
	}, []string{"method"})
	errs := f.NewCounterVec(prometheus.CounterOpts{
		Name: "flannel_webapi_errors_total", Help: "Calls of the backend's Web API that were answered with an error.",
	}, []string{"code"})
	m := &metrics{
		calls: make(map[string]prometheus.Counter), errors: make(map[protocol.Code]prometheus.Counter),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name: "flannel_webapi_duration_seconds", Help: "Time until a call was answered, without sending a stream.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14), // half a millisecond to 4 s
		}),
		repeated: f.NewCounter(prometheus.CounterOpts{Name: "flannel_webapi_duplicates_total", Help: "Writes that were sent again with the same idempotency key, and answered as the first time."}),
	}
	for name := range protocol.Methods {
		m.calls[name] = calls.WithLabelValues(name)
	}
	m.calls[otherLabel] = calls.WithLabelValues(otherLabel)
	for _, list := range [][]protocol.Code{commonCodes, chat.Codes, {otherLabel}} {
		for _, code := range list {
			m.errors[code] = errs.WithLabelValues(string(code))
		}
	}
	return m
}

func (m *metrics) answered(method string, d time.Duration) {
	m.calls[method].Inc()
	m.duration.Observe(d.Seconds())
}

func (m *metrics) failed(code protocol.Code) {
	c, ok := m.errors[code]
	if !ok {
		c = m.errors[otherLabel]
	}
	c.Inc()
}
