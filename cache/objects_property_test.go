package cache

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"flannel/protocol"
)

// state is one object at one position.
type state struct {
	version protocol.Version
	exists  bool
	topic   protocol.Topic
}

// backend is the oracle: the whole history, by position.
type backend struct {
	history []map[protocol.ObjectID]state // by position
	events  map[protocol.Topic][]*protocol.Event
	version protocol.Version
}

func newBackend() *backend {
	return &backend{history: []map[protocol.ObjectID]state{{}}, events: make(map[protocol.Topic][]*protocol.Event)}
}

func (b *backend) position() protocol.Position { return protocol.Position(len(b.history) - 1) }

func (b *backend) at(p protocol.Position, id protocol.ObjectID) state { return b.history[p][id] }

// change commits one new state of an object; the event goes to the topic that covers it.
func (b *backend) change(id protocol.ObjectID, exists bool, topic protocol.Topic) {
	next := make(map[protocol.ObjectID]state)
	maps.Copy(next, b.history[len(b.history)-1])
	b.version++
	next[id] = state{b.version, exists, topic}
	b.history = append(b.history, next)
	e := bury(id, b.version)
	if exists {
		e = upsert(b.object(b.position(), id))
	}
	b.emit(topic, e)
}

// move lets another topic cover an object from here on. Both tell of it.
func (b *backend) move(id protocol.ObjectID, from, to protocol.Topic) {
	b.change(id, true, to)
	b.emit(from, upsert(b.object(b.position(), id)))
}

func (b *backend) emit(topic protocol.Topic, effects ...protocol.Effect) {
	b.events[topic] = append(b.events[topic], &protocol.Event{
		Topic: topic, Seq: protocol.Seq(len(b.events[topic]) + 1), Position: b.position(), Effects: effects,
	})
}

func (b *backend) object(p protocol.Position, id protocol.ObjectID) protocol.Object {
	s := b.at(p, id)
	o := object(id, s.version)
	o.Topic = s.topic
	return o
}

func (b *backend) answer(p protocol.Position, ids []protocol.ObjectID) *protocol.ObjectsAnswer {
	a := &protocol.ObjectsAnswer{Position: p}
	for _, id := range ids {
		if b.at(p, id).exists {
			a.Objects = append(a.Objects, b.object(p, id))
		} else {
			a.Missing = append(a.Missing, id)
		}
	}
	return a
}

// node is the model of what the stream has told one cache.
type node struct {
	*fixture
	backend  *backend
	followed map[protocol.Topic]protocol.Position // from where loads are kept
	next     map[protocol.Topic]int               // index of the next event to deliver
	// low is, for each object, a position that everything served from now on must not be below: it rises with what was
	// served and with the events that were applied.
	low map[protocol.ObjectID]protocol.Position
}

// seqAt returns the seq of the last event of a topic up to p.
func (n *node) seqAt(t protocol.Topic, p protocol.Position) protocol.Seq {
	seq := protocol.Seq(0)
	for _, ev := range n.backend.events[t] {
		if ev.Position <= p {
			seq = ev.Seq
		}
	}
	return seq
}

func (n *node) followAt(t protocol.Topic, p protocol.Position) {
	n.followed[t] = max(p, n.Applied())
	n.next[t] = int(n.seqAt(t, p))
	n.Followed(t, n.seqAt(t, p), p)
}

// deliver applies the next event of a topic, if there is one.
func (n *node) deliver(t protocol.Topic) bool {
	events := n.backend.events[t]
	if _, ok := n.followed[t]; !ok || n.next[t] >= len(events) {
		return false
	}
	ev := events[n.next[t]]
	n.next[t]++
	n.Apply(ev)
	for _, e := range ev.Effects {
		id := e.ID
		if e.Object != nil {
			id = e.Object.ID
		}
		n.low[id] = max(n.low[id], ev.Position)
	}
	return true
}

// watermark is the position up to which everything of the followed topics was delivered.
func (n *node) watermark() protocol.Position {
	p := n.backend.position()
	for t := range n.followed {
		if events := n.backend.events[t]; n.next[t] < len(events) {
			p = min(p, events[n.next[t]].Position-1)
		}
	}
	return p
}

// served checks that what was served (version 0: that there is no such object) was true at some position at or above
// floor and everything served before, and notes the lowest.
func (n *node) served(t *rapid.T, id protocol.ObjectID, version protocol.Version, exists bool, floor protocol.Position) {
	for p := max(n.low[id], floor); p <= n.backend.position(); p++ {
		if s := n.backend.at(p, id); s.exists == exists && (!exists || s.version == version) {
			n.low[id] = p
			return
		}
	}
	t.Fatalf("%s: served version %d (exists %v), which was never true from position %d on", id, version, exists, max(n.low[id], floor))
}

