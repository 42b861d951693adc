package sim_test

import (
	"math/rand/v2"
	"net/url"
	"testing/synctest"
	"time"

	"flannel/protocol"
)

// operation is one thing that may happen. It decides what exactly in the driver's goroutine, so that a seed decides it,
// and does what takes time beside it.
type operation struct {
	weight int
	name   string
	do     func(w *world)
}

var operations = []operation{
	{14, "post", func(w *world) {
		c, ch := w.client(), w.room()
		text := "m" + number(w.step)
		switch w.rnd.IntN(5) {
		case 0:
			text += " <@" + string(w.user()) + ">"
		case 1:
			text += " <!channel>"
		}
		w.writes(c, "chat.postMessage", "channel", string(ch), "text", text)
	}},
	{3, "edit", func(w *world) {
		w.writes(w.client(), "chat.update", "channel", string(w.room()), "nth", number(w.rnd.IntN(3)))
	}},
	{3, "delete", func(w *world) {
		w.writes(w.client(), "chat.delete", "channel", string(w.room()), "nth", number(w.rnd.IntN(3)))
	}},
	{5, "mark", func(w *world) {
		w.writes(w.client(), "conversations.mark", "channel", string(w.room()), "nth", number(w.rnd.IntN(4)))
	}},
	{3, "marked while mentioned", func(w *world) {
		user, ch := w.user(), w.room()
		by, n := w.memberOf(ch), w.rnd.IntN(2)
		at, code := w.back.mark(user, ch, n)
		w.back.post(by, ch, "again <@"+string(user)+">")
		w.note("%s marks %s: %d %s, and is mentioned", user, ch, at, code)
	}},
	{4, "join", func(w *world) { w.writes(w.client(), "conversations.join", "channel", string(w.room())) }},
	{3, "leave", func(w *world) { w.writes(w.client(), "conversations.leave", "channel", string(w.room())) }},
	{6, "invite", func(w *world) {
		w.writes(w.client(), "conversations.invite", "channel", string(w.room()), "users", string(w.user()))
	}},
	{6, "kick", func(w *world) {
		w.writes(w.client(), "conversations.kick", "channel", string(w.room()), "user", string(w.user()))
	}},
	{3, "invite there and back", func(w *world) {
		ch, user := w.room(), w.user()
		by := w.memberOf(ch)
		at, code := w.back.invite(by, ch, user)
		if code == "" && w.rnd.IntN(2) == 0 {
			at, _ = w.back.kick(by, ch, user)
		}
		w.note("%s invites %s to %s: %d %s", by, user, ch, at, code)
		for range 6 { // while the events come, in any order
			for _, c := range w.people {
				if c.user == user {
					w.spawn(func() { c.conversationInfo(ch) })
				}
			}
			time.Sleep(upTo(w.rnd, 20*time.Millisecond))
		}
	}},
	{4, "thrown out while others talk", func(w *world) {
		ch, user := w.room(), w.user()
		by := w.memberOf(ch)
		w.back.post(by, ch, "before")
		at, code := w.back.kick(by, ch, user)
		w.back.post(by, ch, "after")
		w.note("%s throws %s out of %s: %d %s", by, user, ch, at, code)
	}},
	{2, "create", func(w *world) {
		w.writes(w.client(), "conversations.create", "is_private", boolean(w.rnd.IntN(2) == 0))
	}},
	{2, "open", func(w *world) {
		users := string(w.user())
		if w.rnd.IntN(3) == 0 {
			users += "," + string(w.user())
		}
		w.writes(w.client(), "conversations.open", "users", users)
	}},
	{1, "close", func(w *world) { w.writes(w.client(), "conversations.close", "channel", string(w.room())) }},
	{3, "rename", func(w *world) {
		w.writes(w.client(), "conversations.rename", "channel", string(w.room()), "name", "r"+number(w.step))
	}},
	{2, "archive", func(w *world) { w.back.archive(w.room()) }},
	{6, "profile", func(w *world) { w.writes(w.client(), "users.profile.set", "status", "s"+number(w.step)) }},
	{2, "profile by itself", func(w *world) { w.back.profile(w.user(), "t"+number(w.step)) }},
	{1, "pref", func(w *world) { w.writes(w.client(), "users.prefs.set", "value", "v"+number(w.step)) }},
	{2, "role", func(w *world) {
		user := []protocol.UserID{cyd, visitor, bob}[w.rnd.IntN(3)]
		at, _ := w.back.guest(user)
		w.note("%s changes role: %d", user, at)
	}},
	{1, "revoke", func(w *world) {
		c := w.client()
		_, token, _ := c.where()
		at, _ := w.back.revoke(token)
		w.note("%s is revoked: %d", token, at)
		if w.rnd.IntN(4) > 0 {
			w.back.newToken(c.user)
		}
	}},
	{1, "deactivate", func(w *world) {
		if w.step > 60 && w.rnd.IntN(4) == 0 {
			at, _ := w.back.deactivate(temporary)
			w.note("%s is deactivated: %d", temporary, at)
		}
	}},
	{8, "users/info", func(w *world) {
		c, conditional, socket := w.client(), w.rnd.IntN(2) == 0, w.rnd.IntN(3) == 0
		w.spawn(func() { c.info("users", w.users(), conditional, socket) })
	}},
	{8, "channels/info", func(w *world) {
		c, conditional, socket := w.client(), w.rnd.IntN(2) == 0, w.rnd.IntN(3) == 0
		w.spawn(func() { c.info("channels", w.rooms(), conditional, socket) })
	}},
	{5, "membership", func(w *world) {
		c, ch := w.client(), w.room()
		w.spawn(func() { c.membership(ch) })
	}},
	{3, "conversations.members", func(w *world) {
		c, ch := w.client(), w.room()
		w.spawn(func() { c.conversationMembers(ch) })
	}},
	{5, "conversations.info", func(w *world) {
		c, ch := w.client(), w.room()
		w.spawn(func() { c.conversationInfo(ch) })
	}},
	{4, "counts", func(w *world) { c := w.client(); w.spawn(c.counts) }},
	{3, "boot", func(w *world) { c := w.client(); w.spawn(c.boot) }},
	{2, "users.list", func(w *world) { c := w.client(); w.spawn(c.usersList) }},
	{2, "conversations.list", func(w *world) { c := w.client(); w.spawn(c.channelsList) }},
	{5, "reads while it changes", func(w *world) {
		user, ch := w.user(), w.room()
		for range 4 {
			c := w.client()
			w.spawn(func() { c.info("users", []protocol.ObjectID{protocol.ObjectID(user)}, false, false) })
			w.spawn(func() { c.conversationInfo(ch) })
			time.Sleep(upTo(w.rnd, 40*time.Millisecond))
			w.back.profile(user, "u"+number(w.step))
			w.back.rename(w.memberOf(ch), ch, "n"+number(w.step))
			time.Sleep(upTo(w.rnd, 40*time.Millisecond))
		}
	}},
	{2, "users/search", func(w *world) { c := w.client(); w.spawn(c.search) }},
	{2, "users/list", func(w *world) {
		c, ch := w.client(), w.room()
		w.spawn(func() { c.listed(ch) })
	}},
	{2, "typing", func(w *world) {
		c, ch := w.client(), w.room()
		w.spawn(func() { c.send(fields{"type": "typing", "channel": ch}) })
	}},
	{4, "ping", func(w *world) { c := w.client(); w.spawn(func() { c.send(fields{"type": "ping", "id": 1 << 20}) }) }},
	{10, "connect", func(w *world) { c := w.client(); w.note("%s connects", c.name); w.spawn(c.connect) }},
	{4, "drop", func(w *world) { c := w.client(); w.note("%s drops", c.name); c.drop(w.rnd) }},
	{2, "move", func(w *world) {
		c, n, forget := w.client(), w.nodes[w.rnd.IntN(len(w.nodes))], w.rnd.IntN(4) == 0
		w.note("%s moves to %s, forget %v", c.name, n.name, forget)
		c.drop(w.rnd)
		c.move(n, forget)
		w.spawn(c.connect)
	}},
	{3, "wait", func(w *world) { time.Sleep(time.Duration(w.rnd.IntN(3000)) * time.Millisecond) }},
	{1, "wait long", func(w *world) { time.Sleep(time.Duration(w.rnd.IntN(20)) * time.Second) }},
	{3, "weather", func(w *world) { w.weather() }},
	{2, "stream cut", func(w *world) { w.cut(w.node()) }},
	{2, "stall", func(w *world) {
		pipes := w.gate.listener.pipes(w.node().name)
		for _, p := range pipes {
			if w.rnd.IntN(2) == 0 {
				p.stall(time.Duration(w.rnd.IntN(1500)) * time.Millisecond)
			}
		}
	}},
	{1, "slow client", func(w *world) {
		n := w.node()
		for _, p := range n.pipes() {
			if w.rnd.IntN(3) == 0 {
				p.stall(time.Duration(w.rnd.IntN(1500)) * time.Millisecond)
			}
		}
	}},
	{1, "backend restart", func(w *world) { w.restartBackend() }},
	{1, "short replay", func(w *world) { w.shorten() }},
	{1, "node restart", func(w *world) {
		n, kill := w.node(), w.rnd.IntN(2) == 0
		w.note("%s restarts, kill %v", n.name, kill)
		n.stop(kill)
		time.Sleep(time.Duration(w.rnd.IntN(1000)) * time.Millisecond)
		n.start()
	}},
}

