package fanout

import (
	"errors"
	"iter"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"flannel/internal/numset"
	"flannel/protocol"
)

// Config bounds what the hub remembers for sessions that come back. What is older has to be asked of the backend.
type Config struct {
	// ReplayEvents bounds the events that are remembered.
	ReplayEvents int `koanf:"replay_events"`
	// ReplayBytes bounds their payloads and effects.
	ReplayBytes int `koanf:"replay_bytes"`
	// ReplayFor is how long an event is remembered.
	ReplayFor time.Duration `koanf:"replay_for"`
}

// Default returns the defaults.
func Default() Config {
	return Config{
		ReplayEvents: 200_000,         // 5 minutes of 600 events a second, which is a node of 15,000 busy sessions
		ReplayBytes:  128 << 20,       // 640 bytes an event, what messages were seen to need
		ReplayFor:    5 * time.Minute, // the promise of resume
	}
}

// Validate reports the first value that makes no sense.
func (c *Config) Validate() error {
	if c.ReplayEvents < 0 || c.ReplayBytes < 0 || c.ReplayFor < 0 {
		return errors.New("replay_events, replay_bytes and replay_for must not be below 0")
	}
	return nil
}

// Past is what was published of one topic above a position.
type Past struct {
	Topic protocol.Topic
	// Seq is the last event's; those after it are delivered live. 0 if the topic is not followed (yet): all that come will.
	Seq protocol.Seq
	// Last is that event's position, or the one from which the topic is followed.
	Last protocol.Position
	// Events in order, without those that have no place in the topic. Nobody may change them.
	Events []*protocol.Event
	// Whole: Events are all of them. If not, Events is nil: ask the backend.
	Whole bool
}

// replayLog remembers the latest events of the topics that are followed. It may be used from any goroutine.
type replayLog struct {
	config Config
	now    func() time.Time

	// applied is the position up to which everything of the topics that are not in catching was published.
	applied atomic.Uint64

	mu     sync.Mutex
	topics map[protocol.Topic]*topicLog
	// fifo has what is remembered, oldest first, from head on. bytes counts it.
	fifo  []remembered
	head  int
	bytes int
	// catching has the topics that were followed from below applied and have not caught up, with that position.
	catching map[protocol.Topic]protocol.Position
}

// topicLog has the events of one topic above from.
type topicLog struct {
	seq    protocol.Seq
	last   protocol.Position
	from   protocol.Position
	events []*protocol.Event
}

type remembered struct {
	topic *topicLog
	event *protocol.Event
	at    time.Time
	size  int
}

func newReplayLog(c Config, now func() time.Time) *replayLog {
	return &replayLog{config: c, now: now, topics: make(map[protocol.Topic]*topicLog), catching: make(map[protocol.Topic]protocol.Position)}
}

// Followed says that events of t above p come, seq being the last one up to p. node calls it before the cache hears of
// it, so that Behind knows of it in time.
func (h *Hub) Followed(t protocol.Topic, seq protocol.Seq, p protocol.Position) {
	if _, ok := protocol.PresenceOf(t); ok {
		return
	}
	l := h.log
	l.mu.Lock()
	defer l.mu.Unlock()
	l.topics[t] = &topicLog{seq: seq, last: p, from: p}
	if p < protocol.Position(l.applied.Load()) {
		l.catching[t] = p
	}
}

// Watermark says that everything up to p on the followed topics was published. It is called from Publish's goroutine.
func (h *Hub) Watermark(p protocol.Position) {
	l := h.log
	if uint64(p) > l.applied.Load() {
		l.applied.Store(uint64(p))
	}
	// After applied: whoever sees the new one sees at most too many topics that catch up.
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.catching)
	l.trimLocked()
}

// Applied returns the position up to which everything was published, but of topics that catch up.
func (h *Hub) Applied() protocol.Position { return protocol.Position(h.log.applied.Load()) }

