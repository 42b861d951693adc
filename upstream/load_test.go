package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"flannel/protocol"
)

// objects is Objects for callers who expect one answer at most: it puts all into one.
func objects(ctx context.Context, u *Upstream, ws protocol.WorkspaceID, ids []protocol.ObjectID, atLeast protocol.Position) (*protocol.ObjectsAnswer, error) {
	answers, err := u.Objects(ctx, ws, ids, atLeast)
	if err != nil {
		return nil, err
	}
	one := &protocol.ObjectsAnswer{Position: atLeast}
	for _, a := range answers {
		one.Objects, one.Missing = append(one.Objects, a.Objects...), append(one.Missing, a.Missing...)
		one.Position = max(one.Position, a.Position)
	}
	return one, nil
}

func TestLoads_OfOneWindowAreOneRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		f.position = 7
		f.load = func(name string, body []byte) (int, any) {
			time.Sleep(time.Millisecond) // Loads without a window are one while they are in the air.
			return f.answer(name, body)
		}
		u := f.open(nil)

		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				id := protocol.ObjectID(fmt.Sprintf("U%d", i/2+1)) // Each id twice; U10 is missing.
				a, err := objects(t.Context(), u, "T1", []protocol.ObjectID{id}, 3)
				if err != nil || len(a.Objects)+len(a.Missing) != 1 || a.Position != 7 {
					t.Errorf("objects %s: %+v, %v", id, a, err)
				}
				who, p, err := u.Identify(t.Context(), "tok"+string(id))
				if err != nil || p != 7 || who.User != protocol.UserID("Utok"+string(id)) {
					t.Errorf("identify: %+v, %v", who, err)
				}
				b, p, err := u.Boot(t.Context(), protocol.UserID(id), 9)
				if err != nil || p != 9 || b.User != protocol.UserID(id) {
					t.Errorf("boot: %+v at %d, %v", b, p, err)
				}
				m, err := u.Members(t.Context(), protocol.MembersRequest{Channel: "C1", Limit: 10, AtLeast: 8})
				if err != nil || m.Total != 2 || m.Position != 8 {
					t.Errorf("members: %+v, %v", m, err)
				}
				l, err := u.List(t.Context(), protocol.ListRequest{Workspace: "T1", Kind: protocol.KindUser, Limit: 10})
				if err != nil || len(l.Entries) != 1 {
					t.Errorf("list: %+v, %v", l, err)
				}
			})
		}
		wg.Wait()

		for _, name := range []string{protocol.CallObjects, protocol.CallIdentify, protocol.CallBoot, protocol.CallMembers, protocol.CallList} {
			if n := f.count(name); n != 1 {
				t.Errorf("%s: %d requests, want 1", name, n)
			}
			m := u.metrics.calls[name]
			if got := testutil.ToFloat64(m.requests[codeOK]); got != 1 {
				t.Errorf("%s: %v requests counted", name, got)
			}
			if got := testutil.ToFloat64(m.joined); got == 0 {
				t.Errorf("%s: joining was not counted", name)
			}
			if got := testutil.ToFloat64(m.inflight); got != 0 {
				t.Errorf("%s: %v in flight at rest", name, got)
			}
		}
	})
}

func TestObjects_AreSplitAtTheContractsMaximumAndSentEarly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u := f.open(func(c *Config) { c.BatchWindow = time.Hour })
		var ids []protocol.ObjectID
		for i := range 2 * protocol.MaxObjectIDs {
			ids = append(ids, protocol.ObjectID(fmt.Sprintf("U%d", i)))
		}
		ids = append(ids, ids[3], "", protocol.ObjectID(strings.Repeat("U", protocol.MaxIDLength+1)))

		start := time.Now()
		a, err := objects(t.Context(), u, "T1", ids, 0)

		if err != nil {
			t.Fatal(err)
		}
		if time.Since(start) > time.Minute {
			t.Error("a full batch waited for its window")
		}
		if got := len(a.Objects) + len(a.Missing); got != 2*protocol.MaxObjectIDs+2 {
			t.Errorf("%d ids answered", got)
		}
		if n := f.count(protocol.CallObjects); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
}

