package bench

import (
	"context"
	"encoding/json"

	"fmt"
	"net"
	"sync"
	"time"

	"github.com/fasthttp/websocket"

	"flannel/client"
	"flannel/protocol"
)

// pingEvery is how often clients ping, those of the dialect as ours.
const pingEvery = 20 * time.Second

// audience is the sessions of one mode. open, start, figures and close are for one goroutine.
type audience struct {
	mode   Mode
	meters []*meter
	closer []func()
	life   context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu   sync.Mutex
	last error // why a session has ended
}

func newAudience(mode Mode) *audience {
	a := &audience{mode: mode}
	a.life, a.cancel = context.WithCancel(context.Background())
	return a
}

// dial is for clients: it puts a meter on the first connection, which is the socket.
func (a *audience) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	m := newMeter(c)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.meters = append(a.meters, m)
	return m, nil
}

// open opens a session and waits until it hears events. Everybody follows the presence of the other listeners.
func (a *audience) open(ctx context.Context, t *TrafficTarget, l Listener, view []protocol.ChannelID) error {
	friends := make([]protocol.UserID, 0, len(t.Listeners))
	for _, f := range t.Listeners {
		friends = append(friends, f.ID)
	}
	if a.mode == ModeCompatible {
		return a.openCompatible(ctx, t, l, friends)
	}
	opt := client.Options{URL: t.Edge, Token: l.Token, DialContext: a.dial, PingInterval: pingEvery}
	if a.mode == ModeThinViews {
		opt.View = view
	}
	c, err := client.Dial(ctx, opt)
	if err != nil {
		return err
	}
	a.closer = append(a.closer, func() { c.Close() }) //nolint:errcheck // It waits, and that is all.
	inView := make(map[protocol.ChannelID]bool, len(view))
	for _, ch := range view {
		inView[ch] = true
	}
	a.work.Go(func() {
		for ev := range c.Events(a.life) {
			// An application shows the names of those who talk in what is on the screen.
			if m, ok := ev.Data.(*client.Message); ok && m.User != "" && inView[m.Channel] {
				c.User(a.life, m.User) //nolint:errcheck // A name that is not shown.
			}
		}
		a.ended(c.Err())
	})
	return c.WatchPresence(friends...)
}

// openCompatible opens a session as slack-go does.
func (a *audience) openCompatible(ctx context.Context, t *TrafficTarget, l Listener, friends []protocol.UserID) error {
	call := newCaller(l.Token)
	defer call.close()
	body, _, err := call.call(ctx, t.Edge, "rtm.connect", nil)
	if err != nil {
		return err
	}
	var answer struct {
		URL string `json:"url"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("read rtm.connect: %w", err)
	}
	d := websocket.Dialer{NetDialContext: a.dial, HandshakeTimeout: welcomeWithin}
	conn, _, err := d.DialContext(ctx, answer.URL+"?batch_presence_aware=1", nil) //nolint:bodyclose // Of a websocket.
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	a.closer = append(a.closer, func() { conn.Close() }) //nolint:errcheck // It is over.
	if _, _, err := conn.ReadMessage(); err != nil {
		return fmt.Errorf("read hello: %w", err)
	}
	sub := protocol.MustMarshal(map[string]any{"type": protocol.FramePresenceSub, "ids": friends})
	if err := conn.WriteMessage(websocket.TextMessage, sub); err != nil {
		return fmt.Errorf("watch presence: %w", err)
	}
	a.work.Go(func() {
		for {
			if _, _, err := conn.NextReader(); err != nil {
				a.ended(err)
				return
			}
		}
	})
	a.work.Go(func() {
		for n := 1; ; n++ {
			sleep(a.life, pingEvery)
			if a.life.Err() != nil || conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"type":"ping","id":%d}`, n)) != nil {
				return
			}
		}
	})
	return nil
}

func (a *audience) ended(err error) {
	if a.life.Err() != nil || err == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = err
}

func (a *audience) err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// start begins to count.
func (a *audience) start() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range a.meters {
		m.start()
	}
}

func (a *audience) total() *tally {
	a.mu.Lock()
	defer a.mu.Unlock()
	sum := newTally()
	for _, m := range a.meters {
		one := m.result()
		sum.add(&one)
	}
	return &sum
}

// figures turns what was counted into an hour of the day. Events are as many as the day has, so they are stretched by the
// day; pings go by the clock.
func (a *audience) figures(took, day time.Duration) TrafficFigures {
	sum := a.total()
	n := float64(len(a.closer))
	byDay, byClock := float64(time.Hour)/float64(day)/n, float64(time.Hour)/float64(took)/n
	f := TrafficFigures{Sessions: len(a.closer), Kinds: make(map[Kind]float64)}
	for _, k := range Kinds {
		scale := byDay
		if k == KindAlive {
			scale = byClock
		}
		f.Kinds[k] = float64(sum.bytes[k]) * scale
		f.BytesPerHour += f.Kinds[k]
		f.FramesPerHour += float64(sum.frames[k]) * scale
	}
	f.SentPerHour = float64(sum.sent-sum.pings)*byDay + float64(sum.pings)*byClock
	f.BytesPerHour += f.SentPerHour
	f.Lookups = float64(sum.frames[KindAnswers]) * byDay
	return f
}

func (a *audience) close() {
	a.cancel()
	for _, c := range a.closer {
		c()
	}
	a.work.Wait()
}
