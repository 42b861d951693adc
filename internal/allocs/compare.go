package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// figures are what one run of a benchmark's loop allocates.
type figures struct {
	name          string
	bytes, allocs int64
}

// parse reads the output of go test -benchmem, or the file: lines that begin with a name, with a number before "B/op" and one
// before "allocs/op". Others are passed over.
func parse(text string) ([]figures, error) {
	var all []figures
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		f := figures{bytes: -1, allocs: -1}
		for i := 1; i < len(words); i++ {
			to := map[string]*int64{"B/op": &f.bytes, "allocs/op": &f.allocs}[words[i]]
			if to == nil {
				continue
			}
			n, err := strconv.ParseInt(words[i-1], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", strings.TrimSpace(line), err)
			}
			*to = n
		}
		if f.bytes >= 0 && f.allocs >= 0 {
			f.name = strings.TrimPrefix(words[0], "Benchmark")
			all = append(all, f)
		}
	}
	return all, nil
}

func format(all []figures) string {
	var b strings.Builder
	b.WriteString("# What the hot paths allocate. Written by go run ./internal/allocs -update, compared by make allocs.\n")
	for _, f := range all {
		fmt.Fprintf(&b, "%s %d B/op %d allocs/op\n", f.name, f.bytes, f.allocs)
	}
	return b.String()
}

// Slack is what may come on top of a fifth: pools that were emptied, maps that grew just then.
const (
	slackBytes  = 64
	slackAllocs = 0
)

// more reports whether now is more than a fifth above before.
func more(before, now, slack int64) bool { return now > before+before/5+slack }

// compare prints both, and returns the names of those that are worse, or that the file does not know, or that are gone.
func compare(w io.Writer, before, now []figures) (worse []string) {
	was := make(map[string]figures, len(before))
	for _, f := range before {
		was[f.name] = f
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "benchmark\tB/op before\tnow\tallocs/op before\tnow\t")
	for _, f := range now {
		b, known := was[f.name]
		delete(was, f.name)
		verdict := ""
		switch {
		case !known:
			verdict = "not in the file"
		case more(b.bytes, f.bytes, slackBytes), more(b.allocs, f.allocs, slackAllocs):
			verdict = "MORE"
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s\n", f.name, b.bytes, f.bytes, b.allocs, f.allocs, verdict)
		if verdict != "" {
			worse = append(worse, f.name)
		}
	}
	for _, f := range before {
		if _, left := was[f.name]; left {
			fmt.Fprintf(t, "%s\t%d\t\t%d\t\tgone\n", f.name, f.bytes, f.allocs)
			worse = append(worse, f.name)
		}
	}
	t.Flush() //nolint:errcheck // Standard output.
	return worse
}
