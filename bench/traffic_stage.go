package bench

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"time"

	"flannel/client"
	"flannel/protocol"
)

// writers is how many calls to the backend are under way at most.
const writers = 8

// stage is where the day is played: the people who do things, straight at the backend, and the sockets of those who type.
type stage struct {
	target  *TrafficTarget
	opt     TrafficOptions
	day     *day
	typists map[protocol.UserID]*client.Client
	plan    []deed

	mu     sync.Mutex
	calls  map[protocol.UserID]*caller
	latest map[protocol.ChannelID]string // ts
	away   map[protocol.UserID]bool
	done   map[string]int
	failed error
}

func newStage(ctx context.Context, t *TrafficTarget, opt TrafficOptions, d *day) (*stage, error) {
	s := &stage{
		target: t, opt: opt, day: d, typists: make(map[protocol.UserID]*client.Client), calls: make(map[protocol.UserID]*caller),
		latest: make(map[protocol.ChannelID]string), away: make(map[protocol.UserID]bool), done: make(map[string]int),
	}
	var who []protocol.UserID
	where := make(map[protocol.UserID][]protocol.ChannelID)
	for range opt.Typists {
		ch := d.channel()
		user := d.author(ch)
		where[user] = append(where[user], ch.ID)
		if s.typists[user] != nil {
			continue
		}
		token, err := t.Token(user)
		if err != nil {
			return nil, err
		}
		c, err := client.Dial(ctx, client.Options{URL: t.Edge, Token: token, View: []protocol.ChannelID{}})
		if err != nil {
			s.close()
			return nil, fmt.Errorf("connect somebody who types: %w", err)
		}
		s.typists[user] = c
		who = append(who, user)
		if opt.Progress != nil {
			opt.Progress("open sockets to type from", len(who), opt.Typists)
		}
	}
	s.plan = d.plan(opt, who, where)
	return s, nil
}

func (s *stage) close() {
	for _, c := range s.typists {
		c.Close() //nolint:errcheck // It waits, and that is all.
	}
	for _, c := range s.calls {
		c.close()
	}
}

// play does everything at its time, and returns how much of each was done.
func (s *stage) play(ctx context.Context) (map[string]int, error) {
	began := time.Now()
	todo := make(chan deed)
	var work sync.WaitGroup
	for range writers {
		work.Go(func() {
			for d := range todo {
				s.do(ctx, d)
			}
		})
	}
	for i, d := range s.plan {
		sleep(ctx, time.Until(began.Add(d.at)))
		if ctx.Err() != nil {
			break
		}
		todo <- d
		if s.opt.Progress != nil {
			s.opt.Progress("replay a busy day", i+1, len(s.plan))
		}
	}
	close(todo)
	work.Wait()
	sleep(ctx, time.Until(began.Add(s.opt.Duration)))
	s.mu.Lock()
	defer s.mu.Unlock()
	if late := time.Since(began) - s.opt.Duration; s.failed == nil && late > s.opt.Duration/4 {
		return nil, fmt.Errorf("the machine is too slow for this day: it took %v longer than %v; take a lower speed", late.Round(time.Second), s.opt.Duration)
	}
	return s.done, s.failed
}

func (s *stage) do(ctx context.Context, d deed) {
	if err := s.try(ctx, d); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.failed == nil && ctx.Err() == nil {
			s.failed = err
		}
	}
}

func (s *stage) try(ctx context.Context, d deed) error {
	if d.what == doTyping {
		s.typists[d.who].Typing(d.channel)
		s.count(d.what)
		return nil
	}
	call, err := s.caller(d.who)
	if err != nil {
		return err
	}
	method, args := "", url.Values{}
	s.mu.Lock()
	latest := s.latest[d.channel]
	switch d.what {
	case doMessage:
		method = "chat.postMessage"
		args = url.Values{"channel": {string(d.channel)}, "text": {sentence(d.n)}}
	case doReaction, doMark:
		if latest == "" {
			s.mu.Unlock()
			return nil // Nothing has been said there yet.
		}
		method, args = "conversations.mark", url.Values{"channel": {string(d.channel)}, "ts": {latest}}
		if d.what == doReaction {
			method, args = "reactions.add", url.Values{"channel": {string(d.channel)}, "timestamp": {latest}, "name": {fmt.Sprintf("emoji-%d", d.n)}}
		}
	case doStatus:
		method, args = "users.profile.set", url.Values{"profile": {fmt.Sprintf(`{"status_text":"in meeting %d"}`, d.n)}}
	case doPresence:
		s.away[d.who] = !s.away[d.who]
		method, args = "users.setPresence", url.Values{"presence": {"auto"}}
		if s.away[d.who] {
			args.Set("presence", "away")
		}
	}
	s.mu.Unlock()
	body, _, err := call.call(ctx, s.target.Backend, method, args)
	if err != nil {
		return err
	}
	s.count(d.what)
	if d.what == doMessage {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.latest[d.channel] = tsOf(body)
	}
	return nil
}

func (s *stage) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done[what]++
}

// caller returns the caller of somebody. They share nothing, but connections are kept: a person is asked for few calls.
func (s *stage) caller(who protocol.UserID) (*caller, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.calls[who]; c != nil {
		return c, nil
	}
	token, err := s.target.Token(who)
	if err != nil {
		return nil, err
	}
	c := s.calls[""]
	if c == nil {
		c = newCaller("")
		c.t.MaxIdleConnsPerHost = writers
		s.calls[""] = c
	}
	one := &caller{token: token, http: c.http, t: c.t}
	s.calls[who] = one
	return one, nil
}

func tsOf(body []byte) string {
	var ts string
	if raw := protocol.Field(body, "ts"); len(raw) > 2 {
		ts = string(raw[1 : len(raw)-1])
	}
	return ts
}

// sentences are of the length that people write: 70 characters in the mean.
var sentences = []string{
	"Thanks!", "Can somebody look at the failing build on main?", "I'm on it, give me ten minutes.",
	"The numbers of last week are in the sheet, and they look better than I had feared.", "Lunch at half past twelve?",
	"We have decided to move the release to Thursday, because two of the fixes need another review and nobody wants to do that on a Friday afternoon.",
	"ok", "Does anybody remember why the retry limit is 7? There is no comment, and the commit that brought it only says \"tuning\".",
}

func sentence(n int) string { return fmt.Sprintf("%s (%d)", sentences[n%len(sentences)], n) }
