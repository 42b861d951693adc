package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"flannel/client"
	"flannel/protocol"
)

// PassiveTarget is one large channel.
type PassiveTarget struct {
	Edge, Backend string
	Channel       protocol.ChannelID
	Members       []protocol.UserID // all of them
	Token         func(protocol.UserID) (string, error)
}

// PassiveOptions says how much is said there.
type PassiveOptions struct {
	Sessions  int
	PerSecond int // messages
	Duration  time.Duration
	Progress  func(phase string, done, total int)
}

// DefaultPassive is what the promise names.
func DefaultPassive() PassiveOptions {
	return PassiveOptions{Sessions: 50, PerSecond: 50, Duration: 20 * time.Second}
}

// PassiveFigures are what sessions hear that have the channel out of view.
type PassiveFigures struct {
	Members  int `json:"members"`
	Sessions int `json:"sessions"`
	// PerSecond is how many messages a second were said.
	PerSecond float64 `json:"messages_per_second"`
	// Badges is how many badges a session had in a second, in the mean, and BadgesMost of the session with the most.
	Badges     float64 `json:"badges_per_session_second"`
	BadgesMost float64 `json:"badges_per_session_second_most"`
	// ShortestGap is the shortest time between two badges of one session, in seconds.
	ShortestGap float64 `json:"shortest_gap_seconds"`
	// Messages counts events of the channel that came in full: none should.
	Messages int `json:"messages_in_full"`
	// BytesPerSecond is what a session costs, on the wire.
	BytesPerSecond float64 `json:"bytes_per_session_second"`
}

// heardBadges is what one session has heard.
type heardBadges struct {
	badges   int
	shortest time.Duration
	last     time.Time
	messages int
}

// Passive lets many messages be said in one channel and measures what sessions hear that look elsewhere.
func Passive(ctx context.Context, t PassiveTarget, opt PassiveOptions) (f PassiveFigures, err error) {
	if len(t.Members) < 2 {
		return f, errors.New("the channel has no members")
	}
	opt.Sessions = min(opt.Sessions, len(t.Members))
	a := newAudience(ModeThinViews)
	defer a.close()
	heard := make([]heardBadges, opt.Sessions)
	for i := range heard {
		token, err := t.Token(t.Members[i*len(t.Members)/opt.Sessions])
		if err != nil {
			return f, err
		}
		c, err := client.Dial(ctx, client.Options{URL: t.Edge, Token: token, View: []protocol.ChannelID{}, DialContext: a.dial, PingInterval: pingEvery})
		if err != nil {
			return f, fmt.Errorf("open a passive session: %w", err)
		}
		a.closer = append(a.closer, func() { c.Close() }) //nolint:errcheck // It waits, and that is all.
		a.work.Go(func() { heard[i].listen(a.life, c, t.Channel); a.ended(c.Err()) })
		if opt.Progress != nil {
			opt.Progress("open passive sessions", i+1, opt.Sessions)
		}
	}
	a.start()
	said, took, err := t.talk(ctx, opt)
	if err != nil {
		return f, err
	}
	sleep(ctx, time.Second+100*time.Millisecond) // The last badges.
	total := a.total()
	if err := a.err(); err != nil {
		return f, fmt.Errorf("a passive session has ended: %w", err)
	}
	a.close() // Nobody listens any more.

	f = PassiveFigures{Members: len(t.Members), Sessions: opt.Sessions, PerSecond: float64(said) / took.Seconds()}
	seconds := took.Seconds() + 1
	shortest := time.Duration(0)
	for _, h := range heard {
		rate := float64(h.badges) / seconds
		f.Badges += rate / float64(opt.Sessions)
		f.BadgesMost = max(f.BadgesMost, rate)
		f.Messages += h.messages
		if h.shortest > 0 && (shortest == 0 || h.shortest < shortest) {
			shortest = h.shortest
		}
	}
	f.ShortestGap = shortest.Seconds()
	sum := total.sent
	for _, n := range total.bytes {
		sum += n
	}
	f.BytesPerSecond = float64(sum) / seconds / float64(opt.Sessions)
	return f, nil
}

func (h *heardBadges) listen(ctx context.Context, c *client.Client, channel protocol.ChannelID) {
	for ev := range c.Events(ctx) {
		switch e := ev.Data.(type) {
		case *client.Badge:
			if e.Channel != channel {
				continue
			}
			now := time.Now()
			if gap := now.Sub(h.last); h.badges > 0 && (h.shortest == 0 || gap < h.shortest) {
				h.shortest = gap
			}
			h.badges, h.last = h.badges+1, now
		case *client.Message:
			if e.Channel == channel {
				h.messages++
			}
		}
	}
}

// talk says the messages, each at its time. It returns how many there were, and how long it took.
func (t *PassiveTarget) talk(ctx context.Context, opt PassiveOptions) (said int, took time.Duration, err error) {
	token, err := t.Token(t.Members[len(t.Members)/2])
	if err != nil {
		return 0, 0, err
	}
	call := newCaller(token)
	call.t.MaxIdleConnsPerHost = writers
	defer call.close()
	todo := make(chan int)
	errs := make(chan error, writers)
	var work sync.WaitGroup
	for range writers {
		work.Go(func() {
			var failed error
			for n := range todo {
				if failed != nil {
					continue // The others go on; the figure is for nothing anyway.
				}
				args := url.Values{"channel": {string(t.Channel)}, "text": {sentence(n)}}
				_, _, failed = call.call(ctx, t.Backend, "chat.postMessage", args)
			}
			errs <- failed
		})
	}
	began := time.Now()
	total := int(opt.Duration.Seconds() * float64(opt.PerSecond))
	for ; said < total && ctx.Err() == nil; said++ {
		sleep(ctx, time.Until(began.Add(time.Duration(said)*time.Second/time.Duration(opt.PerSecond))))
		todo <- said
		if opt.Progress != nil {
			opt.Progress("talk in a large channel", said+1, total)
		}
	}
	close(todo)
	work.Wait()
	took = time.Since(began)
	for range writers {
		err = errors.Join(err, <-errs)
	}
	return said, took, errors.Join(err, ctx.Err())
}