func TestObjects_OfTwoWorkspacesAreTwoRequests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u := f.open(nil)
		var wg sync.WaitGroup
		for _, ws := range []protocol.WorkspaceID{"T1", "T2"} {
			wg.Go(func() {
				if a, err := objects(t.Context(), u, ws, []protocol.ObjectID{"U1"}, 0); err != nil || a.Objects[0].Owner != ws {
					t.Errorf("%+v, %v", a, err)
				}
			})
		}
		wg.Wait()
		if n := f.count(protocol.CallObjects); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
}

func TestLoads_AFlightIsJoinedOnlyIfItsPositionWillDo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		release := make(chan struct{})
		f.load = func(name string, body []byte) (int, any) {
			<-release
			return f.answer(name, body)
		}
		u := f.open(nil)
		var wg sync.WaitGroup
		ask := func(atLeast protocol.Position) {
			wg.Go(func() {
				a, err := objects(t.Context(), u, "T1", []protocol.ObjectID{"U1"}, atLeast)
				if err != nil || a.Position < atLeast {
					t.Errorf("asked for %d: %+v, %v", atLeast, a, err)
				}
			})
		}

		ask(5)
		ask(6) // Not sent yet: the batch promises 6.
		time.Sleep(time.Second)
		synctest.Wait()
		if n := f.count(protocol.CallObjects); n != 1 {
			t.Fatalf("%d requests, want 1", n)
		}
		ask(6) // In the air, and good enough.
		ask(2)
		time.Sleep(time.Second)
		synctest.Wait()
		if n := f.count(protocol.CallObjects); n != 1 {
			t.Fatalf("%d requests, want 1", n)
		}
		ask(7) // Not good enough.
		ask(7)
		time.Sleep(time.Second)
		synctest.Wait()
		if n := f.count(protocol.CallObjects); n != 2 {
			t.Fatalf("%d requests, want 2", n)
		}
		close(release)
		wg.Wait()
	})
}

// TestObjects_EachIsAsOfItsOwnLoad: a call whose ids are on their way in several loads used to name the lowest of their
// positions for all of them. An object that was read later than it said was then undone by an event that it had in it.
func TestObjects_EachIsAsOfItsOwnLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		f.load = func(name string, body []byte) (int, any) {
			status, a := f.answer(name, body) // As of now, whenever it arrives.
			time.Sleep(10 * time.Second)
			return status, a
		}
		u := f.open(func(c *Config) { c.LoadTimeout = time.Minute })
		var ids []protocol.ObjectID
		var wg sync.WaitGroup
		for i := range 5 {
			f.set(func(f *fake) { f.position = protocol.Position(5 + i) })
			id := protocol.ObjectID(fmt.Sprintf("U%d", i+1))
			ids = append(ids, id)
			wg.Go(func() { _, _ = objects(t.Context(), u, "T1", []protocol.ObjectID{id}, 0) })
			time.Sleep(time.Second)
		}
		answers, err := u.Objects(t.Context(), "T1", ids, 0) // Five loads are in the air; that suffices.
		if err != nil || len(answers) != 5 || f.count(protocol.CallObjects) != 5 {
			t.Errorf("%d answers, %v", len(answers), err)
		}
		for _, a := range answers {
			if i := slices.Index(ids, a.Objects[0].ID); len(a.Objects) != 1 || a.Position != protocol.Position(5+i) {
				t.Errorf("%+v", a)
			}
		}
		wg.Wait()
	})
}

func TestLoads_OneCallersEndDoesNotFailTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		release := make(chan struct{})
		f.load = func(name string, body []byte) (int, any) {
			<-release
			return f.answer(name, body)
		}
		u := f.open(nil)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := objects(ctx, u, "T1", []protocol.ObjectID{"U1"}, 0)
			if !errors.Is(err, context.Canceled) || protocol.AsError(err).Code != protocol.CodeUnavailable {
				t.Errorf("the one who left: %v", err)
			}
		})
		wg.Go(func() {
			if _, err := objects(t.Context(), u, "T1", []protocol.ObjectID{"U1"}, 0); err != nil {
				t.Errorf("the one who stayed: %v", err)
			}
		})
		time.Sleep(time.Second)
		cancel()
		synctest.Wait()
		close(release)
		wg.Wait()
		if n := f.count(protocol.CallObjects); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
}

