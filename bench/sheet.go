package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
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
	Series   []Series // of the first run, for plots
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
	{"p99_times", "p99 × steady", "%.2f"},
	{"back", "back", "%.0f"},
	{"back_p99_ms", "back p99 ms", "%.1f"},
	{"seconds_to_last", "s to last", "%.1f"},
	{"offered_per_s", "offered/s", "%.0f"},
	{"goodput_per_s", "goodput/s", "%.0f"},
	{"goodput_share", "of peak", "%.2f"},
	{"turned_away", "turned away", "%.0f"},
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
	if err := s.writeRatios(w, used); err != nil {
		return err
	}
	for _, v := range s.Verdicts {
		fmt.Fprintln(w, v.String())
	}
	return nil
}

// writeRatios writes our figures by those of each other server.
func (s *Sheet) writeRatios(w io.Writer, used []column) error {
	others := s.servers()
	if len(others) < 2 {
		return nil
	}
	used = slices.DeleteFunc(slices.Clone(used), func(c column) bool { return !compared(c.figure) })
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\n%s by\tcase\t", others[0])
	for _, c := range used {
		fmt.Fprint(t, c.head, "\t")
	}
	fmt.Fprintln(t)
	for _, other := range others[1:] {
		ratios := s.ratios(other)
		for _, one := range s.cases(other) {
			fmt.Fprintf(t, "%s\t%s\t", other, one.Name)
			for _, c := range used {
				if r, ok := ratios[s.figureOf(c.figure, one.Name)]; ok {
					fmt.Fprintf(t, "×%.2f", r)
				}
				fmt.Fprint(t, "\t")
			}
			fmt.Fprintln(t)
		}
	}
	return t.Flush()
}

// compared tells whether a figure is worth a ratio: rates, costs and times are.
func compared(figure string) bool {
	return strings.HasSuffix(figure, "_per_s") || strings.HasPrefix(figure, "cpu_us_") || figure == "rss_kib_per_session" || figure == "p50_ms" || figure == "p99_ms"
}

// servers are all that were measured, in turn.
func (s *Sheet) servers() (names []string) {
	for _, c := range s.Cases {
		if !slices.Contains(names, c.Server) {
			names = append(names, c.Server)
		}
	}
	return names
}

// cases are those of one server.
func (s *Sheet) cases(server string) (cases []Case) {
	for _, c := range s.Cases {
		if c.Server == server {
			cases = append(cases, c)
		}
	}
	return cases
}

// figureOf is the name of a case's figure.
func (s *Sheet) figureOf(figure, name string) string {
	if len(s.cases(s.Cases[0].Server)) == 1 {
		return figure
	}
	return figure + "_" + caseSuffix(name)
}

// ratios are our figures by another server's, case by case.
func (s *Sheet) ratios(other string) map[string]float64 {
	ratios := make(map[string]float64)
	for _, ours := range s.cases(s.Cases[0].Server) {
		for _, theirs := range s.cases(other) {
			if theirs.Name != ours.Name {
				continue
			}
			for figure, v := range ours.Figures {
				if t := theirs.Figures[figure]; compared(figure) && t > 0 {
					ratios[s.figureOf(figure, ours.Name)] = v / t
				}
			}
		}
	}
	return ratios
}

// generatorFull is the share of a core, in percent, above which a generator may be what was measured: its one loop has
// little room then.
const generatorFull = 90

// Figures returns the figures of the server that the sheet is about, under names that thresholds use: those of each case
// with the case's name behind, and without it what says most of the scenario as a whole. "figure/server" is ours by
// another's.
func (s *Sheet) Figures() map[string]float64 {
	all := make(map[string]float64)
	if len(s.Cases) == 0 {
		return all
	}
	for _, c := range s.cases(s.Cases[0].Server) {
		for figure, v := range c.Figures {
			all[s.figureOf(figure, c.Name)] = v
		}
	}
	for _, c := range s.cases(s.Cases[0].Server) {
		for figure, v := range c.Figures {
			if s.figureOf(figure, c.Name) == figure {
				continue
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
	for _, other := range s.servers()[1:] {
		for figure, r := range s.ratios(other) {
			all[figure+"/"+other] = r
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
