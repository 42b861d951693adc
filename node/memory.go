package node

import (
	"context"
	"log/slog"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"flannel/edge"
)

const (
	// memoryEvery is how often the use of memory is looked at: a storm of boots takes seconds to fill it.
	memoryEvery = time.Second
	// collectShare is the share of the limit from which on the garbage collector works harder, as GOMEMLIMIT has it. It is below
	// all watermarks, so that what is above them is no garbage.
	collectShare = 0.80
	// relief is how far below its watermark the use must fall for a level to end.
	relief = 0.03
)

// watermarks are the shares of the limit at which the levels of pressure begin.
var watermarks = []struct {
	share float64
	level edge.Pressure
}{{0.85, edge.PressureEphemeral}, {0.90, edge.PressureBoots}, {0.95, edge.PressureOutboxes}}

// memory tells the edge how short of memory the process is.
type memory struct {
	limit uint64 // bytes; 0 if there is none
	level edge.Pressure
	tell  func(edge.Pressure)
}

// newMemory finds out what the limit is: the configured one, or the container's.
func newMemory(configured int, tell func(edge.Pressure), reg prometheus.Registerer, log *slog.Logger) *memory {
	m := &memory{limit: uint64(max(configured, 0)), tell: tell}
	if configured == 0 {
		if found, err := memlimit.FromCgroup(); err == nil && found < math.MaxInt64 {
			m.limit = found
		} else {
			log.Debug("no memory limit", "err", err)
		}
	}
	promauto.With(reg).NewGauge(prometheus.GaugeOpts{Name: "flannel_memory_limit_bytes", Help: "What the process may use of memory: node.memory_limit, or the container's; 0 if there is no limit."}).Set(float64(m.limit))
	return m
}

// run watches until ctx ends.
func (m *memory) run(ctx context.Context) error {
	if m.limit == 0 {
		return nil
	}
	if soft := int64(collectShare * float64(m.limit)); soft < debug.SetMemoryLimit(-1) { // An operator's own is lower.
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(soft))
	}
	tick := time.NewTicker(memoryEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.look(inUse())
		case <-ctx.Done():
			return nil
		}
	}
}

// look tells the level that so many bytes in use are. The highest one is told again as long as it lasts.
func (m *memory) look(used uint64) {
	was, level := m.level, edge.PressureNone
	for _, mark := range watermarks {
		share := mark.share
		if mark.level <= was {
			share -= relief
		}
		if float64(used) >= share*float64(m.limit) {
			level = mark.level
		}
	}
	if m.level = level; level != was || level == edge.PressureOutboxes {
		m.tell(level)
	}
}

// inUse returns the bytes that GOMEMLIMIT counts: all that the runtime has and has not given back.
func inUse() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}
