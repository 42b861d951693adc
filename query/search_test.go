package query

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"flannel/cache"
	"flannel/protocol"
)

// ready loads the directories of t1, as the first searches do for the next ones.
func (w *world) ready(tb testing.TB) {
	tb.Helper()
	for _, kind := range []protocol.Kind{protocol.KindUser, protocol.KindChannel} {
		r, err := w.service.reader(tb.Context(), new(w.id(ada)))
		if err != nil {
			tb.Fatal(err)
		}
		if r.waitIndex(kind, r.s.config.LoadTimeout) == nil {
			tb.Fatalf("no directory of %s", kind)
		}
	}
}

// named gives a user names and an address.
func (w *world) named(u protocol.UserID, name, realName, display, email string) *protocol.User {
	user := &protocol.User{ID: u, TeamID: t1, Name: name, RealName: realName, Updated: 101}
	user.Profile.DisplayName, user.Profile.Email = display, email
	return user
}

var searches = []struct {
	who        protocol.UserID
	path, args string
	want       string
}{
	{ada, "users/search", `{"query":"ada"}`, "U1"},
	{ada, "users/search", `{"query":"B"}`, "U2"},
	{ada, "users/search", `{"query":"robertson bo"}`, "U2"},
	{ada, "users/search", `{"query":"bo zz"}`, ""},
	{ada, "users/search", `{"query":"zoe"}`, "U6"},                                    // Zoë: eve's display name
	{ada, "users/search", `{"query":"ZOË"}`, "U6"},                                    //
	{ada, "users/search", `{"query":"eve"}`, "U6"},                                    // her handle
	{ada, "users/search", `{"query":"example"}`, ""},                                  //
	{ada, "users/search", `{"query":"example","search_email":1}`, "U2 U6"},            // by name: bobby, zoë
	{gus, "users/search", `{"query":"example","search_email":true}`, ""},              // not for guests
	{ada, "users/search", `{"query":"dee"}`, ""},                                      // deactivated
	{ada, "users/search", `{"query":"dee","filter":"deactivated"}`, "U5"},             //
	{ada, "users/search", `{"query":"","filter":"bots"}`, "U4"},                       //
	{ada, "users/search", `{"query":"","count":2,"top_users":["U0000004"]}`, "U4 U1"}, // then by name
	{ada, "users/search", `{"query":"robo","top_users":["U0000002"]}`, "U4"},
	{ada, "users/search", `{"query":"rob"}`, "U2 U4"},                                                   // bobby robertson, robo
	{ada, "users/search", `{"query":"rob","top_users":["U0000004","x"]}`, "U4 U2"},                      //
	{ada, "users/search", `{"query":"rob","current_channel":"C0000003"}`, "U2 U4"},                      //
	{ada, "users/search", `{"query":"","filter":"people","current_channel":"C0000003"}`, "U1 U2 U3 U6"}, // ada, bob are in it
	{ada, "users/search", `{"query":"robretson","fuzz":1}`, "U2"},
	{ada, "users/search", `{"query":"robretson"}`, ""},
	{ada, "users/search", `{"query":"gsu","fuzz":true}`, "U3"},
	{ada, "users/search", `{"query":"sam","current_channel":"C0000005"}`, "U8"}, // a stranger in the channel
	{ada, "users/search", `{"query":"zoe","current_channel":null}`, "U6"},
	{gus, "users/search", `{"query":""}`, "U2 U3"},
	{gus, "users/search", `{"query":"ada","top_users":["U0000001"]}`, ""},
	{gus, "users/search", `{"query":"bob","current_channel":"C0000003"}`, "U2"},
	{sam, "users/search", `{"query":"sam"}`, "U8"},
	{ada, "channels/search", `{"query":"gen"}`, "C1"},
	{ada, "channels/search", `{"query":""}`, "C1 G1 C3 C5 C2"}, // first those that she is in
	{ada, "channels/search", `{"query":"","top_channels":["C0000002"]}`, "C2 C1 G1 C3 C5"},
	{ada, "channels/search", `{"query":"old"}`, ""},
	{ada, "channels/search", `{"query":"old","filter":"deactivated"}`, "C4"},
	{ada, "channels/search", `{"query":"secret"}`, "C3"},
	{eve, "channels/search", `{"query":"secret"}`, ""},
	{ada, "channels/search", `{"query":"den"}`, ""},
	{gus, "channels/search", `{"query":"den"}`, "C6"},
	{gus, "channels/search", `{"query":""}`, "C6"},
	{ada, "channels/search", `{"query":"randm","fuzz":1}`, "C2"},
	{sam, "channels/search", `{"query":"shared"}`, "C5"},
}

