package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"flannel/client"
	"flannel/protocol"
)

func nameOf(t *testing.T, c *client.Client, id protocol.UserID) string {
	t.Helper()
	u, err := c.User(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return u.RealName
}

func TestUsers_ManyCallersCostOneQuery(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()

		var work sync.WaitGroup
		for range 50 {
			for _, id := range []protocol.UserID{"U2", "U3", "U404"} {
				work.Go(func() {
					if _, err := c.User(t.Context(), id); errors.Is(err, client.ErrNotFound) != (id == "U404") {
						t.Errorf("%s: %v", id, err)
					}
				})
			}
		}
		work.Wait()
		nameOf(t, c, "U2") // It is current now.
		nameOf(t, c, "U1") // As is whoever booted.

		want(t, e.queries(), `users/info {"updated_ids":{"U2":0,"U3":0,"U404":0}}`)
	})
}

func TestUsers_OneCallerWhoGivesUpDoesNotFailTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		e.set(func() {
			e.onQuery = func(s *session, id json.RawMessage, _ string) bool {
				time.AfterFunc(time.Second, func() {
					s.say(fmt.Sprintf(`{"reply_to":%s,"ok":true,"results":[{"id":"U2","real_name":"Bo","updated":1}]}`, id))
				})
				return false
			}
		})
		hasty, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var work sync.WaitGroup
		work.Go(func() {
			if _, err := c.User(hasty, "U2"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the hasty one hears %v", err)
			}
		})
		work.Go(func() {
			if u, err := c.User(t.Context(), "U2"); err != nil || u.RealName != "Bo" {
				t.Errorf("the patient one hears %v, %v", u, err)
			}
		})
		work.Wait()
	})
}

func TestUsers_PendingAreAskedForAgain(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		times := 0
		e.set(func() {
			e.onQuery = func(s *session, id json.RawMessage, _ string) bool {
				if times++; times > 3 {
					return true
				}
				s.say(fmt.Sprintf(`{"reply_to":%s,"ok":true,"results":[],"pending_ids":["U2"]}`, id))
				return false
			}
		})

		if name := nameOf(t, c, "U2"); name != "Bo" {
			t.Errorf("name is %q", name)
		}
		if n := len(e.queries()); n != 4 {
			t.Errorf("%d queries", n)
		}
		e.set(func() { times = -1 << 30 }) // It never comes.
		e.rename("U2", "Bob", false)
		synctest.Wait()
		began := time.Now()
		if _, err := c.User(t.Context(), "U2"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 31*time.Second {
			t.Errorf("after %v it says %v", time.Since(began), err)
		}
	})
}

func TestUsers_QueriesOutliveConnections(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		cut := false
		e.set(func() {
			e.onQuery = func(s *session, _ json.RawMessage, _ string) bool {
				if !cut {
					cut = true
					s.cut()
					return false
				}
				return true
			}
		})

		if name := nameOf(t, c, "U3"); name != "Cy" {
			t.Errorf("name is %q", name)
		}
	})
}

func TestUsers_EventsKeepThemTrue(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		e.say(`{"type":"objects","users":[{"id":"U2","real_name":"Just In Time","updated":1}],"bots":[{"id":"B1","name":"deploy","updated":1}]}`)
		synctest.Wait()
		if name := nameOf(t, c, "U2"); name != "Just In Time" || len(e.queries()) != 0 {
			t.Errorf("name is %q after %d queries", name, len(e.queries()))
		}
		if b, ok := c.Known("B1").(*protocol.Bot); !ok || b.Name != "deploy" {
			t.Errorf("bot is %v", c.Known("B1"))
		}

		e.rename("U2", "Changed", true)
		synctest.Wait()
		if name := nameOf(t, c, "U2"); name != "Changed" || len(e.queries()) != 0 {
			t.Errorf("name is %q after %d queries", name, len(e.queries()))
		}

		e.rename("U2", "Invalidated", false)
		synctest.Wait()
		if u := c.Known("U2").(*protocol.User); u.RealName != "Changed" {
			t.Errorf("known is %q", u.RealName)
		}
		if name := nameOf(t, c, "U2"); name != "Invalidated" {
			t.Errorf("name is %q", name)
		}
		e.say(`{"type":"objects","users":[{"id":"U2","real_name":"Old","updated":1}]}`)
		synctest.Wait()
		if name := nameOf(t, c, "U2"); name != "Invalidated" {
			t.Errorf("an older object won: %q", name)
		}

		time.Sleep(11 * time.Minute) // Who is of another workspace changes without a word.
		nameOf(t, c, "U2")
		want(t, e.queries(), `users/info {"updated_ids":{"U2":2}}`, `users/info {"updated_ids":{"U2":3}}`)
		want(t, take(c), "user_change", "user_invalidated")
	})
}

