package edge

import (
	"time"

	"flannel/protocol"
)

// keep looks after what only time brings about: pings, clients that are gone, tokens that expire, badges, old tickets.
func (e *Edge) keep() {
	ticker := time.NewTicker(tickLength)
	defer ticker.Stop()
	var some []due
	for swept := tick(0); ; {
		select {
		case <-ticker.C:
		case <-e.life.Done():
			return
		}
		at := e.now()
		now := e.tickAt(at)
		some = e.sessions.take(now, some[:0])
		for _, d := range some {
			e.sessions.need(d.session, d.session.look(d.since, now, at)) // which does not block
		}
		clear(some) // Those that end are not kept.
		if now-swept >= second {
			swept = now
			e.tickets.sweep()
			suppressed := 0.0
			if e.mute.Load() || e.storm.raging(at) {
				suppressed = 1
			}
			e.metrics.suppressed.Set(suppressed)
		}
	}
}

// look does what is due for a session, and returns when it is to be looked at again. It stood in the wheel for since, so
// there is nothing that had to be done before. at is the time of now.
func (s *Session) look(since, now tick, at time.Time) (next tick) {
	defer s.guard()
	if now > tick(s.heard.Load())+s.edge.patience() {
		s.Close(protocol.ClosePingTimeout, 0)
	}
	if s.round(since-1, s.edge.pings()) <= now {
		s.put(ping, protocol.ClassControl)
	}
	s.lookAtLifetime(at)
	s.lookAtToken(at)
	s.forgetAsked(at)
	s.tellBadges(now)
	return s.dueAfter(now, at)
}

// ping is the frame of a ping. One is sent to every session, whether or not it was heard of: who waits for a frame, and the
// machines in between, want to hear as well.
var ping = wire(opPing, nil)

// pings is how many ticks there are from one ping to the next.
func (e *Edge) pings() tick { return max(ticks(e.cfg.PingInterval), 1) }

// patience is how many ticks a client may be silent.
func (e *Edge) patience() tick { return ticks(e.cfg.PingInterval + e.cfg.PongWait) }

// dueAfter returns when there will be something to do for a session, but for what somebody else asks the wheel for
// meanwhile.
func (s *Session) dueAfter(now tick, at time.Time) tick {
	next := min(s.round(now, s.edge.pings()), tick(s.heard.Load())+s.edge.patience()+1)
	if s.edge.cfg.MaxLifetime > 0 {
		next = min(next, now+ticks(s.lifeLeft(at))+1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if left, ends := s.askLeftLocked(at); ends {
		next = min(next, now+ticks(left)+1)
	}
	if s.presence != nil {
		for _, until := range s.presence.asked {
			next = min(next, now+ticks(until.Sub(at))+1)
		}
	}
	if s.badges != nil && s.badges.due > 0 {
		next = min(next, s.badges.due)
	}
	return next
}

// lifeLeft returns how much of its life a session has left, if that is bounded: by 80 to 120 % of MaxLifetime.
func (s *Session) lifeLeft(at time.Time) time.Duration {
	life := s.edge.cfg.MaxLifetime
	return life - life/5 + s.part(2*(life/5)) - at.Sub(s.edge.timeOf(s.opened))
}

// lookAtLifetime sends a client away that has been here for long enough.
func (s *Session) lookAtLifetime(at time.Time) {
	if s.edge.cfg.MaxLifetime > 0 && s.lifeLeft(at) <= 0 {
		s.Goodbye(protocol.CloseLifetime, 0)
	}
}

// lookAfter sees to it that the session is looked at when a time is over.
func (s *Session) lookAfter(d time.Duration) {
	s.edge.sessions.need(s, s.edge.tickAt(s.edge.now())+ticks(d)+1)
}
