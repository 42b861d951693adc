package visibility

import (
	"encoding/json"
	"regexp"
	"slices"
	"sort"

	"flannel/backend/store"
	"flannel/protocol"
)

// ledger has what was where at every position: the rows of the store at the beginning, and its log since. It is brought
// up to date when all is quiet, by one goroutine; rows_test.go holds it against the rows again.
type ledger struct {
	w *world
	// start and head bound the positions that it tells of.
	start, head protocol.Position
	users       map[protocol.UserID][]userState
	channels    map[protocol.ChannelID][]channelState
	// places has, for each channel and user, the spans in which the user was in it.
	places map[protocol.ChannelID]map[protocol.UserID][]span
	// turns has each channel's comings and goings by seq of the channel's own topic.
	turns map[protocol.ChannelID][]turn
	// in lists the channels that a user was ever in.
	in map[protocol.UserID][]protocol.ChannelID
	// kept has the spans in which emoji and usergroups exist.
	kept map[protocol.ObjectID][]span
	// revoked has the positions at which tokens died.
	revoked map[string]protocol.Position
	// born tells when a secret was first told to anybody.
	born map[string]protocol.Position
	// named tells whose a channel name is.
	named map[string]protocol.ChannelID
	// events by what clients get, and by their place.
	said   map[string][]*protocol.Event
	events []*protocol.Event
}

type userState struct {
	since   protocol.Position
	team    protocol.WorkspaceID
	org     protocol.EnterpriseID
	role    protocol.Role
	deleted bool
}

type channelState struct {
	since  protocol.Position
	owner  protocol.WorkspaceID
	typ    protocol.ChannelType
	shared []protocol.WorkspaceID
	name   string
	closed bool // archived
}

// span is from a position up to before another; until 0 is for ever.
type span struct{ from, until protocol.Position }

func (s span) has(p protocol.Position) bool { return s.from <= p && (s.until == 0 || p < s.until) }

// turn is somebody's coming into a channel or going from it.
type turn struct {
	seq  protocol.Seq
	user protocol.UserID
	in   bool
}

