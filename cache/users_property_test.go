package cache

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"flannel/protocol"
)

// chat is the oracle for user states: a small chat backend by the rules of protocol's effects, with its whole history.
type chat struct {
	position protocol.Position
	clock    int
	version  protocol.Version
	channels map[protocol.ChannelID]*chatChannel
	users    map[protocol.UserID]*chatUser
	groups   map[protocol.ObjectID][]protocol.UserID
	events   map[protocol.Topic][]*protocol.Event
	boots    []map[protocol.UserID]protocol.UserBoot // by position
	sets     []map[protocol.ChannelID][]protocol.UserID
}

type chatChannel struct {
	topic    protocol.Topic
	version  protocol.Version
	archived bool
	members  map[protocol.UserID]*protocol.Membership
	messages []protocol.Effect // as added
}

type chatUser struct {
	version protocol.Version
	role    protocol.Role
	prefs   map[string]int
}

var (
	chatUsers    = []protocol.UserID{"UA", "UB", "UC"}
	chatChannels = []protocol.ChannelID{"C1", "C2", "C4"} // C4 is private
)

func newChat() *chat {
	b := &chat{
		channels: make(map[protocol.ChannelID]*chatChannel), users: make(map[protocol.UserID]*chatUser),
		groups: map[protocol.ObjectID][]protocol.UserID{"S1": nil, "S2": nil}, events: make(map[protocol.Topic][]*protocol.Event),
	}
	for _, ch := range chatChannels {
		b.channels[ch] = &chatChannel{topic: ws, version: 1, members: make(map[protocol.UserID]*protocol.Membership)}
	}
	b.channels["C4"].topic = "C4"
	for _, u := range chatUsers {
		b.users[u] = &chatUser{version: 1, role: protocol.RoleMember, prefs: map[string]int{}}
	}
	b.version = 1
	b.save()
	return b
}

func (b *chat) ts() protocol.TS {
	b.clock++
	return protocol.TS(fmt.Sprintf("%010d.000000", b.clock))
}

func (c *chatChannel) latest() protocol.TS {
	if len(c.messages) == 0 {
		return ""
	}
	return c.messages[len(c.messages)-1].TS
}

func (c *chatChannel) typ() protocol.ChannelType {
	if c.topic == ws {
		return protocol.TypePublic
	}
	return protocol.TypePrivate
}

func (b *chat) place(ch protocol.ChannelID, u protocol.UserID) protocol.Membership {
	c := b.channels[ch]
	m := *c.members[u]
	m.Channel, m.Owner, m.Type, m.Updated, m.Archived, m.Latest = ch, "T1", c.typ(), c.version, c.archived, c.latest()
	return m
}

func (b *chat) boot(u protocol.UserID) protocol.UserBoot {
	user := b.users[u]
	self := b.self(u)
	boot := protocol.UserBoot{User: u, Workspace: "T1", Role: user.role, Self: &self, Prefs: protocol.MustMarshal(user.prefs)}
	for _, ch := range chatChannels {
		if b.channels[ch].members[u] != nil {
			boot.Memberships = append(boot.Memberships, b.place(ch, u))
		}
	}
	for _, g := range slices.Sorted(maps.Keys(b.groups)) {
		if slices.Contains(b.groups[g], u) {
			boot.Usergroups = append(boot.Usergroups, g)
		}
	}
	return boot
}

func (b *chat) self(u protocol.UserID) protocol.Object {
	user := b.users[u]
	o := object(protocol.ObjectID(u), user.version)
	o.Body = fmt.Appendf(nil, `{"id":%q,"is_admin":%v,"is_restricted":%v,"updated":%d}`, u, user.role == protocol.RoleAdmin, user.role == protocol.RoleGuest, user.version)
	return o
}

func (b *chat) save() {
	boots, sets := make(map[protocol.UserID]protocol.UserBoot), make(map[protocol.ChannelID][]protocol.UserID)
	for _, u := range chatUsers {
		boots[u] = b.boot(u)
	}
	for ch, c := range b.channels {
		sets[ch] = slices.Sorted(maps.Keys(c.members))
	}
	b.boots, b.sets = append(b.boots, boots), append(b.sets, sets)
}

