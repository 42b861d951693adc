package edge

import (
	"strings"
	"testing"
	"time"

	"flannel/protocol"
)

// neighbour is a Region of nodes that share secrets; everybody belongs to home.
type neighbour struct {
	self, home, next Place
	secrets          [][]byte
}

func (n *neighbour) Self() Place                                { return n.self }
func (n *neighbour) Place(protocol.Identity) (home, next Place) { return n.home, n.next }
func (n *neighbour) Secrets() [][]byte                          { return n.secrets }

// A sealed ticket opens at the node that it is for, once, while it is young; with a secret that is no longer the first too.
func TestSealed_OpensOnceAndOnlyWhereItIsFor(t *testing.T) {
	now := time.Unix(1000, 0)
	clock := func() time.Time { return now }
	old, fresh := []byte("an old secret"), []byte("a fresh secret")
	at := func(node string, secrets ...[]byte) *tickets {
		return newTickets(30*time.Second, 3, &neighbour{self: Place{Node: node}, secrets: secrets}, clock)
	}
	giver := at("a", old)
	give := func() string {
		t.Helper()
		name, ok := giver.seal("b", "xoxp-1", map[string]string{"flannel": "1", "other": "not kept"})
		if !ok || strings.Contains(name, "xoxp") || strings.ContainsAny(name, "/?#%") {
			t.Fatalf("sealed %q, %v", name, ok)
		}
		return name
	}
	b := at("b", fresh, old)
	name := give()
	for _, wrong := range []*tickets{at("a", old), at("c", old), at("b", fresh), at("b"), newTickets(time.Second, 3, nil, clock)} {
		if got, ok := wrong.use(name); ok {
			t.Errorf("opened elsewhere: %+v", got)
		}
	}
	for _, bad := range []string{name + "A", name[:len(name)-1], sealedPrefix, sealedPrefix + "AAAA", name[:20] + "x" + name[21:], strings.Repeat(name, 50)} {
		if got, ok := b.use(bad); ok {
			t.Errorf("%q opened: %+v", bad, got)
		}
	}
	got, ok := b.use(name)
	if !ok || got.token != "xoxp-1" || got.params["flannel"] != "1" || len(got.params) != 1 {
		t.Errorf("opened %+v, %v", got, ok)
	}
	if _, ok := b.use(name); ok {
		t.Error("opened twice")
	}

	late := give()
	now = now.Add(61 * time.Second)
	if _, ok := b.use(late); ok {
		t.Error("opened after its time")
	}
	b.sweep()
	if len(b.spent) != 0 {
		t.Errorf("%d used tickets are remembered", len(b.spent))
	}
	for i := range 4 { // The table of used ones is bounded: what has no room in it is not believed.
		if _, ok := b.use(give()); ok != (i < 3) {
			t.Errorf("ticket %d: %v", i, ok)
		}
	}
	if _, ok := giver.seal("b", strings.Repeat("x", 4000), nil); ok {
		t.Error("a ticket that is too long to travel was given")
	}
}

// Addresses name the node where the user should be; this node's own tickets stay in its table.
func TestURL_NamesTheNodeWhereTheUserShouldBe(t *testing.T) {
	here, there := Place{"a", "https://a.example.com"}, Place{"b", "https://b.example.com"}
	region := &neighbour{self: here, home: there, next: here, secrets: [][]byte{[]byte("secret")}}
	e := &Edge{cfg: Default(), doors: Doors{Region: region}, metrics: newMetrics(nil)}
	e.tickets = newTickets(30*time.Second, 10, region, time.Now)
	id := protocol.Identity{User: "U1", Workspace: "T1"}
	args := func(method, token string) map[string]string {
		return map[string]string{argMethod: method, argToken: token}
	}
	for _, c := range []struct {
		method, token, begins string
		fallback              bool
		local                 int
	}{
		{"rtm.connect", "xoxp", "wss://b.example.com/websocket/s.", false, 0},
		{"rtm.connect", "xoxp", "wss://a.example.com/websocket/", true, 1},
		{"rtm.connect", strings.Repeat("x", 4000), "wss://a.example.com/websocket/", false, 1},
		{"rtm.start", "xoxp", "wss://b.example.com/websocket/s.", false, 0},
		{"client.getWebSocketURL", "xoxp", "wss://b.example.com/?token=xoxp&", false, 0},
		{"client.getWebSocketURL", "xoxp", "wss://a.example.com/?token=xoxp&", true, 0},
	} {
		e.tickets.all = make(map[string]ticket)
		url, err := e.URL(id, args(c.method, c.token), "http://balancer", c.fallback)
		if err != nil || !strings.HasPrefix(url, c.begins) || len(e.tickets.all) != c.local {
			t.Errorf("%+v: %q, %v, %d local tickets", c, url, err, len(e.tickets.all))
		}
	}
	if home := e.Home(id, "http://balancer"); home != there.URL {
		t.Errorf("home is %s", home)
	}
	e.doors.Region = nil
	if url, err := e.URL(id, args("rtm.connect", "xoxp"), "http://balancer", false); err != nil || !strings.HasPrefix(url, "ws://balancer/websocket/") || e.Home(id, "http://balancer") != "http://balancer" {
		t.Errorf("alone: %q, %v", url, err)
	}
}

// Whatever stands in an address, only what was sealed for this node opens.
func FuzzUnseal(f *testing.F) {
	region := &neighbour{self: Place{Node: "b"}, secrets: [][]byte{[]byte("secret")}}
	given := newTickets(30*time.Second, 10, region, time.Now)
	for _, node := range []string{"b", "c"} {
		name, ok := given.seal(node, "xoxp-1", nil)
		if !ok {
			f.Fatal("not sealed")
		}
		f.Add(strings.TrimPrefix(name, sealedPrefix))
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, ok := newTickets(30*time.Second, 10, region, time.Now).unseal(name)
		if ok && got.token != "xoxp-1" || !ok && got.token != "" {
			t.Errorf("%q opened: %+v", name, got)
		}
	})
}