// An answer that was made before a change may come after the word of the change: it must not count as current.
func TestUsers_AnswerThatAChangeHasOvertaken(t *testing.T) {
	for _, inFull := range []bool{false, true} {
		bubble(t, func(t *testing.T, e *edge) {
			c := connect(t, e.options())
			defer c.Close()
			nameOf(t, c, "U2")
			e.rename("U2", "Second", false)
			synctest.Wait()
			first := true
			e.set(func() {
				e.onQuery = func(s *session, id json.RawMessage, _ string) bool {
					if !first {
						return true
					}
					first = false
					late := e.users["U2"]
					time.AfterFunc(time.Second, func() {
						e.rename("U2", "Third", inFull)
						s.say(fmt.Sprintf(`{"reply_to":%s,"ok":true,"results":[%s]}`, id, protocol.MustMarshal(late)))
					})
					return false
				}
			})

			if name := nameOf(t, c, "U2"); name != "Third" {
				t.Errorf("in full %v: name is %q", inFull, name)
			}
			if name := nameOf(t, c, "U2"); name != "Third" {
				t.Errorf("in full %v: name is %q", inFull, name)
			}
		})
	}
}

func TestUsers_ResyncAsksAgainWithVersions(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		nameOf(t, c, "U2")
		e.closeAll(protocol.CloseSlow, protocol.CloseReason{})
		time.Sleep(time.Second)
		nameOf(t, c, "U2")

		want(t, e.queries(), `users/info {"updated_ids":{"U2":0}}`, `users/info {"updated_ids":{"U2":1}}`)
	})
}

func TestUsers_StoreIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		opt := e.options()
		opt.MaxObjects = 2
		c := connect(t, opt)
		defer c.Close()
		for _, id := range []protocol.UserID{"U2", "U3", "U3", "U2", "U1"} {
			nameOf(t, c, id)
		}

		want(t, e.queries(), `users/info {"updated_ids":{"U2":0}}`, `users/info {"updated_ids":{"U3":0}}`, `users/info {"updated_ids":{"U1":0}}`)
	})
}

func TestSave_TheNextRunAsksOnlyForWhatChanged(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		nameOf(t, c, "U2")
		nameOf(t, c, "U3")
		e.message("one")
		e.message("two")
		synctest.Wait()
		if ev, err := c.Next(t.Context()); err != nil || textOf(ev) != "one" {
			t.Fatal(ev, err)
		}
		var saved bytes.Buffer
		if err := c.Save(&saved); err != nil {
			t.Fatal(err)
		}
		c.Close()
		e.message("three")
		e.rename("U3", "Cyd", true)

		opt := e.options()
		opt.Saved = &saved
		again := connect(t, opt)
		defer again.Close()
		want(t, take(again), "two", "three", "user_change")
		e.set(func() { e.asked = nil })
		nameOf(t, again, "U2")
		if name := nameOf(t, again, "U3"); name != "Cyd" {
			t.Errorf("name is %q", name)
		}
		want(t, e.queries(), `users/info {"updated_ids":{"U2":1}}`) // U3 came with the replay.
	})
}

func TestSave_WhatCannotBeUsedIsLeftOut(t *testing.T) {
	for name, saved := range map[string]string{
		"empty":          "",
		"not ours":       "hello\nworld\n",
		"later version":  `{"flannel_client":9,"at":{"token":"1.rs.U1"}}` + "\n",
		"damaged":        `{"flannel_client":1,"user":"U1"}` + "\n{\n[]\n{\"id\":5}\n" + `{"id":"U2","real_name":"Old","updated":1}` + "\n",
		"another's":      `{"flannel_client":1,"user":"U9","at":{"token":"1.rs.U9"}}` + "\n" + `{"id":"U3","real_name":"Secret","updated":1}` + "\n",
		"an endless one": strings.Repeat("x", 2<<20),
		"a bad token":    `{"flannel_client":1,"user":"U1","at":{"token":"nonsense"}}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, e *edge) {
				opt := e.options()
				opt.Saved = strings.NewReader(saved)
				c := connect(t, opt)
				defer c.Close()
				if c.Known("U3") != nil {
					t.Error("it knows what it must not")
				}
				e.message("one")
				got := take(c)
				if len(got) == 0 || got[len(got)-1] != "one" {
					t.Errorf("got %q", got)
				}
				nameOf(t, c, "U2")
			})
		})
	}
}

func TestRefresh_FetchesTheBootAgain(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		e.rename("U1", "Anna", false)

		boot, counts, err := c.Refresh(t.Context())

		if err != nil || boot.Self.RealName != "Anna" || counts == nil || c.Boot() != boot || len(e.queries()) != 0 {
			t.Errorf("boot is %+v, %v", boot, err)
		}
		if name := nameOf(t, c, "U1"); name != "Anna" {
			t.Errorf("name is %q", name)
		}
	})
}

func TestCall_ErrorsAreTyped(t *testing.T) {
	bubble(t, func(t *testing.T, e *edge) {
		c := connect(t, e.options())
		defer c.Close()
		var pe *protocol.Error
		if err := c.Call(t.Context(), "no.such", nil, nil); !errors.Is(err, &protocol.Error{Code: protocol.CodeUnknownMethod}) {
			t.Errorf("Call says %v", err)
		}
		if err := c.Query(t.Context(), "no/such", nil, nil); !errors.Is(err, &protocol.Error{Code: protocol.CodeUnknownMethod}) {
			t.Errorf("Query says %v", err)
		}
		if err := c.Call(t.Context(), "rate.limited", nil, nil); !errors.As(err, &pe) || pe.Code != protocol.CodeRateLimited || pe.Retry != 7*time.Second {
			t.Errorf("Call says %v", err)
		}
	})
}
