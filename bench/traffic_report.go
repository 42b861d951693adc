package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// TrafficSheet is the result: a case for each mode; for machines the figures are {"compatible":{…},"thin":{…},
// "thin_views":{…}}, with "passive" among them if it was measured.
func TrafficSheet(r TrafficReport) *Sheet {
	s := &Sheet{Scenario: "traffic", Runs: 1}
	figures := make(map[string]any, len(r.Figures)+1)
	for _, mode := range Modes {
		f := r.Figures[mode]
		figures[string(mode)] = f
		c := Case{Server: "flannel", Name: string(mode), Figures: numbersOf(f)}
		for kind, bytes := range f.Kinds {
			c.set("bytes_"+strings.ReplaceAll(string(kind), " ", "_"), bytes)
		}
		s.Cases = append(s.Cases, c)
	}
	if r.Passive != nil {
		figures["passive"] = r.Passive
		s.Cases = append(s.Cases, Case{Server: "flannel", Name: "passive", Figures: numbersOf(r.Passive)})
	}
	s.Extra = map[string]any{"users": r.Users, "events": r.Events, "day_hours": r.Day.Hours(), "figures": figures}
	s.Text = textOf(func(w io.Writer) error { return writeTrafficTable(w, r) })
	return s
}

// writeTrafficTable writes the report for people.
func writeTrafficTable(w io.Writer, r TrafficReport) error {
	happened := make([]string, 0, len(r.Events))
	for _, what := range slices.Sorted(maps.Keys(r.Events)) {
		happened = append(happened, fmt.Sprintf("%d %s", r.Events[what], what))
	}
	fmt.Fprintf(w, "A workspace of %d, %.0f minutes of a busy day: %s.\nBytes on the wire for one session and hour:\n\n", r.Users, r.Day.Minutes(), strings.Join(happened, ", "))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, cell func(TrafficFigures) string) {
		fmt.Fprintf(t, "%s\t", name)
		for _, m := range Modes {
			fmt.Fprintf(t, "%s\t", cell(r.Figures[m]))
		}
		fmt.Fprintln(t)
	}
	fmt.Fprint(t, "\t")
	for _, m := range Modes {
		fmt.Fprintf(t, "%s\t", m)
	}
	fmt.Fprintln(t)
	row("sessions", func(f TrafficFigures) string { return fmt.Sprint(f.Sessions) })
	row("bytes", func(f TrafficFigures) string { return size(int(f.BytesPerHour)) })
	row("of compatible", func(f TrafficFigures) string {
		return fmt.Sprintf("%.0f %%", 100*f.BytesPerHour/r.Figures[ModeCompatible].BytesPerHour)
	})
	row("without objects", func(f TrafficFigures) string {
		return size(int(f.BytesPerHour - f.Kinds[KindObjects] - f.Kinds[KindAnswers]))
	})
	row("frames", func(f TrafficFigures) string { return fmt.Sprintf("%.0f", f.FramesPerHour) })
	for _, k := range Kinds {
		row(string(k), func(f TrafficFigures) string { return size(int(f.Kinds[k])) })
	}
	row("sent", func(f TrafficFigures) string { return size(int(f.SentPerHour)) })
	row("lookups", func(f TrafficFigures) string { return fmt.Sprintf("%.0f", f.Lookups) })
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nOf 100 messages and reactions out of view, %.0f had a badge of their own in this replay; a badge is counted for each.\n",
		100*r.Figures[ModeThinViews].BadgeShare)
	fmt.Fprintln(w, "Thin clients are given people and channels here as they meet them; compatible ones had them all in their full boot.")
	if r.Day < time.Hour {
		fmt.Fprintln(w, "People are met mostly at the beginning: stretched from less than an hour, objects, answers and lookups are too many.")
	}
	if p := r.Passive; p != nil {
		fmt.Fprintf(w, "\nA channel of %d, out of view of %d sessions, %.1f messages a second: %.2f badges a second and session, %.2f at most,\n"+
			"%.2f s apart at least; %.0f bytes a second and session; %d messages in full.\n",
			p.Members, p.Sessions, p.PerSecond, p.Badges, p.BadgesMost, p.ShortestGap, p.BytesPerSecond, p.Messages)
	}
	return nil
}
