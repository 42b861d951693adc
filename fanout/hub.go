package fanout

import (
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flannel/internal/numset"
	"flannel/protocol"
)

// Receiver is one session. Receivers are compared: two values of the same session are equal.
type Receiver interface {
	User() protocol.UserID
	// Deliver hands over a frame. It must not block and must not change the hub. It may still be called shortly after
	// Detach has returned.
	Deliver(f *Frame)
}

// Frame is an event on its way to its receivers: one for all of them.
type Frame struct {
	Event *protocol.Event
	// Shared holds what the receivers prepare once for all of them, an encoded websocket frame for instance. Whoever
	// comes first stores it; all must store the same type.
	Shared atomic.Value
}

// PresenceDoor is the way to the topics of presence. Its methods must not block and must not call the hub. They are
// called one at a time, in the order of what they tell.
type PresenceDoor interface {
	// Follow is called when the first receiver watches a user, Unfollow when none does any more.
	Follow(user protocol.UserID)
	Unfollow(user protocol.UserID)
	// Report tells whose first session came and whose last session went.
	Report(present, absent []protocol.UserID)
}

// Options of New. All are required.
type Options struct {
	// Allow says whether a user who is not a full member of a workspace may hear an event of its topic. It is called
	// for each such user and event, and must not block.
	Allow    func(user protocol.UserID, ev *protocol.Event) bool
	Presence PresenceDoor
	// Hears says whether a receiver may still hear of the presence of a user whom it watches; known is false if that
	// cannot be said at once. It is called for each of them and change, and must not block.
	Hears func(r Receiver, user protocol.UserID) (may, known bool)
	// Unsure is called, with publishing held, for a receiver that was not told of a change because Hears did not know. It
	// must not block, and lets somebody find out and call WatchPresence.
	Unsure func(Receiver)
	// Lost is called, with publishing held, for a receiver that cannot be told everything: it must fetch everything again.
	Lost       func(Receiver)
	Config     Config
	Registerer prometheus.Registerer
	Log        *slog.Logger
	Now        func() time.Time
}

// Hub knows all sessions of the node and who hears what. It is safe for concurrent use.
type Hub struct {
	// Static after construction.
	allow    func(user protocol.UserID, ev *protocol.Event) bool
	presence PresenceDoor
	hears    func(r Receiver, user protocol.UserID) (may, known bool)
	unsure   func(Receiver)
	lost     func(Receiver)
	logger   *slog.Logger
	metrics  *metrics
	log      *replayLog

	// doors is held from a change to the call that tells of it, so that calls come in the order of changes.
	doors sync.Mutex

	// publishing is held while frames are delivered, and guards what follows.
	publishing sync.Mutex
	to         [][]Receiver // scratch: who hears the event
	ask        []*audience  // scratch: who hears it if Allow says so
	watchers   []Receiver   // scratch: who hears a change of presence
	frames     []*Frame     // scratch: what they hear

	// mu guards everything below. Every audience in a crowd is in users.
	mu         sync.RWMutex
	sessions   map[Receiver]*session
	users      map[protocol.UserID]*audience
	audiences  numset.Slots[*audience]
	topics     map[protocol.Topic]*crowd // those of channels and workspaces that have somebody
	crowds     numset.Slots[*crowd]
	have, came []uint32 // scratch: those that somebody is in, and those that they come to
	absent     int      // of users, those without a session
	watched    map[protocol.UserID]*watch
	active     map[protocol.UserID]struct{} // of watched, those whose last state is active
	idle       int                          // of watched, those that nobody watches
}

// crowd is who hears of a channel or a workspace. It exists while there is somebody.
type crowd struct {
	topic  protocol.Topic
	number uint32
	in     numset.Set // of audiences
}

// session is what the hub knows of one receiver.
type session struct {
	audience *audience
	watching map[protocol.UserID]struct{}
	// owed has those of watching whose last change was held back because Hears did not know.
	owed map[protocol.UserID]struct{}
}

