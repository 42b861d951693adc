package upstream

import (
	"context"
	"slices"
	"sync"
	"testing"

	"flannel/protocol"
)

// checker is a Sink that knows the rules of Sink and complains when one is broken.
type checker struct {
	t testing.TB
	f *fake // whose log tells what should have come; nil to check less

	calls sync.Mutex // held during a call: two at once would be two goroutines

	mu       sync.Mutex
	topics   map[protocol.Topic]*checked
	events   int
	others   []*protocol.Event // ephemeral ones
	mark     protocol.Position
	marks    int
	live     bool
	lives    []bool
	resets   int
	unfollow int
	longest  int // run of events in one go; owned by the sink's caller
	// onEvent and onFollowed are called without mu.
	onEvent    func(ev *protocol.Event)
	onFollowed func(t protocol.Topic)
}

// checked is what the checker knows of a followed topic.
type checked struct {
	seq      protocol.Seq // of the last event
	position protocol.Position
	start    protocol.Seq
	got      []protocol.Seq
	resets   []protocol.Position
	follows  int
	anySeq   bool // a reset does not tell the seq that it goes on from
}

func newChecker(t testing.TB, f *fake) *checker {
	return &checker{t: t, f: f, topics: make(map[protocol.Topic]*checked)}
}

func (c *checker) enter() func() {
	if !c.calls.TryLock() {
		c.t.Error("the sink was called from two goroutines")
		return func() {}
	}
	c.mu.Lock()
	return func() {
		c.mu.Unlock()
		c.calls.Unlock()
	}
}

func (c *checker) Events(run []*protocol.Event) {
	for _, ev := range run[1:] {
		if !together(run[0], ev) {
			c.t.Errorf("%s of %s comes with %s of %s", ev.Type, ev.Topic, run[0].Type, run[0].Topic)
		}
	}
	c.longest = max(c.longest, len(run))
	for _, ev := range run {
		c.event(ev)
	}
}

func (c *checker) event(ev *protocol.Event) {
	func() {
		defer c.enter()()
		c.events++
		s := c.topics[ev.Topic]
		switch {
		case s == nil:
			c.t.Errorf("event %d of %s, which is not followed", ev.Seq, ev.Topic)
		case ev.Seq == 0:
			c.others = append(c.others, ev)
		case s.anySeq && ev.Seq > s.seq:
			s.anySeq, s.seq, s.position = false, ev.Seq, ev.Position
			s.got = append(s.got, ev.Seq)
		case ev.Seq != s.seq+1:
			c.t.Errorf("event %d of %s after %d", ev.Seq, ev.Topic, s.seq)
		case ev.Position < s.position:
			c.t.Errorf("event at %d of %s after %d", ev.Position, ev.Topic, s.position)
		default:
			s.seq, s.position = ev.Seq, ev.Position
			s.got = append(s.got, ev.Seq)
		}
	}()
	if c.onEvent != nil {
		c.onEvent(ev)
	}
}

func (c *checker) Followed(t protocol.Topic, seq protocol.Seq, p protocol.Position) {
	func() {
		defer c.enter()()
		s := c.topics[t]
		if s == nil {
			c.topics[t] = &checked{seq: seq, start: seq, position: p, follows: 1}
			return
		}
		s.follows++
		if seq != s.seq && !s.anySeq {
			// A reset follows; check that it does when the next event comes.
			s.anySeq = true
			s.seq = seq
		}
	}()
	if c.onFollowed != nil {
		c.onFollowed(t)
	}
}

func (c *checker) Reset(t protocol.Topic, p protocol.Position) {
	defer c.enter()()
	c.resets++
	s := c.topics[t]
	if s == nil {
		c.t.Errorf("reset of %s, which is not followed", t)
		return
	}
	s.resets = append(s.resets, p)
	s.anySeq = true
}

func (c *checker) Unfollowed(t protocol.Topic) {
	defer c.enter()()
	c.unfollow++
	if c.topics[t] == nil {
		c.t.Errorf("%s was not followed", t)
	}
	delete(c.topics, t)
}

func (c *checker) Watermark(p protocol.Position) {
	defer c.enter()()
	if p < c.mark {
		c.t.Errorf("watermark %d after %d", p, c.mark)
	}
	c.mark = p
	c.marks++
	if c.f == nil {
		return
	}
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	for t, s := range c.topics {
		for _, ev := range slices.Backward(c.f.log[t]) {
			if ev.Position <= p && ev.Seq > s.seq && !s.anySeq {
				c.t.Errorf("watermark %d, but event %d of %s at %d has not come; the last was %d", p, ev.Seq, t, ev.Position, s.seq)
				break
			}
		}
	}
}

func (c *checker) Live(up bool) {
	defer c.enter()()
	if up == c.live {
		c.t.Errorf("live %v twice", up)
	}
	c.live = up
	c.lives = append(c.lives, up)
}

// look returns a copy of what is known of a topic, and whether it is followed.
func (c *checker) look(t protocol.Topic) (checked, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.topics[t]; s != nil {
		return *s, true
	}
	return checked{}, false
}

func (c *checker) watermark() protocol.Position {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mark
}

func (c *checker) isLive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live
}

// run runs u on sink until the test ends, or until the function it returns is called.
func run(t testing.TB, u *Upstream, sink Sink) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := u.Run(ctx, sink); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}
