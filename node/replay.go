package node

import (
	"cmp"
	"context"
	"slices"

	"flannel/fanout"
	"flannel/protocol"
)

// Bounds on what one session is told again: a client that missed more is better off fetching what is on its screen.
const (
	maxReplayEvents = 5000
	maxReplayBytes  = 4 << 20
)

// missed is what a session is told that comes back: events in the order in which they are to be told, and the topics
// whose events since are not known any more. all: there is more than it makes sense to tell, or nothing is known.
type missed struct {
	events []*protocol.Event
	gone   []protocol.Topic
	all    bool
	// told has the last of events of each channel that the user is not in.
	told map[protocol.Topic]protocol.Seq
}

// backlog collects the past of topics for one session, from the hub's memory where that reaches back, else from the
// backend.
type backlog struct {
	n     *Node
	user  protocol.UserID
	since protocol.Position
	past  map[protocol.Topic][]*protocol.Event
	gone  map[protocol.Topic]bool
}

// missedBy finds out what a session missed above since. pasts is what the hub knows of the topics that concern it now,
// left the channels that it is not in any more as far as the cache knows.
func (n *Node) missedBy(ctx context.Context, id protocol.Identity, role protocol.Role, since protocol.Position, pasts []fanout.Past, left []protocol.ChannelID) (missed, error) {
	b := backlog{n: n, user: id.User, since: since, past: make(map[protocol.Topic][]*protocol.Event), gone: make(map[protocol.Topic]bool)}
	now := make(map[protocol.Topic]bool, len(pasts))
	for i := range pasts {
		now[pasts[i].Topic] = true
	}
	if err := b.collect(ctx, pasts); err != nil {
		return missed{}, err
	}
	own := protocol.Topic(id.User)
	if b.gone[own] {
		return missed{all: true}, nil // Nobody can tell which channels the user was in meanwhile.
	}
	// Only now is it known which other channels the user was in.
	for _, m := range moves(b.past[own], id.User) {
		left = append(left, m.channel)
	}
	slices.Sort(left)
	left = slices.DeleteFunc(slices.Compact(left), func(ch protocol.ChannelID) bool { return now[protocol.Topic(ch)] })
	if len(left) == 0 {
		return b.compose(role, now), nil
	}
	// The user's own topic may have told of a going that the channel's has not told yet. Nobody will tell what stands before
	// it live, for the user is not in the channel any more.
	told := slices.IndexFunc(pasts, func(p fanout.Past) bool { return p.Topic == own })
	if told < 0 || !n.reaches(ctx, pasts[told].Last) {
		return missed{all: true}, nil
	}
	former := make([]fanout.Past, len(left))
	for i, ch := range left {
		former[i] = b.former(protocol.Topic(ch))
	}
	if err := b.collect(ctx, former); err != nil {
		return missed{}, err
	}
	return b.compose(role, now), nil
}

// former returns the past of a channel that the user is not in now: all of it, however far it goes. The user's own topic
// may be behind the channel's, so that the hub tells of a coming and going again: missed says up to where it is told here.
func (b *backlog) former(t protocol.Topic) fanout.Past {
	past := b.n.hub.Past(t, b.since)
	past.Seq = ^protocol.Seq(0)
	return past
}

// collect adds topics to the backlog, asking the backend for what is not whole.
func (b *backlog) collect(ctx context.Context, pasts []fanout.Past) error {
	var ask []protocol.TopicState
	var atLeast protocol.Position
	upTo := make(map[protocol.Topic]*fanout.Past)
	for i := range pasts {
		p := &pasts[i]
		switch {
		case p.Whole:
			b.past[p.Topic] = p.Events
		case p.Seq == 0 && p.Last == 0: // Not followed yet: what there is will be told live.
		default:
			ask = append(ask, protocol.TopicState{Topic: p.Topic, Position: &b.since})
			upTo[p.Topic] = p
			atLeast = max(atLeast, p.Last)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	answer, err := b.n.upstream.Replay(ctx, ask, max(atLeast, b.n.hub.Applied()))
	if err != nil {
		return err
	}
	for t := range upTo {
		b.past[t] = nil
	}
	for _, t := range answer.Gone {
		b.gone[t] = true
	}
	for _, ev := range answer.Events {
		// What is above will be told live. A topic that was reset knows no seq before its next event.
		if p := upTo[ev.Topic]; ev.Seq <= p.Seq || p.Seq == 0 && ev.Position <= p.Last {
			b.past[ev.Topic] = append(b.past[ev.Topic], ev)
		}
	}
	return nil
}

// compose puts together what the user may hear of the backlog.
func (b *backlog) compose(role protocol.Role, now map[protocol.Topic]bool) missed {
	var m missed
	own := moves(b.past[protocol.Topic(b.user)], b.user)
	for t, events := range b.past {
		if b.gone[t] {
			continue
		}
		switch protocol.KindOf(protocol.ObjectID(t)) {
		case protocol.KindChannel:
			events = heardIn(protocol.ChannelID(t), events, b.user, own, now[t])
			if !now[t] && len(events) > 0 {
				if m.told == nil {
					m.told = make(map[protocol.Topic]protocol.Seq)
				}
				m.told[t] = events[len(events)-1].Seq
			}
		case protocol.KindWorkspace:
			if !role.Full() {
				events = slices.DeleteFunc(slices.Clone(events), func(ev *protocol.Event) bool { return !b.n.query.Allow(b.user, ev) })
			}
		}
		for _, ev := range events {
			if len(ev.Payload) > 0 && ev.Except != b.user {
				m.events = append(m.events, ev)
			}
		}
	}
	for t := range b.gone {
		m.gone = append(m.gone, t)
	}
	slices.Sort(m.gone)
	size := 0
	for _, ev := range m.events {
		size += len(ev.Payload)
	}
	if len(m.events) > maxReplayEvents || size > maxReplayBytes {
		return missed{all: true}
	}
	// The order within a topic is that of positions; events of one commit on one topic stand in order already.
	slices.SortStableFunc(m.events, func(a, b *protocol.Event) int { return cmp.Compare(a.Position, b.Position) })
	return m
}