// audience is one user with their sessions. sessions does not change, but is replaced.
//
// When the last one goes, the user stays in the crowds of their channels, and is taken in and out as their events say, for
// as long as their own topic is followed, which is while the node keeps their state. So somebody who comes back finds
// everything as it is, and a mass reconnect does not take thousands out of a hundred crowds each and puts them back.
type audience struct {
	user     protocol.UserID
	role     protocol.Role
	over     bool // events of the user's own topic were lost: without a session it is not kept
	sessions []Receiver
	crowds   numset.List // of channels that the user is in. A map of names costs a quiet user a hundred bytes for each
	spaces   numset.List // of their workspaces, while they have a session
	number   uint32
	// stamp is that of the standing whose channels are all in crowds, but for those that they were removed from since; 0 if
	// there is none.
	stamp uint64
	// due has the channels that the user's own topic has put them into, and whose own event is still to come: also if it
	// has taken them out again. At most maxDue: see dueLocked.
	due map[protocol.ChannelID]comings
	// came has the channels whose own event has put the user into them, with its position, while the user's topic is
	// still to tell of it. At most maxCame: see cameLocked.
	came map[protocol.ChannelID]protocol.Position
}

// comings are the positions of the first and the last coming into a channel that it is still to tell.
type comings struct{ first, last protocol.Position }

// New returns an empty hub.
func New(o Options) *Hub {
	h := &Hub{
		allow: o.Allow, presence: o.Presence, hears: o.Hears, unsure: o.Unsure, lost: o.Lost, logger: o.Log, log: newReplayLog(o.Config, o.Now),
		sessions: make(map[Receiver]*session), users: make(map[protocol.UserID]*audience),
		topics: make(map[protocol.Topic]*crowd), watched: make(map[protocol.UserID]*watch), active: make(map[protocol.UserID]struct{}),
	}
	h.metrics = newMetrics(o.Registerer, h)
	return h
}

// Standing is where a user stands.
type Standing struct {
	Role protocol.Role // the identity's may be older
	// Stamp, if it is not 0, stands for the channels: two standings of a user with the same stamp have the same ones.
	Stamp uint64
	// Channels returns those that the user is in, as of Stamp or later.
	Channels func() []protocol.ChannelID
}

// Now tells where a user stands when a session is attached. ok is false if that is not known any more. It and what it returns
// are called under the hub's lock and must not call the hub.
type Now func() (s Standing, ok bool)

// Attach lets r hear of everything that concerns id. An event that the cache had applied before is in what now returns;
// all others will be delivered. One that is just being delivered may be both. It reports whether r is attached: not if
// now is not ok.
func (h *Hub) Attach(r Receiver, id protocol.Identity, now Now) bool {
	h.doors.Lock()
	defer h.doors.Unlock()
	first, ok := h.attach(r, id, now)
	if first {
		h.presence.Report([]protocol.UserID{id.User}, nil)
	}
	return ok
}

// attach reports whether it is the user's first session, and whether it is attached. It wants doors.
func (h *Hub) attach(r Receiver, id protocol.Identity, now Now) (first, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[r] != nil {
		h.logger.Error("session attached twice")
		return false, true
	}
	standing, ok := now()
	if !ok {
		return false, false
	}
	a := h.users[id.User]
	if a == nil {
		a = &audience{user: id.User}
		a.number = h.audiences.Add(a)
		h.users[id.User] = a
		h.absent++
	}
	if first = len(a.sessions) == 0; first {
		h.absent--
	}
	a.role = standing.Role
	a.sessions = append(slices.Clip(a.sessions), r)
	h.sessions[r] = &session{audience: a}
	// The first session of a user brings their channels. A later one may know of more, when the first came while a
	// joining event was on its way; it never knows better that the user is in one no longer.
	if a.stamp == 0 || a.stamp != standing.Stamp {
		h.have, h.came = a.crowds.Append(h.have[:0]), h.came[:0]
		for _, ch := range standing.Channels() {
			delete(a.due, ch)
			h.comeLocked(a, protocol.Topic(ch))
		}
		a.crowds, a.stamp = a.crowds.Added(h.came), standing.Stamp
	}
	h.have, h.came = a.spaces.Append(h.have[:0]), h.came[:0]
	for _, w := range append(slices.Clip(id.Workspaces), id.Workspace) {
		if w != "" {
			h.comeLocked(a, protocol.Topic(w))
		}
	}
	a.spaces = a.spaces.Added(h.came)
	return first, true
}

