package query

import (
	"slices"
	"strings"

	"flannel/protocol"
)

// codeInvalidTypes is the Web API's own name for a wrong "types".
const codeInvalidTypes protocol.Code = "invalid_types"

// appendChannel appends a channel as the reader finds it.
func (r *reader) appendChannel(b []byte, o *protocol.Object, numMembers *int) []byte {
	v := protocol.ViewChannel(nil)
	if m, ok := r.membership(protocol.ChannelID(o.ID)); ok && r.fresh {
		v = protocol.ViewChannel(&m)
	}
	v.NumMembers = numMembers
	return v.AppendViewer(b, o.Body)
}

func conversationsInfo(c *call) ([]byte, error) {
	if c.args.Bool("include_num_members", false) {
		return nil, ErrForward
	}
	o, err := c.object(protocol.ObjectID(c.args["channel"]), protocol.KindChannel, protocol.CodeChannelNotFound)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(o.Body)+256)
	b = append(b, `{"ok":true,"channel":`...)
	b = c.appendChannel(b, &o, nil)
	if c.args.Bool("include_locale", false) {
		b = append(b[:len(b)-1], ',')
		b = append(b, localeFields[1:]...)
	}
	return append(b, '}'), nil
}

// types reads which conversation types are wanted.
func (c *call) types() (map[protocol.ChannelType]bool, error) {
	list, err := c.args.List("types")
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
			return nil, &protocol.Error{Code: codeInvalidTypes}
		}
		want[ct] = true
	}
	return want, nil
}

// listed is a channel in a list, before its object is read.
type listed struct {
	id         protocol.ChannelID
	numMembers *int // public channels of the whole workspace only
}

// channelList is what conversations.list and users.conversations have in common.
type channelList struct {
	want       map[protocol.ChannelType]bool
	limit      int
	start      protocol.ChannelID
	noArchived bool
}

func (c *call) channelList() (l channelList, err error) {
	if l.want, err = c.types(); err != nil {
		return l, err
	}
	if l.limit, err = c.limit(100); err != nil {
		return l, err
	}
	from, err := c.cursor("channel")
	l.start, l.noArchived = protocol.ChannelID(from), c.args.Bool("exclude_archived", false)
	return l, err
}

func conversationsList(c *call) ([]byte, error) {
	l, err := c.channelList()
	if err != nil {
		return nil, err
	}
	if !c.full || l.want[protocol.TypePrivate] || l.want[protocol.TypeDM] || l.want[protocol.TypeGroupDM] {
		if err := c.permitted(); err != nil {
			return nil, err
		}
	}
	items := c.mine(&l, func(m *protocol.Membership) bool { return m.Type != protocol.TypePublic || !c.full })
	if l.want[protocol.TypePublic] && c.full {
		if err := c.inWorkspace(); err != nil {
			return nil, err
		}
		public, err := c.list(protocol.KindChannel, string(l.start), l.limit+1, func(e *protocol.ListEntry) bool { return !l.noArchived || !e.Deleted })
		if err != nil {
			return nil, err
		}
		for i := range public {
			items = append(items, listed{protocol.ChannelID(public[i].ID), &public[i].NumMembers})
		}
		slices.SortFunc(items, func(a, b listed) int { return strings.Compare(string(a.id), string(b.id)) })
	}
	return c.channelPage(items, &l, !c.full)
}

// usersConversations lists the caller's own channels. Those of somebody else are the backend's business: it knows where
// they are.
func usersConversations(c *call) ([]byte, error) {
	if u := c.args["user"]; u != "" && protocol.UserID(u) != c.id.User {
		return nil, ErrForward
	}
	l, err := c.channelList()
	if err != nil {
		return nil, err
	}
	if err := c.permitted(); err != nil {
		return nil, err
	}
	return c.channelPage(c.mine(&l, func(*protocol.Membership) bool { return true }), &l, false)
}

// mine lists up to limit+1 of the caller's channels that keep wants.
func (c *call) mine(l *channelList, keep func(*protocol.Membership) bool) []listed {
	all := c.memberships()
	var items []listed
	for i := range all {
		m := &all[i]
		if l.want[m.Type] && m.Channel >= l.start && !(l.noArchived && m.Archived) && len(items) <= l.limit && keep(m) {
			items = append(items, listed{id: m.Channel})
		}
	}
	return items
}

// channelPage answers the first limit of items, which are in id order; with count public channels get their size.
func (c *call) channelPage(items []listed, l *channelList, count bool) ([]byte, error) {
	next := protocol.ChannelID("")
	if len(items) > l.limit {
		next, items = items[l.limit].id, items[:l.limit]
	}
	ids := make([]protocol.ObjectID, len(items))
	for i := range items {
		ids[i] = protocol.ObjectID(items[i].id)
	}
	objects, err := c.objects(ids)
	if err != nil {
		return nil, err
	}
	b := append([]byte(nil), `{"ok":true,"channels":[`...)
	for i := range objects {
		o := &objects[i]
		if o.ID == "" {
			continue
		}
		// It was in the list a moment ago; meanwhile the channel or the caller's place in it may have changed.
		if sees, err := c.sees(o); err != nil {
			return nil, err
		} else if !sees {
			continue
		}
		num := items[i].numMembers
		if m, ok := c.membership(items[i].id); count && ok && m.Type == protocol.TypePublic {
			n, err := c.numMembers(items[i].id)
			if err != nil {
				return nil, err
			}
			num = &n
		}
		b = c.appendChannel(separated(b), o, num)
	}
	return appendNext(append(b, ']'), "channel", string(next)), nil
}

func conversationsMembers(c *call) ([]byte, error) {
	limit, err := c.limit(100)
	if err != nil {
		return nil, err
	}
	from, err := c.cursor("user")
	if err != nil {
		return nil, err
	}
	o, err := c.object(protocol.ObjectID(c.args["channel"]), protocol.KindChannel, protocol.CodeChannelNotFound)
	if err != nil {
		return nil, err
	}
	page, next, err := c.memberPage(protocol.ChannelID(o.ID), protocol.UserID(from), limit)
	if err != nil {
		return nil, err
	}
	b := append([]byte(nil), `{"ok":true,"members":`...)
	return appendNext(protocol.AppendStrings(b, page), "user", string(next)), nil
}