func TestSearch(t *testing.T) {
	w := newWorld(t)
	w.put(w.named(bob, "bob", "Bobby Robertson", "bobby", "rr@example.com"))
	eves := w.named(eve, "eve", "", "Zoë", "eve@Example.com")
	w.put(eves)
	for _, by := range []string{searchedBackend, searchedDirectory} {
		if by == searchedDirectory {
			w.ready(t)
		}
		for _, c := range searches {
			if by == searchedBackend {
				if strings.Contains(c.args, `"fuzz"`) {
					continue // The backend knows no typing errors.
				}
				w.service.indexes.unkept.add(indexKey{t1, protocol.KindUser})
				w.service.indexes.unkept.add(indexKey{t1, protocol.KindChannel})
			}
			if got := w.ask(t, c.who, c.path, c.args).ids(t, "results"); got != c.want {
				t.Errorf("%s by %s, %s %s: %s, want %s", c.who, by, c.path, c.args, got, c.want)
			}
		}
		if testutil.ToFloat64(w.service.metrics.searches[by]) == 0 {
			t.Errorf("nothing was searched by %s", by)
		}
		clear(w.service.indexes.unkept.until)
	}

	got := w.ask(t, ada, "channels/search", `{"query":"","check_membership":true}`)
	if got.ids(t, "member_channels") != "C1 G1 C3 C5" {
		t.Errorf("member_channels: %s", got.Body)
	}
	w.count("list")
	if got := w.ask(t, ada, "users/search", `{"query":"bob"}`); got.ids(t, "results") != "U2" || w.count("list") != 0 {
		t.Error("the backend was asked although the directory is there")
	}
	if got := w.ask(t, ada, "users/search", `{"query":"sam","current_channel":"C0000005"}`); !strings.Contains(string(got.Body), `"is_stranger":true`) {
		t.Errorf("stranger: %s", got.Body)
	}
	w.service.active = func(user protocol.UserID) bool { return user == bob }
	for query, want := range map[string]string{"bob": "U2", "sam": ""} {
		if got := w.ask(t, ada, "users/search", `{"query":"`+query+`"}`).ids(t, "presence_active_ids"); got != want {
			t.Errorf("of %s those are active: %s", query, got)
		}
	}
}

// TestSearch_ByActivity: after the client's hints those come first who spoke last in public, and the channels where somebody
// did; guests too, who find but few.
func TestSearch_ByActivity(t *testing.T) {
	w := newWorld(t)
	w.ready(t)
	w.ask(t, gus, "users/info", `{}`)
	say := func(ch protocol.ChannelID, user protocol.UserID, ago time.Duration) {
		ts := protocol.TS(fmt.Sprintf("%d.000100", time.Now().Add(-ago).Unix()))
		w.emit(nil, &protocol.Event{Topic: protocol.Topic(ch), Type: "message", Effects: []protocol.Effect{{Op: protocol.OpMessageAdded, Channel: ch, User: user, TS: ts, Latest: ts}}})
	}
	want := func(who protocol.UserID, path, args, want string) {
		t.Helper()
		if got := w.ask(t, who, path, args).ids(t, "results"); got != want {
			t.Errorf("%s %s %s: %s, want %s", who, path, args, got, want)
		}
	}
	want(ada, "users/search", `{"query":""}`, "U1 U2 U6 U3 U4")
	want(ada, "channels/search", `{"query":""}`, "C1 G1 C3 C5 C2")
	want(gus, "channels/search", `{"query":""}`, "C6")
	w.join(general, gus)
	want(gus, "channels/search", `{"query":""}`, "C6 C1")

	say(general, eve, 3*time.Hour)
	say(general, robo, 2*time.Hour)
	say(secret, bob, time.Hour)
	say(dm, bob, time.Minute)

	want(ada, "users/search", `{"query":""}`, "U4 U6 U1 U2 U3")
	want(ada, "users/search", `{"query":"","top_users":["U0000003"],"current_channel":"C0000003"}`, "U3 U1 U2 U4 U6")
	want(ada, "users/search", `{"query":"","count":2}`, "U4 U6")
	want(ada, "channels/search", `{"query":""}`, "C3 C1 G1 C5 C2")
	want(eve, "channels/search", `{"query":""}`, "C1 G1 C5 C2")
	want(gus, "users/search", `{"query":""}`, "U4 U6 U1 U2 U3")
	want(gus, "channels/search", `{"query":""}`, "C1 C6")
}