func TestLoads_RefusalsOfTheBackend(t *testing.T) {
	tests := []struct {
		name   string
		status int
		answer any
		code   protocol.Code // what the caller is told
		metric string
		tries  int
	}{
		{"unknown channel", 404, protocol.ErrorAnswer{Error: protocol.CodeChannelNotFound}, protocol.CodeChannelNotFound, codeRejected, 1},
		{"trouble", 500, protocol.ErrorAnswer{Error: protocol.CodeInternal}, protocol.CodeUnavailable, codeUnavailable, 3},
		{"a proxy's page", 502, "<html>", protocol.CodeUnavailable, codeUnavailable, 3},
		{"busy", 503, protocol.ErrorAnswer{Error: protocol.CodeUnavailable, RetryAfter: 7}, protocol.CodeUnavailable, codeUnavailable, 3},
		{"behind", 503, protocol.ErrorAnswer{Error: protocol.CodeBehind}, protocol.CodeUnavailable, codeBehind, 3},
		{"too many", 429, protocol.ErrorAnswer{Error: protocol.CodeRateLimited, RetryAfter: 7}, protocol.CodeUnavailable, codeRateLimited, 1},
		{"wrong key", 401, protocol.ErrorAnswer{Error: protocol.CodeInvalidAuth}, protocol.CodeUnavailable, codeUnauthed, 1},
		{"a status without an error", 418, "teapot", protocol.CodeUnavailable, codeBadAnswer, 1},
		{"no JSON", 200, "{", protocol.CodeUnavailable, codeBadAnswer, 3},
		{"an older position", 200, protocol.MembersAnswer{Position: 4}, protocol.CodeUnavailable, codeBehind, 3},
		{"more than asked for", 200, protocol.MembersAnswer{Position: 5, Users: make([]protocol.UserID, 3)}, protocol.CodeUnavailable, codeBadAnswer, 3},
		{"too large", 200, protocol.MembersAnswer{Position: 5, NextCursor: protocol.UserID(strings.Repeat("x", 2000))}, protocol.CodeInternal, codeTooLarge, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t)
				f.load = func(string, []byte) (int, any) { return tt.status, tt.answer }
				u := f.open(func(c *Config) { c.MaxAnswerBytes = 1000 })

				_, err := u.Members(t.Context(), protocol.MembersRequest{Channel: "C1", Limit: 2, AtLeast: 5})

				e := protocol.AsError(err)
				if e.Code != tt.code {
					t.Errorf("the caller is told %v (%v)", e, err)
				}
				if tt.code == protocol.CodeUnavailable && (e.Retry < 2*time.Second || e.Retry > 11*time.Second) {
					t.Errorf("retry in %v", e.Retry)
				}
				if a, ok := tt.answer.(protocol.ErrorAnswer); ok && a.RetryAfter == 7 && e.Retry < 7*time.Second {
					t.Errorf("retry in %v, the backend said 7 s", e.Retry)
				}
				if n := f.count(protocol.CallMembers); n != tt.tries {
					t.Errorf("%d attempts, want %d", n, tt.tries)
				}
				m := u.metrics.calls[protocol.CallMembers]
				if got := testutil.ToFloat64(m.requests[tt.metric]); got != float64(tt.tries) {
					t.Errorf("%s counted %v times, want %d", tt.metric, got, tt.tries)
				}
				if got := testutil.ToFloat64(m.retries); got != float64(tt.tries-1) {
					t.Errorf("%v retries counted", got)
				}
			})
		})
	}
}

