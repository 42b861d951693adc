package visibility

import (
	"math/rand/v2"

	"flannel/backend/store"
	"flannel/protocol"
)

// rooms lists the channels that there are, in id order.
func (w *world) rooms() []protocol.ChannelID {
	var ids []protocol.ChannelID
	err := w.back.Store().View(w.t.Context(), func(r store.Reader) error {
		for _, team := range workspaces {
			err := r.EachObject(team, protocol.KindChannel, func(o *protocol.Object) error {
				ids = append(ids, protocol.ChannelID(o.ID))
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Error(err)
	}
	return ids
}

// insider returns somebody who is in a channel, or anybody if nobody is.
func (w *world) insider(rng *rand.Rand, ch protocol.ChannelID) *account {
	var users []protocol.UserID
	err := w.back.Store().View(w.t.Context(), func(r store.Reader) (err error) {
		users, _, _, err = r.Members(ch, "", 1000)
		return err
	})
	if err != nil {
		w.t.Error(err)
	}
	if len(users) == 0 {
		return w.of(w.anybody(rng))
	}
	return w.of(pickOne(users, rng.Uint64()))
}

// maxRooms is how many channels there may be: more would only make each of them quieter.
const maxRooms = 45

// change does one change at random, by somebody who probably may do so. Whether they may is the backend's business.
func (w *world) change(rng *rand.Rand) {
	if rng.IntN(5) == 0 {
		w.systemChange(rng)
		return
	}
	rooms := w.rooms()
	ch := pickOne(rooms, rng.Uint64())
	a, other := w.insider(rng, ch), w.anybody(rng)
	n := pickOne(w.nodes, rng.Uint64())
	do := func(who *account, method string, in args) reply { return w.ask(n, who, rowOther, method, in) }
	switch rng.IntN(24) {
	case 0, 1, 2, 3, 4, 5:
		text := w.secret("ms", string(ch))
		if rng.IntN(3) == 0 {
			text += " <@" + string(other) + ">"
		}
		do(a, "chat.postMessage", args{"channel": ch, "text": text})
	case 6, 7:
		do(w.of(other), "conversations.join", args{"channel": ch})
	case 8, 9:
		do(a, "conversations.leave", args{"channel": ch})
	case 10, 11, 12, 13:
		do(a, "conversations.invite", args{"channel": ch, "users": string(other)})
	case 14, 15:
		do(a, "conversations.kick", args{"channel": ch, "user": string(w.insider(rng, ch).id)})
	case 16:
		do(a, "conversations.setTopic", args{"channel": ch, "topic": w.secret("ch", string(ch))})
	case 17:
		do(a, "conversations.rename", args{"channel": ch, "name": w.channelName()})
	case 18:
		if method := "conversations.archive"; rng.IntN(3) > 0 || !do(a, method, args{"channel": ch}).ok() {
			do(a, "conversations.unarchive", args{"channel": ch})
		}
	case 19:
		s := w.secret("us", string(a.id))
		do(a, "users.profile.set", args{"profile": args{"real_name": s, "display_name": s}})
	case 20:
		w.makeRoom(rng, do, len(rooms))
	case 21:
		boss := w.of([]protocol.UserID{"U0ADMIN", "U0BAD", "U0ZAD"}[rng.IntN(3)])
		name := "e" + itoa(rng.IntN(6))
		if !do(boss, "admin.emoji.add", args{"name": name, "url": "https://emoji.example/" + w.secret("em", string(boss.team))}).ok() {
			do(boss, "admin.emoji.remove", args{"name": name})
		}
	case 22:
		do(a, "users.prefs.set", args{"prefs": args{"note": w.secret("pr", string(a.id))}})
	case 23:
		who := w.of(other)
		if rng.IntN(2) == 0 && do(who, "auth.revoke", nil).ok() {
			w.issue(who)
		}
	}
}

// makeRoom makes a channel, a direct message or a group DM, and says something there.
func (w *world) makeRoom(rng *rand.Rand, do func(*account, string, args) reply, rooms int) {
	a := w.of(w.anybody(rng))
	if rooms >= maxRooms || rng.IntN(2) == 0 {
		users := string(w.anybody(rng))
		for range rng.IntN(2) {
			users += "," + string(w.anybody(rng))
		}
		opened := do(a, "conversations.open", args{"users": users})
		if c, ok := opened["channel"].(map[string]any); ok {
			id, _ := c["id"].(string)
			do(a, "chat.postMessage", args{"channel": id, "text": w.secret("ms", id)})
		}
		return
	}
	made := do(a, "conversations.create", args{"name": w.channelName(), "is_private": rng.IntN(3) > 0})
	c, _ := made["channel"].(map[string]any)
	if id, _ := c["id"].(string); id != "" {
		do(a, "conversations.setTopic", args{"channel": id, "topic": w.secret("ch", id)})
	}
}
