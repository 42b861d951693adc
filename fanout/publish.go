package fanout

import (
	"flannel/protocol"
)

// PublishAfter calls apply, which puts the events into the cache, and delivers them: AttachSince finds either all done or
// none. apply must not call the hub. Events of one topic are published in their order, from one goroutine. Several at once are
// messages of one channel, with no other effects, that all in it hear: each receiver is handed all of them before the next one is
// handed any, because looking a receiver up costs more than a message. Events without payload move members and are not
// delivered. When PublishAfter returns, every receiver has the frames. The slice is not kept.
func (h *Hub) PublishAfter(apply func(), run ...*protocol.Event) {
	for _, ev := range run {
		h.metrics.received(ev.Type)
	}
	began := h.log.now()
	defer func() { h.metrics.duration.Observe(h.log.now().Sub(began).Seconds()) }()
	h.publishing.Lock()
	defer h.publishing.Unlock()
	apply()
	ev := run[0]
	if user, ok := protocol.PresenceOf(ev.Topic); ok {
		h.publishPresence(ev, user)
		return
	}
	for _, ev := range run {
		h.log.remember(ev)
	}
	h.to, h.ask = h.to[:0], h.ask[:0]
	switch protocol.KindOf(protocol.ObjectID(ev.Topic)) {
	case protocol.KindChannel:
		h.chooseChannel(ev)
	case protocol.KindUser:
		h.mu.RLock()
		if a := h.users[protocol.UserID(ev.Topic)]; a != nil {
			h.choose(a, ev)
		}
		h.mu.RUnlock()
	case protocol.KindWorkspace:
		h.mu.RLock()
		for a := range h.crowdLocked(ev.Topic) {
			if a.role.Full() {
				h.choose(a, ev)
			} else {
				h.ask = append(h.ask, a)
			}
		}
		h.mu.RUnlock()
		h.chooseAllowed(ev)
	}
	h.frames = h.frames[:0]
	for _, ev := range run {
		if len(ev.Payload) > 0 {
			h.frames = append(h.frames, &Frame{Event: ev})
		}
	}
	h.deliver(h.frames...)
	clear(h.frames)
	clear(h.to)
	clear(h.ask)
	if protocol.KindOf(protocol.ObjectID(ev.Topic)) == protocol.KindUser && movesMembers(ev) {
		h.joined(ev)
	}
}

// chooseChannel collects the audience of a channel's event. Who is added by it hears it, and who is removed by it too.
func (h *Hub) chooseChannel(ev *protocol.Event) {
	ch := protocol.ChannelID(ev.Topic)
	if !movesMembers(ev) {
		h.mu.RLock()
		for a := range h.crowdLocked(ev.Topic) {
			h.choose(a, ev)
		}
		h.mu.RUnlock()
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range ev.Effects {
		if e := &ev.Effects[i]; e.Op == protocol.OpMemberAdded && e.Channel == ch {
			if a := h.users[e.User]; a != nil {
				c, due := a.due[ch]
				if !due {
					a.cameLocked(ch, ev.Position)
				}
				h.enterLocked(a, ch)
				if due && ev.Position < c.last {
					a.due[ch] = c // They went and came again, which it is still to tell.
				}
			}
		}
	}
	for a := range h.crowdLocked(ev.Topic) {
		h.choose(a, ev)
	}
	for i := range ev.Effects {
		if e := &ev.Effects[i]; e.Op == protocol.OpMemberRemoved && e.Channel == ch {
			if a := h.users[e.User]; a != nil {
				h.leaveLocked(a, ch)
			}
		}
	}
}

func movesMembers(ev *protocol.Event) bool {
	for i := range ev.Effects {
		if op := ev.Effects[i].Op; op == protocol.OpMemberAdded || op == protocol.OpMemberRemoved {
			return true
		}
	}
	return false
}

// choose adds a user's sessions to those who hear the event. It wants mu.
func (h *Hub) choose(a *audience, ev *protocol.Event) {
	if a.user != ev.Except {
		h.to = append(h.to, a.sessions)
	}
}

// chooseAllowed asks, without mu, who else may hear an event of a workspace.
func (h *Hub) chooseAllowed(ev *protocol.Event) {
	if len(h.ask) == 0 || len(ev.Payload) == 0 {
		return
	}
	for _, a := range h.ask {
		if !h.allow(a.user, ev) {
			h.metrics.refused.Inc()
			continue
		}
		h.mu.RLock()
		h.choose(a, ev)
		h.mu.RUnlock()
	}
}

// deliver hands frames to everybody in to.
func (h *Hub) deliver(frames ...*Frame) {
	n := 0
	for _, sessions := range h.to {
		for _, r := range sessions {
			for _, f := range frames {
				r.Deliver(f)
			}
		}
		n += len(sessions)
	}
	for range frames {
		h.metrics.size.Observe(float64(n))
	}
}
