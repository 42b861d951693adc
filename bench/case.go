package bench

import (
	"slices"

	"flannel/bench/load"
)

// Case is one way of a scenario, and what was measured. What a server's cases have in common stands in each.
type Case struct {
	Server  string             `json:"server"`
	Name    string             `json:"case"`
	Figures map[string]float64 `json:"figures"`
	// Fault is the first thing that went wrong; "" if nothing did.
	Fault string `json:"fault,omitempty"`
	// Latency is for plots; nil if nothing was timed.
	Latency *load.Times `json:"-"`
}

// newCase begins a case with what went wrong in its parts.
func newCase(name string, b *Bench, parts ...load.Totals) Case {
	c := Case{Server: b.Target.Name, Name: name, Figures: make(map[string]float64)}
	var lost, wrong int64
	for _, p := range parts {
		lost += p.Counts.Missed
		wrong += p.Counts.Errors()
		if c.Fault == "" {
			c.Fault = p.Error
		}
	}
	c.set("lost", float64(lost))
	c.set("errors", float64(wrong))
	return c
}

func (c *Case) set(figure string, value float64) { c.Figures[figure] = value }

// times sets the percentiles.
func (c *Case) times(t *load.Times) {
	c.Latency = t
	c.set("p50_ms", t.Percentile(50))
	c.set("p99_ms", t.Percentile(99))
	c.set("p999_ms", t.Percentile(99.9))
	c.set("max_ms", t.Percentile(100))
}

// generator sets what the generators used: if it is a core, they were the bottleneck.
func (c *Case) generator(u used) { c.set("generator_cpu_percent", u.generator) }

// Medians joins several runs: for each case of each server the median of each figure, in the order of the first run. Faults
// are of any run; lost and errors are the most of any.
func Medians(runs [][]Case) []Case {
	var joined []Case
	for _, first := range runs[0] {
		c := Case{Server: first.Server, Name: first.Name, Figures: make(map[string]float64), Latency: load.NewTimes()}
		values := make(map[string][]float64)
		for _, run := range runs {
			for _, other := range run {
				if other.Server != c.Server || other.Name != c.Name {
					continue
				}
				if c.Fault == "" {
					c.Fault = other.Fault
				}
				if other.Latency != nil {
					c.Latency.Merge(other.Latency)
				}
				for figure, v := range other.Figures {
					values[figure] = append(values[figure], v)
				}
			}
		}
		for figure, all := range values {
			slices.Sort(all)
			c.Figures[figure] = all[len(all)/2]
			if figure == "lost" || figure == "errors" {
				c.Figures[figure] = all[len(all)-1]
			}
		}
		joined = append(joined, c)
	}
	return joined
}