// TestSearch_FollowsEvents: what has changed since the directory was loaded is found so, and only so.
func TestSearch_FollowsEvents(t *testing.T) {
	w := newWorld(t)
	w.ready(t)
	w.change(w.named(bob, "robert", "", "", ""))
	w.change(w.named("U0000010", "newcomer", "", "", ""))
	gone := w.named(eve, "eve", "", "", "")
	gone.Deleted = true
	w.change(gone)
	w.change(&protocol.Channel{ID: random, Name: "chance", IsChannel: true, ContextTeamID: t1, Updated: 1001})
	for query, want := range map[string]string{"bob": "", "robert": "U2", "newc": "U10", "eve": ""} {
		if got := w.ask(t, ada, "users/search", `{"query":"`+query+`"}`).ids(t, "results"); got != want && got != "U0000010" {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	for query, want := range map[string]string{"random": "", "chan": "C2"} {
		if got := w.ask(t, ada, "channels/search", `{"query":"`+query+`"}`).ids(t, "results"); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	if got := w.call(t, ada, "users.list").ids(t, "members"); got != "U1 U2 U3 U4 U5 U6 U0000010" {
		t.Errorf("users.list: %s", got)
	}
	// A guest who is taken out of a channel finds nobody of it any more.
	if got := w.ask(t, gus, "users/search", `{"query":""}`).ids(t, "results"); got != "U3 U2" {
		t.Errorf("guest before: %s", got)
	}
	w.leave(den, gus)
	if got := w.ask(t, gus, "users/search", `{"query":""}`).ids(t, "results"); got != "U3" {
		t.Errorf("guest after: %s", got)
	}
	if got := w.ask(t, gus, "channels/search", `{"query":""}`).ids(t, "results"); got != "" {
		t.Errorf("guest's channels after: %s", got)
	}
}

// TestSearch_ReadsOwnWrites: while the reader's write has not come back, the backend searches.
func TestSearch_ReadsOwnWrites(t *testing.T) {
	w := newWorld(t)
	w.ready(t)
	var p protocol.Position
	w.set(func() {
		w.put(w.named(bob, "robert", "", "", ""))
		w.at++
		p = w.at
	})
	u, err := w.service.User(t.Context(), w.id(ada))
	if err != nil {
		t.Fatal(err)
	}
	u.RaiseFloor(p)
	if got := w.ask(t, ada, "users/search", `{"query":"robert"}`).ids(t, "results"); got != "U2" {
		t.Errorf("got %s", got)
	}
	if got := w.ask(t, ada, "users/counts", `{"channel":"C0000001"}`); string(got.fields["counts"])[:14] != `{"everyone":4,` {
		t.Errorf("counts: %s", got.Body)
	}
}

// TestSearch_WhileTheStreamIsDown: what is known is found, marked as stale; guests find nobody.
func TestSearch_WhileTheStreamIsDown(t *testing.T) {
	w := newWorld(t)
	w.ready(t)
	w.ask(t, ada, "users/search", `{"query":"bob"}`)
	w.ask(t, gus, "users/search", `{"query":"bob"}`)
	w.breakStream()
	got := w.ask(t, ada, "users/search", `{"query":"bob"}`)
	if got.ids(t, "results") != "U2" || !got.Stale {
		t.Errorf("%s, stale %v", got.Body, got.Stale)
	}
	if got := w.ask(t, gus, "users/search", `{"query":"bob"}`); got.code != protocol.CodeUnavailable {
		t.Errorf("guest: %q", got.code)
	}
	if got := w.ask(t, ada, "channels/search", `{"query":"secret"}`).ids(t, "results"); got != "" {
		t.Errorf("a private channel on stale permission: %s", got)
	}
}

// TestSearch_LoadsOnce: many searches at once begin one load, and none waits for it; one that fails is not begun again
// at once.
func TestSearch_LoadsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for i := range 2500 {
			w.put(&protocol.User{ID: protocol.UserID(fmt.Sprintf("U1%06d", i)), TeamID: t1, Name: fmt.Sprintf("n%06d", i)})
		}
		w.ask(t, ada, "users/info", `{}`)
		w.set(func() { w.delay = time.Second })
		started := time.Now()
		for range 3 {
			if got := w.ask(t, ada, "users/search", `{"query":"n001234"}`).ids(t, "results"); got != "U1001234" {
				t.Errorf("got %s", got)
			}
		}
		if took := time.Since(started); took > 5*time.Second {
			t.Errorf("searches took %s", took)
		}
		synctest.Wait()
		time.Sleep(4 * time.Second)
		synctest.Wait()
		w.count("list")
		if got := w.ask(t, ada, "users/search", `{"query":"n001234"}`).ids(t, "results"); got != "U1001234" || w.count("list") != 0 {
			t.Errorf("got %s", got)
		}

		// Lost, and the backend is away.
		w.cache.Reset(protocol.Topic(t1), w.at)
		w.cache.Followed("T0000001", 0, w.at)
		w.ask(t, ada, "users/info", `{}`)
		w.set(func() { w.delay, w.down = 0, true })
		for range 3 {
			if got := w.ask(t, ada, "users/search", `{"query":"n0"}`); got.code != protocol.CodeUnavailable {
				t.Errorf("got %q", got.code)
			}
			synctest.Wait()
		}
		if n := w.count("list"); n > 4 {
			t.Errorf("%d lists", n)
		}
	})
}

