package affinity

import "time"

// roster knows the members, those that are gone but hold their workspaces included. It is pure: the caller says the time.
// It is not safe for concurrent use.
type roster struct {
	hold    time.Duration
	members map[string]Member // at most MaxMembers
}

func newRoster(hold time.Duration) *roster {
	return &roster{hold: hold, members: make(map[string]Member)}
}

// room reports whether a member of this name may be added.
func (r *roster) room(name string) bool {
	_, known := r.members[name]
	return known || len(r.members) < MaxMembers
}

// alive notes what a member says of itself.
func (r *roster) alive(name, address string, a Announcement, now time.Time) {
	was := r.members[name]
	m := Member{Name: name, Address: address, Announcement: a, State: a.State}
	if m.State == Joining && was.owns(now) {
		// It has restarted, perhaps so fast that nobody missed it.
		m.Until = was.Until
		if m.Until.IsZero() {
			m.Until = now.Add(r.hold)
		}
	}
	r.members[name] = m
}

// gone notes that a member is confirmed dead, or has left. What it owns it keeps for the hold-down.
func (r *roster) gone(name string, now time.Time) {
	m, ok := r.members[name]
	if !ok || !m.owns(now) || r.hold == 0 {
		delete(r.members, name)
		return
	}
	// Who leaves drains first; memberlist does not tell the two apart.
	m.State = Dead
	if m.Announcement.State == Draining {
		m.State = Left
	}
	m.Load = 0
	if m.Until.IsZero() {
		m.Until = now.Add(r.hold) // Who dies again before it was ready is not held longer.
	}
	r.members[name] = m
}

// expire forgets the members whose hold-down is over, and returns when the next one's is; zero if none is held.
func (r *roster) expire(now time.Time) (changed bool, next time.Time) {
	for name, m := range r.members {
		switch {
		case m.Until.IsZero():
		case now.Before(m.Until):
			if next.IsZero() || m.Until.Before(next) {
				next = m.Until
			}
		case m.State == Joining:
			m.Until = time.Time{}
			r.members[name] = m
			changed = true
		default:
			delete(r.members, name)
			changed = true
		}
	}
	return changed, next
}

// list returns all members.
func (r *roster) list() []Member {
	all := make([]Member, 0, len(r.members))
	for _, m := range r.members {
		all = append(all, m)
	}
	return all
}