// comeLocked puts a user into a crowd, and notes that in came, unless have says that they are in it.
func (h *Hub) comeLocked(a *audience, t protocol.Topic) {
	c := h.crowdOfLocked(t)
	if _, in := slices.BinarySearch(h.have, c.number); !in && c.in.Add(a.number) {
		h.came = append(h.came, c.number)
	}
}

// Detach undoes Attach and forgets what r watches. For a receiver that is not attached it does nothing.
func (h *Hub) Detach(r Receiver) {
	h.doors.Lock()
	defer h.doors.Unlock()
	h.mu.Lock()
	s := h.sessions[r]
	if s == nil {
		h.mu.Unlock()
		return
	}
	delete(h.sessions, r)
	var lonely []protocol.UserID
	for user := range s.watching {
		if h.unwatchLocked(r, user) {
			lonely = append(lonely, user)
		}
	}
	a := s.audience
	a.sessions = slices.DeleteFunc(slices.Clone(a.sessions), func(other Receiver) bool { return other == r })
	last := len(a.sessions) == 0
	if last {
		h.leftLocked(a)
	}
	h.mu.Unlock()
	for _, user := range lonely {
		h.presence.Unfollow(user)
	}
	if last {
		h.presence.Report(nil, []protocol.UserID{a.user})
	}
}

// leftLocked is for a user whose last session has gone: they hear of no workspace, but stay in their channels if their own
// topic tells of new ones.
func (h *Hub) leftLocked(a *audience) {
	h.absent++
	for x := range a.spaces.All() {
		h.partLocked(h.crowds.At(x), a)
	}
	a.spaces = ""
	if a.over || !h.log.follows(protocol.Topic(a.user)) {
		h.removeLocked(a)
	}
}

// removeLocked forgets a user without a session.
func (h *Hub) removeLocked(a *audience) {
	h.absent--
	for x := range a.crowds.All() {
		h.partLocked(h.crowds.At(x), a)
	}
	delete(h.users, a.user)
	h.audiences.Free(a.number)
}

// SetRole changes the role of a user's sessions: what they hear of workspaces changes with it. It reports whether they
// may belong to other workspaces now, which the hub does not know: they should be told to begin anew.
func (h *Hub) SetRole(user protocol.UserID, role protocol.Role) (other bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.users[user]
	if a == nil {
		return true // Sessions that are just beginning have looked before.
	}
	other = len(a.sessions) == 0 || a.role.Full() != role.Full()
	a.role = role
	return other
}

// Forget says that a topic was reset or is not followed any more. Nobody hears of a channel then until they attach
// again or are added by an event, because who is in it is not known. stale is called for each receiver who may have
// missed something: it should be told to fetch everything again; nil if nobody needs to know. node calls Forget from
// Sink.Reset and Sink.Unfollowed.
func (h *Hub) Forget(t protocol.Topic, stale func(Receiver)) {
	var lost []Receiver
	h.log.forget(t)
	h.mu.Lock()
	if user, ok := protocol.PresenceOf(t); ok {
		h.forgetPresenceLocked(user)
		h.mu.Unlock()
		return // The next event tells all that there is to know.
	}
	switch protocol.KindOf(protocol.ObjectID(t)) {
	case protocol.KindChannel:
		if c := h.topics[t]; c != nil {
			for _, x := range c.in.List() {
				a := h.audiences.At(x)
				lost = append(lost, a.sessions...)
				h.leaveLocked(a, protocol.ChannelID(t))
			}
		}
		for _, a := range h.users {
			if _, due := a.due[protocol.ChannelID(t)]; due {
				delete(a.due, protocol.ChannelID(t))
				lost = append(lost, a.sessions...)
			}
		}
	case protocol.KindUser:
		if a := h.users[protocol.UserID(t)]; a != nil {
			lost, a.over = a.sessions, true
			if len(lost) == 0 {
				h.removeLocked(a)
			}
		}
	case protocol.KindWorkspace:
		for a := range h.crowdLocked(t) {
			lost = append(lost, a.sessions...)
		}
	}
	h.mu.Unlock()
	if stale == nil {
		return
	}
	for _, r := range lost {
		stale(r)
	}
}

