package presence

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"flannel/backend/store"
	"flannel/protocol"
)

// fakeStore knows who set themself away.
type fakeStore struct {
	store.Store
	mu   sync.Mutex
	away map[protocol.UserID]bool
}

type fakeReader struct {
	store.Reader
	s *fakeStore
}

func (f *fakeStore) View(_ context.Context, fn func(store.Reader) error) error {
	return fn(fakeReader{s: f})
}

func (r fakeReader) ManualAway(id protocol.UserID) (bool, error) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.s.away[id], nil
}

// recorder notes what is published.
type recorder struct {
	mu   sync.Mutex
	told []string
	kept map[protocol.Topic]bool
}

func (r *recorder) SetState(ev *protocol.Event, keep bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, string(ev.Payload))
	r.kept[ev.Topic] = keep
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	told := r.told
	r.told = nil
	return told
}

func says(state protocol.Presence, users ...protocol.UserID) []string {
	var out []string
	for _, u := range users {
		out = append(out, fmt.Sprintf(`{"type":"presence_change","presence":%q,"user":%q}`, state, u))
	}
	return out
}

func newTest(t *testing.T) (*Presence, *recorder, *fakeStore) {
	t.Helper()
	rec := &recorder{kept: make(map[protocol.Topic]bool)}
	st := &fakeStore{away: make(map[protocol.UserID]bool)}
	p := New(Options{Store: st, Publisher: rec, Delay: DefaultDelay, Idle: DefaultIdle, Registerer: prometheus.NewRegistry(), Now: time.Now})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	return p, rec, st
}

func report(t *testing.T, s *Source, present, absent []protocol.UserID) {
	t.Helper()
	if err := s.Report(context.Background(), present, absent); err != nil {
		t.Fatal(err)
	}
}

func TestPresence_LastConnectionGoesAfterTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, rec, _ := newTest(t)
		edge, socket := p.Source(), p.Source()

		report(t, edge, []protocol.UserID{"U1", "U2"}, nil)
		report(t, edge, []protocol.UserID{"U1"}, nil) // again, as after a reconnect
		report(t, socket, []protocol.UserID{"U1"}, nil)
		if got := rec.take(); !slices.Equal(got, says(protocol.Active, "U1", "U2")) {
			t.Errorf("told %v", got)
		}
		if st := p.Status("U1"); st.Connections != 2 || !st.Online || st.Presence != protocol.Active {
			t.Errorf("status = %+v", st)
		}

		report(t, edge, nil, []protocol.UserID{"U1", "U2", "U9"})
		time.Sleep(14 * time.Second)
		synctest.Wait()
		if got := rec.take(); len(got) != 0 {
			t.Errorf("told %v before the delay was over", got)
		}
		if st := p.Status("U2"); st.Online || st.Presence != protocol.Active {
			t.Errorf("status within the delay = %+v", st)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := rec.take(); !slices.Equal(got, says(protocol.Away, "U2")) {
			t.Errorf("told %v, want U2 away", got)
		}

		socket.Close()
		time.Sleep(10 * time.Second)
		report(t, edge, []protocol.UserID{"U1"}, nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := rec.take(); len(got) != 0 {
			t.Errorf("told %v of somebody who was back in time", got)
		}
		edge.Close()
		time.Sleep(16 * time.Second)
		synctest.Wait()
		if got := rec.take(); !slices.Equal(got, says(protocol.Away, "U1")) {
			t.Errorf("told %v, want U1 away", got)
		}
		if len(p.users) != 0 || rec.kept["presence:U1"] {
			t.Errorf("%d users left, kept %v", len(p.users), rec.kept)
		}
		if got := testutil.ToFloat64(p.changes); got != 4 {
			t.Errorf("changes metric = %v, want 4", got)
		}
	})
}

