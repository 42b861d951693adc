package query

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/cache"
	"flannel/protocol"
)

// world is a tiny backend and the stream that comes from it: objects, memberships, a log of events with positions, and
// who follows what. It is the Loader of a Service and feeds the Service's cache as a node does.
type world struct {
	service *Service
	cache   *cache.Cache

	// sink orders what goes into the cache: one at a time, as on a stream.
	sink sync.Mutex

	// mu guards the rest. Taken after sink.
	mu       sync.Mutex
	at       protocol.Position
	objects  map[protocol.ObjectID]protocol.Object
	entries  map[protocol.ObjectID]protocol.ListEntry
	members  map[protocol.ChannelID][]protocol.Membership // by channel, with the user in user
	user     map[protocol.ChannelID][]protocol.UserID     // in id order, parallel to members
	roles    map[protocol.UserID]protocol.Identity        // by token "xoxp-"+user
	log      map[protocol.Topic][]*protocol.Event
	refs     map[protocol.Topic]int
	calls    map[string]int
	asked    []protocol.ObjectID // of all Objects calls
	down     bool                // every call fails
	broken   bool                // the stream is down
	delay    time.Duration       // of every load
	onBoot   func()              // runs between a boot's reading and its answer
	maxTotal int                 // what Members claims as a total, if set
	active   []protocol.UserID   // whose presence is known to be active
}

const (
	t1 = protocol.WorkspaceID("T0000001")
	t2 = protocol.WorkspaceID("T0000002")

	ada, bob, gus, robo, dee, eve = protocol.UserID("U0000001"), protocol.UserID("U0000002"), protocol.UserID("U0000003"), protocol.UserID("U0000004"), protocol.UserID("U0000005"), protocol.UserID("U0000006")
	sam, zoe                      = protocol.UserID("U0000008"), protocol.UserID("U0000009") // of t2: sam shares C5, zoe nothing

	general, random, secret, old, shared, den = protocol.ChannelID("C0000001"), protocol.ChannelID("C0000002"), protocol.ChannelID("C0000003"), protocol.ChannelID("C0000004"), protocol.ChannelID("C0000005"), protocol.ChannelID("C0000006")
	dm, group                                 = protocol.ChannelID("D0000001"), protocol.ChannelID("G0000001")
	botID                                     = protocol.ObjectID("B0000001")
	crew                                      = protocol.ObjectID("S0000001")
)