// Drop calls fn for each session of a user, without a lock held.
func (h *Hub) Drop(user protocol.UserID, fn func(Receiver)) {
	h.mu.RLock()
	var list []Receiver
	if a := h.users[user]; a != nil {
		list = a.sessions
	}
	h.mu.RUnlock()
	for _, r := range list {
		fn(r)
	}
}

// Each calls fn for every session that is attached when it is called, without a lock held.
func (h *Hub) Each(fn func(Receiver)) {
	h.mu.RLock()
	list := make([]Receiver, 0, len(h.sessions))
	for r := range h.sessions {
		list = append(list, r)
	}
	h.mu.RUnlock()
	for _, r := range list {
		fn(r)
	}
}

// numAbsent returns the number of users without a session who are kept in their channels.
func (h *Hub) numAbsent() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.absent
}

// Len returns the number of sessions.
func (h *Hub) Len() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.sessions)
}

// maxCame bounds audience.came. All of it comes to be told and goes, but for comings that the user's topic had told
// before the user had a session: those are left over.
const maxCame = 64

// cameLocked remembers that a channel's own event has put the user into it, which their own topic is still to tell.
func (a *audience) cameLocked(ch protocol.ChannelID, p protocol.Position) {
	if a.came == nil || len(a.came) >= maxCame {
		a.came = make(map[protocol.ChannelID]protocol.Position)
	}
	a.came[ch] = p
}

// maxDue bounds audience.due: it is more channels than anybody is put into at once.
const maxDue = 4096

// dueLocked remembers that a channel's own events are still to come. Is that too much to remember, those it returns have to
// fetch everything again.
func (a *audience) dueLocked(ch protocol.ChannelID, c comings) (lost []Receiver) {
	if a.due == nil || len(a.due) >= maxDue {
		if a.due != nil {
			lost = a.sessions
		}
		a.due = make(map[protocol.ChannelID]comings)
	}
	a.due[ch] = c
	return lost
}

func (h *Hub) enterLocked(a *audience, ch protocol.ChannelID) {
	delete(a.due, ch)
	if c := h.crowdOfLocked(protocol.Topic(ch)); c.in.Add(a.number) {
		a.crowds, _ = a.crowds.With(c.number)
	}
}

func (h *Hub) leaveLocked(a *audience, ch protocol.ChannelID) {
	c := h.topics[protocol.Topic(ch)]
	if c == nil {
		return
	}
	a.crowds, _ = a.crowds.Without(c.number)
	a.stamp = 0 // Whoever comes next may know that they are in it all the same.
	h.partLocked(c, a)
}

// crowdOfLocked returns those who hear of a topic, to put somebody among them.
func (h *Hub) crowdOfLocked(t protocol.Topic) *crowd {
	c := h.topics[t]
	if c == nil {
		c = &crowd{topic: t}
		c.number = h.crowds.Add(c)
		h.topics[t] = c
	}
	return c
}

// partLocked takes a user out of a crowd; the caller takes it out of theirs.
func (h *Hub) partLocked(c *crowd, a *audience) {
	if c.in.Remove(a.number) && c.in.Empty() {
		delete(h.topics, c.topic)
		h.crowds.Free(c.number)
	}
}

// crowdLocked goes through those who hear of a channel or a workspace. They must not change meanwhile.
func (h *Hub) crowdLocked(t protocol.Topic) iter.Seq[*audience] {
	return func(yield func(*audience) bool) {
		c := h.topics[t]
		if c == nil {
			return
		}
		for x := range c.in.All() {
			if !yield(h.audiences.At(x)) {
				return
			}
		}
	}
}

// inLocked reports whether a user hears of a channel.
func (h *Hub) inLocked(a *audience, ch protocol.ChannelID) bool {
	c := h.topics[protocol.Topic(ch)]
	return c != nil && c.in.Has(a.number)
}
