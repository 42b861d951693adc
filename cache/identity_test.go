package cache

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/protocol"
)

func bearer(user protocol.UserID, token string) protocol.Identity {
	return protocol.Identity{User: user, Token: token, Workspace: "T1", Workspaces: []protocol.WorkspaceID{"T1"}, Role: protocol.RoleMember}
}

func (f *fixture) wantIdentity(t testing.TB, token string, want bool) {
	t.Helper()
	if id, ok := f.Identity(token); ok != want || ok && id.User == "" {
		t.Errorf("%s: %v %v", token, id, ok)
	}
}

func revoked(token string) protocol.Effect {
	return protocol.Effect{Op: protocol.OpRevoked, Token: token}
}

func TestIdentity_DiesWithRevocation(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA", "UB")
	f.FillIdentity("one", bearer("UA", "1"), 10)
	f.FillIdentity("two", bearer("UA", "2"), 10)
	f.FillIdentity("other", bearer("UB", "3"), 10)
	f.wantIdentity(t, "one", true)

	c := f.event("UA", 11, revoked("1"))

	if len(c.Revoked) != 1 || c.Revoked[0] != (Revocation{"UA", "1"}) {
		t.Errorf("%+v", c)
	}
	f.wantIdentity(t, "one", false)
	f.wantIdentity(t, "two", true)
	f.FillIdentity("one", bearer("UA", "1"), 10) // The answer was on its way.
	f.wantIdentity(t, "one", false)
	c = f.event("UA", 12, revoked(""))
	if len(c.Revoked) != 1 || c.Revoked[0] != (Revocation{"UA", ""}) {
		t.Errorf("%+v", c)
	}
	f.wantIdentity(t, "two", false)
	f.FillIdentity("two", bearer("UA", "2"), 11)
	f.wantIdentity(t, "two", false)
	f.wantIdentity(t, "other", true)
	f.FillIdentity("new", bearer("UA", "4"), 12)
	f.wantIdentity(t, "new", true)
	if got := f.metric("flannel_cache_invalidations_total", prometheus.Labels{"source": "revoked"}); got != 2 {
		t.Errorf("%v revoked", got)
	}
	if got := f.metric("flannel_cache_lookups_total", prometheus.Labels{"kind": "identity", "result": "hit"}); got != 4 {
		t.Errorf("%v hits", got)
	}
}

func TestIdentity_KeepsOnlyWhatWouldBeRevoked(t *testing.T) {
	f := newFixture(t)
	f.FillIdentity("a", bearer("UA", "1"), 10)
	f.follow(11, "UA")
	f.FillIdentity("a", bearer("UA", "1"), 10)
	bad := bearer("UA", "1")
	bad.Error = protocol.CodeInvalidAuth
	f.FillIdentity("a", bad, 11)
	f.wantIdentity(t, "a", false)
	f.FillIdentity("a", bearer("UA", "1"), 11)
	f.wantIdentity(t, "a", true)
	if f.metric("flannel_cache_fill_discarded_total", nil) != 3 {
		t.Error("not counted")
	}
	f.Unfollowed("UA")
	f.wantIdentity(t, "a", false)
	if f.numIdentities() != 0 {
		t.Error("it is still there")
	}
}

func TestIdentity_Expires(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA")
	short := bearer("UA", "1")
	short.Expires = f.time().Unix() + 60
	f.FillIdentity("short", short, 10)
	f.FillIdentity("long", bearer("UA", "2"), 10)
	f.advance(time.Minute)
	f.wantIdentity(t, "short", false)
	f.wantIdentity(t, "long", true)
	f.Expire(f.time())
	if f.numIdentities() != 1 || f.metric("flannel_cache_evictions_total", prometheus.Labels{"reason": "expiry"}) != 1 {
		t.Errorf("%d identities", f.numIdentities())
	}
	f.advance(f.config.IdentityFor)
	f.wantIdentity(t, "long", false)
	f.Expire(f.time())
	if len(f.identities.byUser) != 0 {
		t.Errorf("%v", f.identities.byUser)
	}
}

