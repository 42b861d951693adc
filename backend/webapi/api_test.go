package webapi

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"flannel/backend/store"
	"flannel/backend/token"
	"flannel/protocol"
)

func TestMethods_AreThoseOfTheDialect(t *testing.T) {
	table := methods()
	for name, m := range table {
		spec, ok := protocol.Methods[name]
		if !ok {
			t.Errorf("%s is not in protocol.Methods", name)
		}
		if spec.NoAuth != (m.open != nil) {
			t.Errorf("%s: protocol says NoAuth %v", name, spec.NoAuth)
		}
		set := 0
		for _, is := range []bool{m.read != nil, m.write != nil, m.stream != nil, m.open != nil} {
			if is {
				set++
			}
		}
		if set != 1 {
			t.Errorf("%s is answered in %d ways", name, set)
		}
	}
	for name := range protocol.Methods {
		if _, ok := table[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestDo_Auth(t *testing.T) {
	w := newWorld(t, Limits{})
	tok := func(c token.Claims) string {
		s, err := w.signer.Issue(c)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	foreign, err := token.New([]byte("another key of thirty-two bytes.."), w.now).Issue(token.Claims{User: ann, Workspace: ours})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		token string
		want  protocol.Code
	}{
		"none":                {"", protocol.CodeNotAuthed},
		"nonsense":            {"xoxp-1-2-3", protocol.CodeInvalidAuth},
		"truncated":           {w.token(ann)[:40], protocol.CodeInvalidAuth},
		"foreign":             {foreign, protocol.CodeInvalidAuth},
		"expired":             {tok(token.Claims{User: ann, Workspace: ours, Expires: 1_700_000_000}), protocol.CodeTokenExpired},
		"unknown user":        {tok(token.Claims{User: "U0NOBODY", Workspace: ours}), protocol.CodeInvalidAuth},
		"another's workspace": {tok(token.Claims{User: ann, Workspace: theirs}), protocol.CodeInvalidAuth},
		"deactivated":         {tok(token.Claims{User: gone, Workspace: ours}), protocol.CodeAccountInactive},
		"good":                {w.token(ann), ""},
	} {
		t.Run(name, func(t *testing.T) {
			out := decodeReply(t, w.api.Do(context.Background(), &protocol.Call{Method: "auth.test", Token: c.token}))
			if out.str("error") != string(c.want) {
				t.Errorf("%v, want %q", out, c.want)
			}
			ids, at, err := w.api.Identify(context.Background(), []string{c.token})
			want := c.want
			if want == protocol.CodeNotAuthed {
				want = protocol.CodeInvalidAuth
			}
			if err != nil || len(ids) != 1 || ids[0].Error != want || (want == "" && (ids[0].User != ann || ids[0].Role != protocol.RoleMember)) {
				t.Errorf("identity %+v at %d, %v; want %q", ids, at, err, want)
			}
		})
	}
}

func TestDo_AuthTestAndRevoke(t *testing.T) {
	w := newWorld(t, Limits{})
	out := w.get(bot, "auth.test")
	if out.str("url") != "http://host.example:1/" || out.str("user_id") != string(bot) || out.str("bot_id") != "B0BOT" || out.str("team") != "Ours" || out.str("team_id") != string(ours) {
		t.Errorf("auth.test: %v", out)
	}

	w.get(ann, "auth.revoke", "test", "1")
	w.get(ann, "auth.test")
	n := w.seen()
	if out := w.get(ann, "auth.revoke"); out["revoked"] != true {
		t.Errorf("auth.revoke: %v", out)
	}

	w.fails(ann, protocol.CodeTokenRevoked, "auth.test")
	w.get(ben, "auth.test")
	w.wantEvents(n, string(ann)+" token_revoked +revoked")
	if e := w.lastEvent(protocol.Topic(ann), "token_revoked"); e.Payload != nil || e.Effects[0].Token != "token"+string(ann) {
		t.Errorf("event %+v", e)
	}
}

func TestDo_PositionsOfReadsAndWrites(t *testing.T) {
	w := newWorld(t, Limits{})
	wrote := w.call(ann, "chat.postMessage", "channel", string(general), "text", "x")
	read := w.call(ben, "conversations.history", "channel", string(general))
	if wrote.Position == 0 || read.Position != wrote.Position {
		t.Errorf("wrote at %d, read at %d", wrote.Position, read.Position)
	}
	if failed := w.call(ann, "conversations.join", "channel", "C0NONE"); failed.Position != 0 {
		t.Errorf("a refused write has position %d", failed.Position)
	}
}

func TestDo_RateLimit(t *testing.T) {
	w := newWorld(t, Limits{PerMinute: map[protocol.Tier]int{protocol.Tier2: 8}})
	for range 2 { // a quarter
		w.get(ann, "emoji.list")
	}

	r := w.call(ann, "emoji.list")

	if r.Status != 429 || r.RetryAfter < 1 || r.RetryAfter > 8 || string(r.Body) != `{"ok":false,"error":"ratelimited"}` {
		t.Errorf("%d, retry after %d: %s", r.Status, r.RetryAfter, r.Body)
	}
	w.get(ben, "emoji.list")
	w.get(ann, "users.list")
	w.later(time.Duration(r.RetryAfter) * time.Second)
	w.get(ann, "emoji.list")
	if n := testutil.ToFloat64(w.api.metrics.errors[protocol.CodeRateLimited]); n != 1 {
		t.Errorf("%v rate limited calls were counted", n)
	}
}

func TestLimiter_Bounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	l := newLimiter(Limits{}, func() time.Time { return now })
	for i := range maxBuckets * 2 {
		l.take(strings.Repeat("x", i%7)+string(rune('A'+i%26))+time.Duration(i).String(), "users.info")
	}
	if n := len(l.young) + len(l.old); n > maxBuckets {
		t.Errorf("%d buckets", n)
	}
}

func TestDo_PanicEndsOneCall(t *testing.T) {
	w := newWorld(t, Limits{})
	w.api.methods["team.info"] = method{read: func(*request) ([]byte, error) { panic("ouch") }}
	out := w.fails(ann, protocol.CodeInternal, "team.info")
	if len(out) != 2 {
		t.Errorf("more than the code is told: %v", out)
	}
	w.get(ann, "auth.test")
	if n := testutil.ToFloat64(w.api.metrics.errors[protocol.CodeInternal]); n != 1 {
		t.Errorf("%v internal errors were counted", n)
	}
	if n := testutil.ToFloat64(w.api.metrics.calls["team.info"]); n != 1 {
		t.Errorf("%v calls were counted", n)
	}
}

func TestDo_UnknownMethodIsOneLabel(t *testing.T) {
	w := newWorld(t, Limits{})
	w.fails(ann, protocol.CodeUnknownMethod, "no.such")
	w.fails("", protocol.CodeUnknownMethod, "no.such.either")
	if n := testutil.ToFloat64(w.api.metrics.calls[otherLabel]); n != 2 {
		t.Errorf("%v calls were counted", n)
	}
}

func TestDo_CancelledIsUnavailable(t *testing.T) {
	w := newWorld(t, Limits{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	out := decodeReply(t, w.api.Do(ctx, &protocol.Call{Method: "auth.test", Token: w.token(ann)}))
	if out.str("error") != string(protocol.CodeUnavailable) {
		t.Errorf("%v", out)
	}
}

func TestDo_IdempotencyKey(t *testing.T) {
	w := newWorld(t, Limits{})
	create := func(key, name string) result {
		return decodeReply(t, w.api.Do(context.Background(), &protocol.Call{
			Method: "conversations.create", Token: w.token(ann), ContentType: "application/x-www-form-urlencoded", Body: form("name", name), IdempotencyKey: key,
		}))
	}
	first := create("k1", "once")
	n := w.seen()

	again := create("k1", "once")

	if first.str("channel", "id") == "" || again.str("channel", "id") != first.str("channel", "id") || w.seen() != n {
		t.Errorf("first %v, again %v", first, again)
	}
	if n := testutil.ToFloat64(w.api.metrics.repeated); n != 1 {
		t.Errorf("flannel_webapi_duplicates_total is %v", n)
	}
	if out := create("k2", "once"); out.str("error") != "name_taken" {
		t.Errorf("another key: %v", out)
	}
	if out := create("k1", "twice"); out["ok"] != true {
		t.Errorf("the same key for something else: %v", out)
	}
	w.later(onceLife)
	if out := create("k1", "once"); out.str("error") != "name_taken" {
		t.Errorf("after its life: %v", out)
	}
}

func TestOnceMap(t *testing.T) {
	m := newOnceMap(time.Now, func() {})
	key := [32]byte{1}
	release := make(chan struct{})
	entered := make(chan struct{})
	runs := 0
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := m.do(context.Background(), key, func() (*protocol.Reply, error) {
			runs++
			close(entered)
			<-release
			return nil, errors.New("disk full")
		})
		if err == nil {
			t.Error("no error")
		}
	})
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := m.do(ctx, key, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("one who gave up: %v", err)
	}
	close(release)
	wg.Wait()

	r, err := m.do(context.Background(), key, func() (*protocol.Reply, error) { runs++; return &protocol.Reply{Body: []byte("x")}, nil })

	if err != nil || r == nil || runs != 2 {
		t.Errorf("after an error of ours: %v %v, %d runs", r, err, runs)
	}
	for i := range 2*maxOnce + 10 {
		if _, err := m.do(context.Background(), [32]byte{2, byte(i), byte(i >> 8)}, func() (*protocol.Reply, error) { return &protocol.Reply{Body: []byte("x")}, nil }); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.calls) > maxOnce || len(m.order) > maxOnce || m.bytes != len(m.order) {
		t.Errorf("%d calls, %d in order, %d bytes", len(m.calls), len(m.order), m.bytes)
	}
}

func TestOnceMap_Panic(t *testing.T) {
	m := newOnceMap(time.Now, func() {})
	func() {
		defer func() { _ = recover() }()
		_, _ = m.do(context.Background(), [32]byte{1}, func() (*protocol.Reply, error) { panic("ouch") })
	}()
	if len(m.calls) != 0 || len(m.order) != 0 {
		t.Errorf("a panic is kept")
	}
}

func TestIdentify_Enterprise(t *testing.T) {
	w := newWorld(t, Limits{})
	_, err := w.store.Update(context.Background(), func(tx store.Tx) error {
		for _, s := range []protocol.Shape{
			&protocol.Workspace{ID: "T0A", Name: "A", Domain: "a", EnterpriseID: "E0X", Updated: 1},
			&protocol.Workspace{ID: "T0B", Name: "B", Domain: "b", EnterpriseID: "E0X", Updated: 1},
			&protocol.User{ID: "W0ORG", TeamID: "T0A", Name: "org", EnterpriseID: "E0X", Updated: 1},
			&protocol.User{ID: "W0GUEST", TeamID: "T0A", Name: "visitor", EnterpriseID: "E0X", IsRestricted: true, Updated: 1},
			&protocol.User{ID: "U0B", TeamID: "T0B", Name: "bee", Updated: 1},
		} {
			if err := tx.Put(s); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	issue := func(user protocol.UserID, team protocol.WorkspaceID) string {
		tok, err := w.signer.Issue(token.Claims{User: user, Workspace: team})
		if err != nil {
			t.Fatal(err)
		}
		return tok
	}
	ids, _, err := w.api.Identify(context.Background(), []string{issue("W0ORG", "T0B"), issue("W0GUEST", "T0A"), issue("W0GUEST", "T0B"), issue("U0B", "T0A")})
	if err != nil {
		t.Fatal(err)
	}
	if id := ids[0]; id.Error != "" || id.Workspace != "T0B" || !slices.Equal(id.Workspaces, []protocol.WorkspaceID{"T0A", "T0B"}) || id.Enterprise != "E0X" {
		t.Errorf("%+v", id)
	}
	if id := ids[1]; id.Error != "" || len(id.Workspaces) != 1 || id.Role != protocol.RoleGuest {
		t.Errorf("%+v", id)
	}
	if ids[2].Error != protocol.CodeInvalidAuth || ids[3].Error != protocol.CodeInvalidAuth {
		t.Errorf("%+v %+v", ids[2], ids[3])
	}
	out := decodeReply(t, w.api.Do(context.Background(), &protocol.Call{Method: "users.info", Token: issue("W0ORG", "T0A"), Query: []byte("user=U0B")}))
	if out.str("user", "id") != "U0B" || out.at("user", "is_stranger") != nil {
		t.Errorf("%v", out)
	}
}
