package visibility

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"flannel/backend/store"
	"flannel/protocol"
)

// What administrators do to people and channels has no method in the dialect: it is written into the store as the
// contract (docs/upstream.md) wants it, with its events in the same transaction.

// write is one change by the system. errSkip leaves everything as it was.
func (w *world) write(fn func(tx store.Tx) error) {
	_, err := w.back.Store().Update(w.t.Context(), fn)
	if err != nil && !errors.Is(err, errSkip) && !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrNotFound) {
		w.t.Errorf("write: %v", err)
	}
}

var errSkip = errors.New("nothing to do")

func stamp() string {
	now := time.Now()
	return fmt.Sprintf("%010d.%06d", now.Unix(), now.Nanosecond()/1000)
}

func emit(tx store.Tx, topic protocol.Topic, typ string, payload args, effects ...protocol.Effect) error {
	e := &protocol.Event{Topic: topic, Type: typ, Class: protocol.ClassControl, Effects: effects}
	if payload != nil {
		payload["type"], payload["event_ts"] = typ, stamp()
		e.Payload = protocol.MustMarshal(payload)
	}
	return tx.Emit(e)
}

func upsert(o protocol.Object) protocol.Effect {
	return protocol.Effect{Op: protocol.OpUpsert, Object: &o}
}

func load[T any](tx store.Tx, id protocol.ObjectID) (*T, error) {
	o, err := tx.Object(id)
	if err != nil {
		return nil, err
	}
	v := new(T)
	return v, json.Unmarshal(o.Body, v)
}

// changeUser changes a user as an administrator does.
func changeUser(tx store.Tx, id protocol.UserID, change func(u *protocol.User)) error {
	u, err := load[protocol.User](tx, protocol.ObjectID(id))
	if err != nil {
		return err
	}
	change(u)
	u.Updated = store.NextVersion(u.Updated, time.Now(), time.Second)
	if err := tx.Put(u); err != nil {
		return err
	}
	o := u.Object()
	return emit(tx, o.Topic, "user_change", args{"user": o.Body, "cache_ts": u.Updated}, upsert(o))
}

// setRole makes somebody a member, an admin or a guest.
func setRole(tx store.Tx, id protocol.UserID, role protocol.Role) error {
	return changeUser(tx, id, func(u *protocol.User) {
		u.IsAdmin, u.IsRestricted, u.IsUltraRestricted = role == protocol.RoleAdmin, role == protocol.RoleGuest, false
	})
}

// deactivate ends an account; its tokens are dead with it, until it is active again.
func deactivate(tx store.Tx, id protocol.UserID, leave bool) error {
	if err := changeUser(tx, id, func(u *protocol.User) { u.Deleted = true }); err != nil {
		return err
	}
	if err := emit(tx, protocol.Topic(id), "account_deactivated", nil, protocol.Effect{Op: protocol.OpRevoked, User: id}); err != nil || !leave {
		return err
	}
	ms, err := tx.Memberships(id)
	if err != nil {
		return err
	}
	for _, m := range ms {
		if m.Type == protocol.TypePublic || m.Type == protocol.TypePrivate {
			if err := expel(tx, m.Channel, id); err != nil {
				return err
			}
		}
	}
	return nil
}

func reactivate(tx store.Tx, id protocol.UserID) error {
	return changeUser(tx, id, func(u *protocol.User) { u.Deleted = false })
}

// expel takes somebody out of a channel: the user topic first, then the channel's.
func expel(tx store.Tx, ch protocol.ChannelID, id protocol.UserID) error {
	if err := tx.RemoveMember(ch, id); err != nil {
		return err
	}
	gone := protocol.Effect{Op: protocol.OpMemberRemoved, Channel: ch, User: id}
	if err := emit(tx, protocol.Topic(id), "channel_left", args{"channel": ch}, gone); err != nil {
		return err
	}
	return emit(tx, protocol.Topic(ch), "member_left_channel", args{"channel": ch, "user": id}, gone)
}

