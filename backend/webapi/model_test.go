package webapi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"flannel/backend/store"
	"flannel/protocol"
)

// replica is what a cache makes of the effects of events: objects, and memberships with markers and mention counts.
type replica struct {
	objects     map[protocol.ObjectID]protocol.Object
	memberships map[protocol.UserID]map[protocol.ChannelID]protocol.Membership
	// onChannel says who is in a channel by the channel topic alone.
	onChannel map[protocol.ChannelID]map[protocol.UserID]bool
	seqs      map[protocol.Topic]protocol.Seq
}

func (r *replica) apply(t *rapid.T, e *protocol.Event) {
	if e.Seq != r.seqs[e.Topic]+1 && r.seqs[e.Topic] != 0 {
		t.Fatalf("%s: seq %d after %d", e.Topic, e.Seq, r.seqs[e.Topic])
	}
	r.seqs[e.Topic] = e.Seq
	channel := protocol.ChannelID(e.Topic)
	for _, f := range e.Effects {
		switch f.Op {
		case protocol.OpUpsert:
			if f.Object.Topic != e.Topic {
				t.Fatalf("%s changes on %s, is covered by %s", f.Object.ID, e.Topic, f.Object.Topic)
			}
			if had := r.objects[f.Object.ID]; f.Object.Version <= had.Version {
				t.Fatalf("%s: version %d after %d", f.Object.ID, f.Object.Version, had.Version)
			}
			r.objects[f.Object.ID] = *f.Object
		case protocol.OpMemberAdded:
			if f.Membership == nil {
				if r.onChannel[channel] == nil {
					r.onChannel[channel] = make(map[protocol.UserID]bool)
				}
				if _, knows := r.memberships[f.User][channel]; !knows {
					t.Fatalf("%s hears of %s on the channel before their own topic", f.User, channel)
				}
				r.onChannel[channel][f.User] = true
				continue
			}
			if r.memberships[f.User] == nil {
				r.memberships[f.User] = make(map[protocol.ChannelID]protocol.Membership)
			}
			r.memberships[f.User][f.Channel] = *f.Membership
		case protocol.OpMemberRemoved:
			if string(e.Topic) == string(f.User) {
				delete(r.memberships[f.User], f.Channel)
			} else {
				delete(r.onChannel[channel], f.User)
			}
		case protocol.OpRead:
			r.change(f.User, f.Channel, func(m *protocol.Membership) { m.LastRead, m.MentionCount = f.TS, f.MentionCount })
		case protocol.OpOpen:
			r.change(protocol.UserID(e.Topic), f.Channel, func(m *protocol.Membership) { m.Open = f.Open })
		case protocol.OpMessageAdded:
			for user := range r.onChannel[channel] {
				r.change(user, channel, func(m *protocol.Membership) {
					m.Latest = f.Latest
					if user == f.User {
						m.LastRead, m.MentionCount = f.TS, 0
					} else if f.TS > m.LastRead && (f.Everyone || slices.Contains(f.Mentions, user)) {
						m.MentionCount++
					}
				})
			}
		case protocol.OpMessageRemoved:
			for user := range r.onChannel[channel] {
				r.change(user, channel, func(m *protocol.Membership) {
					m.Latest = f.Latest
					if user != f.User && m.LastRead < f.TS && (f.Everyone || slices.Contains(f.Mentions, user)) {
						m.MentionCount--
					}
				})
			}
		}
	}
}

func (r *replica) change(user protocol.UserID, channel protocol.ChannelID, fn func(*protocol.Membership)) {
	if m, ok := r.memberships[user][channel]; ok {
		fn(&m)
		r.memberships[user][channel] = m
	}
}

// load takes the store's state, as a boot does.
func (r *replica) load(w *world, users []protocol.UserID) {
	err := w.store.View(context.Background(), func(rd store.Reader) error {
		for _, u := range users {
			r.memberships[u] = make(map[protocol.ChannelID]protocol.Membership)
			ms, err := rd.Memberships(u)
			if err != nil {
				return err
			}
			for _, m := range ms {
				r.memberships[u][m.Channel] = m
				if r.onChannel[m.Channel] == nil {
					r.onChannel[m.Channel] = make(map[protocol.UserID]bool)
				}
				r.onChannel[m.Channel][u] = true
			}
		}
		return nil
	})
	if err != nil {
		w.tb.Fatal(err)
	}
}

