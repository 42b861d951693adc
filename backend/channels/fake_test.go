package channels

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"log/slog"

	"flannel/backend/store"
	"flannel/protocol"
)

// fakeStore is a log of events with the contract's rules: serial commits, snapshots, pruning. A commit is visible to
// View a moment before the hub hears of it, as in a real store.
type fakeStore struct {
	store.Store
	commits sync.Mutex // one at a time

	mu         sync.Mutex
	events     []*protocol.Event
	history    []*protocol.Event // events, those that were pruned too
	heads      map[protocol.Topic]head
	position   protocol.Position
	replayFrom protocol.Position
	onCommit   func(protocol.Position, []*protocol.Event)
	views      int
}

func newFakeStore() *fakeStore { return &fakeStore{heads: make(map[protocol.Topic]head)} }

func (f *fakeStore) OnCommit(fn func(protocol.Position, []*protocol.Event)) { f.onCommit = fn }

// emit commits one event per topic.
func (f *fakeStore) emit(topics ...protocol.Topic) protocol.Position {
	f.commits.Lock()
	defer f.commits.Unlock()
	f.mu.Lock()
	f.position++
	at := f.position
	var events []*protocol.Event
	for _, t := range topics {
		seq := f.heads[t].seq + 1
		f.heads[t] = head{seq: seq, at: at}
		ev := &protocol.Event{Topic: t, Seq: seq, Position: at, Type: "message", Class: protocol.ClassMessage, Payload: []byte(`{"type":"message"}`)}
		events = append(events, ev)
		f.events = append(f.events, ev)
		f.history = append(f.history, ev)
	}
	f.mu.Unlock()
	runtime.Gosched()
	if f.onCommit != nil {
		f.onCommit(at, events)
	}
	return at
}

// prune forgets the events up to a position.
func (f *fakeStore) prune(p protocol.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replayFrom = p
	f.events = slices.DeleteFunc(slices.Clone(f.events), func(ev *protocol.Event) bool { return ev.Position <= p })
}

func (f *fakeStore) View(_ context.Context, fn func(store.Reader) error) error {
	f.mu.Lock()
	f.views++
	s := &fakeSnapshot{events: slices.Clip(f.events), position: f.position, replayFrom: f.replayFrom, heads: maps.Clone(f.heads)}
	f.mu.Unlock()
	runtime.Gosched()
	return fn(s)
}

type fakeSnapshot struct {
	store.Reader
	events     []*protocol.Event
	heads      map[protocol.Topic]head
	position   protocol.Position
	replayFrom protocol.Position
}

func (s *fakeSnapshot) Position() (protocol.Position, error)   { return s.position, nil }
func (s *fakeSnapshot) ReplayFrom() (protocol.Position, error) { return s.replayFrom, nil }

func (s *fakeSnapshot) Head(t protocol.Topic) (protocol.Seq, protocol.Position, error) {
	return s.heads[t].seq, s.heads[t].at, nil
}

func (s *fakeSnapshot) TopicEvents(t protocol.Topic, after protocol.Seq, limit int) ([]*protocol.Event, error) {
	var out []*protocol.Event
	for _, ev := range s.events {
		if ev.Topic == t && ev.Seq > after && len(out) < limit {
			out = append(out, ev)
		}
	}
	return out, nil
}

var testLimits = Limits{Items: 4096, Bytes: 16 << 20, Topics: 1000}

func newTestHub(t testing.TB, st store.Store, mutate func(*Options)) *Hub {
	t.Helper()
	o := Options{
		Config: Default(), Store: st, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Now: time.Now,
		Initial: func(topic protocol.Topic) *protocol.Event {
			if user, ok := protocol.PresenceOf(topic); ok {
				return &protocol.Event{Topic: topic, Type: "presence_change", Class: protocol.ClassEphemeral, Payload: []byte(`"away ` + user + `"`)}
			}
			return nil
		},
	}
	if mutate != nil {
		mutate(&o)
	}
	h, err := New(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// drained is what a subscriber was given, sorted out.
type drained struct {
	subscribed, resets []protocol.TopicState
	events             []*protocol.Event
	watermark          protocol.Position
}

func drain(t testing.TB, s *Subscriber) drained {
	t.Helper()
	items, watermark, err := s.Drain(nil)
	if err != nil {
		t.Fatalf("Drain: %v", err)
	}
	d := drained{watermark: watermark}
	for i := range items {
		switch it := &items[i]; it.Kind {
		case ItemSubscribed:
			d.subscribed = append(d.subscribed, it.Topics...)
		case ItemReset:
			d.resets = append(d.resets, it.Topics...)
		case ItemEvent:
			if it.Live() {
				d.events = append(d.events, it.Entry.Event)
			}
		}
	}
	return d
}

func seqs(events []*protocol.Event) []protocol.Seq {
	out := []protocol.Seq{}
	for _, ev := range events {
		out = append(out, ev.Seq)
	}
	return out
}

func atSeq(t protocol.Topic, s protocol.Seq) protocol.TopicState {
	return protocol.TopicState{Topic: t, Seq: &s}
}

func atPosition(t protocol.Topic, p protocol.Position) protocol.TopicState {
	return protocol.TopicState{Topic: t, Position: &p}
}

var errStop = errors.New("stop")
