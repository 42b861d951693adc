package fanout

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"flannel/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ear is a session that remembers what it heard.
type ear struct {
	user protocol.UserID

	mu     sync.Mutex
	frames []*Frame
}

func (e *ear) User() protocol.UserID { return e.user }

func (e *ear) Deliver(f *Frame) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.frames = append(e.frames, f)
}

// heard returns the payloads since the last call.
func (e *ear) heard() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []string
	for _, f := range e.frames {
		list = append(list, string(f.Event.Payload))
	}
	e.frames = nil
	return list
}

// door remembers what it was told.
type door struct {
	mu   sync.Mutex
	said []string
}

func (d *door) say(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.said = append(d.said, fmt.Sprintf(format, args...))
}

func (d *door) Follow(u protocol.UserID)   { d.say("follow %s", u) }
func (d *door) Unfollow(u protocol.UserID) { d.say("unfollow %s", u) }
func (d *door) Report(present, absent []protocol.UserID) {
	d.say("present %v absent %v", present, absent)
}

func (d *door) told() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	said := d.said
	d.said = nil
	return said
}

type fixture struct {
	*Hub
	door  *door
	reg   *prometheus.Registry
	allow func(protocol.UserID, *protocol.Event) bool
	lost  []Receiver

	hears  func(Receiver, protocol.UserID) (may, known bool)
	unsure []Receiver
}

func newFixture(tb testing.TB) *fixture { return newFixtureWith(tb, Default()) }

func newFixtureWith(_ testing.TB, c Config) *fixture {
	f := &fixture{door: new(door), reg: prometheus.NewRegistry()}
	f.allow = func(protocol.UserID, *protocol.Event) bool { return false }
	f.hears = func(Receiver, protocol.UserID) (bool, bool) { return true, true }
	f.Hub = New(Options{
		Hears: func(r Receiver, u protocol.UserID) (bool, bool) { return f.hears(r, u) }, Unsure: func(r Receiver) { f.unsure = append(f.unsure, r) },
		Allow:    func(u protocol.UserID, ev *protocol.Event) bool { return f.allow(u, ev) },
		Presence: f.door, Registerer: f.reg, Log: slog.New(slog.DiscardHandler), Config: c, Now: time.Now,
		Lost: func(r Receiver) { f.lost = append(f.lost, r) },
	})
	return f
}

// Publish publishes an event that no cache has to hear of.
func (f *fixture) Publish(ev *protocol.Event) { f.PublishAfter(func() {}, ev) }

func (f *fixture) attach(user protocol.UserID, role protocol.Role, channels ...protocol.ChannelID) *ear {
	e := &ear{user: user}
	f.Attach(e, protocol.Identity{User: user, Workspace: "T1", Role: role}, standing(role, channels))
	return e
}

// standing says where somebody stands, whenever it is asked.
func standing(role protocol.Role, channels []protocol.ChannelID) Now {
	return func() (Standing, bool) {
		return Standing{Role: role, Channels: func() []protocol.ChannelID { return channels }}, true
	}
}

func (f *fixture) counter(t testing.TB, name string, label, value string) float64 {
	t.Helper()
	families, err := f.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if label != "" && (len(m.GetLabel()) == 0 || m.GetLabel()[0].GetValue() != value) {
				continue
			}
			switch {
			case m.Counter != nil:
				return m.Counter.GetValue()
			case m.Gauge != nil:
				return m.Gauge.GetValue()
			default:
				return float64(m.Histogram.GetSampleCount())
			}
		}
	}
	return -1
}

func message(t protocol.Topic, text string, effects ...protocol.Effect) *protocol.Event {
	return &protocol.Event{Topic: t, Type: "message", Class: protocol.ClassMessage, Payload: []byte(text), Effects: effects}
}

func added(ch protocol.ChannelID, u protocol.UserID) protocol.Effect {
	return protocol.Effect{Op: protocol.OpMemberAdded, Channel: ch, User: u}
}

func removed(ch protocol.ChannelID, u protocol.UserID) protocol.Effect {
	return protocol.Effect{Op: protocol.OpMemberRemoved, Channel: ch, User: u}
}

func wantHeard(t *testing.T, e *ear, want ...string) {
	t.Helper()
	if got := e.heard(); !slices.Equal(got, want) {
		t.Errorf("%s heard %q, want %q", e.user, got, want)
	}
}

