package sim_test

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"flannel/protocol"
)

// reading is one request of a client and what was so when it began: the answer must not be older.
type reading struct {
	v    *view
	node *edgeNode
	// heard is the position up to which the node surely knew everything, began the backend's position.
	heard, began protocol.Position
	// lately is the backend's position recovery before the request began.
	lately protocol.Position
	down   bool
	// floor is what the answer must know: what the node had heard, and what the client had written there.
	floor protocol.Position
	// held is what the client had seen in its session on the node.
	held map[protocol.ObjectID]protocol.Position
	// chans is up to where the client had heard each channel.
	chans map[protocol.Topic]protocol.Position
	// stale: the answer was marked so. silent: it came on the socket, which does not tell.
	stale, silent bool
	what          string
	token         string
	at            time.Time
	epoch         int
}

func (v *view) reading(n *edgeNode, token, what string) *reading {
	r := &reading{v: v, node: n, heard: n.heard(), down: n.down(), began: v.w.back.now(), what: what, token: token, at: time.Now(), chans: make(map[protocol.Topic]protocol.Position)}
	b := v.w.back
	b.mu.Lock()
	defer b.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	r.lately = b.positionAtLocked(r.at.Add(-recovery))
	r.floor, r.epoch = max(r.heard, v.wrote[n]), v.epoch
	if n != v.home {
		return r
	}
	r.held = maps.Clone(v.held)
	for t, seq := range v.heard {
		if seq > 0 {
			r.chans[t] = b.topics[t][seq-1].Position
		}
	}
	return r
}

func (r *reading) fail(format string, args ...any) {
	r.v.fail("%s: "+format, append([]any{r.what}, args...)...)
}

// alive checks an answer that was given at all: not to somebody whose token the node had known to be dead for a second,
// which is what the promise says.
func (r *reading) alive() {
	b := r.v.w.back
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.logins[r.token]; l != nil && l.revoked != 0 && l.revoked <= r.heard && r.at.Sub(b.timeOfLocked(l.revoked)) > time.Second {
		r.fail("served to a token that was revoked at %d, and the node had heard %d", l.revoked, r.heard)
	}
}

// objects checks objects that were shown.
func (r *reading) objects(list []shown) {
	b, v := r.v.w.back, r.v
	b.mu.Lock()
	defer b.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range list {
		o, at := b.stateLocked(s.ID, s.Updated)
		if o == nil {
			r.fail("%s was never in version %d: %s", s.ID, s.Updated, s.raw)
			continue
		}
		if err := sameFields(o.Body, s.raw); err != nil {
			r.fail("%s in version %d: %v", s.ID, s.Updated, err)
		}
		if !b.everSeesLocked(v.user, s.ID, r.permitted(), b.position) && !r.onStaleRole(s.ID) {
			r.fail("LEAK: shown %s, which could not be seen from %d to %d", s.ID, r.permitted(), b.position)
		}
		if at < r.held[s.ID] {
			r.fail("OLDER: shown %s as of %d after %d", s.ID, at, r.held[s.ID])
		}
		if next := b.objects[s.ID].after(at); next != 0 && next <= r.floor && r.sure() {
			r.fail("STALE: shown %s as of %d, but %d was known at %d", s.ID, at, next, r.floor)
		}
		if r.epoch == v.epoch && r.node == v.home { // Another node knows nothing of it.
			v.held[s.ID] = max(v.held[s.ID], at)
		}
	}
}

// onStaleRole reports whether a public thing was shown by the role that the user had when the stream broke: while it is
// down public things are shown, and marked as stale.
func (r *reading) onStaleRole(id protocol.ObjectID) bool {
	b := r.v.w.back
	a := b.accounts[r.v.user]
	broke := b.positionAtLocked(r.at.Add(-2 * recovery)) // No outage is longer.
	return (r.stale || r.silent) && ever(min(broke, r.since()), b.position, func(p protocol.Position) bool { return a.roles.at(p).Full() }) &&
		ever(r.since(), b.position, func(p protocol.Position) bool {
			o := b.objects[id].at(p)
			return o != nil && slices.Contains(o.Visibility.Workspaces, a.shape.TeamID)
		})
}

// hidden checks ids that the client was told it cannot see.
func (r *reading) hidden(ids []protocol.ObjectID) {
	b, v := r.v.w.back, r.v
	b.mu.Lock()
	defer b.mu.Unlock()
	if !r.sure() {
		return
	}
	for _, id := range ids {
		if b.alwaysSeesLocked(v.user, id, r.floor, b.position) {
			r.fail("HIDDEN: %s could be seen from %d to %d", id, r.floor, b.position)
		}
	}
}

