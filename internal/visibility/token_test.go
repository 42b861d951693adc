package visibility

import (
	"testing"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// closesWithin is what the plan promises for the sessions of a token that was revoked.
const closesWithin = time.Second

// generous is what a test allows: the machine may be busy with eight other suites, and what is measured goes through two
// schedulers and a disk. A session that waits for a ping, a poll or an expiry takes longer than that by far.
const generous = 5 * time.Second

// expectClosed waits until the server has closed sockets, and tells how long it took from a moment.
func expectClosed(t *testing.T, from time.Time, sessions ...*session) {
	t.Helper()
	for _, s := range sessions {
		select {
		case <-s.ended:
		case <-time.After(generous):
			t.Errorf("%s is open %v after its token died", s, generous)
			continue
		}
		if code := protocol.CloseCode(s.closed()); code != protocol.CloseTokenRevoked && code != protocol.CloseInactive {
			t.Errorf("%s is closed with %d", s, code)
		}
	}
	if took := time.Since(from); took > closesWithin {
		t.Logf("closed after %v, over the promised %v: a busy machine?", took, closesWithin)
	} else {
		t.Logf("%d sessions closed after %v", len(sessions), took)
	}
}

// everywhere opens a session of each kind at each node.
func everywhere(t *testing.T, w *world, a *account) []*session {
	t.Helper()
	var open []*session
	for _, n := range w.nodes {
		for _, m := range []mode{compatible, thin, viewing} {
			open = append(open, mustOpen(t, w, n, a, m, nil, nil))
		}
	}
	return open
}

// expectDead checks that nothing is answered to a token, and no socket opened.
func expectDead(t *testing.T, w *world, a *account) {
	t.Helper()
	for _, n := range w.nodes {
		for _, method := range []string{"users.info", "users/info", "client.userBoot", "client.counts", "conversations.history", "rtm.connect", "auth.test", "team.info"} {
			if r := w.ask(n, a, rowOther, method, args{"user": string(a.id), "channel": "C0APUB"}); r.ok() {
				t.Errorf("%s answers a dead token: %v", method, r)
			}
		}
		if s := w.open(n, a, thin, nil, nil); s != nil {
			select {
			case <-s.ended:
			case <-time.After(generous):
				t.Errorf("a dead token opens a socket")
			}
			s.close()
		}
	}
}

// TestRevocation_ClosesItsSessions: those of the token, at every node, before anything that is said afterwards; and no
// others.
func TestRevocation_ClosesItsSessions(t *testing.T) {
	w := newWorld(t)
	ben := w.of("U0BEN")
	theirs := everywhere(t, w, ben)
	old := &account{id: ben.id, team: ben.team}
	old.token, old.name = ben.credentials()
	w.issue(ben)
	others := everywhere(t, w, ben)

	from := time.Now()
	if r := w.ask(w.nodes[0], old, rowOther, "auth.revoke", nil); !r.ok() {
		t.Fatalf("auth.revoke: %v", r)
	}
	expectClosed(t, from, theirs...)
	w.settle()
	expectDead(t, w, old)
	w.say(w.of("U0ANN"), w.nodes[1], "C0APUB", 5)

	records := w.finish(others...)
	for _, s := range others {
		if n := len(w.eventsOf(s, "C0APUB", records)); s.mode != viewing && n != 5 {
			t.Errorf("another token's %s has heard %d messages, want 5", s, n)
		}
	}
	died := w.ledger.revoked[old.name]
	for _, s := range theirs {
		for _, ev := range w.eventsOf(s, "C0APUB", records) {
			if ev.Position > died {
				t.Errorf("%s of the dead token has heard of %d; the token died at %d", s, ev.Position, died)
			}
		}
	}
}

// TestRevocation_OfAllTokens: what an administrator does after a theft.
func TestRevocation_OfAllTokens(t *testing.T) {
	w := newWorld(t)
	ann := w.of("U0ANN")
	theirs := everywhere(t, w, ann)
	w.issue(ann)
	theirs = append(theirs, everywhere(t, w, ann)...)

	from := time.Now()
	w.write(func(tx store.Tx) error {
		if err := tx.Revoke("", ann.id, time.Now()); err != nil {
			return err
		}
		return emit(tx, protocol.Topic(ann.id), "token_revoked", nil, protocol.Effect{Op: protocol.OpRevoked, User: ann.id})
	})
	expectClosed(t, from, theirs...)
	w.settle()
	expectDead(t, w, ann)
}

// TestDeactivation: an account that ends hears nothing more and is answered nothing, also with a ticket from before; when
// it is taken up again its token is good again.
func TestDeactivation(t *testing.T) {
	w := newWorld(t)
	eve := w.of("U0EVE")
	theirs := everywhere(t, w, eve)
	ticket := w.ask(w.nodes[0], eve, rowOther, "rtm.connect", nil).text("url")

	from := time.Now()
	w.write(func(tx store.Tx) error { return deactivate(tx, eve.id, false) })
	expectClosed(t, from, theirs...)
	w.settle()
	expectDead(t, w, eve)
	if s := w.dial(w.nodes[0], eve, compatible, nil, ticket); s != nil {
		select {
		case <-s.ended:
		case <-time.After(generous):
			t.Error("a ticket from before opens a socket")
		}
		s.close()
	}
	w.say(w.of("U0DAN"), w.nodes[0], "C0APRB", 3)
	w.finish()

	w.write(func(tx store.Tx) error { return reactivate(tx, eve.id) })
	w.settle()
	again := everywhere(t, w, eve)
	w.say(w.of("U0DAN"), w.nodes[0], "C0APRB", 3)
	w.finish(again...)
}
