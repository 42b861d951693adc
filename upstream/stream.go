package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"flannel/protocol"
)

// stream keeps one websocket to the backend up and hands what it brings to the sink. Everything in it belongs to the
// goroutine of Upstream.Run, which is also the only one that calls the sink.
type stream struct {
	u    *Upstream
	sink Sink

	mark protocol.Position // the last watermark that the sink was told
	// claim is the highest position that the backend has said on this connection to have sent everything up to. It is
	// not true yet for topics that were answered later: their replay may be on its way.
	claim protocol.Position
	// fresh: topics were followed since the last watermark or barrier. A backend where nothing happens need not send
	// another watermark for them, so a ping is sent, and what came before its pong counts.
	fresh bool
	// barrier is the id of that ping, 0 if none is out.
	barrier, lastBarrier int64
	barrierAt            time.Time

	// marked: a watermark came behind what is noted.
	marked bool

	frames []protocol.StreamFrame // scratch
	notes  []note                 // what the sink is still to be told
	group  []*protocol.Event      // scratch
	rows   []*topic               // scratch
}

// firstBarrier keeps the ids of barriers apart from those of heartbeats.
const firstBarrier = 1 << 32

// ending is why a connection ended.
type ending struct {
	reason string // one of ends
	err    error
}

// run connects again and again until ctx ends.
func (s *stream) run(ctx context.Context) {
	u := s.u
	tick := time.NewTicker(u.tickEvery())
	defer tick.Stop()
	for failures := 0; ; failures++ {
		conn, end := u.connect(ctx)
		if conn != nil {
			began := time.Now()
			end = s.serve(ctx, conn, tick.C)
			if time.Since(began) >= u.cfg.StableAfter {
				failures = 0
			}
		}
		if ctx.Err() != nil {
			end.reason = endStopped
		}
		u.metrics.reconnects[end.reason].Inc()
		if ctx.Err() != nil {
			return
		}
		wait := fullJitter(u.cfg.ReconnectMin, u.cfg.ReconnectMax, failures)
		if conn != nil || failures == 0 {
			u.log.Warn("stream down", "reason", end.reason, "err", end.err, "retry_in", wait)
		} else {
			u.log.Debug("stream still down", "reason", end.reason, "err", end.err, "retry_in", wait)
		}
		if !s.pause(ctx, wait, tick.C) {
			u.metrics.reconnects[endStopped].Inc()
			return
		}
	}
}

// tickEvery is how often what depends on time is looked at: often enough to be late by a small part only.
func (u *Upstream) tickEvery() time.Duration {
	return max(10*time.Millisecond, min(time.Second, u.cfg.Linger/4, u.cfg.SubscribeTimeout/4))
}

// fullJitter is a random time up to a bound that doubles with each failure.
func fullJitter(least, most time.Duration, failures int) time.Duration {
	bound := most
	if failures < 30 && least<<failures < most {
		bound = least << failures
	}
	return rand.N(bound + 1)
}

// pause waits; topics are given up meanwhile. It returns false if ctx has ended.
func (s *stream) pause(ctx context.Context, wait time.Duration, tick <-chan time.Time) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return true
		case <-ctx.Done():
			return false
		case <-tick:
			s.expire()
		}
	}
}

// serve is the life of one connection.
func (s *stream) serve(ctx context.Context, c *link, tick <-chan time.Time) ending {
	u := s.u
	if c.hello.Position < s.mark {
		u.log.Error("the backend's log ends before what it has sent; restart this node if it was set back", "position", c.hello.Position, "watermark", s.mark)
	}
	u.mu.Lock()
	u.table.up(c.hello.Position)
	u.outbox.up()
	u.present.up()
	topics, caughtUp := len(u.table.topics), u.table.recovering == 0
	u.mu.Unlock()
	u.lag.up()
	for _, call := range u.calls {
		call.revive()
	}
	u.log.Info("stream up", "position", c.hello.Position, "topics", topics, "heartbeat", c.heartbeat)
	s.claim, s.marked, s.fresh, s.barrier = c.hello.Position, false, false, 0
	if caughtUp { // Nothing is followed, so nothing is missing.
		s.watermark(s.claim)
	}

	c.start(u)
	end := s.loop(ctx, c, tick)
	c.stop()

	u.mu.Lock()
	u.table.down()
	u.outbox.down()
	u.mu.Unlock()
	u.lag.down(time.Now())
	u.wire.idle()
	s.live(false)
	return end
}