func newWorld(tb testing.TB, change ...func(*Config)) *world {
	tb.Helper()
	w := &world{
		at: 10, objects: make(map[protocol.ObjectID]protocol.Object), entries: make(map[protocol.ObjectID]protocol.ListEntry),
		members: make(map[protocol.ChannelID][]protocol.Membership), user: make(map[protocol.ChannelID][]protocol.UserID),
		roles: make(map[protocol.UserID]protocol.Identity), log: make(map[protocol.Topic][]*protocol.Event),
		refs: make(map[protocol.Topic]int), calls: make(map[string]int),
	}
	log := slog.New(slog.NewTextHandler(tb.Output(), nil))
	var err error
	w.cache, err = cache.New(cache.Options{Config: cache.Default(), Log: log, Registerer: prometheus.NewRegistry(), Now: time.Now})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(w.cache.Close)
	config := Default()
	for _, fn := range change {
		fn(&config)
	}
	w.service, err = New(Options{
		Config: config, Cache: w.cache, Loader: w, Sockets: tickets{}, Actives: w.actives, Log: log, Registerer: prometheus.NewRegistry(), Now: time.Now,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(w.service.Close)
	w.cache.Live(true)
	w.cache.Watermark(w.at)

	for _, t := range []protocol.Workspace{{ID: t1, Name: "One", Domain: "one", Updated: 5}, {ID: t2, Name: "Two", Domain: "two", Updated: 5}} {
		w.put(&t)
	}
	for _, u := range []protocol.User{
		{ID: ada, TeamID: t1, Name: "ada"}, {ID: bob, TeamID: t1, Name: "bob"}, {ID: gus, TeamID: t1, Name: "gus", IsRestricted: true},
		{ID: robo, TeamID: t1, Name: "robo", IsBot: true}, {ID: dee, TeamID: t1, Name: "dee", Deleted: true},
		{ID: eve, TeamID: t1, Name: "Eve", IsAdmin: true}, {ID: sam, TeamID: t2, Name: "sam"}, {ID: zoe, TeamID: t2, Name: "zoe"},
	} {
		u.Updated, u.RealName = 100, u.Name
		w.put(&u)
		w.roles[u.ID] = protocol.Identity{Token: "k" + string(u.ID), User: u.ID, UserName: u.Name, Workspace: u.TeamID,
			Workspaces: []protocol.WorkspaceID{u.TeamID}, Role: u.Role()}
	}
	w.put(&protocol.Bot{ID: protocol.BotID(botID), TeamID: t1, Name: "robo", UserID: robo, Updated: 7})
	w.put(&protocol.Emoji{Workspace: t1, Name: "parrot", Value: "https://x/p.gif", Updated: 3})
	w.put(&protocol.Emoji{Workspace: t1, Name: "tada2", Value: "alias:tada", Updated: 4})
	w.put(&protocol.Usergroup{ID: crew, TeamID: t1, Name: "Crew", Handle: "crew", DateUpdate: 9, Users: []protocol.UserID{ada}})
	for _, c := range []struct {
		channel protocol.Channel
		members []protocol.UserID
	}{
		{protocol.Channel{ID: general, Name: "general", IsChannel: true, IsGeneral: true}, []protocol.UserID{ada, bob, robo, dee, eve}},
		{protocol.Channel{ID: random, Name: "random", IsChannel: true}, []protocol.UserID{bob}},
		{protocol.Channel{ID: secret, Name: "secret", IsPrivate: true, IsGroup: true}, []protocol.UserID{ada, bob}},
		{protocol.Channel{ID: old, Name: "old", IsChannel: true, IsArchived: true}, []protocol.UserID{ada}},
		{protocol.Channel{ID: shared, Name: "shared", IsChannel: true, IsShared: true, SharedTeamIDs: []protocol.WorkspaceID{t1, t2}}, []protocol.UserID{ada, sam}},
		{protocol.Channel{ID: den, Name: "den", IsPrivate: true, IsGroup: true}, []protocol.UserID{bob, gus}},
		{protocol.Channel{ID: dm, IsIM: true, IsPrivate: true}, []protocol.UserID{ada, bob}},
		{protocol.Channel{ID: group, Name: "mpdm", IsMPIM: true, IsPrivate: true, Members: []protocol.UserID{ada, bob, eve}}, []protocol.UserID{ada, bob, eve}},
	} {
		c.channel.ContextTeamID, c.channel.Updated = t1, 1000
		w.put(&c.channel)
		for _, u := range c.members {
			w.seat(&c.channel, u, c.members)
		}
	}
	return w
}

func (w *world) put(s protocol.Shape) {
	o := s.Object()
	w.objects[o.ID], w.entries[o.ID] = o, s.Entry()
}

// seat puts a user in a channel.
func (w *world) seat(c *protocol.Channel, u protocol.UserID, all []protocol.UserID) protocol.Membership {
	m := protocol.Membership{Channel: c.ID, Owner: c.ContextTeamID, Type: c.Type(), Updated: c.Updated, Archived: c.IsArchived,
		LastRead: "1500000000.000100", Latest: "1500000001.000100", MentionCount: 1}
	if c.IsIM {
		m.Open = true
		m.Peer = all[0]
		if m.Peer == u {
			m.Peer = all[1]
		}
	}
	i, _ := slices.BinarySearch(w.user[c.ID], u)
	w.user[c.ID] = slices.Insert(w.user[c.ID], i, u)
	w.members[c.ID] = slices.Insert(w.members[c.ID], i, m)
	return m
}

// emit commits events: each gets its place, and those that are followed reach the cache and the service.
func (w *world) emit(change func(), events ...*protocol.Event) protocol.Position {
	w.sink.Lock()
	defer w.sink.Unlock()
	w.mu.Lock()
	if change != nil {
		change()
	}
	w.at++
	at := w.at
	var live []*protocol.Event
	for _, ev := range events {
		ev.Position = at
		ev.Seq = protocol.Seq(len(w.log[ev.Topic]) + 1)
		ev.Class = protocol.ClassControl
		w.log[ev.Topic] = append(w.log[ev.Topic], ev)
		if w.refs[ev.Topic] > 0 && !w.broken {
			live = append(live, ev)
		}
	}
	broken := w.broken
	w.mu.Unlock()
	for _, ev := range live {
		w.deliver(ev)
	}
	if !broken {
		w.cache.Watermark(at)
	}
	return at
}

func (w *world) deliver(ev *protocol.Event) {
	w.service.Moved(w.cache.Apply(ev), ev.Position)
}

func (w *world) actives() []protocol.UserID {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.active)
}

// present makes users those who are active, as is seen at once.
func (w *world) present(users ...protocol.UserID) {
	w.set(func() { w.active = users })
	p := &w.service.present
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looked = time.Time{}
}

// change replaces an object and tells its topic.
func (w *world) change(s protocol.Shape) protocol.Position {
	o := s.Object()
	return w.emit(func() { w.put(s) }, &protocol.Event{Topic: o.Topic, Type: "change", Effects: []protocol.Effect{{Op: protocol.OpUpsert, Object: &o}}})
}

// join and leave move a user.
func (w *world) join(ch protocol.ChannelID, u protocol.UserID) protocol.Position {
	var c protocol.Channel
	if err := json.Unmarshal(w.objects[protocol.ObjectID(ch)].Body, &c); err != nil {
		panic(err)
	}
	var m protocol.Membership
	mine := &protocol.Event{Topic: protocol.Topic(u), Type: "channel_joined", Effects: []protocol.Effect{{Op: protocol.OpMemberAdded, Channel: ch, User: u, Membership: &m}}}
	all := &protocol.Event{Topic: protocol.Topic(ch), Type: "member_joined_channel", Effects: []protocol.Effect{{Op: protocol.OpMemberAdded, Channel: ch, User: u}}}
	return w.emit(func() { m = w.seat(&c, u, nil) }, mine, all)
}

func (w *world) leave(ch protocol.ChannelID, u protocol.UserID) protocol.Position {
	gone := []protocol.Effect{{Op: protocol.OpMemberRemoved, Channel: ch, User: u}}
	return w.emit(func() {
		i, _ := slices.BinarySearch(w.user[ch], u)
		w.user[ch] = slices.Delete(w.user[ch], i, i+1)
		w.members[ch] = slices.Delete(w.members[ch], i, i+1)
	}, &protocol.Event{Topic: protocol.Topic(u), Type: "channel_left", Effects: gone}, &protocol.Event{Topic: protocol.Topic(ch), Type: "member_left_channel", Effects: gone})
}

// breakStream and mendStream are the stream going down and coming back.
func (w *world) breakStream() {
	w.sink.Lock()
	defer w.sink.Unlock()
	w.mu.Lock()
	w.broken = true
	w.mu.Unlock()
	w.cache.Live(false)
}

func (w *world) mendStream() {
	w.sink.Lock()
	defer w.sink.Unlock()
	w.mu.Lock()
	w.broken = false
	at := w.at
	var again []protocol.Topic
	for t, n := range w.refs {
		if n > 0 {
			again = append(again, t)
		}
	}
	w.mu.Unlock()
	for _, t := range again {
		w.cache.Followed(t, 0, at)
	}
	w.cache.Watermark(at)
	w.cache.Live(true)
}

// begin counts a load, waits as long as the world is slow, and fails if it is down.
func (w *world) begin(ctx context.Context, call string) error {
	w.mu.Lock()
	w.calls[call]++
	delay, down := w.delay, w.down
	w.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return &protocol.Error{Code: protocol.CodeUnavailable, Retry: time.Second}
		}
	}
	if down {
		return &protocol.Error{Code: protocol.CodeUnavailable, Retry: time.Second}
	}
	return nil
}

