package bench

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"flannel/protocol"
)

// The busy day: what one person does in an hour of it. The figures are ours: 30 messages on a working day of which the
// busiest hour has a sixth, two reactions for five messages; who writes is seen typing once before; people read.
const (
	messagesPerHour = 5.0
	reactionsPer    = 0.4 // message
	typingPer       = 1.0 // message
	statusPerHour   = 0.3
	presencePerHour = 2.0  // of a listener: only who is connected comes and goes
	marksPerHour    = 12.0 // of a listener
	// presentShare is the share of people who are at work.
	presentShare = 0.6
	// talkExponent shapes how much is said where: the r-th largest channel has about r^-1 of the first.
	talkExponent = 1.0
)

// what people do.
const (
	doMessage  = "messages"
	doReaction = "reactions"
	doTyping   = "typing"
	doStatus   = "status changes"
	doPresence = "presence changes"
	doMark     = "marks"
)

// deed is one thing that somebody does.
type deed struct {
	at      time.Duration // of the replay
	what    string
	who     protocol.UserID
	channel protocol.ChannelID
	n       int // counts, for texts that differ
}

// day is the plan of the replay, the same for the same seed.
type day struct {
	target  *TrafficTarget
	rng     *rand.Rand
	weights []float64 // of Channels, summed up
	weight  map[protocol.ChannelID]float64
}

func newDay(t *TrafficTarget, opt TrafficOptions) *day {
	d := &day{
		target: t, rng: rand.New(rand.NewPCG(opt.Seed, uint64(t.Users))), //nolint:gosec // A load, not a secret.
		weight: make(map[protocol.ChannelID]float64),
	}
	sum := 0.0
	for i, ch := range t.Channels {
		// Large channels are busier, but not all of them.
		w := math.Pow(float64(i+1), -talkExponent) * (0.25 + 1.5*d.rng.Float64())
		sum += w
		d.weights, d.weight[ch.ID] = append(d.weights, sum), w
	}
	return d
}

// view picks what a listener has on the screen: their busiest conversations, for that is where people look.
func (d *day) view(l Listener, n int) []protocol.ChannelID {
	ids := slices.Clone(l.Channels)
	slices.SortFunc(ids, func(a, b protocol.ChannelID) int {
		switch wa, wb := d.weight[a], d.weight[b]; {
		case wa > wb:
			return -1
		case wa < wb:
			return 1
		}
		return 0
	})
	return ids[:min(n, len(ids))]
}

func (d *day) channel() *TrafficChannel {
	x := d.rng.Float64() * d.weights[len(d.weights)-1]
	i, _ := slices.BinarySearch(d.weights, x)
	return &d.target.Channels[min(i, len(d.weights)-1)]
}

// plan returns what happens, in order.
func (d *day) plan(opt TrafficOptions, typists []protocol.UserID, typing map[protocol.UserID][]protocol.ChannelID) []deed {
	hours := opt.Duration.Hours() * opt.Speed
	present := float64(d.target.Users) * presentShare
	var deeds []deed
	add := func(expected float64, what string, make func() deed) {
		for n := range d.poisson(expected) {
			it := make()
			it.at, it.what, it.n = time.Duration(d.rng.Float64()*float64(opt.Duration)), what, n
			deeds = append(deeds, it)
		}
	}
	somebody := func() deed {
		ch := d.channel()
		return deed{channel: ch.ID, who: ch.Members[d.rng.IntN(len(ch.Members))]}
	}
	listener := func() deed {
		l := d.target.Listeners[d.rng.IntN(len(d.target.Listeners))]
		return deed{who: l.ID, channel: l.Channels[d.rng.IntN(len(l.Channels))]}
	}
	messages := messagesPerHour * present * hours
	add(messages, doMessage, somebody)
	add(messages*reactionsPer, doReaction, somebody)
	add(statusPerHour*present*hours, doStatus, somebody)
	add(presencePerHour*float64(len(d.target.Listeners))*hours, doPresence, listener)
	add(marksPerHour*float64(len(d.target.Listeners))*hours, doMark, listener)
	if len(typists) > 0 {
		add(messages*typingPer, doTyping, func() deed {
			who := typists[d.rng.IntN(len(typists))]
			return deed{who: who, channel: typing[who][d.rng.IntN(len(typing[who]))]}
		})
	}
	slices.SortStableFunc(deeds, func(a, b deed) int { return int(a.at - b.at) })
	return deeds
}

// poisson returns a number of that mean; above 50 the normal distribution is near enough.
func (d *day) poisson(mean float64) int {
	if mean > 50 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*d.rng.NormFloat64())))
	}
	n, p, limit := 0, d.rng.Float64(), math.Exp(-mean)
	for p > limit {
		n++
		p *= d.rng.Float64()
	}
	return n
}
