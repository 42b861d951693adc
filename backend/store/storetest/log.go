package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// commits remembers what OnCommit told.
type commits struct {
	mu        sync.Mutex
	positions []protocol.Position // guarded by mu
	events    []*protocol.Event   // guarded by mu
}

func (c *commits) listen(position protocol.Position, events []*protocol.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.positions = append(c.positions, position)
	c.events = append(c.events, events...)
}

// check says whether positions and seqs rise by one, as everybody was told.
func (c *commits) check() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	for i, p := range c.positions {
		err = errors.Join(err, equal("position told", p, protocol.Position(i+1)))
	}
	return errors.Join(err, checkLog(c.events))
}

// checkLog says whether a log from its beginning has no gap: positions rise by one from 1, seqs by one per topic.
func checkLog(events []*protocol.Event) error {
	var last protocol.Position
	seqs := make(map[protocol.Topic]protocol.Seq)
	for _, e := range events {
		if e.Position != last && e.Position != last+1 {
			return fmt.Errorf("position %d follows %d", e.Position, last)
		}
		last = e.Position
		if e.Seq != seqs[e.Topic]+1 {
			return fmt.Errorf("seq %d of %s follows %d", e.Seq, e.Topic, seqs[e.Topic])
		}
		seqs[e.Topic] = e.Seq
	}
	return nil
}

func sameEvents(what string, got, want []*protocol.Event) error {
	if len(got) != len(want) {
		return fmt.Errorf("%s: got %d events, want %d", what, len(got), len(want))
	}
	for i := range got {
		if !reflect.DeepEqual(got[i], want[i]) {
			return fmt.Errorf("%s: event %d: got %+v, want %+v", what, i, got[i], want[i])
		}
	}
	return nil
}

func testEmit(t *testing.T, st store.Store) {
	var told commits
	st.OnCommit(told.listen)
	world(t, st)
	view(t, st, func(r store.Reader) error {
		p, err := r.Position()
		seq, at, headErr := r.Head("C1GENERAL")
		return errors.Join(err, equal("position of a store without events", p, 0), headErr, equal("seq", seq, 0), equal("at", at, 0))
	})

	full := &protocol.Event{
		Topic: "C1GENERAL", Type: "message", Class: protocol.ClassMessage, Refs: []protocol.ObjectID{"U1ANN"}, Except: ben,
		Effects: []protocol.Effect{{Op: protocol.OpMessageAdded, Channel: general, User: ann, TS: stamp(1), Mentions: []protocol.UserID{ben}}},
		Payload: []byte(`{"type":"message","text":"<&>é"}`),
	}
	first := update(t, st, func(tx store.Tx) error {
		if err := errors.Join(tx.Emit(full), tx.Emit(event("U1ANN", "1")), tx.Emit(event("C1GENERAL", "2"))); err != nil {
			return err
		}
		seq, at, err := tx.Head("C1GENERAL") // reads see the writes
		return errors.Join(err, equal("seq", seq, 2), equal("at", at, 1))
	})
	if err := errors.Join(equal("position", first, 1), equal("seq", full.Seq, 1), equal("event's position", full.Position, 1)); err != nil {
		t.Error(err)
	}
	if len(told.positions) != 1 || len(told.events) != 3 { // before Update returned
		t.Fatalf("told %v", told.positions)
	}
	quiet := update(t, st, func(tx store.Tx) error { return tx.SetManualAway(ann, true) })
	second := update(t, st, func(tx store.Tx) error { return tx.Emit(event("U1ANN", "3")) })
	if err := errors.Join(equal("position of an Update that emitted nothing", quiet, 1), equal("position", second, 2), told.check()); err != nil {
		t.Error(err)
	}
	if _, err := st.Update(context.Background(), func(tx store.Tx) error {
		return tx.Emit(&protocol.Event{Topic: "C1GENERAL", Type: "user_typing", Class: protocol.ClassEphemeral})
	}); err == nil {
		t.Error("an ephemeral event was kept")
	}

	view(t, st, func(r store.Reader) error {
		p, err := r.Position()
		all, allErr := r.Events(0, 100)
		later, laterErr := r.Events(1, 100)
		none, noneErr := r.Events(2, 100)
		topic, topicErr := r.TopicEvents("U1ANN", 0, 100)
		one, oneErr := r.TopicEvents("U1ANN", 0, 1)
		after, afterErr := r.TopicEvents("U1ANN", 1, 100)
		seq, at, headErr := r.Head("U1ANN")
		from, fromErr := r.ReplayFrom()
		if err := errors.Join(err, allErr, equal("events", len(all), 4)); err != nil {
			return err
		}
		return errors.Join(equal("position", p, 2), sameEvents("log", all, told.events), equal("payload byte for byte", bytes.Equal(all[0].Payload, full.Payload), true),
			laterErr, sameEvents("after the first commit", later, told.events[3:]), noneErr, equal("after the last", len(none), 0),
			topicErr, equal("of the topic", len(topic), 2), oneErr, equal("limited", len(one), 1), afterErr, sameEvents("after a seq", after, told.events[3:]),
			headErr, equal("seq", seq, 2), equal("at", at, 2), fromErr, equal("whole from", from, 0))
	})
}