// covered reports whether the object's topic has been followed since p or before.
func (n *node) covered(id protocol.ObjectID, p protocol.Position) bool {
	from, ok := n.followed[n.backend.at(p, id).topic]
	return ok && from <= p
}

// audit compares an object with the backend as of p, as the auditor does.
func (n *node) audit(id protocol.ObjectID, p protocol.Position) Verdict {
	var loaded *protocol.Object
	if n.backend.at(p, id).exists {
		o := n.backend.object(p, id)
		loaded = &o
	}
	return n.Verify(id, loaded, p).Verdict
}

// TestObjects_AgainstAnOracle lets loads as of random earlier positions, events, resets and losses meet in any order.
// Whatever was served, nothing older is served after it; no event that was applied is unseen; and once it is quiet the
// cache is the backend.
func TestObjects_AgainstAnOracle(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := func(c *Config) {
			c.RecentEvents = rapid.SampledFrom([]int{2, 8, 1000}).Draw(rt, "log")
			c.Bytes = 1 << 20
		}
		n := &node{
			fixture: newFixture(t, cfg), backend: newBackend(), followed: make(map[protocol.Topic]protocol.Position),
			next: make(map[protocol.Topic]int), low: make(map[protocol.ObjectID]protocol.Position),
		}
		defer n.Close()
		topics := []protocol.Topic{"T1", "T2"}
		ids := []protocol.ObjectID{"U1", "U2", "C3", "S4"}
		id := rapid.SampledFrom(ids)
		topic := rapid.SampledFrom(topics)

		fill := func(t *rapid.T, p protocol.Position, some []protocol.ObjectID) (again []protocol.ObjectID) {
			tracked := make(map[protocol.ObjectID]bool)
			for _, id := range some {
				// What is served and not kept is left to the floors of those who were served.
				tracked[id] = n.covered(id, p)
			}
			served, again := n.Fill(n.backend.answer(p, some))
			for _, o := range served {
				if tracked[o.ID] {
					n.served(t, o.ID, o.Version, true, p)
				}
				some = slices.DeleteFunc(slices.Clone(some), func(id protocol.ObjectID) bool { return id == o.ID })
			}
			for _, id := range some {
				if tracked[id] && !slices.Contains(again, id) {
					n.served(t, id, 0, false, p)
				}
			}
			return again
		}

		rt.Repeat(map[string]func(*rapid.T){
			"change": func(t *rapid.T) {
				o := id.Draw(t, "id")
				covering := n.backend.at(n.backend.position(), o).topic
				if covering == "" {
					covering = topic.Draw(t, "topic")
				}
				n.backend.change(o, rapid.IntRange(0, 3).Draw(t, "kind") > 0, covering)
			},
			"move": func(t *rapid.T) {
				o := id.Draw(t, "id")
				s := n.backend.at(n.backend.position(), o)
				if !s.exists || rapid.IntRange(0, 3).Draw(t, "really") > 0 {
					t.Skip("kept")
				}
				n.backend.move(o, s.topic, topics[1-slices.Index(topics, s.topic)])
			},
			"fill": func(t *rapid.T) {
				p := protocol.Position(rapid.IntRange(0, int(n.backend.position())).Draw(t, "position"))
				fill(t, p, rapid.SliceOfNDistinct(id, 1, 4, rapid.ID[protocol.ObjectID]).Draw(t, "ids"))
			},
			"deliver":  func(t *rapid.T) { n.deliver(topic.Draw(t, "topic")) },
			"deliver2": func(t *rapid.T) { n.deliver(topic.Draw(t, "topic")) },
			"follow": func(t *rapid.T) {
				tp := topic.Draw(t, "topic")
				if _, ok := n.followed[tp]; ok {
					t.Skip("followed")
				}
				n.followAt(tp, protocol.Position(rapid.IntRange(0, int(n.backend.position())).Draw(t, "position")))
			},
			"unfollow": func(t *rapid.T) {
				tp := topic.Draw(t, "topic")
				if _, ok := n.followed[tp]; !ok || rapid.IntRange(0, 3).Draw(t, "really") > 0 {
					t.Skip("kept")
				}
				delete(n.followed, tp)
				n.Unfollowed(tp)
			},
			"reset": func(t *rapid.T) {
				tp := topic.Draw(t, "topic")
				if _, ok := n.followed[tp]; !ok || rapid.IntRange(0, 3).Draw(t, "really") > 0 {
					t.Skip("kept")
				}
				p := n.backend.position()
				n.followed[tp], n.next[tp] = p, int(n.seqAt(tp, p))
				n.Reset(tp, p)
			},
			"watermark": func(t *rapid.T) {
				if p := n.watermark(); p >= n.Applied() {
					n.Watermark(p)
				}
			},
			"evict": func(t *rapid.T) { n.evict(id.Draw(t, "id")) },
			"audit": func(t *rapid.T) {
				p := protocol.Position(rapid.IntRange(0, int(n.backend.position())).Draw(t, "position"))
				if o := id.Draw(t, "id"); n.audit(o, p) == Mismatch {
					t.Fatalf("%s is not what it was at %d, the auditor says", o, p)
				}
			},
			"time": func(t *rapid.T) { n.advance(time.Duration(rapid.IntRange(1, 200).Draw(t, "s")) * time.Second) },
			"get": func(t *rapid.T) {
				o := id.Draw(t, "id")
				floor := protocol.Position(rapid.IntRange(0, int(n.backend.position())).Draw(t, "floor"))
				if rapid.Bool().Draw(t, "settled") {
					n.settle()
				}
				got, f := n.Get(o, floor)
				switch f {
				case Fresh:
					n.served(t, o, got.Version, true, floor)
				case Absent:
					before := n.low[o]
					n.served(t, o, 0, false, floor)
					if _, ok := n.followed[n.backend.at(n.backend.position(), o).topic]; !ok {
						n.low[o] = before // Like what is served and not kept.
					}
				case Stale:
					t.Fatal("stale while the stream is up")
				}
			},
			"quiet": func(t *rapid.T) {
				for _, tp := range topics {
					for n.deliver(tp) {
					}
				}
				p := n.backend.position()
				n.Watermark(p)
				n.advance(6 * time.Second) // No "no such object" of a topic that was not followed is left.
				for _, o := range ids {
					switch got, f := n.Get(o, p); f {
					case Fresh:
						n.served(t, o, got.Version, true, p)
					case Absent:
						n.served(t, o, 0, false, p)
					}
				}
				if again := fill(t, p, ids); len(again) > 0 {
					t.Fatalf("%v have to be loaded again as of the newest position", again)
				}
				n.settle()
				for _, o := range ids {
					want := n.backend.at(p, o)
					got, f := n.Get(o, p)
					_, followed := n.followed[want.topic]
					switch {
					case f == Missing && want.exists && followed:
						t.Fatalf("%s is not kept, though %s is followed", o, want.topic)
					case f == Fresh && (!want.exists || got.Version != want.version), f == Absent && want.exists:
						t.Fatalf("%s is %s with version %d, want %+v", o, f, got.Version, want)
					case f == Fresh && n.audit(o, p) != Match:
						t.Fatalf("%s is right, and the auditor does not say so", o)
					}
				}
			},
		})
	})
}

