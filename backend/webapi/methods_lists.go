package webapi

import (
	"slices"
	"strings"

	"flannel/backend/chat"
	"flannel/protocol"
)

// types reads which conversation types are wanted.
func (q *request) types() (map[protocol.ChannelType]bool, error) {
	list, err := q.args.List("types")
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return map[protocol.ChannelType]bool{protocol.TypePublic: true}, nil
	}
	want := make(map[protocol.ChannelType]bool)
	for _, t := range list {
		ct := protocol.ChannelType(strings.TrimSpace(t))
		if !slices.Contains(protocol.ChannelTypes, ct) {
			return nil, &protocol.Error{Code: chat.CodeInvalidTypes}
		}
		want[ct] = true
	}
	return want, nil
}

// listed is a channel in a list, before its object is loaded.
type listed struct {
	id         protocol.ChannelID
	numMembers *int // public channels of the whole workspace only
}

func conversationsList(q *request) ([]byte, error) {
	want, err := q.types()
	if err != nil {
		return nil, err
	}
	limit, err := q.limit(100)
	if err != nil {
		return nil, err
	}
	from, err := q.cursor("channel")
	if err != nil {
		return nil, err
	}
	mine, err := q.r.Memberships(q.id.User)
	if err != nil {
		return nil, err
	}
	noArchived := q.args.Bool("exclude_archived", false)
	start := protocol.ChannelID(from)
	var items []listed
	for i := range mine {
		m := &mine[i]
		if (m.Type != protocol.TypePublic || !q.id.Role.Full()) && want[m.Type] && m.Channel >= start && (!noArchived || !m.Archived) {
			items = append(items, listed{id: m.Channel})
		}
	}
	if want[protocol.TypePublic] {
		if !q.id.Role.Full() {
			if err := q.countMembers(items, mine); err != nil {
				return nil, err
			}
		} else {
			public, err := q.publicChannels(start, noArchived, limit+1)
			if err != nil {
				return nil, err
			}
			items = append(items, public...)
		}
	}
	return q.channelPage(items, mine, limit)
}

// publicChannels returns up to n public channels of the workspace in id order, beginning at from.
func (q *request) publicChannels(from protocol.ChannelID, noArchived bool, n int) ([]listed, error) {
	workspace, err := q.workspace()
	if err != nil {
		return nil, err
	}
	var items []listed
	cursor := string(before(from))
	for len(items) < n {
		entries, next, err := q.r.List(protocol.ListRequest{
			Workspace: workspace, Kind: protocol.KindChannel, Order: protocol.ByID, Cursor: cursor, Limit: min(n, protocol.MaxListLimit),
		})
		if err != nil {
			return nil, err
		}
		for i := range entries {
			if e := &entries[i]; !noArchived || !e.Deleted {
				items = append(items, listed{protocol.ChannelID(e.ID), &e.NumMembers})
			}
		}
		if next == "" {
			break
		}
		cursor = next
	}
	return items, nil
}

// countMembers fills in the sizes of the public channels of a guest.
func (q *request) countMembers(items []listed, mine []protocol.Membership) error {
	var ids []protocol.ChannelID
	for i := range mine {
		if mine[i].Type == protocol.TypePublic {
			ids = append(ids, mine[i].Channel)
		}
	}
	sizes, err := q.r.NumMembers(ids)
	if err != nil {
		return err
	}
	for i := range items {
		if slices.Contains(ids, items[i].id) {
			n := sizes[items[i].id]
			items[i].numMembers = &n
		}
	}
	return nil
}

// channelPage answers the first limit of items in id order. mine are the caller's memberships in id order.
func (q *request) channelPage(items []listed, mine []protocol.Membership, limit int) ([]byte, error) {
	slices.SortFunc(items, func(a, b listed) int { return strings.Compare(string(a.id), string(b.id)) })
	next := protocol.ChannelID("")
	if len(items) > limit {
		next = items[limit].id
		items = items[:limit]
	}
	ids := make([]protocol.ObjectID, len(items))
	for i := range items {
		ids[i] = protocol.ObjectID(items[i].id)
	}
	objects, err := q.objects(ids)
	if err != nil {
		return nil, err
	}
	bodies := make([][]byte, 0, len(items))
	for _, it := range items {
		o := objects[protocol.ObjectID(it.id)]
		if o == nil {
			continue
		}
		v := protocol.ViewChannel(findMembership(mine, it.id))
		v.NumMembers = it.numMembers
		bodies = append(bodies, v.AppendViewer(nil, o.Body))
	}
	return okAnswer().list("channels", bodies).next(nextCursor("channel", next)).bytes(), nil
}

func findMembership(mine []protocol.Membership, id protocol.ChannelID) *protocol.Membership {
	i, found := slices.BinarySearchFunc(mine, id, func(m protocol.Membership, id protocol.ChannelID) int {
		return strings.Compare(string(m.Channel), string(id))
	})
	if !found {
		return nil
	}
	return &mine[i]
}

// usersConversations lists the channels of a user: all of one's own, of others those that the caller sees too.
func usersConversations(q *request) ([]byte, error) {
	want, err := q.types()
	if err != nil {
		return nil, err
	}
	limit, err := q.limit(100)
	if err != nil {
		return nil, err
	}
	from, err := q.cursor("channel")
	if err != nil {
		return nil, err
	}
	mine, err := q.r.Memberships(q.id.User)
	if err != nil {
		return nil, err
	}
	theirs := mine
	other := q.self()
	if other != q.id.User {
		if _, _, err := q.view.User(other); err != nil {
			return nil, err
		}
		if theirs, err = q.r.Memberships(other); err != nil {
			return nil, err
		}
	}
	noArchived := q.args.Bool("exclude_archived", false)
	var items []listed
	for i := range theirs {
		m := &theirs[i]
		if !want[m.Type] || m.Channel < protocol.ChannelID(from) || (noArchived && m.Archived) || len(items) > limit {
			continue
		}
		if other != q.id.User && findMembership(mine, m.Channel) == nil {
			if m.Type != protocol.TypePublic {
				continue
			}
			_, err := q.view.Channel(m.Channel)
			if e := protocol.AsError(err); err != nil && e.Code == protocol.CodeChannelNotFound {
				continue
			}
			if err != nil {
				return nil, err
			}
		}
		items = append(items, listed{id: m.Channel})
	}
	return q.channelPage(items, mine, limit)
}

func conversationsMembers(q *request) ([]byte, error) {
	limit, err := q.limit(100)
	if err != nil {
		return nil, err
	}
	from, err := q.cursor("user")
	if err != nil {
		return nil, err
	}
	p, err := q.view.Channel(q.channel())
	if err != nil {
		return nil, err
	}
	users, _, _, err := q.r.Members(p.Channel.ID, before(protocol.UserID(from)), limit+1)
	if err != nil {
		return nil, err
	}
	next := protocol.UserID("")
	if len(users) > limit {
		next = users[limit]
		users = users[:limit]
	}
	return okAnswer().val("members", orEmpty(users)).next(nextCursor("user", next)).bytes(), nil
}
