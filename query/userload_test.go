package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"flannel/cache"
	"flannel/protocol"
)

func TestIdentify(t *testing.T) {
	w := newWorld(t)
	id, err := w.service.Identify(t.Context(), "xoxp-"+string(ada))
	if err != nil || id.User != ada || id.Role != protocol.RoleMember {
		t.Fatalf("got %+v, %v", id, err)
	}
	for token, want := range map[string]protocol.Code{"": protocol.CodeNotAuthed, "xoxp-nobody": protocol.CodeInvalidAuth} {
		if _, err := w.service.Identify(t.Context(), token); protocol.AsError(err).Code != want {
			t.Errorf("%q: %v, want %s", token, err, want)
		}
	}
	w.count("identify")

	t.Run("once", func(t *testing.T) {
		if _, err := w.service.Identify(t.Context(), "xoxp-"+string(ada)); err != nil || w.count("identify") != 0 {
			t.Errorf("asked again: %v", err)
		}
	})
	t.Run("revoked", func(t *testing.T) {
		w.emit(func() { w.roles[ada] = protocol.Identity{Error: protocol.CodeTokenRevoked} },
			&protocol.Event{Topic: protocol.Topic(ada), Type: "revoked", Effects: []protocol.Effect{{Op: protocol.OpRevoked, User: ada}}})
		if _, err := w.service.Identify(t.Context(), "xoxp-"+string(ada)); protocol.AsError(err).Code != protocol.CodeTokenRevoked {
			t.Errorf("got %v", err)
		}
	})
	t.Run("expired", func(t *testing.T) {
		w.set(func() {
			id := w.roles[bob]
			id.Expires = time.Now().Unix() - 1
			w.roles[bob] = id
		})
		if _, err := w.service.Identify(t.Context(), "xoxp-"+string(bob)); protocol.AsError(err).Code != protocol.CodeTokenExpired {
			t.Errorf("got %v", err)
		}
	})
	t.Run("backend down", func(t *testing.T) {
		w.set(func() { w.down = true })
		_, err := w.service.Identify(t.Context(), "xoxp-"+string(eve))
		if e := protocol.AsError(err); e.Code != protocol.CodeUnavailable || e.Retry <= 0 {
			t.Errorf("got %v", err)
		}
	})
}

// TestIdentify_RefusedIsRemembered: a client that does not give up costs the backend a call every few seconds, and a token
// that is made after it was tried is good by then. An error of the backend is no refusal.
func TestIdentify_RefusedIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const token = "xoxp-U0000077"
		want := func(code protocol.Code, calls int) {
			t.Helper()
			_, err := w.service.Identify(t.Context(), token)
			if n := w.count("identify"); err == nil && code != "" || err != nil && protocol.AsError(err).Code != code || n != calls {
				t.Errorf("%v after %d calls, want %q after %d", err, n, code, calls)
			}
		}
		w.set(func() { w.down = true })
		want(protocol.CodeUnavailable, 1)
		want(protocol.CodeUnavailable, 1)
		w.set(func() { w.down = false })
		want(protocol.CodeInvalidAuth, 1)
		for range 49 {
			time.Sleep(100 * time.Millisecond)
			want(protocol.CodeInvalidAuth, 0)
		}
		w.put(&protocol.User{ID: "U0000077", TeamID: t1, Updated: 5})
		w.set(func() {
			id := w.roles[bob]
			id.User, id.Token = "U0000077", "k77"
			w.roles["U0000077"] = id
		})
		want(protocol.CodeInvalidAuth, 0)
		w.breakStream() // It is told by time, not by events.
		want(protocol.CodeInvalidAuth, 0)
		w.mendStream()

		time.Sleep(100 * time.Millisecond)

		want("", 1)
		want("", 0)
	})
}

// TestIdentify_RevokedMeanwhile: a token revoked between the answer to identify and the subscription is not believed:
// a session that joins the load when the revocation has been told already would never hear of it.
func TestIdentify_RevokedMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.set(func() {
		w.onBoot = func() {
			w.emit(func() { w.roles[ada] = protocol.Identity{Error: protocol.CodeTokenRevoked} },
				&protocol.Event{Topic: protocol.Topic(ada), Type: "revoked", Effects: []protocol.Effect{{Op: protocol.OpRevoked, User: ada}}})
		}
	})
	for range 2 {
		if _, err := w.service.Identify(t.Context(), "xoxp-"+string(ada)); protocol.AsError(err).Code != protocol.CodeTokenRevoked {
			t.Errorf("got %v", err)
		}
	}
}

