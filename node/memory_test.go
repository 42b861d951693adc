package node

import (
	"slices"
	"testing"

	"flannel/edge"
)

func TestMemory_Levels(t *testing.T) {
	var told []edge.Pressure
	m := &memory{limit: 1000, tell: func(p edge.Pressure) { told = append(told, p) }}
	for _, step := range []struct {
		used uint64
		want []edge.Pressure // told
	}{
		{500, nil},
		{849, nil},
		{850, []edge.Pressure{edge.PressureEphemeral}},
		{860, nil},
		{900, []edge.Pressure{edge.PressureBoots}},
		{880, nil}, // not yet far enough below
		{869, []edge.Pressure{edge.PressureEphemeral}},
		{960, []edge.Pressure{edge.PressureOutboxes}},
		{960, []edge.Pressure{edge.PressureOutboxes}}, // again: the last time was not enough
		{930, []edge.Pressure{edge.PressureOutboxes}},
		{910, []edge.Pressure{edge.PressureBoots}},
		{100, []edge.Pressure{edge.PressureNone}},
		{100, nil},
		{2000, []edge.Pressure{edge.PressureOutboxes}},
	} {
		told = nil
		m.look(step.used)
		if !slices.Equal(told, step.want) {
			t.Errorf("%d of 1000 in use: told %v, want %v", step.used, told, step.want)
		}
	}
	if n := inUse(); n < 1<<20 || n > 100<<30 {
		t.Errorf("this process uses %d bytes", n)
	}
}