func wantTold(t *testing.T, d *door, want ...string) {
	t.Helper()
	if got := d.told(); !slices.Equal(got, want) {
		t.Errorf("the door was told %q, want %q", got, want)
	}
}

func TestPublish_ChannelGoesToItsMembers(t *testing.T) {
	f := newFixture(t)
	a1, a2 := f.attach("UA", protocol.RoleMember, "C1"), f.attach("UA", protocol.RoleMember, "C1")
	b := f.attach("UB", protocol.RoleMember, "C2")
	bot := f.attach("UBOT", protocol.RoleBot, "C1", "C2")

	f.Publish(message("C1", "one"))
	f.Publish(message("C1", "two"))
	f.Publish(message("C2", "three"))
	f.Publish(message("C9", "nobody"))

	wantHeard(t, a1, "one", "two")
	wantHeard(t, a2, "one", "two")
	wantHeard(t, b, "three")
	wantHeard(t, bot, "one", "two", "three")
	if f.Len() != 4 {
		t.Errorf("%d sessions", f.Len())
	}
	if n := f.counter(t, "flannel_events_received_total", "type", "message"); n != 4 {
		t.Errorf("%v events counted", n)
	}
	if n := f.counter(t, "flannel_fanout_size", "", ""); n != 4 {
		t.Errorf("%v fan-outs counted", n)
	}
}

func TestPublish_OneFrameForAll(t *testing.T) {
	f := newFixture(t)
	a, b := f.attach("UA", protocol.RoleMember, "C1"), f.attach("UB", protocol.RoleMember, "C1")
	f.Publish(message("C1", "x"))
	if a.frames[0] != b.frames[0] {
		t.Error("two frames for one event")
	}
	a.frames[0].Shared.Store("prepared")
	if b.frames[0].Shared.Load() != "prepared" {
		t.Error("what one prepared the other does not see")
	}
}

func TestPublish_MembersMoveWithTheChannelsOwnEvents(t *testing.T) {
	f := newFixture(t)
	a, b := f.attach("UA", protocol.RoleMember, "C1"), f.attach("UB", protocol.RoleMember)

	f.Publish(message("C1", "1"))
	f.Publish(message("C1", "joined", added("C1", "UB"), added("C1", "UNKNOWN")))
	f.Publish(message("C1", "2"))
	// What user topics say does not move anybody.
	f.Publish(message("UA", "private", removed("C1", "UA")))
	f.Publish(message("C1", "3"))
	f.Publish(message("C1", "left", removed("C1", "UA"), removed("C1", "UNKNOWN"), added("C2", "UA")))
	f.Publish(message("C1", "4"))
	// Without a payload nobody hears of it.
	f.Publish(message("C1", "", removed("C1", "UB")))
	f.Publish(message("C1", "5"))

	wantHeard(t, a, "1", "joined", "2", "private", "3", "left")
	wantHeard(t, b, "joined", "2", "3", "left", "4")
}

func TestPublish_Except(t *testing.T) {
	f := newFixture(t)
	a, b := f.attach("UA", protocol.RoleMember, "C1"), f.attach("UB", protocol.RoleMember, "C1")
	ev := message("C1", "typing")
	ev.Except, ev.Type, ev.Class = "UA", "user_typing", protocol.ClassEphemeral
	f.Publish(ev)
	wantHeard(t, a)
	wantHeard(t, b, "typing")
	ev = message("presence:UB", `{"presence":"active"}`)
	ev.Except = "UA"
	f.WatchPresence(a, []protocol.UserID{"UB"})
	f.Publish(ev)
	wantHeard(t, a)
}