// sure reports whether the answer must be fresh: it is not marked as stale, and would be if it were.
func (r *reading) sure() bool { return !r.stale && !r.silent && r.heard > 0 }

// since is the position from which on a thing must have been visible at least once in order to be shown. What the node
// had not heard when the request began it could not know; if nobody can tell, its stream is down, when it must not go by
// what it knew, or has been for less than recovery.
func (r *reading) since() protocol.Position {
	switch {
	case r.heard == 0 && r.down:
		return r.began
	case r.heard == 0:
		return r.lately
	}
	return min(r.heard, r.began)
}

// permitted is since for what is shown by permission: for longer than recovery a node whose stream is down does not go by
// what it knew.
func (r *reading) permitted() protocol.Position {
	if r.down {
		return max(r.since(), r.lately)
	}
	return r.since()
}

// members checks the members of a channel that were told: they must have been so at one time, and not before what the
// client had heard.
func (r *reading) members(ch protocol.ChannelID, asked, told []protocol.UserID) {
	b, v := r.v.w.back, r.v
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.everSeesLocked(v.user, protocol.ObjectID(ch), r.permitted(), b.position) {
		r.fail("LEAK: told the members of %s, which could not be seen from %d to %d", ch, r.permitted(), b.position)
	}
	if r.stale || r.silent {
		return
	}
	slices.Sort(told)
	from := max(r.floor, r.chans[protocol.Topic(ch)])
	if !ever(min(from, b.position), b.position, func(p protocol.Position) bool {
		var is []protocol.UserID
		for _, u := range asked {
			if b.memberLocked(u, ch, p) {
				is = append(is, u)
			}
		}
		return slices.Equal(is, told)
	}) {
		r.fail("MEMBERS: told that %v are in %s, which was never so from %d to %d", told, ch, from, b.position)
	}
}

// own checks the list of channels that the client was told to be in.
func (r *reading) own(told []protocol.ChannelID) {
	b, v := r.v.w.back, r.v
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.stale || r.silent {
		return
	}
	for _, ch := range told {
		if !ever(r.since(), b.position, func(p protocol.Position) bool { return b.memberLocked(v.user, ch, p) }) {
			r.fail("LEAK: told to be in %s, which was not so from %d to %d", ch, r.since(), b.position)
		}
	}
	for _, ch := range b.list {
		if slices.Contains(told, ch) || b.archived(ch, r.floor) {
			continue
		}
		if r.heard > 0 && always(r.floor, b.position, func(p protocol.Position) bool { return b.memberLocked(v.user, ch, p) }) {
			r.fail("HIDDEN: not told to be in %s, which was so from %d to %d", ch, r.floor, b.position)
		}
	}
}

// archived reports whether the channel was archived at some time since p. It wants mu.
func (b *backend) archived(ch protocol.ChannelID, p protocol.Position) bool {
	return ever(p, b.position, func(q protocol.Position) bool {
		o := b.objects[protocol.ObjectID(ch)].at(q)
		return o != nil && string(protocol.Field(o.Body, "is_archived")) == "true"
	})
}

// after is the position of the first change after p, 0 if there is none.
func (t *timeline[T]) after(p protocol.Position) protocol.Position {
	for _, s := range t.stamps {
		if s.at > p {
			return s.at
		}
	}
	return 0
}

// answer is what the reads of the edge query API and the Web API have in common.
type answer struct {
	OK       bool                 `json:"ok"`
	Error    protocol.Code        `json:"error"`
	Results  json.RawMessage      `json:"results"`
	Failed   []protocol.ObjectID  `json:"failed_ids"`
	Pending  []protocol.ObjectID  `json:"pending_ids"`
	Members  json.RawMessage      `json:"members"` // ids, or bodies
	Mine     []protocol.ChannelID `json:"member_channels"`
	Channel  json.RawMessage      `json:"channel"`
	Channels json.RawMessage      `json:"channels"`
	MPIMs    json.RawMessage      `json:"mpims"`
	IMs      json.RawMessage      `json:"ims"`
	Self     json.RawMessage      `json:"self"`
}

// users are the members, where they are ids.
func (a *answer) users() (list []protocol.UserID) {
	_ = json.Unmarshal(a.Members, &list)
	return list
}
