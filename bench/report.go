package bench

import (
	"encoding/json"
	"fmt"
	"io"
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
