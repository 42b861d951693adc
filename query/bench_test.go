package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"flannel/protocol"
)

// profile is a user of realistic size: about 900 bytes.
func profile(i int) *protocol.User {
	name := fmt.Sprintf("firstname%d lastname%d", i, i)
	return &protocol.User{
		ID: protocol.UserID(fmt.Sprintf("U2%06d", i)), TeamID: t1, Name: fmt.Sprintf("user%d", i), RealName: name, Color: "9f69e7",
		TZ: "Europe/Amsterdam", TZLabel: "Central European Time", TZOffset: 3600, Updated: 1500000000,
		Profile: protocol.Profile{Title: "Staff Engineer, Infrastructure", Phone: "+31 20 555 0000", RealName: name, RealNameNormalized: name,
			DisplayName: "user", DisplayNameNormalized: "user", FirstName: "firstname", LastName: "lastname", Email: fmt.Sprintf("user%d@example.com", i),
			StatusText: "out for lunch", StatusEmoji: ":taco:", AvatarHash: "g1234567890ab", Team: t1},
	}
}

func askFor(n int) json.RawMessage {
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprintf(`"U2%06d":0`, i))
	}
	return json.RawMessage(`{"updated_ids":{` + strings.Join(ids, ",") + `}}`)
}

// crowd is a world with people and a user in 100 channels.
func crowd(tb testing.TB) *world {
	w := newWorld(tb)
	for i := range 100 {
		w.put(profile(i))
		c := &protocol.Channel{ID: protocol.ChannelID(fmt.Sprintf("C2%06d", i)), Name: fmt.Sprintf("project-%d-discussion", i), Created: 1500000000, Creator: ada,
			NameNormalized: fmt.Sprintf("project-%d-discussion", i), ContextTeamID: t1, IsChannel: true, Updated: 1500000000123,
			Topic: protocol.Purpose{Value: "what this is about", Creator: ada}, Purpose: protocol.Purpose{Value: "to talk about it", Creator: ada}}
		w.put(c)
		w.seat(c, zoe, nil)
	}
	id := w.roles[zoe]
	id.Workspace, id.Workspaces = t1, []protocol.WorkspaceID{t1, t2}
	w.roles[zoe] = id
	return w
}

func BenchmarkUsersInfo(b *testing.B) {
	for _, n := range []int{1, 16, 80} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := crowd(b)
			args, id := askFor(n), w.id(ada)
			size := 0
			b.ReportAllocs()
			for b.Loop() {
				reply, err := w.service.Query(b.Context(), id, "users/info", args)
				if err != nil {
					b.Fatal(err)
				}
				size = len(reply.Body)
			}
			b.ReportMetric(float64(size), "bytes/answer")
		})
	}
}

// BenchmarkUsersInfo_Parallel grows with the cores: nothing on the path is one lock for all.
func BenchmarkUsersInfo_Parallel(b *testing.B) {
	w := crowd(b)
	args, id := askFor(1), w.id(ada)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := w.service.Query(b.Context(), id, "users/info", args); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkBoot is a warm boot with counts of a user in 100 channels. It grows with the user's channels and with
// nothing else.
func BenchmarkBoot(b *testing.B) {
	for name, lazy := range map[string]bool{"full": false, "lazy": true} {
		b.Run(name, func(b *testing.B) {
			w := crowd(b)
			id := w.id(zoe)
			var boot, counts []byte
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if err = w.service.Boot(b.Context(), id, lazy, func(x, y []byte) { boot, counts = x, y }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(boot)), "bytes/boot")
			b.ReportMetric(float64(len(counts)), "bytes/counts")
		})
	}
}

func BenchmarkConversationsInfo(b *testing.B) {
	w := newWorld(b)
	id, args := w.id(ada), protocol.Args{"channel": string(general)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.service.Answer(b.Context(), id, "conversations.info", args, ""); err != nil {
			b.Fatal(err)
		}
	}
}

