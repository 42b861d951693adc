package sim_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"flannel/protocol"
)

// view is what one client has seen, and what it therefore must and must not see next. It lives as long as the client
// loses nothing: a session that is resumed goes on with it, one that is told to resync, or begins anew, does not.
type view struct {
	w    *world
	name string
	user protocol.UserID
	thin bool
	// screen is what the client has in view, of every session; nil: everything. Of other channels it gets badges.
	screen []protocol.ChannelID

	mu sync.Mutex
	// start: every event above it must come, but for topics with a start of their own.
	start  protocol.Position
	starts map[protocol.Topic]protocol.Position
	heard  map[protocol.Topic]protocol.Seq // the last of each topic
	// session is heard within this session. before is what was heard before it was resumed: what is above token comes
	// again, in the replay or, if the node is behind, live.
	session, before map[protocol.Topic]protocol.Seq
	token           protocol.Position
	// again: so many events of the replay are still to come.
	again int
	// held is the newest state of each object that the client was shown, by the position at which it came to be.
	held map[protocol.ObjectID]protocol.Position
	// excused are those of held that the client was told to fetch again and has not: nobody tells it what became of them.
	excused map[protocol.ObjectID]bool
	// wrote is the highest position of the client's own writes, by the node that they went through.
	wrote map[*edgeNode]protocol.Position
	// badges are the latest of each channel.
	badges map[protocol.ChannelID]protocol.BadgeFrame
	// given are the objects that came since the last event: they belong to the next.
	given []protocol.ObjectID
	// home is the node of the last session: only there is known what the client has seen.
	home *edgeNode
	// channels are those that the client believes to be in: from the boot and what came after. nil: not known.
	channels map[protocol.ChannelID]bool
	// open: hello has come and the session has not ended.
	open   bool
	events int
	// epoch counts the new beginnings: what was asked before one says nothing about what is known after it.
	epoch int
}

func newView(w *world, name string, user protocol.UserID, thin bool) *view {
	v := &view{w: w, name: name, user: user, thin: thin, wrote: make(map[*edgeNode]protocol.Position)}
	v.forget(0)
	return v
}

// forget begins anew at a position.
func (v *view) forget(at protocol.Position) {
	v.epoch++
	v.start, v.starts, v.heard = at, make(map[protocol.Topic]protocol.Position), make(map[protocol.Topic]protocol.Seq)
	v.badges, v.given = make(map[protocol.ChannelID]protocol.BadgeFrame), nil
	v.session, v.before, v.token = make(map[protocol.Topic]protocol.Seq), nil, 0
	v.held, v.excused, v.again, v.channels = make(map[protocol.ObjectID]protocol.Position), make(map[protocol.ObjectID]bool), 0, nil
}

func (v *view) fail(format string, args ...any) {
	v.w.fail("%s (%s): "+format, append([]any{v.name, v.user}, args...)...)
}

// hello begins a session. resumed is the token that the client came with, "" for none.
func (v *view) hello(n *edgeNode, h *protocol.Hello, resumed string) {
	b := v.w.back
	b.mu.Lock()
	defer b.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	at := b.position
	if resumed != "" && h.ResumeToken == "" {
		return // It is refused: hello is said all the same.
	}
	v.open, v.home = true, n
	if resumed == "" {
		if h.Resume != "" {
			v.fail("hello says %q to a client that did not resume", h.Resume)
		}
		v.forget(at)
		return
	}
	token, err := protocol.ParseResumeToken(resumed)
	if err != nil {
		v.fail("resume token %q: %v", resumed, err)
		return
	}
	v.w.count("resume " + h.Resume)
	v.session, v.before, v.given = make(map[protocol.Topic]protocol.Seq), maps.Clone(v.heard), nil
	// What was read beside the socket, ahead of the token, no other node knows of, whatever hello says.
	maps.DeleteFunc(v.held, func(_ protocol.ObjectID, at protocol.Position) bool { return at > token.Position })
	switch h.Resume {
	case protocol.ResumeReplayed, protocol.ResumeLossless:
		v.again, v.token = h.Count, token.Position
		if h.Resume == protocol.ResumeLossless && h.Count != 0 {
			v.fail("a lossless resume has %d events", h.Count)
		}
	case protocol.ResumeResync:
		if slices.Contains(h.Refetch, protocol.RefetchAll) {
			v.forget(at)
			return
		}
		v.again, v.token = h.Count, token.Position
		for _, t := range h.Refetch {
			topic := protocol.Topic(t)
			v.starts[topic] = at
			delete(v.heard, topic)
			for id := range v.held {
				v.excused[id] = v.excused[id] || b.covers(topic, id)
			}
		}
		v.channels = nil // What the client believes it has to fetch again.
	default:
		v.fail("hello says resume %q", h.Resume)
	}
}

