package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Sheet is a scenario's result.
type Sheet struct {
	Scenario string
	Runs     int
	// Cases are of the server that it is about first, then of those that it is compared with.
	Cases    []Case
	Verdicts []Verdict
}

// column is a figure in tables: its head and how it is written.
type column struct{ figure, head, format string }

// columns are all figures, in the order of tables.
var columns = []column{
	{"sessions", "sessions", "%.0f"},
	{"rss_kib_per_session", "KiB/session", "%.2f"},
	{"rss_kib_per_session_peak", "KiB at most", "%.2f"},
	{"rss_kib_empty", "KiB empty", "%.0f"},
	{"cpu_percent_idle", "CPU idle %", "%.2f"},
	{"connects_per_s", "connects/s", "%.0f"},
	{"cpu_us_per_connect", "CPU µs/connect", "%.1f"},
	{"bytes_per_connect", "bytes/connect", "%.0f"},
	{"queries_per_s", "queries/s", "%.0f"},
	{"objects_per_s", "objects/s", "%.0f"},
	{"cpu_us_per_query", "CPU µs/query", "%.2f"},
	{"cpu_us_per_object", "CPU µs/object", "%.2f"},
	{"messages_per_s", "messages/s", "%.1f"},
	{"deliveries_per_s", "deliveries/s", "%.0f"},
	{"cpu_us_per_delivery", "CPU µs/delivery", "%.2f"},
	{"p50_ms", "p50 ms", "%.2f"},
	{"p99_ms", "p99 ms", "%.2f"},
	{"p999_ms", "p99.9 ms", "%.2f"},
	{"max_ms", "most ms", "%.1f"},
	{"backend_calls", "backend calls", "%.0f"},
	{"lost", "lost", "%.0f"},
	{"errors", "errors", "%.0f"},
	{"generator_cpu_percent", "generator CPU %", "%.0f"},
}

// WriteTable writes the sheet for people.
func (s *Sheet) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	var used []column
	for _, c := range columns {
		for _, one := range s.Cases {
			if _, ok := one.Figures[c.figure]; ok {
				used = append(used, c)
				break
			}
		}
	}
	fmt.Fprint(t, "server\tcase\t")
	for _, c := range used {
		fmt.Fprint(t, c.head, "\t")
	}
	fmt.Fprintln(t)
	for _, one := range s.Cases {
		fmt.Fprintf(t, "%s\t%s\t", one.Server, one.Name)
		for _, c := range used {
			if v, ok := one.Figures[c.figure]; ok {
				fmt.Fprintf(t, c.format, v)
			}
			fmt.Fprint(t, "\t")
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, one := range s.Cases {
		if one.Fault != "" {
			fmt.Fprintf(w, "%s, %s: %s\n", one.Server, one.Name, one.Fault)
		}
		if one.Figures["generator_cpu_percent"] > generatorFull {
			fmt.Fprintf(w, "%s, %s: the generator was as busy as it can be: more --generators may measure more\n", one.Server, one.Name)
		}
	}
	for _, v := range s.Verdicts {
		fmt.Fprintln(w, v.String())
	}
	return nil
}

// generatorFull is the share of a core, in percent, above which a generator may be what was measured: its one loop has
// little room then.
const generatorFull = 90

// Figures returns the figures of the server that the sheet is about, under names that thresholds use: those of each case
// with the case's name behind, and without it what says most of the scenario as a whole.
func (s *Sheet) Figures() map[string]float64 {
	all := make(map[string]float64)
	if len(s.Cases) == 0 {
		return all
	}
	about := s.Cases[0].Server
	several := 0
	for _, c := range s.Cases {
		if c.Server == about {
			several++
		}
	}
	for _, c := range s.Cases {
		if c.Server != about {
			continue
		}
		for figure, v := range c.Figures {
			if several > 1 {
				all[figure+"_"+caseSuffix(c.Name)] = v
			}
			had, ok := all[figure]
			switch {
			case !ok:
				all[figure] = v
			case figure == "lost", figure == "errors":
				all[figure] = had + v
			case figure == "generator_cpu_percent", strings.HasSuffix(figure, "_per_s"):
				all[figure] = max(had, v)
			}
		}
	}
	return all
}

// caseSuffix is a case's name as part of a figure's: "depth 16" is depth_16.
func caseSuffix(name string) string { return strings.ReplaceAll(name, " ", "_") }

// WriteJSON writes the sheet for machines: the figures of the server that it is about, all cases of all servers, and the
// verdicts.
func (s *Sheet) WriteJSON(w io.Writer) error {
	return json.NewEncoder(w).Encode(struct {
		Scenario string             `json:"scenario"`
		Runs     int                `json:"runs"`
		Figures  map[string]float64 `json:"figures"`
		Cases    []Case             `json:"cases"`
		Verdicts []Verdict          `json:"verdicts,omitempty"`
	}{s.Scenario, s.Runs, s.Figures(), s.Cases, s.Verdicts})
}