func (s *stream) loop(ctx context.Context, c *link, tick <-chan time.Time) ending {
	for {
		select {
		case <-c.arrived.ready:
			s.arrived(c)
		case end := <-c.failed:
			// What was read before belongs to the sink: it need not be sent again.
			s.arrived(c)
			return end
		case <-tick:
			s.expire()
			if s.overdue() {
				return ending{endSubscribe, errors.New("a subscription was not answered")}
			}
		case <-ctx.Done():
			return ending{endStopped, context.Cause(ctx)}
		}
	}
}

// arrived takes all frames that have been read. Events and watermarks that come one behind the other are told in one go.
func (s *stream) arrived(c *link) {
	s.frames = c.arrived.take(s.frames)
	for i := range s.frames {
		s.frame(c, &s.frames[i])
	}
	s.flush(c)
}

func (s *stream) overdue() bool {
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	return s.u.table.overdue(time.Now().Add(-s.u.cfg.SubscribeTimeout))
}

func (s *stream) expire() {
	u := s.u
	u.mu.Lock()
	s.notes = u.table.expire(time.Now(), s.notes)
	u.mu.Unlock()
	if len(s.notes) > 0 {
		u.nudge()
		s.deliver()
	}
}

// frame takes one frame of the backend. What it says of events, and that there is a watermark behind them, is told to the sink by
// the next flush at the latest.
func (s *stream) frame(c *link, f *protocol.StreamFrame) {
	u := s.u
	countFrame(u.metrics.framesIn, f.Type)
	switch f.Type {
	case protocol.StreamEvents:
		s.events(f.Events)
		return
	case protocol.StreamWatermark:
		u.mu.Lock()
		u.table.see(&f.Position)
		u.mu.Unlock()
		s.claim, s.marked = max(s.claim, f.Position), true
		return
	}
	s.flush(c)
	switch f.Type {
	case protocol.StreamSubscribed:
		u.mu.Lock()
		for _, ts := range f.Topics {
			var source string
			if s.notes, source = u.table.answered(ts, s.notes); source != "" {
				u.metrics.resets[source].Inc()
			}
		}
		u.mu.Unlock()
	case protocol.StreamReset:
		u.mu.Lock()
		for _, ts := range f.Topics {
			var reset bool
			if s.notes, reset = u.table.reset(ts, s.notes); reset {
				u.metrics.resets[resetBackend].Inc()
			}
		}
		u.mu.Unlock()
	case protocol.StreamPing:
		c.pong(f.ID)
	case protocol.StreamPong:
		switch {
		case f.ID < firstBarrier:
			u.lag.back(f.ID, time.Now())
			// A backend may leave a ping unanswered when there are many.
			if s.barrier != 0 && time.Since(s.barrierAt) > c.heartbeat {
				s.fresh, s.barrier = true, 0
			}
		case f.ID == s.barrier:
			s.barrier = 0
			if !s.fresh && s.whole() {
				s.watermark(s.claim)
			}
		}
	}
	// Frames of other types are for later versions.
	s.flush(c)
}

// flush tells the sink what has been noted, and the watermark that was behind it.
func (s *stream) flush(c *link) {
	s.deliver()
	if s.marked {
		s.marked = false
		if s.whole() {
			s.fresh, s.barrier = false, 0
			s.watermark(s.claim)
		}
	}
	if s.fresh && s.barrier == 0 && s.whole() {
		s.fresh = false
		s.lastBarrier = max(s.lastBarrier, firstBarrier) + 1
		s.barrier, s.barrierAt = s.lastBarrier, time.Now()
		c.ping(s.barrier)
	}
}

