package query

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"flannel/protocol"
)

func TestEnumeration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.EnumerationLimit = 6 })
		ask := func(u protocol.UserID, path, args string) protocol.Code { return w.ask(t, u, path, args).code }
		if code := ask(ada, "users/info", `{"updated_ids":{"U0000001":0,"U0000002":0,"U0000003":0,"U0000004":0}}`); code != "" {
			t.Fatal(code)
		}
		for range 10 { // The same ones again are no more.
			if code := ask(ada, "users/info", `{"updated_ids":{"U0000001":0,"U0000002":100}}`); code != "" {
				t.Fatal(code)
			}
		}
		if code := ask(ada, "channels/info", `{"updated_ids":{"C0000001":0,"C0000002":0,"C0000003":0}}`); code != protocol.CodeRateLimited {
			t.Errorf("the seventh gets %q", code)
		}
		id := w.id(ada)
		_, err := w.service.Query(t.Context(), id, "users/list", nil)
		if e := protocol.AsError(err); e.Code != protocol.CodeRateLimited || e.Retry <= 0 || e.Retry > time.Minute {
			t.Errorf("a list gets %v", err)
		}
		if code := ask(bob, "users/info", `{"updated_ids":{"U0000001":0}}`); code != "" {
			t.Errorf("somebody else gets %q", code)
		}
		time.Sleep(time.Minute)
		if code := ask(ada, "channels/info", `{"updated_ids":{"C0000001":0}}`); code != "" {
			t.Errorf("a minute later: %q", code)
		}
	})
}

func TestEnumeration_IsBounded(t *testing.T) {
	e := newEnumeration(3, func() time.Time { return time.Unix(0, 0) })
	for i := range maxEnumerators + 10 {
		if err := e.allowNamed(protocol.UserID(fmt.Sprint("U", i)), "users/info", []byte(`{"updated_ids":{"a":0,"b":0,"c":0}}`)); err != nil {
			t.Fatal(err)
		}
	}
	if len(e.users) != maxEnumerators {
		t.Errorf("%d users are counted", len(e.users))
	}
	if err := e.allowNamed("U1", "users/info", []byte(`{"updated_ids":{"a":0,"d":0}}`)); err == nil {
		t.Error("the fourth is allowed")
	}
	if err := e.allowGiven("U1", "users/list", []byte(`{"results":[{"id":"a"},{"id":"e"}]}`)); err == nil {
		t.Error("a list with a fourth is allowed")
	}
	if err := newEnumeration(0, time.Now).allowNamed("U1", "users/info", []byte(`{"updated_ids":{"a":0}}`)); err != nil {
		t.Error(err)
	}
}