// Readers and fills from many goroutines while events come from one: nobody ever sees a version go back. Bodies tell
// their version, so torn objects would show too.
func TestObjects_MonotonicUnderConcurrency(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Bytes = 300_000; c.RecentEvents = 500 })
	f.follow(1, ws)
	const objects, events = 400, 20_000
	name := func(i int) protocol.ObjectID { return protocol.ObjectID(fmt.Sprint("U", i%objects)) }
	concurrently(t, events, func(i int) {
		p := protocol.Position(i + 2)
		f.event(ws, p, upsert(object(name(i), protocol.Version(p))))
		if i%10 == 0 {
			f.Watermark(p)
		}
	}, func(i int, applied protocol.Position, seen map[protocol.ObjectID]protocol.Version) {
		id := name(i * 7)
		floor := seen[id]
		if o, got := f.Get(id, 0); got == Fresh {
			if o.Version < floor {
				t.Errorf("%s: version %d after %d", id, o.Version, floor)
			}
			seen[id] = o.Version
			return
		}
		// What the backend would answer as of applied, maybe long ago by the time it is filled. With AtLeast, as query
		// does it, a load begins at what is applied.
		first := protocol.Position(i*7%objects) + 2
		if applied < first {
			return
		}
		v := protocol.Version(first + (applied-first)/objects*objects)
		served, _ := f.Fill(answer(applied, object(id, v)))
		if len(served) == 1 {
			if served[0].Version < floor {
				t.Errorf("%s: filled version %d after %d", id, served[0].Version, floor)
			}
			seen[id] = served[0].Version
		}
	}, f.Applied)
}