// commit makes one position of a change and the events that it makes, given as topic, effect, topic, effect, ….
func (b *chat) commit(pairs ...any) {
	b.position++
	for i := 0; i < len(pairs); i += 2 {
		t := pairs[i].(protocol.Topic)
		b.events[t] = append(b.events[t], &protocol.Event{
			Topic: t, Seq: protocol.Seq(len(b.events[t]) + 1), Position: b.position, Effects: []protocol.Effect{pairs[i+1].(protocol.Effect)},
		})
	}
	b.save()
}

func (b *chat) count(c *chatChannel, e *protocol.Effect, step int) {
	for u, m := range c.members {
		if u != e.User && m.LastRead < e.TS && (e.Everyone || slices.Contains(e.Mentions, u)) {
			m.MentionCount = max(0, m.MentionCount+step)
		}
	}
}

func (b *chat) post(ch protocol.ChannelID, author protocol.UserID, mentions []protocol.UserID, everyone bool) {
	c := b.channels[ch]
	e := protocol.Effect{Op: protocol.OpMessageAdded, Channel: ch, User: author, TS: b.ts(), Mentions: mentions, Everyone: everyone}
	e.Latest = e.TS
	c.messages = append(c.messages, e)
	b.count(c, &e, +1)
	if m := c.members[author]; m != nil && m.LastRead <= e.TS {
		m.LastRead, m.MentionCount = e.TS, 0
	}
	b.commit(protocol.Topic(ch), e)
}

func (b *chat) unpost(ch protocol.ChannelID, i int) {
	c := b.channels[ch]
	e := c.messages[i]
	c.messages = slices.Delete(slices.Clone(c.messages), i, i+1)
	b.count(c, &e, -1)
	e.Op, e.Latest = protocol.OpMessageRemoved, c.latest()
	b.commit(protocol.Topic(ch), e)
}

func (b *chat) join(ch protocol.ChannelID, u protocol.UserID) {
	b.channels[ch].members[u] = &protocol.Membership{LastRead: b.channels[ch].latest(), Open: true}
	m := b.place(ch, u)
	e := protocol.Effect{Op: protocol.OpMemberAdded, Channel: ch, User: u}
	mine := e
	mine.Membership = &m
	b.commit(protocol.Topic(u), mine, protocol.Topic(ch), e)
}

func (b *chat) leave(ch protocol.ChannelID, u protocol.UserID) {
	delete(b.channels[ch].members, u)
	e := protocol.Effect{Op: protocol.OpMemberRemoved, Channel: ch, User: u}
	b.commit(protocol.Topic(u), e, protocol.Topic(ch), e)
}

// chatNode is the model of what the stream has told one cache, with what query does around it.
type chatNode struct {
	*fixture
	b        *chat
	followed map[protocol.Topic]protocol.Position
	next     map[protocol.Topic]int
	// removed is, for each member and topic that told of it, the position of the latest removal that was applied. lapsed
	// are those whose topic was given up since: they are known to the states that were held then, and to no later ones.
	removed map[telling]protocol.Position
	lapsed  map[telling]bool
	drawn   func(label string, n int) int
}

// telling is a topic's word on a member.
type telling struct {
	topic protocol.Topic
	Move
}

// lapse notes that what a topic told is known only to the states that are held.
func (n *chatNode) lapse(t protocol.Topic) {
	for told := range n.removed {
		if told.topic == t {
			n.lapsed[told] = true
		}
	}
}

func (n *chatNode) followAt(t protocol.Topic, p protocol.Position) {
	if _, ok := n.followed[t]; ok {
		return
	}
	n.followed[t], n.next[t] = p, 0
	seq := protocol.Seq(0)
	for _, ev := range n.b.events[t] {
		if ev.Position <= p {
			seq = ev.Seq
		}
	}
	n.next[t] = int(seq)
	n.Followed(t, seq, p)
}

func (n *chatNode) unfollow(t protocol.Topic) {
	delete(n.followed, t)
	n.Unfollowed(t)
	n.lapse(t)
}

func (n *chatNode) channelsOf(u protocol.UserID) []protocol.ChannelID {
	state, ok := n.users.get(u)
	if !ok {
		return nil
	}
	return state.Channels()
}