// Behind lowers p, which was Applied, to the position up to which r was delivered everything: there may be topics that
// were followed from below it and have not caught up yet. A channel that is due is one of them, or is not even followed
// yet, and nobody is in it before it has told so.
func (h *Hub) Behind(r Receiver, p protocol.Position) protocol.Position {
	l := h.log
	h.mu.RLock()
	defer h.mu.RUnlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := h.sessions[r]
	if s == nil {
		return p
	}
	for _, c := range s.audience.due {
		p = min(p, max(c.first, 1)-1)
	}
	if len(l.catching) == 0 {
		return p
	}
	for t := range h.topicsLocked(s.audience) {
		if from, behind := l.catching[t]; behind {
			p = min(p, from)
		}
	}
	return p
}

// Past returns what was published of a topic above since.
func (h *Hub) Past(t protocol.Topic, since protocol.Position) Past {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	return h.log.pastLocked(t, since)
}

func (l *replayLog) pastLocked(t protocol.Topic, since protocol.Position) Past {
	log := l.topics[t]
	if log == nil {
		return Past{Topic: t}
	}
	past := Past{Topic: t, Seq: log.seq, Last: log.last}
	if since < log.from {
		return past
	}
	past.Whole = true
	i := sort.Search(len(log.events), func(i int) bool { return log.events[i].Position > since })
	past.Events = slices.Clone(log.events[i:])
	return past
}

// remember notes an event that is about to be delivered.
func (l *replayLog) remember(ev *protocol.Event) {
	if ev.Seq == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	log := l.topics[ev.Topic]
	if log == nil {
		return
	}
	log.seq, log.last = ev.Seq, ev.Position
	log.events = append(log.events, ev)
	entry := remembered{topic: log, event: ev, at: l.now(), size: eventSize(ev)}
	l.fifo = append(l.fifo, entry)
	l.bytes += entry.size
	l.trimLocked()
}

// eventSize estimates what remembering an event costs: what it was decoded from is about as large as its payload and
// the objects in its effects.
func eventSize(ev *protocol.Event) int {
	n := 256 + len(ev.Payload)
	for i := range ev.Effects {
		n += 256
		if o := ev.Effects[i].Object; o != nil {
			n += len(o.Body)
		}
	}
	return n
}

// follows reports whether events of a topic come.
func (l *replayLog) follows(t protocol.Topic) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.topics[t] != nil
}

// forget drops what is known of a topic.
func (l *replayLog) forget(t protocol.Topic) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if log := l.topics[t]; log != nil {
		log.events = nil // fifo's entries go in their time
		delete(l.topics, t)
		delete(l.catching, t)
	}
}

// trimLocked forgets the oldest events until the bounds hold.
func (l *replayLog) trimLocked() {
	oldest := l.now().Add(-l.config.ReplayFor)
	for l.head < len(l.fifo) {
		e := &l.fifo[l.head]
		if len(l.fifo)-l.head <= l.config.ReplayEvents && l.bytes <= l.config.ReplayBytes && e.at.After(oldest) {
			break
		}
		if log := e.topic; len(log.events) > 0 && log.events[0] == e.event {
			log.from = max(log.from, e.event.Position)
			log.events = log.events[1:]
			if len(log.events) == 0 {
				log.events = nil
			}
		}
		l.bytes -= e.size
		*e = remembered{}
		l.head++
	}
	if l.head > 1024 && l.head > len(l.fifo)/2 {
		l.fifo = append([]remembered(nil), l.fifo[l.head:]...)
		l.head = 0
	}
}

// AttachSince is Attach for a session that was served up to since elsewhere or before. It returns what it missed: the
// past of each topic that concerns it now, which nobody else tells. The two are one step: an event is either in the past
// or delivered. Who may hear what of a channel's past depends on when the user was in it, which only their own topic
// tells: that is the caller's business.
func (h *Hub) AttachSince(r Receiver, id protocol.Identity, now Now, since protocol.Position) (pasts []Past, ok bool) {
	h.doors.Lock()
	defer h.doors.Unlock()
	h.publishing.Lock()
	first, ok := h.attach(r, id, now)
	h.mu.RLock()
	h.log.mu.Lock()
	if s := h.sessions[r]; s != nil {
		for t := range h.topicsLocked(s.audience) {
			pasts = append(pasts, h.log.pastLocked(t, since))
		}
	}
	h.log.mu.Unlock()
	h.mu.RUnlock()
	h.publishing.Unlock()
	if first {
		h.presence.Report([]protocol.UserID{id.User}, nil)
	}
	return pasts, ok
}