// admit puts somebody into a channel.
func admit(tx store.Tx, ch protocol.ChannelID, id protocol.UserID) error {
	c, err := load[protocol.Channel](tx, protocol.ObjectID(ch))
	if err != nil {
		return err
	}
	m := protocol.Membership{Channel: ch, Owner: c.ContextTeamID, Type: c.Type(), Updated: c.Updated, Archived: c.IsArchived}
	if err := tx.AddMember(id, m); err != nil {
		return err
	}
	if m, err = tx.Membership(ch, id); err != nil {
		return err
	}
	added := protocol.Effect{Op: protocol.OpMemberAdded, Channel: ch, User: id, Membership: &m}
	if err := emit(tx, protocol.Topic(id), "channel_joined", args{"channel": args{"id": ch}}, added); err != nil {
		return err
	}
	added.Membership = nil
	return emit(tx, protocol.Topic(ch), "member_joined_channel", args{"channel": ch, "user": id}, added)
}

// changeChannel changes a channel. The event goes on the topic that covers it, and on the one that did.
func changeChannel(tx store.Tx, id protocol.ChannelID, change func(c *protocol.Channel) error) error {
	c, err := load[protocol.Channel](tx, protocol.ObjectID(id))
	if err != nil {
		return err
	}
	before := c.Object().Topic
	if err := change(c); err != nil {
		return err
	}
	c.Updated = store.NextVersion(c.Updated, time.Now(), time.Millisecond)
	if err := tx.Put(c); err != nil {
		return err
	}
	o := c.Object()
	if before != o.Topic {
		if err := emit(tx, before, "channel_updated", nil, upsert(o)); err != nil {
			return err
		}
	}
	return emit(tx, o.Topic, "channel_updated", nil, upsert(o))
}

// systemChange does one change at random.
func (w *world) systemChange(rng *rand.Rand) {
	who := w.anybody(rng)
	switch rng.IntN(10) {
	case 0, 1: // A member becomes a guest, a guest a member.
		w.write(func(tx store.Tx) error {
			u, err := load[protocol.User](tx, protocol.ObjectID(who))
			if err != nil || u.IsBot || u.IsAdmin {
				return errors.Join(err, errSkip)
			}
			role := protocol.RoleGuest
			if u.Guest() {
				role = protocol.RoleMember
			}
			return setRole(tx, who, role)
		})
	case 2, 3, 4: // Accounts end, and are taken up again.
		w.write(func(tx store.Tx) error {
			u, err := load[protocol.User](tx, protocol.ObjectID(who))
			if err != nil || u.IsAdmin {
				return errors.Join(err, errSkip)
			}
			if u.Deleted {
				return reactivate(tx, who)
			}
			if rng.IntN(2) == 0 {
				return errSkip // Fewer end than begin.
			}
			return deactivate(tx, who, rng.IntN(2) == 0)
		})
	case 5, 6: // Channels are shared, and not any more.
		ch := pickOne(stage, rng.Uint64())
		w.write(func(tx store.Tx) error {
			return changeChannel(tx, ch.id, func(c *protocol.Channel) error {
				if c.IsGeneral || c.ContextTeamID == bravo {
					return errSkip
				}
				with := []protocol.WorkspaceID{zulu, bravo}[rng.IntN(2)]
				if c.ContextTeamID == zulu {
					with = alpha
				}
				if len(c.SharedTeamIDs) > 0 {
					share(c, nil)
				} else {
					share(c, []protocol.WorkspaceID{with})
				}
				return nil
			})
		})
	case 7: // People are put out of channels, and in.
		ch := pickOne(stage, rng.Uint64())
		w.write(func(tx store.Tx) error {
			if _, err := tx.Membership(ch.id, who); err == nil {
				return expel(tx, ch.id, who)
			}
			if ch.owner != w.of(who).team && len(ch.shared) == 0 {
				return errSkip
			}
			return admit(tx, ch.id, who)
		})
	default: // Usergroups change.
		team := pickOne(workspaces, rng.Uint64())
		w.write(func(tx store.Tx) error {
			g, err := load[protocol.Usergroup](tx, protocol.ObjectID("S0"+team[2:]))
			if err != nil {
				return err
			}
			next := w.newGroup(g.ID, team, store.NextVersion(g.DateUpdate, time.Now(), time.Second), []protocol.UserID{who})
			if err := tx.Put(next); err != nil {
				return err
			}
			o := next.Object()
			return emit(tx, o.Topic, "subteam_updated", args{"subteam": o.Body}, upsert(o))
		})
	}
}

// anybody returns somebody to whom things may happen.
func (w *world) anybody(rng *rand.Rand) protocol.UserID {
	return w.people[1+rng.IntN(len(w.people)-1)].id // The first is the clock.
}
