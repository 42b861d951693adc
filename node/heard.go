package node

import (
	"cmp"
	"slices"

	"flannel/protocol"
)

// move is a user's coming into a channel or going from it.
type move struct {
	channel  protocol.ChannelID
	position protocol.Position
	in       bool
}

// moves returns what events say of a user's channels, in order.
func moves(events []*protocol.Event, user protocol.UserID) []move {
	var list []move
	for _, ev := range events {
		for i := range ev.Effects {
			e := &ev.Effects[i]
			if who := cmp.Or(e.User, protocol.UserID(ev.Topic)); who != user {
				continue
			}
			switch e.Op {
			case protocol.OpMemberAdded:
				list = append(list, move{e.Channel, ev.Position, true})
			case protocol.OpMemberRemoved:
				list = append(list, move{e.Channel, ev.Position, false})
			}
		}
	}
	return list
}

// heardIn returns those of a channel's events, in order, that a user was in the channel for. Both the channel's topic and
// the user's own tell of coming and going, and each may be behind the other; member says whether they are in it now. As
// live, who comes hears the event that says so, and who goes hears it too and nothing after it.
func heardIn(ch protocol.ChannelID, events []*protocol.Event, user protocol.UserID, own []move, member bool) []*protocol.Event {
	var turns []move
	for _, m := range append(slices.Clone(own), moves(events, user)...) {
		if m.channel == ch {
			turns = append(turns, m)
		}
	}
	slices.SortStableFunc(turns, func(a, b move) int { return cmp.Compare(a.position, b.position) })
	in := member
	if len(turns) > 0 {
		in = !turns[0].in
	}
	var heard []*protocol.Event
	for _, ev := range events {
		for len(turns) > 0 && (turns[0].position < ev.Position || turns[0].position == ev.Position && turns[0].in) {
			in = turns[0].in
			turns = turns[1:]
		}
		if in {
			heard = append(heard, ev)
		}
		if slices.ContainsFunc(moves([]*protocol.Event{ev}, user), func(m move) bool { return m.channel == ch && !m.in }) {
			in = false
		}
	}
	return heard
}
