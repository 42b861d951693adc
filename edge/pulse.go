package edge

import (
	"maps"
	"slices"
	"sync"
	"time"

	"flannel/protocol"
)

const (
	// pulseEvery is how long changes of presence are collected, so that several become one frame and the last one wins.
	pulseEvery = 100 * time.Millisecond
	// calmAfter is how long no storm must have been seen before changes of presence are told again.
	calmAfter = 5 * time.Second
)

// pulse tells changes of presence, a little later than they come. In a storm of sockets it holds them back: nobody looks
// at presence then, and everybody's has changed.
type pulse struct {
	mu      sync.Mutex
	waiting map[*Session]struct{} // guarded by mu; none that has ended, so that a long storm keeps no sessions alive
}

func (p *pulse) add(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == nil {
		p.waiting = make(map[*Session]struct{})
	}
	p.waiting[s] = struct{}{}
}

func (p *pulse) remove(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, s)
}

func (p *pulse) take() map[*Session]struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.waiting
	p.waiting = nil
	return all
}

// beat tells what has been collected, every pulseEvery.
func (e *Edge) beat() {
	tick := time.NewTicker(pulseEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if h := &e.admission.handshakes; h.taken() > int(h.limit.Load())/2 || e.Pressure() >= PressureEphemeral { // Boots queue, or memory is short.
				e.storm.seen(e.now())
			}
			if !e.storm.raging(e.now()) {
				for s := range e.pulse.take() {
					s.tellPresence()
				}
			}
		case <-e.life.Done():
			return
		}
	}
}

// presenceLater collects a change. What is collected is bounded by whom the session follows.
func (s *Session) presenceLater(user protocol.UserID, p protocol.Presence) {
	s.mu.Lock()
	pr := s.presenceLocked()
	if pr.changed == nil {
		pr.changed = make(map[protocol.UserID]protocol.Presence)
	}
	_, again := pr.changed[user]
	pr.changed[user] = p
	first := !pr.pulsing
	pr.pulsing = true
	s.mu.Unlock()
	if again {
		s.edge.metrics.dropped.ephemeral.Inc()
	}
	if first {
		s.edge.pulse.add(s)
	}
}

// presenceAgain puts a change back that could not be told, unless there is a newer one or the user is not followed any more.
func (s *Session) presenceAgain(user protocol.UserID, p protocol.Presence) {
	s.mu.Lock()
	pr := s.presenceLocked()
	_, newer := pr.changed[user]
	if _, followed := pr.known[user]; !followed || newer {
		s.mu.Unlock()
		return
	}
	if pr.changed == nil {
		pr.changed = make(map[protocol.UserID]protocol.Presence)
	}
	pr.changed[user] = p
	first := !pr.pulsing
	pr.pulsing = true
	s.mu.Unlock()
	if first {
		s.edge.pulse.add(s)
	}
}

// tellPresence tells the collected changes: to clients that are batch_presence_aware in one frame for each state.
func (s *Session) tellPresence() {
	s.mu.Lock()
	pr := s.presenceLocked()
	changed := pr.changed
	pr.changed, pr.pulsing = nil, false
	s.mu.Unlock()
	frame := protocol.PresenceChange{Type: protocol.FramePresenceChange}
	var users [2][]protocol.UserID
	states := [2]protocol.Presence{protocol.Active, protocol.Away}
	for _, user := range slices.Sorted(maps.Keys(changed)) {
		i := slices.Index(states[:], changed[user])
		if i < 0 {
			continue
		}
		// What the client might hear when it was collected it may not hear any more. If nobody can tell now, it waits.
		switch may, known := s.edge.doors.Queries.Hears(*s.id, user); {
		case may:
			users[i] = append(users[i], user)
		case !known:
			s.presenceAgain(user, states[i])
		}
	}
	for i, p := range states {
		frame.Presence = p
		if s.batch && len(users[i]) > 0 {
			frame.Users = users[i]
			s.deliver(wireText(protocol.MustMarshal(frame)), protocol.ClassEphemeral, nil)
			continue
		}
		for _, user := range users[i] {
			frame.User = user
			s.deliver(wireText(protocol.MustMarshal(frame)), protocol.ClassEphemeral, nil)
		}
	}
}

// storm notices when sockets come faster than presence is worth.
type storm struct {
	mu    sync.Mutex
	since time.Time // the second that is counted
	opens int       // in it
	last  time.Time // when a storm was last seen
	limit int       // opens a second
}

// opened counts a socket.
func (t *storm) opened(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.since) >= time.Second {
		t.since, t.opens = now, 0
	}
	if t.opens++; t.opens > t.limit {
		t.last = now
	}
}

// seen says that there is a storm, by another sign.
func (t *storm) seen(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = now
}

// raging reports whether a storm was seen within calmAfter.
func (t *storm) raging(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.last.IsZero() && now.Sub(t.last) < calmAfter
}

// SetPresence switches presence on or off while the node runs: off, nobody's is followed and no change is told; on again,
// every session hears the present state of whom it follows. Sessions are reported to the backend all the same.
func (e *Edge) SetPresence(on bool) {
	if e.mute.Swap(!on) == !on {
		return
	}
	for _, s := range e.sessions.all() {
		s.aside(func() { s.follow() })
	}
}
