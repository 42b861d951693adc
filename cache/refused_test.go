package cache

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/protocol"
)

func (f *fixture) wantRefusal(t testing.TB, token string, want protocol.Code) {
	t.Helper()
	if id, ok := f.Identity(token); ok != (want != "") || id.Error != want || id.User != "" {
		t.Errorf("%s: %+v %v, want %q", token, id, ok, want)
	}
}

func TestRefusal_IsBelievedForAWhile(t *testing.T) {
	f := newFixture(t)
	for _, code := range []protocol.Code{protocol.CodeInvalidAuth, protocol.CodeTokenRevoked, protocol.CodeTokenExpired} {
		f.FillRefusal(string(code), code)
		f.wantRefusal(t, string(code), code)
	}
	for _, code := range []protocol.Code{protocol.CodeAccountInactive, protocol.CodeUnavailable, protocol.CodeRateLimited, ""} {
		f.FillRefusal("other", code)
		f.wantRefusal(t, "other", "")
	}
	if n := f.metric("flannel_cache_lookups_total", prometheus.Labels{"kind": "identity", "result": "negative"}); n != 3 {
		t.Errorf("%v negative", n)
	}
	f.advance(f.config.NegativeFor - 1)
	f.wantRefusal(t, "token_revoked", protocol.CodeTokenRevoked)
	f.Expire(f.time())
	if n := f.metric("flannel_cache_items", prometheus.Labels{"kind": "refused_token"}); n != 3 {
		t.Errorf("%v kept", n)
	}
	f.advance(1)
	f.wantRefusal(t, "token_revoked", "")
	f.Expire(f.time())
	if f.refused.len() != 0 {
		t.Errorf("%d kept", f.refused.len())
	}
	off := newFixture(t, func(c *Config) { c.NegativeFor = 0 })
	off.FillRefusal("a", protocol.CodeInvalidAuth)
	if off.refused.len() != 0 {
		t.Error("kept for no time")
	}
}

// TestRefusal_AndIdentity: whoever is known is known; a refusal from before does not come back with an event that makes
// the identity void.
func TestRefusal_AndIdentity(t *testing.T) {
	f := newFixture(t)
	f.follow(10, ws, "UA")
	f.FillRefusal("a", protocol.CodeInvalidAuth)
	f.FillIdentity("a", bearer("UA", "1"), 10)
	f.wantIdentity(t, "a", true)
	o := object("UA", 11)
	o.Body = []byte(`{"is_restricted":true}`)
	f.event(ws, 11, upsert(o)) // The role is another: whoever asks has to load.
	f.wantRefusal(t, "a", "")

	f.FillIdentity("b", bearer("UA", "2"), 11)
	f.FillRefusal("b", protocol.CodeInvalidAuth) // Late: an older answer.
	f.event("UA", 12, revoked("2"))
	f.wantRefusal(t, "b", protocol.CodeInvalidAuth)
}

func TestRefusal_Bound(t *testing.T) {
	f := newFixture(t)
	for i := range maxRefused + 100 {
		f.advance(1)
		f.FillRefusal(fmt.Sprint(i), protocol.CodeInvalidAuth)
		f.FillRefusal(fmt.Sprint(i), protocol.CodeInvalidAuth)
	}
	if n := f.refused.len(); n != maxRefused {
		t.Errorf("%d", n)
	}
	if n := f.metric("flannel_cache_evictions_total", prometheus.Labels{"reason": "bound"}); n != 100 {
		t.Errorf("%v evictions", n)
	}
}
