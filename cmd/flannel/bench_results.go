package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"flannel/bench"
	"flannel/bench/plot"
)

// results is the folder that a sitting writes.
type results struct {
	sitting  *sitting
	sections bytes.Buffer
	verdicts bytes.Buffer
}

func newResults(s *sitting) *results { return &results{sitting: s} }

// add writes a scenario's files, and results.md anew.
func (r *results) add(p part, sheet *bench.Sheet, took time.Duration) error {
	var text bytes.Buffer
	if err := sheet.WriteJSON(&text); err != nil {
		return err
	}
	if err := r.write(p.name+".json", text.Bytes()); err != nil {
		return err
	}
	fmt.Fprintf(&r.sections, "## %s\n\n%s %s in %.0f s. All figures: [%s.json](%s.json).\n\n", p.name, p.says, runs(sheet.Runs), took.Seconds(), p.name, p.name)
	if err := sheet.WriteMarkdown(&r.sections); err != nil {
		return err
	}
	for _, c := range sheet.Cases {
		if c.Fault != "" {
			fmt.Fprintf(&r.sections, "%s, %s: %s\n\n", c.Server, c.Name, c.Fault)
		}
	}
	for _, picture := range plot.Pictures(sheet) {
		if err := r.write(picture.Name+".svg", picture.SVG); err != nil {
			return err
		}
		fmt.Fprintf(&r.sections, "![%s](%s.svg)\n\n", picture.Alt, picture.Name)
	}
	for _, v := range sheet.Verdicts {
		fmt.Fprintf(&r.verdicts, "| %s | `%s` | %.4g | %s |\n", p.name, v.Required, v.Measured, yesNo(v.Met))
	}
	return r.write("results.md", r.page())
}

func runs(n int) string {
	if n == 1 {
		return "One run"
	}
	return fmt.Sprintf("Medians of %d runs", n)
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "**no**"
}

// page is results.md so far.
func (r *results) page() []byte {
	var b bytes.Buffer
	s := r.sitting
	fmt.Fprintf(&b, "# Results\n\nWritten by `flannel bench all --runs %d`", s.runs)
	if s.scale < 1 {
		fmt.Fprintf(&b, " with `--scale %g`: a quick look with that share of the people and times named here, which says nothing of what is required", s.scale)
	}
	fmt.Fprintf(&b, ", revision %.12s, on %s. How it is measured, and what the figures mean: docs/benchmarks.md and docs/bench.md.\n\n",
		buildVersion().Revision, machine())
	if r.verdicts.Len() > 0 {
		b.WriteString("## What is required\n\n| scenario | required | measured | met |\n|---|---|--:|---|\n")
		b.Write(r.verdicts.Bytes())
		b.WriteString("\n")
	}
	b.Write(bytes.TrimRight(r.sections.Bytes(), "\n"))
	b.WriteString("\n")
	return b.Bytes()
}

func (r *results) write(name string, text []byte) error {
	return os.WriteFile(filepath.Join(r.sitting.out, name), text, 0o644) //nolint:gosec // Results are for everybody.
}

// machine is what it was measured on.
func machine() string {
	words := []string{fmt.Sprintf("%d cores", runtime.NumCPU())}
	if model := lineOf("/proc/cpuinfo", "model name"); model != "" {
		words[0] += " (" + model + ")"
	}
	var kib int
	if _, err := fmt.Sscanf(lineOf("/proc/meminfo", "MemTotal"), "%d kB", &kib); err == nil {
		words = append(words, fmt.Sprintf("%d GiB", (kib+1<<19)>>20))
	}
	return strings.Join(append(words, runtime.GOOS+"/"+runtime.GOARCH, runtime.Version()), ", ")
}

// lineOf is what stands behind a name in a file of /proc, "" if it does not.
func lineOf(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
