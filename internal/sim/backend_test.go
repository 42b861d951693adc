package sim_test

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"flannel/protocol"
)

// backend is a chat backend in memory. It never forgets anything: what it was at any position can be asked, and that is
// what the checker compares with. All of it is guarded by mu; methods whose name ends in Locked want it held.
type backend struct {
	mu sync.Mutex

	position protocol.Position
	when     []time.Time // when[p-1] is the time of commit p
	// replayFrom: subscriptions below it are answered with reset. Raised at random.
	replayFrom protocol.Position
	trouble    trouble

	accounts map[protocol.UserID]*account
	people   []protocol.UserID // all users, in order
	rooms    map[protocol.ChannelID]*room
	list     []protocol.ChannelID // all channels, in the order in which they were made
	objects  map[protocol.ObjectID]*timeline[*protocol.Object]
	topics   map[protocol.Topic][]*protocol.Event // seq n is at n-1
	logins   map[string]*login                    // by token
	done     map[string]answered                  // forwarded writes, by idempotency key
	commits  int                                  // channels and tokens are numbered by it
	streams  map[*stream]struct{}
	born     time.Time // when the world began
}

// trouble is what a script does to the backend: all of it is within the contract.
type trouble struct {
	late    protocol.Topic     // held back on all streams above lateAt; "" for none
	lateAt  protocol.Position  // see late
	aside   protocol.Topic     // subscriptions of it are not answered; "" for none
	replays time.Duration      // before each event that is replayed for a subscription
	replica *protocol.Position // tokens are identified as of then, not now; nil for none
}

// account is one user.
type account struct {
	shape protocol.User
	roles timeline[protocol.Role]
	dead  timeline[bool]
	token string // the latest
	theme string // a preference
}

// login is one token.
type login struct {
	token, id string
	user      protocol.UserID
	revoked   protocol.Position // 0: not
}

// room is one channel.
type room struct {
	shape    protocol.Channel
	members  map[protocol.UserID]*timeline[bool]
	places   map[protocol.UserID]*place // of the present members
	messages []*message
	last     int64 // the latest timestamp, in microseconds
}

// place is where a member stands.
type place struct {
	lastRead protocol.TS
	open     bool
}

type message struct {
	ts       protocol.TS
	user     protocol.UserID
	text     string
	mentions []protocol.UserID
	everyone bool
	deleted  bool
}

type answered struct {
	body []byte
	at   protocol.Position
}

// timeline is the history of a value by position.
type timeline[T any] struct{ stamps []stamp[T] }

type stamp[T any] struct {
	at protocol.Position
	v  T
}

// at returns the value as of p, the zero value before the first.
func (t *timeline[T]) at(p protocol.Position) (v T) {
	if t == nil {
		return v
	}
	for _, s := range slices.Backward(t.stamps) {
		if s.at <= p {
			return s.v
		}
	}
	return v
}

func (t *timeline[T]) set(at protocol.Position, v T) {
	if n := len(t.stamps); n > 0 && t.stamps[n-1].at == at {
		t.stamps[n-1].v = v
		return
	}
	t.stamps = append(t.stamps, stamp[T]{at, v})
}

func newBackend() *backend {
	return &backend{
		accounts: make(map[protocol.UserID]*account), rooms: make(map[protocol.ChannelID]*room),
		objects: make(map[protocol.ObjectID]*timeline[*protocol.Object]), topics: make(map[protocol.Topic][]*protocol.Event),
		logins: make(map[string]*login), done: make(map[string]answered), streams: make(map[*stream]struct{}),
	}
}

// tx is one commit: all that it does is at one position.
type tx struct {
	*backend
	at  protocol.Position
	now time.Time
	any bool
}

// commit runs fn, which changes the backend and emits events, or changes nothing and returns a code. It returns the
// position of the commit, or the present one if nothing was emitted.
func (b *backend) commit(fn func(t *tx) protocol.Code) (protocol.Position, protocol.Code) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := &tx{backend: b, at: b.position + 1, now: time.Now()}
	code := fn(t)
	if t.any {
		b.position = t.at
		b.when = append(b.when, t.now)
		b.commits++
		for s := range b.streams {
			s.nudge()
		}
	}
	return b.position, code
}

// fields is a JSON object on its way.
type fields map[string]any