// TestUser_FollowsAndGivesBack: what is followed is exactly the user, the workspace and the channels, through joins and
// leaves, and nothing is left when the state is dropped.
func TestUser_FollowsAndGivesBack(t *testing.T) {
	w := newWorld(t)
	u, err := w.service.User(t.Context(), w.id(bob))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(w.followed()); got != "[C0000001 C0000002 C0000003 C0000006 D0000001 G0000001 T0000001 U0000002]" {
		t.Errorf("loaded: %s", got)
	}

	w.join(shared, bob)
	w.leave(random, bob)
	if topics := w.followed(); !slices.Contains(topics, protocol.Topic(random)) {
		t.Error("a channel is given back before what happened in it until bob left has come")
	}
	w.service.Reached(w.cache.Applied())
	if got := fmt.Sprint(w.followed()); got != "[C0000001 C0000003 C0000005 C0000006 D0000001 G0000001 T0000001 U0000002]" {
		t.Errorf("moved: %s", got)
	}

	w.cache.Expire(time.Now().Add(time.Hour))
	w.service.Drop(u)
	w.service.Drop(u)
	if got := w.followed(); len(got) != 0 {
		t.Errorf("dropped, but followed: %s", got)
	}
	if h := &w.service.held; len(h.of)+len(h.numbers)+h.topics.Len() != 0 {
		t.Errorf("held: %v", h)
	}
}

// TestUser_MovesDuringLoad: joins and leaves between the boot's position and its arrival are in the state, and their
// channels are followed or not, once each.
func TestUser_MovesDuringLoad(t *testing.T) {
	w := newWorld(t)
	w.set(func() { w.onBoot = func() { w.join(random, ada); w.leave(secret, ada) } })
	u, err := w.service.User(t.Context(), w.id(ada))
	if err != nil {
		t.Fatal(err)
	}
	if _, in := u.Membership(random); !in {
		t.Error("the join is lost")
	}
	if _, in := u.Membership(secret); in {
		t.Error("the leave is lost")
	}
	if got := fmt.Sprint(w.followed()); got != "[C0000001 C0000002 C0000004 C0000005 D0000001 G0000001 T0000001 U0000001]" {
		t.Errorf("followed: %s", got)
	}
	if got := w.ask(t, ada, "channels/info", `{"updated_ids":{"C0000003":0}}`).ids(t, "failed_ids"); got != "C3" {
		t.Errorf("left channel: %q", got)
	}
	w.cache.Expire(time.Now().Add(time.Hour))
	w.service.Drop(u)
	if got := w.followed(); len(got) != 0 {
		t.Errorf("dropped, but followed: %s", got)
	}
}

// TestUser_OutrunIsLoadedAgain: the user's topic is reset while the state is on its way.
func TestUser_OutrunIsLoadedAgain(t *testing.T) {
	w := newWorld(t)
	w.set(func() {
		w.onBoot = func() { w.join(random, ada); w.cache.Reset(protocol.Topic(ada), w.cache.Applied()) }
	})
	u, err := w.service.User(t.Context(), w.id(ada))
	if err != nil {
		t.Fatal(err)
	}
	if _, in := u.Membership(random); !in {
		t.Error("the join is lost")
	}
	if n := testutil.ToFloat64(w.service.metrics.outrun); n != 1 {
		t.Errorf("flannel_query_user_outrun_total is %v", n)
	}
}

func TestUser_FailuresHoldNothing(t *testing.T) {
	w := newWorld(t)
	for name, fail := range map[string]func(){
		"no such user": func() { delete(w.objects, protocol.ObjectID(eve)) },
		"backend down": func() { w.down = true },
	} {
		w.set(fail)
		if _, err := w.service.User(t.Context(), w.id(eve)); err == nil {
			t.Errorf("%s: no error", name)
		}
		if got := w.followed(); len(got) != 0 {
			t.Errorf("%s: followed %v", name, got)
		}
	}
}

