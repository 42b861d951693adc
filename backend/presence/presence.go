// Package presence knows who is active: a user with at least one connection, on any edge or straight on the backend, who
// has not set themself away and has not been idle for half an hour. Connections come and go through Sources: one for each
// edge's stream, which reports users, and one for each RTM socket.
//
// The first connection makes a user active at once. The last one that goes makes them away only after a delay, because
// most are back within it: reconnects, edges that restart. Who does nothing (Touch) is away until they do something.
// Changes are published as ephemeral events on the user's presence topic, in order.
//
// Lock order: Presence.mu, then the publisher's. Run is the only goroutine and belongs to the caller.
package presence

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"flannel/backend/store"
	"flannel/protocol"
)

// DefaultDelay is how long a user without connections stays active.
const DefaultDelay = 15 * time.Second

// DefaultIdle is how long a user who does nothing stays active: the dialect's auto-away.
const DefaultIdle = 30 * time.Minute

// MaxUsers bounds how many users one source may report present: far above what an edge holds.
const MaxUsers = 1_000_000

// Publisher publishes the state of a topic; keep is false for what Initial says anyway.
type Publisher interface {
	SetState(ev *protocol.Event, keep bool)
}

// Options are what presence is made of. All are needed.
type Options struct {
	Store      store.Store
	Publisher  Publisher
	Delay      time.Duration // of being away after the last connection has gone
	Idle       time.Duration // that makes a user away; 0 for never
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// Presence is safe for concurrent use.
type Presence struct {
	store     store.Store
	publisher Publisher
	delay     time.Duration
	idle      time.Duration
	now       func() time.Time
	changes   prometheus.Counter
	// wake, capacity 1: somebody is leaving. Never closed.
	wake chan struct{}

	mu sync.Mutex
	// users who are connected or were within the delay.
	users map[protocol.UserID]*user
	// leaving in order of their deadlines, which the constant delay makes the order in which they left.
	leaving []departure
	// manual counts the calls of SetManual, so that a read of the store that one overtook is noticed.
	manual int
}

type user struct {
	sources int  // that have the user present
	away    bool // by their own word
	idle    bool // they did nothing since seen
	// departures counts how often the last connection went; a departure in the queue that is not the last is void.
	departures int
	seen       time.Time // when they last did something, or came
}

type departure struct {
	user     protocol.UserID
	number   int
	deadline time.Time
}

// New returns presence without anybody.
func New(o Options) *Presence {
	p := &Presence{
		store: o.Store, publisher: o.Publisher, delay: o.Delay, idle: o.Idle, now: o.Now, wake: make(chan struct{}, 1), users: make(map[protocol.UserID]*user),
	}
	f := promauto.With(o.Registerer)
	p.changes = f.NewCounter(prometheus.CounterOpts{Name: "flannel_backend_presence_changes_total", Help: "Changes of presence that were published."})
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "flannel_backend_present_users", Help: "Users with a connection, or with one within the delay."}, func() float64 {
		p.mu.Lock()
		defer p.mu.Unlock()
		return float64(len(p.users))
	})
	return p
}

// Initial returns the event that says that a user is away, for presence topics without a state; nil for other topics.
func Initial(topic protocol.Topic) *protocol.Event {
	id, ok := protocol.PresenceOf(topic)
	if !ok {
		return nil
	}
	return event(id, protocol.Away)
}

func event(id protocol.UserID, state protocol.Presence) *protocol.Event {
	return &protocol.Event{
		Topic: protocol.PresenceTopic(id), Type: protocol.FramePresenceChange, Class: protocol.ClassEphemeral,
		Payload: protocol.MustMarshal(protocol.PresenceChange{Type: protocol.FramePresenceChange, Presence: state, User: id}),
	}
}

// Run makes users away when their delay is over, or when they are idle. It returns when ctx ends.
func (p *Presence) Run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		if next, ok := p.expire(); ok {
			timer.Reset(next)
		} else {
			timer.Stop()
		}
		select {
		case <-timer.C:
		case <-sweep.C:
			p.sweep()
		case <-p.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// expire handles the departures whose time has come and returns how long it is to the next.
func (p *Presence) expire() (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.leaving) > 0 {
		d := p.leaving[0]
		if left := d.deadline.Sub(p.now()); left > 0 {
			return left, true
		}
		p.leaving = p.leaving[1:]
		u := p.users[d.user]
		if u == nil || u.sources > 0 || u.departures != d.number {
			continue
		}
		delete(p.users, d.user)
		if u.presence() == protocol.Active {
			p.publish(d.user, protocol.Away)
		}
	}
	p.leaving = nil
	return 0, false
}

