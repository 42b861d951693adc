package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
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
	// Text is a table that says more of this scenario than the general one, "" if there is none. Extra are more fields for
	// machines, which stand in place of the general ones.
	Text  string
	Extra map[string]any
}

// column is a figure in tables: its head and how it is written.
type column struct{ figure, head, format string }

// columns are all figures, in the order of tables.
var columns = []column{
	{"sessions", "sessions", "%.0f"},
	{"users", "users", "%.0f"},
	{"full_bytes", "full boot", "%.0f"},
	{"full_ms", "full ms", "%.1f"},
	{"thin_bytes", "thin boot", "%.0f"},
	{"lazy_bytes", "lazy boot", "%.0f"},
	{"cold_ms", "cold ms", "%.2f"},
	{"warm_ms", "warm ms", "%.2f"},
	{"rss_kib_per_session", "KiB/session", "%.2f"},
	{"rss_kib_per_session_peak", "KiB at most", "%.2f"},
	{"rss_kib_empty", "KiB empty", "%.0f"},
	{"rss_mib", "MiB above empty", "%.1f"},
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
	{"bytes_per_delivery", "bytes/delivery", "%.0f"},
	{"p50_ms", "p50 ms", "%.2f"},
	{"p99_ms", "p99 ms", "%.2f"},
	{"p999_ms", "p99.9 ms", "%.2f"},
	{"max_ms", "most ms", "%.1f"},
	{"p99_times", "p99 × steady", "%.2f"},
	{"back", "back", "%.0f"},
	{"back_p99_ms", "back p99 ms", "%.1f"},
	{"seconds_to_last", "s to the last", "%.1f"},
	{"offered_per_s", "offered/s", "%.0f"},
	{"goodput_per_s", "goodput/s", "%.0f"},
	{"goodput_share", "of peak", "%.2f"},
	{"turned_away", "turned away", "%.0f"},
	{"retries", "retries", "%.0f"},
	{"backend_calls", "backend calls", "%.0f"},
	{"badges_wrong", "wrong badges", "%.0f"},
	{"lost", "lost", "%.0f"},
	{"errors", "errors", "%.0f"},
	{"generator_cpu_percent", "generator CPU %", "%.0f"},
}

// WriteTable writes the sheet for people.
func (s *Sheet) WriteTable(w io.Writer) error {
	if s.Text != "" {
		fmt.Fprint(w, s.Text)
	} else if err := s.writeGeneral(w); err != nil {
		return err
	}
	for _, v := range s.Verdicts {
		fmt.Fprintln(w, v.String())
	}
	return nil
}

// writeGeneral writes the table that any scenario has.
func (s *Sheet) writeGeneral(w io.Writer) error {
	if err := align(w, s.rows()); err != nil {
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
	ratios := s.ratioRows()
	if len(ratios) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return align(w, ratios)
}

// align writes rows of cells, the first of them their heads.
func align(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t")+"\t")
	}
	return t.Flush()
}

// WriteMarkdown writes the tables for a document.
func (s *Sheet) WriteMarkdown(w io.Writer) error {
	for _, rows := range [][][]string{s.rows(), s.ratioRows()} {
		for i, row := range rows {
			fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
			if i == 0 {
				fmt.Fprintf(w, "|---|---|%s\n", strings.Repeat("--:|", len(row)-2))
			}
		}
		if len(rows) > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
	}
	return nil
}

// used are the columns that some case has a figure for.
func (s *Sheet) used() (used []column) {
	for _, c := range columns {
		if slices.ContainsFunc(s.Cases, func(one Case) bool { _, ok := one.Figures[c.figure]; return ok }) {
			used = append(used, c)
		}
	}
	return used
}

// rows are the cells of the table.
func (s *Sheet) rows() [][]string {
	used := s.used()
	head := []string{"server", "case"}
	for _, c := range used {
		head = append(head, c.head)
	}
	rows := [][]string{head}
	for _, one := range s.Cases {
		row := []string{one.Server, one.Name}
		for _, c := range used {
			cell := ""
			if v, ok := one.Figures[c.figure]; ok {
				cell = fmt.Sprintf(c.format, v)
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	return rows
}

// ratioRows are our figures by those of each other server; none if there is no other.
func (s *Sheet) ratioRows() [][]string {
	others := s.servers()
	if len(others) < 2 {
		return nil
	}
	used := slices.DeleteFunc(s.used(), func(c column) bool { return !compared(c.figure) })
	head := []string{others[0] + " by", "case"}
	for _, c := range used {
		head = append(head, c.head)
	}
	rows := [][]string{head}
	for _, other := range others[1:] {
		ratios := s.ratios(other)
		for _, one := range s.cases(other) {
			row := []string{other, one.Name}
			for _, c := range used {
				cell := ""
				if r, ok := ratios[s.figureOf(c.figure, one.Name)]; ok {
					cell = fmt.Sprintf("×%.2f", r)
				}
				row = append(row, cell)
			}
			rows = append(rows, row)
		}
	}
	return rows
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

// WriteJSON writes the sheet for machines: the figures of the server that it is about, all cases of all servers, the
// verdicts, and the fields of the scenario's own.
func (s *Sheet) WriteJSON(w io.Writer) error {
	type field struct {
		name  string
		value any
	}
	fields := []field{{"scenario", s.Scenario}, {"runs", s.Runs}, {"figures", s.Figures()}, {"cases", s.Cases}}
	if len(s.Verdicts) > 0 {
		fields = append(fields, field{"verdicts", s.Verdicts})
	}
	for _, name := range slices.Sorted(maps.Keys(s.Extra)) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		if i < 0 {
			i, fields = len(fields), append(fields, field{name: name})
		}
		fields[i].value = s.Extra[name]
	}
	for i, f := range fields {
		value, err := json.Marshal(f.value)
		if err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
		mark := ","
		if i == 0 {
			mark = "{"
		}
		fmt.Fprintf(w, "%s%q:%s", mark, f.name, value)
	}
	_, err := io.WriteString(w, "}\n")
	return err
}
