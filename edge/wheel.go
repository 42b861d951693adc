package edge

import "time"

const (
	// spokes is into how many parts the sessions are split. One part is looked at at a time, each once a turn: what all
	// sessions may want at once, badges, pings, the end of their tokens, comes in small bursts instead of one that
	// events have to wait for.
	spokes = 20
	// turn is how often a session is looked at. A channel's badge is told as often.
	turn = time.Second
)

// wheel holds the sessions. Its owner guards it.
type wheel struct {
	spokes [spokes]map[*Session]struct{}
	count  int
}

func (w *wheel) add(s *Session) {
	spoke := &w.spokes[s.number%spokes]
	if *spoke == nil {
		*spoke = make(map[*Session]struct{})
	}
	(*spoke)[s] = struct{}{}
	w.count++
}

func (w *wheel) remove(s *Session) {
	spoke := w.spokes[s.number%spokes]
	if _, ok := spoke[s]; ok {
		delete(spoke, s)
		w.count--
	}
}

// at appends the sessions of a spoke.
func (w *wheel) at(spoke int, all []*Session) []*Session {
	for s := range w.spokes[spoke] {
		all = append(all, s)
	}
	return all
}

// keep looks after what only time brings about: pings, clients that are gone, tokens that expire, badges, old tickets.
func (e *Edge) keep() {
	tick := time.NewTicker(turn / spokes)
	defer tick.Stop()
	var some []*Session
	for spoke := 0; ; spoke = (spoke + 1) % spokes {
		select {
		case <-tick.C:
		case <-e.life.Done():
			return
		}
		now := e.now()
		e.mu.Lock()
		some = e.sessions.at(spoke, some[:0])
		e.mu.Unlock()
		for _, s := range some {
			s.check(now) // which does not block
		}
		clear(some) // Those that end are not kept.
		if spoke == 0 {
			e.tickets.sweep()
			suppressed := 0.0
			if e.mute.Load() || e.storm.raging(now) {
				suppressed = 1
			}
			e.metrics.suppressed.Set(suppressed)
		}
	}
}