// Whatever users do, a cache that follows the events ends up with what the store has.
func TestEvents_TellEverything(t *testing.T) {
	users := []protocol.UserID{ann, ben, ada, gus, bot, zoe}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, Limits{Off: true})
		r := &replica{
			objects: make(map[protocol.ObjectID]protocol.Object), memberships: make(map[protocol.UserID]map[protocol.ChannelID]protocol.Membership),
			onChannel: make(map[protocol.ChannelID]map[protocol.UserID]bool), seqs: make(map[protocol.Topic]protocol.Seq),
		}
		r.load(w, users)
		applied := w.seen()
		channels := []string{string(general), string(random), string(project), string(secret), string(shared), string(old)}
		var messages []string // "channel ts"
		pickUser := rapid.SampledFrom(users)
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			user := pickUser.Draw(rt, "user")
			other := string(pickUser.Draw(rt, "other"))
			channel := rapid.SampledFrom(channels).Draw(rt, "channel")
			ts := "1.000000"
			if len(messages) > 0 && rapid.Bool().Draw(rt, "known") {
				if _, err := fmt.Sscan(rapid.SampledFrom(messages).Draw(rt, "message"), &channel, &ts); err != nil {
					rt.Fatal(err)
				}
			}
			call := rapid.SampledFrom([][]string{
				{"chat.postMessage", "channel", channel, "text", "hi <@" + other + ">"},
				{"chat.postMessage", "channel", channel, "text", "<!channel>"},
				{"chat.postMessage", "channel", channel, "text", "re <@" + other + ">", "thread_ts", ts},
				{"chat.postMessage", "channel", channel, "text", "re <@" + other + ">", "thread_ts", ts, "reply_broadcast", "1"},
				{"chat.postMessage", "channel", other, "text", "psst"},
				{"chat.update", "channel", channel, "ts", ts, "text", "edited"},
				{"chat.delete", "channel", channel, "ts", ts},
				{"conversations.mark", "channel", channel, "ts", ts},
				{"conversations.join", "channel", channel},
				{"conversations.leave", "channel", channel},
				{"conversations.invite", "channel", channel, "users", other},
				{"conversations.kick", "channel", channel, "user", other},
				{"conversations.open", "users", other},
				{"conversations.open", "users", "U0ANN,U0BEN,U0ADA"},
				{"conversations.close", "channel", channel},
				{"conversations.archive", "channel", channel},
				{"conversations.unarchive", "channel", channel},
				{"conversations.setTopic", "channel", channel, "topic", ts},
				{"conversations.rename", "channel", channel, "name", "n" + fmt.Sprint(len(messages))},
				{"conversations.create", "name", "made-" + fmt.Sprint(len(channels))},
				{"conversations.create", "name", "made-" + fmt.Sprint(len(channels)), "is_private", "1"},
				{"users.profile.set", "name", "status_text", "value", ts},
			}).Draw(rt, "call")
			var out struct {
				OK      bool            `json:"ok"`
				Channel json.RawMessage `json:"channel"`
				TS      string          `json:"ts"`
			}
			if err := json.Unmarshal(w.call(user, call[0], call[1:]...).Body, &out); err != nil {
				rt.Fatal(err)
			}
			if out.OK && call[0] == "chat.postMessage" {
				var id string
				if err := json.Unmarshal(out.Channel, &id); err != nil {
					rt.Fatal(err)
				}
				messages = append(messages, id+" "+out.TS)
			}
			if out.OK && (call[0] == "conversations.create" || call[0] == "conversations.open") {
				var c struct{ ID string }
				if err := json.Unmarshal(out.Channel, &c); err != nil {
					rt.Fatal(err)
				}
				channels = append(channels, c.ID)
			}
			w.mu.Lock()
			fresh := w.events[applied:]
			applied = len(w.events)
			w.mu.Unlock()
			for _, e := range fresh {
				r.apply(rt, e)
			}
			r.check(rt, w, users, fmt.Sprint(user, call))
		}
	})
}

func (r *replica) check(t *rapid.T, w *world, users []protocol.UserID, after string) {
	err := w.store.View(context.Background(), func(rd store.Reader) error {
		for _, u := range users {
			ms, err := rd.Memberships(u)
			if err != nil {
				return err
			}
			want := make(map[protocol.ChannelID]protocol.Membership)
			for _, m := range ms {
				// These two come from the channel object.
				m.Updated, m.Archived = 0, false
				want[m.Channel] = m
				if !r.onChannel[m.Channel][u] {
					t.Fatalf("after %s: %s is in %s, the channel topic does not know", after, u, m.Channel)
				}
			}
			got := make(map[protocol.ChannelID]protocol.Membership)
			for id, m := range r.memberships[u] {
				m.Updated, m.Archived = 0, false
				got[id] = m
			}
			if !maps.Equal(got, want) {
				t.Fatalf("after %s: %s has\n%+v\nthe store\n%+v", after, u, got, want)
			}
		}
		for id, have := range r.objects {
			o, err := rd.Object(id)
			if err != nil {
				return err
			}
			if o.Version != have.Version || string(o.Body) != string(have.Body) {
				t.Fatalf("after %s: %s is\n%s\nthe store has\n%s", after, id, have.Body, o.Body)
			}
		}
		for channel, in := range r.onChannel {
			n := 0
			for range in {
				n++
			}
			sizes, err := rd.NumMembers([]protocol.ChannelID{channel})
			if err != nil {
				return err
			}
			if sizes[channel] != n {
				t.Fatalf("after %s: %s has %d by the events, %d by the store", after, channel, n, sizes[channel])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
