package affinity

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// clock is a time that only the test moves.
type clock struct{ now time.Time }

func newClock() *clock { return &clock{time.Unix(1000, 0)} }

func (c *clock) pass(d time.Duration) time.Time {
	c.now = c.now.Add(d)
	return c.now
}

// owner returns who owns w as the roster stands, and who users are sent to.
func (r *roster) owner(w string, now time.Time) (owner, primary string) {
	p := newView("watcher", r.list(), now, nil).Place(w, "")
	return p.Owner, p.Primary
}

// three returns a roster of three members and a workspace that the second owns.
func three(hold time.Duration, c *clock) (*roster, string) {
	r := newRoster(hold)
	for i := range 3 {
		r.alive(fmt.Sprint("node-", i), "", Announcement{State: Active}, c.now)
	}
	for i := 0; ; i++ {
		w := fmt.Sprint("T", i)
		if owner, _ := r.owner(w, c.now); owner == "node-1" {
			return r, w
		}
	}
}

// A confirmed death moves nothing until the hold-down is over; users are sent to another at once.
func TestRoster_DeadKeepsItsWorkspacesForTheHoldDown(t *testing.T) {
	c := newClock()
	r, w := three(30*time.Second, c)
	r.gone("node-1", c.now)
	for range 30 {
		if owner, primary := r.owner(w, c.now); owner != "node-1" || primary == "node-1" || primary == "" {
			t.Fatalf("after %v the owner is %q, users go to %q", c.now, owner, primary)
		}
		c.pass(999 * time.Millisecond)
		if changed, next := r.expire(c.now); changed || !next.Equal(time.Unix(1030, 0)) {
			t.Fatalf("changed %v, next %v", changed, next)
		}
	}
	_, standIn := r.owner(w, c.now)
	c.pass(time.Second)
	if changed, next := r.expire(c.now); !changed || !next.IsZero() {
		t.Errorf("changed %v, next %v", changed, next)
	}
	if owner, primary := r.owner(w, c.now); owner != standIn || primary != standIn {
		t.Errorf("after the hold-down the owner is %q, users go to %q; the stand-in was %q", owner, primary, standIn)
	}
}

// A node that restarts keeps its workspaces: whether the others saw it die or not, and while it is not ready yet.
func TestRoster_RestartKeepsItsWorkspaces(t *testing.T) {
	for _, missed := range []bool{true, false} {
		c := newClock()
		r, w := three(30*time.Second, c)
		if missed {
			r.gone("node-1", c.now)
		}
		c.pass(5 * time.Second)
		r.alive("node-1", "", Announcement{State: Joining}, c.now)
		if owner, primary := r.owner(w, c.now); owner != "node-1" || primary == "node-1" {
			t.Errorf("missed %v: joining again, the owner is %q, users go to %q", missed, owner, primary)
		}
		c.pass(5 * time.Second)
		r.alive("node-1", "", Announcement{State: Active}, c.now)
		c.pass(time.Hour)
		r.expire(c.now)
		if owner, primary := r.owner(w, c.now); owner != "node-1" || primary != "node-1" {
			t.Errorf("missed %v: back, the owner is %q, users go to %q", missed, owner, primary)
		}
	}
}

// Who never gets ready, or dies again and again before it is, does not keep its workspaces for ever.
func TestRoster_HoldDownIsNotProlonged(t *testing.T) {
	c := newClock()
	r, w := three(30*time.Second, c)
	r.gone("node-1", c.now)
	for range 10 {
		c.pass(3 * time.Second)
		r.expire(c.now)
		r.alive("node-1", "", Announcement{State: Joining}, c.now)
		r.gone("node-1", c.now)
	}
	r.alive("node-1", "", Announcement{State: Joining}, c.pass(time.Second))
	r.expire(c.now)
	if owner, _ := r.owner(w, c.now); owner == "node-1" {
		t.Error("still the owner")
	}
	r.alive("node-1", "", Announcement{State: Active}, c.pass(time.Second))
	if owner, _ := r.owner(w, c.now); owner != "node-1" {
		t.Errorf("ready, and the owner is %q", owner)
	}
}

// A node that drains receives nothing, and is told from one that died.
func TestRoster_DrainingThenLeft(t *testing.T) {
	c := newClock()
	r, w := three(30*time.Second, c)
	r.alive("node-1", "", Announcement{State: Draining}, c.now)
	if owner, primary := r.owner(w, c.now); owner != "node-1" || primary == "node-1" {
		t.Errorf("draining, the owner is %q, users go to %q", owner, primary)
	}
	r.gone("node-1", c.now)
	if m := r.members["node-1"]; m.State != Left {
		t.Errorf("it is %s", m.State)
	}
}

// Without a hold-down a death moves the workspaces at once; a member that owned nothing is forgotten at once.
func TestRoster_NothingToHold(t *testing.T) {
	c := newClock()
	r, w := three(0, c)
	r.gone("node-1", c.now)
	if owner, _ := r.owner(w, c.now); owner == "node-1" {
		t.Error("still the owner")
	}
	r = newRoster(time.Minute)
	r.alive("new", "", Announcement{State: Joining}, c.now)
	r.gone("new", c.now)
	r.gone("nobody", c.now)
	if len(r.members) != 0 {
		t.Errorf("%v", r.members)
	}
}

// Whatever happens in whatever order: there are never too many members, all that are held are let go in time, and who is
// active owns.
func TestRoster_AnyHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, r := newClock(), newRoster(10*time.Second)
		last := make(map[string]State)
		var v *View
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			name := fmt.Sprint("n", rapid.IntRange(0, 4).Draw(t, "node"))
			switch s := rapid.SampledFrom(append(states, "")).Draw(t, "state"); s {
			case Joining, Active, Draining:
				r.alive(name, "", Announcement{State: s}, c.now)
				last[name] = s
			case Dead:
				r.gone(name, c.now)
				delete(last, name)
			default:
				r.expire(c.pass(time.Duration(rapid.IntRange(0, 8000).Draw(t, "ms")) * time.Millisecond))
			}
			v = newView("", r.list(), c.now, v)
			for name, s := range last {
				if m := v.member(name); m == nil || m.State != s {
					t.Fatalf("%s is %s, the roster says %+v", name, s, m)
				}
				if s == Active && v.Ring().Count(name) == 0 {
					t.Fatalf("%s is active and owns nothing", name)
				}
			}
		}
		r.expire(c.pass(10 * time.Second))
		for name, m := range r.members {
			if !m.Until.IsZero() || last[name] == "" {
				t.Fatalf("%+v is still held", m)
			}
		}
	})
}
