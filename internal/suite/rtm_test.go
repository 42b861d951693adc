package suite_test

import (
	"sync"
	"testing"
	"time"

	"github.com/slack-go/slack"
)

// peer is a slack-go RTM client that keeps every event it has heard.
type peer struct {
	t   *testing.T
	rtm *slack.RTM
	api *slack.Client

	mu    sync.Mutex
	heard []slack.RTMEvent
	news  chan struct{} // capacity 1: something was heard
}

func connect(t *testing.T, base string, a account) *peer {
	t.Helper()
	p := &peer{t: t, api: client(base, a), news: make(chan struct{}, 1)}
	p.rtm = p.api.NewRTM(slack.RTMOptionPingInterval(200 * time.Millisecond))
	managed := make(chan struct{})
	go func() { defer close(managed); p.rtm.ManageConnection() }()
	listened := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(listened)
		for {
			select {
			case ev := <-p.rtm.IncomingEvents:
				p.mu.Lock()
				p.heard = append(p.heard, ev)
				p.mu.Unlock()
				select {
				case p.news <- struct{}{}:
				default:
				}
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() {
		p.rtm.Disconnect()
		<-managed
		close(stop)
		<-listened
	})
	await(p, func(*slack.HelloEvent) bool { return true })
	return p
}

// await returns the first event of a type, heard before or later, for which the claim holds, and forgets it.
func await[T any](p *peer, claim func(*T) bool) *T {
	p.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		p.mu.Lock()
		for i, ev := range p.heard {
			if data, ok := ev.Data.(*T); ok && claim(data) {
				p.heard = append(p.heard[:i:i], p.heard[i+1:]...)
				p.mu.Unlock()
				return data
			}
		}
		p.mu.Unlock()
		select {
		case <-p.news:
		case <-deadline.C:
			p.mu.Lock()
			defer p.mu.Unlock()
			var types []string
			for _, ev := range p.heard {
				types = append(types, ev.Type)
			}
			var want T
			p.t.Fatalf("no %T for which the claim holds within %v; heard %v", want, patience, types)
		}
	}
}

// count returns how many events heard so far satisfy the claim.
func count[T any](p *peer, claim func(*T) bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, ev := range p.heard {
		if data, ok := ev.Data.(*T); ok && claim(data) {
			n++
		}
	}
	return n
}
