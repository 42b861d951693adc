package visibility

import (
	"slices"
	"sync"
	"testing"

	"flannel/backend/store"
	"flannel/protocol"
)

// finish waits until all is quiet, judges everything on the tape and fails on every fault. It returns the records.
func (w *world) finish(sessions ...*session) []*record {
	w.t.Helper()
	w.settle()
	for _, s := range sessions {
		s.sync()
	}
	records := w.tape.cut()
	w.ledger.update()
	j := &judge{w.ledger, newTally()}
	j.all(records)
	j.complete(sessions, 0)
	for _, f := range j.t.faults {
		w.t.Error(f)
	}
	return records
}

// eventsOf returns the events of a topic that came to a session, as the log has them.
func (w *world) eventsOf(s *session, topic protocol.Topic, records []*record) []*protocol.Event {
	var list []*protocol.Event
	for _, r := range records {
		if r.session != s {
			continue
		}
		if ev, _ := (one{&judge{l: w.ledger}, r}).event(); ev != nil && ev.Topic == topic {
			list = append(list, ev)
		}
	}
	return list
}

// say posts messages to a channel.
func (w *world) say(a *account, n *edge, ch protocol.ChannelID, times int) {
	for range times {
		if r := w.ask(n, a, rowOther, "chat.postMessage", args{"channel": ch, "text": w.secret("ms", string(ch))}); !r.ok() {
			w.t.Errorf("chat.postMessage for %s to %s: %v", a.id, ch, r)
		}
	}
}

const privateRoom protocol.ChannelID = "C0APRA"

// kick takes somebody out of the private room as a member of it does.
func (w *world) kick(who protocol.UserID) {
	w.t.Helper()
	if r := w.ask(w.nodes[0], w.of("U0ANN"), rowOther, "conversations.kick", args{"channel": privateRoom, "user": string(who)}); !r.ok() {
		w.t.Fatalf("conversations.kick: %v", r)
	}
}

// removal returns the event of the private room that took somebody out.
func (w *world) removal(who protocol.UserID) *protocol.Event {
	w.t.Helper()
	for _, ev := range w.ledger.events {
		if ev.Topic == protocol.Topic(privateRoom) && slices.ContainsFunc(ev.Effects, func(e protocol.Effect) bool {
			return e.Op == protocol.OpMemberRemoved && e.User == who
		}) {
			return ev
		}
	}
	w.t.Fatalf("%s was not removed", who)
	return nil
}

// TestRemoval_InOrder: people talk in a private channel while one of them is put out. On each of that one's sockets, of
// every kind and at both nodes, is everything up to the removal and nothing behind it; the same for a socket that was away
// during the removal and comes back at either node.
func TestRemoval_InOrder(t *testing.T) {
	w := newWorld(t)
	cat := w.of("U0CAT")
	var open []*session
	for _, n := range w.nodes {
		for _, m := range []mode{compatible, thin} {
			open = append(open, mustOpen(t, w, n, cat, m, nil, nil))
		}
	}
	var away []*session
	for i := range 4 {
		s := mustOpen(t, w, w.nodes[i%2], cat, thin, nil, nil)
		s.sync()
		away = append(away, s)
	}
	w.say(w.of("U0ANN"), w.nodes[0], privateRoom, 3)
	for _, s := range away {
		s.close() // Some of them have heard what was said, and all of them will be told.
	}

	var talking sync.WaitGroup
	for _, who := range []protocol.UserID{"U0ANN", "U0ADMIN", "U0GIL"} {
		talking.Go(func() { w.say(w.of(who), w.nodes[len(who)%2], privateRoom, 15) })
	}
	var last protocol.Event
	talking.Go(func() { w.kick("U0CAT") })
	talking.Wait()
	w.say(w.of("U0ANN"), w.nodes[1], privateRoom, 3)
	for i, s := range away {
		open = append(open, mustOpen(t, w, w.nodes[i/2], cat, thin, s, nil))
	}

	records := w.finish(open...)
	gone := w.removal("U0CAT")
	err := w.back.Store().View(t.Context(), func(r store.Reader) error {
		events, err := r.TopicEvents(protocol.Topic(privateRoom), 0, 1000)
		if err == nil {
			last = *events[len(events)-1]
		}
		return err
	})
	if err != nil || last.Seq <= gone.Seq {
		t.Fatalf("nothing was said after the removal: %v", err)
	}
	for _, s := range open {
		heard := w.eventsOf(s, protocol.Topic(privateRoom), records)
		if s.before == nil && (len(heard) != int(gone.Seq) || heard[len(heard)-1].Seq != gone.Seq) {
			t.Errorf("%s at %s has heard %d events, want %d, the last one the removal", s, s.node.node.Addr(), len(heard), gone.Seq)
		}
		if s.before == nil {
			continue
		}
		if s.hi.Resume != protocol.ResumeReplayed || len(heard) == 0 || heard[len(heard)-1].Seq != gone.Seq {
			t.Errorf("%s that came back (%s) has heard up to %v, want the removal, %d", s, s.hi.Resume, heard, gone.Seq)
		}
		before := w.eventsOf(s.before, protocol.Topic(privateRoom), records)
		if first := heard[0].Seq; int(first) > len(before)+1 {
			t.Errorf("%s that came back begins at %d after %d", s, first, len(before))
		}
	}
}

// TestRemoval_AndReads: once a node has told that it knows of a removal, nothing of the channel can be read there.
func TestRemoval_AndReads(t *testing.T) {
	w := newWorld(t)
	gil := w.of("U0GIL")
	sockets := []*session{mustOpen(t, w, w.nodes[0], gil, thin, nil, nil), mustOpen(t, w, w.nodes[1], gil, thin, nil, nil)}
	for _, s := range sockets {
		if r := patient(s.query)(rowUsers, "users/info", args{"updated_ids": fresh([]string{"U0CAT"})}); len(r.ids("results")) != 1 {
			t.Fatalf("a guest does not see who is in their channel: %v", r)
		}
	}

	w.kick("U0GIL")
	w.settle()

	for i, s := range sockets {
		for _, c := range []struct {
			method string
			in     args
			field  string
		}{
			{"channels/info", args{"updated_ids": fresh([]string{string(privateRoom)})}, "results"},
			{"users/info", args{"updated_ids": fresh([]string{"U0CAT", "U0ADMIN"})}, "results"},
			{"users/list", args{"channels": []any{privateRoom}}, "results"},
			{"channels/membership", args{"channel": privateRoom, "users": []any{"U0CAT"}}, "members"},
		} {
			for how, r := range map[string]reply{"over HTTP": w.ask(w.nodes[i], gil, rowOther, c.method, c.in), "over the socket": s.query(rowOther, c.method, c.in)} {
				if len(r.list(c.field)) > 0 {
					t.Errorf("%s %s still answers %v", c.method, how, r)
				}
			}
		}
		for _, method := range []string{"conversations.info", "conversations.members", "conversations.history", "users/counts"} {
			if r := w.ask(w.nodes[i], gil, rowOther, method, args{"channel": privateRoom}); r.ok() {
				t.Errorf("%s still answers %v", method, r)
			}
		}
	}
	w.finish(sockets...)
}