func (v *view) closed() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.open = false
}

// beginningLocked is the index of the first event of the topic that the client must hear.
func (v *view) nextLocked(topic protocol.Topic, log []*protocol.Event) int {
	if last, ok := v.heard[topic]; ok {
		return int(last)
	}
	start, ok := v.starts[topic]
	if !ok {
		start = v.start
	}
	for i, ev := range log {
		if ev.Position > start {
			return i
		}
	}
	return len(log)
}

// frame takes a frame of the socket that names an event. It reports whether it did.
func (v *view) frame(raw []byte) bool {
	name := text(raw, simField)
	id := text(raw, "event_id")
	if name == "" {
		name = id
	}
	if name == "" {
		return false
	}
	b := v.w.back
	b.mu.Lock()
	defer b.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	ev := b.eventLocked(name)
	if ev == nil {
		v.fail("heard an event that never was: %s", raw)
		return true
	}
	v.events++
	v.exactLocked(ev, raw, id)
	_, may := b.hearsLocked(v.user, ev)
	may = may || b.unheardLocked(v.user, ev)
	if !v.onScreen(ev) {
		v.fail("heard %s (%s) of a channel that is not in view", name, ev.Type)
	}
	for _, oid := range v.given {
		if !slices.Contains(ev.Refs, oid) {
			v.fail("was given %s before %s, which does not name it", oid, name)
		}
	}
	v.given = nil
	if !may {
		v.fail("LEAK: heard %s at %d (%s) as of %d", name, ev.Position, ev.Type, b.position)
	}
	if v.again > 0 {
		v.again--
		if ev.Position <= v.token {
			v.fail("replayed %s at %d, which is not above the token's %d", name, ev.Position, v.token)
		}
	}
	log := b.topics[ev.Topic]
	if last := v.session[ev.Topic]; ev.Seq <= last {
		v.fail("REPEATED: %s after seq %d of this session", name, last)
	}
	v.session[ev.Topic] = ev.Seq
	if last := v.heard[ev.Topic]; ev.Seq <= last {
		if ev.Seq > v.before[ev.Topic] || ev.Position <= v.token {
			v.fail("REPEATED: %s after seq %d", name, last)
		}
		v.holdLocked(ev)
		return true
	}
	v.missingLocked(ev.Topic, log[:ev.Seq-1], name)
	v.heard[ev.Topic] = ev.Seq
	v.learnLocked(ev)
	return true
}

// missingLocked complains about the first event in log that the client must have heard and did not.
func (v *view) missingLocked(topic protocol.Topic, log []*protocol.Event, before string) {
	for i := v.nextLocked(topic, log); i < len(log); i++ {
		ev := log[i]
		if len(ev.Payload) == 0 {
			continue
		}
		if must, _ := v.w.back.hearsLocked(v.user, ev); must && ev.Except != v.user && v.onScreen(ev) {
			v.fail("LOST: %s at %d (%s), before %s; the session began at %d", protocol.EventID(ev), ev.Position, ev.Type, before, v.start)
			return
		}
	}
}

// exactLocked compares what came with what the backend said: the payload byte for byte, and in thin mode the event's
// name behind it.
func (v *view) exactLocked(ev *protocol.Event, raw []byte, id string) {
	if text(raw, "type") == protocol.FrameUserInvalidated {
		return
	}
	if !v.thin {
		if !bytes.Equal(raw, ev.Payload) {
			v.fail("%s came as %s", protocol.EventID(ev), raw)
		}
		return
	}
	if id != "" && id != protocol.EventID(ev) || !bytes.HasPrefix(raw, ev.Payload[:len(ev.Payload)-1]) {
		v.fail("%s came as %s", protocol.EventID(ev), raw)
	}
}

// holdLocked folds the objects of an event into what the client was shown.
func (v *view) holdLocked(ev *protocol.Event) {
	for i := range ev.Effects {
		if e := &ev.Effects[i]; e.Op == protocol.OpUpsert {
			v.held[e.Object.ID] = max(v.held[e.Object.ID], ev.Position)
			delete(v.excused, e.Object.ID)
		}
	}
}

// learnLocked folds an event into what the client knows.
func (v *view) learnLocked(ev *protocol.Event) {
	v.holdLocked(ev)
	for i := range ev.Effects {
		switch e := &ev.Effects[i]; e.Op {
		case protocol.OpMemberAdded:
			if v.channels != nil && e.Membership != nil {
				v.channels[e.Channel] = true
			}
		case protocol.OpMemberRemoved:
			if v.channels != nil && ev.Topic == protocol.Topic(v.user) {
				delete(v.channels, e.Channel)
			}
		}
	}
}