func (n *chatNode) deliver(t *rapid.T, topic protocol.Topic) bool {
	events := n.b.events[topic]
	if _, ok := n.followed[topic]; !ok || n.next[topic] >= len(events) {
		return false
	}
	ev := events[n.next[topic]]
	n.next[topic]++
	before := make(map[protocol.UserID][]protocol.ChannelID)
	for _, u := range chatUsers {
		before[u] = n.channelsOf(u)
	}
	change := n.Apply(ev)
	var want Change
	for _, u := range chatUsers {
		after := n.channelsOf(u)
		for _, ch := range after {
			if !slices.Contains(before[u], ch) {
				want.Joined = append(want.Joined, Move{u, ch})
			}
		}
		for _, ch := range before[u] {
			if !slices.Contains(after, ch) {
				want.Left = append(want.Left, Move{u, ch})
			}
		}
	}
	if !slices.Equal(want.Joined, change.Joined) || !slices.Equal(want.Left, change.Left) {
		t.Fatalf("the event %v said %+v, want %+v", ev.Effects, change, want)
	}
	if e := ev.Effects[0]; e.Op == protocol.OpMemberRemoved {
		told := telling{topic, Move{e.User, e.Channel}}
		n.removed[told] = max(n.removed[told], ev.Position)
		delete(n.lapsed, told)
	}
	for _, j := range change.Joined { // The backend replays from before or from the joining event itself.
		n.followAt(protocol.Topic(j.Channel), ev.Position-protocol.Position(n.drawn("behind", 2)))
	}
	return true
}

func (n *chatNode) watermark() {
	p := n.b.position
	for t := range n.followed {
		if events := n.b.events[t]; n.next[t] < len(events) {
			p = min(p, events[n.next[t]].Position-1)
		}
	}
	if p >= n.Applied() {
		n.Watermark(p)
	}
}

// fill loads a user as of p, the way query does.
func (n *chatNode) fill(t *rapid.T, user protocol.UserID, p protocol.Position) bool {
	boot := n.b.boots[p][user]
	for i := range boot.Memberships {
		n.followAt(protocol.Topic(boot.Memberships[i].Channel), p)
	}
	if _, held := n.users.get(user); !held {
		for told := range n.lapsed {
			if told.User == user {
				delete(n.removed, told)
				delete(n.lapsed, told)
			}
		}
	}
	u, err := n.FillUser(&boot, p)
	if err != nil {
		if !errors.Is(err, ErrOutrun) {
			t.Fatal(err)
		}
		return false
	}
	for _, m := range u.Memberships() {
		n.followAt(protocol.Topic(m.Channel), p)
	}
	return true
}

// compare checks that a fresh state is the backend's newest.
func (n *chatNode) compare(t *rapid.T, u *User) {
	want := n.b.boots[n.b.position][u.ID()]
	if got := u.Memberships(); len(got)+len(want.Memberships) > 0 && !reflect.DeepEqual(got, want.Memberships) {
		t.Fatalf("%s is in %+v\nwant %+v", u.ID(), got, want.Memberships)
	}
	if got := u.Usergroups(); !slices.Equal(got, want.Usergroups) {
		t.Fatalf("%s is in groups %v, want %v", u.ID(), got, want.Usergroups)
	}
	var prefs, wantPrefs map[string]int
	if err := errors.Join(json.Unmarshal(u.Prefs(), &prefs), json.Unmarshal(want.Prefs, &wantPrefs)); err != nil || !maps.Equal(prefs, wantPrefs) {
		t.Fatalf("%s has prefs %s, want %s (%v)", u.ID(), u.Prefs(), want.Prefs, err)
	}
	if u.Role() != want.Role || u.Version() != want.Self.Version || u.Workspace() != want.Workspace {
		t.Fatalf("%s has role %s and version %d, want %s and %d", u.ID(), u.Role(), u.Version(), want.Role, want.Self.Version)
	}
}

