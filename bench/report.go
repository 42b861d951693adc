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

// BootSheet is the result of boots: a case for each workspace, named by its people; for machines also the rows.
func BootSheet(rows []BootRow) *Sheet {
	s := &Sheet{Scenario: "boot", Runs: 1, Extra: map[string]any{"rows": rows}}
	for _, r := range rows {
		c := Case{Server: "flannel", Name: fmt.Sprint(r.Users), Figures: numbersOf(r)}
		s.Cases = append(s.Cases, c)
	}
	s.Text = textOf(func(w io.Writer) error { return writeBootTable(w, rows) })
	return s
}

// numbersOf are the fields of a struct that are numbers, by their names in JSON.
func numbersOf(v any) map[string]float64 {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // A struct of numbers and texts.
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		panic(err) // As above.
	}
	numbers := make(map[string]float64)
	for name, field := range fields {
		if n, ok := field.(float64); ok {
			numbers[name] = n
		}
	}
	return numbers
}

// textOf is what write writes.
func textOf(write func(io.Writer) error) string {
	var text strings.Builder
	write(&text) //nolint:errcheck // A strings.Builder takes everything.
	return text.String()
}

// writeBootTable writes the rows for people.
func writeBootTable(w io.Writer, rows []BootRow) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "users\tpublished\tfull boot\tof it users\tchannels\ttime\tthin boot\tgzip\tlazy\twarm\tcold\tsmaller by\tbackend calls\t")
	for _, r := range rows {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%.1f ms\t%s\t%s\t%s\t%.2f ms\t%.2f ms\t%.0f×\t%d\t\n", r.Users, size(r.PublishedBytes), size(r.FullBytes),
			size(r.UsersBytes), size(r.ChannelsBytes), r.FullMS, size(r.ThinBytes), size(r.ThinGzipBytes), size(r.LazyBytes), r.WarmMS, r.ColdMS, r.Ratio, r.BackendCalls)
	}
	return t.Flush()
}

// ReconnectSheet joins the reports of several runs: cases warm, cold and direct, of each figure the median. For machines the
// figures are {"warm":{…},"cold":{…},"direct":{…}}, as those of each report.
func ReconnectSheet(reports []ReconnectReport) *Sheet {
	var runs [][]Case
	for i := range reports {
		var cases []Case
		for _, row := range reports[i].rows() {
			cases = append(cases, Case{Server: "flannel", Name: row.name, Figures: numbersOf(row.figures), Latency: row.figures.times})
		}
		runs = append(runs, cases)
	}
	s := &Sheet{Scenario: "reconnect", Runs: len(reports), Cases: Medians(runs)}
	report := reports[0] // What is no number is the first run's.
	for i, row := range report.rows() {
		text, err := json.Marshal(s.Cases[i].Figures)
		if err == nil {
			err = json.Unmarshal(text, row.figures)
		}
		if err != nil {
			panic(err) // They were in one a moment ago.
		}
	}
	s.Extra = map[string]any{"figures": report}
	s.Text = textOf(func(w io.Writer) error { return writeReconnectTable(w, report) })
	return s
}

// reconnectRow is a row of a report with its name.
type reconnectRow struct {
	name    string
	figures *Figures
}

func (r *ReconnectReport) rows() []reconnectRow {
	return []reconnectRow{{"warm", &r.Warm}, {"cold", &r.Cold}, {"direct", &r.Direct}}
}

// writeReconnectTable writes the report for people.
func writeReconnectTable(w io.Writer, report ReconnectReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tusers\terrors\tturned away\tbackend calls\trequired\tper user\tto the last\tp50\tp99\tboots at once\twrong badges\tmet\t")
	row := func(name string, f *Figures) {
		required, boots, badges, met := "", "", "", ""
		if f.Required != nil {
			required = fmt.Sprintf("at most %d", *f.Required)
			badges = fmt.Sprintf("%d of %d", f.BadgesWrong, f.BadgesChecked)
			met = "no"
			if f.Met() {
				met = "yes"
			}
		}
		if f.BootConcurrency > 0 {
			boots = fmt.Sprintf("%d of %d", f.BootsAtOnce, f.BootConcurrency)
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s\t%.4f\t%.1f s\t%.0f ms\t%.0f ms\t%s\t%s\t%s\t\n",
			name, f.Users, f.Errors, f.Retries, f.BackendCalls, required, f.BackendCallsPerUser, f.SecondsToLast, f.P50MS, f.P99MS, boots, badges, met)
	}
	for _, r := range report.rows() {
		row(r.name, r.figures)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range report.rows() {
		calls := r.figures.Calls
		if len(calls) == 0 {
			continue
		}
		fmt.Fprintf(w, "%s calls:", r.name)
		for _, call := range slices.Sorted(maps.Keys(calls)) {
			fmt.Fprintf(w, " %s %d", call, calls[call])
		}
		fmt.Fprintln(w)
	}
	return nil
}

// size writes a number of bytes in the units of the published figures.
func size(n int) string {
	switch {
	case n >= 10_000_000:
		return fmt.Sprintf("%.0f MB", float64(n)/1e6)
	case n >= 1_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 10_000:
		return fmt.Sprintf("%.0f KB", float64(n)/1e3)
	default:
		return fmt.Sprintf("%.1f KB", float64(n)/1e3)
	}
}
