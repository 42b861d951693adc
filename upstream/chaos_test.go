package upstream

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"flannel/protocol"
)

// TestStream_ExactlyOnceUnderFaults runs everything together while the network and the backend misbehave. The checker
// looks at each call of the sink; at the end, when all is well again, every topic that is held must be complete. Half of
// the seeds lose events on the way; the others only delay, repeat, cut and reset, and there the watermarks are checked
// too.
func TestStream_ExactlyOnceUnderFaults(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { chaos(t, seed, seed%2 == 0) })
		})
	}
}

func chaos(t *testing.T, seed uint64, lossy bool) {
	rnd := rand.New(rand.NewPCG(seed, 1)) // For this goroutine.
	f := newFake(t)
	f.heartbeat = 200 * time.Millisecond
	u := f.open(func(c *Config) { c.Linger, c.SubscribeTimeout = 2*time.Second, 3*time.Second })
	c := newChecker(t, f)
	if lossy {
		c.f = nil // A backend that loses events does not know it.
	}
	faults := rand.New(rand.NewPCG(seed, 2)) // Guarded by f.mu.
	faulty := true
	f.mangle = func(frame protocol.StreamFrame) []protocol.StreamFrame {
		n := faults.IntN(100)
		switch {
		case !faulty || frame.Type == protocol.StreamHello:
		case frame.Type == protocol.StreamEvents && n < 20:
			return []protocol.StreamFrame{frame, frame}
		case frame.Type == protocol.StreamEvents && n < 30 && lossy:
			return nil
		case frame.Type == protocol.StreamSubscribed && n < 3 && lossy:
			return nil // Asked for again on a new stream.
		case frame.Type == protocol.StreamPong && n < 20:
			return nil
		}
		return []protocol.StreamFrame{frame}
	}
	run(t, u, c)

	topics := make([]protocol.Topic, 12)
	for i := range topics {
		topics[i] = protocol.Topic(fmt.Sprintf("C%d", i))
	}
	held := make(map[protocol.Topic]int)
	for range 3000 {
		topic := topics[rnd.IntN(len(topics))]
		switch n := rnd.IntN(100); {
		case n < 45:
			f.publish(topic, topics[rnd.IntN(len(topics))])
		case n < 60:
			f.mu.Lock()
			p := f.position - min(f.position, protocol.Position(rnd.IntN(5)))
			f.mu.Unlock()
			u.FollowAsync([]protocol.TopicState{at(topic, p)})
			held[topic]++
		case n < 70:
			if held[topic] > 0 {
				held[topic]--
				u.Unfollow(topic)
			}
		case n < 80:
			f.watermark()
		case n < 96:
			settle(time.Duration(rnd.IntN(200)) * time.Millisecond)
		case n < 97:
			f.cut()
		case n < 98:
			f.net.Cut()
		case n < 99:
			mute := rnd.IntN(2) == 0
			f.set(func(f *fake) { f.mute = mute })
		default:
			f.set(func(f *fake) { f.forgotten[topic] = len(f.log[topic]) })
		}
	}

	f.set(func(f *fake) { faulty, f.mute = false, false })
	f.cut()
	settle(time.Minute)
	f.publish(topics...) // Shows what was lost at the end.
	f.watermark()
	settle(time.Minute)
	if !u.Live() || c.watermark() != f.position {
		t.Errorf("live %v, watermark %d of %d", u.Live(), c.watermark(), f.position)
	}
	for _, topic := range topics {
		s, ok := c.look(topic)
		if ok != (held[topic] > 0) {
			t.Errorf("%s is followed: %v, held %d times", topic, ok, held[topic])
		}
		if ok && s.seq != protocol.Seq(len(f.log[topic])) {
			t.Errorf("%s ends at %d, the log at %d", topic, s.seq, len(f.log[topic]))
		}
	}
	if c.events < 500 || len(c.lives) < 3 {
		t.Errorf("only %d events and %d breaks: nothing was tried", c.events, len(c.lives)/2)
	}
	if testutil.ToFloat64(u.metrics.events[eventDuplicate]) == 0 || lossy && testutil.ToFloat64(u.metrics.events[eventHole]) == 0 {
		t.Error("the faults had no effect")
	}
	t.Logf("%d events, %d breaks, %d resets, %d given up", c.events, len(c.lives)/2, c.resets, c.unfollow)
}