// complete is called when all is quiet: a session that is open has heard everything.
func (v *view) complete() {
	b := v.w.back
	b.mu.Lock()
	defer b.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.open {
		return
	}
	for topic, log := range b.topics {
		v.missingLocked(topic, log, "the end")
	}
	for id, at := range v.held {
		if v.excused[id] {
			continue
		}
		tl := b.objects[id]
		if last := tl.stamps[len(tl.stamps)-1].at; last > at && b.topicMust(v.user, tl.stamps[len(tl.stamps)-1].v.Topic, last) {
			v.fail("was shown %s as of %d and never the state of %d", id, at, last)
		}
	}
	v.badgesLocked()
	if v.channels == nil {
		return
	}
	var has, should []protocol.ChannelID
	for _, ch := range b.list {
		if b.archived(ch, 0) {
			continue // A boot leaves out those that are archived, so they may be unknown ever since.
		}
		if v.channels[ch] {
			has = append(has, ch)
		}
		if b.rooms[ch].in(v.user) {
			should = append(should, ch)
		}
	}
	slices.Sort(has)
	slices.Sort(should)
	if !slices.Equal(has, should) {
		v.fail("believes to be in %v and is in %v", has, should)
	}
}

// onScreen reports whether the client gets the event itself: it is of a channel in view, or of none, or changes the
// channel, or moves the client.
func (v *view) onScreen(ev *protocol.Event) bool {
	return v.screen == nil || protocol.KindOf(protocol.ObjectID(ev.Topic)) != protocol.KindChannel || slices.Contains(v.screen, protocol.ChannelID(ev.Topic)) ||
		movesUser(ev, v.user) || slices.ContainsFunc(ev.Effects, func(e protocol.Effect) bool { return e.Op == protocol.OpUpsert })
}

// badgesLocked checks, when all is quiet, that the last badge of each channel out of view tells of its last message.
func (v *view) badgesLocked() {
	b := v.w.back
	for _, ch := range b.list {
		if v.screen == nil || slices.Contains(v.screen, ch) || !b.rooms[ch].in(v.user) {
			continue
		}
		log := b.topics[protocol.Topic(ch)]
		for _, ev := range log[v.nextLocked(protocol.Topic(ch), log):] {
			must, _ := b.hearsLocked(v.user, ev)
			moves := slices.ContainsFunc(ev.Effects, func(e protocol.Effect) bool {
				return e.Op == protocol.OpMessageAdded || e.Op == protocol.OpMessageRemoved
			})
			if latest := b.rooms[ch].latest().OrZero(); must && moves && v.badges[ch].Latest != latest {
				v.fail("BADGE: the last one of %s tells of %q, the latest message is %s", ch, v.badges[ch].Latest, latest)
				break
			}
		}
	}
}

// topicMust reports whether the user must have heard the topic's event at a position. It wants mu.
func (b *backend) topicMust(user protocol.UserID, topic protocol.Topic, at protocol.Position) bool {
	for _, ev := range b.topics[topic] {
		if ev.Position == at && len(ev.Payload) > 0 {
			must, _ := b.hearsLocked(user, ev)
			return must
		}
	}
	return false
}

// text is a string field of a JSON object, "" if there is none.
func text(raw []byte, name string) string {
	value := protocol.Field(raw, name)
	if len(value) < 2 || value[0] != '"' {
		return ""
	}
	return string(value[1 : len(value)-1])
}

// now is the backend's position.
func (b *backend) now() protocol.Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.position
}

// shown is an object as a client was shown it.
type shown struct {
	ID      protocol.ObjectID `json:"id"`
	Updated protocol.Version  `json:"updated"`
	raw     json.RawMessage
}

func shownIn(raw json.RawMessage) (list []shown) {
	var bodies []json.RawMessage
	if raw == nil || json.Unmarshal(raw, &bodies) != nil {
		return nil
	}
	for _, body := range bodies {
		s := shown{raw: body}
		if protocol.Field(body, "has_unreads") == nil && json.Unmarshal(body, &s) == nil { // Those that have one are counts.
			list = append(list, s)
		}
	}
	return list
}

// sameFields compares the fields of an object's body with those that were shown; the edge adds fields for the viewer,
// and a boot leaves some out.
func sameFields(want, got []byte) error {
	var diff []string
	protocol.EachField(want, func(name, value []byte) bool {
		if other := protocol.Field(got, string(name)); other != nil && !bytes.Equal(other, value) && string(name) != "topic" && string(name) != "purpose" {
			diff = append(diff, fmt.Sprintf("%s is %s, not %s", name, other, value))
		}
		return true
	})
	if diff != nil {
		return fmt.Errorf("%s", strings.Join(diff, "; "))
	}
	return nil
}

// covers reports whether an object's changes are told on a topic. It wants mu.
func (b *backend) covers(topic protocol.Topic, id protocol.ObjectID) bool {
	o := b.objects[id].at(b.position)
	return o != nil && o.Topic == topic
}