// TestUser_DropLeavesTheNewer: a state that was expired and loaded again keeps what it follows when the old one is
// dropped late.
func TestUser_DropLeavesTheNewer(t *testing.T) {
	w := newWorld(t)
	old, err := w.service.User(t.Context(), w.id(ada))
	if err != nil {
		t.Fatal(err)
	}
	before := fmt.Sprint(w.followed())
	w.cache.Expire(time.Now().Add(time.Hour))
	if _, err := w.service.User(t.Context(), w.id(ada)); err != nil {
		t.Fatal(err)
	}

	w.service.Drop(old)

	if got := fmt.Sprint(w.followed()); got != before {
		t.Errorf("followed %s, want %s", got, before)
	}
}

// TestUser_SingleFlight: a storm of one user's clients is one load, whoever of them gives up.
func TestUser_SingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.set(func() { w.delay = time.Second })
		var done sync.WaitGroup
		for i := range 50 {
			done.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i%2 == 0 {
					time.AfterFunc(10*time.Millisecond, cancel)
				}
				_, err := w.service.User(ctx, w.id(ada))
				if gaveUp := i%2 == 0; gaveUp != (err != nil) {
					t.Errorf("caller %d: %v", i, err)
				}
			})
		}
		done.Wait()
		if n := w.count("boot"); n != 1 {
			t.Errorf("%d boots", n)
		}
		w.service.Close()
		w.cache.Close()
	})
}

// TestUser_SlowFollow: a stream that does not come is an error in bounded time, and nothing stays behind.
func TestUser_SlowFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.set(func() { w.delay = time.Hour })
		begun := time.Now()
		_, err := w.service.User(t.Context(), w.id(ada))
		if e := protocol.AsError(err); e.Code != protocol.CodeUnavailable || e.Retry <= 0 || time.Since(begun) > 2*Default().LoadTimeout {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		if len(w.followed()) != 0 {
			t.Errorf("followed %v", w.followed())
		}
		w.service.Close()
		w.cache.Close()
	})
}

// TestQuery_Pending: when the backend is slow the answer comes all the same, names what is pending, and the next one
// has it, without a second load.
func TestQuery_Pending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ask(t, ada, "users/info", `{"updated_ids":{"U0000001":0}}`)
		w.count("objects")
		w.set(func() { w.delay = 2 * time.Second })

		begun := time.Now()
		got := w.ask(t, ada, "users/info", `{"updated_ids":{"U0000001":0,"U0000002":0,"U0000777":0}}`)
		if got.ids(t, "results") != "U1" || got.ids(t, "pending_ids") != "U2 U0777" && got.ids(t, "pending_ids") != "U2 U0000777" {
			t.Errorf("got %s", got.Body)
		}
		if took := time.Since(begun); took > Default().PendingAfter {
			t.Errorf("took %v", took)
		}
		if n := testutil.ToFloat64(w.service.metrics.pending); n != 2 {
			t.Errorf("flannel_query_pending_ids_total is %v", n)
		}

		time.Sleep(3 * time.Second)
		got = w.ask(t, ada, "users/info", `{"updated_ids":{"U0000002":0,"U0000777":0}}`)
		if got.ids(t, "results") != "U2" || got.ids(t, "failed_ids") == "" || got.ids(t, "pending_ids") != "" || w.count("objects") != 1 {
			t.Errorf("later: %s", got.Body)
		}

		w.set(func() { w.delay = time.Hour })
		if got := w.call(t, ada, "users.info", "user", string(eve)); got.code != protocol.CodeUnavailable {
			t.Errorf("users.info: %q", got.code)
		}
		w.service.Close()
		w.cache.Close()
	})
}

// TestQuery_CallerLeaves: what a client asked for before it hung up arrives in the cache.
func TestQuery_CallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ask(t, ada, "users/info", `{}`)
		w.set(func() { w.delay = 100 * time.Millisecond })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := w.service.Query(ctx, w.id(ada), "users/info", []byte(`{"updated_ids":{"U0000002":0}}`)); protocol.AsError(err).Code != protocol.CodeUnavailable {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Second)
		w.count("objects")
		if got := w.ask(t, ada, "users/info", `{"updated_ids":{"U0000002":0}}`); got.ids(t, "results") != "U2" || w.count("objects") != 0 {
			t.Errorf("got %s", got.Body)
		}
		w.service.Close()
		w.cache.Close()
	})
}

