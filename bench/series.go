package bench

import (
	"sync"
	"time"

	"flannel/bench/load"
)

// Series is how one run of one server went over time.
type Series struct {
	Server  string
	Samples []Sample
}

// Sample is a moment of a run.
type Sample struct {
	Seconds  float64 // since the run began
	Rate     float64 // connections, right answers and deliveries a second
	P99MS    float64 // since the last sample; 0 if nothing was timed
	Memory   float64 // resident, MiB
	CPU      float64 // percent of a core since the last sample
	Backend  float64 // calls to what is behind the server, since the run began
	Measured bool    // there is a process, so Memory and CPU are true
}

// sampleEvery is fine enough to see a stall, and coarse enough that nobody notices the sampling.
const sampleEvery = 500 * time.Millisecond

// Record samples a run until stop is called, which returns what was sampled.
func (b *Bench) Record() (stop func() Series) {
	r := &recorder{b: b, began: time.Now(), times: load.NewTimes(), end: make(chan struct{}), ended: make(chan struct{}), calls: b.Target.calls()}
	r.series.Server = b.Target.Name
	if b.Live != nil {
		b.Live.Begin(b.Target.Name)
	}
	b.Crew.OnTick(r.count)
	go r.run()
	return func() Series {
		close(r.end)
		<-r.ended
		b.Crew.OnTick(nil)
		return r.series
	}
}

// recorder is a Record under way.
type recorder struct {
	b          *Bench
	began      time.Time
	end, ended chan struct{} // closed by stop, and by run
	calls      int64         // when the run began

	// Owned by run.
	series Series
	last   time.Time
	cpu    time.Duration

	mu     sync.Mutex
	counts load.Counts // since the last sample
	times  *load.Times
}

// count takes a generator's report.
func (r *recorder) count(_ time.Time, c load.Counts, t *load.Times) {
	if r.b.Live != nil {
		r.b.Live.Add(r.b.Target.Name, c, t)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts.Add(c)
	r.times.Merge(t)
}

func (r *recorder) run() {
	defer close(r.ended)
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	r.last = r.began
	if p := r.b.Target.Process; p != nil {
		r.cpu, _ = p.CPU() // Without it the first sample is of its whole life.
	}
	for {
		select {
		case <-tick.C:
			r.sample()
		case <-r.end:
			r.sample()
			return
		}
	}
}

func (r *recorder) sample() {
	at := time.Now()
	took := at.Sub(r.last)
	r.last = at
	r.mu.Lock()
	c, times := r.counts, r.times
	r.counts, r.times = load.Counts{}, load.NewTimes()
	r.mu.Unlock()
	s := Sample{
		Seconds: at.Sub(r.began).Seconds(), Rate: float64(c.Opened+c.Queries+c.Delivered) / took.Seconds(), P99MS: times.Percentile(99),
		Backend: float64(r.b.Target.calls() - r.calls),
	}
	if p := r.b.Target.Process; p != nil {
		memory, err := p.Memory()
		cpu, cpuErr := p.CPU()
		if s.Measured = err == nil && cpuErr == nil; s.Measured {
			s.Memory, s.CPU = float64(memory.Resident)/(1<<20), 100*float64(cpu-r.cpu)/float64(took)
			r.cpu = cpu
		}
	}
	r.series.Samples = append(r.series.Samples, s)
}