// topicsLocked goes through the topics that concern a user: their own, their workspaces', their channels'.
func (h *Hub) topicsLocked(a *audience) iter.Seq[protocol.Topic] {
	return func(yield func(protocol.Topic) bool) {
		if !yield(protocol.Topic(a.user)) {
			return
		}
		for _, in := range [...]numset.List{a.crowds, a.spaces} {
			for x := range in.All() {
				if !yield(h.crowds.At(x).topic) {
					return
				}
			}
		}
	}
}

// joined is told of an event of a user's own topic that adds them to channels. As a rule the channel's own event comes
// after it. If it came before the user had a session, it put nobody into the channel: then that is done now, and what
// the channel told since is delivered. It wants publishing and is called when ev was delivered.
func (h *Hub) joined(ev *protocol.Event) {
	user := protocol.UserID(ev.Topic)
	for i := range ev.Effects {
		e := &ev.Effects[i]
		if e.Op != protocol.OpMemberAdded && e.Op != protocol.OpMemberRemoved {
			continue
		}
		h.mu.Lock()
		a := h.users[user]
		if a == nil {
			h.mu.Unlock()
			return
		}
		in := h.inLocked(a, e.Channel)
		c, due := a.due[e.Channel]
		if e.Op == protocol.OpMemberAdded {
			delete(a.due, e.Channel)
		} // Else what the channel is still to tell, of the time before, stays due: should that be lost, they must hear so.
		came, heard := a.came[e.Channel]
		heard = heard && came >= ev.Position // The channel has told it all, and perhaps that they went again.
		if came <= ev.Position {
			delete(a.came, e.Channel)
		}
		if e.Op == protocol.OpMemberRemoved || in || heard {
			h.mu.Unlock()
			continue
		}
		h.log.mu.Lock()
		log := h.log.topics[protocol.Topic(e.Channel)]
		if log == nil || log.last < ev.Position {
			h.log.mu.Unlock()
			if !due {
				c.first = ev.Position
			}
			c.last = ev.Position
			lost := a.dueLocked(e.Channel, c)
			h.mu.Unlock()
			for _, r := range lost {
				h.lost(r)
			}
			continue
		}
		past := h.log.pastLocked(protocol.Topic(e.Channel), max(ev.Position, 1)-1)
		h.log.mu.Unlock()
		if !past.Whole {
			h.enterLocked(a, e.Channel)
		} else if events, in := span(past.Events, user, e.Channel); in {
			past.Events = events
			h.enterLocked(a, e.Channel)
		} else {
			past.Events = events // In and out again.
		}
		sessions := a.sessions
		h.mu.Unlock()
		for _, r := range sessions {
			if !past.Whole {
				h.lost(r)
				continue
			}
			for _, missed := range past.Events {
				if len(missed.Payload) > 0 && missed.Except != user {
					r.Deliver(&Frame{Event: missed})
				}
			}
		}
	}
}

// span returns those of a channel's events, in order, that a user hears who comes in with the first of them, and whether
// they are in after the last one.
func span(events []*protocol.Event, user protocol.UserID, ch protocol.ChannelID) (heard []*protocol.Event, in bool) {
	in = true
	for _, ev := range events {
		for i := range ev.Effects {
			if e := &ev.Effects[i]; e.Op == protocol.OpMemberAdded && e.User == user && e.Channel == ch {
				in = true
			}
		}
		if in {
			heard = append(heard, ev)
		}
		if removes(ev, user, ch) {
			in = false
		}
	}
	return heard, in
}

// removes reports whether an event takes a user out of a channel.
func removes(ev *protocol.Event, user protocol.UserID, ch protocol.ChannelID) bool {
	return slices.ContainsFunc(ev.Effects, func(e protocol.Effect) bool {
		return e.Op == protocol.OpMemberRemoved && e.User == user && e.Channel == ch
	})
}