// TestMembers_WhileLoading: a page does not wait for the whole set, which is there later.
func TestMembers_WhileLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for i := range 3 * protocol.MaxMembersLimit {
			w.user[general] = append(w.user[general], protocol.UserID(fmt.Sprintf("U1%06d", i)))
			w.members[general] = append(w.members[general], protocol.Membership{Channel: general})
		}
		w.call(t, ada, "conversations.info", "channel", string(general))
		w.set(func() { w.delay = 80 * time.Millisecond })

		begun := time.Now()
		got := w.call(t, ada, "conversations.members", "channel", string(general), "limit", "2")
		if took := time.Since(begun); got.ids(t, "members") != "U1 U2" || took > 200*time.Millisecond {
			t.Errorf("got %q after %v", got.ids(t, "members"), took)
		}

		time.Sleep(time.Second)
		w.count("members")
		got = w.ask(t, ada, "channels/membership", `{"channel":"C0000001","users":["U1029999","U1030000"]}`)
		if got.ids(t, "members") != "U1029999" || w.count("members") != 0 {
			t.Errorf("later: %s", got.Body)
		}
		w.service.Close()
		w.cache.Close()
	})
}

func TestTasks_Bounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.MaxLoads = 1 })
		w.ask(t, ada, "users/info", `{}`)
		w.set(func() { w.delay = 100 * time.Millisecond })
		var done sync.WaitGroup
		var mu sync.Mutex
		codes := map[protocol.Code]int{}
		for _, u := range []string{"U0000002", "U0000004"} {
			done.Go(func() {
				got := w.call(t, ada, "users.info", "user", u)
				mu.Lock()
				codes[got.code]++
				mu.Unlock()
			})
		}
		done.Wait()
		if codes[""] != 1 || codes[protocol.CodeUnavailable] != 1 {
			t.Errorf("got %v", codes)
		}
		w.service.Close()
		if got := w.call(t, ada, "users.info", "user", string(eve)); got.code != protocol.CodeUnavailable {
			t.Errorf("after close: %q", got.code)
		}
		w.cache.Close()
	})
}

// TestReader_ReadsItsWrites: with a floor above what the cache has applied, reads go past it: objects, memberships and
// members.
func TestReader_ReadsItsWrites(t *testing.T) {
	w := newWorld(t)
	u, err := w.service.User(t.Context(), w.id(ada))
	if err != nil {
		t.Fatal(err)
	}
	w.ask(t, ada, "channels/membership", `{"channel":"C0000001","users":["U0000001"]}`)
	// A private channel is created, and gus invited to another; the events have not come.
	w.set(func() {
		c := protocol.Channel{ID: "C0000099", Name: "new", IsPrivate: true, ContextTeamID: t1, Updated: 5}
		w.put(&c)
		w.seat(&c, ada, nil)
		w.seat(&protocol.Channel{ID: general, ContextTeamID: t1}, gus, nil)
		w.at = 50
	})
	u.RaiseFloor(50)

	got := w.call(t, ada, "conversations.info", "channel", "C0000099")
	if got.code != "" || !strings.Contains(string(got.Body), `"is_member":true`) || got.Position < 50 {
		t.Errorf("info: %q", got.code)
	}
	if got := w.ask(t, ada, "channels/membership", `{"channel":"C0000001","users":["U0000003"]}`).ids(t, "members"); got != "U3" {
		t.Errorf("membership: %q", got)
	}
	if got := w.call(t, ada, "client.userBoot").ids(t, "channels"); !strings.Contains(got, "C0000099") && !strings.Contains(got, "C99") {
		t.Errorf("boot: %q", got)
	}
	if got := w.call(t, ada, "conversations.list", "types", "private_channel").ids(t, "channels"); !strings.Contains(got, "99") {
		t.Errorf("list: %q", got)
	}
	w.set(func() { w.down = true })
	if got := w.call(t, ada, "conversations.info", "channel", "C0000099"); got.code != protocol.CodeUnavailable {
		t.Errorf("backend down: %q", got.code)
	}
}

// past answers loads from before the position asked for.
type past struct{ *world }

func (p past) Objects(ctx context.Context, ws protocol.WorkspaceID, ids []protocol.ObjectID, atLeast protocol.Position) ([]*protocol.ObjectsAnswer, error) {
	a, err := p.world.Objects(ctx, ws, ids, atLeast)
	if err == nil && atLeast > 0 {
		a[0].Position = atLeast - 1
	}
	return a, err
}