// whole reports whether no topic is being recovered.
func (s *stream) whole() bool {
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	return s.u.table.recovering == 0
}

// events notes events.
func (s *stream) events(events []*protocol.Event) {
	u := s.u
	var counts [4]int
	holes := false
	u.mu.Lock()
	for _, ev := range events {
		if ev == nil {
			continue
		}
		var outcome string
		var reset bool
		s.notes, outcome, reset = u.table.event(ev, s.notes)
		for i, o := range eventOutcomes {
			if o == outcome {
				counts[i]++
			}
		}
		holes = holes || outcome == eventHole
		if reset {
			u.metrics.resets[resetHole].Inc()
		}
	}
	u.mu.Unlock()
	for i, o := range eventOutcomes {
		if counts[i] > 0 {
			u.metrics.events[o].Add(float64(counts[i]))
		}
	}
	if holes {
		u.nudge()
	}
}

// deliver tells the sink what the table has noted, and then those who wait for a topic.
func (s *stream) deliver() {
	for i := 0; i < len(s.notes); i++ {
		n := &s.notes[i]
		switch n.kind {
		case noteEvent:
			s.group = append(s.group[:0], n.event)
			for ; i+1 < len(s.notes) && s.notes[i+1].kind == noteEvent && together(n.event, s.notes[i+1].event); i++ {
				s.group = append(s.group, s.notes[i+1].event)
			}
			s.sink.Events(s.group)
		case noteFollowed:
			if s.confirm(n.row) {
				s.sink.Followed(n.topic, n.seq, n.position)
				s.rows = append(s.rows, n.row)
			}
		case noteReset:
			if s.told(n.row) {
				s.sink.Reset(n.topic, n.position)
			}
		case noteUnfollowed:
			s.sink.Unfollowed(n.topic)
		}
	}
	if len(s.rows) > 0 {
		s.fresh = true
		s.u.mu.Lock()
		for _, t := range s.rows {
			s.u.table.tell(t)
		}
		s.u.mu.Unlock()
	}
	clear(s.notes) // Not to keep events alive.
	clear(s.group)
	clear(s.rows)
	s.notes, s.rows = s.notes[:0], s.rows[:0]
}

// together reports whether two events that came one behind the other may be handed over in one go: they are messages of one
// channel that everybody in it hears.
func together(a, b *protocol.Event) bool {
	return a.Topic == b.Topic && justMessage(a) && justMessage(b)
}

func justMessage(ev *protocol.Event) bool {
	if ev.Class != protocol.ClassMessage || ev.Seq == 0 || ev.Except != "" || protocol.KindOf(protocol.ObjectID(ev.Topic)) != protocol.KindChannel {
		return false
	}
	for i := range ev.Effects {
		if op := ev.Effects[i].Op; op != protocol.OpMessageAdded && op != protocol.OpMessageRemoved {
			return false
		}
	}
	return true
}

func (s *stream) confirm(t *topic) bool {
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	return s.u.table.confirm(t)
}

func (s *stream) told(t *topic) bool {
	s.u.mu.Lock()
	defer s.u.mu.Unlock()
	return t.told
}

// watermark tells the sink of a watermark that counts, and that it is live if it was not. After a backend was set back
// it stays where it was.
func (s *stream) watermark(p protocol.Position) {
	s.mark = max(s.mark, p)
	s.sink.Watermark(s.mark)
	s.live(true)
}

func (s *stream) live(up bool) {
	if s.u.live.Swap(up) == up {
		return
	}
	if up {
		s.u.metrics.up.Set(1)
	} else {
		s.u.metrics.up.Set(0)
	}
	s.sink.Live(up)
}
