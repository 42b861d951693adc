package cache

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flannel/protocol"
)

// concurrently calls apply for 0…n-1 from one goroutine while several readers call read until it is done. Each reader
// has its own map, and is told a position that had been applied before the call.
func concurrently[K comparable, V any](t *testing.T, n int, apply func(i int), read func(i int, applied protocol.Position, seen map[K]V), applied func() protocol.Position) {
	t.Helper()
	var done atomic.Bool
	var readers sync.WaitGroup
	for r := range 4 {
		readers.Go(func() {
			seen := make(map[K]V)
			for i := r * 1000; !done.Load() && !t.Failed(); i++ {
				read(i, applied(), seen)
			}
		})
	}
	for i := range n {
		apply(i)
	}
	done.Store(true)
	readers.Wait()
}

// Everything at once, for the race detector. Boots are made up; only the bounds are looked at. What states must say is
// the oracle's to tell.
func TestCache_Concurrent(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.RecentEvents = 300; c.Users = 6; c.Sets = 3; c.Identities = 4 })
	users := make([]protocol.UserID, 8)
	for i := range users {
		users[i] = protocol.UserID(fmt.Sprint("U", i))
		f.follow(1, protocol.Topic(users[i]))
	}
	channels := []protocol.ChannelID{"C1", "C2", "C3", "C4"}
	f.follow(1, ws, "C1", "C2", "C3", "C4")
	ts := func(p protocol.Position) protocol.TS { return protocol.TS(fmt.Sprintf("%010d.000000", p)) }
	const events = 8000
	concurrently(t, events, func(i int) {
		p := protocol.Position(i + 2)
		user, ch := users[i%len(users)], channels[i/3%len(channels)]
		switch i % 6 {
		case 0, 1:
			e := said(ch, user, ts(p), users[(i+1)%len(users)])
			e.Everyone = i%4 == 0
			f.event(protocol.Topic(ch), p, e)
		case 2:
			f.event(protocol.Topic(user), p, marked(ch, ts(p-1), 0), protocol.Effect{Op: protocol.OpPref, Name: "n", Value: fmt.Append(nil, i)})
		case 3:
			f.event(protocol.Topic(ch), p, added(ch, protocol.UserID(fmt.Sprint("W", i%50))))
		case 4:
			f.event(protocol.Topic(ch), p, removed(ch, protocol.UserID(fmt.Sprint("W", i%50))))
		case 5:
			f.event(ws, p, upsert(object(protocol.ObjectID(user), protocol.Version(p))))
		}
		switch {
		case i%500 == 499:
			f.Reset(protocol.Topic(ch), p)
		case i%700 == 699:
			f.Live(false)
			f.Live(true)
		case i%50 == 49:
			f.Watermark(p)
			f.Expire(f.time())
		}
		f.clock.Add(int64(time.Second))
	}, func(i int, applied protocol.Position, _ map[string]string) {
		user, ch := users[i%len(users)], channels[i%len(channels)]
		f.Hold(user)
		defer f.Release(user)
		u, freshness := f.User(user)
		if freshness != Fresh {
			b := bootOf(user, channels...)
			b.Prefs = []byte(`{"n":0}`)
			for j := range b.Memberships {
				b.Memberships[j].Latest = ts(0)
			}
			if _, err := f.FillUser(b, applied); err != nil && !errors.Is(err, ErrOutrun) {
				t.Error(err)
			}
		}
		if u != nil {
			u.Memberships()
			u.Prefs()
			u.Role()
			u.Version()
			u.Usergroups()
			u.Channels()
			u.Topics()
			u.RaiseFloor(applied)
		}
		if s, got := f.Members(ch); got == Fresh {
			s.Contains("W1")
			s.Page("W1", 5)
			s.Len()
		} else if _, err := f.FillMembers(ch, []protocol.UserID{"W1"}, applied); err != nil && !errors.Is(err, ErrOutrun) {
			t.Error(err)
		}
		token := fmt.Sprint("token", i%7)
		if _, ok := f.Identity(token); !ok {
			f.FillIdentity(token, bearer(user, token), applied)
		}
		f.Get(protocol.ObjectID(user), applied)
		f.Fill(missing(applied, "S1"))
		f.Age()
	}, f.Applied)
	if f.numUsers() > f.config.Users || f.numSets() > f.config.Sets || f.numIdentities() > f.config.Identities {
		t.Errorf("%d users, %d sets, %d identities", f.numUsers(), f.numSets(), f.numIdentities())
	}
}
