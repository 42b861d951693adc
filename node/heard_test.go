package node

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"flannel/protocol"
)

// TestHeardIn_AgainstLiveDelivery: whatever comes and goes, and however far the user's own topic and the channel's are
// behind each other, what is told again is what a session would have heard live.
func TestHeardIn_AgainstLiveDelivery(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const user, ch = protocol.UserID("U1"), protocol.ChannelID("C1")
		in := rapid.Bool().Draw(t, "in")
		began := in
		var own, channel, want []*protocol.Event
		var states []bool // after each commit
		for p := range protocol.Position(rapid.IntRange(0, 20).Draw(t, "commits")) {
			p++
			switch what := rapid.IntRange(0, 3).Draw(t, "what"); {
			case what == 0:
				op := protocol.OpMemberAdded
				if in {
					op = protocol.OpMemberRemoved
				}
				e := protocol.Effect{Op: op, Channel: ch, User: user}
				own = append(own, &protocol.Event{Topic: protocol.Topic(user), Position: p, Effects: []protocol.Effect{e}})
				ev := &protocol.Event{Topic: protocol.Topic(ch), Position: p, Effects: []protocol.Effect{e}}
				channel, want = append(channel, ev), append(want, ev)
				in = !in
			case what == 1:
				channel = append(channel, &protocol.Event{Topic: protocol.Topic(ch), Position: p, Effects: []protocol.Effect{
					{Op: protocol.OpMemberAdded, Channel: ch, User: "U2"}, {Op: protocol.OpMemberRemoved, Channel: "C2", User: user},
				}})
			default:
				channel = append(channel, &protocol.Event{Topic: protocol.Topic(ch), Position: p})
			}
			if last := channel[len(channel)-1]; in && (len(want) == 0 || want[len(want)-1] != last) {
				want = append(want, last)
			}
			states = append(states, in)
		}
		// One of the topics is behind: its newest events have not come. What the channel has not told is no part of this.
		member := in
		if rapid.Bool().Draw(t, "behind") {
			k := rapid.IntRange(0, len(channel)).Draw(t, "channel events")
			for _, ev := range channel[k:] {
				want = slices.DeleteFunc(want, func(w *protocol.Event) bool { return w == ev })
			}
			channel = channel[:k]
		} else {
			k := rapid.IntRange(0, len(own)).Draw(t, "own events")
			own = own[:k]
			member = began
			if k > 0 {
				member = states[own[k-1].Position-1]
			}
		}
		if got := heardIn(ch, channel, user, moves(own, user), member); !slices.Equal(got, want) {
			t.Fatalf("heard %v, want %v", got, want)
		}
	})
}