// TestUsersList_ByNameOfALargeChannel: pages are in the order of names, whoever comes and goes meanwhile, and only who
// is shown is loaded.
func TestUsersList_ByNameOfALargeChannel(t *testing.T) {
	w := newWorld(t)
	for i := range 3000 {
		u := &protocol.User{ID: protocol.UserID(fmt.Sprintf("U1%06d", i)), TeamID: t1, Name: fmt.Sprintf("n%04d", 2999-i), IsBot: i%2 == 0}
		w.put(u)
		w.seat(&protocol.Channel{ID: general}, u.ID, nil)
	}
	w.ready(t)
	w.set(func() { w.asked = nil })
	var names []string
	more := ""
	for page := range 100 {
		got := w.ask(t, ada, "users/list", `{"channels":["C0000001"],"filter":"NOT bots AND NOT deactivated","count":100,"present_first":true`+more+`}`)
		var results []protocol.User
		if err := json.Unmarshal(got.fields["results"], &results); err != nil {
			t.Fatal(err)
		}
		for _, u := range results {
			names = append(names, strings.ToLower(u.Name))
		}
		if page == 3 { // Behind and ahead of the marker: one goes, one is renamed, one comes.
			w.leave(general, "U1002999")
			w.change(&protocol.User{ID: "U1000001", TeamID: t1, Name: "aaa", Updated: 5})
			w.change(&protocol.User{ID: "U2000000", TeamID: t1, Name: "zzz", Updated: 5})
			w.join(general, "U2000000")
		}
		if got.fields["next_marker"] == nil {
			break
		}
		more = `,"marker":` + string(got.fields["next_marker"])
	}
	// 1,500 and ada, bob, eve; less the one who was renamed to what is behind the marker; and the newcomer.
	if len(names) != 1503 || names[0] != "ada" || names[len(names)-1] != "zzz" {
		t.Errorf("%d names, %s to %s", len(names), names[0], names[len(names)-1])
	}
	for i := 1; i < len(names); i++ {
		if names[i-1] >= names[i] {
			t.Fatalf("%s before %s", names[i-1], names[i])
		}
	}
	w.set(func() {
		if len(w.asked) > 1600 {
			t.Errorf("%d profiles were loaded", len(w.asked))
		}
	})
	// Page by page of a directory, then of the backend: a marker is good for both.
	first := w.ask(t, ada, "users/list", `{"count":2}`)
	if got := first.ids(t, "results"); got != "U1000001 U1" {
		t.Errorf("first: %s", got)
	}
	w.cache.Reset(protocol.Topic(t1), w.at)
	w.cache.Followed(protocol.Topic(t1), 0, w.at)
	if got := w.ask(t, ada, "users/list", `{"count":2,"marker":`+string(first.fields["next_marker"])+`}`).ids(t, "results"); got != "U2 U5" {
		t.Errorf("second, from the backend: %s", got)
	}
}

