package main

import (
	"fmt"
	"io"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress shows one bar per phase of a long work: on a terminal as bars, elsewhere as a line per phase.
type progress struct {
	w     io.Writer
	bars  *mpb.Progress // nil when w is no terminal
	mu    sync.Mutex
	phase map[string]*mpb.Bar
	lines map[string]bool
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, phase: make(map[string]*mpb.Bar), lines: make(map[string]bool)}
	if isTerminal(w) {
		p.bars = mpb.New(mpb.WithOutput(w), mpb.WithWidth(48))
	}
	return p
}

// Step tells that done of total steps of a phase are done. It may be called from any goroutine.
func (p *progress) Step(phase string, done, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bars == nil {
		if done >= total && !p.lines[phase] {
			p.lines[phase] = true
			fmt.Fprintf(p.w, "%s: %d done\n", phase, total)
		}
		return
	}
	bar, ok := p.phase[phase]
	if !ok {
		bar = p.bars.AddBar(int64(total),
			mpb.PrependDecorators(decor.Name(phase, decor.WCSyncSpaceR), decor.CountersNoUnit("%d / %d", decor.WCSyncSpace)),
			mpb.AppendDecorators(decor.Percentage(), decor.AverageETA(decor.ET_STYLE_GO, decor.WCSyncSpace)))
		p.phase[phase] = bar
	}
	bar.SetTotal(int64(total), false)
	bar.SetCurrent(int64(done))
	if done >= total {
		bar.SetTotal(int64(total), true)
	}
}

// Done ends all bars, finished or not.
func (p *progress) Done() {
	if p.bars == nil {
		return
	}
	p.mu.Lock()
	for _, bar := range p.phase {
		bar.Abort(false)
	}
	p.mu.Unlock()
	p.bars.Wait()
}
