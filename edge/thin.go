package edge

import (
	"encoding/json"
	"slices"

	"flannel/protocol"
)

// about is what the edge has to know of an event in order to decide what a thin session gets of it, found out once for
// all sessions.
type about struct {
	channel protocol.ChannelID // whose topic it is on; "" for every other topic
	hash    uint32             // of channel
	badge   bool               // it moves what a badge shows
	whole   bool               // it changes the channel itself, which a list of channels shows
	moved   []protocol.UserID  // who comes into the channel or goes from it by it
	changed protocol.UserID    // whose object it carries
	refs    []uint32           // hashes of Refs, see given
}

func aboutEvent(ev *protocol.Event) about {
	a := about{refs: make([]uint32, len(ev.Refs))}
	for i, id := range ev.Refs {
		a.refs[i] = hashID(id)
	}
	if protocol.KindOf(protocol.ObjectID(ev.Topic)) == protocol.KindChannel {
		a.channel = protocol.ChannelID(ev.Topic)
		a.hash = hashID(a.channel)
	}
	for i := range ev.Effects {
		switch e := &ev.Effects[i]; e.Op {
		case protocol.OpMessageAdded, protocol.OpMessageRemoved:
			a.badge = true
		case protocol.OpMemberAdded, protocol.OpMemberRemoved:
			a.moved = append(a.moved, e.User)
		case protocol.OpTombstone:
			a.whole = true
		case protocol.OpUpsert:
			a.whole = true
			if ev.Type == "user_change" && e.Object != nil && e.Object.Kind == protocol.KindUser {
				a.changed = protocol.UserID(e.Object.ID)
			}
		}
	}
	return a
}

// thinFrame returns what a thin session gets of an event, nil if nothing: the event, or user_invalidated for a user that
// it was not given lately. Of a channel out of view it gets a badge, soon. objects are the frame that goes before.
func (s *Session) thinFrame(ev *protocol.Event, w *wires, g *given) (objects, frame []byte) {
	about := &w.about
	if view := s.view.Load(); view != nil && about.channel != "" && !about.whole && !view.has(about.hash) && !slices.Contains(about.moved, s.id.User) {
		if about.badge {
			s.badgeLater(about.channel)
		}
		return nil, nil
	}
	// A query under way may be about to give the user as they were, which an invalidation before it would not undo.
	if changed := about.changed; changed != "" && changed != s.id.User && s.asking.Load() == 0 && !g.has(protocol.ObjectID(changed)) {
		return nil, w.invalid.get(s, w, func() []byte { return invalidated(ev, changed) })
	}
	objects = s.objectsFor(ev, w, g)
	if ev.Seq == 0 {
		return objects, w.plain.get(s, w, func() []byte { return ev.Payload })
	}
	return objects, w.thin.get(s, w, func() []byte { return withID(ev) })
}

// invalidated tells that a user has changed, in place of the user.
func invalidated(ev *protocol.Event, user protocol.UserID) []byte {
	frame := protocol.UserInvalidated{Type: protocol.FrameUserInvalidated, EventID: protocol.EventID(ev)}
	frame.User.ID = user
	// An event without a time gets none.
	json.Unmarshal(protocol.Field(ev.Payload, "event_ts"), &frame.EventTS) //nolint:errcheck // See above.
	return protocol.MustMarshal(frame)
}

// objectsFor returns the frame with the objects that an event names and that the session was not given lately; nil if
// there are none. It takes what the cache has: an event never waits for an object.
func (s *Session) objectsFor(ev *protocol.Event, w *wires, g *given) []byte {
	wanted := g.without(ev.Refs, w.about.refs, s.self)
	m := s.edge.metrics
	if n := len(ev.Refs) - len(wanted); n > 0 {
		m.givenRecent.Add(float64(n))
	}
	if len(wanted) == 0 {
		return nil
	}
	objects := s.edge.doors.Queries.Peek(*s.id, wanted)
	m.givenSent.Add(float64(len(objects)))
	m.givenMissing.Add(float64(len(wanted) - len(objects)))
	objects = slices.DeleteFunc(objects, func(o protocol.Object) bool {
		return o.Kind != protocol.KindUser && o.Kind != protocol.KindChannel && o.Kind != protocol.KindBot
	})
	if len(objects) == 0 {
		return nil
	}
	for i := range objects {
		g.add(objects[i].ID)
	}
	shared := w.objects.Load()
	if shared == nil || !shared.same(objects) {
		shared = &objectsFrame{objects: objects}
		w.objects.Store(shared)
	}
	return shared.lazy.get(s, w, shared.payload)
}

// objectsFrame is the frame that goes before an event. Most who have not been given its objects lack the same ones: they share it.
type objectsFrame struct {
	objects []protocol.Object
	lazy    lazy
}

// same reports whether a frame with these objects is this one. Bodies are the cache's, and are not changed: another one is
// another version.
func (f *objectsFrame) same(objects []protocol.Object) bool {
	return slices.EqualFunc(f.objects, objects, func(a, b protocol.Object) bool {
		return a.ID == b.ID && len(a.Body) == len(b.Body) && &a.Body[0] == &b.Body[0] // None is empty: it is JSON.
	})
}

func (f *objectsFrame) payload() []byte {
	frame := protocol.ObjectsFrame{Type: protocol.FrameObjects}
	for i := range f.objects {
		switch o := &f.objects[i]; o.Kind {
		case protocol.KindUser:
			frame.Users = append(frame.Users, o.Body)
		case protocol.KindChannel:
			frame.Channels = append(frame.Channels, o.Body)
		case protocol.KindBot:
			frame.Bots = append(frame.Bots, o.Body)
		}
	}
	return protocol.MustMarshal(frame)
}
