package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"flannel/bench"
	"flannel/bench/plot"
)

// sheetFlags are what is done with a scenario's result, the same for all scenarios.
type sheetFlags struct {
	app *app

	asJSON  bool
	require []string
	html    string

	thresholds []bench.Threshold // what require says, once it was checked
}

// errUnmet is a threshold that was not met.
var errUnmet = errors.New("a threshold was not met")

func (f *sheetFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
	flags.StringVar(&f.html, "html", "", "file to write a page with plots to, besides: latency, rate, memory, calls; it needs no network")
	flags.StringArrayVar(&f.require, "require", nil, "threshold, like 'p99<50ms'; may be given several times. If one is not met the exit code is 3")
}

// checkThresholds reads what is required, before anything is started.
func (f *sheetFlags) checkThresholds() error {
	f.thresholds = make([]bench.Threshold, len(f.require))
	for i, text := range f.require {
		var err error
		if f.thresholds[i], err = bench.ParseThreshold(text); err != nil {
			return &usageError{err}
		}
	}
	return nil
}

// print judges and writes a result.
func (f *sheetFlags) print(sheet *bench.Sheet) error {
	met, err := sheet.Judge(f.thresholds)
	if err != nil {
		return &usageError{err}
	}
	if f.html != "" {
		if err := f.writePage(sheet); err != nil {
			return err
		}
	}
	if f.asJSON {
		err = sheet.WriteJSON(f.app.stdout)
	} else {
		err = sheet.WriteTable(f.app.stdout)
	}
	if err == nil && !met {
		err = errUnmet
	}
	return err
}

// writePage writes the page with plots.
func (f *sheetFlags) writePage(sheet *bench.Sheet) (err error) {
	file, err := os.Create(f.html)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return plot.WriteHTML(file, sheet)
}
