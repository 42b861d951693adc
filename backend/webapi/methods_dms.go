package webapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"flannel/protocol"
)

const (
	// dmsCount is the dialect's page of client.dms.
	dmsCount = 250
	// cursorDM is the kind of its cursors: the last entry of the page before, LATEST:ID.
	cursorDM = "dm"
)

// clientDMs lists the caller's direct and group messages, those with the newest message first. A conversation that a
// message moves to the front while somebody pages is told to them by its event.
func clientDMs(q *request) ([]byte, error) {
	count, err := q.pageSize("count", dmsCount)
	if err != nil {
		return nil, err
	}
	after, err := dmCursor(q.args["cursor"])
	if err != nil {
		return nil, err
	}
	mine, err := q.r.Memberships(q.id.User)
	if err != nil {
		return nil, err
	}
	closed := q.args.Bool("include_closed", false)
	list := slices.DeleteFunc(mine, func(m protocol.Membership) bool {
		return m.Type != protocol.TypeDM && m.Type != protocol.TypeGroupDM || m.Archived || !m.Open && !closed || after != nil && newestFirst(m, *after) <= 0
	})
	slices.SortFunc(list, newestFirst)
	if q.args.Bool("exclude_bots", false) {
		if list, err = q.withoutBots(list, count+1); err != nil {
			return nil, err
		}
	}
	next := ""
	if len(list) > count {
		list = list[:count]
		last := &list[count-1]
		next = protocol.EncodeCursor(cursorDM, string(last.Latest.OrZero())+":"+string(last.Channel))
	}
	bodies := make(map[protocol.ObjectID]*protocol.Object)
	if q.args.Bool("include_channel", false) {
		ids := make([]protocol.ObjectID, len(list))
		for i := range list {
			ids[i] = protocol.ObjectID(list[i].Channel)
		}
		if bodies, err = q.objects(ids); err != nil {
			return nil, err
		}
	}
	var ims, mpims [][]byte
	for i := range list {
		entry := renderDM(&list[i], bodies[protocol.ObjectID(list[i].Channel)])
		if list[i].Type == protocol.TypeDM {
			ims = append(ims, entry)
		} else {
			mpims = append(mpims, entry)
		}
	}
	return okAnswer().list("ims", ims).list("mpims", mpims).next(next).bytes(), nil
}

// renderDM returns an entry; o is nil if the channel is not wanted.
func renderDM(m *protocol.Membership, o *protocol.Object) []byte {
	a := &answer{buf: []byte("{")}
	a.val("id", m.Channel)
	if m.Peer != "" {
		a.val("user", m.Peer)
	}
	a.val("updated", m.Updated).val("is_open", m.Open).val("latest", m.Latest.OrZero()).val("last_read", m.LastRead.OrZero()).
		val("mention_count", m.MentionCount).val("has_unreads", m.Latest > m.LastRead)
	if o != nil {
		a.raw("channel", protocol.ViewChannel(m).AppendViewer(nil, o.Body))
	}
	return a.bytes()
}

// newestFirst is the order of client.dms.
func newestFirst(a, b protocol.Membership) int {
	return cmp.Or(cmp.Compare(b.Latest.OrZero(), a.Latest.OrZero()), cmp.Compare(a.Channel, b.Channel))
}

// dmCursor reads the place after which to go on, nil at the beginning.
func dmCursor(cursor string) (*protocol.Membership, error) {
	at, err := protocol.DecodeCursor(cursorDM, cursor)
	if err != nil || at == "" {
		return nil, err
	}
	latest, id, _ := strings.Cut(at, ":")
	m := &protocol.Membership{Latest: protocol.TS(latest), Channel: protocol.ChannelID(id)}
	if !m.Latest.Valid() || !protocol.ValidID(id) {
		return nil, &protocol.Error{Code: protocol.CodeInvalidCursor}
	}
	return m, nil
}

// withoutBots returns the first n of list that are not direct messages with a bot.
func (q *request) withoutBots(list []protocol.Membership, n int) ([]protocol.Membership, error) {
	var kept []protocol.Membership
	for chunk := range slices.Chunk(list, n) {
		var peers []protocol.ObjectID
		for i := range chunk {
			if chunk[i].Peer != "" {
				peers = append(peers, protocol.ObjectID(chunk[i].Peer))
			}
		}
		users, err := q.objects(peers)
		if err != nil {
			return nil, err
		}
		for i := range chunk {
			if o := users[protocol.ObjectID(chunk[i].Peer)]; o != nil {
				var u protocol.User
				if err := unmarshal(o, &u); err != nil {
					return nil, err
				}
				if u.IsBot {
					continue
				}
			}
			if kept = append(kept, chunk[i]); len(kept) == n {
				return kept, nil
			}
		}
	}
	return kept, nil
}

// unmarshal reads the body of an object of ours.
func unmarshal(o *protocol.Object, into any) error {
	if err := json.Unmarshal(o.Body, into); err != nil {
		return fmt.Errorf("decode object %q: %w", o.ID, err)
	}
	return nil
}
