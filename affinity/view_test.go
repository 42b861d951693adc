package affinity

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// members draws a region in which anything may be going on.
func members(t *rapid.T) []Member {
	var all []Member
	for _, name := range names(t, 0, 12) {
		m := Member{Name: name, State: rapid.SampledFrom(states).Draw(t, "state")}
		m.Load = rapid.IntRange(0, 15_000).Draw(t, "load")
		if m.State == Dead || m.State == Left || m.State == Joining && rapid.Bool().Draw(t, "held") {
			m.Until = time.Unix(100, 0)
		}
		if rapid.Bool().Draw(t, "spreads") {
			m.Spread = map[string]int{"T1": 1 << rapid.IntRange(1, 6).Draw(t, "log")}
		}
		all = append(all, m)
	}
	return all
}

// Whatever the region looks like: every user of every workspace is sent to a member that serves, if there is one; never
// back to one that is joining, draining or gone; and to another as fallback, if there is another.
func TestView_PlacesEverybodyWhereSomebodyServes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := members(t)
		v := newView("me", all, time.Unix(50, 0), nil)
		var serving []string
		for _, m := range all {
			if m.State == Active {
				serving = append(serving, m.Name)
			}
		}
		workspace := rapid.SampledFrom([]string{"T1", "T2", "T3"}).Draw(t, "workspace")
		p := v.Place(workspace, rapid.String().Draw(t, "user"))

		switch {
		case len(serving) == 0:
			if p.Primary != "me" || p.Fallback != "me" || p.By != ByNobody {
				t.Fatalf("nobody serves: %+v", p)
			}
		case !slices.Contains(serving, p.Primary), !slices.Contains(serving, p.Fallback):
			t.Fatalf("sent to one who does not serve: %+v", p)
		case len(serving) > 1 && p.Primary == p.Fallback:
			t.Fatalf("no other fallback: %+v", p)
		}
		owns := func(m Member) bool { return m.owns(time.Unix(50, 0)) }
		if slices.ContainsFunc(all, owns) != (p.Owner != "") {
			t.Fatalf("owner: %+v", p)
		}
		// Who has room gets users before who has not.
		if m := v.member(p.Primary); m != nil && m.Load >= v.full {
			for _, name := range serving {
				if v.member(name).Load < v.full {
					t.Fatalf("%q is full, %q is not: %+v", p.Primary, name, p)
				}
			}
		}
	})
}

// Those who hear of the same members send everybody to the same nodes, wherever they stand themselves and in whatever
// order they have heard.
func TestView_AllWhoSeeTheSameAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := members(t)
		other := rapid.Permutation(slices.Clone(all)).Draw(t, "other")
		a, b := newView("one", all, time.Unix(50, 0), nil), newView("two", other, time.Unix(51, 0), nil)
		for i := range 20 {
			p, q := a.Place("T1", fmt.Sprint("U", i)), b.Place("T1", fmt.Sprint("U", i))
			if p.By != ByNobody && (p.Primary != q.Primary || p.Fallback != q.Fallback || p.Owner != q.Owner || p.By != q.By) {
				t.Fatalf("%+v, the other says %+v", p, q)
			}
		}
	})
}

// A workspace keeps its owner while that is draining or gone for less than the hold-down, and its users go to who would own
// it next. Nobody else's workspace moves at all.
func TestView_OwnerStaysWhileUsersGoToTheNext(t *testing.T) {
	region := func(state State, until time.Time) *View {
		var all []Member
		for i := range 5 {
			m := Member{Name: fmt.Sprint("node-", i), State: Active}
			if i == 2 {
				m.State, m.Until = state, until
			}
			all = append(all, m)
		}
		return newView("node-0", all, time.Unix(50, 0), nil)
	}
	before := region(Active, time.Time{})
	after := region(Dead, time.Unix(50, 0)) // The hold-down is over.
	for _, held := range []*View{region(Draining, time.Time{}), region(Dead, time.Unix(60, 0)), region(Left, time.Unix(60, 0)), region(Joining, time.Unix(60, 0))} {
		moved := 0
		for i := range 1000 {
			w := fmt.Sprint("T", i)
			was, is, next := before.Place(w, ""), held.Place(w, ""), after.Place(w, "")
			switch {
			case is.Owner != was.Owner:
				t.Fatalf("%s went from %s to %s", w, was.Owner, is.Owner)
			case was.Owner != "node-2" && is.Primary != was.Primary:
				t.Fatalf("users of %s go to %s and no more to %s", w, is.Primary, was.Primary)
			case was.Owner == "node-2":
				moved++
				if is.Primary != next.Owner || is.By != ByStandIn {
					t.Fatalf("%+v, the next owner is %s", is, next.Owner)
				}
			}
		}
		if moved < 100 {
			t.Errorf("only %d of 1000 workspaces were node-2's", moved)
		}
	}
	if after.Ring().Count("node-2") != 0 {
		t.Error("a node that is gone for good owns something")
	}
}

// A member far above the mean gets no new users; its owner is still its owner.
func TestView_OverflowGoesToTheNext(t *testing.T) {
	v := newView("a", []Member{
		{Name: "a", State: Active, Announcement: Announcement{Load: 1000}}, {Name: "b", State: Active, Announcement: Announcement{Load: 1000}},
		{Name: "c", State: Active, Announcement: Announcement{Load: 2000}},
	}, time.Unix(50, 0), nil)
	for i := range 100 {
		p := v.Place(fmt.Sprint("T", i), "")
		if p.Primary == "c" || p.Fallback == "c" || (p.Owner == "c") != (p.By == ByOverflow) {
			t.Fatalf("%+v", p)
		}
	}
}