func boolean(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// run does so many operations.
func (w *world) run(steps int) {
	total := 0
	for _, o := range operations {
		total += o.weight
	}
	for _, c := range w.people {
		w.spawn(c.connect)
	}
	w.weather()
	for i := range steps {
		w.mu.Lock()
		w.step = i + 1
		w.mu.Unlock()
		n := w.rnd.IntN(total)
		for _, o := range operations {
			if n -= o.weight; n < 0 {
				w.note("%s", o.name)
				o.do(w)
				break
			}
		}
		if w.rnd.IntN(3) > 0 {
			time.Sleep(upTo(w.rnd, 100*time.Millisecond))
			synctest.Wait()
		}
		if w.failed() {
			return
		}
	}
}

func (w *world) client() *client       { return w.people[w.rnd.IntN(len(w.people))] }
func (w *world) node() *edgeNode       { return w.nodes[w.rnd.IntN(len(w.nodes))] }
func (w *world) user() protocol.UserID { return w.back.people[w.rnd.IntN(len(w.back.people))] }

// room is one of the first channels most of the time: what happens to one channel is what is interesting.
func (w *world) room() protocol.ChannelID {
	w.back.mu.Lock()
	defer w.back.mu.Unlock()
	n := len(w.back.list)
	if w.rnd.IntN(3) > 0 {
		n = min(n, 5)
	}
	return w.back.list[w.rnd.IntN(n)]
}

func (w *world) memberOf(ch protocol.ChannelID) protocol.UserID {
	w.back.mu.Lock()
	defer w.back.mu.Unlock()
	members := w.back.rooms[ch].sorted()
	if len(members) == 0 {
		return admin
	}
	return members[w.rnd.IntN(len(members))]
}

func (w *world) writes(c *client, method string, args ...string) {
	form := url.Values{}
	for i := 0; i < len(args); i += 2 {
		form.Set(args[i], args[i+1])
	}
	w.note("%s (%s): %s %v", c.name, c.user, method, form)
	w.spawn(func() { c.write(method, form) })
}

// weather changes how bad the network is.
func (w *world) weather() {
	f := w.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	pick := func(d ...time.Duration) time.Duration { return d[w.rnd.IntN(len(d))] }
	f.delay = pick(0, 2*time.Millisecond, 20*time.Millisecond, 150*time.Millisecond)
	f.thought = pick(0, 5*time.Millisecond, 50*time.Millisecond, 300*time.Millisecond)
	f.refusal, f.repeats = w.rnd.IntN(3)*w.rnd.IntN(4), w.rnd.IntN(30)
	f.shuffle = w.rnd.IntN(2) == 0
}

// cut breaks connections of a node to the backend: the stream's among them, or only it.
func (w *world) cut(n *edgeNode) {
	w.note("%s is cut off", n.name)
	all := w.rnd.IntN(2) == 0
	for _, p := range w.gate.listener.pipes(n.name) {
		if all || w.rnd.IntN(2) == 0 {
			p.cut()
		}
	}
}

func (w *world) restartBackend() {
	w.note("the backend restarts")
	w.gate.listener.refuse(true)
	w.gate.listener.cut()
	if w.rnd.IntN(2) == 0 {
		w.shorten()
	}
	time.Sleep(time.Duration(w.rnd.IntN(4000)) * time.Millisecond)
	w.gate.listener.refuse(false)
}

// shorten lets the backend forget what it could replay.
func (w *world) shorten() {
	b := w.back
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replayFrom = max(b.replayFrom, b.position-min(b.position, protocol.Position(w.rnd.IntN(20))))
}

// pipes are the connections of the node's clients.
func (e *edgeNode) pipes() []*pipe {
	e.mu.Lock()
	ln := e.listener
	e.mu.Unlock()
	return ln.pipes("")
}

// hangUp ends a client for good.
func (c *client) hangUp() { c.drop(rand.New(rand.NewPCG(0, 0))) }