// TestUsers_AgainstAnOracle lets boots as of random earlier positions and the events of user, channel and workspace
// topics meet in any order across topics. Once it is quiet, every fresh state and set is the backend's, to the last
// mention; and by no usable state is anybody in a channel that they were removed from. (A removal that a topic told while
// the user had no state, and that was given up since, is known to nobody: it will be told again.)
func TestUsers_AgainstAnOracle(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := &chatNode{
			fixture: newFixture(t, func(c *Config) {
				c.Bytes = 1 << 20
				c.RecentEvents = rapid.SampledFrom([]int{3, 1000, 1000}).Draw(rt, "log")
			}),
			b: newChat(), followed: make(map[protocol.Topic]protocol.Position), next: make(map[protocol.Topic]int),
			removed: make(map[telling]protocol.Position), lapsed: make(map[telling]bool),
		}
		defer n.Close()
		user, channel := rapid.SampledFrom(chatUsers), rapid.SampledFrom(chatChannels)
		some := rapid.SliceOfDistinct(user, rapid.ID[protocol.UserID])
		topics := []protocol.Topic{ws}
		for _, u := range chatUsers {
			topics = append(topics, protocol.Topic(u))
		}
		for _, ch := range chatChannels {
			topics = append(topics, protocol.Topic(ch))
		}
		topic := rapid.SampledFrom(topics)
		deliver := func(t *rapid.T) { n.deliver(t, topic.Draw(t, "topic")) }

		actions := map[string]func(*rapid.T){
			"post": func(t *rapid.T) {
				n.b.post(channel.Draw(t, "channel"), user.Draw(t, "author"), some.Draw(t, "mentions"), rapid.IntRange(0, 3).Draw(t, "everyone") == 0)
			},
			"unpost": func(t *rapid.T) {
				ch := channel.Draw(t, "channel")
				if len(n.b.channels[ch].messages) == 0 {
					t.Skip("no message")
				}
				n.b.unpost(ch, rapid.IntRange(0, len(n.b.channels[ch].messages)-1).Draw(t, "message"))
			},
			"member": func(t *rapid.T) {
				ch, u := channel.Draw(t, "channel"), user.Draw(t, "user")
				if n.b.channels[ch].members[u] == nil {
					n.b.join(ch, u)
				} else {
					n.b.leave(ch, u)
				}
			},
			"mark": func(t *rapid.T) {
				ch, u := channel.Draw(t, "channel"), user.Draw(t, "user")
				m := n.b.channels[ch].members[u]
				if m == nil {
					t.Skip("no member")
				}
				m.LastRead = ""
				if messages := n.b.channels[ch].messages; len(messages) > 0 {
					m.LastRead = messages[rapid.IntRange(0, len(messages)-1).Draw(t, "message")].TS
				}
				m.MentionCount = rapid.IntRange(0, 3).Draw(t, "mentions")
				n.b.commit(protocol.Topic(u), protocol.Effect{Op: protocol.OpRead, Channel: ch, TS: m.LastRead, MentionCount: m.MentionCount})
			},
			"open": func(t *rapid.T) {
				ch, u := channel.Draw(t, "channel"), user.Draw(t, "user")
				m := n.b.channels[ch].members[u]
				if m == nil {
					t.Skip("no member")
				}
				m.Open = !m.Open
				n.b.commit(protocol.Topic(u), protocol.Effect{Op: protocol.OpOpen, Channel: ch, Open: m.Open, User: u})
			},
			"pref": func(t *rapid.T) {
				u, name, value := user.Draw(t, "user"), rapid.SampledFrom([]string{"a", `b"é`}).Draw(t, "name"), rapid.IntRange(1, 9).Draw(t, "value")
				n.b.users[u].prefs[name] = value
				n.b.commit(protocol.Topic(u), protocol.Effect{Op: protocol.OpPref, Name: name, Value: protocol.MustMarshal(value)})
			},
			"rename": func(t *rapid.T) {
				ch := channel.Draw(t, "channel")
				c := n.b.channels[ch]
				n.b.version++
				c.version, c.archived = n.b.version, rapid.Bool().Draw(t, "archived")
				o := object(protocol.ObjectID(ch), c.version)
				o.Topic, o.Body = c.topic, fmt.Appendf(nil, `{"id":%q,"is_archived":%v}`, ch, c.archived)
				n.b.commit(c.topic, upsert(o))
			},
			"self": func(t *rapid.T) {
				u := user.Draw(t, "user")
				n.b.version++
				n.b.users[u].version = n.b.version
				n.b.users[u].role = rapid.SampledFrom([]protocol.Role{protocol.RoleMember, protocol.RoleGuest, protocol.RoleAdmin}).Draw(t, "role")
				n.b.commit(ws, upsert(n.b.self(u)))
			},
			"group": func(t *rapid.T) {
				g := rapid.SampledFrom([]protocol.ObjectID{"S1", "S2"}).Draw(t, "group")
				n.b.groups[g] = some.Draw(t, "users")
				n.b.version++
				o := object(g, n.b.version)
				o.Body = protocol.MustMarshal(map[string]any{"users": n.b.groups[g]})
				n.b.commit(ws, upsert(o))
			},
			"deliver": deliver, "deliver2": deliver, "deliver3": deliver, "deliver4": deliver,
			"watermark": func(*rapid.T) { n.watermark() },
			"fill": func(t *rapid.T) {
				u := user.Draw(t, "user")
				n.followAt(ws, n.b.position)
				n.followAt(protocol.Topic(u), n.b.position)
				n.fill(t, u, protocol.Position(rapid.IntRange(0, int(n.b.position)).Draw(t, "position")))
			},
			"members": func(t *rapid.T) {
				ch := channel.Draw(t, "channel")
				p := protocol.Position(rapid.IntRange(0, int(n.b.position)).Draw(t, "position"))
				if _, err := n.FillMembers(ch, n.b.sets[p][ch], p); err != nil && !errors.Is(err, ErrOutrun) {
					t.Fatal(err)
				}
			},
			"linger": func(t *rapid.T) {
				ch := channel.Draw(t, "channel")
				for _, u := range chatUsers {
					if slices.Contains(n.channelsOf(u), ch) {
						t.Skip("in use")
					}
				}
				if _, ok := n.followed[protocol.Topic(ch)]; ok {
					n.unfollow(protocol.Topic(ch))
				}
			},
			"lose": func(t *rapid.T) {
				tp := topic.Draw(t, "topic")
				if _, ok := n.followed[tp]; !ok || rapid.IntRange(0, 3).Draw(t, "really") > 0 {
					t.Skip("kept")
				}
				if rapid.Bool().Draw(t, "reset") {
					n.followed[tp], n.next[tp] = n.b.position, len(n.b.events[tp])
					n.Reset(tp, n.b.position)
					n.lapse(tp)
				} else {
					n.unfollow(tp)
				}
			},
			"audit": func(t *rapid.T) {
				p := protocol.Position(rapid.IntRange(0, int(n.b.position)).Draw(t, "position"))
				boot := n.b.boots[p][user.Draw(t, "user")]
				if v := n.VerifyUser(&boot, p); v.Verdict == Mismatch {
					t.Fatalf("%s is not what they were at %d, the auditor says: %s %s", boot.User, p, v.Wrong, v.Channel)
				}
			},
			"expire": func(t *rapid.T) {
				n.advance(time.Duration(rapid.IntRange(1, 10).Draw(t, "minutes")) * time.Minute)
				n.Expire(n.time())
			},
			"quiet": func(t *rapid.T) {
				for moved := true; moved; {
					moved = false
					for _, tp := range topics {
						for n.deliver(t, tp) {
							moved = true
						}
					}
				}
				n.watermark()
				for _, id := range chatUsers {
					if u, f := n.User(id); f == Fresh {
						n.compare(t, u)
					}
				}
				for _, ch := range chatChannels {
					if s, f := n.Members(ch); f == Fresh {
						if got, more := s.Page("", 100); more || !slices.Equal(got, n.b.sets[n.b.position][ch]) {
							t.Fatalf("%s has members %v, want %v", ch, got, n.b.sets[n.b.position][ch])
						}
					}
				}
				u := user.Draw(t, "user")
				n.followAt(ws, n.b.position)
				n.followAt(protocol.Topic(u), n.b.position)
				if !n.fill(t, u, n.b.position) {
					t.Fatal("a boot as of the newest position is outrun")
				}
				state, f := n.User(u)
				if f != Fresh {
					t.Fatalf("a state that was just loaded is %s", f)
				}
				n.compare(t, state)
				boot := n.b.boots[n.b.position][u]
				if v := n.VerifyUser(&boot, n.b.position); v.Verdict != Match && state.waiting.Load() == 0 {
					t.Fatalf("%s is right, and the auditor says %+v", u, v)
				}
			},
			"": func(t *rapid.T) {
				for who, p := range n.removed {
					u, ok := n.users.get(who.User)
					if !ok || !u.usable(n.time().UnixNano()) {
						continue // A void state claims nothing: it is not shown as fresh, and is loaded again.
					}
					if at, in := u.enteredAt(who.Channel); in && at <= p {
						t.Fatalf("%s is in %s as of %d, and was removed at %d", who.User, who.Channel, at, p)
					}
				}
			},
		}
		n.drawn = func(label string, k int) int { return rapid.IntRange(0, k-1).Draw(rt, label) }
		rt.Repeat(actions)
	})
}
