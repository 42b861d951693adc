package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// WriteBootJSON writes the rows as {"scenario":"boot","rows":[…]}.
func WriteBootJSON(w io.Writer, rows []BootRow) error {
	return json.NewEncoder(w).Encode(struct {
		Scenario string    `json:"scenario"`
		Rows     []BootRow `json:"rows"`
	}{"boot", rows})
}

// WriteBootTable writes the rows for people.
func WriteBootTable(w io.Writer, rows []BootRow) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "users\tpublished\tfull boot\tof it users\tchannels\ttime\tthin boot\tgzip\tlazy\twarm\tcold\tsmaller by\tbackend calls\t")
	for _, r := range rows {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%.1f ms\t%s\t%s\t%s\t%.2f ms\t%.2f ms\t%.0f×\t%d\t\n", r.Users, size(r.PublishedBytes), size(r.FullBytes),
			size(r.UsersBytes), size(r.ChannelsBytes), r.FullMS, size(r.ThinBytes), size(r.ThinGzipBytes), size(r.LazyBytes), r.WarmMS, r.ColdMS, r.Ratio, r.BackendCalls)
	}
	return t.Flush()
}

// WriteReconnectJSON writes the report as {"scenario":"reconnect","figures":{"warm":{…},"cold":{…},"direct":{…}}}.
func WriteReconnectJSON(w io.Writer, report ReconnectReport) error {
	return json.NewEncoder(w).Encode(struct {
		Scenario string          `json:"scenario"`
		Figures  ReconnectReport `json:"figures"`
	}{"reconnect", report})
}

// WriteReconnectTable writes the report for people.
func WriteReconnectTable(w io.Writer, report ReconnectReport) error {
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
	row("warm", &report.Warm)
	row("cold", &report.Cold)
	row("direct", &report.Direct)
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range []struct {
		name  string
		calls map[string]int
	}{{"warm", report.Warm.Calls}, {"cold", report.Cold.Calls}, {"direct", report.Direct.Calls}} {
		if len(c.calls) == 0 {
			continue
		}
		fmt.Fprintf(w, "%s calls:", c.name)
		for _, call := range slices.Sorted(maps.Keys(c.calls)) {
			fmt.Fprintf(w, " %s %d", call, c.calls[call])
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