func testEventsAreWholeCommits(t *testing.T, st store.Store) {
	for i := 1; i <= 4; i++ { // commits of 1, 2, 3 and 4 events
		update(t, st, func(tx store.Tx) error {
			for range i {
				if err := tx.Emit(event("T1HOME", fmt.Sprint(i))); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for limit := 1; limit <= 12; limit++ {
		view(t, st, func(r store.Reader) error {
			var at protocol.Position
			n := 0
			for {
				events, err := r.Events(at, limit)
				if err != nil || len(events) == 0 {
					return errors.Join(err, equal(fmt.Sprintf("events by %d", limit), n, 10))
				}
				n += len(events)
				last := events[len(events)-1].Position
				size := 0
				for _, e := range events {
					if e.Position == last {
						size++
					}
				}
				// Not cut, and no commit too many.
				if size != int(last) || len(events)-size >= limit {
					return fmt.Errorf("limit %d: %d events, the last commit %d with %d of them", limit, len(events), last, size)
				}
				at = last
			}
		})
	}
}

func testPrune(t *testing.T, st store.Store) {
	world(t, st)
	for i := range 5 {
		update(t, st, func(tx store.Tx) error {
			return errors.Join(tx.Emit(event("T1HOME", fmt.Sprint(i))), tx.Emit(event("C1GENERAL", "")))
		})
	}
	prune := func(before time.Time) {
		t.Helper()
		if err := st.Prune(context.Background(), before); err != nil {
			t.Fatalf("prune: %v", err)
		}
	}
	prune(time.Now().Add(-time.Hour))
	view(t, st, func(r store.Reader) error {
		all, err := r.Events(0, 100)
		from, fromErr := r.ReplayFrom()
		return errors.Join(err, equal("young events stay", len(all), 10), fromErr, equal("whole from", from, 0))
	})

	prune(time.Now().Add(time.Hour))
	view(t, st, func(r store.Reader) error {
		all, err := r.Events(0, 100)
		topic, topicErr := r.TopicEvents("T1HOME", 0, 100)
		from, fromErr := r.ReplayFrom()
		p, pErr := r.Position()
		seq, at, headErr := r.Head("T1HOME")
		return errors.Join(err, equal("events", len(all), 0), topicErr, equal("topic's events", len(topic), 0), fromErr, equal("whole from", from, 5),
			pErr, equal("position", p, 5), headErr, equal("the head stays", seq, 5), equal("at", at, 5))
	})
	prune(time.Now().Add(time.Hour)) // nothing to do
	p := update(t, st, func(tx store.Tx) error { return tx.Emit(event("T1HOME", "on")) })
	view(t, st, func(r store.Reader) error {
		events, err := r.Events(5, 100)
		if err := errors.Join(err, equal("events", len(events), 1)); err != nil {
			return err
		}
		from, fromErr := r.ReplayFrom()
		return errors.Join(equal("position goes on", p, 6), equal("seq goes on", events[0].Seq, 6), fromErr, equal("whole from", from, 5))
	})
}