func TestPresence_ManualAwayHides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, rec, st := newTest(t)
		st.away["U1"] = true
		edge := p.Source()

		report(t, edge, []protocol.UserID{"U1", "U2"}, nil)
		if got := rec.take(); !slices.Equal(got, says(protocol.Active, "U2")) {
			t.Errorf("told %v", got)
		}
		p.SetManual("U1", false)
		p.SetManual("U1", false)
		p.SetManual("U2", true)
		p.SetManual("U3", true)
		want := slices.Concat(says(protocol.Active, "U1"), says(protocol.Away, "U2"))
		if got := rec.take(); !slices.Equal(got, want) {
			t.Errorf("told %v, want %v", got, want)
		}
		edge.Close()
		time.Sleep(16 * time.Second)
		synctest.Wait()
		if got := rec.take(); !slices.Equal(got, says(protocol.Away, "U1")) {
			t.Errorf("told %v, want U1 alone: U2 was away already", got)
		}
	})
}

func TestPresence_IdleIsAwayUntilTouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, rec, _ := newTest(t)
		edge, socket := p.Source(), p.Source()
		report(t, edge, []protocol.UserID{"U1", "U2", "U3"}, nil)
		p.SetManual("U3", true)
		rec.take()

		time.Sleep(20 * time.Minute)
		p.Touch("U2")
		p.Touch("U9") // who is not here
		time.Sleep(9 * time.Minute)
		synctest.Wait()
		if got := rec.take(); len(got) != 0 {
			t.Errorf("told %v before half an hour was over", got)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := rec.take(); !slices.Equal(got, says(protocol.Away, "U1")) { // U3 was away already
			t.Errorf("told %v, want U1 away", got)
		}
		if st := p.Status("U1"); !st.AutoAway || !st.Online || st.ManualAway || st.Presence != protocol.Away || time.Since(st.LastActivity) != 31*time.Minute {
			t.Errorf("status = %+v", st)
		}
		p.SetManual("U3", false) // does not make somebody active who is not there
		if got := rec.take(); len(got) != 0 {
			t.Errorf("told %v of an idle user", got)
		}
		p.Touch("U1")
		p.Touch("U1")
		report(t, edge, []protocol.UserID{"U3"}, nil) // named again
		if got := rec.take(); !slices.Equal(got, slices.Concat(says(protocol.Active, "U1"), says(protocol.Active, "U3"))) {
			t.Errorf("told %v, want U1 and U3 active", got)
		}

		// A program that reconnects does not wake its user; a second device does.
		time.Sleep(32 * time.Minute)
		synctest.Wait()
		rec.take()
		report(t, edge, nil, []protocol.UserID{"U1"})
		time.Sleep(5 * time.Second)
		report(t, edge, []protocol.UserID{"U1"}, nil)
		if got := rec.take(); len(got) != 0 {
			t.Errorf("told %v of a reconnect", got)
		}
		report(t, socket, []protocol.UserID{"U1"}, nil)
		if got := rec.take(); !slices.Equal(got, says(protocol.Active, "U1")) {
			t.Errorf("told %v of a second device", got)
		}

		// Who leaves while idle is away already, and comes back active.
		time.Sleep(32 * time.Minute)
		synctest.Wait()
		rec.take()
		edge.Close()
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := rec.take(); len(got) != 0 || p.Status("U2").Online {
			t.Errorf("told %v of those who left", got)
		}
		report(t, socket, []protocol.UserID{"U2"}, nil)
		if got := rec.take(); !slices.Equal(got, says(protocol.Active, "U2")) {
			t.Errorf("told %v, want U2 back", got)
		}
	})
}

func TestInitial_OnlyPresenceTopics(t *testing.T) {
	if ev := Initial("C1"); ev != nil {
		t.Errorf("Initial(C1) = %v", ev)
	}
	if ev := Initial("presence:U1"); string(ev.Payload) != says(protocol.Away, "U1")[0] {
		t.Errorf("payload = %s", ev.Payload)
	}
}
