package bench

import (
	"cmp"
	"hash/crc32"
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
	// talkExponent shapes how much is said where: the r-th busiest conversation has about r^-1 of the first. Large channels
	// are busier, but only by the root of their size: the largest ones are for announcements.
	talkExponent = 1.0
	// authorExponent shapes who says it: a tenth of the people in a channel writes more than half of it.
	authorExponent = 4
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
	busy := make([]float64, len(t.Channels))
	order := make([]int, len(t.Channels))
	for i, ch := range t.Channels {
		busy[i], order[i] = math.Sqrt(float64(len(ch.Members)))*math.Exp(d.rng.NormFloat64()), i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(busy[b], busy[a]) })
	for rank, i := range order {
		d.weight[t.Channels[i].ID] = math.Pow(float64(rank+1), -talkExponent)
	}
	sum := 0.0
	for _, ch := range t.Channels {
		sum += d.weight[ch.ID]
		d.weights = append(d.weights, sum)
	}
	return d
}

// author picks who says something in a conversation: some people write a lot, other people in other ones.
func (d *day) author(ch *TrafficChannel) protocol.UserID {
	first := crc32.ChecksumIEEE([]byte(ch.ID))
	n := float64(len(ch.Members))
	return ch.Members[(int(first%uint32(n))+int(n*math.Pow(d.rng.Float64(), authorExponent)))%len(ch.Members)]
}

// view picks what a listener has on the screen, more likely where more is said.
func (d *day) view(l Listener, n int) []protocol.ChannelID {
	ids := slices.Clone(l.Channels)
	keys := make(map[protocol.ChannelID]float64, len(ids))
	for _, id := range ids {
		keys[id] = d.rng.ExpFloat64() / d.weight[id] // The smallest n of these are a weighted sample.
	}
	slices.SortFunc(ids, func(a, b protocol.ChannelID) int { return cmp.Compare(keys[a], keys[b]) })
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
		return deed{channel: ch.ID, who: d.author(ch)}
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
