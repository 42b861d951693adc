package sim_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"flannel/protocol"
)

const serviceKey = "service-key"

// gateway is the backend's upstream listener: the contract of docs/upstream.md over the simulated network, late, and
// now and then out of order.
type gateway struct {
	b        *backend
	listener *listener
	server   *fasthttp.Server
	upgrader websocket.FastHTTPUpgrader
	faults   *faults
	marks    map[string]func(mark) // by node: told of each watermark; static
	wg       sync.WaitGroup

	mu      sync.Mutex
	down    bool                     // answers 503
	slow    map[string]time.Duration // scripts: how long answers of a call are on their way
	streams int
	// when a call is to be answered late; guarded by mu.
	rnd *rand.Rand
}

func newGateway(b *backend, f *faults, seed uint64) *gateway {
	g := &gateway{b: b, listener: newListener("backend", f), faults: f, marks: make(map[string]func(mark)), rnd: rand.New(rand.NewPCG(seed, 77))}
	g.server = &fasthttp.Server{
		Handler: g.serve, NoDefaultDate: true, NoDefaultServerHeader: true, Logger: quiet{}, MaxRequestBodySize: 4 << 20, ReadBufferSize: 8 << 10,
		KeepHijackedConns: true, CloseOnShutdown: true,
	}
	g.upgrader = websocket.FastHTTPUpgrader{ReadBufferSize: 1 << 10, WriteBufferSize: 1 << 10}
	g.wg.Go(func() { _ = g.server.Serve(g.listener) })
	return g
}

func (g *gateway) close() {
	_ = g.listener.Close()
	g.listener.cut()
	_ = g.server.Shutdown()
	g.wg.Wait()
}

// pause is how long a step of answering takes.
func (g *gateway) pause() {
	g.mu.Lock()
	d := g.faults.think(g.rnd)
	g.mu.Unlock()
	if d > 0 {
		time.Sleep(d)
	}
}

func (g *gateway) serve(ctx *fasthttp.RequestCtx) {
	if string(ctx.Request.Header.Peek("Authorization")) != "Bearer "+serviceKey {
		g.refuse(ctx, 401, protocol.CodeNotAuthed)
		return
	}
	name := strings.TrimPrefix(string(ctx.Path()), protocol.UpstreamPath)
	if name == protocol.CallStream {
		_ = g.upgrader.Upgrade(ctx, func(conn *websocket.Conn) { g.serveStream(conn) })
		return
	}
	g.pause()
	g.mu.Lock()
	down := g.down || g.faults.flaky(g.rnd)
	g.mu.Unlock()
	if down {
		g.refuse(ctx, 503, protocol.CodeUnavailable)
		return
	}
	if method, ok := strings.CutPrefix(name, protocol.CallForward+"/"); ok {
		g.forward(ctx, method)
		g.pause()
		return
	}
	status, answer := g.load(name, ctx.PostBody())
	g.pause() // The answer is as of then: it may be old when it comes.
	g.mu.Lock()
	slow := g.slow[name]
	g.mu.Unlock()
	time.Sleep(slow)
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	ctx.SetBody(protocol.MustMarshal(answer))
}

func (g *gateway) refuse(ctx *fasthttp.RequestCtx, status int, code protocol.Code) {
	ctx.SetStatusCode(status)
	ctx.SetBody(protocol.MustMarshal(protocol.ErrorAnswer{Error: code}))
}

func (g *gateway) load(name string, body []byte) (int, any) {
	b := g.b
	b.mu.Lock()
	defer b.mu.Unlock()
	var at struct {
		AtLeast protocol.Position `json:"at_least"`
	}
	if err := json.Unmarshal(body, &at); err != nil || at.AtLeast > b.position {
		return 503, protocol.ErrorAnswer{Error: protocol.CodeBehind}
	}
	switch name {
	case protocol.CallIdentify:
		var req protocol.IdentifyRequest
		_ = json.Unmarshal(body, &req)
		a := protocol.IdentifyAnswer{Position: b.position}
		if b.trouble.replica != nil {
			a.Position = *b.trouble.replica
		}
		for _, token := range req.Tokens {
			a.Identities = append(a.Identities, b.identityAtLocked(token, a.Position))
		}
		return 200, a
	case protocol.CallBoot:
		var req protocol.BootRequest
		_ = json.Unmarshal(body, &req)
		a := protocol.BootAnswer{Position: b.position}
		for _, u := range req.Users {
			a.Users = append(a.Users, b.bootLocked(u))
		}
		return 200, a
	case protocol.CallObjects:
		var req protocol.ObjectsRequest
		_ = json.Unmarshal(body, &req)
		a := protocol.ObjectsAnswer{Position: b.position, Objects: []protocol.Object{}}
		slices.Sort(req.IDs)
		for _, id := range slices.Compact(req.IDs) {
			if o := b.objects[id].at(b.position); o != nil {
				a.Objects = append(a.Objects, *o)
			} else {
				a.Missing = append(a.Missing, id)
			}
		}
		return 200, a
	case protocol.CallMembers:
		var req protocol.MembersRequest
		_ = json.Unmarshal(body, &req)
		return b.membersLocked(&req)
	case protocol.CallList:
		var req listRequest
		_ = json.Unmarshal(body, &req)
		return 200, b.listLocked(&req)
	case protocol.CallReplay:
		var req protocol.ReplayRequest
		_ = json.Unmarshal(body, &req)
		return 200, b.replayLocked(&req)
	}
	return 404, protocol.ErrorAnswer{Error: protocol.CodeUnknownMethod}
}

func (b *backend) identityLocked(token string) protocol.Identity {
	return b.identityAtLocked(token, b.position)
}