func TestPublish_WorkspaceAsksForThoseWhoAreNotFull(t *testing.T) {
	f := newFixture(t)
	a, g := f.attach("UA", protocol.RoleAdmin), f.attach("UG", protocol.RoleGuest)
	stranger := &ear{user: "UX"}
	f.Attach(stranger, protocol.Identity{User: "UX", Workspace: "T2", Workspaces: []protocol.WorkspaceID{"T2", "T3"}, Role: protocol.RoleMember}, standing(protocol.RoleMember, nil))
	f.allow = func(u protocol.UserID, ev *protocol.Event) bool {
		return u == "UG" && string(ev.Payload) == "about a friend"
	}

	f.Publish(message("T1", "about anybody"))
	f.Publish(message("T1", "about a friend"))
	f.Publish(message("T3", "elsewhere"))
	f.Publish(message("T1", ""))
	wantHeard(t, a, "about anybody", "about a friend")
	wantHeard(t, g, "about a friend")
	wantHeard(t, stranger, "elsewhere")
	if n := f.counter(t, "flannel_fanout_refused_total", "", ""); n != 1 {
		t.Errorf("%v refusals counted", n)
	}

	for _, c := range []struct {
		user  protocol.UserID
		role  protocol.Role
		other bool
	}{
		{"UG", protocol.RoleMember, true}, {"UA", protocol.RoleAdmin, false}, {"UA", protocol.RoleGuest, true}, {"UA", protocol.RoleGuest, false},
		{"UNKNOWN", protocol.RoleGuest, true},
	} {
		if other := f.SetRole(c.user, c.role); other != c.other {
			t.Errorf("%s becomes a %s: other workspaces %t", c.user, c.role, other)
		}
	}
	f.Publish(message("T1", "about anybody"))
	wantHeard(t, a)
	wantHeard(t, g, "about anybody")
}

func TestPublish_UserTopic(t *testing.T) {
	f := newFixture(t)
	a1, a2, b := f.attach("UA", protocol.RoleMember), f.attach("UA", protocol.RoleMember), f.attach("UB", protocol.RoleMember)
	f.Publish(message("UA", "mine"))
	f.Publish(message("UC", "nobody's"))
	f.Publish(message("E1", "no kind of topic"))
	wantHeard(t, a1, "mine")
	wantHeard(t, a2, "mine")
	wantHeard(t, b)
}

