package fanout

import (
	"testing"

	"flannel/protocol"
)

// nothingLeft checks that the hub remembers nobody.
func nothingLeft(t *testing.T, f *fixture) {
	t.Helper()
	if n := len(f.users) + f.audiences.Len() + len(f.topics) + f.crowds.Len() + len(f.sessions) + f.absent; n != 0 {
		t.Errorf("something is left: %d users (%d absent), %d topics, %d and %d numbers", len(f.users), f.absent, len(f.topics), f.audiences.Len(), f.crowds.Len())
	}
}

// TestDetach_AbsentUserStaysInTheirChannels: while the own topic of a user without a session is followed, they are taken into
// channels and out of them by events, and who comes back hears what they are in.
func TestDetach_AbsentUserStaysInTheirChannels(t *testing.T) {
	f := newFixture(t)
	f.Followed("UA", 0, 0)
	f.Followed("C3", 0, 0)
	a := f.attach("UA", protocol.RoleMember, "C1", "C2")
	f.Detach(a)
	wantTold(t, f.door, "present [UA] absent []", "present [] absent [UA]")
	if f.counter(t, "flannel_fanout_absent_users", "", "") != 1 {
		t.Error("nobody is absent")
	}

	f.Publish(message("C2", "out", removed("C2", "UA")))
	f.Publish(message("UA", "into C3", added("C3", "UA")))
	f.Publish(message("C3", "in", added("C3", "UA")))
	f.Publish(message("T1", "to nobody"))
	wantHeard(t, a)

	// What the state says that the session was begun with may be older than the removal: as with a second session, that
	// only adds, and the removal's place is the channel's own topic, which has told it.
	a = f.attach("UA", protocol.RoleMember, "C1")
	wantTold(t, f.door, "present [UA] absent []")
	for _, topic := range []protocol.Topic{"C1", "C2", "C3", "T1", "UA"} {
		f.Publish(message(topic, "to "+string(topic)))
	}
	wantHeard(t, a, "to C1", "to C3", "to T1", "to UA")

	f.Detach(a)
	f.Forget("C1", nil)
	a = f.attach("UA", protocol.RoleMember)
	f.Publish(message("C1", "forgotten"))
	wantHeard(t, a)
	f.Detach(a)
	f.Forget("UA", nil)
	nothingLeft(t, f)
}

// TestDetach_NotKeptWithoutTheirTopic: nobody would tell of a new channel, or when to forget the user.
func TestDetach_NotKeptWithoutTheirTopic(t *testing.T) {
	f := newFixture(t)
	f.Detach(f.attach("UA", protocol.RoleMember, "C1"))
	nothingLeft(t, f)

	// Events were lost while the session was there: also not if the topic goes on.
	f.Followed("UA", 0, 0)
	a := f.attach("UA", protocol.RoleMember, "C1")
	f.Forget("UA", nil)
	f.Followed("UA", 0, 9)
	f.Detach(a)
	nothingLeft(t, f)
}

// TestAttach_AbsentUserInAnotherWorkspace: which workspaces somebody hears is the session's alone.
func TestAttach_AbsentUserInAnotherWorkspace(t *testing.T) {
	f := newFixture(t)
	f.Followed("UA", 0, 0)
	f.Detach(f.attach("UA", protocol.RoleMember, "C1"))
	a := &ear{user: "UA"}
	f.Attach(a, protocol.Identity{User: "UA", Workspace: "T2", Workspaces: []protocol.WorkspaceID{"T2", "T3"}}, standing(protocol.RoleMember, nil))
	for _, topic := range []protocol.Topic{"T1", "T2", "T3", "C1"} {
		f.Publish(message(topic, string(topic)))
	}
	wantHeard(t, a, "T2", "T3", "C1")
	if !f.SetRole("UA", protocol.RoleGuest) || f.SetRole("UA", protocol.RoleGuest) {
		t.Error("roles are mixed up")
	}
	f.Detach(a)
	if !f.SetRole("UA", protocol.RoleGuest) {
		t.Error("a session that is just beginning is not told to begin anew")
	}
}