// publish is called under mu, so that events of one user come in order.
func (p *Presence) publish(id protocol.UserID, state protocol.Presence) {
	p.changes.Inc()
	p.publisher.SetState(event(id, state), state == protocol.Active)
}

// Status is what is known of one user's presence.
type Status struct {
	Presence     protocol.Presence
	Online       bool
	AutoAway     bool
	ManualAway   bool
	Connections  int
	LastActivity time.Time // zero if unknown
}

// Status returns a user's presence. ManualAway is only known of users who are online.
func (p *Presence) Status(id protocol.UserID) Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.users[id]
	if u == nil {
		return Status{Presence: protocol.Away}
	}
	return Status{Presence: u.presence(), Online: u.sources > 0, AutoAway: u.idle, ManualAway: u.away, Connections: u.sources, LastActivity: u.seen}
}

func (u *user) presence() protocol.Presence {
	if u.away || u.idle {
		return protocol.Away
	}
	return protocol.Active
}

// SetManual tells that the user set themself away or took that back. The store has it already.
func (p *Presence) SetManual(id protocol.UserID, away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.manual++
	u := p.users[id]
	if u == nil || u.away == away {
		return
	}
	p.change(id, u, func() { u.away = away })
}

// change does something to a user and publishes what comes of it; mu is held.
func (p *Presence) change(id protocol.UserID, u *user, do func()) {
	was := u.presence()
	do()
	if now := u.presence(); now != was {
		p.publish(id, now)
	}
}

// Source is where connections come from. It is safe for concurrent use.
type Source struct {
	p *Presence
	// present and closed are guarded by p.mu.
	present map[protocol.UserID]struct{}
	closed  bool
}

// Source returns a source without users.
func (p *Presence) Source() *Source {
	return &Source{p: p, present: make(map[protocol.UserID]struct{})}
}

// Report says who has connections now and who has none any more. Users it does not name stay as they were. An error is
// the store's; nothing has changed then.
func (s *Source) Report(ctx context.Context, present, absent []protocol.UserID) error {
	p := s.p
	for {
		p.mu.Lock()
		seen := p.manual
		var unknown []protocol.UserID
		for _, id := range present {
			if p.users[id] == nil {
				unknown = append(unknown, id)
			}
		}
		p.mu.Unlock()
		away, err := p.manuallyAway(ctx, unknown)
		if err != nil {
			return err
		}
		if s.apply(present, absent, away, seen) {
			return nil
		}
	}
}

// manuallyAway reads who of users set themself away.
func (p *Presence) manuallyAway(ctx context.Context, users []protocol.UserID) (map[protocol.UserID]bool, error) {
	if len(users) == 0 {
		return nil, nil
	}
	away := make(map[protocol.UserID]bool)
	err := p.store.View(ctx, func(r store.Reader) error {
		for _, id := range users {
			set, err := r.ManualAway(id)
			if err != nil {
				return err
			}
			away[id] = set
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read manual presence: %w", err)
	}
	return away, nil
}

// apply returns false if somebody set their presence since away was read, or if a user left meanwhile.
func (s *Source) apply(present, absent []protocol.UserID, away map[protocol.UserID]bool, seen int) bool {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.closed {
		return true
	}
	if p.manual != seen && len(away) > 0 {
		return false
	}
	for _, id := range present {
		if _, known := away[id]; p.users[id] == nil && !known {
			return false
		}
	}
	for _, id := range present {
		u := p.users[id]
		// Who is named again, or comes on another device, is there. Who is back from a lost connection was brought back
		// by their program.
		if u != nil && u.sources > 0 {
			p.touch(id, u)
		}
		if _, ok := s.present[id]; ok || len(s.present) >= MaxUsers {
			continue
		}
		s.present[id] = struct{}{}
		if u == nil {
			u = &user{away: away[id], seen: p.now()}
			p.users[id] = u
			if !u.away {
				p.publish(id, protocol.Active)
			}
		}
		u.sources++
	}
	for _, id := range absent {
		s.leaveLocked(id)
	}
	return true
}

// leaveLocked takes the user from the source and starts the delay if that was the last.
func (s *Source) leaveLocked(id protocol.UserID) {
	if _, ok := s.present[id]; !ok {
		return
	}
	delete(s.present, id)
	p := s.p
	u := p.users[id]
	u.sources--
	if u.sources > 0 {
		return
	}
	u.departures++
	p.leaving = append(p.leaving, departure{user: id, number: u.departures, deadline: p.now().Add(p.delay)})
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Close says that none of the source's users is connected through it any more.
func (s *Source) Close() {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.closed = true
	for id := range s.present {
		s.leaveLocked(id)
	}
}
