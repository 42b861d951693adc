package edge

import (
	"cmp"
	"slices"
)

// Pressure is how short of memory the node is. Each level does what the ones before do, too.
type Pressure int32

// The levels. Steady sessions are the last to suffer.
const (
	PressureNone      Pressure = iota
	PressureEphemeral          // typing is dropped, and changes of presence wait
	PressureBoots              // new sockets are turned away
	PressureOutboxes           // the sessions for which most waits are closed
)

// Pressure returns the present level.
func (e *Edge) Pressure() Pressure { return Pressure(e.pressure.Load()) }

// SetPressure says how short of memory the node is. At PressureOutboxes each call closes sessions, so it is to be called again
// only once the memory of the last call can have come free: after a second or so. It does not block.
func (e *Edge) SetPressure(p Pressure) {
	if was := Pressure(e.pressure.Swap(int32(p))); was != p {
		e.log.Warn("memory pressure has changed", "level", int(p), "before", int(was))
	}
	e.metrics.pressure.Set(float64(p))
	if p >= PressureOutboxes {
		e.closeFattest()
	}
}

// slim is what an outbox may hold whatever the pressure: below it there is nothing to win.
const slim = 4 << 10

// closeFattest closes the sessions for which most waits, fattest first, until half of all that waits is gone. Their clients
// are told to fetch everything anew: it is what they are told when an outbox is full.
func (e *Edge) closeFattest() {
	type fat struct {
		s     *Session
		bytes int
	}
	var all []fat
	total := 0
	for _, s := range e.sessions.all() {
		if n := s.waits(); n > slim {
			all = append(all, fat{s, n})
			total += n
		}
	}
	slices.SortFunc(all, func(a, b fat) int { return cmp.Compare(b.bytes, a.bytes) })
	for freed := 0; len(all) > 0 && freed < (total+1)/2; all = all[1:] {
		freed += all[0].bytes
		all[0].s.overflow()
	}
}

// waits returns how many bytes wait for the session.
func (s *Session) waits() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, box := range []outbox{s.out, s.early} {
		if !box.empty() {
			for i := range box.items {
				n += len(box.items[i].frame)
			}
		}
	}
	return n
}