func newLedger(w *world) *ledger {
	l := &ledger{
		w: w, users: make(map[protocol.UserID][]userState), channels: make(map[protocol.ChannelID][]channelState),
		places: make(map[protocol.ChannelID]map[protocol.UserID][]span), turns: make(map[protocol.ChannelID][]turn),
		in: make(map[protocol.UserID][]protocol.ChannelID), kept: make(map[protocol.ObjectID][]span), revoked: make(map[string]protocol.Position),
		born: make(map[string]protocol.Position), named: make(map[string]protocol.ChannelID), said: make(map[string][]*protocol.Event),
	}
	err := w.back.Store().View(w.t.Context(), func(r store.Reader) (err error) {
		if l.start, err = r.Position(); err != nil {
			return err
		}
		l.head = l.start
		for _, team := range workspaces {
			for _, kind := range protocol.Kinds {
				if err := r.EachObject(team, kind, func(o *protocol.Object) error { l.object(o, l.start); return nil }); err != nil {
					return err
				}
			}
			err := r.EachMembership(team, func(ch protocol.ChannelID, u protocol.UserID) error { l.come(ch, u, l.start); return nil })
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

// update reads the log on.
func (l *ledger) update() {
	err := l.w.back.Store().View(l.w.t.Context(), func(r store.Reader) error {
		for {
			events, err := r.Events(l.head, 1000)
			if err != nil || len(events) == 0 {
				return err
			}
			for _, ev := range events {
				l.event(ev)
			}
		}
	})
	if err != nil {
		l.w.t.Fatal(err)
	}
}

// event enters one event. Of where people are only the channel's own topic is asked.
func (l *ledger) event(ev *protocol.Event) {
	l.head = ev.Position
	l.events = append(l.events, ev)
	if len(ev.Payload) > 0 {
		l.said[string(ev.Payload)] = append(l.said[string(ev.Payload)], ev)
		l.learn(ev.Payload, ev.Position)
	}
	for i := range ev.Effects {
		switch e := &ev.Effects[i]; e.Op {
		case protocol.OpUpsert:
			l.object(e.Object, ev.Position)
		case protocol.OpTombstone:
			l.bury(e.ID, ev.Position)
		case protocol.OpMemberAdded, protocol.OpMemberRemoved:
			if protocol.Topic(e.Channel) != ev.Topic {
				continue
			}
			l.turns[e.Channel] = append(l.turns[e.Channel], turn{ev.Seq, e.User, e.Op == protocol.OpMemberAdded})
			if e.Op == protocol.OpMemberAdded {
				l.come(e.Channel, e.User, ev.Position)
			} else {
				l.go_(e.Channel, e.User, ev.Position)
			}
		case protocol.OpRevoked:
			if e.Token != "" {
				l.revoked[e.Token] = ev.Position
			}
		}
	}
}

var (
	secrets = regexp.MustCompile(`\b(us|ch|ms|em|ug|te|bo|pr)~([A-Z0-9]+)\.\d+~`)
	names   = regexp.MustCompile(`\bzz-\d+-zz\b`)
)

// learn notes what is told for the first time.
func (l *ledger) learn(body []byte, at protocol.Position) {
	for _, s := range secrets.FindAll(body, -1) {
		if _, known := l.born[string(s)]; !known {
			l.born[string(s)] = at
		}
	}
	for _, s := range names.FindAll(body, -1) {
		if _, known := l.born[string(s)]; !known {
			l.born[string(s)] = at
		}
	}
}

func (l *ledger) object(o *protocol.Object, at protocol.Position) {
	l.learn(o.Body, at)
	decode := func(into any) {
		if err := json.Unmarshal(o.Body, into); err != nil {
			l.w.t.Fatalf("object %s: %v", o.ID, err)
		}
	}
	switch o.Kind {
	case protocol.KindUser:
		var u protocol.User
		decode(&u)
		l.users[u.ID] = append(l.users[u.ID], userState{at, u.TeamID, u.EnterpriseID, u.Role(), u.Deleted})
	case protocol.KindChannel:
		var c protocol.Channel
		decode(&c)
		l.channels[c.ID] = append(l.channels[c.ID], channelState{at, c.ContextTeamID, c.Type(), c.SharedTeamIDs, c.Name, c.IsArchived})
		if c.Name != "" {
			l.named[c.Name] = c.ID
		}
	case protocol.KindEmoji, protocol.KindUsergroup:
		if s := l.kept[o.ID]; len(s) == 0 || s[len(s)-1].until != 0 {
			l.kept[o.ID] = append(s, span{from: at})
		}
	}
}

func (l *ledger) bury(id protocol.ObjectID, at protocol.Position) {
	if s := l.kept[id]; len(s) > 0 {
		s[len(s)-1].until = at
	}
}

func (l *ledger) come(ch protocol.ChannelID, u protocol.UserID, at protocol.Position) {
	if l.places[ch] == nil {
		l.places[ch] = make(map[protocol.UserID][]span)
	}
	spans := l.places[ch][u]
	if len(spans) > 0 && spans[len(spans)-1].until == 0 {
		l.w.t.Fatalf("%s comes into %s twice", u, ch)
	}
	if len(spans) == 0 {
		l.in[u] = append(l.in[u], ch)
	}
	l.places[ch][u] = append(spans, span{from: at})
}

func (l *ledger) go_(ch protocol.ChannelID, u protocol.UserID, at protocol.Position) {
	spans := l.places[ch][u]
	if len(spans) == 0 || spans[len(spans)-1].until != 0 {
		l.w.t.Fatalf("%s goes from %s and is not there", u, ch)
	}
	spans[len(spans)-1].until = at
}

// member reports whether somebody was in a channel at a position.
func (l *ledger) member(ch protocol.ChannelID, u protocol.UserID, p protocol.Position) bool {
	return slices.ContainsFunc(l.places[ch][u], func(s span) bool { return s.has(p) })
}

// wasMember reports whether somebody had been in a channel and is not at p.
func (l *ledger) wasMember(ch protocol.ChannelID, u protocol.UserID, p protocol.Position) bool {
	return !l.member(ch, u, p) && slices.ContainsFunc(l.places[ch][u], func(s span) bool { return s.from <= p })
}

// membersAt lists who is in a channel, in order.
func (l *ledger) membersAt(ch protocol.ChannelID, p protocol.Position) []protocol.UserID {
	var users []protocol.UserID
	for u := range l.places[ch] {
		if l.member(ch, u, p) {
			users = append(users, u)
		}
	}
	slices.Sort(users)
	return users
}

// hears reports whether somebody hears an event of a channel: they were in it before, by what the channel's topic has
// said up to there, or this event puts them in.
func (l *ledger) hears(u protocol.UserID, ev *protocol.Event) bool {
	ch := protocol.ChannelID(ev.Topic)
	in := l.member(ch, u, l.start)
	for _, t := range l.turns[ch] {
		if t.user != u {
			continue
		}
		if t.seq == ev.Seq {
			return true
		}
		if t.seq > ev.Seq {
			break
		}
		in = t.in
	}
	return in
}

func (l *ledger) user(u protocol.UserID, p protocol.Position) (userState, bool) {
	states := l.users[u]
	i := sort.Search(len(states), func(i int) bool { return states[i].since > p })
	if i == 0 {
		return userState{}, false
	}
	return states[i-1], true
}

func (l *ledger) channel(ch protocol.ChannelID, p protocol.Position) (channelState, bool) {
	states := l.channels[ch]
	i := sort.Search(len(states), func(i int) bool { return states[i].since > p })
	if i == 0 {
		return channelState{}, false
	}
	return states[i-1], true
}

// nameOf is what a channel is called now, "" for a direct message.
func (l *ledger) nameOf(ch protocol.ChannelID) string {
	c, _ := l.channel(ch, l.head)
	return c.name
}
