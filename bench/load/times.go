package load

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Times is a histogram of durations, from a microsecond to ten minutes, true to a thousandth.
type Times struct{ h *hdrhistogram.Histogram }

// maxMicros bounds what is recorded; longer is recorded as this.
const maxMicros = int64(10 * time.Minute / time.Microsecond)

// NewTimes returns an empty histogram.
func NewTimes() *Times { return &Times{hdrhistogram.New(1, maxMicros, 3)} }

// Record adds one duration, in nanoseconds.
func (t *Times) Record(nanos int64) {
	t.h.RecordValue(min(max(nanos/1000, 1), maxMicros)) //nolint:errcheck // It is within the bounds.
}

// Count is how many were recorded.
func (t *Times) Count() int64 { return t.h.TotalCount() }

// Percentile returns the p-th percentile in milliseconds, 0 if nothing was recorded.
func (t *Times) Percentile(p float64) float64 {
	if t.Count() == 0 {
		return 0
	}
	return float64(t.h.ValueAtQuantile(p)) / 1000
}

// Merge adds everything of another one.
func (t *Times) Merge(o *Times) { t.h.Merge(o.h) }

// Distribution calls fn with percentiles and times in milliseconds, ever finer towards 100.
func (t *Times) Distribution(fn func(percentile, millis float64)) {
	for _, b := range t.h.CumulativeDistribution() {
		fn(b.Quantile, float64(b.ValueAt)/1000)
	}
}

// Each calls fn with times in milliseconds, shortest first, and how many of them were recorded.
func (t *Times) Each(fn func(millis float64, n int64)) {
	for _, b := range t.h.Distribution() {
		if b.Count > 0 {
			fn(float64(b.To)/1000, b.Count)
		}
	}
}

// encode returns the histogram as text and empties it; "" if it is empty.
func (t *Times) encode() (string, error) {
	if t.Count() == 0 {
		return "", nil
	}
	text, err := t.h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	t.h.Reset()
	return string(text), err
}

// mergeText adds an encoded histogram.
func (t *Times) mergeText(text string) error {
	if text == "" {
		return nil
	}
	h, err := hdrhistogram.Decode([]byte(text))
	if err != nil {
		return fmt.Errorf("read a histogram: %w", err)
	}
	t.h.Merge(h)
	return nil
}
