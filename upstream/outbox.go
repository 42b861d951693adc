package upstream

import (
	"encoding/json"
	"time"

	"flannel/protocol"
)

// maxPublish is the number of events in one publish frame: a screenful of typists, far below the frame limit.
const maxPublish = 256

// outbox is the bounded queue of clients' ephemeral events. Overflow: the new event is dropped, for the old ones are
// sent within milliseconds or not at all. Guarded by Upstream.mu.
type outbox struct {
	m      *metrics
	cfg    *Config
	open   bool // a stream is up
	events []*protocol.Event
	bytes  int
}

// eventOverhead is about what an event costs besides its payload.
const eventOverhead = 200

func (o *outbox) put(ev *protocol.Event) bool {
	if !o.open {
		o.m.dropped[dropDown].Inc()
		return false
	}
	size := len(ev.Payload) + eventOverhead
	if len(o.events) >= o.cfg.PublishQueue || o.bytes+size > o.cfg.PublishBytes {
		o.m.dropped[dropFull].Inc()
		return false
	}
	o.events = append(o.events, ev)
	o.bytes += size
	return true
}

func (o *outbox) take() []*protocol.Event {
	n := min(len(o.events), maxPublish)
	if n == 0 {
		return nil
	}
	events := o.events[:n:n]
	o.events = o.events[n:]
	for _, ev := range events {
		o.bytes -= len(ev.Payload) + eventOverhead
	}
	return events
}

// up and down open and close it; what waits when it closes is dropped.
func (o *outbox) up() { o.open = true }

func (o *outbox) down() {
	o.open = false
	o.m.dropped[dropDown].Add(float64(len(o.events)))
	o.events, o.bytes = nil, 0
}

// Publish sends an ephemeral event of a client to the backend. It is dropped if the stream is down or the queue is
// full.
func (u *Upstream) Publish(ev *protocol.Event) {
	if len(ev.Payload) > 0 && !json.Valid(ev.Payload) {
		u.metrics.dropped[dropInvalid].Inc() // It would spoil the frame for the others in it.
		return
	}
	u.mu.Lock()
	queued := u.outbox.put(ev)
	u.mu.Unlock()
	if queued {
		u.nudge()
	}
}

// presentSet is who has sessions on this node, and what of that the backend has not been told. It is bounded by the
// sessions. Guarded by Upstream.mu.
type presentSet struct {
	users   map[protocol.UserID]struct{}
	changed map[protocol.UserID]struct{}
}

func (s *presentSet) set(user protocol.UserID, present bool) (changed bool) {
	_, was := s.users[user]
	if was == present {
		return false
	}
	if s.users == nil {
		s.users, s.changed = make(map[protocol.UserID]struct{}), make(map[protocol.UserID]struct{})
	}
	if present {
		s.users[user] = struct{}{}
	} else {
		delete(s.users, user)
	}
	s.changed[user] = struct{}{}
	return true
}

// up marks everybody who is present as not told yet: the backend has forgotten with the stream.
func (s *presentSet) up() {
	clear(s.changed)
	for user := range s.users {
		s.changed[user] = struct{}{}
	}
}

// take returns what to tell next, at most limit users.
func (s *presentSet) take(limit int) (present, absent []protocol.UserID) {
	for user := range s.changed {
		if len(present)+len(absent) == limit {
			break
		}
		if _, is := s.users[user]; is {
			present = append(present, user)
		} else {
			absent = append(absent, user)
		}
		delete(s.changed, user)
	}
	return present, absent
}

// Report tells the backend which users have and which have no longer sessions on this node; absent wins for a user in
// both. Changes that undo each other before they are sent may be told as the last of them. Who is present is told
// again after a break. What is told within gatherFor makes one frame.
func (u *Upstream) Report(present, absent []protocol.UserID) {
	changed := false
	u.mu.Lock()
	for _, user := range present {
		changed = u.present.set(user, true) || changed
	}
	for _, user := range absent {
		changed = u.present.set(user, false) || changed
	}
	first := changed && !u.gathering
	u.gathering = u.gathering || changed
	u.mu.Unlock()
	if first {
		u.remind()
	}
}

// remind tells the writer that there are reports to be gathered.
func (u *Upstream) remind() {
	select {
	case u.report <- struct{}{}:
	default: // It has been told, and has not looked yet.
	}
}

// gatherFor is how long reports are gathered, so that a thousand sessions a second make twenty frames, not a thousand. Nobody
// sees the difference: who comes is active sooner than a person can look.
const gatherFor = 50 * time.Millisecond
