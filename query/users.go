package query

import (
	"slices"
	"strconv"

	"flannel/protocol"
)

// appendUser appends a user or bot as the reader sees it.
func (r *reader) appendUser(b []byte, o *protocol.Object) []byte {
	if r.stranger(o) {
		return protocol.AppendFields(b, o.Body, protocol.StrangerFields)
	}
	return append(b, o.Body...)
}

// appendPerson is appendUser with what the call asks for besides.
func (c *call) appendPerson(b []byte, o *protocol.Object) []byte {
	b = c.appendUser(b, o)
	if c.args.Bool("include_locale", false) && o.Kind == protocol.KindUser {
		b = append(b[:len(b)-1], ',')
		b = append(b, localeFields[1:]...)
	}
	return b
}

func usersInfo(c *call) ([]byte, error) {
	return c.info(protocol.KindUser, "user", "users", protocol.CodeUserNotFound)
}

func botsInfo(c *call) ([]byte, error) {
	return c.info(protocol.KindBot, "bot", "bots", protocol.CodeBotNotFound)
}

// info answers users.info and bots.info: one object, or several of which those that cannot be seen are left out.
func (c *call) info(kind protocol.Kind, one, many string, code protocol.Code) ([]byte, error) {
	if id := c.args[one]; id != "" || c.args[many] == "" {
		o, err := c.object(protocol.ObjectID(id), kind, code)
		if err != nil {
			return nil, err
		}
		b := make([]byte, 0, len(o.Body)+64)
		b = append(b, `{"ok":true,"`...)
		b = append(b, one...)
		b = append(b, `":`...)
		return append(c.appendPerson(b, &o), '}'), nil
	}
	list, err := c.args.List(many)
	if err != nil {
		return nil, err
	}
	if len(list) > protocol.MaxObjectIDs {
		return nil, protocol.Errorf(protocol.CodeInvalidArgs, "%s names more than %d", many, protocol.MaxObjectIDs)
	}
	ids := make([]protocol.ObjectID, 0, len(list))
	for _, id := range list {
		if oid := protocol.ObjectID(id); protocol.KindOf(oid) == kind && !slices.Contains(ids, oid) {
			ids = append(ids, oid)
		}
	}
	b := append([]byte(nil), `{"ok":true,"`...)
	b = append(b, many...)
	b = append(b, `":[`...)
	none := len(b)
	if b, err = c.appendAll(b, ids); err != nil {
		return nil, err
	}
	if len(b) == none {
		return nil, &protocol.Error{Code: code}
	}
	return append(b, `]}`...), nil
}

// appendAll appends those of the users or bots with these ids that are visible, separated by commas.
func (c *call) appendAll(b []byte, ids []protocol.ObjectID) ([]byte, error) {
	objects, err := c.objects(ids)
	if err != nil {
		return nil, err
	}
	for i := range objects {
		o := &objects[i]
		if o.ID == "" {
			continue
		}
		if sees, err := c.sees(o); err != nil {
			return nil, err
		} else if !sees {
			continue
		}
		b = c.appendPerson(separated(b), o)
	}
	return b, nil
}

func usersList(c *call) ([]byte, error) {
	n, err := c.args.Int("limit", 0)
	if err != nil || n < 0 {
		return nil, &protocol.Error{Code: protocol.CodeInvalidLimit}
	}
	all := n == 0
	if all || n > maxPage {
		n = maxPage
	}
	from, err := c.cursor("user")
	if err != nil {
		return nil, err
	}
	if err := c.inWorkspace(); err != nil {
		return nil, err
	}
	ids, err := c.userIDs(from, n+1)
	if err != nil {
		return nil, err
	}
	next := protocol.ObjectID("")
	if len(ids) > n {
		if all {
			return nil, &protocol.Error{Code: protocol.CodeLimitRequired}
		}
		next, ids = ids[n], ids[:n]
	}
	b := append([]byte(nil), `{"ok":true,"members":[`...)
	if b, err = c.appendAll(b, ids); err != nil {
		return nil, err
	}
	b = append(b, `],"cache_ts":`...)
	b = strconv.AppendInt(b, c.s.now().Unix(), 10)
	return appendNext(b, "user", string(next)), nil
}

// userIDs returns up to n ids of users whom the reader sees, in id order, beginning at from: the workspace's, or for
// guests those who share a channel with them.
func (c *call) userIDs(from string, n int) ([]protocol.ObjectID, error) {
	if d := c.index(protocol.KindUser, false); d != nil && c.full {
		return idsFrom(d, protocol.ObjectID(from), n), nil
	}
	if c.full {
		entries, err := c.list(protocol.KindUser, from, n, nil)
		ids := make([]protocol.ObjectID, len(entries))
		for i := range entries {
			ids[i] = entries[i].ID
		}
		return ids, err
	}
	users, err := c.companions()
	if err != nil {
		return nil, err
	}
	start, _ := slices.BinarySearch(users, protocol.UserID(from))
	users = users[start:min(len(users), start+n)]
	ids := make([]protocol.ObjectID, len(users))
	for i, u := range users {
		ids[i] = protocol.ObjectID(u)
	}
	return ids, nil
}

// list returns up to n entries of the workspace in id order, beginning at from, of those that keep wants (nil: all).
func (r *reader) list(kind protocol.Kind, from string, n int, keep func(*protocol.ListEntry) bool) ([]protocol.ListEntry, error) {
	var entries []protocol.ListEntry
	req := protocol.ListRequest{Workspace: r.workspace, Kind: kind, Order: protocol.ByID, Cursor: before(from), AtLeast: r.atLeast()}
	for len(entries) < n {
		req.Limit = min(n-len(entries), protocol.MaxListLimit)
		answer, err := r.s.loader.List(r.ctx, req)
		if err != nil {
			return nil, asError(err)
		}
		for i := range answer.Entries {
			if e := &answer.Entries[i]; string(e.ID) >= from && (keep == nil || keep(e)) {
				entries = append(entries, *e)
			}
		}
		if answer.NextCursor == "" {
			break
		}
		req.Cursor = answer.NextCursor
	}
	return entries, nil
}
