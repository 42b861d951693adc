package edge

import (
	"fmt"
	"runtime"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// Limits are what can be changed while the node runs. All are above 0.
type Limits struct {
	Sessions   int // Config.MaxSessions
	Handshakes int // Config.MaxHandshakes
	Opens      int // Config.OpenRate
	Calls      int // Config.MaxCalls
}

// opensPerCore leaves half of a core for those who are in: a handshake with hello and boot takes 0.2 to 0.4 ms of one.
const opensPerCore = 1000

// Limits returns the limits that the configuration asks for.
func (c *Config) Limits() Limits {
	opens := c.OpenRate
	if opens == 0 {
		opens = opensPerCore * runtime.GOMAXPROCS(0)
	}
	return Limits{Sessions: c.MaxSessions, Handshakes: c.MaxHandshakes, Opens: opens, Calls: c.MaxCalls}
}

// admission is what stands between a client and a place: each layer turns away what the next could not bear. It is safe for
// concurrent use.
type admission struct {
	sessions   atomic.Int64 // how many there may be; counted under Edge.mu
	handshakes places       // sockets that are not booted yet
	calls      places       // HTTP calls under way
	// opens is the rate of upgrades. A second's worth may come at once: clients that come back with jitter do not come evenly.
	opens *rate.Limiter
}

func newAdmission(l Limits) *admission {
	a := &admission{opens: rate.NewLimiter(rate.Limit(l.Opens), l.Opens)}
	a.set(l)
	return a
}

func (a *admission) set(l Limits) {
	a.sessions.Store(int64(l.Sessions))
	a.handshakes.limit.Store(int64(l.Handshakes))
	a.calls.limit.Store(int64(l.Calls))
	a.opens.SetLimit(rate.Limit(l.Opens))
	a.opens.SetBurst(l.Opens)
}

// Limits returns what holds now.
func (e *Edge) Limits() Limits {
	a := e.admission
	return Limits{Sessions: int(a.sessions.Load()), Handshakes: int(a.handshakes.limit.Load()), Opens: a.opens.Burst(), Calls: int(a.calls.limit.Load())}
}

// SetLimits changes the limits of the running node. Who has a place keeps it: a limit below what is taken only lets nobody in.
func (e *Edge) SetLimits(l Limits) error {
	if l.Sessions <= 0 || l.Handshakes <= 0 || l.Opens <= 0 || l.Calls <= 0 {
		return fmt.Errorf("a limit must be above 0: %+v", l)
	}
	e.admission.set(l)
	e.metrics.limit.Set(float64(l.Sessions))
	return nil
}

// places are what a limit leaves free; the limit may change while they are taken.
type places struct{ limit, used atomic.Int64 }

// take reports whether it has taken a place.
func (p *places) take() bool {
	for {
		n := p.used.Load()
		if n >= p.limit.Load() {
			return false
		}
		if p.used.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (p *places) giveBack() { p.used.Add(-1) }

func (p *places) taken() int { return int(p.used.Load()) }

func (p *places) full() bool { return p.used.Load() >= p.limit.Load() }

// Reasons for turning a socket away.
const (
	becauseDraining = "draining"
	becauseFull     = "full"
	becauseRate     = "rate"
	becauseFiles    = "files"
)

// Where a socket is turned away: the label of flannel_admission_rejected_total.
const (
	stageConnections = "connections"
	stageSessions    = "sessions"
	stageHandshakes  = "handshakes"
	stageOpens       = "opens"
	stageMemory      = "memory"
)

// refusals is what a client that is turned away is told.
var refusals = map[string]string{
	becauseDraining: "the node is draining",
	becauseFull:     "the node is full",
	becauseRate:     "too many sockets are opened at once",
}

// full tells why no socket can be taken now, and what has no room; "" if one can, which then counts against the rate.
func (e *Edge) full() (stage, reason string) {
	switch a := e.admission; {
	case e.refusing.Load():
		return stageSessions, becauseDraining
	case e.Pressure() >= PressureBoots:
		return stageMemory, becauseFull
	case e.Sessions() >= int(a.sessions.Load()):
		return stageSessions, becauseFull
	case a.handshakes.full():
		return stageHandshakes, becauseFull
	case !a.opens.AllowN(e.now(), 1):
		return stageOpens, becauseRate
	default:
		return "", ""
	}
}