func TestMetrics(t *testing.T) {
	w := newWorld(t)
	w.ask(t, ada, "users/info", `{"updated_ids":{"U0000002":0,"U0000777":0}}`)
	w.ask(t, ada, "users/info", `{"updated_ids":{"U0000002":0,"U0000777":0}}`)
	w.ask(t, ada, "users/info", `{"updated_ids":7}`)
	w.ask(t, ada, "no/such", ``)
	w.call(t, ada, "client.userBoot")
	w.call(t, ada, "conversations.info", "include_num_members", "1")
	w.ask(t, ada, "channels/membership", `{"channel":"C0000001","users":["U0000001"]}`)
	w.set(func() { w.down = true })
	w.call(t, ada, "users.info", "user", string(eve))
	w.breakStream()
	w.call(t, ada, "users.info", "user", string(bob))

	m := w.service.metrics
	for name, c := range map[string]struct {
		got  prometheus.Collector
		want float64
	}{
		"ok":         {m.requests["users/info"].outcomes[outcomeOK], 2},
		"refused":    {m.requests["users/info"].outcomes[outcomeRefused], 1},
		"unknown":    {m.requests[otherRequest].outcomes[outcomeRefused], 1},
		"forward":    {m.requests["conversations.info"].outcomes[outcomeForward], 1},
		"failed":     {m.requests["users.info"].outcomes[outcomeFailed], 1},
		"stale":      {m.requests["users.info"].outcomes[outcomeStale], 1},
		"cache hits": {m.objects[sourceStale], 1},
		"absent":     {m.objects[sourceAbsent], 1},
		"user loads": {m.userLoads, 1},
		"set loads":  {m.setLoads, 1},
		"outrun":     {m.outrun, 0},
		"pending":    {m.pending, 0},
	} {
		if got := testutil.ToFloat64(c.got); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if testutil.ToFloat64(m.objects[sourceLoad]) == 0 || testutil.ToFloat64(m.objects[sourceCache]) == 0 || testutil.CollectAndCount(m.bootBytes) != 1 {
		t.Error("loads, hits or boots are not counted")
	}
}

func TestConfig_Validate(t *testing.T) {
	c := Default()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]func(*Config){
		"load_timeout": func(c *Config) { c.LoadTimeout = 0 }, "pending_after": func(c *Config) { c.PendingAfter = -1 }, "socket_ttl": func(c *Config) { c.SocketTTL = 1 },
		"max_loads": func(c *Config) { c.MaxLoads = 0 }, "max_ids": func(c *Config) { c.MaxIDs = protocol.MaxObjectIDs + 1 },
	} {
		c := Default()
		bad(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := New(Options{Config: c}); err == nil {
			t.Errorf("%s: New takes it", name)
		}
	}
}

func TestBefore(t *testing.T) {
	for _, id := range []string{"U0000001", "U0000000", "UA", "U0A", "UZ9Z", "U10"} {
		if got := before(id); got >= id {
			t.Errorf("before(%q) = %q", id, got)
		}
	}
	if before("") != "" || before("U2") >= "U2" || before("U2") <= "U1" {
		t.Errorf("before(U2) = %q", before("U2"))
	}
}

// deaf follows nothing.
type deaf struct{ *world }

func (deaf) Follow(context.Context, []protocol.TopicState) error { return nil }

// What it costs to know which topics are followed for the users of a full node, who are in 100 of 2,000 channels each:
// a byte or two for a topic.
func BenchmarkHeld_Bytes(b *testing.B) {
	const users, channels, places = 15_000, 2000, 100
	for b.Loop() {
		w := newWorld(b)
		s := w.service
		s.loader = deaf{w}
		rnd := rand.New(rand.NewPCG(1, 2))
		topics := make([]protocol.TopicState, places)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range users {
			user := protocol.UserID(fmt.Sprintf("U%010d", i))
			for j, ch := range rnd.Perm(channels)[:places] {
				topics[j].Topic = protocol.Topic(fmt.Sprintf("C%010d", ch)) // As in a boot, which shares no text with others.
			}
			h := new(holding)
			s.held.of[user] = h
			base := []protocol.TopicState{{Topic: protocol.Topic(user)}, {Topic: "T1"}}
			if err := errors.Join(s.follow(b.Context(), h, base), s.follow(b.Context(), h, topics)); err != nil {
				b.Fatal(err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/users, "B/user")
		runtime.KeepAlive(s)
	}
}