func (w *world) Identify(ctx context.Context, token string) (protocol.Identity, protocol.Position, error) {
	if err := w.begin(ctx, "identify"); err != nil {
		return protocol.Identity{}, 0, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	id, ok := w.roles[protocol.UserID(strings.TrimPrefix(token, "xoxp-"))]
	if !ok {
		id = protocol.Identity{Error: protocol.CodeInvalidAuth}
	}
	return id, w.at, nil
}

func (w *world) Boot(ctx context.Context, user protocol.UserID, atLeast protocol.Position) (protocol.UserBoot, protocol.Position, error) {
	if err := w.begin(ctx, "boot"); err != nil {
		return protocol.UserBoot{}, 0, err
	}
	w.mu.Lock()
	o, ok := w.objects[protocol.ObjectID(user)]
	b := protocol.UserBoot{User: user, Error: protocol.CodeUserNotFound}
	if ok {
		id := w.roles[user]
		b = protocol.UserBoot{User: user, Workspace: id.Workspace, Role: id.Role, Self: &o, Prefs: json.RawMessage(`{"theme":"dark","n":1}`), Usergroups: []protocol.ObjectID{crew}}
		for ch, users := range w.user {
			if i, in := slices.BinarySearch(users, user); in {
				b.Memberships = append(b.Memberships, w.members[ch][i])
			}
		}
		slices.SortFunc(b.Memberships, func(a, b protocol.Membership) int { return strings.Compare(string(a.Channel), string(b.Channel)) })
	}
	at, then := w.at, w.onBoot
	w.onBoot = nil
	w.mu.Unlock()
	if then != nil {
		then()
	}
	return b, at, nil
}

func (w *world) Objects(ctx context.Context, _ protocol.WorkspaceID, ids []protocol.ObjectID, _ protocol.Position) ([]*protocol.ObjectsAnswer, error) {
	if len(ids) > protocol.MaxObjectIDs {
		return nil, protocol.Errorf(protocol.CodeInvalidArgs, "%d ids", len(ids))
	}
	if err := w.begin(ctx, "objects"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, ids...)
	a := &protocol.ObjectsAnswer{Position: w.at}
	for _, id := range ids {
		if o, ok := w.objects[id]; ok {
			a.Objects = append(a.Objects, o)
		} else {
			a.Missing = append(a.Missing, id)
		}
	}
	return []*protocol.ObjectsAnswer{a}, nil
}

func (w *world) Members(ctx context.Context, req protocol.MembersRequest) (*protocol.MembersAnswer, error) {
	if req.Limit < 1 || req.Limit > protocol.MaxMembersLimit || (req.Cursor != "" && !protocol.ValidID(string(req.Cursor))) {
		return nil, protocol.Errorf(protocol.CodeInvalidArgs, "limit %d, cursor %q", req.Limit, req.Cursor)
	}
	if err := w.begin(ctx, "members"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	users := w.user[req.Channel]
	a := &protocol.MembersAnswer{Total: max(len(users), w.maxTotal), Position: w.at}
	i, found := slices.BinarySearch(users, req.Cursor)
	if found {
		i++
	}
	a.Users = slices.Clone(users[i:min(len(users), i+req.Limit)])
	if i+req.Limit < len(users) {
		a.NextCursor = a.Users[len(a.Users)-1]
	}
	return a, nil
}

func (w *world) List(ctx context.Context, req protocol.ListRequest) (*protocol.ListAnswer, error) {
	if req.Limit < 1 || req.Limit > protocol.MaxListLimit {
		return nil, protocol.Errorf(protocol.CodeInvalidArgs, "limit %d", req.Limit)
	}
	if err := w.begin(ctx, "list"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	key := func(e *protocol.ListEntry) string {
		if req.Order == protocol.ByName {
			return e.SortName + "\x00" + string(e.ID)
		}
		return string(e.ID)
	}
	var all []protocol.ListEntry
	for id, o := range w.objects {
		in := o.Owner == req.Workspace
		if req.Kind == protocol.KindChannel {
			in = slices.Contains(o.Visibility.Workspaces, req.Workspace)
		}
		e := w.entries[id]
		if o.Kind == req.Kind && in && key(&e) > req.Cursor && e.Matches(protocol.SearchWords(req.Query)) {
			e.NumMembers = len(w.user[protocol.ChannelID(id)])
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b protocol.ListEntry) int { return strings.Compare(key(&a), key(&b)) })
	a := &protocol.ListAnswer{Entries: all, Position: w.at}
	if len(all) > req.Limit {
		a.Entries = all[:req.Limit]
		a.NextCursor = key(&a.Entries[req.Limit-1])
	}
	return a, nil
}

func (w *world) Follow(ctx context.Context, topics []protocol.TopicState) error {
	w.sink.Lock()
	defer w.sink.Unlock()
	if err := w.begin(ctx, "follow"); err != nil {
		return err
	}
	w.FollowAsync(topics)
	return nil
}

// FollowAsync is called with sink held: from Follow, and from the sink by way of Moved.
func (w *world) FollowAsync(topics []protocol.TopicState) {
	w.mu.Lock()
	var replay []*protocol.Event
	for _, t := range topics {
		if w.refs[t.Topic]++; w.refs[t.Topic] > 1 {
			continue
		}
		from := w.at
		if t.Position != nil {
			from = *t.Position
		}
		w.cache.Followed(t.Topic, 0, from)
		for _, ev := range w.log[t.Topic] {
			if ev.Position > from {
				replay = append(replay, ev)
			}
		}
	}
	w.mu.Unlock()
	for _, ev := range replay {
		w.deliver(ev)
	}
}

func (w *world) Unfollow(topics ...protocol.Topic) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range topics {
		if w.refs[t]--; w.refs[t] < 0 {
			panic(fmt.Sprintf("topic %s unfollowed more often than followed", t))
		}
		if w.refs[t] == 0 {
			delete(w.refs, t)
			w.cache.Unfollowed(t)
		}
	}
}

func (w *world) Live() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.broken
}

// tickets is a Sockets.
type tickets struct{}

// Home is another node for one whose host says so.
func (tickets) Home(_ protocol.Identity, host string) string {
	return strings.Replace(host, "elsewhere", "home", 1)
}

func (tickets) URL(id protocol.Identity, params map[string]string, host string, fallback bool) (string, error) {
	if params["fail"] != "" {
		return "", context.DeadlineExceeded
	}
	if fallback {
		host = strings.Replace(host, "elsewhere", "next", 1)
	}
	return "ws" + strings.TrimPrefix(host, "http") + "/websocket/" + string(id.User), nil
}

// bootFrames returns the two bodies of a socket's boot.
func (w *world) bootFrames(ctx context.Context, id protocol.Identity, lazy bool) (boot, counts []byte, err error) {
	err = w.service.Boot(ctx, id, lazy, func(b, c []byte) { boot, counts = bytes.Clone(b), bytes.Clone(c) })
	return boot, counts, err
}

func (w *world) id(u protocol.UserID) protocol.Identity {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.roles[u]
}

// set changes a field of the world.
func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// count returns how many calls of a kind there were, and starts over.
func (w *world) count(call string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.calls[call]
	w.calls[call] = 0
	return n
}

func (w *world) followed() []protocol.Topic {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []protocol.Topic
	for t := range w.refs {
		list = append(list, t)
	}
	slices.Sort(list)
	return list
}

// said is a decoded answer.
type said struct {
	*protocol.Reply
	fields map[string]json.RawMessage
	code   protocol.Code
}

func decodeReply(tb testing.TB, reply *protocol.Reply, err error) said {
	tb.Helper()
	if err != nil {
		return said{code: protocol.AsError(err).Code}
	}
	s := said{Reply: reply}
	if err := json.Unmarshal(reply.Body, &s.fields); err != nil {
		tb.Fatalf("not an object: %v in %s", err, reply.Body)
	}
	if string(s.fields["ok"]) != "true" {
		tb.Fatalf("not ok: %s", reply.Body)
	}
	return s
}

// ask sends an edge query, call a Web API method with "name", "value" pairs.
func (w *world) ask(tb testing.TB, u protocol.UserID, path, args string) said {
	tb.Helper()
	reply, err := w.service.Query(tb.Context(), w.id(u), path, json.RawMessage(args))
	return decodeReply(tb, reply, err)
}

func (w *world) call(tb testing.TB, u protocol.UserID, method string, pairs ...string) said {
	tb.Helper()
	args := make(protocol.Args)
	for i := 0; i < len(pairs); i += 2 {
		args[pairs[i]] = pairs[i+1]
	}
	reply, err := w.service.Answer(tb.Context(), w.id(u), method, args, "http://edge.example")
	return decodeReply(tb, reply, err)
}

// ids returns the ids in a list of objects or of ids.
func (s said) ids(tb testing.TB, field string) string {
	tb.Helper()
	if s.code != "" {
		return "!" + string(s.code)
	}
	var list []json.RawMessage
	if raw := s.fields[field]; raw != nil {
		if err := json.Unmarshal(raw, &list); err != nil {
			tb.Fatalf("%s is no list: %s", field, raw)
		}
	}
	var ids []string
	for _, raw := range list {
		var o struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		}
		var id string
		if json.Unmarshal(raw, &id) != nil {
			if err := json.Unmarshal(raw, &o); err != nil {
				tb.Fatalf("%s has %s", field, raw)
			}
			if id = o.ID; id == "" {
				id = o.Name
			}
		}
		ids = append(ids, strings.Replace(id, "000000", "", 1))
	}
	return strings.Join(ids, " ")
}

// sorted is ids in order: what came from memory and what was loaded may stand in any.
func (s said) sorted(tb testing.TB, field string) string {
	list := strings.Split(s.ids(tb, field), " ")
	slices.Sort(list)
	return strings.Join(list, " ")
}