func (p past) Boot(context.Context, protocol.UserID, protocol.Position) (protocol.UserBoot, protocol.Position, error) {
	return protocol.UserBoot{}, 0, errors.New("connection refused")
}

// TestLoads_FromThePastAreRefused: and errors that are not for clients become unavailable.
func TestLoads_FromThePastAreRefused(t *testing.T) {
	w := newWorld(t)
	w.ask(t, ada, "users/info", `{}`)
	w.service.loader = past{w}
	if got := w.call(t, ada, "users.info", "user", string(bob)); got.code != protocol.CodeUnavailable {
		t.Errorf("got %q", got.code)
	}
	if _, err := w.service.User(t.Context(), w.id(bob)); protocol.AsError(err).Code != protocol.CodeUnavailable {
		t.Errorf("got %v", err)
	}
	if _, freshness := w.cache.User(bob); freshness != cache.Missing {
		t.Errorf("state is %v", freshness)
	}
}

// TestMoved_WhoCameAndWentBeforeTheStateWasLoaded: bob's state is loaded ahead of the stream, which then tells of a coming
// that is over. The channel must be followed until the stream has come to the going: his sessions are to hear of it.
func TestMoved_WhoCameAndWentBeforeTheStateWasLoaded(t *testing.T) {
	w := newWorld(t)
	if _, err := w.service.User(t.Context(), w.id(bob)); err != nil {
		t.Fatal(err)
	}
	const passed = protocol.Topic("C0000099")
	w.service.Moved(cache.Change{Passed: []cache.Passage{{Move: cache.Move{User: bob, Channel: protocol.ChannelID(passed)}, Until: 50}}}, 40)
	if !slices.Contains(w.followed(), passed) {
		t.Errorf("followed: %v", w.followed())
	}
	w.service.Reached(49)
	if !slices.Contains(w.followed(), passed) {
		t.Error("given back too early")
	}
	w.service.Reached(50)
	if slices.Contains(w.followed(), passed) {
		t.Error("not given back")
	}
}

// TestMoved_TooManyGoings: should no Reached come between, what waits longest is given back before its time.
func TestMoved_TooManyGoings(t *testing.T) {
	w := newWorld(t)
	if _, err := w.service.User(t.Context(), w.id(bob)); err != nil {
		t.Fatal(err)
	}
	passages := make([]cache.Passage, maxLeaving+1)
	for i := range passages {
		ch := protocol.ChannelID(fmt.Sprintf("C9%06d", i))
		passages[i] = cache.Passage{Move: cache.Move{User: bob, Channel: ch}, Until: 50}
	}
	w.service.Moved(cache.Change{Passed: passages}, 40)
	followed := make(map[protocol.Topic]bool, len(passages))
	for _, topic := range w.followed() {
		followed[topic] = true
	}
	if first, second := protocol.Topic(passages[0].Channel), protocol.Topic(passages[1].Channel); followed[first] || !followed[second] {
		t.Errorf("the first that waits is followed: %v, the second: %v", followed[first], followed[second])
	}
	if got := len(w.service.leaving); got != maxLeaving {
		t.Errorf("%d wait", got)
	}
}

// spy notes from where channels are followed.
type spy struct {
	*world
	from map[protocol.Topic]*protocol.Position
}

func (s spy) Follow(ctx context.Context, topics []protocol.TopicState) error {
	for _, t := range topics {
		s.from[t.Topic] = t.Position
	}
	return s.world.Follow(ctx, topics)
}

// TestUser_ChannelsAreFollowedFromWhereTheStreamIs: a boot that is ahead of the stream has channels that the user came to
// since. They were followed from the boot's position on, and sessions that were there already never heard of the coming.
func TestUser_ChannelsAreFollowedFromWhereTheStreamIs(t *testing.T) {
	w := newWorld(t)
	w.join(shared, bob)
	w.cache.Watermark(w.at)
	applied := w.cache.Applied()
	s := spy{w, make(map[protocol.Topic]*protocol.Position)}
	w.service.loader = s
	w.mu.Lock()
	w.at += 5
	w.mu.Unlock()
	if _, err := w.service.User(t.Context(), w.id(bob)); err != nil {
		t.Fatal(err)
	}
	if at := s.from[protocol.Topic(shared)]; applied == 0 || at == nil || *at > applied {
		t.Errorf("followed from %v, applied %d", at, applied)
	}
}
