package fanout

import (
	"fmt"
	"testing"

	"flannel/protocol"
)

func presence(user protocol.UserID, state string) *protocol.Event {
	return &protocol.Event{
		Topic: protocol.PresenceTopic(user), Type: "presence_change", Class: protocol.ClassEphemeral,
		Payload: fmt.Appendf(nil, `{"type":"presence_change","presence":%q,"user":%q}`, state, user),
	}
}

func TestWatchPresence_FollowsOnceAndTellsThePresentState(t *testing.T) {
	f := newFixture(t)
	a, b := f.attach("UA", protocol.RoleMember), f.attach("UB", protocol.RoleMember)
	f.door.told()
	active, away := string(presence("UX", "active").Payload), string(presence("UX", "away").Payload)

	f.WatchPresence(a, []protocol.UserID{"UX", "UX"})
	wantTold(t, f.door, "follow UX")
	wantHeard(t, a)
	f.Publish(presence("UX", "active"))
	wantHeard(t, a, active)
	if all := f.Actives(); !f.Active("UX") || len(all) != 1 || all[0] != "UX" {
		t.Errorf("%v are active", all)
	}

	// The second watcher is told what is known; nobody is told twice.
	f.WatchPresence(b, []protocol.UserID{"UX"})
	wantHeard(t, b, active)
	f.WatchPresence(b, []protocol.UserID{"UX", "UY"})
	wantHeard(t, b)
	wantTold(t, f.door, "follow UY")
	f.Publish(presence("UX", "active"))
	wantHeard(t, a)
	wantHeard(t, b)
	f.Publish(presence("UX", "away"))
	wantHeard(t, a, away)
	wantHeard(t, b, away)
	if all := f.Actives(); f.Active("UX") || f.Active("UY") || f.Active("UZ") || len(all) != 0 {
		t.Errorf("%v are active", all)
	}
	if n := f.counter(t, "flannel_presence_subscriptions", "", ""); n != 3 {
		t.Errorf("%v subscriptions", n)
	}
	for state, want := range map[string]float64{"active": 1, "away": 1} {
		if n := f.counter(t, "flannel_presence_transitions_total", "state", state); n != want {
			t.Errorf("%v transitions to %s", n, state)
		}
	}
	if n := f.counter(t, "flannel_presence_coalesced_total", "", ""); n != 1 {
		t.Errorf("%v coalesced", n)
	}

	// The list is the whole list.
	f.WatchPresence(a, nil)
	wantTold(t, f.door)
	f.Publish(presence("UX", "active"))
	wantHeard(t, a)
	f.Detach(b)
	told := f.door.told()
	if len(told) != 3 || told[2] != "present [] absent [UB]" {
		t.Errorf("the door was told %q", told)
	}
	f.Publish(presence("UZ", "active"))
}

// The topic lingers after Unfollow. Who follows again meanwhile gets no answer from the backend, so the hub must know.
func TestWatchPresence_ComingBackWhileTheTopicLingers(t *testing.T) {
	f := newFixture(t)
	a := f.attach("UA", protocol.RoleMember)
	f.WatchPresence(a, []protocol.UserID{"UX"})
	f.Publish(presence("UX", "active"))
	f.WatchPresence(a, nil)
	f.Publish(presence("UX", "away"))
	a.heard()
	f.door.told()

	f.WatchPresence(a, []protocol.UserID{"UX"})
	wantHeard(t, a, string(presence("UX", "away").Payload))
	wantTold(t, f.door, "follow UX")

	// The topic has ended: nothing is known.
	f.WatchPresence(a, nil)
	f.Forget("presence:UX", nil)
	f.Forget("presence:UX", nil)
	if len(f.watched) != 0 || f.idle != 0 || len(f.active) != 0 {
		t.Errorf("%d watched, %d idle, %d active", len(f.watched), f.idle, len(f.active))
	}
	f.WatchPresence(a, []protocol.UserID{"UX"})
	wantHeard(t, a)
	// Begun anew: the same state is told again.
	f.Publish(presence("UX", "active"))
	f.Forget("presence:UX", nil)
	if f.Active("UX") {
		t.Error("UX is active by what is not known any more")
	}
	f.Publish(presence("UX", "active"))
	wantHeard(t, a, string(presence("UX", "active").Payload), string(presence("UX", "active").Payload))
}

func TestWatchPresence_Bounds(t *testing.T) {
	f := newFixture(t)
	stranger := &ear{user: "US"}
	f.WatchPresence(stranger, []protocol.UserID{"UX"})
	wantTold(t, f.door)

	a := f.attach("UA", protocol.RoleMember)
	users := make([]protocol.UserID, 0, maxIdle+100)
	for i := range cap(users) {
		users = append(users, protocol.UserID(fmt.Sprint("U", i)))
	}
	for len(users) > 0 {
		part := users[:min(len(users), protocol.MaxPresenceIDs)]
		f.WatchPresence(a, users)
		if n := len(f.sessions[a].watching); n != len(part) {
			t.Fatalf("watches %d", n)
		}
		for _, u := range part {
			f.Publish(presence(u, "active"))
		}
		users = users[len(part):]
	}
	f.WatchPresence(a, nil)
	if len(f.watched) != maxIdle || f.idle != maxIdle || len(f.active) != maxIdle {
		t.Errorf("%d watched, %d idle, %d active", len(f.watched), f.idle, len(f.active))
	}
	f.WatchPresence(a, []protocol.UserID{"UNEW"})
	f.Detach(a)
	if len(f.watched) != maxIdle {
		t.Errorf("%d watched", len(f.watched))
	}
}

func TestPublishPresence_AsksWhoMayStillHear(t *testing.T) {
	f := newFixture(t)
	a, b, c := f.attach("UA", protocol.RoleMember), f.attach("UB", protocol.RoleGuest), f.attach("UC", protocol.RoleGuest)
	active, away := string(presence("UX", "active").Payload), string(presence("UX", "away").Payload)
	for _, r := range []*ear{a, b, c} {
		f.WatchPresence(r, []protocol.UserID{"UX"})
	}
	f.Publish(presence("UX", "active"))
	for _, r := range []*ear{a, b, c} {
		wantHeard(t, r, active)
	}

	// UB shares no channel with UX any more; of UC that is not known.
	f.hears = func(r Receiver, _ protocol.UserID) (bool, bool) { return r == Receiver(a), r != Receiver(c) }
	f.Publish(presence("UX", "away"))
	wantHeard(t, a, away)
	wantHeard(t, b)
	wantHeard(t, c)
	if len(f.unsure) != 1 || f.unsure[0] != Receiver(c) {
		t.Errorf("unsure of %v", f.unsure)
	}

	// It was found out: UC is told what was held back, once; UA, who has it, is not.
	for _, r := range []*ear{a, c, c} {
		f.WatchPresence(r, []protocol.UserID{"UX"})
	}
	wantHeard(t, a)
	wantHeard(t, c, away)
}