func TestIdentity_StreamDown(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA")
	f.FillIdentity("a", bearer("UA", "1"), 10)
	f.Live(false)
	f.advance(f.config.StaleFor)
	f.wantIdentity(t, "a", true)
	f.advance(1)
	f.wantIdentity(t, "a", false)
}

func TestIdentity_RoleChange(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.RecentEvents = 2 })
	f.follow(10, ws, "UA", "UB")
	f.FillIdentity("a", bearer("UA", "1"), 10)
	f.FillIdentity("b", bearer("UB", "2"), 10)
	change := func(p protocol.Position, id protocol.ObjectID, body string) {
		o := object(id, protocol.Version(p))
		o.Body = []byte(body)
		f.event(ws, p, upsert(o))
	}
	change(11, "UA", `{"is_restricted":false}`)
	f.wantIdentity(t, "a", true)
	change(12, "UA", `{"is_restricted":true}`)
	f.wantIdentity(t, "a", false)
	f.FillIdentity("a", bearer("UA", "1"), 11)
	f.wantIdentity(t, "a", false)
	f.FillIdentity("a", bearer("UA", "1"), 9)
	f.wantIdentity(t, "a", false)
	change(13, "UB", `{"deleted":true}`)
	f.wantIdentity(t, "b", false)
	f.FillIdentity("b", bearer("UB", "2"), 12)
	f.wantIdentity(t, "b", false)
	change(14, "UC", `{}`)
	change(15, "UC", `{}`)
	f.FillIdentity("b", bearer("UB", "2"), 12) // The log does not reach back.
	f.wantIdentity(t, "b", false)
	guest := bearer("UA", "1")
	guest.Role = protocol.RoleGuest
	f.FillIdentity("a", guest, 14)
	f.wantIdentity(t, "a", true)
}

// TestIdentity_DiesWithTheWorkspacesEvents: when events of the workspace are lost, nobody tells whose role has changed.
func TestIdentity_DiesWithTheWorkspacesEvents(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws, "UA")
	f.FillIdentity("a", bearer("UA", "1"), 10)
	f.wantIdentity(t, "a", true)
	f.Reset(ws, 12)
	f.wantIdentity(t, "a", false)
}

func TestIdentity_Bound(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Identities = 5 })
	f.follow(10, "UA")
	for i := range 20 {
		f.advance(1)
		f.FillIdentity(fmt.Sprint(i), bearer("UA", fmt.Sprint(i)), 10)
		f.FillIdentity(fmt.Sprint(i), bearer("UA", fmt.Sprint(i)), 10)
	}
	if f.numIdentities() != 5 || len(f.identities.byUser["UA"]) != 5 {
		t.Errorf("%d identities, %d keys", f.numIdentities(), len(f.identities.byUser["UA"]))
	}
	f.wantIdentity(t, "19", true)
	f.wantIdentity(t, "14", false)
	if n := f.metric("flannel_cache_evictions_total", prometheus.Labels{"reason": "bound"}); n != 15 {
		t.Errorf("%v evictions", n)
	}
}

func TestIdentity_TokenChangesHands(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA", "UB")
	f.FillIdentity("a", bearer("UA", "1"), 10)
	f.FillIdentity("a", bearer("UB", "1"), 10)
	f.event("UA", 11, revoked(""))
	f.wantIdentity(t, "a", true)
	f.event("UB", 11, revoked(""))
	f.wantIdentity(t, "a", false)
}

// Nobody may change the cache through what it returned.
func TestIdentity_IsACopy(t *testing.T) {
	f := newFixture(t)
	f.follow(10, "UA")
	f.FillIdentity("a", bearer("UA", "1"), 10)
	id, _ := f.Identity("a")
	id.Workspaces[0] = "T9"
	if id, _ = f.Identity("a"); id.Workspaces[0] != "T1" {
		t.Error("changed")
	}
}
