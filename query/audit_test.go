package query

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"flannel/cache"
	"flannel/protocol"
)

// audited returns how many objects and user states had an outcome so far.
func (w *world) audited(result string) (objects, users float64) {
	m := w.service.metrics.audit
	return testutil.ToFloat64(m.objects[result]), testutil.ToFloat64(m.users[result])
}

// auditing runs the auditor until the test calls stop.
func (w *world) auditing(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.service.Audit(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// warm loads Ada's state and some objects.
func (w *world) warm(t *testing.T) {
	t.Helper()
	got := w.ask(t, ada, "users/info", `{"updated_ids":{"U0000001":0,"U0000002":0,"U0000006":0}}`)
	if got.code != "" {
		t.Fatalf("users are %s", got.code)
	}
}

func TestAudit_WhatIsRightMatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.warm(t)
		stop := w.auditing(t)

		time.Sleep(time.Minute)

		stop()
		objects, users := w.audited(auditMatch)
		if objects < 3*3 || users < 3 {
			t.Errorf("%v objects and %v users match, want three of each interval and one", objects, users)
		}
		for _, result := range []string{auditMismatch, auditMoved, auditFailed} {
			if objects, users := w.audited(result); objects+users > 0 {
				t.Errorf("%v objects and %v users %s", objects, users, result)
			}
		}
		if n := testutil.CollectAndCount(w.service.metrics.audit.age); n != 1 {
			t.Errorf("%d age histograms", n)
		}
	})
}

// The backend has another name for Bob, and no event has said so: something is wrong with events, or with the cache.
func TestAudit_WhatIsWrongIsReportedAndHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.warm(t)
		stop := w.auditing(t)
		defer stop()
		time.Sleep(20 * time.Second)
		w.set(func() { w.put(&protocol.User{ID: bob, TeamID: t1, Name: "robert", RealName: "robert", Updated: 100}) })

		time.Sleep(20 * time.Second)

		if objects, _ := w.audited(auditMismatch); objects != 1 {
			t.Errorf("%v mismatches, want 1", objects)
		}
		got := w.call(t, ada, "users.info", "user", string(bob))
		if name := string(protocol.Field(got.fields["user"], "name")); name != `"robert"` {
			t.Errorf("bob is %s after the audit", name)
		}
		time.Sleep(time.Minute)
		if objects, _ := w.audited(auditMismatch); objects != 1 {
			t.Errorf("%v mismatches in the end, want 1", objects)
		}
	})
}

// Ada was made a member of a channel that she has not heard of.
func TestAudit_UserStateIsHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.warm(t)
		stop := w.auditing(t)
		defer stop()
		w.set(func() {
			c := protocol.Channel{ID: random, Name: "random", ContextTeamID: t1, Updated: 1000, IsChannel: true}
			w.seat(&c, ada, nil)
		})
		w.mu.Lock()
		w.refs[protocol.Topic(random)]++ // Somebody else's: what is not followed cannot be compared.
		w.mu.Unlock()
		w.cache.Followed(protocol.Topic(random), 0, w.cache.Applied())

		time.Sleep(20 * time.Second)

		if _, users := w.audited(auditMismatch); users != 1 {
			t.Errorf("%v wrong users, want 1", users)
		}
		u, err := w.service.User(t.Context(), w.id(ada))
		if err != nil {
			t.Fatal(err)
		}
		if _, in := u.Membership(random); !in {
			t.Error("ada is not in the channel after the audit")
		}
	})
}

func TestAudit_BackendDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.warm(t)
		stop := w.auditing(t)
		defer stop()
		w.set(func() { w.down = true })
		time.Sleep(20 * time.Second)
		if objects, users := w.audited(auditFailed); objects == 0 || users == 0 {
			t.Errorf("%v objects and %v users failed", objects, users)
		}
		if objects, users := w.audited(auditMismatch); objects+users > 0 {
			t.Errorf("%v objects and %v users are wrong", objects, users)
		}

		w.breakStream()
		time.Sleep(10 * time.Second) // for a round that had begun
		failed, _ := w.audited(auditFailed)
		time.Sleep(time.Minute)
		if now, _ := w.audited(auditFailed); now != failed {
			t.Errorf("%v audits without a stream", now-failed)
		}
	})
}

func TestAudit_Off(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.AuditSample = 0 })
	if err := w.service.Audit(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAudit_Config(t *testing.T) {
	for _, change := range []func(*Config){
		func(c *Config) { c.AuditInterval = 0 },
		func(c *Config) { c.AuditSample = -1 },
		func(c *Config) { c.AuditSample = protocol.MaxObjectIDs + 1 },
	} {
		c := Default()
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

// Objects and memberships change all the time, and loads are slow: an audit is never wrong.
func TestAudit_NeverFalselyWrong(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.AuditInterval = time.Second })
			w.warm(t)
			draw := rand.New(rand.NewPCG(seed, 1))
			stop := w.auditing(t)
			version, in := protocol.Version(200), false
			for range 400 {
				time.Sleep(time.Duration(draw.IntN(500)) * time.Millisecond)
				switch draw.IntN(4) {
				case 0, 1:
					version++
					who := []protocol.UserID{ada, bob, eve}[draw.IntN(3)]
					name := fmt.Sprint("n", version)
					w.change(&protocol.User{ID: who, TeamID: t1, Name: name, RealName: name, Updated: version})
				case 2:
					if in = !in; in {
						w.join(random, ada)
					} else {
						w.leave(random, ada)
					}
				case 3:
					w.set(func() { w.delay = time.Duration(draw.IntN(1500)) * time.Millisecond })
				}
			}
			time.Sleep(5 * time.Second)
			stop()
			if objects, users := w.audited(auditMismatch); objects+users > 0 {
				t.Errorf("seed %d: %v objects and %v users are wrong", seed, objects, users)
			}
			if objects, users := w.audited(auditMatch); objects == 0 || users == 0 {
				t.Errorf("seed %d: %v objects and %v users match", seed, objects, users)
			}
			if _, got := w.cache.User(ada); got != cache.Fresh {
				t.Errorf("seed %d: ada's state is %s", seed, got)
			}
		})
	}
}