func TestLoads_AnswersThatBreakTheContract(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		answers := map[string]any{
			protocol.CallIdentify: protocol.IdentifyAnswer{},
			protocol.CallBoot:     protocol.BootAnswer{Users: []protocol.UserBoot{{User: "U2"}}},
			protocol.CallObjects:  protocol.ObjectsAnswer{Objects: []protocol.Object{{ID: "U2"}}},
			protocol.CallList:     protocol.ListAnswer{Entries: make([]protocol.ListEntry, 2)},
		}
		f.load = func(name string, _ []byte) (int, any) { return 200, answers[name] }
		u := f.open(nil)
		_, _, identify := u.Identify(t.Context(), "t")
		_, _, boot := u.Boot(t.Context(), "U1", 0)
		_, objects := objects(t.Context(), u, "T1", []protocol.ObjectID{"U1"}, 0)
		_, list := u.List(t.Context(), protocol.ListRequest{Workspace: "T1", Limit: 1})
		answers[protocol.CallBoot] = protocol.BootAnswer{}
		_, _, short := u.Boot(t.Context(), "U1", 0)
		for name, err := range map[string]error{"identify": identify, "boot": boot, "objects": objects, "list": list, "short boot": short} {
			var fail *failure
			if !errors.As(err, &fail) || fail.code != codeBadAnswer || protocol.AsError(err).Code != protocol.CodeUnavailable {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestLoads_WhatIsNotSentAtAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u := f.open(nil)
		if who, _, err := u.Identify(t.Context(), strings.Repeat("x", maxToken+1)); err != nil || who.Error != protocol.CodeInvalidAuth {
			t.Errorf("%+v, %v", who, err)
		}
		if b, _, err := u.Boot(t.Context(), "u1", 0); err != nil || b.Error != protocol.CodeUserNotFound {
			t.Errorf("%+v, %v", b, err)
		}
		if a, err := objects(t.Context(), u, "T1", nil, 4); err != nil || a.Position != 4 {
			t.Errorf("%+v, %v", a, err)
		}
		if _, err := u.Members(t.Context(), protocol.MembersRequest{Channel: "C1"}); protocol.AsError(err).Code != protocol.CodeInvalidLimit {
			t.Error(err)
		}
		if _, err := u.List(t.Context(), protocol.ListRequest{Limit: protocol.MaxListLimit + 1}); protocol.AsError(err).Code != protocol.CodeInvalidLimit {
			t.Error(err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.calls) != 0 {
			t.Errorf("sent: %v", f.calls)
		}
	})
}

func TestLoads_RecoverWhenTheBackendDoes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		fails := 2
		f.load = func(name string, body []byte) (int, any) {
			if fails > 0 {
				fails--
				return 503, protocol.ErrorAnswer{Error: protocol.CodeBehind}
			}
			return f.answer(name, body)
		}
		u := f.open(nil)
		if _, _, err := u.Boot(t.Context(), "U1", 9); err != nil {
			t.Error(err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, body := range f.bodies {
			var req protocol.BootRequest
			if err := json.Unmarshal([]byte(body), &req); err != nil || req.AtLeast != 9 || len(req.Users) != 1 {
				t.Errorf("attempt with %s", body)
			}
		}
	})
}

func TestLoads_TooManyPending(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		u := f.open(func(c *Config) { c.MaxPending = 2 })
		_, err := objects(t.Context(), u, "T1", []protocol.ObjectID{"U1", "U2", "U3"}, 0)
		if e := protocol.AsError(err); e.Code != protocol.CodeUnavailable || e.Retry == 0 {
			t.Error(err)
		}
		if got := testutil.ToFloat64(u.metrics.calls[protocol.CallObjects].requests[codeLimited]); got != 1 {
			t.Errorf("counted %v times", got)
		}
		if _, err := objects(t.Context(), u, "T1", []protocol.ObjectID{"U1", "U2"}, 0); err != nil {
			t.Error(err)
		}
	})
}

func TestClose_EndsWhatIsInTheAirAndRefusesMore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		hang := make(chan struct{})
		f.load = func(string, []byte) (int, any) { <-hang; return 200, nil }
		u := f.open(nil)
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _, err := u.Boot(t.Context(), "U1", 0)
			var fail *failure
			if !errors.As(err, &fail) || fail.code != codeAbandoned {
				t.Errorf("cut off: %v", err)
			}
		})
		time.Sleep(time.Second)
		start := time.Now()
		u.Close()
		if time.Since(start) > time.Second {
			t.Errorf("closing took %v", time.Since(start))
		}
		wg.Wait()
		if _, _, err := u.Boot(t.Context(), "U1", 0); protocol.AsError(err).Code != protocol.CodeUnavailable {
			t.Errorf("after closing: %v", err)
		}
		close(hang)
	})
}
