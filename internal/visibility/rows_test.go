package visibility

import (
	"encoding/json"
	"fmt"
	"slices"

	"flannel/backend/store"
	"flannel/protocol"
)

// checkRows holds the ledger, which went by the log, against the store's rows at its head. It wants quiet.
func (l *ledger) checkRows() error {
	return l.w.back.Store().View(l.w.t.Context(), func(r store.Reader) error {
		p, err := r.Position()
		if err != nil {
			return err
		}
		if p != l.head {
			return fmt.Errorf("the ledger stands at %d, the store at %d", l.head, p)
		}
		if err := l.checkMembers(r); err != nil {
			return err
		}
		return l.checkObjects(r)
	})
}

func (l *ledger) checkMembers(r store.Reader) error {
	rows := make(map[protocol.ChannelID][]protocol.UserID)
	for _, team := range workspaces {
		err := r.EachMembership(team, func(ch protocol.ChannelID, u protocol.UserID) error {
			rows[ch] = append(rows[ch], u)
			return nil
		})
		if err != nil {
			return err
		}
	}
	for ch := range l.channels {
		slices.Sort(rows[ch])
		if want := l.membersAt(ch, l.head); !slices.Equal(rows[ch], want) {
			return fmt.Errorf("in %s are %v, by the log %v", ch, rows[ch], want)
		}
		delete(rows, ch)
	}
	if len(rows) > 0 {
		return fmt.Errorf("the log does not know the channels %v", sortedKeys(rows))
	}
	return nil
}

func (l *ledger) checkObjects(r store.Reader) error {
	for id := range l.users {
		o, err := r.Object(protocol.ObjectID(id))
		if err != nil {
			return err
		}
		var u protocol.User
		if err := json.Unmarshal(o.Body, &u); err != nil {
			return err
		}
		if got, _ := l.user(id, l.head); got.role != u.Role() || got.deleted != u.Deleted || got.team != u.TeamID {
			return fmt.Errorf("%s is %s, deleted %t; by the log %+v", id, u.Role(), u.Deleted, got)
		}
	}
	for id := range l.channels {
		o, err := r.Object(protocol.ObjectID(id))
		if err != nil {
			return err
		}
		var c protocol.Channel
		if err := json.Unmarshal(o.Body, &c); err != nil {
			return err
		}
		if got, _ := l.channel(id, l.head); got.typ != c.Type() || got.owner != c.ContextTeamID || !slices.Equal(got.shared, c.SharedTeamIDs) {
			return fmt.Errorf("%s is %s, shared with %v; by the log %+v", id, c.Type(), c.SharedTeamIDs, got)
		}
	}
	for _, a := range l.w.people {
		_, name := a.credentials()
		_, dead := l.revoked[name]
		revoked, err := r.Revoked(name, a.id, 1<<40)
		if err != nil {
			return err
		}
		if revoked != dead {
			return fmt.Errorf("the token %s is revoked %t, by the log %t", name, revoked, dead)
		}
	}
	return nil
}