func TestPublish_UnknownTypeIsOther(t *testing.T) {
	f := newFixture(t)
	ev := message("C1", "x")
	ev.Type = "made_up"
	f.Publish(ev)
	if n := f.counter(t, "flannel_events_received_total", "type", "other"); n != 1 {
		t.Errorf("%v", n)
	}
	if problems, err := testutil.GatherAndLint(f.reg); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func TestAttach_ReportsFirstAndLastSession(t *testing.T) {
	f := newFixture(t)
	a1 := f.attach("UA", protocol.RoleMember, "C1")
	a2 := f.attach("UA", protocol.RoleMember, "C1", "C2")
	wantTold(t, f.door, "present [UA] absent []")

	f.Publish(message("C2", "the second knew more"))
	wantHeard(t, a1, "the second knew more")

	f.Attach(a1, protocol.Identity{User: "UA"}, func() (Standing, bool) { t.Error("attached twice"); return Standing{}, true })
	f.Detach(a1)
	f.Detach(a1)
	wantTold(t, f.door)
	f.Publish(message("C1", "x"))
	wantHeard(t, a1)
	wantHeard(t, a2, "the second knew more", "x")

	f.Detach(a2)
	wantTold(t, f.door, "present [] absent [UA]")
	f.Publish(message("C1", "y"))
	f.Publish(message("T1", "y"))
	f.Publish(message("UA", "y"))
	wantHeard(t, a2)
	if f.Len() != 0 || len(f.users)+f.audiences.Len()+len(f.topics)+f.crowds.Len()+len(f.sessions) != 0 {
		t.Errorf("something is left: %d sessions, %d users, %d topics, %d numbers", f.Len(), len(f.users), len(f.topics), f.audiences.Len()+f.crowds.Len())
	}
}

func TestForget_ChannelHasNoAudience(t *testing.T) {
	f := newFixture(t)
	a, b := f.attach("UA", protocol.RoleMember, "C1", "C2"), f.attach("UB", protocol.RoleMember, "C2")
	var stale []protocol.UserID
	note := func(r Receiver) { stale = append(stale, r.User()) }

	f.Forget("C1", note)
	f.Publish(message("C1", "1"))
	f.Publish(message("C1", "2", added("C1", "UA")))
	f.Publish(message("C2", "3"))
	wantHeard(t, a, "2", "3")
	wantHeard(t, b, "3")

	f.Forget("UB", note)
	f.Forget("UC", note)
	if !slices.Equal(stale, []protocol.UserID{"UA", "UB"}) {
		t.Errorf("stale: %v", stale)
	}
	stale = nil
	f.Forget("T1", note)
	f.Forget("C2", nil)
	if slices.Sort(stale); !slices.Equal(stale, []protocol.UserID{"UA", "UB"}) {
		t.Errorf("stale: %v", stale)
	}
	f.Publish(message("C2", "4"))
	f.Publish(message("T1", "5"))
	wantHeard(t, a, "5")
}

func TestDropAndEach(t *testing.T) {
	f := newFixture(t)
	a1, a2, b := f.attach("UA", protocol.RoleMember), f.attach("UA", protocol.RoleMember), f.attach("UB", protocol.RoleMember)
	f.Drop("UA", func(r Receiver) { f.Detach(r) })
	f.Drop("UA", func(Receiver) { t.Error("nobody is left") })
	f.Publish(message("UA", "x"))
	wantHeard(t, a1)
	wantHeard(t, a2)
	n := 0
	f.Each(func(r Receiver) {
		n++
		if r != Receiver(b) {
			t.Errorf("%v", r.User())
		}
	})
	if n != 1 || f.counter(t, "flannel_fanout_sessions", "", "") != 1 {
		t.Errorf("%d sessions", n)
	}
}

// Sessions come and go, watch and are moved while events are published. The race detector looks for the rest; what each
// session hears of one topic must be in order, without repeats.
func TestHub_Concurrent(t *testing.T) {
	f := newFixture(t)
	f.allow = func(protocol.UserID, *protocol.Event) bool { return f.Len() >= 0 }
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				user := protocol.UserID(fmt.Sprint("U", (g+i)%5))
				e := f.attach(user, []protocol.Role{protocol.RoleMember, protocol.RoleGuest}[i%2], "C1", "C2")
				f.WatchPresence(e, []protocol.UserID{"UA", protocol.UserID(fmt.Sprint("U", i%7))})
				f.SetRole(user, protocol.RoleMember)
				f.Drop(user, func(Receiver) {})
				f.Detach(e)
				last := map[protocol.Topic]int{}
				e.mu.Lock() // A frame may still come.
				for _, frame := range e.frames {
					var n int
					if _, err := fmt.Sscan(string(frame.Event.Payload), &n); err != nil {
						continue
					}
					if n <= last[frame.Event.Topic] {
						t.Errorf("%s: %d after %d", frame.Event.Topic, n, last[frame.Event.Topic])
					}
					last[frame.Event.Topic] = n
				}
				e.mu.Unlock()
			}
		})
	}
	for i := range 1000 {
		text := fmt.Sprint(i + 1)
		user := protocol.UserID(fmt.Sprint("U", i%5))
		f.Publish(message("C1", text, removed("C1", user)))
		f.Publish(message("C2", text, added("C1", user)))
		f.Publish(message("T1", text))
		f.Publish(message("presence:UA", fmt.Sprintf(`{"presence":"active","n":%d}`, i)))
		if i%50 == 0 {
			f.Forget("C2", func(Receiver) {})
			f.Forget("presence:UA", nil)
		}
	}
	wg.Wait()
	if f.Len() != 0 || len(f.topics) != 0 {
		t.Errorf("%d sessions, %d topics are left", f.Len(), len(f.topics))
	}
}

// TestPublishAfter_SeveralMessagesAtOnce: everybody hears all of them, in order, as if they had come one by one.
func TestPublishAfter_SeveralMessagesAtOnce(t *testing.T) {
	f := newFixture(t)
	in, out := f.attach("U1", protocol.RoleMember, "C1"), f.attach("U2", protocol.RoleMember, "C2")
	again := &ear{user: "U1"}
	f.Attach(again, protocol.Identity{User: "U1", Workspace: "T1", Role: protocol.RoleMember}, standing(protocol.RoleMember, []protocol.ChannelID{"C1"}))
	var run []*protocol.Event
	for i, payload := range []string{"1", "2", "", "4"} {
		run = append(run, &protocol.Event{Topic: "C1", Seq: protocol.Seq(i + 1), Type: "message", Class: protocol.ClassMessage, Payload: []byte(payload)})
	}
	applied := 0

	f.PublishAfter(func() { applied++ }, run...)

	if got := fmt.Sprint(in.heard(), again.heard(), out.heard()); got != "[1 2 4] [1 2 4] []" || applied != 1 {
		t.Errorf("heard %s, applied %d times", got, applied)
	}
}