// identityAtLocked is who the bearer of a token is, if it was not revoked up to p.
func (b *backend) identityAtLocked(token string, p protocol.Position) protocol.Identity {
	l := b.logins[token]
	switch {
	case l == nil:
		return protocol.Identity{Error: protocol.CodeInvalidAuth}
	case b.accounts[l.user].shape.Deleted:
		return protocol.Identity{Error: protocol.CodeAccountInactive}
	case l.revoked != 0 && l.revoked <= p:
		return protocol.Identity{Error: protocol.CodeTokenRevoked}
	}
	u := &b.accounts[l.user].shape
	return protocol.Identity{
		Token: l.id, User: u.ID, UserName: u.Name, Bot: u.Profile.BotID, Workspace: u.TeamID, Workspaces: []protocol.WorkspaceID{u.TeamID}, Role: u.Role(),
	}
}

func (b *backend) bootLocked(id protocol.UserID) protocol.UserBoot {
	a := b.accounts[id]
	switch {
	case a == nil:
		return protocol.UserBoot{User: id, Error: protocol.CodeUserNotFound}
	case a.shape.Deleted:
		return protocol.UserBoot{User: id, Error: protocol.CodeAccountInactive}
	}
	self := a.shape.Object()
	return protocol.UserBoot{
		User: id, Workspace: a.shape.TeamID, Role: a.shape.Role(), Self: &self, Prefs: protocol.MustMarshal(fields{"theme": a.theme}),
		Memberships: b.membershipsLocked(id),
	}
}

func (b *backend) membersLocked(req *protocol.MembersRequest) (int, any) {
	r := b.rooms[req.Channel]
	if r == nil {
		return 404, protocol.ErrorAnswer{Error: protocol.CodeChannelNotFound}
	}
	all := r.sorted()
	a := protocol.MembersAnswer{Position: b.position, Total: len(all), Users: []protocol.UserID{}}
	for _, u := range all {
		if u <= req.Cursor {
			continue
		}
		if len(a.Users) == req.Limit {
			a.NextCursor = a.Users[len(a.Users)-1]
			break
		}
		a.Users = append(a.Users, u)
	}
	return 200, a
}

// listRequest may ask for what matches only.
type listRequest struct {
	protocol.ListRequest
	Query string `json:"query"`
}

func (b *backend) listLocked(req *listRequest) protocol.ListAnswer {
	var all []protocol.ListEntry
	switch req.Kind {
	case protocol.KindUser:
		for _, u := range b.people {
			if a := b.accounts[u]; a.shape.TeamID == req.Workspace {
				all = append(all, a.shape.Entry())
			}
		}
	case protocol.KindChannel:
		for _, id := range b.list {
			if r := b.rooms[id]; r.shape.Type() == protocol.TypePublic && r.shape.ContextTeamID == req.Workspace {
				e := r.shape.Entry()
				e.NumMembers = len(r.places)
				all = append(all, e)
			}
		}
	}
	key := func(e *protocol.ListEntry) string { return string(e.ID) }
	if req.Order == protocol.ByName {
		key = func(e *protocol.ListEntry) string { return e.SortName + "\x00" + string(e.ID) }
	}
	slices.SortFunc(all, func(x, y protocol.ListEntry) int { return compare(key(&x), key(&y)) })
	a := protocol.ListAnswer{Position: b.position, Entries: []protocol.ListEntry{}}
	for i := range all {
		if key(&all[i]) <= req.Cursor || req.Query != "" && !matches(&all[i], req.Query) {
			continue
		}
		if len(a.Entries) == req.Limit {
			a.NextCursor = key(&a.Entries[len(a.Entries)-1])
			break
		}
		a.Entries = append(a.Entries, all[i])
	}
	return a
}

// matches: each word of the query begins a word of the entry.
func matches(e *protocol.ListEntry, query string) bool {
	words := strings.Fields(protocol.FoldName(e.Name + " " + e.RealName + " " + e.DisplayName + " " + e.Email))
	for q := range strings.FieldsSeq(protocol.FoldName(query)) {
		if !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, q) }) {
			return false
		}
	}
	return true
}

func (b *backend) replayLocked(req *protocol.ReplayRequest) protocol.ReplayAnswer {
	a := protocol.ReplayAnswer{Position: b.position, Events: []*protocol.Event{}}
	for _, ts := range req.Topics {
		if ts.Position == nil || *ts.Position < b.replayFrom {
			a.Gone = append(a.Gone, ts.Topic)
			continue
		}
		for _, ev := range b.topics[ts.Topic] {
			if ev.Position > *ts.Position {
				a.Events = append(a.Events, ev)
			}
		}
	}
	slices.SortStableFunc(a.Events, func(x, y *protocol.Event) int { return int(x.Position) - int(y.Position) })
	return a
}

// forward does a client's call. A repeated key gets the answer of the first.
func (g *gateway) forward(ctx *fasthttp.RequestCtx, method string) {
	args, err := protocol.ParseArgs(string(ctx.Request.Header.ContentType()), ctx.URI().QueryString(), ctx.PostBody())
	if err != nil {
		args = protocol.Args{}
	}
	key := string(ctx.Request.Header.Peek(protocol.HeaderIdempotencyKey))
	body, at := g.b.call(method, string(ctx.Request.Header.Peek(protocol.HeaderToken)), key, args)
	ctx.Response.Header.Set(protocol.HeaderPosition, strconv.FormatUint(uint64(at), 10))
	ctx.SetContentType("application/json")
	ctx.SetBody(body)
}

type quiet struct{}

// Printf implements fasthttp.Logger.
func (quiet) Printf(string, ...any) {}