func TestIndex_Merges(t *testing.T) {
	w := newWorld(t)
	w.ready(t)
	for i := range 600 {
		w.change(&protocol.User{ID: protocol.UserID(fmt.Sprintf("U1%06d", i)), TeamID: t1, Name: fmt.Sprintf("n%06d", i), Updated: 5})
	}
	d, _ := w.cache.Directory(t1, protocol.KindUser)
	if !d.Due() {
		t.Fatal("nothing to merge")
	}
	w.ask(t, ada, "users/search", `{"query":"n000001"}`)
	w.service.indexes.tasks.close() // waits
	if d.Due() || d.Len() != 606 {
		t.Errorf("due %v, %d", d.Due(), d.Len())
	}
}

// FuzzSearch sends anything to the searches: a guest finds only whom they share a channel with.
func FuzzSearch(f *testing.F) {
	for _, c := range searches {
		f.Add(c.path, c.args)
	}
	f.Add("users/search", `{"query":"\u0000\ud800 a b c d e f g h i j k l m n o p","count":1e1,"fuzz":"1","filter":"NOT NOT deactivated"}`)
	w := newWorld(f)
	w.ready(f)
	f.Fuzz(func(t *testing.T, path, args string) {
		if path != "users/search" && path != "channels/search" {
			path = "users/search"
		}
		for _, who := range []protocol.UserID{gus, ada} {
			reply, err := w.service.Query(t.Context(), w.id(who), path, json.RawMessage(args))
			if err != nil {
				if _, ok := errors.AsType[*protocol.Error](err); !ok || protocol.AsError(err).Code == protocol.CodeInternal {
					t.Fatalf("error %v is not for clients", err)
				}
				continue
			}
			var answer struct{ Results []struct{ ID string } }
			if err := json.Unmarshal(reply.Body, &answer); err != nil || len(answer.Results) > maxFound {
				t.Fatalf("answer %s: %v", reply.Body, err)
			}
			for _, r := range answer.Results {
				if who == gus && r.ID != string(gus) && r.ID != string(bob) && r.ID != string(den) || r.ID == string(zoe) {
					t.Fatalf("%s was shown %s", who, r.ID)
				}
			}
		}
	})
}

// BenchmarkSearch is a search in a workspace of 10,000, answered: objects from the cache, 25 of about a kilobyte.
func BenchmarkSearch(b *testing.B) {
	w := newWorld(b, func(c *Config) { c.EnumerationLimit = 1 << 30 })
	for i := range 10_000 {
		w.put(profile(i))
	}
	w.ready(b)
	id, args := w.id(ada), json.RawMessage(`{"query":"firstname1","count":25,"fuzz":1,"filter":"NOT deactivated","current_channel":"C0000001"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.service.Query(b.Context(), id, "users/search", args); err != nil {
			b.Fatal(err)
		}
	}
}

func TestTraits_SameFromObject(t *testing.T) {
	for _, u := range []protocol.User{{ID: "U1", Name: "a\"b", RealName: "É", IsRestricted: true}, {ID: "U1", IsUltraRestricted: true, IsBot: true}, {ID: "U1", IsAppUser: true, Deleted: true, Profile: protocol.Profile{DisplayName: "x", Email: "y@z"}}} {
		o := u.Object()
		if got, ok := cache.EntryOf(&o); !ok || got != u.Entry() {
			t.Errorf("%+v, want %+v", got, u.Entry())
		}
	}
	c := protocol.Channel{ID: "C1", Name: "general", IsArchived: true, ContextTeamID: t1, Updated: 7}
	o := c.Object()
	if got, ok := cache.EntryOf(&o); !ok || got != c.Entry() {
		t.Errorf("%+v", got)
	}
	o = (&protocol.Workspace{ID: t1}).Object()
	if _, ok := cache.EntryOf(&o); ok {
		t.Error("an entry of a workspace")
	}
}

// TestIndex_ChannelsAreLoadedAgain: nobody here is in a channel that is shared, so that no event tells of its new name.
func TestIndex_ChannelsAreLoadedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ready(t)
		far := &protocol.Channel{ID: "C0000077", Name: "far", IsChannel: true, IsShared: true, SharedTeamIDs: []protocol.WorkspaceID{t1, t2}, ContextTeamID: t2, Updated: 7}
		w.change(far)
		search := func(query string) string {
			got := w.ask(t, eve, "channels/search", `{"query":"`+query+`"}`).ids(t, "results")
			synctest.Wait()
			return got
		}
		if got := search("far"); got != "" {
			t.Errorf("before: %s", got)
		}
		w.count("list")
		time.Sleep(channelsFor + time.Second)
		search("far")
		if got := search("far"); got != "C0000077" || w.count("list") != 1 {
			t.Errorf("after: %q", got)
		}
	})
}
