package rtm

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"flannel/backend/channels"
	"flannel/backend/chat"
	"flannel/backend/store"
	"flannel/protocol"
)

// recentEvents is how many events of the user's own are searched for what happened between the ticket and the socket.
const recentEvents = 200

// followAll follows what the user has to hear of, from the ticket's position on: the dialect tells what happened between
// the call and the socket. Channels that the user joined in between are followed from there, because what was said
// before is not for them.
func (x *session) followAll() error {
	var (
		memberships []protocol.Membership
		at          protocol.Position
		since       = x.ticket.since
		joined      = make(map[protocol.ChannelID]protocol.Position)
		shared      []protocol.WorkspaceID
	)
	self := protocol.Topic(x.id.User)
	err := x.Store.View(x.life, func(r store.Reader) (err error) {
		if at, err = r.Position(); err != nil {
			return err
		}
		if x.ticket.fresh {
			since = at
		}
		if memberships, err = r.Memberships(x.id.User); err != nil {
			return err
		}
		if shared, err = workspacesOf(r, memberships); err != nil {
			return err
		}
		seq, _, err := r.Head(self)
		if err != nil {
			return err
		}
		own, err := r.TopicEvents(self, seq-min(seq, recentEvents), recentEvents)
		if err != nil {
			return err
		}
		if len(own) == recentEvents && own[0].Position > since {
			since = at // So much has happened that the search does not reach back to the ticket.
		}
		for _, ev := range own {
			if ev.Position <= since {
				continue
			}
			for i := range ev.Effects {
				if e := &ev.Effects[i]; e.Op == protocol.OpMemberAdded {
					joined[channelOf(e)] = ev.Position - 1
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	topics := []protocol.TopicState{{Topic: self, Position: &since}}
	for _, w := range append(shared, x.id.Workspaces...) {
		topic := protocol.Topic(w)
		if _, ok := x.scopes[topic]; !ok {
			topics = append(topics, protocol.TopicState{Topic: topic, Position: &since})
		}
		x.scopes[topic] = slices.Contains(x.id.Workspaces, w)
	}
	for i := range memberships {
		place := since
		if p, ok := joined[memberships[i].Channel]; ok {
			place = p
		}
		topics = append(topics, protocol.TopicState{Topic: protocol.Topic(memberships[i].Channel), Position: &place})
	}
	return x.sub.Subscribe(x.life, topics)
}

// workspacesOf lists the workspaces whose users may be in the channels: the owners, and those that share them.
func workspacesOf(r store.Reader, memberships []protocol.Membership) ([]protocol.WorkspaceID, error) {
	var (
		ids    []protocol.ObjectID
		owners []protocol.WorkspaceID
	)
	for i := range memberships {
		owners = append(owners, memberships[i].Owner)
		if memberships[i].Type != protocol.TypeDM {
			ids = append(ids, protocol.ObjectID(memberships[i].Channel))
		}
	}
	for batch := range slices.Chunk(ids, protocol.MaxObjectIDs) {
		found, _, err := r.Objects(batch)
		if err != nil {
			return nil, err
		}
		for i := range found {
			raw := protocol.Field(found[i].Body, "shared_team_ids")
			if raw == nil {
				continue
			}
			var with []protocol.WorkspaceID
			if err := json.Unmarshal(raw, &with); err != nil {
				return nil, fmt.Errorf("decode channel %q: %w", found[i].ID, err)
			}
			owners = append(owners, with...)
		}
	}
	slices.Sort(owners)
	return slices.Compact(owners), nil
}

// channelOf returns the channel of a membership effect.
func channelOf(e *protocol.Effect) protocol.ChannelID {
	if e.Channel == "" && e.Membership != nil {
		return e.Membership.Channel
	}
	return e.Channel
}

// deliver sends the items in order. Presence changes that stand together become one frame if the client can read that.
func (x *session) deliver(items []channels.Item) error {
	var presence presenceFrames
	for i := range items {
		it := &items[i]
		if it.Kind == channels.ItemEvent {
			if !it.Live() {
				continue
			}
			if user, ok := protocol.PresenceOf(it.Entry.Topic); ok {
				var change protocol.PresenceChange
				if json.Unmarshal(it.Entry.Payload, &change) == nil {
					presence.add(user, change.Presence)
				}
				continue
			}
		}
		if err := x.sendAll(presence.take(x.batch)); err != nil {
			return err
		}
		var err error
		if it.Kind == channels.ItemFrame {
			err = x.send(it.Frame)
		} else {
			err = x.event(it.Entry.Event)
		}
		if err != nil {
			return err
		}
	}
	return x.sendAll(presence.take(x.batch))
}

func (x *session) sendAll(frames [][]byte) error {
	for _, f := range frames {
		if err := x.send(f); err != nil {
			return err
		}
	}
	return nil
}

// event does what an event means for the session, and sends it if it is for the client.
func (x *session) event(ev *protocol.Event) error {
	self := ev.Topic == protocol.Topic(x.id.User)
	if self {
		if err := x.own(ev); err != nil {
			return err
		}
	}
	wanted := len(ev.Payload) > 0 && ev.Except != x.id.User
	if full, workspace := x.scopes[ev.Topic]; workspace && (wanted || concerns(ev, x.id.User)) {
		if err := x.refresh(ev); err != nil {
			return err
		}
		if wanted && !(full && x.id.Role.Full()) {
			var err error
			if wanted, err = x.sees(ev); err != nil {
				return err
			}
		}
	}
	if wanted {
		x.metrics.sent.Inc()
		if err := x.send(ev.Payload); err != nil {
			return err
		}
	}
	if !self {
		for i := range ev.Effects {
			// Last, so that whoever leaves hears of it as the others do.
			if e := &ev.Effects[i]; e.Op == protocol.OpMemberRemoved && e.User == x.id.User {
				x.sub.Unsubscribe(protocol.Topic(e.Channel))
			}
		}
	}
	return nil
}

// own does what an event on the user's topic means.
func (x *session) own(ev *protocol.Event) error {
	for i := range ev.Effects {
		switch e := &ev.Effects[i]; e.Op {
		case protocol.OpRevoked:
			if e.Token == "" || e.Token == x.id.Token {
				return &ending{code: protocol.CloseTokenRevoked, reason: string(protocol.CodeTokenRevoked)}
			}
		case protocol.OpMemberAdded:
			if err := x.join(channelOf(e), e.Membership, ev.Position); err != nil {
				return err
			}
		}
	}
	return nil
}

// join follows a channel from the commit that put the user in it.
func (x *session) join(channel protocol.ChannelID, m *protocol.Membership, at protocol.Position) error {
	if x.sub.Follows(protocol.Topic(channel)) {
		return nil
	}
	place := at - 1 // The commit's own events of the channel count.
	topics := []protocol.TopicState{{Topic: protocol.Topic(channel), Position: &place}}
	if m != nil {
		err := x.Store.View(x.life, func(r store.Reader) error {
			shared, err := workspacesOf(r, []protocol.Membership{*m})
			for _, w := range shared {
				if _, ok := x.scopes[protocol.Topic(w)]; !ok {
					x.scopes[protocol.Topic(w)] = false
					topics = append(topics, protocol.TopicState{Topic: protocol.Topic(w), Position: &place})
				}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return x.sub.Subscribe(x.life, topics)
}

// concerns reports whether the event changes the user's own object.
func concerns(ev *protocol.Event, user protocol.UserID) bool {
	return slices.ContainsFunc(ev.Effects, func(e protocol.Effect) bool {
		return e.Op == protocol.OpUpsert && e.Object != nil && e.Object.ID == protocol.ObjectID(user)
	})
}

// refresh takes the user's role from their own object, and ends the session of one who was deactivated.
func (x *session) refresh(ev *protocol.Event) error {
	if !concerns(ev, x.id.User) {
		return nil
	}
	for i := range ev.Effects {
		o := ev.Effects[i].Object
		if o == nil || o.ID != protocol.ObjectID(x.id.User) {
			continue
		}
		var u protocol.User
		if err := json.Unmarshal(o.Body, &u); err != nil {
			return fmt.Errorf("decode user %q: %w", o.ID, err)
		}
		if u.Deleted {
			return &ending{code: protocol.CloseInactive, reason: string(protocol.CodeAccountInactive)}
		}
		x.id.Role = u.Role()
	}
	return nil
}

// sees reports whether one who does not see the whole workspace may hear of an event on its topic: if they see each
// object that it changes.
func (x *session) sees(ev *protocol.Event) (bool, error) {
	var objects []protocol.Object
	for i := range ev.Effects {
		switch e := &ev.Effects[i]; e.Op {
		case protocol.OpUpsert:
			objects = append(objects, *e.Object)
		case protocol.OpTombstone:
			// What it was is gone; whoever shared a channel with a user or was in a channel may know that.
			o := protocol.Object{ID: e.ID, Kind: protocol.KindOf(e.ID), Visibility: protocol.Visibility{Sharing: true}}
			if o.Kind == protocol.KindChannel {
				o.Visibility.Channel = protocol.ChannelID(e.ID)
			}
			objects = append(objects, o)
		default:
			return false, nil
		}
	}
	if len(objects) == 0 {
		return false, nil
	}
	all := true
	err := x.Store.View(x.life, func(r store.Reader) error {
		v := chat.NewViewer(r, &x.id)
		for i := range objects {
			ok, err := v.Sees(&objects[i])
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			all = all && ok
		}
		return nil
	})
	return all, err
}

// presenceFrames gathers presences, the last of each user.
type presenceFrames struct {
	users  []protocol.UserID
	states map[protocol.UserID]protocol.Presence
}

func (p *presenceFrames) add(user protocol.UserID, state protocol.Presence) {
	if p.states == nil {
		p.states = make(map[protocol.UserID]protocol.Presence)
	}
	if _, ok := p.states[user]; !ok {
		p.users = append(p.users, user)
	}
	p.states[user] = state
}

// take returns the frames that say it, and forgets. batch puts users of the same presence in one frame.
func (p *presenceFrames) take(batch bool) (frames [][]byte) {
	defer func() { p.users, p.states = nil, nil }()
	if !batch {
		for _, user := range p.users {
			frames = append(frames, protocol.MustMarshal(protocol.PresenceChange{Type: protocol.FramePresenceChange, Presence: p.states[user], User: user}))
		}
		return frames
	}
	for _, state := range []protocol.Presence{protocol.Active, protocol.Away} {
		var users []protocol.UserID
		for _, user := range p.users {
			if p.states[user] == state {
				users = append(users, user)
			}
		}
		if len(users) > 0 {
			frames = append(frames, protocol.MustMarshal(protocol.PresenceChange{Type: protocol.FramePresenceChange, Presence: state, Users: users}))
		}
	}
	return frames
}
