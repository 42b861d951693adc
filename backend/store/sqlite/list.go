package sqlite

import (
	"cmp"
	"slices"
	"strings"

	"flannel/protocol"
)

const entryColumns = "SELECT o.id, o.version, o.sort_name, o.name, o.real_name, o.display_name, o.email, o.inactive, o.guest, o.bot, o.app, coalesce(c.members, 0) "

// The tables of a list: what the workspace owns, and the channels that are shared into it. They are read apart, each by
// an index, and merged here, because no index serves both.
const (
	ownEntries    = "FROM objects o LEFT JOIN channels c ON c.id = o.id WHERE o.workspace = ?1 AND o.kind = ?2 AND o.listed = 1"
	sharedEntries = "FROM shared_channels s CROSS JOIN objects o ON o.id = s.channel JOIN channels c ON c.id = o.id WHERE s.workspace = ?1 AND o.kind = ?2 AND o.listed = 1"
)

// List implements store.Reader. A cursor is the last entry's id, or its sort name and id with a NUL between.
func (r *reader) List(req protocol.ListRequest) (entries []protocol.ListEntry, next string, err error) {
	limit := req.Limit
	if limit <= 0 {
		limit = protocol.MaxListLimit
	}
	order, args := " ORDER BY o.id LIMIT ?3", []any{req.Workspace, req.Kind, limit + 1}
	if req.Order == protocol.ByName {
		order = " ORDER BY o.sort_name, o.id LIMIT ?3"
	}
	rest := ""
	if req.Cursor != "" {
		if req.Order == protocol.ByName {
			sortName, id, ok := strings.Cut(req.Cursor, "\x00")
			if !ok {
				return nil, "", &protocol.Error{Code: protocol.CodeInvalidCursor}
			}
			rest, args = " AND (o.sort_name, o.id) > (?4, ?5)", append(args, sortName, id)
		} else {
			rest, args = " AND o.id > ?4", append(args, req.Cursor)
		}
	}
	words := protocol.SearchWords(req.Query)
	own := ownEntries + rest + order
	if len(words) > 0 {
		var cond string
		cond, args = matching(words, args)
		rest += cond
		own = found(rest + order)
	}
	if entries, err = r.entries(own, args); err != nil {
		return nil, "", err
	}
	if req.Kind == protocol.KindChannel {
		shared, err := r.entries(sharedEntries+rest+order, args)
		if err != nil {
			return nil, "", err
		}
		entries = append(entries, shared...)
	}
	slices.SortFunc(entries, func(a, b protocol.ListEntry) int { // In order already, unless there are shared ones or a query.
		if req.Order == protocol.ByName {
			return cmp.Or(strings.Compare(a.SortName, b.SortName), cmp.Compare(a.ID, b.ID))
		}
		return cmp.Compare(a.ID, b.ID)
	})
	if len(entries) <= limit {
		return entries, "", nil
	}
	entries = entries[:limit]
	last := &entries[limit-1]
	if req.Order == protocol.ByName {
		return entries, last.SortName + "\x00" + string(last.ID), nil
	}
	return entries, string(last.ID), nil
}

func (r *reader) entries(query string, args []any) (entries []protocol.ListEntry, err error) {
	err = r.each(func(scan func(...any) error) error {
		var e protocol.ListEntry
		err := scan(&e.ID, &e.Version, &e.SortName, &e.Name, &e.RealName, &e.DisplayName, &e.Email, &e.Deleted, &e.Guest, &e.Bot, &e.App, &e.NumMembers)
		entries = append(entries, e)
		return err
	}, entryColumns+query, args...)
	return entries, err
}