// emit appends an event to its topic. Every payload carries the event's name, so that what reaches a client can be told
// from all others. A nil payload makes it one for caches only.
func (t *tx) emit(topic protocol.Topic, class protocol.Class, typ string, payload fields, refs []protocol.ObjectID, effects ...protocol.Effect) {
	ev := &protocol.Event{
		Topic: topic, Seq: protocol.Seq(len(t.topics[topic]) + 1), Position: t.at, Type: typ, Class: class, Effects: effects,
	}
	if payload != nil {
		payload["type"] = typ
		payload[simField] = protocol.EventID(ev)
		payload["event_ts"] = stampOf(t.now)
		ev.Payload, ev.Refs = protocol.MustMarshal(payload), refs
	}
	t.topics[topic] = append(t.topics[topic], ev)
	t.any = true
}

// simField names the event in its payload.
const simField = "sim"

func (t *tx) control(topic protocol.Topic, typ string, payload fields, refs []protocol.ObjectID, effects ...protocol.Effect) {
	t.emit(topic, protocol.ClassControl, typ, payload, refs, effects...)
}

func stampOf(t time.Time) protocol.TS {
	return protocol.TS(fmt.Sprintf("%010d.%06d", t.Unix(), t.Nanosecond()/1000))
}

// put makes o the state of an object, and returns the effect that says so.
func (t *tx) put(o protocol.Object) protocol.Effect {
	tl := t.objects[o.ID]
	if tl == nil {
		tl = new(timeline[*protocol.Object])
		t.objects[o.ID] = tl
	}
	tl.set(t.at, &o)
	return protocol.Effect{Op: protocol.OpUpsert, Object: &o}
}

func nextVersion(old protocol.Version, now int64) protocol.Version {
	return max(old+1, protocol.Version(now))
}

// nextTS gives a channel's next timestamp.
func (r *room) nextTS(now time.Time) protocol.TS {
	r.last = max(r.last+1, now.UnixMicro())
	return protocol.TS(fmt.Sprintf("%010d.%06d", r.last/1e6, r.last%1e6))
}

// latest is the newest message that stands.
func (r *room) latest() protocol.TS {
	for _, m := range slices.Backward(r.messages) {
		if !m.deleted {
			return m.ts
		}
	}
	return ""
}

// mentions counts the mentions of user above ts that stand.
func (r *room) mentions(user protocol.UserID, ts protocol.TS) (n int) {
	for _, m := range r.messages {
		if m.ts > ts && !m.deleted && m.user != user && (m.everyone || slices.Contains(m.mentions, user)) {
			n++
		}
	}
	return n
}

// in reports whether user is in the room now.
func (r *room) in(user protocol.UserID) bool { return r.places[user] != nil }

// sorted are the present members in id order.
func (r *room) sorted() []protocol.UserID {
	users := make([]protocol.UserID, 0, len(r.places))
	for u := range r.places {
		users = append(users, u)
	}
	slices.Sort(users)
	return users
}

// membershipLocked is a member's place as the contract tells it.
func (b *backend) membershipLocked(r *room, user protocol.UserID) protocol.Membership {
	p := r.places[user]
	m := protocol.Membership{
		Channel: r.shape.ID, Owner: r.shape.ContextTeamID, Type: r.shape.Type(), Updated: r.shape.Updated, Archived: r.shape.IsArchived,
		Open: p.open, LastRead: p.lastRead, Latest: r.latest(), MentionCount: r.mentions(user, p.lastRead),
	}
	if r.shape.IsIM {
		m.Peer = peer(&r.shape, user)
	}
	return m
}

func peer(c *protocol.Channel, user protocol.UserID) protocol.UserID {
	for _, u := range c.Members {
		if u != user {
			return u
		}
	}
	return user
}

// membershipsLocked are all places of a user, in id order.
func (b *backend) membershipsLocked(user protocol.UserID) []protocol.Membership {
	var list []protocol.Membership
	for _, id := range b.list {
		if r := b.rooms[id]; r.in(user) {
			list = append(list, b.membershipLocked(r, user))
		}
	}
	slices.SortFunc(list, func(x, y protocol.Membership) int { return compare(x.Channel, y.Channel) })
	return list
}

func compare[S ~string](a, b S) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func number(n int) string { return strconv.FormatInt(int64(n), 10) }
