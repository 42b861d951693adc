// Package storetest is the suite that every implementation of store.Store passes. Run checks the contract on fresh
// stores; Reopen checks that what was acknowledged is there after a store was closed and opened again; Storm and
// CheckStorm are the two halves of a crash test, for a child process that is killed and the parent that looks after it.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// Run checks the whole contract. open returns a new, empty store; the suite closes it.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, test := range []struct {
		name string
		fn   func(t *testing.T, st store.Store)
	}{
		{"Objects", testObjects},
		{"Tombstones", testTombstones},
		{"Names", testNames},
		{"Email", testEmail},
		{"Conversation", testConversation},
		{"EachObject", testEachObject},
		{"List", testList},
		{"ListShared", testListShared},
		{"ListQuery", testListQuery},
		{"ListQueryFollows", testListQueryFollows},
		{"Workspaces", testWorkspaces},
		{"Members", testMembers},
		{"MembersPages", testMembersPages},
		{"MembershipIsComplete", testMembershipIsComplete},
		{"EachMembership", testEachMembership},
		{"ShareChannel", testShareChannel},
		{"Messages", testMessages},
		{"MessageKeys", testMessageKeys},
		{"History", testHistory},
		{"Threads", testThreads},
		{"NextTS", testNextTS},
		{"Reactions", testReactions},
		{"Pins", testPins},
		{"Mentions", testMentions},
		{"MentionsOfEveryone", testMentionsOfEveryone},
		{"MentionsOfOneself", testMentionsOfOneself},
		{"MentionsModel", testMentionsModel},
		{"Prefs", testPrefs},
		{"Usergroups", testUsergroups},
		{"Revoked", testRevoked},
		{"Emit", testEmit},
		{"EventsAreWholeCommits", testEventsAreWholeCommits},
		{"Prune", testPrune},
		{"FailedUpdateLeavesNothing", testFailedUpdate},
		{"ViewIsOneSnapshot", testSnapshot},
		{"ConcurrentUpdates", testConcurrentUpdates},
		{"CancelledContext", testCancelled},
		{"Load", testLoad},
		{"LoadTwice", testLoadTwice},
		{"FailedLoadLeavesNothing", testFailedLoad},
		{"Close", testClose},
	} {
		t.Run(test.name, func(t *testing.T) {
			st := open(t)
			t.Cleanup(func() {
				if err := st.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			test.fn(t, st)
		})
	}
}

// What the tests' world has: two workspaces, people in the first and one in the second, conversations of every type.
const (
	home  = protocol.WorkspaceID("T1HOME")
	other = protocol.WorkspaceID("T2OTHER")

	ann = protocol.UserID("U1ANN")
	ben = protocol.UserID("U2BEN")
	cat = protocol.UserID("U3CAT")
	dan = protocol.UserID("U4DAN")
	zoe = protocol.UserID("U9ZOE") // of other

	general = protocol.ChannelID("C1GENERAL")
	secret  = protocol.ChannelID("C2SECRET")
	direct  = protocol.ChannelID("D1ANNBEN")
	trio    = protocol.ChannelID("G1TRIO")
)

func user(id protocol.UserID, workspace protocol.WorkspaceID, name string) *protocol.User {
	return &protocol.User{
		ID: id, TeamID: workspace, Name: name, RealName: "Real " + name, Updated: 10,
		Profile: protocol.Profile{RealName: "Real " + name, DisplayName: name, Email: name + "@example.org"},
	}
}

func channel(id protocol.ChannelID, name string) *protocol.Channel {
	return &protocol.Channel{ID: id, Name: name, NameNormalized: name, ContextTeamID: home, Updated: 10, IsChannel: true}
}

// member returns what AddMember is given for a user of c.
func member(c *protocol.Channel, peer protocol.UserID) protocol.Membership {
	return protocol.Membership{
		Channel: c.ID, Owner: c.ContextTeamID, Type: c.Type(), Peer: peer, Updated: c.Updated, Archived: c.IsArchived, Open: c.IsIM || c.IsMPIM,
	}
}

// world fills a store.
func world(t *testing.T, st store.Store) {
	t.Helper()
	update(t, st, fillWorld)
}

func fillWorld(tx store.Tx) error {
	private := channel(secret, "secret")
	private.IsChannel, private.IsGroup, private.IsPrivate = false, true, true
	dm := &protocol.Channel{ID: direct, ContextTeamID: home, Updated: 10, IsIM: true, IsPrivate: true, Members: []protocol.UserID{ann, ben}}
	group := &protocol.Channel{
		ID: trio, Name: "mpdm-ann--ben--cat-1", ContextTeamID: home, Updated: 10, IsGroup: true, IsMPIM: true, IsPrivate: true, Members: []protocol.UserID{ann, ben, cat},
	}
	public := channel(general, "general")
	for _, s := range []protocol.Shape{
		&protocol.Workspace{ID: home, Name: "Home", Domain: "home", Updated: 10}, &protocol.Workspace{ID: other, Name: "Other", Domain: "other", Updated: 10},
		user(ann, home, "ann"), user(ben, home, "ben"), user(cat, home, "cat"), user(dan, home, "dan"), user(zoe, other, "zoe"),
		public, private, dm, group,
	} {
		if err := tx.Put(s); err != nil {
			return err
		}
	}
	for _, m := range []struct {
		c     *protocol.Channel
		users []protocol.UserID
	}{{public, []protocol.UserID{ann, ben, cat}}, {private, []protocol.UserID{ann, dan}}, {dm, []protocol.UserID{ann, ben}}, {group, []protocol.UserID{ann, ben, cat}}} {
		for i, u := range m.users {
			var peer protocol.UserID
			if m.c.IsIM {
				peer = m.users[1-i]
			}
			if err := tx.AddMember(u, member(m.c, peer)); err != nil {
				return err
			}
		}
	}
	return nil
}

func update(t testing.TB, st store.Store, fn func(tx store.Tx) error) protocol.Position {
	t.Helper()
	p, err := st.Update(context.Background(), fn)
	if err != nil {
		t.Fatalf("update: %v", err)
	}
	return p
}

func view(t testing.TB, st store.Store, fn func(r store.Reader) error) {
	t.Helper()
	if err := st.View(context.Background(), fn); err != nil {
		t.Fatalf("view: %v", err)
	}
}

// refused runs an Update whose function fails with an error of the contract and tells that it did.
func refused(t testing.TB, st store.Store, want error, fn func(tx store.Tx) error) {
	t.Helper()
	if _, err := st.Update(context.Background(), fn); !errors.Is(err, want) {
		t.Errorf("update gave %v, want %v", err, want)
	}
}

func equal[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
	return nil
}

func sameList[T comparable](what string, got []T, want ...T) error {
	if !slices.Equal(got, want) {
		return fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
	return nil
}

// absent turns ErrNotFound into nil and everything else into an error.
func absent(what string, err error) error {
	if !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%s: got %v, want ErrNotFound", what, err) //nolint:errorlint // What was got may be anything.
	}
	return nil
}

// exists is absent for ErrExists.
func exists(what string, err error) error {
	if !errors.Is(err, store.ErrExists) {
		return fmt.Errorf("%s: got %v, want ErrExists", what, err) //nolint:errorlint // What was got may be anything.
	}
	return nil
}

func message(ch protocol.ChannelID, author protocol.UserID, ts protocol.TS, text string) *protocol.Message {
	return &protocol.Message{Type: "message", Channel: ch, User: author, Text: text, TS: ts, Team: home}
}

// stamp returns the n-th timestamp of a test.
func stamp(n int) protocol.TS { return protocol.TS(fmt.Sprintf("1700000000.%06d", n)) }

// event returns an event on a topic with a payload that can be recognised.
func event(topic protocol.Topic, text string) *protocol.Event {
	return &protocol.Event{
		Topic: topic, Type: "test", Class: protocol.ClassControl, Payload: protocol.MustMarshal(map[string]string{"type": "test", "text": text}),
	}
}

var now = time.Unix(1_700_000_000, 123_456_000)
